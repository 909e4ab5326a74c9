/**
 * The local APIC's register page: offsets, and which bits of which register exist.
 *
 * An x2APIC register's MSR is 800h plus its offset divided by 16.
 *
 * Reference: Intel SDM volume 3, "Local APIC Register Address Map", "Local Vector Table" and "x2APIC Register Address Space".
 */

/** Offsets in the register page. */
export const APIC: {
  readonly ID: 0x20;
  readonly VERSION: 0x30;
  readonly TPR: 0x80;
  readonly APR: 0x90;
  readonly PPR: 0xa0;
  readonly EOI: 0xb0;
  readonly RRD: 0xc0;
  readonly LDR: 0xd0;
  readonly DFR: 0xe0;
  readonly SVR: 0xf0;
  readonly ISR: 0x100;
  readonly TMR: 0x180;
  readonly IRR: 0x200;
  readonly ESR: 0x280;
  readonly LVT_CMCI: 0x2f0;
  readonly ICR: 0x300;
  readonly ICR_HIGH: 0x310;
  readonly LVT_TIMER: 0x320;
  readonly LVT_THERMAL: 0x330;
  readonly LVT_PERFORMANCE: 0x340;
  readonly LVT_LINT0: 0x350;
  readonly LVT_LINT1: 0x360;
  readonly LVT_ERROR: 0x370;
  readonly TIMER_INITIAL: 0x380;
  readonly TIMER_CURRENT: 0x390;
  readonly TIMER_DIVIDE: 0x3e0;
  readonly SELF_IPI: 0x3f0;
} = {
  ID: 0x20,
  VERSION: 0x30,
  TPR: 0x80,
  APR: 0x90,
  PPR: 0xa0,
  EOI: 0xb0,
  RRD: 0xc0,
  LDR: 0xd0,
  DFR: 0xe0,
  SVR: 0xf0,
  ISR: 0x100,
  TMR: 0x180,
  IRR: 0x200,
  ESR: 0x280,
  LVT_CMCI: 0x2f0,
  ICR: 0x300,
  ICR_HIGH: 0x310,
  LVT_TIMER: 0x320,
  LVT_THERMAL: 0x330,
  LVT_PERFORMANCE: 0x340,
  LVT_LINT0: 0x350,
  LVT_LINT1: 0x360,
  LVT_ERROR: 0x370,
  TIMER_INITIAL: 0x380,
  TIMER_CURRENT: 0x390,
  TIMER_DIVIDE: 0x3e0,
  SELF_IPI: 0x3f0,
};

/** Number of 32-bit words of the register page image, 16 bytes apart when they are registers. */
export const REGISTER_WORDS = 256;

export const LVT_MASKED = 0x1_0000;
export const LVT_LEVEL = 0x8000;
export const LVT_REMOTE_IRR = 0x4000;
export const SVR_ENABLED = 0x100;
export const SVR_SUPPRESS_EOI_BROADCAST = 0x1000;

/** Timer modes in bits 18:17 of the timer's LVT entry; 0 is one-shot. */
export const TIMER_PERIODIC = 1;
export const TIMER_TSC_DEADLINE = 2;

/** Bits of the error status register. */
export const ESR_SEND_ILLEGAL_VECTOR = 0x20;
export const ESR_RECEIVE_ILLEGAL_VECTOR = 0x40;
export const ESR_ILLEGAL_REGISTER = 0x80;

/** The local vector table's entries. */
export const LVT_OFFSETS: readonly number[] = [
  APIC.LVT_TIMER,
  APIC.LVT_THERMAL,
  APIC.LVT_PERFORMANCE,
  APIC.LVT_LINT0,
  APIC.LVT_LINT1,
  APIC.LVT_ERROR,
  APIC.LVT_CMCI,
];

/** Features that decide which registers and bits exist. */
export interface LapicFeatures {
  readonly cmci: boolean;
  readonly tscDeadline: boolean;
  readonly directedEoi: boolean;
}

/** Bits of a register that software can set; undefined for one that cannot be written. */
export function writableBits(offset: number, features: LapicFeatures): number | undefined {
  switch (offset) {
    case APIC.ID:
    case APIC.LDR:
    case APIC.ICR_HIGH:
      return 0xff00_0000;
    case APIC.TPR:
    case APIC.SELF_IPI:
      return 0xff;
    case APIC.EOI:
    case APIC.ESR:
      return 0;
    case APIC.DFR:
      return 0xf000_0000;
    case APIC.SVR:
      return features.directedEoi ? 0x13ff : 0x3ff;
    case APIC.ICR:
      return 0xc_cfff;
    case APIC.LVT_TIMER:
      return features.tscDeadline ? 0x7_00ff : 0x3_00ff;
    case APIC.LVT_CMCI:
      return features.cmci ? 0x1_07ff : undefined;
    case APIC.LVT_THERMAL:
    case APIC.LVT_PERFORMANCE:
      return 0x1_07ff;
    case APIC.LVT_LINT0:
    case APIC.LVT_LINT1:
      return 0x1_a7ff;
    case APIC.LVT_ERROR:
      return 0x1_00ff;
    case APIC.TIMER_INITIAL:
      return 0xffff_ffff;
    case APIC.TIMER_DIVIDE:
      return 0x0b;
    default:
      return undefined;
  }
}

/** Whether a register can be read. */
export function isReadable(offset: number, features: LapicFeatures): boolean {
  if (offset >= APIC.ISR && offset < APIC.ESR) return true;
  switch (offset) {
    case APIC.VERSION:
    case APIC.APR:
    case APIC.PPR:
    case APIC.RRD:
    case APIC.TIMER_CURRENT:
      return true;
    case APIC.EOI:
    case APIC.SELF_IPI:
      return false;
    default:
      return writableBits(offset, features) !== undefined;
  }
}

/** Read-only status bits that software may write as they were without a fault in x2APIC mode. */
export function statusBits(offset: number): number {
  if (offset === APIC.LVT_LINT0 || offset === APIC.LVT_LINT1) return 0x5000;
  return offset === APIC.ICR || LVT_OFFSETS.includes(offset) ? 0x1000 : 0;
}

/** Timer ticks are this many bus cycles: 2 to 128, or 1, by the divide configuration register. */
export function timerDivisor(divideConfiguration: number): number {
  const code = (divideConfiguration & 3) | ((divideConfiguration & 8) >> 1);
  return code === 7 ? 1 : 2 << code;
}

/** Highest vector set in the 256-bit register at `offset`, −1 for none. */
export function highestVector(registers: Uint32Array, offset: number): number {
  for (let i = 7; i >= 0; i--) {
    const word = registers[(offset >> 2) + 4 * i] as number;
    if (word !== 0) return 32 * i + 31 - Math.clz32(word);
  }
  return -1;
}

/** Place of a vector's word in the page image. */
export function vectorWord(offset: number, vector: number): number {
  return (offset >> 2) + 4 * (vector >> 5);
}
