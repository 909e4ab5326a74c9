/**
 * Posting interrupts to vCPUs: VMs with APIC virtualization, and TDs, which get interrupts in no other way.
 *
 * A vector goes into the descriptor's PIR. A processor that runs the vCPU is notified and takes it without an exit; a
 * vCPU that waits is woken and takes it at its next entry.
 *
 * @upstream arch/x86/kvm/vmx/posted_intr.c, vmx/common.h
 */
import type { Cpu } from '../../../host/cpus.ts';
import type { Host } from '../../../host/host.ts';
import { POSTED_INTR_VECTOR, POSTED_INTR_WAKEUP_VECTOR } from '../../../host/vectors.ts';
import { IN_GUEST_MODE, kvmVcpuWakeUp } from '../../virt/kvm_host.ts';
import { enableApicv } from '../apicv.ts';
import { lapicInKernel } from '../irqchip_mode.ts';
import { KVM_MP_STATE_HALTED, type X86Vcpu, type X86Vm } from '../kvm_host.ts';
import {
  type PiDesc,
  piClearOn,
  piClearPir,
  piClearSn,
  piIsPirEmpty,
  piSetOn,
  piSetSn,
  piTestAndClearSn,
  piTestAndSetOn,
  piTestAndSetPir,
  piTestOn,
  piTestSn,
} from './pi_desc.ts';

export {
  PiDesc,
  piClearOn,
  piIsPirEmpty,
  piSetPir,
  piSetSn,
  piTestAndSetOn,
  piTestAndSetPir,
  piTestOn,
  piTestPir,
  piTestSn,
  vtPiDescAlloc,
  vtPiDescFree,
} from './pi_desc.ts';

/** vCPUs that wait for an interrupt on each CPU. @upstream wakeup_vcpus_on_cpu */
const wakeupVcpusOnCpu: WeakMap<Cpu, Set<X86Vcpu>> = new WeakMap();

/** Installs the wakeup handler and the lists of all possible CPUs. @upstream pi_init_cpu(), kvm_set_posted_intr_wakeup_handler() */
export function piInit(host: Host): void {
  for (const cpu of host.cpus.possible) wakeupVcpusOnCpu.set(cpu, new Set());
  host.interrupts.setHandler(POSTED_INTR_WAKEUP_VECTOR, piWakeupHandler);
}
/** Removes the wakeup handler. */
export function piExit(host: Host): void {
  host.interrupts.setHandler(POSTED_INTR_WAKEUP_VECTOR, () => {});
}

/** The vCPU's descriptor. @upstream vcpu_to_pi_desc() */
export function vcpuToPiDesc(vcpu: X86Vcpu): PiDesc {
  const { piDesc } = vcpu.vt;
  if (piDesc === null) throw new Error('a vCPU without a posted-interrupt descriptor');
  return piDesc;
}

/**
 * Whether something besides KVM posts to the vCPU. The ordinary notification vector does nothing outside guest mode, so
 * such a vCPU must be woken by another one.
 *
 * @upstream vmx_needs_pi_wakeup()
 */
const vmxNeedsPiWakeup = (vcpu: X86Vcpu): boolean => vcpu.vt.usesIpiv || vcpu.kvm.arch.assignedDeviceCount > 0;

/** The vCPU is on `cpu`: notifications go there. @upstream vmx_vcpu_pi_load() */
export function vmxVcpuPiLoad(vcpu: X86Vcpu, cpu: Cpu): void {
  if (!enableApicv(vcpu.kvm.host) || !lapicInKernel(vcpu)) return;
  const desc = vcpuToPiDesc(vcpu);
  const waited = desc.nv === POSTED_INTR_WAKEUP_VECTOR;
  if (!waited && vcpu.cpu === cpu) {
    // Neither vector nor destination changes; notifications may have been suppressed.
    if (!piTestAndClearSn(desc)) return;
  } else {
    if (waited && vcpu.cpu !== null) wakeupVcpusOnCpu.get(vcpu.cpu)?.delete(vcpu);
    piClearSn(desc);
    desc.ndst = cpu.processor.apic.apicId;
    desc.nv = POSTED_INTR_VECTOR;
  }
  // What was posted while notifications were suppressed has no ON yet.
  if (!piIsPirEmpty(desc)) piSetOn(desc);
}

