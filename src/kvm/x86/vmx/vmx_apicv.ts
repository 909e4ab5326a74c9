/**
 * APIC virtualization of VMs: controls and MSR bitmap by the mode of the local APIC, posted interrupts, and the interrupt
 * status in the VMCS.
 *
 * The local APIC's register page is the virtual-APIC page, so what the guest's processor does to it needs no copying.
 *
 * @upstream arch/x86/kvm/vmx/vmx.c
 */
import { ENOMEM, type Errno } from '../../../host/errno.ts';
import { PAGE_OWNER } from '../../../host/pages.ts';
import { PIN, PRIMARY, SECONDARY, TERTIARY } from '../../../machine/vtx/controls.ts';
import { PAGE_SIZE } from '../../../util/address.ts';
import { trace } from '../../../util/trace.ts';
import { kvmMakeRequest, kvmVcpuKick } from '../../virt/kvm_host.ts';
import { KVM_MAX_VCPU_IDS } from '../../virt/vcpu.ts';
import { APICV_INHIBIT_REASON, kvmVcpuApicvActive } from '../apicv.ts';
import { kvmEmulateInstruction } from '../emulate.ts';
import { irqchipInKernel } from '../irqchip_mode.ts';
import {
  KVM_REQ_APIC_PAGE_RELOAD,
  KVM_REQ_EVENT,
  KVM_REQ_TLB_FLUSH_CURRENT,
  type X86Vcpu,
  type X86Vm,
} from '../kvm_host.ts';
import { kvmApicSetEoiAccelerated, kvmApicWriteNodecode, kvmLapicSetEoi } from '../lapic.ts';
import { kvmSkipEmulatedInstruction } from '../skip.ts';
import { piClearOn, piTestOn, vmxDeliverPostedInterruptCommon } from './posted_intr.ts';
import { controlsGet, controlsSet, toVmx, type VcpuVmx, vmxGetExitQual } from './vcpu_vmx.ts';
import {
  APIC_ACCESS_ADDR,
  EOI_EXIT_BITMAP0,
  GUEST_INTR_STATUS,
  LAST_PID_POINTER_INDEX,
  PID_POINTER_TABLE,
  PIN_BASED_VM_EXEC_CONTROL,
  SECONDARY_VM_EXEC_CONTROL,
  TERTIARY_VM_EXEC_CONTROL,
  vmcsRead32,
  vmcsWrite,
} from './vmcs.ts';
import type { VmxHardware } from './vmx_hardware.ts';
import { setIntercept } from './vmx_msr.ts';

/** What keeps a VM from APIC virtualization with this backend; ends of interrupts can exit, so the timer does not. @upstream VMX_REQUIRED_APICV_INHIBITS */
export const VMX_REQUIRED_APICV_INHIBITS: number = [
  APICV_INHIBIT_REASON.disabled,
  APICV_INHIBIT_REASON.absent,
  APICV_INHIBIT_REASON.hyperv,
  APICV_INHIBIT_REASON.blockirq,
  APICV_INHIBIT_REASON.physicalIdAliased,
  APICV_INHIBIT_REASON.apicIdModified,
  APICV_INHIBIT_REASON.apicBaseModified,
].reduce<number>((bits, reason) => bits | (1 << reason), 0);

/** Secondary controls that follow the mode of the local APIC. */
export const APIC_MODE_CONTROLS: number = SECONDARY.VIRTUALIZE_APIC_ACCESSES | SECONDARY.VIRTUALIZE_X2APIC;
/** Those that follow whether APIC virtualization is active. */
export const APICV_CONTROLS: number = SECONDARY.APIC_REGISTER_VIRTUALIZATION | SECONDARY.VIRTUAL_INTERRUPT_DELIVERY;

const X2APIC_FIRST = 0x800;
const X2APIC_REGISTERS = 0x40;
const X2APIC_TPR = 0x808;
const X2APIC_EOI = 0x80b;
const X2APIC_TMCCT = 0x839;
const X2APIC_ICR = 0x830;
const X2APIC_SELF_IPI = 0x83f;
const PID_TABLE_ENTRY_VALID = 1n;
const PID_TABLE_ENTRY_BYTES = 8;

/** @upstream vmx_pin_based_exec_ctrl() */
export function vmxPinBasedExecCtrl(vcpu: X86Vcpu): number {
  const pin = toVmx(vcpu).hw.config.pinBased & ~PIN.PREEMPTION_TIMER;
  return kvmVcpuApicvActive(vcpu) ? pin : pin & ~PIN.POSTED_INTERRUPTS;
}

// ------------------------------------------------------------------ interrupts between vCPUs

const pidTableOrder = (kvm: X86Vm): number => {
  const pages = Math.ceil(((kvm.arch.maxVcpuIds || KVM_MAX_VCPU_IDS) * PID_TABLE_ENTRY_BYTES) / PAGE_SIZE);
  return Math.ceil(Math.log2(pages));
};

