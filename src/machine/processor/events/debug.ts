/**
 * Debug registers: breakpoint matching and what a #DB does to DR6 and DR7.
 *
 *   DR7   1:0 L0 G0 .. 7:6 L3 G3   8 LE  9 GE  13 GD   17:16 R/W0  19:18 LEN0 .. 29:28 R/W3  31:30 LEN3
 *   DR6   3:0 B0-B3   13 BD  14 BS  15 BT
 *
 * @sdm "Debug Registers"
 */
import { CR4_DE, type Processor } from '../../processor.ts';

export const DR6_BD = 0x2000;
export const DR6_BS = 0x4000;
export const DR6_BT = 0x8000;
const DR6_MATCHES = 0xf;
const DR7_GD = 0x2000;

const DEBUGCTL = 0x1d9;
/** LBR and BTF: a #DB switches both off. */
const DEBUGCTL_CLEARED = 3n;

/** R/W field values: what a breakpoint watches. */
export const WATCH = { execute: 0, write: 1, io: 2, readWrite: 3 } as const;

const LENGTHS = [1, 2, 8, 4];
const watches = (dr7: number, n: number): number => (dr7 >>> (16 + n * 4)) & 3;
const lengthOf = (dr7: number, n: number): number => LENGTHS[(dr7 >>> (18 + n * 4)) & 3]!;
const enabled = (dr7: number, n: number): boolean => ((dr7 >>> (n * 2)) & 3) !== 0;

/** Whether an instruction breakpoint is enabled. Cheap when no breakpoint is. */
export function codeBreakpoints({ dr7 }: Processor): boolean {
  if ((dr7 & 0xff) === 0) return false;
  for (let n = 0; n < 4; n++) if (enabled(dr7, n) && watches(dr7, n) === WATCH.execute) return true;
  return false;
}

/** Whether breakpoint `n` watches an access of that kind. I/O breakpoints need CR4.DE. */
function catches(p: Processor, n: number, access: number): boolean {
  switch (watches(p.dr7, n)) {
    case WATCH.execute:
      return access === WATCH.execute;
    case WATCH.write:
      return access === WATCH.write;
    case WATCH.io:
      return access === WATCH.io && (p.cr4 & CR4_DE) !== 0;
    default:
      return access === WATCH.write || access === WATCH.readWrite;
  }
}

/**
 * DR6 bits of the breakpoints that an access meets, or 0 if none of those is enabled.
 *
 * @param access WATCH.execute, write, io, or readWrite for a read
 * @param address linear address, or port
 * @param size in bytes
 */
export function matchBreakpoints(p: Processor, access: number, address: bigint, size: number): number {
  const { dr7 } = p;
  if ((dr7 & 0xff) === 0) return 0;
  let bits = 0;
  let any = false;
  for (let n = 0; n < 4; n++) {
    if (!catches(p, n, access)) continue;
    const length = lengthOf(dr7, n);
    const start = p.dr[n]! & ~BigInt(length - 1);
    if (address + BigInt(size) <= start || address >= start + BigInt(length)) continue;
    bits |= 1 << n;
    any ||= enabled(dr7, n);
  }
  return any ? bits : 0;
}

/** DR6, DR7 and DEBUGCTL when a #DB with the DR6 bits `bits` is taken. Only software clears BD, BS and BT. */
export function debugExceptionTaken(p: Processor, bits: number): void {
  p.dr6 = ((p.dr6 & ~DR6_MATCHES) | (bits & (DR6_MATCHES | DR6_BD | DR6_BS | DR6_BT))) >>> 0;
  p.dr7 &= ~DR7_GD;
  const control = p.msrs.get(DEBUGCTL);
  if (control !== undefined) p.msrs.set(DEBUGCTL, control & ~DEBUGCTL_CLEARED);
}
