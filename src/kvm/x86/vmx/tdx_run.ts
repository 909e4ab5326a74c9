/**
 * Entering a trust domain, and what its exit says.
 *
 * The registers of an exit are the registers of the next entry. So a TDG.VP.VMCALL that nobody fails succeeds: R10 came as 0
 * and goes back as 0.
 *
 * @upstream arch/x86/kvm/vmx/tdx.c tdx_vcpu_run(), tdx_vcpu_enter_exit(), tdx_get_exit_info()
 */
import {
  TDX_NON_RECOVERABLE_TD,
  TDX_NON_RECOVERABLE_TD_FATAL,
  TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE,
  TDX_NON_RECOVERABLE_TD_WRONG_APIC_MODE,
  TDX_NON_RECOVERABLE_VCPU,
  TDX_SUCCESS,
  tdxOperandBusy,
  tdxStatus,
  tdxSwError,
} from '../../../host/tdx-errno.ts';
import { tdhVpEnter } from '../../../host/tdx-leaves.ts';
import { POSTED_INTR_VECTOR } from '../../../host/vectors.ts';
import { trace } from '../../../util/trace.ts';
import type { X86Vcpu } from '../kvm_host.ts';
import { EXIT_FASTPATH_EXIT_HANDLED, EXIT_FASTPATH_NONE, type Fastpath, type KvmExitInfo } from '../kvm_x86_ops.ts';
import { piTestOn } from './pi_desc.ts';
import { toTdx, type VcpuTdx } from './tdx_types.ts';
import {
  EXIT_REASON_CPUID,
  EXIT_REASON_EPT_MISCONFIG,
  EXIT_REASON_EPT_VIOLATION,
  EXIT_REASON_HLT,
  EXIT_REASON_IO_INSTRUCTION,
  EXIT_REASON_MSR_READ,
  EXIT_REASON_MSR_WRITE,
  EXIT_REASON_TDCALL,
  EXIT_REASON_VMCALL,
} from './vmcs.ts';

/** Register numbers in an exit. */
const RCX = 1;
const RDX = 2;

/** No exit reason: the module refused the entry. */
export const EXIT_REASON_NONE = -1;

/** Statuses whose lower half is an exit reason. */
const EXITED: ReadonlySet<bigint> = new Set([
  TDX_SUCCESS,
  TDX_NON_RECOVERABLE_VCPU,
  TDX_NON_RECOVERABLE_TD,
  TDX_NON_RECOVERABLE_TD_FATAL,
  TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE,
  TDX_NON_RECOVERABLE_TD_WRONG_APIC_MODE,
]);

/** Leaves of TDG.VP.VMCALL that stand for an instruction. */
const INSTRUCTIONS: ReadonlySet<bigint> = new Set(
  [EXIT_REASON_CPUID, EXIT_REASON_HLT, EXIT_REASON_IO_INSTRUCTION, EXIT_REASON_MSR_READ, EXIT_REASON_MSR_WRITE].map(
    BigInt,
  ),
);

/** What a TDG.VP.VMCALL is, as an exit reason. @upstream tdcall_to_vmx_exit_reason() */
function tdcallToVmxExitReason(tdx: VcpuTdx): number {
  // A hypercall of KVM's own convention has its number in R10.
  if (tdx.regs[10] !== 0n) return EXIT_REASON_VMCALL;
  const leaf = tdx.regs[11]!;
  if (INSTRUCTIONS.has(leaf)) return Number(leaf);
  // The guest took a #VE for an EPT violation: it asks for an MMIO access.
  if (leaf === BigInt(EXIT_REASON_EPT_VIOLATION)) return EXIT_REASON_EPT_MISCONFIG;
  return EXIT_REASON_TDCALL;
}

