/**
 * The IA32_ARCH_CAPABILITIES that a TD sees: the processor's, without what the module keeps from TDs, and with the host's
 * choice of some bits.
 *
 * @tdx "CPU Virtualization (Non-Root Mode Operation)", IA32_ARCH_CAPABILITIES; "ABI Reference: Data Types", TD_PARAMS
 */

const bits = (...numbers: number[]): bigint => numbers.reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n);

/** SSB_NO, BHI_NO, PBRSB_NO: the processor's where the host wants them. */
const ALLOWED = bits(4, 20, 24);
/** Only as the host says. */
const CHOSEN = bits(19);
/** Bits that TD_PARAMS may name. */
export const ARCH_CAPABILITIES_CONFIG_MASK: bigint = ALLOWED | CHOSEN;

/** TSX_CTRL: the processor's, in a TD with TSX. */
export const TSX_CTRL: bigint = bits(7);
/** XAPIC_DISABLE_STATUS. */
const ALWAYS = bits(21);
/** Bits with other rules, controls that are the host's, and all that are newer than the module. */
const NOT_NATIVE = ALLOWED | CHOSEN | TSX_CTRL | bits(9, 10, 11, 16, 17, 18, 22, 23) | (~0n << 25n);

/** @param config the host's bits, within ARCH_CAPABILITIES_CONFIG_MASK */
export function virtualArchCapabilities(native: bigint, config: bigint, hasTsx: boolean): bigint {
  const allowed = native & ((config & ALLOWED) | (hasTsx ? TSX_CTRL : 0n));
  return (native & ~NOT_NATIVE) | allowed | (config & CHOSEN) | ALWAYS;
}
