/**
 * What VT-x offers, as KVM uses it: the VMCS configuration computed from the capability MSRs.
 *
 * @upstream arch/x86/kvm/vmx/capabilities.h, vmx.c setup_vmcs_config()
 */
import { EIO, type Errno } from '../../../host/errno.ts';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN, PRIMARY, SECONDARY, TERTIARY } from '../../../machine/vtx/controls.ts';
import { high32, low32 } from '../../../util/dwords.ts';

const MSR_IA32_VMX_BASIC = 0x480;
const MSR_IA32_VMX_PINBASED_CTLS = 0x481;
const MSR_IA32_VMX_PROCBASED_CTLS = 0x482;
const MSR_IA32_VMX_EXIT_CTLS = 0x483;
const MSR_IA32_VMX_ENTRY_CTLS = 0x484;
const MSR_IA32_VMX_MISC = 0x485;
const MSR_IA32_VMX_PROCBASED_CTLS2 = 0x48b;
const MSR_IA32_VMX_EPT_VPID_CAP = 0x48c;
const MSR_IA32_VMX_PROCBASED_CTLS3 = 0x492;

/** The controls KVM will use on every CPU. @upstream struct vmcs_config, struct vmx_capability */
export interface VmcsConfig {
  readonly revisionId: number;
  readonly size: number;
  readonly pinBased: number;
  readonly cpuBased: number;
  readonly secondary: number;
  readonly tertiary: number;
  readonly vmexit: number;
  readonly vmentry: number;
  readonly misc: number;
  readonly ept: number;
  readonly vpid: number;
}

/** Reads an MSR of the CPU that is asked; undefined for #GP. */
export type ReadMsr = (index: number) => bigint | undefined;

const REQUIRED_PIN: number = PIN.EXTERNAL_INTERRUPT_EXITING | PIN.NMI_EXITING;
const OPTIONAL_PIN: number = PIN.VIRTUAL_NMIS | PIN.PREEMPTION_TIMER | PIN.POSTED_INTERRUPTS;
const REQUIRED_CPU: number =
  PRIMARY.INTERRUPT_WINDOW |
  PRIMARY.TSC_OFFSETTING |
  PRIMARY.HLT |
  PRIMARY.INVLPG |
  PRIMARY.MWAIT |
  PRIMARY.RDPMC |
  PRIMARY.CR3_LOAD |
  PRIMARY.CR3_STORE |
  PRIMARY.CR8_LOAD |
  PRIMARY.CR8_STORE |
  PRIMARY.MOV_DR |
  PRIMARY.UNCONDITIONAL_IO |
  PRIMARY.MONITOR;
const OPTIONAL_CPU: number =
  PRIMARY.RDTSC |
  PRIMARY.TPR_SHADOW |
  PRIMARY.NMI_WINDOW |
  PRIMARY.IO_BITMAPS |
  PRIMARY.MONITOR_TRAP_FLAG |
  PRIMARY.MSR_BITMAPS |
  PRIMARY.PAUSE |
  PRIMARY.SECONDARY |
  PRIMARY.TERTIARY;
const OPTIONAL_SECONDARY: number =
  SECONDARY.VIRTUALIZE_APIC_ACCESSES |
  SECONDARY.VIRTUALIZE_X2APIC |
  SECONDARY.APIC_REGISTER_VIRTUALIZATION |
  SECONDARY.VIRTUAL_INTERRUPT_DELIVERY |
  SECONDARY.EPT |
  SECONDARY.DESCRIPTOR_TABLE |
  SECONDARY.RDTSCP |
  SECONDARY.VPID |
  SECONDARY.WBINVD |
  SECONDARY.UNRESTRICTED_GUEST |
  SECONDARY.PAUSE_LOOP |
  SECONDARY.RDRAND |
  SECONDARY.INVPCID |
  SECONDARY.RDSEED |
  SECONDARY.XSAVES |
  SECONDARY.TSC_SCALING;
