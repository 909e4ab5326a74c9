/** LGDT, LIDT, SGDT, SIDT, LLDT, LTR, SLDT, STR. @sdm their operation sections; "User-Mode Instruction Prevention" */
import { implement } from '../../isa/handlers.ts';
import type { Insn } from '../../isa/insn.ts';
import { checkWritable, loadLinear, storeLinear } from '../../mmu/access.ts';
import { DONE, GP, NP, type Outcome, UD } from '../../outcome.ts';
import { CR4_UMIP, type DescriptorTable, type Processor, type Segment } from '../../processor.ts';
import { SECONDARY } from '../../vtx/controls.ts';
import { REASON } from '../../vtx/reasons.ts';
import { isCanonicalBase } from '../canonical.ts';
import { memoryAddress, readOperand, writeOperand } from '../operands.ts';
import {
  type Descriptor,
  fetchDescriptor,
  fetchUpper,
  indexOf,
  isNull,
  isPresent,
  nullSegment,
  SYSTEM,
  segmentOf,
} from '../segments/descriptor.ts';

const exits = (p: Processor): boolean => (p.vtx.secondary & SECONDARY.DESCRIPTOR_TABLE) !== 0;
/** UMIP hides the tables from applications. */
const prevented = (p: Processor): boolean => p.protectedMode && p.cpl !== 0 && (p.cr4 & CR4_UMIP) !== 0;
const wrap = (p: Processor, address: bigint): bigint => BigInt.asUintN(p.mode64 ? 64 : 32, address);

/** Limit first, then the base: 8 bytes in 64-bit mode, else 4, of which a 16-bit LGDT uses three. */
function loadTable(table: (p: Processor) => DescriptorTable) {
  return (p: Processor, insn: Insn): Outcome => {
    if (p.cpl !== 0) return p.raise(GP, 0);
    if (exits(p)) return p.vtx.instructionExit(insn, REASON.GDTR_IDTR);
    const size = insn.mode === 64 ? 8 : 4;
    const linear = memoryAddress(p, insn, 2 + size, false);
    if (linear === undefined) return p.outcome;
    const limit = loadLinear(p, linear, 2);
    if (limit === undefined) return p.outcome;
    const value = loadLinear(p, wrap(p, linear + 2n), size);
    if (value === undefined) return p.outcome;
    const base = insn.mode !== 64 && insn.operandSize === 16 ? value & 0xff_ffffn : value;
    if (!isCanonicalBase(p, base)) return p.raise(GP, 0);
    // all checks passed
    Object.assign(table(p), { base, limit: Number(limit) });
    return DONE;
  };
}

/** Where alignments are checked. @sdm "Alignment Check Exception (#AC)" */
const PSEUDO_DESCRIPTOR_ALIGNMENT = 4;

function storeTable(table: (p: Processor) => DescriptorTable) {
  return (p: Processor, insn: Insn): Outcome => {
    if (prevented(p)) return p.raise(GP, 0);
    if (exits(p)) return p.vtx.instructionExit(insn, REASON.GDTR_IDTR);
    const size = insn.mode === 64 ? 8 : 4;
    const linear = memoryAddress(p, insn, 2 + size, true);
    if (linear === undefined) return p.outcome;
    const writable = checkWritable(p, linear, 2 + size, false, PSEUDO_DESCRIPTOR_ALIGNMENT);
    if (writable !== DONE) return writable;
    const { base, limit } = table(p);
    const outcome = storeLinear(p, linear, 2, BigInt(limit));
    if (outcome !== DONE) return outcome;
    return storeLinear(p, wrap(p, linear + 2n), size, BigInt.asUintN(size * 8, base), false, 1);
  };
}
implement(
  'LGDT',
  loadTable((p) => p.gdtr),
);
implement(
  'LIDT',
  loadTable((p) => p.idtr),
);
implement(
  'SGDT',
  storeTable((p) => p.gdtr),
);
implement(
  'SIDT',
  storeTable((p) => p.idtr),
);

/** A system descriptor of the GDT with its upper half in IA-32e mode; undefined with p.outcome set. */
function systemSegment(
  p: Processor,
  selector: number,
  isType: (attributes: number) => boolean,
): [Descriptor, Segment] | undefined {
  const refuse = (vector: number): undefined => {
    p.raise(vector, indexOf(selector));
    return undefined;
  };
  if (selector & 4) return refuse(GP);
  const descriptor = fetchDescriptor(p, selector, GP);
  if (descriptor === undefined) return undefined;
  if (!isType(descriptor.attributes & 0x1f)) return refuse(GP);
  const upper = p.longMode ? fetchUpper(p, descriptor, GP) : 0n;
  if (upper === undefined) return undefined;
  if (!isPresent(descriptor.attributes)) return refuse(NP);
  const segment = segmentOf(descriptor, selector & 3, upper);
  return isCanonicalBase(p, segment.base) ? [descriptor, segment] : refuse(GP);
}

implement('LLDT', (p: Processor, insn: Insn): Outcome => {
  if (!p.protectedMode || p.v86) return p.raise(UD);
  if (p.cpl !== 0) return p.raise(GP, 0);
  if (exits(p)) return p.vtx.instructionExit(insn, REASON.LDTR_TR);
  const value = readOperand(p, insn, 0);
  if (value === undefined) return p.outcome;
  const selector = Number(value);
  if (isNull(selector)) {
    Object.assign(p.ldtr, nullSegment(selector));
    return DONE;
  }
  const found = systemSegment(p, selector, (type) => type === SYSTEM.ldt);
  if (found === undefined) return p.outcome;
  // all checks passed
  Object.assign(p.ldtr, found[1]);
  return DONE;
});

implement('LTR', (p: Processor, insn: Insn): Outcome => {
  if (!p.protectedMode || p.v86) return p.raise(UD);
  if (p.cpl !== 0) return p.raise(GP, 0);
  if (exits(p)) return p.vtx.instructionExit(insn, REASON.LDTR_TR);
  const value = readOperand(p, insn, 0);
  if (value === undefined) return p.outcome;
  const selector = Number(value);
  if (isNull(selector)) return p.raise(GP, 0);
  const found = systemSegment(p, selector, (type) => type === SYSTEM.tss32 || (type === SYSTEM.tss16 && !p.longMode));
  if (found === undefined) return p.outcome;
  // The descriptor becomes busy in memory too.
  const [{ address, raw }, segment] = found;
  const outcome = storeLinear(p, address + 5n, 1, ((raw >> 40n) & 0xffn) | 2n, true);
  if (outcome !== DONE) return outcome;
  // all checks passed
  Object.assign(p.tr, segment, { attributes: segment.attributes | 2 });
  return DONE;
});

function storeSelector(segment: (p: Processor) => Segment) {
  return (p: Processor, insn: Insn): Outcome => {
    if (!p.protectedMode || p.v86) return p.raise(UD);
    if (prevented(p)) return p.raise(GP, 0);
    if (exits(p)) return p.vtx.instructionExit(insn, REASON.LDTR_TR);
    return writeOperand(p, insn, 0, BigInt(segment(p).selector));
  };
}
implement(
  'SLDT',
  storeSelector((p) => p.ldtr),
);
implement(
  'STR',
  storeSelector((p) => p.tr),
);
