import { GPR } from '../../../machine/engine/layout.ts';
import { trace } from '../../../util/trace.ts';
import { kvmVcpuApicvActive } from '../apicv.ts';
import { kvmRegisterMarkDirty, kvmRipRead, kvmRipWrite } from '../kvm_cache_regs.ts';
import { VCPU_REGS_RIP, VCPU_REGS_RSP, type X86Vcpu } from '../kvm_host.ts';
import { EXIT_FASTPATH_EXIT_HANDLED, EXIT_FASTPATH_NONE, type Fastpath, type KvmExitInfo } from '../kvm_x86_ops.ts';
import { kvmLapicTprWritten } from '../lapic.ts';
import { toVmx, VMX_REGS_LAZY_LOAD_SET, vmxGetExitQual, vmxGetIntrInfo } from './vcpu_vmx.ts';
import {
  EXIT_REASON_EXCEPTION_NMI,
  EXIT_REASON_EXTERNAL_INTERRUPT,
  EXIT_REASON_VM_FAIL,
  GUEST_INTERRUPTIBILITY_INFO,
  GUEST_RIP,
  GUEST_RSP,
  IDT_VECTORING_ERROR_CODE,
  IDT_VECTORING_INFO_FIELD,
  INTR_INFO_VALID_MASK,
  INTR_INFO_VECTOR_MASK,
  VM_ENTRY_INTR_INFO_FIELD,
  VM_EXIT_INSTRUCTION_LEN,
  VM_EXIT_REASON,
  VM_INSTRUCTION_ERROR,
  VM_SUCCEED,
  VMX_EXIT_REASONS_FAILED_VMENTRY,
  vmcsRead32,
  vmcsWrite,
} from './vmcs.ts';
import { vmxCompleteInterrupts, vmxRecoverNmiBlocking } from './vmx_events.ts';

const NMI_VECTOR = 2;

const windows: WeakMap<ArrayBufferLike, Uint8Array> = new WeakMap();
/** The running processor's sixteen general registers in the machine's memory. */
function gprWindow(buffer: ArrayBufferLike): Uint8Array {
  let window = windows.get(buffer);
  if (window === undefined) {
    window = new Uint8Array(buffer, GPR, 128);
    windows.set(buffer, window);
  }
  return window;
}

/** Enters the guest and comes back with the exit. @upstream vmx_vcpu_run() */
export function vmxVcpuRun(vcpu: X86Vcpu, forceImmediateExit: boolean): Fastpath {
  const vmx = toVmx(vcpu);
  const { arch } = vcpu;
  const { v, p, loadedVmcs } = vmx;
  const { host } = vmx.hw;
  if (arch.regsDirty !== 0) {
    if (arch.regsDirty & (1 << VCPU_REGS_RSP)) vmcsWrite(v, GUEST_RSP, arch.regs[VCPU_REGS_RSP]!);
    if (arch.regsDirty & (1 << VCPU_REGS_RIP)) vmcsWrite(v, GUEST_RIP, arch.regs[VCPU_REGS_RIP]!);
    arch.regsDirty = 0;
  }
  if (forceImmediateExit && vcpu.cpu !== null) host.cpus.kick(vcpu.cpu);
  if (p.cr2 !== arch.cr2) p.cr2 = arch.cr2;

  trace.kvm_entry?.(vcpu.vcpuId, kvmRipRead(vcpu));
  // The entry code: general registers in, VMLAUNCH or VMRESUME, general registers out.
  host.machine.activate(p);
  const window = gprWindow(host.machine.memory.memory.buffer);
  window.set(arch.regs8);
  // Between two entries nobody here looks at the registers that exits switch.
  v.keepsGuest = true;
  const result = loadedVmcs.launched ? v.vmresume() : v.vmlaunch();
  v.keepsGuest = false;
  arch.regs8.set(window);
  arch.cr2 = p.cr2;
  arch.regsAvail = ~VMX_REGS_LAZY_LOAD_SET;
  vmx.segValid = 0;
  vcpu.stat.exits++;

  vmx.fail = result;
  if (result !== VM_SUCCEED) {
    vmx.exitReason = EXIT_REASON_VM_FAIL;
    vmx.idtVectoringInfo = 0;
    vmx.vmInstructionError = vmcsRead32(v, VM_INSTRUCTION_ERROR);
    // Only an entry that succeeds uses the event up.
    vmcsWrite(v, VM_ENTRY_INTR_INFO_FIELD, 0);
    return EXIT_FASTPATH_NONE;
  }
  const reason = vmcsRead32(v, VM_EXIT_REASON);
  vmx.exitReason = reason;
  vmx.idtVectoringInfo = vmcsRead32(v, IDT_VECTORING_INFO_FIELD);
  if (trace.kvm_exit !== undefined) traceExit(vcpu, reason);
  vcpu.exitCounts[reason & 0x7f]!++;
  if (reason & VMX_EXIT_REASONS_FAILED_VMENTRY) {
    vmcsWrite(v, VM_ENTRY_INTR_INFO_FIELD, 0);
    return EXIT_FASTPATH_NONE;
  }
  loadedVmcs.launched = true;
  if (!kvmVcpuApicvActive(vcpu)) kvmLapicTprWritten(vcpu);
  vmxRecoverNmiBlocking(vcpu);
  vmxCompleteInterrupts(vcpu);
  // External interrupts are all that an exit is about more often than not when the guest computes.
  return reason === EXIT_REASON_EXTERNAL_INTERRUPT && vmx.idtVectoringInfo === 0
    ? EXIT_FASTPATH_EXIT_HANDLED
    : EXIT_FASTPATH_NONE;
}

