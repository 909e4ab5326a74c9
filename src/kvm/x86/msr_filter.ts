/**
 * KVM_X86_SET_MSR_FILTER: which MSRs the guest may read and write at all, whatever KVM knows about them.
 *
 * @upstream arch/x86/kvm/x86.c kvm_vm_ioctl_set_msr_filter(), kvm_msr_allowed()
 */
import { EINVAL, type Errno } from '../../host/errno.ts';
import { kvmMakeAllCpusRequest } from '../virt/kvm_host.ts';
import { KVM_REQ_RECALC_INTERCEPTS, type X86Vcpu, type X86Vm } from './kvm_host.ts';

/** Flag of a filter: what no range is about is denied, not allowed. */
export const KVM_MSR_FILTER_DEFAULT_DENY = 1;
/** Flags of a range: the accesses that it is about. */
export const KVM_MSR_FILTER_READ = 1;
export const KVM_MSR_FILTER_WRITE = 2;

const MAX_RANGES = 16;
const MAX_BITMAP_BYTES = 0x600;
/** Access to the local APIC is not to be filtered: APIC virtualization would not ask. */
const X2APIC_FIRST = 0x800;
const X2APIC_LAST = 0x8ff;

/** MSRs from `base` on, a bit each in `bitmap`: 1 is allowed. @upstream struct kvm_msr_filter_range */
export interface KvmMsrFilterRange {
  readonly flags: number;
  readonly nmsrs: number;
  readonly base: number;
  readonly bitmap: Uint8Array;
}

/** Ranges are looked at in order, the first one that has the MSR decides. @upstream struct kvm_msr_filter */
export interface KvmMsrFilter {
  readonly flags: number;
  readonly ranges: readonly KvmMsrFilterRange[];
}

const validRange = ({ flags, nmsrs, bitmap }: KvmMsrFilterRange): boolean => {
  const bytes = Math.ceil(nmsrs / 64) * 8;
  const known = flags & (KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE);
  return known === flags && bytes <= MAX_BITMAP_BYTES && bitmap.length * 8 >= nmsrs;
};

/** Replaces the filter; one without ranges that allows everything removes it. −EINVAL for one that nobody can mean. */
export function kvmVmIoctlSetMsrFilter(kvm: X86Vm, filter: KvmMsrFilter): Errno {
  const ranges = filter.ranges.filter(({ nmsrs }) => nmsrs !== 0);
  const deny = (filter.flags & KVM_MSR_FILTER_DEFAULT_DENY) !== 0;
  if (filter.flags & ~KVM_MSR_FILTER_DEFAULT_DENY || filter.ranges.length > MAX_RANGES) return -EINVAL;
  // Without a single MSR the guest could not run.
  if (deny && ranges.length === 0) return -EINVAL;
  if (!ranges.every(validRange)) return -EINVAL;
  // all checks passed
  kvm.arch.msrFilter =
    ranges.length === 0
      ? null
      : { flags: filter.flags, ranges: ranges.map((range) => ({ ...range, bitmap: range.bitmap.slice() })) };
  kvmMakeAllCpusRequest(kvm, KVM_REQ_RECALC_INTERCEPTS);
  return 0;
}

/** Whether the guest may access an MSR. @upstream kvm_msr_allowed() */
export function kvmMsrAllowed(vcpu: X86Vcpu, index: number, write: boolean): boolean {
  const filter = vcpu.kvm.arch.msrFilter;
  if (filter === null || (index >= X2APIC_FIRST && index <= X2APIC_LAST)) return true;
  const type = write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ;
  for (const { flags, base, nmsrs, bitmap } of filter.ranges) {
    const at = index - base;
    if (at < 0 || at >= nmsrs || (flags & type) === 0) continue;
    return ((bitmap[at >>> 3]! >>> (at & 7)) & 1) !== 0;
  }
  return (filter.flags & KVM_MSR_FILTER_DEFAULT_DENY) === 0;
}
