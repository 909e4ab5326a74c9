/** The stack. @sdm "PUSH", "POP", "ENTER", "LEAVE", "PUSHA/PUSHAD", "POPA/POPAD" */
import { RBP, RSP, SS } from '../../engine/layout.ts';
import { add, u64 } from '../expr.ts';
import { ASSIST, define } from '../row.ts';

const stack = { default64: true, implicitMemory: true } as const;

define(
  'PUSH',
  { ...stack, dst: 'r' },
  `
    50+r Zv
    FF /6 Ev
    68 Iz
    6A Ibs`,
  (cpu) => cpu.push(cpu.read(0)),
);

/** POP writes RSP first, so that POP RSP ends with the popped value. */
define('POP', { ...stack, dst: 'w' }, '58+r Zv', (cpu) => cpu.write(0, cpu.pop(cpu.operandSize)));

/** A memory destination is addressed with the RSP after the pop, and must be writable before anything changes. */
define('POP', { ...stack, dst: 'w' }, '8F /0 Ev', (cpu) => {
  const width = cpu.operandSize;
  const top = cpu.stackOffset(cpu.gpr64(RSP));
  const value = cpu.load(SS, top, width);
  const next = cpu.stackOffset(add(top, u64(width / 8)));
  const { memory } = cpu.insn;
  if (memory === null) {
    cpu.setStackPointer(next);
    cpu.write(0, value);
    return;
  }
  const usesRsp = memory.base === RSP;
  const address = cpu.effectiveAddress();
  const host = cpu.writable(
    memory.segment,
    usesRsp ? cpu.cutToAddressSize(add(address, u64(width / 8))) : address,
    width,
  );
  cpu.storeAt(host, value);
  cpu.setStackPointer(next);
});

define('LEAVE', stack, 'C9', (cpu) => {
  const width = cpu.operandSize;
  const frame = cpu.stackOffset(cpu.gpr64(RBP));
  const saved = cpu.load(SS, frame, width);
  cpu.setStackPointer(cpu.stackOffset(add(frame, u64(width / 8))));
  cpu.setGprPart(RBP, saved);
});

define('ENTER', { ...stack, dst: 'r' }, 'C8 Iw,Ib', ASSIST);
