/**
 * The host's side of TDX: whether the platform has it, the TDX module's bring-up, and KeyIDs. Its state outlives KVM, so
 * that a second load finds the module as it is.
 *
 * @upstream arch/x86/virt/vmx/tdx/tdx.c
 */
import { cpuid, hasFeature } from '../machine/cpuid/cpuid.ts';
import type { PhysicalMemory } from '../machine/memory.ts';
import { readMsr } from '../machine/msr/msr.ts';
import type { Cpu, Cpus } from './cpus.ts';
import { ENODEV } from './errno.ts';
import type { PageAllocator } from './pages.ts';
import { TdxBringUp, type TdxStatus } from './tdx-bringup.ts';
import { KeyIdAllocator } from './tdx-keyid.ts';
import type { TdxSysInfo } from './tdx-metadata.ts';

export type { TdxStatus } from './tdx-bringup.ts';

/** IA32_MKTME_KEYID_PARTITIONING: number of MKTME KeyIDs in 31:0, of TDX KeyIDs in 63:32. */
const MSR_IA32_MKTME_KEYID_PARTITIONING = 0x87;
/** What a TDX host needs of the processor besides. */
const FEATURES: readonly string[] = ['xsave', 'movdir64b', 'ss'];
const TOPOLOGY_LEAF = 0x1f;

const ENABLED: TdxStatus = { result: 0, reason: 'the TDX module is initialised' };

/** The TDX module as the host knows it. */
export class TdxHost {
  readonly #cpus: Cpus;
  readonly #bringUp: TdxBringUp;
  /** KeyIDs for TDs; none are left where the platform has fewer than two. */
  readonly keyIds: KeyIdAllocator;
  /** The module's own KeyID: the first private one. */
  readonly globalKeyId: number;
  /** Private KeyIDs of the machine; 0 where it has no TDX. */
  readonly privateKeyIds: number;
  /** What cannot be changed any more: success, or a failure after SYS.CONFIG. */
  #final: TdxStatus | null = null;

  constructor(cpus: Cpus, pages: PageAllocator, memory: PhysicalMemory) {
    this.#cpus = cpus;
    const partitioning = readMsr(cpus.current.processor, MSR_IA32_MKTME_KEYID_PARTITIONING) ?? 0n;
    this.privateKeyIds = Number(partitioning >> 32n);
    this.globalKeyId = Number(partitioning & 0xffff_ffffn) + 1;
    this.keyIds = new KeyIdAllocator(this.globalKeyId + 1, Math.max(0, this.privateKeyIds - 1));
    this.#bringUp = new TdxBringUp(cpus, pages, memory, this.globalKeyId);
  }

  /** What the initialised module says about itself, or null. @upstream tdx_get_sysinfo() */
  get sysInfo(): TdxSysInfo | null {
    return this.#bringUp.sysInfo;
  }
  /** CPUs that the module knows. */
  get initializedCpus(): ReadonlySet<Cpu> {
    return this.#bringUp.lpInitialized;
  }

  /**
   * Initialises the TDX module; every online CPU must be in VMX operation. −ENODEV without TDX or without a module.
   *
   * A failure before SYS.CONFIG may be tried again, as firmware can load a module; after it the outcome stays.
   *
   * @upstream tdx_enable()
   */
  enable(): TdxStatus {
    if (this.#final !== null) return this.#final.result === 0 ? this.#enableNewCpus() : this.#final;
    const missing = this.#missing();
    if (missing !== null) return { result: -ENODEV, reason: missing };
    const status = this.#bringUp.run(this.onePerPackage());
    if (status.result === 0) this.#final = ENABLED;
    else if (this.#bringUp.configured)
      this.#final = { result: status.result, reason: `${status.reason} (permanent until the machine is reset)` };
    return this.#final ?? status;
  }

  /** LP.INIT on the current CPU, which is in VMX operation, unless it was done. @upstream tdx_cpu_enable() */
  cpuEnable(): TdxStatus {
    return this.#bringUp.cpuEnable();
  }

  /** CPUs that came online while nobody could initialise them. */
  #enableNewCpus(): TdxStatus {
    for (const cpu of this.#cpus.online) {
      const answer: { status: TdxStatus } = { status: ENABLED };
      this.#cpus.smpCallFunctionSingle(cpu, () => {
        answer.status = this.cpuEnable();
      });
      if (answer.status.result !== 0) return answer.status;
    }
    return ENABLED;
  }

  /** What the platform lacks, or null. */
  #missing(): string | null {
    const { privateKeyIds } = this;
    if (privateKeyIds === 0) return 'the machine has no TDX KeyIDs';
    // The first private KeyID is the module's own, so one alone leaves none for guests.
    if (privateKeyIds < 2) return `too few TDX KeyIDs: ${privateKeyIds}, and the module itself needs one`;
    const feature = FEATURES.find((name) => !hasFeature(this.#cpus.current.processor, name));
    return feature === undefined ? null : `the processor lacks ${feature}`;
  }

  /** Number of the package a CPU is in. @upstream topology_physical_package_id() */
  packageOf(cpu: Cpu): number {
    let shift = 0;
    for (let level = 0; ; level++) {
      const { eax, ecx, edx } = cpuid(cpu.processor, TOPOLOGY_LEAF, level);
      if ((ecx & 0xff00) === 0) return edx >>> shift;
      shift = eax & 0x1f;
    }
  }

  /** An online CPU of each package. */
  onePerPackage(): Cpu[] {
    const found: Map<number, Cpu> = new Map();
    for (const cpu of this.#cpus.online) {
      const id = this.packageOf(cpu);
      if (!found.has(id)) found.set(id, cpu);
    }
    return [...found.values()];
  }

  /** Packages that have CPUs, online or not. */
  get packages(): ReadonlySet<number> {
    return new Set(this.#cpus.possible.map((cpu) => this.packageOf(cpu)));
  }
}
