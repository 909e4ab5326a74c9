/**
 * One VMCS while a processor has it loaded: field values in typed arrays, kept on the heap until VMCLEAR writes them to
 * the region.
 *
 *   region:  0 revision identifier | 4 VMX-abort indicator | 8 launch state | 16 fields by slot, 8 bytes each
 *
 * @sdm "Format of the VMCS Region"
 */
import type { Hpa } from '../../util/address.ts';
import type { PhysicalMemory } from '../memory.ts';
import { F } from './field-slots.ts';
import { FIELDS } from './fields.ts';

const DATA_OFFSET = 16;
const LAUNCH_STATE_OFFSET = 8;
export const ABORT_OFFSET = 4;

/** Bytes of a region in use. */
export const VMCS_BYTES: number = DATA_OFFSET + FIELDS.length * 8;

/** Groups of fields whose checks at VM entry are remembered until one of them is written. */
export const DIRTY_CONTROLS = 1;
export const DIRTY_HOST = 2;
/**
 * Fields that the checks of segments and descriptor tables look at, and that decide what generated code sees of them.
 * What an exit saves is valid as the processor's own state is.
 */
export const DIRTY_SEGMENTS = 4;
/**
 * Fields of the guest-state area beside those that each entry loads and checks: the others are checked after a change, and
 * a processor that still has the guest's state need not load them.
 */
export const DIRTY_GUEST = 8;
const DIRTY_ALL: number = DIRTY_CONTROLS | DIRTY_HOST | DIRTY_SEGMENTS | DIRTY_GUEST;

/** Guest fields that every entry loads. */
const ALWAYS_LOADED: readonly number[] = [
  F.GUEST_RIP,
  F.GUEST_RFLAGS,
  F.GUEST_ACTIVITY,
  F.GUEST_INTERRUPTIBILITY,
  F.GUEST_PENDING_DEBUG,
  F.GUEST_INTERRUPT_STATUS,
  F.PREEMPTION_TIMER_VALUE,
  F.PML_INDEX,
];

/** Control fields that no check looks at, or whose check is made at each entry. */
const UNCHECKED: readonly number[] = [
  F.EXCEPTION_BITMAP,
  F.PAGE_FAULT_MASK,
  F.PAGE_FAULT_MATCH,
  F.TSC_OFFSET,
  F.CR0_MASK,
  F.CR4_MASK,
  F.CR0_READ_SHADOW,
  F.CR4_READ_SHADOW,
  F.ENTRY_INTERRUPTION_INFO,
  F.ENTRY_EXCEPTION_ERROR_CODE,
  F.ENTRY_INSTRUCTION_LENGTH,
  F.EOI_EXIT_BITMAP_0,
  F.EOI_EXIT_BITMAP_1,
  F.EOI_EXIT_BITMAP_2,
  F.EOI_EXIT_BITMAP_3,
  F.EPTP_INDEX,
];

const DIRTY_BY_SLOT: Uint8Array = Uint8Array.from(FIELDS, ({ type, slot }) =>
  type === 'host' ? DIRTY_HOST : type === 'control' && !UNCHECKED.includes(slot) ? DIRTY_CONTROLS : 0,
);
// The host checks look at the exit controls, the control checks do so too.
DIRTY_BY_SLOT[F.EXIT_CONTROLS] = DIRTY_CONTROLS | DIRTY_HOST;
DIRTY_BY_SLOT[F.ENTRY_CONTROLS] = DIRTY_ALL;
DIRTY_BY_SLOT[F.PRIMARY_CONTROLS] = DIRTY_CONTROLS | DIRTY_SEGMENTS | DIRTY_GUEST;
DIRTY_BY_SLOT[F.SECONDARY_CONTROLS] = DIRTY_CONTROLS | DIRTY_SEGMENTS | DIRTY_GUEST;
for (const slot of [
  F.GUEST_CR0,
  F.GUEST_EFER,
  F.GUEST_RFLAGS,
  F.GUEST_GDTR_BASE,
  F.GUEST_GDTR_LIMIT,
  F.GUEST_IDTR_BASE,
  F.GUEST_IDTR_LIMIT,
]) {
  DIRTY_BY_SLOT[slot]! |= DIRTY_SEGMENTS;
}
for (const { type, slot } of FIELDS) {
  if (type === 'guest' && !ALWAYS_LOADED.includes(slot)) DIRTY_BY_SLOT[slot]! |= DIRTY_GUEST;
}
for (let n = 0; n < 8; n++) {
  for (const slot of [F.GUEST_ES_SELECTOR, F.GUEST_ES_LIMIT, F.GUEST_ES_ACCESS_RIGHTS, F.GUEST_ES_BASE]) {
    DIRTY_BY_SLOT[slot + n]! |= DIRTY_SEGMENTS;
  }
}

