/**
 * How x87 instructions begin and end: pending exceptions, the environment that the control word asks for, exception flags,
 * condition codes, stack faults and the pointers to the last instruction.
 *
 * @sdm "x87 FPU Status Register", "x87 FPU Control Word", "x87 FPU Exception Handling", "Stack Overflow or Underflow Exception (#IS)"
 */
import { FCW, FDP, FIP, FOP, FSW } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { loadLinearBytes } from '../mmu/access.ts';
import { MF, type Outcome } from '../outcome.ts';
import { effectiveAddress } from '../processor/operands.ts';
import type { Processor } from '../processor.ts';
import { ALL_EXCEPTIONS, Environment, IE, PRE_COMPUTATION, type Rounding } from '../softfloat/environment.ts';
import { DEFAULT_NAN, F80, pack } from '../softfloat/float.ts';

export const STACK_FAULT = 0x40;
/** Exception summary and, like it, busy. */
export const SUMMARY = 0x8080;
const ES = 0x80;
export const C0 = 0x100,
  C1 = 0x200,
  C2 = 0x400,
  C3 = 0x4000;

export const DEFAULT_NAN_RAW: bigint = pack(F80, DEFAULT_NAN);
const PRECISIONS = [24, 64, 53, 64] as const;

/** Rounding, precision and masks of the control word. */
export function environmentOf(p: Processor): Environment {
  const fcw = p.read16(FCW);
  return new Environment(
    ((fcw >> 10) & 3) as Rounding,
    fcw & ALL_EXCEPTIONS,
    true,
    PRECISIONS[((fcw >> 8) & 3) as 0 | 1 | 2 | 3],
  );
}

/**
 * Registers an instruction that first reports exceptions of earlier ones.
 * They are always #MF, also with CR0.NE clear, where the old way is an interrupt from outside.
 * @sdm "x87 FPU Exception Handling in Software", "Floating-Point Error (#MF)"
 */
export function waiting(mnemonic: string, body: (p: Processor, insn: Insn) => Outcome): void {
  implement(mnemonic, (p, insn) => (p.read16(FSW) & ES ? p.raise(MF) : body(p, insn)));
}

/** Replaces the condition codes in `which`. */
export const setCodes = (p: Processor, which: number, codes: number): void =>
  p.write16(FSW, (p.read16(FSW) & ~which) | codes);

/**
 * Commits what an operation raised: flags, summary, C1, and the instruction's pointers.
 * @param stack the operation met an empty register, or a full stack
 * @returns whether the result may be written and the stack popped
 */
export function settle(p: Processor, insn: Insn, env: Environment, stack: '' | 'underflow' | 'overflow' = ''): boolean {
  if (stack !== '') env.raise(IE);
  if (env.unmasked & PRE_COMPUTATION) env.flags &= PRE_COMPUTATION;
  const summary = env.unmasked === 0 ? 0 : SUMMARY;
  const fault = stack === '' ? 0 : STACK_FAULT;
  const goesOn = (env.unmasked & PRE_COMPUTATION) === 0;
  const c1 = (stack === '' && goesOn && env.roundedUp) || stack === 'overflow' ? C1 : 0;
  p.write16(FSW, (p.read16(FSW) & ~C1) | env.flags | summary | fault | c1);
  recordPointers(p, insn, summary !== 0);
  return goesOn;
}

/** FIP and, where an exception must be reported, FOP and FDP. */
export function recordPointers(p: Processor, insn: Insn, reports: boolean): void {
  p.write64(FIP, p.rip);
  if (!reports) return;
  p.write16(FOP, opcodeAt(p, insn));
  if (insn.memory !== null) p.write64(FDP, effectiveAddress(p, insn));
}

/** The low bits of the two opcode bytes, as FOP has them. Read again from the code: decoded instructions do not keep ModRM. */
function opcodeAt(p: Processor, insn: Insn): number {
  const bytes = loadLinearBytes(p, p.machine.engine.linearRip(), insn.length, false, true);
  const at = bytes?.indexOf(insn.row.opcode) ?? -1;
  return at < 0 ? 0 : ((insn.row.opcode & 7) << 8) | bytes![at + 1]!;
}
