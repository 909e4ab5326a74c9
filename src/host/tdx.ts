/**
 * The host's side of TDX: bringing up the TDX module. Its state outlives KVM, so that a second load finds it as it is.
 *
 * @upstream arch/x86/virt/vmx/tdx/tdx.c
 */
import { readMsr } from '../machine/msr/msr.ts';
import type { Cpus } from './cpus.ts';
import { ENODEV, type Errno } from './errno.ts';

/** IA32_MKTME_KEYID_PARTITIONING: number of MKTME KeyIDs in 31:0, of TDX KeyIDs in 63:32. */
const MSR_IA32_MKTME_KEYID_PARTITIONING = 0x87;

/** Whether TDX can be used, and why not. */
export interface TdxStatus {
  /** 0, or the negative errno of the bring-up. */
  readonly result: Errno;
  readonly reason: string;
}

/** The TDX module as the host knows it. */
export class TdxHost {
  readonly #cpus: Cpus;
  #status: TdxStatus | null = null;

  constructor(cpus: Cpus) {
    this.#cpus = cpus;
  }

  /** Number of private KeyIDs of the machine; 0 where it has no TDX. */
  get privateKeyIds(): number {
    const value = readMsr(this.#cpus.current.processor, MSR_IA32_MKTME_KEYID_PARTITIONING);
    return value === undefined ? 0 : Number(value >> 32n);
  }

  /**
   * Initialises the TDX module; every online CPU must be in VMX operation. −ENODEV without TDX or without a module.
   * The outcome is remembered: the module cannot be initialised twice.
   *
   * @upstream tdx_enable()
   */
  enable(): TdxStatus {
    this.#status ??= this.#bringUp();
    return this.#status;
  }

  #bringUp(): TdxStatus {
    // The first private KeyID is the module's own, so one alone leaves none for guests.
    if (this.privateKeyIds < 2) return { result: -ENODEV, reason: 'the machine has no TDX KeyIDs' };
    // SEAMCALL without a module loaded is VMfailInvalid, which the init path maps to −ENODEV.
    return { result: -ENODEV, reason: 'no TDX module' };
  }
}
