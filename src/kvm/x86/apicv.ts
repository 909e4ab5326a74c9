/**
 * Whether KVM uses APIC virtualization: the module parameter, what keeps a VM from it, and a vCPU's change to or from it.
 *
 * @upstream arch/x86/kvm/x86.c enable_apicv, kvm_set_or_clear_apicv_inhibit(), kvm_vcpu_update_apicv()
 */
import type { Cpus } from '../../host/cpus.ts';
import { ENOMEM, type Errno } from '../../host/errno.ts';
import type { Host } from '../../host/host.ts';
import { PAGE_OWNER } from '../../host/pages.ts';
import { type Gfn, PAGE_SIZE } from '../../util/address.ts';
import { KVM_REQ_TLB_FLUSH, kvmMakeAllCpusRequest, kvmMakeRequest } from '../virt/kvm_host.ts';
import { KVM_REQ_APICV_UPDATE, KVM_REQ_EVENT, type X86Vcpu, type X86Vm } from './kvm_host.ts';

/** What keeps a VM from APIC virtualization, a bit each in `apicvInhibitReasons`. @upstream enum kvm_apicv_inhibit */
export const APICV_INHIBIT_REASON = {
  /** By the module parameter, or for want of hardware. */
  disabled: 0,
  hyperv: 1,
  /** No local APICs in the kernel. */
  absent: 2,
  /** A debugger holds interrupts back. */
  blockirq: 3,
  physicalIdAliased: 4,
  apicIdModified: 5,
  apicBaseModified: 6,
  nested: 7,
  irqwin: 8,
  /** The interval timer counts the ends of its interrupts. */
  pitReinj: 9,
} as const;
/** One of APICV_INHIBIT_REASON. */
export type ApicvInhibitReason = (typeof APICV_INHIBIT_REASON)[keyof typeof APICV_INHIBIT_REASON];

/** Guest frame of the APIC page in xAPIC mode, unless the guest moves it. */
export const APIC_DEFAULT_PHYS_BASE = 0xfee0_0000;

const enabled: WeakMap<Cpus, boolean> = new WeakMap();

/** Whether virtual-interrupt delivery and posted interrupts are in use on this host. @upstream enable_apicv */
export const enableApicv = (host: Host): boolean => enabled.get(host.cpus) ?? false;
/** Set once by hardware setup: the parameter, and what the processors offer. */
export function setEnableApicv(host: Host, on: boolean): void {
  enabled.set(host.cpus, on);
}

/** Nothing keeps the VM from APIC virtualization. @upstream kvm_apicv_activated() */
export const kvmApicvActivated = (kvm: X86Vm): boolean => kvm.arch.apicvInhibitReasons === 0;

/** The vCPU's interrupts are delivered by hardware at present. @upstream kvm_vcpu_apicv_active() */
export const kvmVcpuApicvActive = (vcpu: X86Vcpu): boolean => vcpu.arch.apic?.apicvActive ?? false;

/**
 * Gives the VM a page behind its APIC page, once. It is no memory slot: the page is there only for the processor to
 * recognize accesses by.
 *
 * @upstream kvm_alloc_apic_access_page()
 */
export function kvmAllocApicAccessPage(kvm: X86Vm): Errno {
  if (kvm.arch.apicAccessPage >= 0) return 0;
  const page = kvm.host.pages.alloc(PAGE_OWNER.kernel);
  if (page === undefined) return -ENOMEM;
  kvm.arch.apicAccessPage = page;
  return 0;
}
/** The VM goes; nothing maps the page any more. */
export function kvmFreeApicAccessPage(kvm: X86Vm): void {
  if (kvm.arch.apicAccessPage >= 0) kvm.host.pages.free(kvm.arch.apicAccessPage);
  kvm.arch.apicAccessPage = -1;
}
/** Whether a guest frame without memory is the APIC page that the processor recognizes. */
export const isApicAccessGfn = (kvm: X86Vm, gfn: Gfn): boolean =>
  kvm.arch.apicAccessPage >= 0 && gfn === APIC_DEFAULT_PHYS_BASE / PAGE_SIZE;

/** @upstream kvm_apicv_init() */
export function kvmApicvInit(kvm: X86Vm): void {
  const { absent, disabled } = APICV_INHIBIT_REASON;
  kvm.arch.apicvInhibitReasons = 1 << (enableApicv(kvm.host) ? absent : disabled);
}

/**
 * Sets or clears a reason. The first and the last make every vCPU change, and the APIC page's mapping go. Reasons that the
 * backend does not know do nothing.
 *
 * @upstream __kvm_set_or_clear_apicv_inhibit()
 */
function setOrClearApicvInhibit(kvm: X86Vm, reason: ApicvInhibitReason, set: boolean): void {
  const bit = 1 << reason;
  if ((kvm.ops.requiredApicvInhibits & bit) === 0) return;
  const { arch } = kvm;
  const old = arch.apicvInhibitReasons;
  const now = set ? old | bit : old & ~bit;
  arch.apicvInhibitReasons = now;
  if ((old === 0) === (now === 0)) return;
  kvmMakeAllCpusRequest(kvm, KVM_REQ_APICV_UPDATE);
  if (now !== 0) {
    const gfn = APIC_DEFAULT_PHYS_BASE / PAGE_SIZE;
    if (kvm.arch.tdpMmu.zap(gfn, gfn + 1)) kvmMakeAllCpusRequest(kvm, KVM_REQ_TLB_FLUSH);
  }
}
/** @upstream kvm_set_apicv_inhibit() */
export function kvmSetApicvInhibit(kvm: X86Vm, reason: ApicvInhibitReason): void {
  setOrClearApicvInhibit(kvm, reason, true);
}
/** @upstream kvm_clear_apicv_inhibit() */
export function kvmClearApicvInhibit(kvm: X86Vm, reason: ApicvInhibitReason): void {
  setOrClearApicvInhibit(kvm, reason, false);
}

/** The vCPU begins or ceases to use APIC virtualization, as its VM and the mode of its APIC demand. @upstream __kvm_vcpu_update_apicv() */
export function kvmVcpuUpdateApicv(vcpu: X86Vcpu): void {
  const { apic } = vcpu.arch;
  const { ops } = vcpu.kvm;
  if (apic === null) return;
  const activate = kvmApicvActivated(vcpu.kvm) && apic.mode !== 'disabled';
  if (apic.apicvActive === activate) return;
  // What was posted comes to the IRR, where it is looked for from now on.
  if (!activate) ops.syncPirToIrr(vcpu);
  apic.apicvActive = activate;
  apic.vectorsWritten();
  ops.hwapicIsrUpdate(vcpu, apic.highestIsr);
  ops.refreshApicvExecCtrl(vcpu);
  // Interrupts that the hardware was to deliver are injected.
  if (!activate) kvmMakeRequest(KVM_REQ_EVENT, vcpu);
}
