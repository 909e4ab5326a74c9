/** INVPCID of a guest that exits. @upstream arch/x86/kvm/x86.c kvm_handle_invpcid() */
import { kvmMakeRequest } from '../virt/kvm_host.ts';
import { guestCpuidHas } from './cpuid_caps.ts';
import { kvmInjectGp, kvmQueueException, UD_VECTOR } from './event_queue.ts';
import { KVM_REQ_TLB_FLUSH_GUEST, type X86Vcpu } from './kvm_host.ts';
import { kvmSkipEmulatedInstruction } from './skip.ts';

const LAST_TYPE = 3n;

/** Every type may be done as a flush of all the guest's linear translations. */
export function kvmHandleInvpcid(vcpu: X86Vcpu, type: bigint): number {
  if (!guestCpuidHas(vcpu, 'invpcid')) {
    kvmQueueException(vcpu, UD_VECTOR);
    return 1;
  }
  if (type > LAST_TYPE) {
    kvmInjectGp(vcpu);
    return 1;
  }
  kvmMakeRequest(KVM_REQ_TLB_FLUSH_GUEST, vcpu);
  return kvmSkipEmulatedInstruction(vcpu);
}
