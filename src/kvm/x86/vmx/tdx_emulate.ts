/**
 * Instructions that a TD asks KVM to do for it, by TDG.VP.VMCALL<Instruction.…>: operands and results are in R11 to R15, and
 * the guest moves its RIP itself.
 *
 * @ghci "TDG.VP.VMCALL<Instruction.CPUID>" and what follows
 * @upstream arch/x86/kvm/vmx/tdx.c tdx_emulate_*()
 */

import { fromLittleEndian, littleEndianBytes } from '../../../util/bytes.ts';
import { trace } from '../../../util/trace.ts';
import { KVM_FAST_MMIO_BUS, KVM_MMIO_BUS } from '../../virt/kvm_host.ts';
import { kvmCpuid } from '../cpuid.ts';
import { kvmEmulateHypercallArgs } from '../hypercall.ts';
import { kvmRegisterWrite32 } from '../kvm_cache_regs.ts';
import { VCPU_REGS_RAX, VCPU_REGS_RCX, VCPU_REGS_RDX, type X86Vcpu } from '../kvm_host.ts';
import { kvmEmulateRdmsr, kvmEmulateWrmsr } from '../msr.ts';
import { emulatorPio } from '../pio.ts';
import { TDVMCALL_STATUS_INVALID_OPERAND } from './tdx_arch.ts';
import { tdxStripShared, toTdx, type VcpuTdx, vtIsTdxPrivateGpa } from './tdx_types.ts';
import { EXIT_REASON_MSR_READ } from './vmcs.ts';

const TRACE_READ = 1;
const TRACE_WRITE = 2;

/** R10: how the call went. @upstream tdvmcall_set_return_code() */
export function tdvmcallSetReturnCode(tdx: VcpuTdx, status: bigint): void {
  tdx.regs[10] = status;
}
/** R11: its result. @upstream tdvmcall_set_return_val() */
export function tdvmcallSetReturnVal(tdx: VcpuTdx, value: bigint): void {
  tdx.regs[11] = value;
}

function invalidOperand(vcpu: X86Vcpu): number {
  tdvmcallSetReturnCode(toTdx(vcpu), TDVMCALL_STATUS_INVALID_OPERAND);
  return 1;
}

/** R12 and R13 are EAX and ECX; R12 to R15 become EAX to EDX. */
export function tdxEmulateCpuid(vcpu: X86Vcpu): number {
  const { regs } = toTdx(vcpu);
  const low = (n: number): number => Number(regs[n]! & 0xffff_ffffn);
  const { eax, ebx, ecx, edx } = kvmCpuid(vcpu, low(12), low(13));
  [eax, ebx, ecx, edx].forEach((word, i) => {
    regs[12 + i] = BigInt(word >>> 0);
  });
  return 1;
}

/** A hypercall by KVM's convention: number in R10, arguments in R11 to R14, the result in R10. */
export function tdxEmulateVmcall(vcpu: X86Vcpu): number {
  const tdx = toTdx(vcpu);
  const [nr, a0, a1, a2, a3] = tdx.regs.subarray(10, 15);
  return kvmEmulateHypercallArgs(vcpu, { nr: nr!, args: [a0!, a1!, a2!, a3!], long: true, cpl: 0 }, (result) => {
    tdvmcallSetReturnCode(tdx, BigInt.asUintN(64, result));
    return 1;
  });
}

/** R12 size, R13 direction (1: out), R14 port, R15 data; R11 becomes what was read. */
export function tdxEmulateIo(vcpu: X86Vcpu): number {
  const tdx = toTdx(vcpu);
  const [size, direction, port, value] = tdx.regs.subarray(12, 16) as unknown as bigint[];
  vcpu.stat.io_exits++;
  if ((size !== 1n && size !== 2n && size !== 4n) || (direction !== 0n && direction !== 1n))
    return invalidOperand(vcpu);
  const bytes = Number(size) as 1 | 2 | 4;
  const input = direction === 0n;
  const data = input ? new Uint8Array(bytes) : littleEndianBytes(value!, bytes);
  if (emulatorPio(vcpu, input, bytes, Number(port! & 0xffffn), 1, data)) {
    if (input) tdvmcallSetReturnVal(tdx, fromLittleEndian(data.subarray(0, bytes)));
    return 1;
  }
  vcpu.arch.completeUserspaceIo = () => {
    if (!input) return 1;
    const answer = fromLittleEndian(vcpu.run.io.data.subarray(0, bytes));
    trace.kvm_pio?.(false, vcpu.run.io.port, bytes, 1, Number(answer));
    tdvmcallSetReturnVal(tdx, answer);
    return 1;
  };
  return 0;
}

