/** The decoder against iced-x86: what both say about the same bytes. */
import * as iced from 'iced-x86';
import { decode } from '../../src/machine/isa/decode.ts';
import '../../src/machine/isa/index.ts';
import type { Insn, MemoryOperand } from '../../src/machine/isa/insn.ts';

const { Code, Decoder, DecoderError, DecoderOptions, OpKind, Register, Mnemonic, CpuidFeature } = iced;
const options = DecoderOptions.NoMPFX_0FBC * 0;

export interface Verdict {
  /** Empty where both agree. */
  readonly difference: string;
  readonly theirs: string;
  readonly ours: Insn | string;
  readonly features: readonly string[];
}

const registerNumber = (register: number): number => {
  if (register === Register.None) return -1;
  for (const first of [Register.RAX, Register.EAX, Register.AX, Register.XMM0, Register.YMM0])
    if (register >= first && register < first + 16) return register - first;
  return -2;
};

/** One reused decoder per mode: making them is what costs. */
const instruction = new iced.Instruction();

export function judge(bytes: Uint8Array, mode: 16 | 32 | 64): Verdict {
  const ours = decode(bytes, 0, bytes.length, mode);
  const decoder = new Decoder(mode, bytes, options);
  try {
    decoder.decodeOut(instruction);
    const valid = instruction.code !== Code.INVALID;
    const theirs = valid ? Mnemonic[instruction.mnemonic]! : DecoderError[decoder.lastError]!;
    const features = valid ? Array.from(instruction.cpuidFeatures(), (f) => CpuidFeature[f]!) : [];
    return { difference: difference(ours, valid), theirs, ours, features };
  } finally {
    decoder.free();
  }
}

function difference(ours: Insn | string, valid: boolean): string {
  if (typeof ours === 'string') return valid ? `${ours}` : '';
  if (!valid) return 'not an instruction';
  if (ours.length !== instruction.length) return `length ${ours.length} not ${instruction.length}`;
  if (ours.lock !== instruction.hasLockPrefix) return 'lock';
  const [first] = ours.operands;
  if (first?.place === 'relative') {
    const mask = ours.operandSize === 16 ? 0xffffn : ours.operandSize === 32 ? 0xffff_ffffn : ~0n;
    const target = BigInt.asUintN(64, BigInt(ours.displacement)) & mask;
    if (target !== BigInt.asUintN(64, instruction.nearBranchTarget))
      return `target ${target} not ${instruction.nearBranchTarget}`;
  }
  if (ours.memory === null || !ours.row.hasModrm) return '';
  let found = false;
  for (let n = 0; n < instruction.opCount; n++) if (instruction.opKind(n) === OpKind.Memory) found = true;
  return found ? memoryDifference(ours, ours.memory) : 'memory where there is none';
}

function memoryDifference(insn: Insn, memory: MemoryOperand): string {
  const relative = instruction.isIpRelMemoryOperand;
  if (relative !== memory.ripRelative) return 'RIP-relative';
  const segment = [Register.ES, Register.CS, Register.SS, Register.DS, Register.FS, Register.GS].indexOf(
    instruction.memorySegment,
  );
  if (segment !== memory.segment && !(insn.mode === 64 && segment < 4 && memory.segment < 4))
    return `segment ${memory.segment} not ${segment}`;
  if (relative) return '';
  if (registerNumber(instruction.memoryBase) !== memory.base) return 'base';
  if (registerNumber(instruction.memoryIndex) !== memory.index) return 'index';
  if (memory.index >= 0 && instruction.memoryIndexScale !== 1 << memory.scale) return 'scale';
  const bits = insn.addressSize;
  if (BigInt.asUintN(bits, BigInt(memory.disp)) !== BigInt.asUintN(bits, instruction.memoryDisplacement))
    return 'displacement';
  return '';
}