function traceExit(vcpu: X86Vcpu, reason: number): void {
  const info: KvmExitInfo = { reason: 0, info1: 0n, info2: 0, intrInfo: 0, errorCode: 0 };
  vmxGetExitInfo(vcpu, info);
  trace.kvm_exit?.(vcpu.vcpuId, reason, kvmRipRead(vcpu), info.info1, info.info2, info.intrInfo, info.errorCode);
}

/** Interrupts that the exit acknowledged run now; of a TD's exit as well. @upstream vmx_handle_exit_irqoff() */
export function vmxHandleExitIrqoff(vcpu: X86Vcpu): void {
  const { exitReason } = vcpu.vt;
  const { cpu } = vcpu;
  if (cpu === null) return;
  if (exitReason === EXIT_REASON_EXTERNAL_INTERRUPT) {
    const info = vmxGetIntrInfo(vcpu);
    vcpu.stat.irq_exits++;
    if (info & INTR_INFO_VALID_MASK) vcpu.kvm.host.interrupts.handle(cpu, info & INTR_INFO_VECTOR_MASK);
  } else if (exitReason === EXIT_REASON_EXCEPTION_NMI) {
    const info = vmxGetIntrInfo(vcpu);
    if ((info & INTR_INFO_VECTOR_MASK) === NMI_VECTOR) cpu.processor.nmiBlocked = false;
  }
}

/** @upstream vmx_skip_emulated_instruction() */
export function vmxSkipEmulatedInstruction(vcpu: X86Vcpu): number {
  const vmx = toVmx(vcpu);
  const length = BigInt(vmcsRead32(vmx.v, VM_EXIT_INSTRUCTION_LEN));
  const rip = kvmRipRead(vcpu) + length;
  // Outside 64-bit mode the instruction pointer wraps at 32 bits.
  kvmRipWrite(vcpu, (vcpu.arch.efer & 0x400) !== 0 ? BigInt.asUintN(64, rip) : rip & 0xffff_ffffn);
  kvmRegisterMarkDirty(vcpu, VCPU_REGS_RIP);
  const shadow = vmcsRead32(vmx.v, GUEST_INTERRUPTIBILITY_INFO);
  if (shadow & 3) vmcsWrite(vmx.v, GUEST_INTERRUPTIBILITY_INFO, shadow & ~3);
  return 1;
}

/** @upstream vmx_get_exit_info() */
export function vmxGetExitInfo(vcpu: X86Vcpu, info: KvmExitInfo): void {
  const vmx = toVmx(vcpu);
  info.reason = vmx.exitReason;
  info.info1 = vmxGetExitQual(vcpu);
  info.info2 = vmx.idtVectoringInfo;
  info.intrInfo = vmxGetIntrInfo(vcpu);
  info.errorCode = vmx.idtVectoringInfo & INTR_INFO_VALID_MASK ? vmcsRead32(vmx.v, IDT_VECTORING_ERROR_CODE) : 0;
}
