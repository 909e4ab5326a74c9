/**
 * Guest state as the emulator's instruction semantics read and write it: words of a processor's state block, which for a
 * vCPU that is not running lie in its VMCS and its saved FPU state.
 *
 * @upstream arch/x86/kvm/x86.c emulator_get_segment(), emulate.c __linearize()
 */
import {
  CODE_MASK,
  DIRECTION,
  FCW,
  FDP,
  FIP,
  FLAGS_REST,
  FOP,
  FPR,
  FS,
  MXCSR,
  SEG_BASE,
  SEG_LOW,
  SEG_READ_SPAN,
  SEG_WRITE_SPAN,
  SEGMENT_SIZE,
  SEGMENTS,
  SLOW_FLAGS,
  STACK_MASK,
  STATE,
  TSC_AUX,
  YMM_HIGH,
} from '../../machine/engine/layout.ts';
import { STATUS_FLAGS } from '../../machine/processor.ts';
import { guestFpu } from './fpu.ts';
import { codeSize, isProtmode, isV86 } from './kvm_cache_regs.ts';
import { type KvmSegment, VCPU_SREG_SS, type X86Vcpu } from './kvm_host.ts';

const RFLAGS_DF = 0x400;
const TYPE_CODE = 8;
/** Writable data, or readable code. */
const TYPE_RIGHTS = 2;
const TYPE_EXPAND_DOWN = 4;
const NOTHING_LEGAL = -1n;

/** First legal offset of a segment, and how many bytes from there on may be accessed (less one; −1 for none). */
function legalOffsets(vcpu: X86Vcpu, segment: KvmSegment, write: boolean): { low: bigint; span: bigint } {
  const limit = BigInt(segment.limit);
  if (!isProtmode(vcpu) || isV86(vcpu)) return { low: 0n, span: limit };
  const { type } = segment;
  const code = (type & TYPE_CODE) !== 0;
  const allowed = write ? !code && (type & TYPE_RIGHTS) !== 0 : !code || (type & TYPE_RIGHTS) !== 0;
  if (segment.unusable || !segment.present || !allowed) return { low: 0n, span: NOTHING_LEGAL };
  if (code || !(type & TYPE_EXPAND_DOWN)) return { low: 0n, span: limit };
  const top = segment.db ? 0xffff_ffffn : 0xffffn;
  return { low: limit + 1n, span: limit >= top ? NOTHING_LEGAL : top - limit - 1n };
}

function segmentWord(vcpu: X86Vcpu, address: number): bigint {
  const n = Math.floor((address - SEGMENTS) / SEGMENT_SIZE);
  const field = (address - SEGMENTS) % SEGMENT_SIZE;
  if (field === SEG_BASE) {
    return codeSize(vcpu) === 64 && n < FS ? 0n : vcpu.kvm.ops.getSegmentBase(vcpu, n);
  }
  const { low, span } = legalOffsets(vcpu, vcpu.kvm.ops.getSegment(vcpu, n), field === SEG_WRITE_SPAN);
  if (field === SEG_LOW) return low;
  return field === SEG_READ_SPAN || field === SEG_WRITE_SPAN ? span : 0n;
}

/** Parts of the block that are in the saved FPU state. */
const isFpu = (address: number): boolean =>
  (address >= FCW && address < FOP + 2) ||
  (address >= FIP && address < FDP + 8) ||
  (address >= MXCSR && address < MXCSR + 4) ||
  (address >= FPR && address < YMM_HIGH + 256);

/** An instruction wants a word of the state block that KVM does not keep: it cannot be emulated. */
export class UnknownState extends Error {
  constructor(address: number) {
    super(`emulation wants word 0x${address.toString(16)} of the processor's state`);
  }
}

/** A word of the state block. Throws {@link UnknownState} for one that no emulated instruction has a use for. */
export function emulatorReadState(vcpu: X86Vcpu, address: number, size: number): bigint {
  if (address >= SEGMENTS && address < SEGMENTS + 6 * SEGMENT_SIZE) return segmentWord(vcpu, address);
  switch (address) {
    case DIRECTION:
      return vcpu.kvm.ops.getRflags(vcpu) & RFLAGS_DF ? -1n : 1n;
    case CODE_MASK:
      return codeSize(vcpu) === 64 ? -1n : 0xffff_ffffn;
    case STACK_MASK:
      if (codeSize(vcpu) === 64) return -1n;
      return vcpu.kvm.ops.getSegment(vcpu, VCPU_SREG_SS).db ? 0xffff_ffffn : 0xffffn;
    case SLOW_FLAGS:
      // Whatever makes an instruction fault or exit came before the access that is emulated.
      return 0n;
    case TSC_AUX:
      return vcpu.arch.tscAux;
    case FLAGS_REST:
      return BigInt(vcpu.kvm.ops.getRflags(vcpu) & ~STATUS_FLAGS);
  }
  if (!isFpu(address)) throw new UnknownState(address);
  const fpu = guestFpu(vcpu);
  let value = 0n;
  for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(fpu[address - STATE + i]!);
  return value;
}

/** Writes a word of the state block: only of the vector and x87 registers. */
export function emulatorWriteState(vcpu: X86Vcpu, address: number, size: number, value: bigint): void {
  if (address === FLAGS_REST) {
    const status = vcpu.kvm.ops.getRflags(vcpu) & STATUS_FLAGS;
    vcpu.kvm.ops.setRflags(vcpu, status | (Number(value & 0x3f_7fd7n) & ~STATUS_FLAGS) | 2);
    return;
  }
  // The direction is a copy of RFLAGS.DF.
  if (address === DIRECTION) return;
  if (!isFpu(address)) throw new UnknownState(address);
  const fpu = guestFpu(vcpu);
  for (let i = 0; i < size; i++) fpu[address - STATE + i] = Number((value >> BigInt(8 * i)) & 0xffn);
}
