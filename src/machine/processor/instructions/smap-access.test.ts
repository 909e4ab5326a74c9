import { expect, test } from 'vitest';
import { DONE } from '../../outcome.ts';
import { CR4_SMAP, FLAG_AC } from '../../processor.ts';
import { runProcessor, STOP } from '../../run.ts';
import { writeCr4 } from '../../system/control-registers.ts';
import { CODE, Lab, SEL } from '../testing/lab.ts';

const TABLES = 0x20000;
const USER_PAGE = 0x20_0000;
const HANDLER = 0xa000;
const PF = 14;

test('between STAC and CLAC the kernel reaches user pages, before and after it faults, however often', () => {
  const l = new Lab('long');
  const { machine, p } = l;
  // The first 2 MiB are the kernel's.
  machine.memory.write64(TABLES + 0x2000, 0xe3n);
  l.idt(PF, { selector: SEL.code64, offset: BigInt(HANDLER), type: 14 });
  machine.memory.writeBytes(HANDLER, Uint8Array.of(0xf4));
  machine.memory.write64(USER_PAGE, 0x1234n);
  // mov ecx, 50; L: xor eax, eax; stac; mov rax, [rbx]; clac; add rdx, rax; dec ecx; jne L; mov rax, [rbx]
  const code = 'b9 32 00 00 00 31 c0 0f 01 cb 48 8b 03 0f 01 ca 48 01 c2 ff c9 75 ee 48 8b 03 eb fe';
  machine.memory.writeBytes(
    CODE,
    Uint8Array.from(code.split(' '), (byte) => Number.parseInt(byte, 16)),
  );
  expect(writeCr4(p, BigInt(p.cr4 | CR4_SMAP))).toBe(DONE);
  p.rflags = 2;
  p.setGpr(3, BigInt(USER_PAGE));
  p.setGpr(2, 0n);
  p.rip = BigInt(CODE);
  expect(runProcessor(p, machine.clock.now() + 1000)).toBe(STOP.idle);
  expect(p.gpr(2)).toBe(50n * 0x1234n);
  expect(l.stack(8, 2)[1]).toBe(BigInt(CODE + 23));
  expect(p.cr2).toBe(BigInt(USER_PAGE));
  expect(p.flagsRest & FLAG_AC).toBe(0);
});
