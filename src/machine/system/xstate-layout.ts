/**
 * The XSAVE area: state components, their places and sizes.
 *
 *   0    legacy region: x87 state, MXCSR, XMM (as FXSAVE writes it)
 *   512  header: XSTATE_BV, XCOMP_BV, 48 bytes of zeros
 *   576  extended components: the upper halves of YMM registers, 256 bytes; in the standard format PKRU at 2688, as processors
 *        have it, in the compacted format wherever the components before it end
 *
 * @sdm "XSAVE-Supported Features and State-Component Bitmaps", "XSAVE Area"
 */

export const X87 = 1n;
export const SSE = 2n;
/** Restored MXCSR also follows this component (bit 2) in the standard format. */
export const AVX = 4n;
export const PKRU = 0x200n;

/** Components that XCR0 can enable, and those that IA32_XSS can. */
export const SUPPORTED_XCR0: bigint = X87 | SSE | AVX | PKRU;
export const SUPPORTED_XSS = 0n;

export const LEGACY_SIZE = 512;
export const HEADER_SIZE = 64;
export const XSTATE_BV = 512;
export const XCOMP_BV = 520;
export const HEADER_RESERVED = 528;
/** XCOMP_BV bit 63: compacted format. */
export const COMPACTED: bigint = 1n << 63n;

/** A component beyond the legacy region. */
export interface ExtendedComponent {
  readonly mask: bigint;
  /** Offset in the standard format. */
  readonly offset: number;
  readonly size: number;
  /** In the compacted format it begins on a 64-byte boundary. */
  readonly aligned: boolean;
}

/** By component number, ascending. */
export const EXTENDED_COMPONENTS: readonly ExtendedComponent[] = [
  { mask: AVX, offset: LEGACY_SIZE + HEADER_SIZE, size: 256, aligned: false },
  { mask: PKRU, offset: 2688, size: 8, aligned: false },
];
/** Place of the AVX component: the first one, so that it is the same in both formats. */
export const YMM_AT: number = LEGACY_SIZE + HEADER_SIZE;

/** Bytes of the standard format with these components. */
export function standardSize(components: bigint): number {
  let size = LEGACY_SIZE + HEADER_SIZE;
  for (const { mask, offset, size: length } of EXTENDED_COMPONENTS) {
    if (components & mask) size = Math.max(size, offset + length);
  }
  return size;
}

/** Bytes of the compacted format with these components. */
export const compactSize = (components: bigint): number => compactOffset(components, 0n);

/** Where a component lies in the compacted format with these components; where they end, for one that is not among them. */
export function compactOffset(components: bigint, component: bigint): number {
  let at = LEGACY_SIZE + HEADER_SIZE;
  for (const { mask, size, aligned } of EXTENDED_COMPONENTS) {
    if (!(components & mask)) continue;
    if (aligned) at = (at + 63) & ~63;
    if (mask === component) break;
    at += size;
  }
  return at;
}

const STANDARD_PKRU: number = EXTENDED_COMPONENTS.find(({ mask }) => mask === PKRU)!.offset;

/** Where PKRU lies. @param layout XCOMP_BV */
export const pkruOffset = (layout: bigint): number =>
  layout & COMPACTED ? compactOffset(layout, PKRU) : STANDARD_PKRU;
