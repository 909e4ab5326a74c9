/**
 * The module's own life: from loading to ready.
 *
 * @tdx "TDX Module Lifecycle: Enumeration, Initialization and Shutdown"
 */
import type { PlatformSample } from './platform-checks.ts';

export const SYS_STATE = {
  SYSINIT_PENDING: 0,
  SYSINIT_DONE: 1,
  SYSCONFIG_DONE: 2,
  SYS_READY: 3,
  SYS_SHUTDOWN: 4,
} as const;
export type SysState = (typeof SYS_STATE)[keyof typeof SYS_STATE];

/** Which bits of a CPUID leaf the host configures for a TD. */
export interface CpuidConfig {
  /** Leaf in 31:0, subleaf in 63:32. */
  readonly leaf: bigint;
  /** EAX and EBX, ECX and EDX. */
  readonly values: readonly [bigint, bigint];
}

export class SystemState {
  state: SysState = SYS_STATE.SYSINIT_PENDING;
  /** Indices of logical processors that ran TDH.SYS.LP.INIT. */
  readonly lps: Set<number> = new Set();
  /** Packages on which the global key is configured, one bit each. */
  keyConfigured = 0n;
  /** In the order of TD_PARAMS; null until somebody asks. */
  cpuidConfig: readonly CpuidConfig[] | null = null;
  /** The platform as TDH.SYS.INIT found it. */
  sample: PlatformSample = { tscAdjust: 0n, msrs: new Map(), cpuid: [] };

  /** IA32_TSC_ADJUST that every logical processor must have. */
  get tscAdjust(): bigint {
    return this.sample.tscAdjust;
  }
}
