/** MOV, PUSH, POP of segment registers; LDS, LES, LSS, LFS, LGS; SWAPGS and the FS/GS base instructions. @sdm their operation sections */
import { CS, DS, ES, FS, GS, KERNEL_GS, SS } from '../../engine/layout.ts';
import { implement } from '../../isa/handlers.ts';
import type { Insn } from '../../isa/insn.ts';
import { DONE, GP, type Outcome, UD } from '../../outcome.ts';
import { BLOCKED_BY_MOV_SS, CR4_FSGSBASE, type Processor } from '../../processor.ts';
import { isCanonicalBase } from '../canonical.ts';
import { readOperand, writeGpr, writeOperand } from '../operands.ts';
import { segmentFor, setSegment } from '../segments/load.ts';
import { currentStack, peek, popped, push, type SlotSize, setStackPointer } from '../stack.ts';
import { loadFarPointer } from '../transfer/far-pointer.ts';

/** After MOV SS and POP SS the next instruction, which should set the stack pointer, is not interrupted. */
function shadowAfter(p: Processor, n: number): void {
  // Of several loads in a row only the first is sure to inhibit; here only it does.
  if (n === SS && !(p.interruptShadow & BLOCKED_BY_MOV_SS)) p.interruptShadow |= BLOCKED_BY_MOV_SS;
}

implement('MOV_TO_SREG', (p: Processor, insn: Insn): Outcome => {
  const n = insn.operands[0]!.register;
  if (n === CS) return p.raise(UD);
  const value = readOperand(p, insn, 1);
  if (value === undefined) return p.outcome;
  const segment = segmentFor(p, n, Number(value & 0xffffn));
  if (segment === undefined) return p.outcome;
  // all checks passed
  setSegment(p, n, segment);
  shadowAfter(p, n);
  return DONE;
});

implement('PUSH_SREG', (p: Processor, insn: Insn): Outcome => {
  const { selector } = p.segments[insn.operands[0]!.register]!;
  return push(p, (insn.operandSize / 8) as SlotSize, BigInt(selector));
});

implement('POP_SREG', (p: Processor, insn: Insn): Outcome => {
  const n = insn.operands[0]!.register;
  const size = (insn.operandSize / 8) as SlotSize;
  const stack = currentStack(p);
  const value = peek(p, stack, 0, size);
  if (value === undefined) return p.outcome;
  const segment = segmentFor(p, n, Number(value & 0xffffn));
  if (segment === undefined) return p.outcome;
  // all checks passed
  // The pointer moves in the old stack: its size decides how much of RSP counts.
  setStackPointer(p, popped(stack, size));
  setSegment(p, n, segment);
  shadowAfter(p, n);
  return DONE;
});

function loadPointer(n: number) {
  return (p: Processor, insn: Insn): Outcome => {
    const pointer = loadFarPointer(p, insn);
    if (pointer === undefined) return p.outcome;
    const segment = segmentFor(p, n, pointer.selector);
    if (segment === undefined) return p.outcome;
    // all checks passed
    setSegment(p, n, segment);
    writeGpr(p, insn.operands[0]!.register, insn.operandSize, pointer.offset);
    return DONE;
  };
}
implement('LES', loadPointer(ES));
implement('LDS', loadPointer(DS));
implement('LSS', loadPointer(SS));
implement('LFS', loadPointer(FS));
implement('LGS', loadPointer(GS));

implement('SWAPGS', (p: Processor): Outcome => {
  if (!p.mode64) return p.raise(UD);
  if (p.cpl !== 0) return p.raise(GP, 0);
  // all checks passed
  const gs = p.segments[GS]!;
  const other = p.read64(KERNEL_GS);
  p.write64(KERNEL_GS, gs.base);
  gs.base = other;
  return DONE;
});

function readBase(n: number) {
  return (p: Processor, insn: Insn): Outcome => {
    if (!p.mode64 || !(p.cr4 & CR4_FSGSBASE)) return p.raise(UD);
    return writeOperand(p, insn, 0, p.segments[n]!.base);
  };
}
function writeBase(n: number) {
  return (p: Processor, insn: Insn): Outcome => {
    if (!p.mode64 || !(p.cr4 & CR4_FSGSBASE)) return p.raise(UD);
    const base = readOperand(p, insn, 0)!;
    if (!isCanonicalBase(p, base)) return p.raise(GP, 0);
    p.segments[n]!.base = base;
    p.syncSegment(n);
    return DONE;
  };
}
implement('RDFSBASE', readBase(FS));
implement('RDGSBASE', readBase(GS));
implement('WRFSBASE', writeBase(FS));
implement('WRGSBASE', writeBase(GS));
