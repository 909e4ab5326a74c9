/**
 * KVM_RUN: entering the guest again and again until user space is wanted, as a state machine that can stop between
 * entries (its slice ends, the vCPU blocks) and go on later.
 *
 * @upstream arch/x86/kvm/x86.c kvm_arch_vcpu_ioctl_run(), vcpu_run(), vcpu_enter_guest(), vcpu_block()
 */
import { EAGAIN, EINTR, EIO, ENOMEM } from '../../host/errno.ts';
import { writePkru } from '../../machine/mmu/invalidate.ts';
import { trace } from '../../util/trace.ts';
import { RUN_BLOCK, RUN_RESCHED, type RunResult } from '../virt/arch_hooks.ts';
import {
  IN_GUEST_MODE,
  KVM_REQ_TLB_FLUSH,
  KVM_REQ_UNBLOCK,
  KVM_REQ_VM_DEAD,
  kvmCheckRequest,
  kvmMakeRequest,
  kvmTestRequest,
  OUTSIDE_GUEST_MODE,
} from '../virt/kvm_host.ts';
import { EXIT_INTR, EXIT_IRQ_WINDOW_OPEN, EXIT_SHUTDOWN } from '../virt/kvm_run.ts';
import { kvmVcpuApicvActive, kvmVcpuUpdateApicv } from './apicv.ts';
import { kvmGetCr8 } from './cr.ts';
import { kvmUpdateDr7, kvmUpdateDr0123 } from './debugregs.ts';
import { vcpuLoadEoiExitmap, vcpuScanIoapic } from './eoi_exitmap.ts';
import { kvmEventNeedsReinjection } from './event_queue.ts';
import { kvmLoadGuestFpu } from './fpu.ts';
import { kvmCheckAndInjectEvents, processNmi } from './inject.ts';
import { kvmCpuHasInterrupt } from './irq.ts';
import { irqchipInKernel, irqchipKernel, kvmApicBase, lapicInKernel } from './irqchip_mode.ts';
import { kvmReadCr4Bits } from './kvm_cache_regs.ts';
import {
  KVM_MP_STATE_HALTED,
  KVM_MP_STATE_INIT_RECEIVED,
  KVM_MP_STATE_RUNNABLE,
  KVM_MP_STATE_UNINITIALIZED,
  KVM_REQ_APIC_PAGE_RELOAD,
  KVM_REQ_APICV_UPDATE,
  KVM_REQ_CLOCK_UPDATE,
  KVM_REQ_EVENT,
  KVM_REQ_IOAPIC_EOI_EXIT,
  KVM_REQ_LOAD_EOI_EXITMAP,
  KVM_REQ_LOAD_MMU_PGD,
  KVM_REQ_NMI,
  KVM_REQ_RECALC_INTERCEPTS,
  KVM_REQ_SCAN_IOAPIC,
  KVM_REQ_SMI,
  KVM_REQ_TLB_FLUSH_CURRENT,
  KVM_REQ_TLB_FLUSH_GUEST,
  KVM_REQ_TRIPLE_FAULT,
  type X86Vcpu,
} from './kvm_host.ts';
import { EXIT_FASTPATH_REENTER_GUEST } from './kvm_x86_ops.ts';
import { kvmApicAcceptPicIntr, kvmLapicFindHighestIrr } from './lapic.ts';
import { kvmApicAcceptEvents, kvmApicHasPendingInitOrSipi } from './lapic_events.ts';
import { kvmMmuLoad } from './mmu/mmu.ts';
import { kvmGuestTimeUpdate } from './pvclock.ts';

/** Begins KVM_RUN, or continues one whose slice had ended or that had blocked. */
export function kvmArchVcpuIoctlRun(vcpu: X86Vcpu): RunResult {
  if (!vcpu.running) {
    const early = begin(vcpu);
    if (early !== RUN_THE_GUEST) return finish(vcpu, early);
    vcpu.running = true;
    // What an errno leaves there is its own: never the exit before.
    vcpu.run.setExit(vcpu.run.unknown);
  } else if (vcpu.arch.blockedUninitialized) {
    return finish(vcpu, afterUninitializedBlock(vcpu));
  }
  const result = vcpuRun(vcpu);
  return result === RUN_RESCHED || result === RUN_BLOCK ? result : finish(vcpu, result);
}

/** No value that user space or the scheduler can see. */
const RUN_THE_GUEST = 3;

