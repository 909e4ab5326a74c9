import { expect, test } from 'vitest';
import { RAX, RBX, RDX, RSI } from '../engine/layout.ts';
import { assemble } from '../isa/assembler/assemble.ts';
import { tlbContextChanged } from '../mmu/tlb.ts';
import { HLT } from '../processor.ts';
import { runProcessor, STOP } from '../run.ts';
import { runTd } from './td-run.ts';
import { TestTd } from './test-td.ts';

const HOST_CODE = 0x30_0000;
const HOST_TABLES = 0x31_0000;
const HOST_DATA = 0x32_0000;

/** A hypervisor in x86 code whose SEAMCALL enters the TD through a module that does nothing else. */
test('code in root operation executes SEAMCALL, a TD runs meanwhile, and the code goes on', () => {
  const td = new TestTd().load(`
  again:
    mov rdx, [0x5000]
    add rdx, 5
    mov [0x5000], rdx
    tdcall
    jmp again`);
  const { p, machine } = td;
  const { memory } = machine;
  memory.write64(HOST_TABLES, BigInt(HOST_TABLES + 0x1000) | 3n);
  memory.write64(HOST_TABLES + 0x1000, BigInt(HOST_TABLES + 0x2000) | 3n);
  for (let i = 0; i < 8; i++) memory.write64(HOST_TABLES + 0x2000 + 8 * i, BigInt(i * 0x20_0000) | 0x83n);
  const { bytes } = assemble(
    `
    mov rsi, 0
    again:
    stc
    seamcall
    adc rsi, 1
    mov [${HOST_DATA}], rdx
    cmp rdx, 50
    jb again
    hlt`,
    64,
    BigInt(HOST_CODE),
  );
  memory.writeBytes(HOST_CODE, bytes);
  p.cr3 = BigInt(HOST_TABLES);
  p.rip = BigInt(HOST_CODE);
  p.syncSegments();
  tlbContextChanged(p);
  machine.seam.install({
    seamcall(processor) {
      runTd(processor, td.vmcs);
      td.advance();
    },
  });
  expect(runProcessor(p, 1_000_000)).toBe(STOP.idle);
  expect([p.activity, p.gpr(RSI), p.gpr(RDX)]).toEqual([HLT, 10n, 50n]);
  expect(memory.read64(HOST_DATA)).toBe(50n);
  expect(td.peek64(0x5000)).toBe(50n);
  expect([p.gpr(RAX), p.gpr(RBX)]).toEqual([0n, 0n]);
});