const OPTIONAL_TERTIARY: number = TERTIARY.IPI_VIRTUALIZATION;
const REQUIRED_EXIT: number = EXIT_CONTROL.SAVE_DEBUG | EXIT_CONTROL.HOST_64 | EXIT_CONTROL.ACKNOWLEDGE_INTERRUPT;
const OPTIONAL_EXIT: number =
  EXIT_CONTROL.SAVE_PAT |
  EXIT_CONTROL.LOAD_PAT |
  EXIT_CONTROL.SAVE_EFER |
  EXIT_CONTROL.LOAD_EFER |
  EXIT_CONTROL.SAVE_PREEMPTION_TIMER;
const REQUIRED_ENTRY: number = ENTRY_CONTROL.LOAD_DEBUG | ENTRY_CONTROL.IA32E_GUEST;
const OPTIONAL_ENTRY: number = ENTRY_CONTROL.LOAD_PAT | ENTRY_CONTROL.LOAD_EFER;

/** Required and optional bits against a control MSR; undefined if a required bit is missing. @upstream adjust_vmx_controls() */
function adjustVmxControls(required: number, optional: number, msr: bigint | undefined): number | undefined {
  if (msr === undefined) return undefined;
  // Bits the MSR's low half has must be 1, bits its high half lacks must be 0.
  const controls = (((required | optional) & high32(msr)) | low32(msr)) >>> 0;
  return (required & ~controls) !== 0 ? undefined : controls;
}

const EPT_PAGE_WALK_4 = 1 << 6;
const EPT_WB = 1 << 14;
const EPT_2M = 1 << 16;
const EPT_INVEPT = 1 << 20;
const EPT_AD = 1 << 21;
const EPT_INVEPT_CONTEXT = 1 << 25;
const EPT_INVEPT_GLOBAL = 1 << 26;
const VPID_INVVPID = 1;
const VPID_ADDR = 1 << 8;
const VPID_SINGLE = 1 << 9;

/** The configuration of one CPU, or −EIO if it lacks something that KVM needs. */
export function setupVmcsConfig(read: ReadMsr): VmcsConfig | Errno {
  const basic = read(MSR_IA32_VMX_BASIC);
  if (basic === undefined) return -EIO;
  let cpuBased = adjustVmxControls(REQUIRED_CPU, OPTIONAL_CPU, read(MSR_IA32_VMX_PROCBASED_CTLS));
  if (cpuBased === undefined) return -EIO;
  if (cpuBased & PRIMARY.TPR_SHADOW) cpuBased &= ~(PRIMARY.CR8_LOAD | PRIMARY.CR8_STORE);
  let secondary = 0;
  if (cpuBased & PRIMARY.SECONDARY) {
    const adjusted = adjustVmxControls(0, OPTIONAL_SECONDARY, read(MSR_IA32_VMX_PROCBASED_CTLS2));
    if (adjusted === undefined) return -EIO;
    secondary = adjusted;
  }
  // A 64-bit word of which all bits may be 0.
  const tertiary =
    cpuBased & PRIMARY.TERTIARY ? OPTIONAL_TERTIARY & low32(read(MSR_IA32_VMX_PROCBASED_CTLS3) ?? 0n) : 0;
  if (!(cpuBased & PRIMARY.TPR_SHADOW))
    secondary &= ~(
      SECONDARY.APIC_REGISTER_VIRTUALIZATION |
      SECONDARY.VIRTUALIZE_X2APIC |
      SECONDARY.VIRTUAL_INTERRUPT_DELIVERY
    );
  const eptVpid = read(MSR_IA32_VMX_EPT_VPID_CAP) ?? 0n;
  const ept = secondary & SECONDARY.EPT ? low32(eptVpid) : 0;
  const vpid = secondary & SECONDARY.VPID ? high32(eptVpid) : 0;
  if (secondary & SECONDARY.EPT)
    // With EPT the guest's page tables are its own business.
    cpuBased &= ~(PRIMARY.CR3_LOAD | PRIMARY.CR3_STORE | PRIMARY.INVLPG);
  let pinBased = adjustVmxControls(REQUIRED_PIN, OPTIONAL_PIN, read(MSR_IA32_VMX_PINBASED_CTLS));
  const vmexit = adjustVmxControls(REQUIRED_EXIT, OPTIONAL_EXIT, read(MSR_IA32_VMX_EXIT_CTLS));
  const vmentry = adjustVmxControls(REQUIRED_ENTRY, OPTIONAL_ENTRY, read(MSR_IA32_VMX_ENTRY_CTLS));
  if (pinBased === undefined || vmexit === undefined || vmentry === undefined) return -EIO;
  if (!(secondary & SECONDARY.VIRTUAL_INTERRUPT_DELIVERY)) pinBased &= ~PIN.POSTED_INTERRUPTS;
  const size = high32(basic) & 0x1fff;
  const writeBack = (high32(basic) >>> 18) & 15;
  if (size > 4096 || basic & (1n << 48n) || writeBack !== 6) return -EIO;
  return {
    revisionId: low32(basic) & 0x7fff_ffff,
    size,
    pinBased: pinBased >>> 0,
    cpuBased: cpuBased >>> 0,
    secondary: secondary >>> 0,
    tertiary,
    vmexit,
    vmentry,
    misc: low32(read(MSR_IA32_VMX_MISC) ?? 0n),
    ept,
    vpid,
  };
}