/** What comes before the loop, in upstream's order. */
function begin(vcpu: X86Vcpu): RunResult {
  const { arch, run } = vcpu;
  vcpu.wantsToRun = !run.immediateExit;
  run.flags = 0;
  if (arch.mpState === KVM_MP_STATE_UNINITIALIZED) {
    if (!vcpu.wantsToRun) return -EINTR;
    if (kvmApicHasPendingInitOrSipi(vcpu) || vcpu.task.signalPending) return afterUninitializedBlock(vcpu);
    // Waits for INIT and SIPI of another vCPU.
    arch.blockedUninitialized = true;
    vcpu.running = true;
    return RUN_BLOCK;
  }
  if (!lapicInKernel(vcpu)) arch.cr8 = Number(run.cr8);
  const complete = arch.completeUserspaceIo;
  if (complete !== null) {
    arch.completeUserspaceIo = null;
    const result = complete(vcpu);
    if (result <= 0) return result;
  }
  if (!vcpu.wantsToRun) return -EINTR;
  const ready = vcpu.kvm.ops.vcpuPreRun(vcpu);
  return ready <= 0 ? ready : RUN_THE_GUEST;
}

function afterUninitializedBlock(vcpu: X86Vcpu): RunResult {
  const { arch } = vcpu;
  arch.blockedUninitialized = false;
  vcpu.running = false;
  if (vcpu.task.signalPending) {
    vcpu.run.setPlainExit(EXIT_INTR);
    return -EINTR;
  }
  if (kvmApicAcceptEvents(vcpu) < 0) return -EINTR;
  return -EAGAIN;
}

function finish(vcpu: X86Vcpu, result: RunResult): RunResult {
  if (result === RUN_BLOCK || result === RUN_RESCHED) return result;
  vcpu.running = false;
  vcpu.wantsToRun = false;
  vcpu.task.signalPending = vcpu.task.signalPending && result !== -EINTR;
  postKvmRunSave(vcpu);
  trace.kvm_userspace_exit?.(vcpu.vcpuId, vcpu.run.exitReason, result < 0 ? -result : 0);
  return result;
}

/** @upstream post_kvm_run_save() */
function postKvmRunSave(vcpu: X86Vcpu): void {
  const { run } = vcpu;
  // Only user space that has its own interrupt controller looks at these.
  if (irqchipInKernel(vcpu.kvm)) return;
  run.ifFlag = vcpu.kvm.ops.getIfFlag(vcpu);
  run.cr8 = BigInt(kvmGetCr8(vcpu));
  run.apicBase = kvmApicBase(vcpu);
  run.readyForInterruptInjection = kvmVcpuReadyForInterruptInjection(vcpu);
}

/** @upstream kvm_vcpu_ready_for_interrupt_injection() */
function kvmVcpuReadyForInterruptInjection(vcpu: X86Vcpu): boolean {
  const { arch } = vcpu;
  if (!vcpu.kvm.ops.interruptAllowed(vcpu)) return false;
  if (kvmEventNeedsReinjection(vcpu) || arch.exception.pending) return false;
  if (!lapicInKernel(vcpu)) return true;
  return kvmApicAcceptPicIntr(vcpu) && arch.pendingExternalVector === -1;
}

/** @upstream vcpu_run() */
function vcpuRun(vcpu: X86Vcpu): RunResult {
  const { task } = vcpu;
  for (;;) {
    task.countEntry();
    // Here, as guests that only cause exits to user space never come back to the end of the loop.
    if (task.needResched) return RUN_RESCHED;
    const result = kvmVcpuRunning(vcpu) ? vcpuEnterGuest(vcpu) : vcpuBlock(vcpu);
    if (result !== 1) {
      if (result === BLOCK) return RUN_BLOCK;
      return result;
    }
    if (dmRequestForIrqInjection(vcpu)) {
      vcpu.run.setPlainExit(EXIT_IRQ_WINDOW_OPEN);
      return 0;
    }
    if (task.signalPending) {
      vcpu.run.setPlainExit(EXIT_INTR);
      return -EINTR;
    }
  }
}

/** What vcpuBlock says when the task must wait; 1 is "go on" as everywhere. */
const BLOCK = 4;

/** @upstream kvm_vcpu_running() */
const kvmVcpuRunning = (vcpu: X86Vcpu): boolean => vcpu.arch.mpState === KVM_MP_STATE_RUNNABLE;

/** @upstream vcpu_block() */
function vcpuBlock(vcpu: X86Vcpu): number {
  const { arch } = vcpu;
  if (!kvmArchVcpuRunnable(vcpu)) {
    if (vcpu.task.signalPending) return 1;
    return BLOCK;
  }
  kvmCheckRequest(KVM_REQ_UNBLOCK, vcpu);
  if (kvmApicAcceptEvents(vcpu) < 0) return 0;
  switch (arch.mpState) {
    case KVM_MP_STATE_HALTED:
      arch.mpState = KVM_MP_STATE_RUNNABLE;
      return 1;
    case KVM_MP_STATE_RUNNABLE:
    case KVM_MP_STATE_INIT_RECEIVED:
      return 1;
    default:
      return -EINTR;
  }
}

