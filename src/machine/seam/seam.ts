/**
 * Secure-arbitration mode of the machine: its KeyIDs, its reserved memory range, and the module that SEAMCALL enters.
 *
 * The module is firmware: the machine runs it as TypeScript, to completion, on the processor that executed SEAMCALL.
 */
import type { Hpa } from '../../util/address.ts';
import type { Processor } from '../processor.ts';
import type { ProfileName } from '../profiles.ts';
import { MAX_PRIVATE_KEY_IDS, MKTME_KEY_IDS } from './key-id.ts';

/** What SEAMCALL enters: the TDX module. */
export interface SeamFirmware {
  /** Runs one SEAMCALL to completion: leaf and operands are in the processor's GPRs, results go there (RAX: status). */
  seamcall(p: Processor): void;
}

/** TDX of a machine, as firmware has set it up. */
export interface TdxOptions {
  /** KeyIDs for the module and for TDs, 0 to 32. */
  readonly privateKeyIds?: number;
}

/** SEAMRR lies above every address that RAM can have, so outside every convertible memory range. */
export const SEAMRR_BASE: Hpa = 0x20_0000_0000;
export const SEAMRR_SIZE = 0x200_0000;

export class Seam {
  /** The processors have SEAM and their firmware has enabled it. */
  readonly enabled: boolean;
  readonly mktmeKeyIds: number;
  readonly privateKeyIds: number;
  #firmware: SeamFirmware | null = null;

  constructor(profile: ProfileName, { privateKeyIds = MAX_PRIVATE_KEY_IDS }: TdxOptions = {}) {
    if (!(Number.isInteger(privateKeyIds) && privateKeyIds >= 0 && privateKeyIds <= MAX_PRIVATE_KEY_IDS))
      throw new RangeError(`a machine has 0 to ${MAX_PRIVATE_KEY_IDS} private KeyIDs, not ${privateKeyIds}`);
    this.enabled = profile === 'tdx-host';
    this.mktmeKeyIds = this.enabled ? MKTME_KEY_IDS : 0;
    this.privateKeyIds = this.enabled ? privateKeyIds : 0;
  }

  /** The loaded module, or null. */
  get firmware(): SeamFirmware | null {
    return this.#firmware;
  }

  /** Loads a module, as the boot loader of SEAM does before the operating system runs. */
  install(firmware: SeamFirmware): void {
    if (!this.enabled) throw new Error('this machine has no SEAM');
    this.#firmware = firmware;
  }
}
