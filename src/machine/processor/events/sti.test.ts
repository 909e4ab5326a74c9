import { expect, test } from 'vitest';
import { Timer } from '../../../devices/clock.ts';
import { FLAG_IF, HLT } from '../../processor.ts';
import { runProcessor, STOP } from '../../run.ts';
import { CODE, DATA, Lab, SEL } from '../testing/lab.ts';

const VECTOR = 0x51;
const HANDLER = 0xa000;

/** Where an interrupt that arrives at time `at` interrupts `code`; -1 if it does not. */
function interruptedAt(code: readonly number[], at: number): number {
  const l = new Lab('long');
  const { machine, p } = l;
  l.idt(VECTOR, { selector: SEL.code64, offset: BigInt(HANDLER), type: 14 });
  machine.memory.writeBytes(HANDLER, Uint8Array.of(0xf4));
  p.apic.mmioWrite(0xf0, 4, 0x1ff);
  machine.memory.writeBytes(CODE, Uint8Array.from(code));
  p.rip = BigInt(CODE);
  p.rflags = 2;
  p.setGpr(3, BigInt(DATA));
  machine.clock.setTimer(new Timer(() => void p.apic.accept(0, VECTOR, false)), machine.clock.now() + at);
  const stopped = runProcessor(p, machine.clock.now() + 100);
  if (stopped !== STOP.idle || p.rip !== BigInt(HANDLER + 1)) return -1;
  expect(p.activity).toBe(HLT);
  return Number(l.stack(8, 1)[0]!) - CODE;
}

test('an interrupt waits for the instruction behind STI, whenever it arrives and even if that one needs a page walk', () => {
  // nop; nop; sti; mov rax, [rbx]; nop; jmp to itself
  const code = [0x90, 0x90, 0xfb, 0x48, 0x8b, 0x03, 0x90, 0xeb, 0xfe];
  for (let at = 1; at <= 12; at++) expect(interruptedAt(code, at)).toBeGreaterThan(3);
});

test('STI with IF set casts no shadow', () => {
  const l = new Lab('long');
  l.p.rflags = 2 | FLAG_IF;
  l.run('fb');
  expect(l.p.interruptShadow).toBe(0);
});
