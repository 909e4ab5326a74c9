/**
 * IA32_APIC_BASE: the local APIC's three modes and which may follow which.
 *
 * ```
 * EN EXTD   11 enabled  10 x2APIC  8 bootstrap processor  MAXPHYADDR-1:12 page of the registers
 * 0  0  disabled     0  1  invalid     1  0  xAPIC     1  1  x2APIC
 * ```
 *
 * Reference: Intel SDM volume 3, "Local APIC Status and Location" and "x2APIC State Transitions".
 */

/** What IA32_APIC_BASE makes of a local APIC. */
export type ApicMode = 'disabled' | 'xapic' | 'x2apic';

/** Physical address of the register page after power-on. */
export const APIC_DEFAULT_BASE = 0xfee0_0000;

const BOOTSTRAP = 1n << 8n;
const EXTENDED = 1n << 10n;
const ENABLED = 1n << 11n;

/** What decides which values may be written. */
export interface ApicBaseOptions {
  readonly bootstrap: boolean;
  readonly x2apic: boolean;
  /** x2APIC mode cannot be left. */
  readonly locked: boolean;
  readonly physicalAddressBits: number;
}

/** The rules of one local APIC's base register, and its present mode. */
export class ApicBase {
  mode: ApicMode = 'xapic';
  readonly #options: ApicBaseOptions;
  readonly #reserved: bigint;

  constructor(options: ApicBaseOptions) {
    this.#options = options;
    const beyond = ~((1n << BigInt(options.physicalAddressBits)) - 1n);
    this.#reserved = beyond | 0x2ffn | (options.x2apic ? 0n : EXTENDED);
  }

  /** The register after power-on. */
  get resetValue(): bigint {
    return BigInt(APIC_DEFAULT_BASE) | ENABLED | (this.#options.bootstrap ? BOOTSTRAP : 0n);
  }

  /** Mode that a legal value means. */
  modeOf(value: bigint): ApicMode {
    if (!(value & ENABLED)) return 'disabled';
    return value & EXTENDED ? 'x2apic' : 'xapic';
  }

  /** Mode that follows when `value` is written in mode `from`; undefined for what must not be written. */
  transition(from: ApicMode, value: bigint): ApicMode | undefined {
    if (value & this.#reserved || value >> 64n) return undefined;
    if (value & EXTENDED && !(value & ENABLED)) return undefined;
    const to = this.modeOf(value);
    // x2APIC is entered from xAPIC only, and left to disabled only.
    if (to === 'x2apic' && from === 'disabled') return undefined;
    if (from === 'x2apic' && (to === 'xapic' || (to !== 'x2apic' && this.#options.locked))) {
      return undefined;
    }
    return to;
  }
}
