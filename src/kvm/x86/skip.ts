/** Past an instruction that KVM did. @upstream arch/x86/kvm/x86.c kvm_skip_emulated_instruction() */
import { DB_VECTOR, kvmQueueExceptionP } from './event_queue.ts';
import { kvmRipRead } from './kvm_cache_regs.ts';
import type { X86Vcpu } from './kvm_host.ts';

const RFLAGS_TF = 0x100;
const DR6_BS = 0x4000n;
const KVM_GUESTDBG_SINGLESTEP = 2;

/** Advances RIP; a single-stepped guest gets its trap, or its debugger the exit. 1, or 0 to exit to user space. */
export function kvmSkipEmulatedInstruction(vcpu: X86Vcpu): number {
  const { ops } = vcpu.kvm;
  const result = ops.skipEmulatedInstruction(vcpu);
  if (result !== 1) return result;
  if (ops.getRflags(vcpu) & RFLAGS_TF) return kvmVcpuDoSinglestep(vcpu);
  return 1;
}

/** @upstream kvm_vcpu_do_singlestep() */
export function kvmVcpuDoSinglestep(vcpu: X86Vcpu): number {
  if (vcpu.arch.guestDebug & KVM_GUESTDBG_SINGLESTEP) {
    const { debug } = vcpu.run;
    debug.dr6 = DR6_BS | 0xffff_0ff0n;
    debug.dr7 = vcpu.arch.guestDebugDr7;
    debug.pc = vcpu.kvm.ops.getSegmentBase(vcpu, 1) + kvmRipRead(vcpu);
    debug.exception = DB_VECTOR;
    vcpu.run.setExit(debug);
    return 0;
  }
  kvmQueueExceptionP(vcpu, DB_VECTOR, DR6_BS);
  return 1;
}
