/** KVM_SET_GUEST_DEBUG: a debugger outside the guest. @upstream arch/x86/kvm/x86.c kvm_arch_vcpu_ioctl_set_guest_debug() */
import { EBUSY, EINVAL, type Errno } from '../../host/errno.ts';
import { APICV_INHIBIT_REASON, kvmClearApicvInhibit, kvmSetApicvInhibit } from './apicv.ts';
import { kvmUpdateDr7 } from './debugregs.ts';
import { BP_VECTOR, DB_VECTOR, kvmQueueException } from './event_queue.ts';
import { kvmRipRead } from './kvm_cache_regs.ts';
import { vcpusOf, type X86Vcpu, type X86Vm } from './kvm_host.ts';

export const KVM_GUESTDBG_ENABLE = 1;
export const KVM_GUESTDBG_SINGLESTEP = 2;
export const KVM_GUESTDBG_USE_SW_BP = 0x10000;
export const KVM_GUESTDBG_USE_HW_BP = 0x20000;
export const KVM_GUESTDBG_INJECT_DB = 0x40000;
export const KVM_GUESTDBG_INJECT_BP = 0x80000;
export const KVM_GUESTDBG_BLOCKIRQ = 0x100000;

const VALID: number =
  KVM_GUESTDBG_ENABLE |
  KVM_GUESTDBG_SINGLESTEP |
  KVM_GUESTDBG_USE_SW_BP |
  KVM_GUESTDBG_USE_HW_BP |
  KVM_GUESTDBG_INJECT_DB |
  KVM_GUESTDBG_INJECT_BP |
  KVM_GUESTDBG_BLOCKIRQ;
const RFLAGS_TF = 0x100;
const RFLAGS_RF = 0x10000;

/** @upstream struct kvm_guest_debug */
export interface KvmGuestDebug {
  control: number;
  /** DR0 to DR7 for hardware breakpoints. */
  debugreg: readonly bigint[];
}

/** −EBUSY if an exception is to be injected while one waits. */
export function kvmArchVcpuIoctlSetGuestDebug(vcpu: X86Vcpu, debug: KvmGuestDebug): Errno {
  const { arch } = vcpu;
  const { ops } = vcpu.kvm;
  if (debug.control & ~VALID) return -EINVAL;
  if (debug.control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) {
    if (arch.exception.pending || arch.exception.injected) return -EBUSY;
    kvmQueueException(vcpu, debug.control & KVM_GUESTDBG_INJECT_DB ? DB_VECTOR : BP_VECTOR);
  }
  let rflags = ops.getRflags(vcpu);
  if (arch.guestDebug & KVM_GUESTDBG_SINGLESTEP) rflags &= ~(RFLAGS_TF | RFLAGS_RF);
  arch.guestDebug = debug.control & KVM_GUESTDBG_ENABLE ? debug.control : 0;
  if (arch.guestDebug & KVM_GUESTDBG_USE_HW_BP) {
    for (let i = 0; i < 4; i++) arch.effDb[i] = debug.debugreg[i] ?? 0n;
    arch.guestDebugDr7 = debug.debugreg[7] ?? 0x400n;
  } else {
    for (let i = 0; i < 4; i++) arch.effDb[i] = arch.db[i]!;
  }
  kvmUpdateDr7(vcpu);
  if (arch.guestDebug & KVM_GUESTDBG_SINGLESTEP) {
    arch.singlestepRip = kvmRipRead(vcpu);
    rflags |= RFLAGS_TF;
  }
  ops.setRflags(vcpu, rflags);
  ops.updateExceptionBitmap(vcpu);
  kvmArchVcpuGuestdbgUpdateApicvInhibit(vcpu.kvm);
  return 0;
}

/** A debugger that holds interrupts back cannot hold back those that the hardware delivers. @upstream kvm_arch_vcpu_guestdbg_update_apicv_inhibit() */
function kvmArchVcpuGuestdbgUpdateApicvInhibit(kvm: X86Vm): void {
  const blocked = vcpusOf(kvm).some(({ arch }) => (arch.guestDebug & KVM_GUESTDBG_BLOCKIRQ) !== 0);
  if (blocked) kvmSetApicvInhibit(kvm, APICV_INHIBIT_REASON.blockirq);
  else kvmClearApicvInhibit(kvm, APICV_INHIBIT_REASON.blockirq);
}
