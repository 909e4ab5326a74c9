/**
 * MSRs of trust domains that KVM has a say in: those that the guest asks for by TDG.VP.VMCALL. All others are the module's.
 *
 * @upstream arch/x86/kvm/vmx/tdx.c tdx_has_emulated_msr(), tdx_get_msr(), tdx_set_msr()
 */
import type { X86Vcpu } from '../kvm_host.ts';
import { MSR_KVM_POLL_CONTROL } from '../kvm_para.ts';
import { kvmGetMsrCommon, kvmSetMsrCommon } from '../msr.ts';

const MSR_IA32_APICBASE = 0x1b;
const MSR_IA32_FEAT_CTL = 0x3a;
const FEAT_CTL_LOCKED = 1n;
const FEAT_CTL_LMCE_ENABLED: bigint = 1n << 20n;
const MCG_LMCE_P: bigint = 1n << 27n;
const MSR_IA32_MCG_EXT_CTL = 0x4d0;
const MSR_EFER = 0xc000_0080;

/** Single MSRs of the list. */
const ALLOWED: ReadonlySet<number> = new Set([
  0x8b, // UCODE_REV
  0x10a, // ARCH_CAPABILITIES
  0x1fc, // POWER_CTL
  0x277, // PAT
  0xfe, // MTRRcap
  0x2ff, // MTRR default type
  0x6e0, // TSC_DEADLINE
  0x1a0, // MISC_ENABLE
  0xce, // PLATFORM_INFO
  0x140, // MISC_FEATURES_ENABLES
  MSR_IA32_APICBASE,
  MSR_EFER,
  MSR_IA32_FEAT_CTL,
  0x179, // MCG_CAP
  0x17a, // MCG_STATUS
  0x17b, // MCG_CTL
  MSR_IA32_MCG_EXT_CTL,
  MSR_KVM_POLL_CONTROL,
]);
/** Ranges of it: MTRRs, machine-check banks. */
const RANGES: readonly [first: number, last: number][] = [
  [0x200, 0x20f],
  [0x250, 0x250],
  [0x258, 0x259],
  [0x268, 0x26f],
  [0x280, 0x29f],
  [0x400, 0x47f],
];
/** Fixed by the module, whatever the guest writes. */
const READ_ONLY: ReadonlySet<number> = new Set([MSR_IA32_APICBASE, MSR_EFER, MSR_IA32_FEAT_CTL]);

const X2APIC_FIRST = 0x800;
const X2APIC_LAST = 0x8ff;
/** Registers that the processor virtualises for the TD. */
const isVirtualizedX2apic = (index: number): boolean =>
  index === 0x808 || index === 0x80a || index === 0x80b || (index >= 0x810 && index <= 0x827);

/** Whether KVM answers for an MSR of a TD. */
export function tdxHasEmulatedMsr(index: number): boolean {
  if (index >= X2APIC_FIRST && index <= X2APIC_LAST) return !isVirtualizedX2apic(index);
  return ALLOWED.has(index) || RANGES.some(([first, last]) => index >= first && index <= last);
}

/** The value, or undefined where there is none. */
export function tdxGetMsr(vcpu: X86Vcpu, index: number): bigint | undefined {
  if (index === MSR_IA32_FEAT_CTL)
    // A locked register without VMX; LMCE where it is offered.
    return FEAT_CTL_LOCKED | (vcpu.arch.mcgCap & MCG_LMCE_P ? FEAT_CTL_LMCE_ENABLED : 0n);
  return tdxHasEmulatedMsr(index) ? kvmGetMsrCommon(vcpu, index) : undefined;
}

/** False where it is not allowed. */
export const tdxSetMsr = (vcpu: X86Vcpu, index: number, value: bigint, hostInitiated: boolean): boolean =>
  tdxHasEmulatedMsr(index) && !READ_ONLY.has(index) && kvmSetMsrCommon(vcpu, index, value, hostInitiated);
