/** Cases of saving and restoring x87, SSE, AVX and PKRU state, by seed: what was recorded on a real processor, and the test of it. */
import { Random } from '../../util/random.ts';

export const AREA_BYTES = 2752;
/** Where the AVX component lies. */
const YMM_AT = 576;
const YMM_END = 832;
/** Where PKRU lies in the standard format; in the compacted one, behind the AVX component. */
const PKRU_AT = 2688;
const COMPONENTS = 0x207;
export const XSAVE_KINDS: readonly string[] = ['XSAVE', 'XSAVEOPT', 'XSAVEC', 'FXSAVE'];

export interface XsaveCase {
  /** Area that is restored first. */
  readonly from: Uint8Array;
  /** Area that is saved into, as it is before. */
  readonly to: Uint8Array;
  /** EAX of XRSTOR and of the save. */
  readonly restore: number;
  readonly save: number;
  /** Index into XSAVE_KINDS. */
  readonly kind: number;
  /** With REX.W. */
  readonly wide: boolean;
}

/**
 * The case of a seed. Components are either not present (so they are initial) or random, since processors may count
 * initial values that were loaded as in use. The instruction pointer is canonical in 48 bits, and PKRU denies nothing to
 * key 0, which the recorder's own memory has.
 */
export function xsaveCase(seed: number): XsaveCase {
  const random = new Random(seed);
  const from = new Uint8Array(AREA_BYTES);
  for (let i = 0; i < 416; i++) from[i] = random.below(256);
  for (let i = YMM_AT; i < YMM_END; i++) from[i] = random.below(256);
  const view = new DataView(from.buffer);
  view.setBigInt64(8, BigInt.asIntN(48, view.getBigInt64(8, true)), true);
  view.setUint32(24, random.below(3) === 0 ? 0x1f80 : random.below(0x10000), true);
  const mask = (): number => (random.below(3) === 0 ? random.below(8) | (random.below(2) * 0x200) : COMPONENTS);
  view.setUint32(512, mask(), true);
  const keys = random.below(0x7fff_ffff) & ~3;
  for (const at of [YMM_END, PKRU_AT]) {
    view.setUint32(at, keys, true);
    view.setUint32(at + 4, random.below(0x7fff_ffff), true);
  }
  if (random.below(4) === 0) view.setBigUint64(520, (1n << 63n) | BigInt(COMPONENTS), true);
  const to = new Uint8Array(AREA_BYTES).fill(0xa5, 0, 512).fill(0xa5, YMM_AT);
  to[512] = random.below(8);
  return { from, to, restore: mask(), save: mask(), kind: seed % 4, wide: random.below(2) === 1 };
}

/** FNV-1a, 32 bits. */
export function fnv1a(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}