/** The table of the VM, before its first vCPU. @upstream vmx_alloc_ipiv_pid_table() */
export function vmxAllocIpivPidTable(hw: VmxHardware, kvm: X86Vm): Errno {
  if (!hw.enableIpiv || !irqchipInKernel(kvm) || kvm.arch.pidTable >= 0) return 0;
  const table = hw.host.pages.alloc(PAGE_OWNER.kernel, pidTableOrder(kvm));
  if (table === undefined) return -ENOMEM;
  kvm.arch.pidTable = table;
  return 0;
}
/** @upstream vmx_vm_destroy() */
export function vmxVmDestroy(kvm: X86Vm): void {
  if (kvm.arch.pidTable >= 0) kvm.host.pages.free(kvm.arch.pidTable, pidTableOrder(kvm));
  kvm.arch.pidTable = -1;
}

/** Says where interrupts for the vCPU are posted, or (`present` false) that it is gone. */
export function vmxSetPidTableEntry(vcpu: X86Vcpu, present: boolean): void {
  const vmx = toVmx(vcpu);
  const { pidTable } = vcpu.kvm.arch;
  if (pidTable < 0 || vmx.piDesc === null) return;
  const entry = present ? BigInt(vmx.piDesc.hpa) | PID_TABLE_ENTRY_VALID : 0n;
  vmx.hw.host.machine.memory.write64(pidTable + vcpu.vcpuId * PID_TABLE_ENTRY_BYTES, entry);
  vmx.usesIpiv = present;
}

/** The table and its end. */
export function vmxWritePidTable(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  if (!vmx.usesIpiv) return;
  vmcsWrite(vmx.v, PID_POINTER_TABLE, vcpu.kvm.arch.pidTable);
  vmcsWrite(vmx.v, LAST_PID_POINTER_INDEX, (vcpu.kvm.arch.maxVcpuIds || KVM_MAX_VCPU_IDS) - 1);
}

/** @upstream vmx_tertiary_exec_control() */
export function vmxSetTertiaryExecControl(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  if (!(vmx.hw.config.cpuBased & PRIMARY.TERTIARY)) return;
  const on = vmx.usesIpiv && kvmVcpuApicvActive(vcpu);
  controlsSet(vmx, TERTIARY_VM_EXEC_CONTROL, on ? TERTIARY.IPI_VIRTUALIZATION : 0);
}

/** x2APIC registers that the guest reaches without an exit, by the controls. @upstream vmx_update_msr_bitmap_x2apic() */
export function vmxUpdateMsrBitmapX2apic(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  const { apic } = vcpu.arch;
  if (apic === null) return;
  const x2apic = (controlsGet(vmx, SECONDARY_VM_EXEC_CONTROL) & SECONDARY.VIRTUALIZE_X2APIC) !== 0;
  const apicv = x2apic && kvmVcpuApicvActive(vcpu);
  for (let index = X2APIC_FIRST; index < X2APIC_FIRST + X2APIC_REGISTERS; index++) {
    // The timer's count is computed when it is asked for.
    setIntercept(vmx, index, false, !(apicv && index !== X2APIC_TMCCT && apic.isMsrReadable(index)));
    setIntercept(vmx, index, true, true);
  }
  setIntercept(vmx, X2APIC_TPR, false, !x2apic);
  setIntercept(vmx, X2APIC_TPR, true, !x2apic);
  setIntercept(vmx, X2APIC_EOI, true, !apicv);
  setIntercept(vmx, X2APIC_SELF_IPI, true, !apicv);
  setIntercept(vmx, X2APIC_ICR, true, !(apicv && vmx.usesIpiv));
}

/** @upstream vmx_set_virtual_apic_mode() */
export function vmxSetVirtualApicMode(vcpu: X86Vcpu): void {
  const { apic } = vcpu.arch;
  if (apic === null) return;
  const vmx = toVmx(vcpu);
  const { secondary } = vmx.hw.config;
  let controls = controlsGet(vmx, SECONDARY_VM_EXEC_CONTROL) & ~APIC_MODE_CONTROLS;
  if (apic.mode === 'x2apic') {
    controls |= secondary & SECONDARY.VIRTUALIZE_X2APIC;
  } else if (apic.mode === 'xapic' && vcpu.kvm.arch.apicAccessPage >= 0) {
    controls |= SECONDARY.VIRTUALIZE_APIC_ACCESSES;
    // What is cached of the page may be an ordinary page's, and of the ordinary page this one's.
    kvmMakeRequest(KVM_REQ_APIC_PAGE_RELOAD, vcpu);
    kvmMakeRequest(KVM_REQ_TLB_FLUSH_CURRENT, vcpu);
  }
  controlsSet(vmx, SECONDARY_VM_EXEC_CONTROL, controls);
  vmxUpdateMsrBitmapX2apic(vcpu);
}

/** @upstream vmx_set_apic_access_page_addr() */
export function vmxSetApicAccessPageAddr(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  const page = vcpu.kvm.arch.apicAccessPage;
  if (page < 0 || !(controlsGet(vmx, SECONDARY_VM_EXEC_CONTROL) & SECONDARY.VIRTUALIZE_APIC_ACCESSES)) return;
  vmcsWrite(vmx.v, APIC_ACCESS_ADDR, page);
}

