/** VMCALL of guests. @upstream arch/x86/kvm/x86.c kvm_emulate_hypercall() */
import { DeliveryMode } from '../../devices/interrupt-message.ts';
import { trace } from '../../util/trace.ts';
import { kvmVcpuWakeUp } from '../virt/kvm_host.ts';
import { is64BitMode, kvmRegisterReadRaw, kvmRegisterWriteRaw } from './kvm_cache_regs.ts';
import {
  KVM_MP_STATE_HALTED,
  KVM_MP_STATE_RUNNABLE,
  VCPU_REGS_RAX,
  VCPU_REGS_RBX,
  VCPU_REGS_RCX,
  VCPU_REGS_RDX,
  VCPU_REGS_RSI,
  vcpusOf,
  type X86Vcpu,
} from './kvm_host.ts';
import {
  KVM_HC_KICK_CPU,
  KVM_HC_MAP_GPA_RANGE,
  KVM_HC_SCHED_YIELD,
  KVM_HC_SEND_IPI,
  KVM_HC_VAPIC_POLL_IRQ,
} from './kvm_para.ts';
import { kvmApicAcceptIrq } from './lapic.ts';
import { kvmSkipEmulatedInstruction } from './skip.ts';

const KVM_ENOSYS = -1000n;
const KVM_EPERM = -1n;
const KVM_EINVAL = -22n;
const PAGE_MASK = 0xfffn;

/** Exit reason VMCALL: number in RAX, arguments in RBX RCX RDX RSI, result in RAX. */
export function kvmEmulateHypercall(vcpu: X86Vcpu): number {
  const long = is64BitMode(vcpu);
  const read = (reg: number): bigint => {
    const value = kvmRegisterReadRaw(vcpu, reg);
    return long ? value : value & 0xffff_ffffn;
  };
  const nr = read(VCPU_REGS_RAX);
  const a0 = read(VCPU_REGS_RBX);
  const a1 = read(VCPU_REGS_RCX);
  const a2 = read(VCPU_REGS_RDX);
  const a3 = read(VCPU_REGS_RSI);
  const call: Hypercall = { nr, args: [a0, a1, a2, a3], long, cpl: vcpu.kvm.ops.getCpl(vcpu) };
  return kvmEmulateHypercallArgs(vcpu, call, (result) => {
    kvmRegisterWriteRaw(vcpu, VCPU_REGS_RAX, BigInt.asUintN(long ? 64 : 32, result));
    return kvmSkipEmulatedInstruction(vcpu);
  });
}

/** A hypercall, wherever its number and arguments were. */
export interface Hypercall {
  readonly nr: bigint;
  readonly args: readonly [bigint, bigint, bigint, bigint];
  /** From 64-bit mode. */
  readonly long: boolean;
  readonly cpl: number;
}

/** @param finish gives the guest its result @upstream ____kvm_emulate_hypercall() */
export function kvmEmulateHypercallArgs(
  vcpu: X86Vcpu,
  { nr, args, long, cpl }: Hypercall,
  finish: (result: bigint) => number,
): number {
  const [a0, a1, a2, a3] = args;
  trace.kvm_hypercall?.(nr, a0, a1, a2, a3);
  vcpu.stat.hypercalls++;
  if (cpl !== 0) return finish(KVM_EPERM);
  switch (Number(nr)) {
    case KVM_HC_VAPIC_POLL_IRQ:
      return finish(0n);
    case KVM_HC_KICK_CPU:
      kickVcpu(vcpu, Number(a1));
      return finish(0n);
    case KVM_HC_SEND_IPI:
      return finish(sendIpi(vcpu, a0, a1, Number(a2), a3, long));
    case KVM_HC_SCHED_YIELD:
      vcpu.task.needResched = true;
      return finish(0n);
    case KVM_HC_MAP_GPA_RANGE: {
      const enabled = vcpu.kvm.arch.hypercallExitEnabled & (1n << BigInt(KVM_HC_MAP_GPA_RANGE));
      if (!enabled) return finish(KVM_ENOSYS);
      if (a0 & PAGE_MASK || a1 === 0n) return finish(KVM_EINVAL);
      const exit = vcpu.run.hypercall;
      exit.nr = nr;
      exit.args.splice(0, 6, a0, a1, a2, 0n, 0n, 0n);
      exit.ret = 0n;
      exit.flags = long ? 1n : 0n;
      vcpu.run.setExit(exit);
      vcpu.arch.completeUserspaceIo = () => finish(exit.ret);
      return 0;
    }
    default:
      return finish(KVM_ENOSYS);
  }
}

const byApicId = (vcpu: X86Vcpu, apicId: number): X86Vcpu | undefined =>
  vcpusOf(vcpu.kvm).find((other) => other.vcpuId === apicId);

/** Wakes a halted vCPU. @upstream kvm_pv_kick_cpu_op() */
function kickVcpu(vcpu: X86Vcpu, apicId: number): void {
  const target = byApicId(vcpu, apicId);
  if (target === undefined || target.arch.mpState !== KVM_MP_STATE_HALTED) return;
  target.arch.mpState = KVM_MP_STATE_RUNNABLE;
  kvmVcpuWakeUp(target);
}

/** One IPI to the APIC ids of a bitmap that starts at `min`. @upstream kvm_pv_send_ipi() */
function sendIpi(vcpu: X86Vcpu, low: bigint, high: bigint, min: number, icr: bigint, long: boolean): bigint {
  const width = long ? 64n : 32n;
  const vector = Number(icr & 0xffn);
  const mode = Number((icr >> 8n) & 7n);
  if (icr & ~0x7ffn || mode === DeliveryMode.init || mode === DeliveryMode.startup) return KVM_EINVAL;
  let bitmap = low | (high << width);
  let sent = 0n;
  for (let id = min; bitmap !== 0n; id++, bitmap >>= 1n) {
    if (!(bitmap & 1n)) continue;
    const target = byApicId(vcpu, id);
    if (target?.arch.apic && kvmApicAcceptIrq(target, mode, vector, false)) sent++;
  }
  return sent;
}
