/** PUSHA, POPA, ENTER. @sdm PUSHA/PUSHAD, POPA/POPAD, ENTER */
import { RBP, RSP } from '../../engine/layout.ts';
import { implement } from '../../isa/handlers.ts';
import type { Insn } from '../../isa/insn.ts';
import { DONE, type Outcome } from '../../outcome.ts';
import type { Processor } from '../../processor.ts';
import { writeGpr } from '../operands.ts';
import {
  commitPush,
  currentStack,
  peek,
  peekAll,
  popped,
  preparePush,
  push,
  type SlotSize,
  setStackPointer,
} from '../stack.ts';

/** EAX to EDI in encoding order; ESP as it was before. */
implement('PUSHA', (p: Processor, insn: Insn): Outcome => {
  const size = (insn.operandSize / 8) as SlotSize;
  return push(p, size, ...[0, 1, 2, 3, 4, 5, 6, 7].map((n) => p.gpr(n)));
});

/** The image of ESP is skipped. */
implement('POPA', (p: Processor, insn: Insn): Outcome => {
  const size = (insn.operandSize / 8) as SlotSize;
  const stack = currentStack(p);
  const values = peekAll(p, stack, size, 8);
  if (values === undefined) return p.outcome;
  // all checks passed
  for (let i = 0; i < 8; i++) if (7 - i !== RSP) writeGpr(p, 7 - i, size * 8, values[i]!);
  setStackPointer(p, popped(stack, 8 * size));
  return DONE;
});

/**
 * Pushes rBP, the enclosing procedures' frame pointers and the new one, then makes room.
 *
 * The final stack pointer must be writable, too.
 */
implement('ENTER', (p: Processor, insn: Insn): Outcome => {
  const size = (insn.operandSize / 8) as SlotSize;
  const room = BigInt.asUintN(16, insn.immediate);
  const level = insn.immediate2 & 31;
  const stack = currentStack(p);
  const values = [p.gpr(RBP)];
  // A frame pointer that is read may lie where this instruction has just pushed.
  const pushed = new Map<bigint, bigint>();
  const cut = (offset: bigint): bigint => BigInt.asUintN(stack.width, offset);
  const note = (): void => {
    const to = stack.pointer - BigInt(size * values.length);
    for (let n = 0n; n < size; n++) pushed.set(cut(to + n), (values.at(-1)! >> (8n * n)) & 0xffn);
  };
  const frame = BigInt.asUintN(stack.width, stack.pointer - BigInt(size));
  if (level > 0) {
    const display = { ...stack, pointer: BigInt.asUintN(stack.width, p.gpr(RBP)) };
    for (let i = 1; i < level; i++) {
      note();
      let value = peek(p, display, -i * size, size);
      if (value === undefined) return p.outcome;
      for (let n = 0n; n < size; n++) {
        const byte = pushed.get(cut(display.pointer - BigInt(i * size) + n));
        if (byte !== undefined) value = (value & ~(0xffn << (8n * n))) | (byte << (8n * n));
      }
      values.push(value);
    }
    values.push(frame);
  }
  const prepared = preparePush(p, stack, size, values);
  if (prepared === undefined) return p.outcome;
  const top = { ...prepared.stack, pointer: BigInt.asUintN(stack.width, prepared.stack.pointer - room) };
  if (
    preparePush(p, { ...top, pointer: BigInt.asUintN(stack.width, top.pointer + BigInt(size)) }, size, [0n]) ===
    undefined
  )
    return p.outcome;
  // all checks passed
  const outcome = commitPush(p, prepared);
  if (outcome !== DONE) return outcome;
  writeGpr(p, RBP, insn.operandSize, frame);
  setStackPointer(p, top);
  return DONE;
});