export class Vmcs {
  readonly region: Hpa;
  /** 32-bit halves: low at 2·slot. */
  readonly u32: Uint32Array;
  readonly u64: BigUint64Array;
  /** perf: 64-bit values as they were read or written last, so that reading one again allocates nothing. */
  readonly #boxes: (bigint | undefined)[] = new Array(FIELDS.length).fill(undefined);
  launched = false;
  /** Groups to check again at the next entry. */
  dirty: number = DIRTY_ALL;
  /** EFER.LMA under which the host state passed its checks. */
  hostCheckedLma = 0;

  /** An empty VMCS; load() fills it. */
  constructor(region: Hpa) {
    this.region = region;
    this.u64 = new BigUint64Array(FIELDS.length);
    this.u32 = new Uint32Array(this.u64.buffer);
  }

  /** Takes the content of the region. @param keyId whose key it is in */
  load({ keyed }: PhysicalMemory, keyId = 0): void {
    this.launched = keyed.read32(this.region + LAUNCH_STATE_OFFSET, keyId) === 1;
    new Uint8Array(this.u64.buffer).set(keyed.readBytes(this.region + DATA_OFFSET, keyId, this.u64.byteLength));
    this.#boxes.fill(undefined);
    this.dirty = DIRTY_ALL;
  }

  /** Writes everything to the region. @param keyId with whose key */
  store({ keyed }: PhysicalMemory, keyId = 0): void {
    keyed.write32(this.region + LAUNCH_STATE_OFFSET, keyId, this.launched ? 1 : 0);
    keyed.writeBytes(this.region + DATA_OFFSET, keyId, new Uint8Array(this.u64.buffer));
  }

  /** A field of at most 32 bits, or the low half of a longer one. */
  low(slot: number): number {
    return this.u32[slot * 2]!;
  }
  /** Bits 63:32. */
  high(slot: number): number {
    return this.u32[slot * 2 + 1]!;
  }
  /** A field of more than 32 bits. */
  get64(slot: number): bigint {
    const box = this.#boxes[slot];
    if (box !== undefined) return box;
    const value = this.u64[slot]!;
    this.#boxes[slot] = value;
    return value;
  }
  /** A physical address that passed its check, or any value below 2^53. */
  address(slot: number): number {
    return this.u32[slot * 2 + 1]! * 0x1_0000_0000 + this.u32[slot * 2]!;
  }

  // The setters are for the processor itself: they do not make checks necessary.

  /** For fields of at most 32 bits, which get64 does not read. */
  setLow(slot: number, value: number): void {
    this.u32[slot * 2] = value;
  }
  /** A value of at most 32 bits into a 64-bit field. */
  setNumber(slot: number, value: number): void {
    this.u32[slot * 2] = value;
    this.u32[slot * 2 + 1] = 0;
    this.#boxes[slot] = undefined;
  }
  /** @param value unsigned */
  set64(slot: number, value: bigint): void {
    this.u64[slot] = value;
    this.#boxes[slot] = value;
  }

  /** A field changed by software: its group must be checked again. */
  touch(slot: number): void {
    this.dirty |= DIRTY_BY_SLOT[slot]!;
  }
}

/** Makes the launch state of a VMCS that is not loaded "clear", in its region. */
export function clearLaunchState(memory: PhysicalMemory, region: Hpa): void {
  memory.write32(region + LAUNCH_STATE_OFFSET, 0);
}