/** @upstream kvm_arch_vcpu_runnable() */
export function kvmArchVcpuRunnable(vcpu: X86Vcpu): boolean {
  const { arch } = vcpu;
  if (arch.mpState === KVM_MP_STATE_RUNNABLE) return true;
  if (lapicInKernel(vcpu) && kvmApicHasPendingInitOrSipi(vcpu)) return true;
  if (arch.mpState !== KVM_MP_STATE_HALTED) return false;
  if (arch.exception.pending || kvmTestRequest(KVM_REQ_UNBLOCK, vcpu)) return true;
  if (arch.nmiQueued > 0 || arch.nmiPending > 0) return true;
  if (kvmTestRequest(KVM_REQ_SMI, vcpu)) return true;
  return vcpu.kvm.ops.interruptAllowed(vcpu) && kvmCpuHasInterrupt(vcpu);
}

/** User space waits to inject, and now it could. @upstream dm_request_for_irq_injection() */
const dmRequestForIrqInjection = (vcpu: X86Vcpu): boolean =>
  vcpu.run.requestInterruptWindow && !irqchipKernel(vcpu.kvm) && kvmVcpuReadyForInterruptInjection(vcpu);

/** Requests that the entry serves; −1 where the guest must not be entered now. */
function serveRequests(vcpu: X86Vcpu): number {
  const { ops } = vcpu.kvm;
  const { arch, run } = vcpu;
  if (kvmCheckRequest(KVM_REQ_VM_DEAD, vcpu)) return -EIO;
  if (kvmCheckRequest(KVM_REQ_CLOCK_UPDATE, vcpu)) kvmGuestTimeUpdate(vcpu);
  if (kvmCheckRequest(KVM_REQ_LOAD_MMU_PGD, vcpu) && !kvmMmuLoad(vcpu)) return -ENOMEM;
  if (kvmCheckRequest(KVM_REQ_TLB_FLUSH, vcpu)) ops.flushTlbAll(vcpu);
  if (kvmCheckRequest(KVM_REQ_TLB_FLUSH_CURRENT, vcpu)) ops.flushTlbCurrent(vcpu);
  if (kvmCheckRequest(KVM_REQ_TLB_FLUSH_GUEST, vcpu)) ops.flushTlbGuest(vcpu);
  if (kvmCheckRequest(KVM_REQ_TRIPLE_FAULT, vcpu)) {
    run.setPlainExit(EXIT_SHUTDOWN);
    return 0;
  }
  if (kvmCheckRequest(KVM_REQ_NMI, vcpu)) processNmi(vcpu);
  if (kvmCheckRequest(KVM_REQ_APICV_UPDATE, vcpu)) {
    kvmVcpuUpdateApicv(vcpu);
    // Which ends of interrupts must come here may be another matter now.
    kvmMakeRequest(KVM_REQ_SCAN_IOAPIC, vcpu);
  }
  if (kvmCheckRequest(KVM_REQ_IOAPIC_EOI_EXIT, vcpu)) {
    run.eoi.vector = arch.pendingIoapicEoi;
    run.setExit(run.eoi);
    return 0;
  }
  if (kvmCheckRequest(KVM_REQ_SCAN_IOAPIC, vcpu)) vcpuScanIoapic(vcpu);
  if (kvmCheckRequest(KVM_REQ_LOAD_EOI_EXITMAP, vcpu)) vcpuLoadEoiExitmap(vcpu);
  if (kvmCheckRequest(KVM_REQ_APIC_PAGE_RELOAD, vcpu)) ops.setApicAccessPageAddr(vcpu);
  if (kvmCheckRequest(KVM_REQ_RECALC_INTERCEPTS, vcpu)) ops.recalcIntercepts(vcpu);
  return 1;
}

