/**
 * What main.ts calls of each backend beside the operations that it wraps: coming up and going down with the module.
 *
 * @upstream arch/x86/kvm/vmx/x86_ops.h
 */
import type { Errno } from '../../../host/errno.ts';
import type { Host } from '../../../host/host.ts';

/** Parameters of the module that concern its backends. */
export interface VmxModuleParameters {
  /** Default true: APIC virtualization and posted interrupts where the processors have them. @upstream enable_apicv */
  readonly enableApicv?: boolean;
  /** Default true: interrupts between vCPUs are sent by the hardware. Needs enableApicv. @upstream enable_ipiv */
  readonly enableIpiv?: boolean;
  /** Default true: the TDX module is initialised where there is one. @upstream enable_tdx, the parameter `tdx` */
  readonly tdx?: boolean;
}

/** The VMX backend. */
export interface VmxBackend {
  /** (*): everything that enabling hardware depends on. */
  vmxInitEarly(host: Host, parameters: VmxModuleParameters): Errno;
  vmxExit(host: Host): void;
  vmxHardwareSetup(host: Host): Errno;
  vmxHardwareUnsetup(host: Host): void;
}

/** The TDX backend. */
export interface TdxBackend {
  /** Initialises the TDX module, with VMX on on every CPU, unless VMX is `lacking` something. */
  tdxBringup(host: Host, lacking: string | null): Errno;
  tdxCleanup(host: Host): void;
}
