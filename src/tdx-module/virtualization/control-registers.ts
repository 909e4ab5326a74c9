/**
 * CR0, CR4, XCR0 and IA32_XSS of a TD: which bits it may change, and what a write that the masks intercept does.
 *
 * @tdx "CPU Virtualization (Non-Root Mode Operation)", CR Handling, Extended Feature Set
 */
import { readMsr } from '../../machine/msr/msr.ts';
import type { Processor } from '../../machine/processor.ts';
import {
  CR0_CD,
  CR0_NE,
  CR0_NW,
  CR0_PE,
  CR0_PG,
  CR0_WP,
  CR4_MCE,
  CR4_PKE,
  CR4_SMXE,
  CR4_VMXE,
} from '../../machine/processor.ts';
import { isXcr0 } from '../../machine/system/xcr.ts';
import { SUPPORTED_XSS } from '../../machine/system/xstate-layout.ts';
import { ATTRIBUTES } from '../objects/tdcs.ts';
import { XFAM } from './features.ts';

const CR4_KL = 1n << 19n;
const CR4_CET = 1n << 23n;
const CR4_PKS = 1n << 24n;
const CR4_UINTR = 1n << 25n;
const VMX_CR0_FIXED0 = 0x486;
const VMX_CR4_FIXED0 = 0x488;
const ALL = 0xffff_ffff_ffff_ffffn;
const HIGH_HALF = 0xffff_ffff_0000_0000n;
/** Reserved bits 28:19, 17 and 15:6 of CR0: writes to them are ignored. */
const CR0_IGNORED = 0x1ffa_ffc0n;

/** What of a TD's configuration the rules look at. */
export interface CrConfig {
  readonly attributes: bigint;
  readonly xfam: bigint;
}

/** What VMX fixes of a control register: bits that must be 1, bits that may be 1. */
interface Fixed {
  readonly one: bigint;
  readonly allowed: bigint;
}
const fixed = (p: Processor, msr: number): Fixed => ({
  one: readMsr(p, msr) ?? 0n,
  allowed: readMsr(p, msr + 1) ?? ALL,
});

/** CR4 bits that this TD may not set. */
function forbiddenCr4({ attributes, xfam }: CrConfig): bigint {
  let bits = CR4_KL;
  if (!(xfam & XFAM.PKRU)) bits |= BigInt(CR4_PKE);
  if ((xfam & XFAM.CET) !== XFAM.CET) bits |= CR4_CET;
  if (!(xfam & XFAM.UINTR)) bits |= CR4_UINTR;
  if (!(attributes & ATTRIBUTES.PKS)) bits |= CR4_PKS;
  return bits;
}

/** Values of the VMCS fields that say who owns which bits. */
export interface CrMasks {
  readonly cr0Mask: bigint;
  readonly cr0Shadow: bigint;
  readonly cr4Mask: bigint;
  readonly cr4Shadow: bigint;
}

export function crMasks(p: Processor, config: CrConfig): CrMasks {
  const cr0 = fixed(p, VMX_CR0_FIXED0);
  const cr4 = fixed(p, VMX_CR4_FIXED0);
  const always0 = BigInt(CR0_PE | CR0_NE | CR0_NW | CR0_CD);
  const always4 = BigInt(CR4_MCE | CR4_VMXE | CR4_SMXE);
  return {
    cr0Mask: ((cr0.one | (ALL & ~cr0.allowed)) & ~BigInt(CR0_PG)) | always0 | CR0_IGNORED | HIGH_HALF,
    cr0Shadow: cr0.one | BigInt(CR0_PE | CR0_NE),
    cr4Mask: cr4.one | (ALL & ~cr4.allowed) | always4 | forbiddenCr4(config),
    cr4Shadow: (cr4.one & ~BigInt(CR4_VMXE)) | BigInt(CR4_MCE),
  };
}

/** What an intercepted write comes to: a new value, #GP(0), or #VE because a TD may not have what is legal otherwise. */
export type CrWrite =
  | { readonly kind: 'value'; readonly value: bigint }
  | { readonly kind: 'gp' }
  | { readonly kind: 've' };

const GP: CrWrite = { kind: 'gp' };
const VE: CrWrite = { kind: 've' };
const violates = (value: bigint, { one, allowed }: Fixed, exempt: number): boolean =>
  (~value & one & ~BigInt(exempt >>> 0)) !== 0n || (value & ~allowed) !== 0n;

/** MOV to CR0. @param cr0 the TD's value now */
export function writeCr0(p: Processor, value: bigint, cr0: bigint, cr4: bigint): CrWrite {
  if (violates(value, fixed(p, VMX_CR0_FIXED0), CR0_PE | CR0_PG)) return GP;
  const has = (bit: number): boolean => (value & BigInt(bit >>> 0)) !== 0n;
  if (has(CR0_PG) && !has(CR0_PE)) return GP;
  if (cr4 & CR4_CET && !has(CR0_WP)) return GP;
  if (!has(CR0_PE) || !has(CR0_NE) || has(CR0_NW) || has(CR0_CD)) return VE;
  return { kind: 'value', value: (value & ~CR0_IGNORED) | (cr0 & CR0_IGNORED) };
}

/** MOV to CR4: every value that a TD may have is written without an exit, so it is one fault or the other. */
export function writeCr4(p: Processor, value: bigint, cr0: bigint, config: CrConfig): CrWrite {
  if (violates(value, fixed(p, VMX_CR4_FIXED0), CR4_VMXE)) return GP;
  if (value & forbiddenCr4(config)) return GP;
  return value & CR4_CET && !(cr0 & BigInt(CR0_WP)) ? GP : VE;
}

/** Bits of CR0 that LMSW changes in a TD: MP, EM, TS. */
const LMSW_BITS = 0xen;

/** LMSW: CR0 after it. PE is 1 in a TD and stays so. @param source the 16-bit operand */
export const afterLmsw = (cr0: bigint, source: number): bigint => (cr0 & ~LMSW_BITS) | (BigInt(source) & LMSW_BITS);

/** Whether a TD may have this XCR0. */
export const xcr0Allowed = (value: bigint, xfam: bigint): boolean => isXcr0(value) && (value & ~xfam) === 0n;

/** Whether a TD may have this IA32_XSS. */
export const xssAllowed = (value: bigint, xfam: bigint): boolean => (value & ~(SUPPORTED_XSS & xfam)) === 0n;