/** @upstream pi_enable_wakeup_handler() */
function piEnableWakeupHandler(vcpu: X86Vcpu, cpu: Cpu): void {
  const desc = vcpuToPiDesc(vcpu);
  wakeupVcpusOnCpu.get(cpu)?.add(vcpu);
  desc.nv = POSTED_INTR_WAKEUP_VECTOR;
  // What was posted with the other vector notifies nobody: it does now.
  if (piTestOn(desc)) vcpu.kvm.host.interrupts.raise(cpu, POSTED_INTR_WAKEUP_VECTOR);
}

/** The vCPU leaves its CPU, perhaps to wait for an interrupt. @upstream vmx_vcpu_pi_put() */
export function vmxVcpuPiPut(vcpu: X86Vcpu): void {
  if (!vmxNeedsPiWakeup(vcpu) || vcpu.vt.piDesc === null || vcpu.cpu === null) return;
  const blocking = vcpu.arch.mpState === KVM_MP_STATE_HALTED;
  if (blocking && vcpu.kvm.ops.interruptAllowed(vcpu)) piEnableWakeupHandler(vcpu, vcpu.cpu);
  else piSetSn(vcpu.vt.piDesc);
}

/** A CPU got the wakeup vector: vCPUs that were posted to wait no longer. @upstream pi_wakeup_handler() */
export function piWakeupHandler(cpu: Cpu): void {
  for (const vcpu of wakeupVcpusOnCpu.get(cpu) ?? []) {
    if (piTestOn(vcpuToPiDesc(vcpu))) kvmVcpuWakeUp(vcpu);
  }
}

/** Whether `vcpu` is in guest mode on a processor other than the one that asks, or in the middle of the guest's code. */
function runsElsewhere(vcpu: X86Vcpu): boolean {
  const { cpu, kvm } = vcpu;
  if (cpu === null) return false;
  return kvm.module.runningVcpu[kvm.host.cpu.id] !== vcpu || cpu.processor.vtx.nonRoot;
}

/** Makes the vCPU see what was posted: by a notification while it runs, else by waking it. @upstream kvm_vcpu_trigger_posted_interrupt() */
export function kvmVcpuTriggerPostedInterrupt(vcpu: X86Vcpu, vector: number): void {
  if (vcpu.mode === IN_GUEST_MODE) {
    // On its own CPU, host code that gets here runs between two entries: the next one takes what was posted.
    if (runsElsewhere(vcpu)) vcpu.kvm.host.interrupts.raise(vcpu.cpu!, vector);
    return;
  }
  kvmVcpuWakeUp(vcpu);
}

/** Posts a vector and notifies, unless that was done already. @upstream __vmx_deliver_posted_interrupt() */
export function vmxDeliverPostedInterruptCommon(vcpu: X86Vcpu, desc: PiDesc, vector: number): void {
  if (piTestAndSetPir(vector, desc)) return;
  if (piTestAndSetOn(desc)) return;
  kvmVcpuTriggerPostedInterrupt(vcpu, POSTED_INTR_VECTOR);
}

/** Whether something is posted that the vCPU has not seen. @upstream pi_has_pending_interrupt() */
export function piHasPendingInterrupt(vcpu: X86Vcpu): boolean {
  const { piDesc } = vcpu.vt;
  return piDesc !== null && (piTestOn(piDesc) || (piTestSn(piDesc) && !piIsPirEmpty(piDesc)));
}

/** A restored APIC state replaces what was posted. @upstream pi_apicv_pre_state_restore() */
export function piApicvPreStateRestore(vcpu: X86Vcpu): void {
  const { piDesc } = vcpu.vt;
  if (piDesc === null) return;
  piClearOn(piDesc);
  piClearPir(piDesc);
}

/** A device posts to this VM's vCPUs by itself from now on. @upstream kvm_arch_start_assignment(), vmx_pi_start_assignment() */
export function kvmArchStartAssignment(kvm: X86Vm): void {
  kvm.arch.assignedDeviceCount++;
}
/** @upstream kvm_arch_end_assignment() */
export function kvmArchEndAssignment(kvm: X86Vm): void {
  kvm.arch.assignedDeviceCount--;
}