/** @upstream tdx_to_vmx_exit_reason() */
function tdxToVmxExitReason(tdx: VcpuTdx): number {
  if (!EXITED.has(tdxStatus(tdx.vpEnterRet))) return EXIT_REASON_NONE;
  const reason = Number(tdx.vpEnterRet & 0xffff_ffffn);
  // Never without a TDG.VP.VMCALL: the module's own tables have no such entries.
  if (reason === EXIT_REASON_EPT_MISCONFIG) return EXIT_REASON_NONE;
  return reason === EXIT_REASON_TDCALL ? tdcallToVmxExitReason(tdx) : reason;
}

/** Runs the TD until it exits. @upstream tdx_vcpu_run() */
export function tdxVcpuRun(vcpu: X86Vcpu, forceImmediateExit: boolean): Fastpath {
  const tdx = toTdx(vcpu);
  const { td } = tdx;
  const { host } = vcpu.kvm;
  // Nothing is injected by KVM that would need an entry without guest code.
  if (forceImmediateExit) host.log('kvm: an immediate exit was asked of a TD');
  // Somebody removes private memory and needs this vCPU outside.
  if (td.waitForSeptZap || tdx.tdvpr === null) return EXIT_FASTPATH_EXIT_HANDLED;
  trace.kvm_entry?.(vcpu.vcpuId, 0n);
  // What was posted while the vCPU was out is delivered by the notification that it did not get.
  if (tdx.piDesc !== null && piTestOn(tdx.piDesc) && vcpu.cpu !== null)
    host.interrupts.raise(vcpu.cpu, POSTED_INTR_VECTOR);

  tdx.vpEnterRet = tdhVpEnter(td.cpus, tdx.tdvpr, tdx.vpEnterArgs);
  tdxVcpuExit(vcpu, tdx);
  if (trace.kvm_exit !== undefined) traceExit(vcpu, tdx);
  vcpu.exitCounts[tdx.exitReason & 0x7f]!++;
  // The module waited in vain for a lock: what holds it is about to let go.
  return tdxOperandBusy(tdx.vpEnterRet) ? EXIT_FASTPATH_EXIT_HANDLED : EXIT_FASTPATH_NONE;
}

/** @upstream tdx_vcpu_enter_exit(), second half */
function tdxVcpuExit(vcpu: X86Vcpu, tdx: VcpuTdx): void {
  const { regs } = tdx;
  vcpu.stat.exits++;
  // Everything that KVM may know is known: nothing is left to be read lazily.
  vcpu.arch.regsAvail = ~0;
  vcpu.arch.regsDirty = 0;
  tdx.exitReason = tdxSwError(tdx.vpEnterRet) ? EXIT_REASON_NONE : tdxToVmxExitReason(tdx);
  // An exit by TDG.VP.VMCALL has the guest's own registers there.
  const asynchronous = Number(tdx.vpEnterRet & 0xffffn) !== EXIT_REASON_TDCALL;
  tdx.exitQualification = asynchronous ? regs[RCX]! : 0n;
  tdx.extExitQualification = asynchronous ? regs[RDX]! : 0n;
  tdx.exitGpa = asynchronous ? regs[8]! : 0n;
  tdx.exitIntrInfo = asynchronous ? Number(regs[9]! & 0xffff_ffffn) : 0;
}

function traceExit(vcpu: X86Vcpu, tdx: VcpuTdx): void {
  const info: KvmExitInfo = { reason: 0, info1: 0n, info2: 0, intrInfo: 0, errorCode: 0 };
  tdxGetExitInfo(vcpu, info);
  trace.kvm_exit?.(vcpu.vcpuId, tdx.exitReason, 0n, info.info1, info.info2, info.intrInfo, info.errorCode);
}

/** @upstream tdx_get_exit_info() */
export function tdxGetExitInfo(vcpu: X86Vcpu, info: KvmExitInfo): void {
  const tdx = toTdx(vcpu);
  info.reason = tdx.exitReason;
  const known = tdx.exitReason !== EXIT_REASON_NONE;
  info.info1 = known ? tdx.exitQualification : 0n;
  info.info2 = known ? Number(tdx.extExitQualification & 0xffff_ffffn) : 0;
  info.intrInfo = known ? tdx.exitIntrInfo : 0;
  info.errorCode = 0;
}
