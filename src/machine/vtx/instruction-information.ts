/**
 * The VM-exit instruction-information field and the displacement that some exits report as qualification.
 *
 *   1:0 scale | 6:3 register operand | 9:7 address size | 10 register form | 12:11 operand size | 17:15 segment |
 *   21:18 index, 22 none | 26:23 base, 27 none | 31:28 second register, or 29:28 which instruction
 *
 * @sdm "Instruction-Information Field for VM Exits Due to Instruction Execution"
 */
import type { Insn, MemoryOperand } from '../isa/insn.ts';
import { nextRip } from '../processor/rip.ts';
import type { Processor } from '../processor.ts';
import { REASON } from './reasons.ts';

const REGISTER_FORM = 1 << 10;
const NO_INDEX = 1 << 22;
const NO_BASE = 1 << 27;

/** 0, 1, 2 for 16, 32, 64 bits. */
const sizeCode = (bits: 16 | 32 | 64): number => (bits === 16 ? 0 : bits === 32 ? 1 : 2);

function memoryBits(insn: Insn, { base, index, scale, segment }: MemoryOperand): number {
  let info = (sizeCode(insn.addressSize) << 7) | (segment << 15);
  info |= index < 0 ? NO_INDEX : scale | (index << 18);
  info |= base < 0 ? NO_BASE : base << 23;
  return info;
}

const registerAt = (insn: Insn, place: 'reg' | 'rm'): number =>
  insn.operands.find((operand) => operand.place === place)?.register ?? 0;

/** Memory operand, or the register that stands for it. */
const memoryOrRegister = (insn: Insn): number =>
  insn.memory === null ? REGISTER_FORM | (registerAt(insn, 'rm') << 3) : memoryBits(insn, insn.memory);

const GDTR_IDTR = ['SGDT', 'SIDT', 'LGDT', 'LIDT'];
const LDTR_TR = ['SLDT', 'STR', 'LLDT', 'LTR'];
const identity = (insn: Insn, names: readonly string[]): number => names.indexOf(insn.row.operation.mnemonic) << 28;

/** The field for an exit of this reason; 0 for reasons that leave it undefined. */
export function instructionInformation(insn: Insn, reason: number): number {
  switch (reason) {
    case REASON.IO:
      if (!insn.row.operation.string) return 0;
      return (
        (sizeCode(insn.addressSize) << 7) | (insn.row.operation.mnemonic.startsWith('OUTS') ? insn.segment << 15 : 0)
      );
    case REASON.GDTR_IDTR:
      return memoryOrRegister(insn) | (insn.operandSize === 16 ? 0 : 1 << 11) | identity(insn, GDTR_IDTR);
    case REASON.LDTR_TR:
      return memoryOrRegister(insn) | identity(insn, LDTR_TR);
    case REASON.VMCLEAR:
    case REASON.VMPTRLD:
    case REASON.VMPTRST:
    case REASON.VMXON:
    case REASON.XSAVES:
    case REASON.XRSTORS:
      return memoryOrRegister(insn);
    case REASON.VMREAD:
    case REASON.VMWRITE:
    case REASON.INVEPT:
    case REASON.INVVPID:
    case REASON.INVPCID:
      return (memoryOrRegister(insn) | (registerAt(insn, 'reg') << 28)) >>> 0;
    case REASON.RDRAND:
    case REASON.RDSEED:
      return (registerAt(insn, 'rm') << 3) | (sizeCode(insn.operandSize) << 11);
    default:
      return 0;
  }
}

/** Exits that report the memory operand's displacement. */
const REPORTS_DISPLACEMENT: ReadonlySet<number> = new Set([
  REASON.VMCLEAR,
  REASON.VMPTRLD,
  REASON.VMPTRST,
  REASON.VMREAD,
  REASON.VMWRITE,
  REASON.VMXON,
  REASON.GDTR_IDTR,
  REASON.LDTR_TR,
  REASON.INVEPT,
  REASON.INVVPID,
  REASON.INVPCID,
  REASON.XSAVES,
  REASON.XRSTORS,
]);

/** The displacement (RIP-relative: plus the next instruction's RIP) where the reason reports it, else 0. */
export function memoryQualification(p: Processor, insn: Insn, reason: number): bigint {
  if (insn.memory === null || !REPORTS_DISPLACEMENT.has(reason)) return 0n;
  const { disp, ripRelative } = insn.memory;
  return BigInt.asUintN(64, ripRelative ? nextRip(p, insn.length) + BigInt(disp) : BigInt(disp));
}
