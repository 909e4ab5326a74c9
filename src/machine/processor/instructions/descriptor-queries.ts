/** LAR, LSL, VERR, VERW, ARPL: questions about selectors. ZF is the answer. @sdm their operation sections */
import { implement } from '../../isa/handlers.ts';
import type { Insn } from '../../isa/insn.ts';
import { loadLinear } from '../../mmu/access.ts';
import { DONE, FAULT, type Outcome, UD } from '../../outcome.ts';
import { AR_S, FLAG_ZF, type Processor } from '../../processor.ts';
import { readOperand, writeOperand } from '../operands.ts';
import {
  type Descriptor,
  descriptorAddress,
  dplOf,
  isCode,
  isConforming,
  isNull,
  isWritableData,
  limitOf,
  readDescriptorAt,
  rplOf,
  SYSTEM,
  typeOf,
} from '../segments/descriptor.ts';

/** System types that LAR and LSL answer for. In IA-32e mode the 16-bit ones do not exist. */
const LAR_LEGACY: ReadonlySet<number> = new Set([
  SYSTEM.tss16,
  SYSTEM.ldt,
  SYSTEM.tss16Busy,
  SYSTEM.callGate16,
  SYSTEM.taskGate,
  SYSTEM.tss32,
  SYSTEM.tss32Busy,
  SYSTEM.callGate32,
]);
const LAR_LONG: ReadonlySet<number> = new Set([SYSTEM.ldt, SYSTEM.tss32, SYSTEM.tss32Busy, SYSTEM.callGate32]);
const LSL_LEGACY: ReadonlySet<number> = new Set([
  SYSTEM.tss16,
  SYSTEM.ldt,
  SYSTEM.tss16Busy,
  SYSTEM.tss32,
  SYSTEM.tss32Busy,
]);
const LSL_LONG: ReadonlySet<number> = new Set([SYSTEM.ldt, SYSTEM.tss32, SYSTEM.tss32Busy]);

function answer(p: Processor, yes: boolean): Outcome {
  p.rflags = yes ? p.rflags | FLAG_ZF : p.rflags & ~FLAG_ZF;
  return DONE;
}

/** The descriptor, null if the selector names none, undefined with p.outcome set if it cannot be read. */
function lookUp(p: Processor, selector: number): Descriptor | null | undefined {
  if (isNull(selector)) return null;
  const address = descriptorAddress(p, selector);
  return address === undefined ? null : readDescriptorAt(p, selector, address);
}

/** Whether CPL and RPL allow to see the descriptor. Conforming code is visible to everybody. */
function isVisible(p: Processor, { selector, attributes }: Descriptor): boolean {
  if (isCode(attributes) && isConforming(attributes)) return true;
  const dpl = dplOf(attributes);
  return p.cpl <= dpl && rplOf(selector) <= dpl;
}

/** Whether a system descriptor of 16 bytes is whole: inside its table, its upper type field zero. Undefined with p.outcome set. */
function isWhole(p: Processor, { selector, address, attributes }: Descriptor): boolean | undefined {
  if (!p.longMode || attributes & AR_S) return true;
  if (descriptorAddress(p, selector, 16) === undefined) return false;
  const upper = loadLinear(p, BigInt.asUintN(64, address + 8n), 8, true);
  return upper === undefined ? undefined : ((upper >> 40n) & 0x1fn) === 0n;
}

function query(legacy: ReadonlySet<number>, long: ReadonlySet<number>, result: (d: Descriptor) => number) {
  return (p: Processor, insn: Insn): Outcome => {
    if (!p.protectedMode || p.v86) return p.raise(UD);
    const value = readOperand(p, insn, 1);
    if (value === undefined) return p.outcome;
    const descriptor = lookUp(p, Number(value & 0xffffn));
    if (descriptor === undefined) return p.outcome;
    if (descriptor === null) return answer(p, false);
    const { attributes } = descriptor;
    const known = (attributes & AR_S) !== 0 || (p.longMode ? long : legacy).has(typeOf(attributes));
    if (!known || !isVisible(p, descriptor)) return answer(p, false);
    const whole = isWhole(p, descriptor);
    if (whole === undefined) return p.outcome;
    if (!whole) return answer(p, false);
    const outcome = writeOperand(p, insn, 0, BigInt(result(descriptor)));
    return outcome === DONE ? answer(p, true) : outcome;
  };
}
implement(
  'LAR',
  query(LAR_LEGACY, LAR_LONG, ({ raw }) => Number((raw >> 32n) & 0xff_ff00n)),
);
implement(
  'LSL',
  query(LSL_LEGACY, LSL_LONG, ({ raw }) => limitOf(raw)),
);

function verify(isUsable: (attributes: number) => boolean) {
  return (p: Processor, insn: Insn): Outcome => {
    if (!p.protectedMode || p.v86) return p.raise(UD);
    const value = readOperand(p, insn, 0);
    if (value === undefined) return p.outcome;
    const descriptor = lookUp(p, Number(value & 0xffffn));
    if (descriptor === undefined) return p.outcome;
    return answer(p, descriptor !== null && isUsable(descriptor.attributes) && isVisible(p, descriptor));
  };
}
implement(
  'VERR',
  verify((attributes) => (attributes & AR_S) !== 0 && (!isCode(attributes) || (attributes & 2) !== 0)),
);
implement('VERW', verify(isWritableData));

/** Raises the destination's RPL to the source's. */
implement('ARPL', (p: Processor, insn: Insn): Outcome => {
  if (!p.protectedMode || p.v86) return p.raise(UD);
  const destination = readOperand(p, insn, 0);
  if (destination === undefined) return p.outcome;
  const source = readOperand(p, insn, 1);
  if (source === undefined) return FAULT;
  if ((destination & 3n) >= (source & 3n)) return answer(p, false);
  const outcome = writeOperand(p, insn, 0, (destination & ~3n) | (source & 3n));
  return outcome === DONE ? answer(p, true) : outcome;
});