/** @upstream vmx_refresh_apicv_exec_ctrl() */
export function vmxRefreshApicvExecCtrl(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  controlsSet(vmx, PIN_BASED_VM_EXEC_CONTROL, vmxPinBasedExecCtrl(vcpu));
  const controls = controlsGet(vmx, SECONDARY_VM_EXEC_CONTROL) & ~APICV_CONTROLS;
  controlsSet(vmx, SECONDARY_VM_EXEC_CONTROL, kvmVcpuApicvActive(vcpu) ? controls | APICV_CONTROLS : controls);
  vmxSetTertiaryExecControl(vcpu);
  vmxUpdateMsrBitmapX2apic(vcpu);
}

/** @upstream vmx_load_eoi_exitmap() */
export function vmxLoadEoiExitmap(vcpu: X86Vcpu, handled: Uint32Array): void {
  if (!kvmVcpuApicvActive(vcpu)) return;
  const { v } = toVmx(vcpu);
  for (let i = 0; i < 4; i++) {
    vmcsWrite(v, EOI_EXIT_BITMAP0 + 2 * i, (BigInt(handled[2 * i + 1]!) << 32n) | BigInt(handled[2 * i]!));
  }
}

/** SVI. @upstream vmx_hwapic_isr_update() */
export function vmxHwapicIsrUpdate(vcpu: X86Vcpu, maxIsr: number): void {
  const { v } = toVmx(vcpu);
  const status = vmcsRead32(v, GUEST_INTR_STATUS);
  const now = (Math.max(maxIsr, 0) << 8) | (status & 0xff);
  if (now !== status) vmcsWrite(v, GUEST_INTR_STATUS, now);
}

/** @upstream vmx_set_rvi() */
function vmxSetRvi(vmx: VcpuVmx, vector: number): void {
  const status = vmcsRead32(vmx.v, GUEST_INTR_STATUS);
  const now = (status & 0xff00) | Math.max(vector, 0);
  if (now !== status) vmcsWrite(vmx.v, GUEST_INTR_STATUS, now);
}

/** What was posted goes to the IRR, and RVI follows. @upstream vmx_sync_pir_to_irr() */
export function vmxSyncPirToIrr(vcpu: X86Vcpu): number {
  const vmx = toVmx(vcpu);
  const { apic } = vcpu.arch;
  if (apic === null || vmx.piDesc === null) return -1;
  let maxIrr: number;
  let posted = false;
  if (piTestOn(vmx.piDesc)) {
    piClearOn(vmx.piDesc);
    maxIrr = apic.updateIrr(vmx.piDesc);
    posted = true;
  } else {
    maxIrr = apic.searchIrr();
  }
  if (apic.apicvActive) vmxSetRvi(vmx, maxIrr);
  else if (posted) kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  return maxIrr;
}

/** Posts where the hardware delivers; else the IRR has the vector already, and the vCPU looks at its APIC. @upstream vmx_deliver_interrupt() */
export function vmxDeliverInterrupt(vcpu: X86Vcpu, deliveryMode: number, trigMode: number, vector: number): void {
  const { piDesc } = vcpu.vt;
  if (piDesc !== null && kvmVcpuApicvActive(vcpu)) {
    vmxDeliverPostedInterruptCommon(vcpu, piDesc, vector);
    trace.kvm_apicv_accept_irq?.(vcpu.vcpuId, deliveryMode, trigMode !== 0, vector);
    return;
  }
  kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  kvmVcpuKick(vcpu);
}

// ------------------------------------------------------------------ exits

const APIC_ACCESS_OFFSET = 0xfffn;
const APIC_ACCESS_TYPE = 0xf000n;
const TYPE_LINEAR_APIC_INST_WRITE = 1n << 12n;
const APIC_EOI = 0xb0n;

/** @upstream handle_apic_access() */
export function handleApicAccess(vcpu: X86Vcpu): number {
  const qualification = vmxGetExitQual(vcpu);
  // What is written to the EOI register does not matter, so the instruction need not be looked at.
  if ((qualification & (APIC_ACCESS_OFFSET | APIC_ACCESS_TYPE)) === (TYPE_LINEAR_APIC_INST_WRITE | APIC_EOI)) {
    kvmLapicSetEoi(vcpu);
    return kvmSkipEmulatedInstruction(vcpu);
  }
  return kvmEmulateInstruction(vcpu);
}

/** @upstream handle_apic_eoi_induced() */
export function handleApicEoiInduced(vcpu: X86Vcpu): number {
  // A trap: the instruction is complete.
  kvmApicSetEoiAccelerated(vcpu, Number(vmxGetExitQual(vcpu) & 0xffn));
  return 1;
}

/** @upstream handle_apic_write() */
export function handleApicWrite(vcpu: X86Vcpu): number {
  // A trap: the register has its value, the instruction is complete.
  kvmApicWriteNodecode(vcpu, Number(vmxGetExitQual(vcpu) & 0xff0n));
  return 1;
}