/** R12 MSR; R11 becomes its value. */
export function tdxEmulateRdmsr(vcpu: X86Vcpu): number {
  kvmRegisterWrite32(vcpu, VCPU_REGS_RCX, Number(toTdx(vcpu).regs[12]! & 0xffff_ffffn));
  return kvmEmulateRdmsr(vcpu);
}

/** R12 MSR, R13 value. */
export function tdxEmulateWrmsr(vcpu: X86Vcpu): number {
  const { regs } = toTdx(vcpu);
  kvmRegisterWrite32(vcpu, VCPU_REGS_RCX, Number(regs[12]! & 0xffff_ffffn));
  kvmRegisterWrite32(vcpu, VCPU_REGS_RAX, Number(regs[13]! & 0xffff_ffffn));
  kvmRegisterWrite32(vcpu, VCPU_REGS_RDX, Number(regs[13]! >> 32n));
  return kvmEmulateWrmsr(vcpu);
}

/** What the two come to: a status instead of #GP, the value in R11. @upstream tdx_complete_emulated_msr() */
export function tdxCompleteEmulatedMsr(vcpu: X86Vcpu, failed: boolean): number {
  if (failed) return invalidOperand(vcpu);
  const tdx = toTdx(vcpu);
  if (tdx.exitReason === EXIT_REASON_MSR_READ) {
    const { regs } = vcpu.arch;
    tdvmcallSetReturnVal(tdx, (regs[VCPU_REGS_RDX]! << 32n) | (regs[VCPU_REGS_RAX]! & 0xffff_ffffn));
  }
  return 1;
}

/** R12 size, R13 direction (1: write), R14 address, R15 data; R11 becomes what was read. @ghci "TDG.VP.VMCALL<#VE.RequestMMIO>" */
export function tdxEmulateMmio(vcpu: X86Vcpu): number {
  const tdx = toTdx(vcpu);
  const { kvm } = vcpu;
  const [size, direction, address, value] = tdx.regs.subarray(12, 16) as unknown as bigint[];
  if (size !== 1n && size !== 2n && size !== 4n && size !== 8n) return invalidOperand(vcpu);
  if (direction !== 0n && direction !== 1n) return invalidOperand(vcpu);
  // Devices are shared.
  if (vtIsTdxPrivateGpa(kvm, address!) || address! >> 52n !== 0n) return invalidOperand(vcpu);
  const gpa = Number(tdxStripShared(kvm, address!));
  const length = Number(size);
  return direction === 1n ? mmioWrite(vcpu, gpa, littleEndianBytes(value!, length)) : mmioRead(vcpu, gpa, length);
}

/** Devices in the kernel first. @upstream tdx_mmio_write() */
function mmioWrite(vcpu: X86Vcpu, gpa: number, data: Uint8Array): number {
  const { buses } = vcpu.kvm;
  if (buses[KVM_FAST_MMIO_BUS]!.write(gpa, 0, data, vcpu) === 0) return 1;
  trace.kvm_mmio?.(TRACE_WRITE, data.length, gpa, fromLittleEndian(data));
  if (buses[KVM_MMIO_BUS]!.write(gpa, data.length, data, vcpu) === 0) return 1;
  exitForMmio(vcpu, gpa, data.length, data);
  vcpu.arch.completeUserspaceIo = () => 1;
  return 0;
}

/** @upstream tdx_mmio_read(), tdx_complete_mmio_read() */
function mmioRead(vcpu: X86Vcpu, gpa: number, length: number): number {
  const tdx = toTdx(vcpu);
  const data = new Uint8Array(length);
  const done = (answer: Uint8Array): number => {
    const value = fromLittleEndian(answer.subarray(0, length));
    trace.kvm_mmio?.(TRACE_READ, length, gpa, value);
    tdvmcallSetReturnVal(tdx, value);
    return 1;
  };
  if (vcpu.kvm.buses[KVM_MMIO_BUS]!.read(gpa, length, data, vcpu) === 0) return done(data);
  exitForMmio(vcpu, gpa, length, null);
  vcpu.arch.completeUserspaceIo = () => done(vcpu.run.mmio.data);
  return 0;
}

function exitForMmio(vcpu: X86Vcpu, gpa: number, length: number, data: Uint8Array | null): void {
  const { mmio } = vcpu.run;
  vcpu.stat.mmio_exits++;
  mmio.physAddr = gpa;
  mmio.len = length;
  mmio.isWrite = data !== null;
  mmio.data.fill(0);
  if (data !== null) mmio.data.set(data);
  vcpu.run.setExit(mmio);
}
