/**
 * What a TD may be configured with on this machine: ATTRIBUTES, XFAM and the flags of TDCS and TD_PARAMS.
 *
 * @tdx "ABI Reference: Data Types", ATTRIBUTES, XFAM, CONFIG_FLAGS, TD_CTLS
 */
import { hasFeature } from '../../machine/cpuid/cpuid.ts';
import type { Processor } from '../../machine/processor.ts';
import { SUPPORTED_XCR0, SUPPORTED_XSS } from '../../machine/system/xstate-layout.ts';
import { ATTRIBUTES, CONFIG_FLAGS, TD_CTLS } from '../objects/tdcs.ts';

/** The bits of TD_CTLS that exist; VIRT_CPUID2, REDUCE_VE and LOCK came with later modules. */
export const TD_CTLS_DEFINED: bigint = TD_CTLS.PENDING_VE_DISABLE | TD_CTLS.ENUM_TOPOLOGY;

/** Component bits of XFAM. */
export const XFAM: Readonly<
  Record<'X87' | 'SSE' | 'AVX' | 'AVX512' | 'PT' | 'PKRU' | 'CET' | 'UINTR' | 'LBR' | 'AMX', bigint>
> = {
  X87: 1n << 0n,
  SSE: 1n << 1n,
  AVX: 1n << 2n,
  AVX512: 7n << 5n,
  PT: 1n << 8n,
  PKRU: 1n << 9n,
  CET: 3n << 11n,
  UINTR: 1n << 14n,
  LBR: 1n << 15n,
  AMX: 3n << 17n,
};

/** Bits that XCR0 manages; the others belong to IA32_XSS. */
export const XFAM_USER = 0x602ffn;

/** Bits that are 1 in every TD's XFAM. */
export const XFAM_FIXED1: bigint = XFAM.X87 | XFAM.SSE;
/** Bits that may be 1 in a TD's XFAM: what the processor's XSAVE supports. */
export const XFAM_FIXED0: bigint = SUPPORTED_XCR0 | SUPPORTED_XSS;
/** Bits that are 1 in every TD's ATTRIBUTES. */
export const ATTRIBUTES_FIXED1 = 0n;

/** Bits that may be 1 in a TD's ATTRIBUTES. There is no migration, no key locker, and no performance monitoring. */
export function attributesFixed0(p: Processor): bigint {
  let bits: bigint = ATTRIBUTES.DEBUG | ATTRIBUTES.SEPT_VE_DISABLE;
  if (hasFeature(p, 'pks')) bits |= ATTRIBUTES.PKS;
  return bits;
}

/** Bits that may be 1 in a TD's CONFIG_FLAGS. */
export const CONFIG_FLAGS_FIXED0: bigint =
  CONFIG_FLAGS.GPAW | CONFIG_FLAGS.FLEXIBLE_PENDING_VE | CONFIG_FLAGS.NO_RBP_MOD;
/** Bits that are 1 in every TD's CONFIG_FLAGS. */
export const CONFIG_FLAGS_FIXED1 = 0n;

/** Whether XFAM is a legal combination of what the machine has. */
export function xfamValid(xfam: bigint): boolean {
  if ((xfam & XFAM_FIXED1) !== XFAM_FIXED1 || (xfam & ~XFAM_FIXED0) !== 0n) return false;
  const avx512 = xfam & XFAM.AVX512;
  if (avx512 !== 0n && (avx512 !== XFAM.AVX512 || (xfam & XFAM.AVX) === 0n)) return false;
  return [XFAM.CET, XFAM.AMX].every((pair) => (xfam & pair) === 0n || (xfam & pair) === pair);
}

/** Whether ATTRIBUTES may be given to a TD. */
export const attributesValid = (p: Processor, attributes: bigint): boolean =>
  (attributes & ~attributesFixed0(p)) === 0n && (attributes & ATTRIBUTES_FIXED1) === ATTRIBUTES_FIXED1;