/** Whether two CPUs offer the same. */
export const sameVmcsConfig = (a: VmcsConfig, b: VmcsConfig): boolean =>
  (Object.keys(a) as (keyof VmcsConfig)[]).every((key) => a[key] === b[key]);

/** EPT can be used: 4-level walk, write-back paging structures, 2 MiB pages, INVEPT for one context and for all. */
export const cpuHasVmxEpt = (config: VmcsConfig): boolean =>
  (config.secondary & SECONDARY.EPT) !== 0 &&
  [EPT_PAGE_WALK_4, EPT_WB, EPT_2M, EPT_INVEPT, EPT_INVEPT_CONTEXT, EPT_INVEPT_GLOBAL].every((bit) => config.ept & bit);
export const cpuHasVmxEptAdBits = (config: VmcsConfig): boolean => (config.ept & EPT_AD) !== 0;
/** VPIDs can be used: INVVPID for one address and for one context. */
export const cpuHasVmxVpid = (config: VmcsConfig): boolean =>
  (config.secondary & SECONDARY.VPID) !== 0 && [VPID_INVVPID, VPID_ADDR, VPID_SINGLE].every((bit) => config.vpid & bit);
export const cpuHasVmxUnrestrictedGuest = (config: VmcsConfig): boolean =>
  (config.secondary & SECONDARY.UNRESTRICTED_GUEST) !== 0;
export const cpuHasVmxTprShadow = (config: VmcsConfig): boolean => (config.cpuBased & PRIMARY.TPR_SHADOW) !== 0;
export const cpuHasVmxMsrBitmap = (config: VmcsConfig): boolean => (config.cpuBased & PRIMARY.MSR_BITMAPS) !== 0;
/** The page of APIC accesses can be virtualized. @upstream cpu_has_vmx_flexpriority() */
export const cpuHasVmxFlexpriority = (config: VmcsConfig): boolean =>
  cpuHasVmxTprShadow(config) && (config.secondary & SECONDARY.VIRTUALIZE_APIC_ACCESSES) !== 0;
const APICV: number =
  SECONDARY.VIRTUALIZE_X2APIC | SECONDARY.APIC_REGISTER_VIRTUALIZATION | SECONDARY.VIRTUAL_INTERRUPT_DELIVERY;
/** Everything of APIC virtualization is there. @upstream cpu_has_vmx_apicv() */
export const cpuHasVmxApicv = (config: VmcsConfig): boolean =>
  cpuHasVmxTprShadow(config) && (config.secondary & APICV) === APICV && (config.pinBased & PIN.POSTED_INTERRUPTS) !== 0;
/** @upstream cpu_has_vmx_ipiv() */
export const cpuHasVmxIpiv = (config: VmcsConfig): boolean => (config.tertiary & TERTIARY.IPI_VIRTUALIZATION) !== 0;
export const cpuHasVmxPle = (config: VmcsConfig): boolean => (config.secondary & SECONDARY.PAUSE_LOOP) !== 0;