/** One entry and its exit. 1 go on, 0 exit to user space, negative errno. */
function vcpuEnterGuest(vcpu: X86Vcpu): number {
  const { kvm, arch } = vcpu;
  const { ops } = kvm;
  const cpu = vcpu.cpu!;
  if (vcpu.requests !== 0) {
    const served = serveRequests(vcpu);
    if (served !== 1) return served;
  }
  const windowWanted = dmRequestForIrqWindow(vcpu);
  if (kvmCheckRequest(KVM_REQ_EVENT, vcpu) || windowWanted) {
    if (lapicInKernel(vcpu) && kvmApicHasPendingInitOrSipi(vcpu)) {
      if (kvmApicAcceptEvents(vcpu) < 0) return 0;
      if (arch.mpState === KVM_MP_STATE_INIT_RECEIVED) return 1;
    }
    kvmCheckAndInjectEvents(vcpu);
    if (windowWanted) ops.enableIrqWindow(vcpu);
    if (lapicInKernel(vcpu)) updateCr8Intercept(vcpu);
  }
  ops.prepareSwitchToGuest(vcpu);
  kvmLoadGuestFpu(vcpu, cpu);
  vcpu.mode = IN_GUEST_MODE;
  // From here on a post notifies; what was posted before is taken now.
  if (arch.apic?.apicvActive) ops.syncPirToIrr(vcpu);
  // A request or signal that came while the entry was prepared: not in.
  if (vcpu.requests !== 0 || vcpu.task.signalPending) {
    vcpu.mode = OUTSIDE_GUEST_MODE;
    ops.cancelInjection(vcpu);
    kvmMakeRequest(KVM_REQ_EVENT, vcpu);
    return 1;
  }
  loadGuestXsaveState(vcpu);
  if (arch.debugRegsBpEnabled || arch.debugRegsWontExit) loadDebugRegs(vcpu);
  let fastpath = ops.vcpuRun(vcpu, false);
  while (fastpath === EXIT_FASTPATH_REENTER_GUEST) fastpath = ops.vcpuRun(vcpu, false);
  if (arch.debugRegsWontExit) {
    ops.syncDirtyDebugRegs(vcpu);
    kvmUpdateDr0123(vcpu);
    kvmUpdateDr7(vcpu);
  }
  saveGuestXsaveState(vcpu);
  vcpu.mode = OUTSIDE_GUEST_MODE;
  ops.handleExitIrqoff(vcpu);
  // Timers that became due while the guest ran, whatever made it exit.
  kvm.host.timers.run();
  return ops.handleExit(vcpu, fastpath);
}

/** User space waits to inject and must be told when it can. */
const dmRequestForIrqWindow = (vcpu: X86Vcpu): boolean =>
  vcpu.run.requestInterruptWindow &&
  !irqchipKernel(vcpu.kvm) &&
  (!lapicInKernel(vcpu) || (kvmApicAcceptPicIntr(vcpu) && vcpu.arch.pendingExternalVector === -1));

/** @upstream update_cr8_intercept() */
function updateCr8Intercept(vcpu: X86Vcpu): void {
  if (kvmVcpuApicvActive(vcpu)) return;
  const irr = kvmLapicFindHighestIrr(vcpu);
  vcpu.kvm.ops.updateCr8Intercept(vcpu, kvmGetCr8(vcpu), irr);
}

/** XCR0, IA32_XSS and PKRU of the guest; a TD's are the module's business. @upstream kvm_load_guest_xsave_state() */
function loadGuestXsaveState(vcpu: X86Vcpu): void {
  if (vcpu.arch.guestStateProtected) return;
  const p = vcpu.cpu!.processor;
  const { arch } = vcpu;
  if (p.xcr0 !== arch.xcr0) p.xcr0 = arch.xcr0;
  if (p.xss !== arch.iaXss) p.xss = arch.iaXss;
  if (arch.pkru !== p.pkru && usesPkru(vcpu)) writePkru(p, arch.pkru);
}
/** @upstream kvm_load_host_xsave_state(): the host kernel uses none of it but PKRU, which its own accesses heed. */
function saveGuestXsaveState(vcpu: X86Vcpu): void {
  if (vcpu.arch.guestStateProtected || !usesPkru(vcpu)) return;
  const p = vcpu.cpu!.processor;
  vcpu.arch.pkru = p.pkru;
  if (p.pkru !== HOST_PKRU) writePkru(p, HOST_PKRU);
}

const CR4_PKE = 0x400000;
const XCR0_PKRU = 0x200n;
/** No process of the host uses protection keys. */
const HOST_PKRU = 0;
/** Whether the guest can have a PKRU of its own. */
const usesPkru = (vcpu: X86Vcpu): boolean => (vcpu.arch.xcr0 & XCR0_PKRU) !== 0n || kvmReadCr4Bits(vcpu, CR4_PKE) !== 0;

function loadDebugRegs(vcpu: X86Vcpu): void {
  const p = vcpu.cpu!.processor;
  for (let i = 0; i < 4; i++) p.dr[i] = vcpu.arch.effDb[i]!;
  if (vcpu.arch.debugRegsWontExit) p.dr6 = Number(vcpu.arch.dr6);
}
