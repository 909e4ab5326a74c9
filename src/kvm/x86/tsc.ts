/**
 * The guest's time-stamp counter: host TSC scaled and offset.
 *
 * The machine's TSC counts nanoseconds of machine time, so host TSC and kernel time are the same number.
 *
 * @upstream arch/x86/kvm/x86.c kvm_read_l1_tsc(), kvm_write_tsc(), kvm_set_tsc_khz()
 */
import type { Errno } from '../../host/errno.ts';
import { EINVAL } from '../../host/errno.ts';
import type { X86Vcpu, X86Vm } from './kvm_host.ts';
import { vcpusOf } from './kvm_host.ts';

/** Fraction bits of the scaling ratio. */
const FRACTION_BITS = 48n;
const ONE: bigint = 1n << FRACTION_BITS;
/** Host TSC frequency. */
export const TSC_KHZ = 1_000_000;
/** Highest frequency that scaling reaches. @upstream kvm_caps.max_guest_tsc_khz */
const MAX_TSC_KHZ = 100_000_000;

/** The host's TSC now. */
export const hostTsc = (kvm: X86Vm): bigint => BigInt(kvm.host.timers.now());

/** @upstream kvm_scale_tsc() */
export const kvmScaleTsc = (tsc: bigint, ratio: bigint): bigint =>
  ratio === ONE ? tsc : BigInt.asUintN(64, (tsc * ratio) >> FRACTION_BITS);

/** Ratio of a guest's TSC of `khz` to the host's. */
export const tscScalingRatio = (khz: number): bigint => (BigInt(khz) << FRACTION_BITS) / BigInt(TSC_KHZ);

/** What the guest's RDTSC gives now. @upstream kvm_read_l1_tsc() */
export const kvmReadL1Tsc = (vcpu: X86Vcpu): bigint =>
  BigInt.asUintN(64, kvmScaleTsc(hostTsc(vcpu.kvm), vcpu.arch.tscScalingRatio) + vcpu.arch.tscOffset);

/** Kernel time in ns at which the guest's TSC reaches a value; Infinity if never. */
export function kvmL1TscToHostNs(vcpu: X86Vcpu, tsc: bigint): number {
  const { tscOffset, tscScalingRatio } = vcpu.arch;
  const scaled = tsc - tscOffset;
  if (tscScalingRatio === ONE) return Number(scaled);
  return tscScalingRatio === 0n
    ? Number.POSITIVE_INFINITY
    : Number(((scaled << FRACTION_BITS) + tscScalingRatio - 1n) / tscScalingRatio);
}

/** @upstream kvm_vcpu_write_tsc_offset() */
export function kvmVcpuWriteTscOffset(vcpu: X86Vcpu, offset: bigint): void {
  if (vcpu.arch.guestTscProtected) return;
  vcpu.arch.tscOffset = BigInt.asIntN(64, offset);
  vcpu.kvm.ops.writeTscOffset(vcpu);
  // A TSC deadline is now at another time.
  vcpu.arch.apic?.tscChanged();
}

/** Sets the guest's TSC; near-equal writes of several vCPUs count as one. @upstream kvm_synchronize_tsc() */
export function kvmSynchronizeTsc(vcpu: X86Vcpu, value: bigint): void {
  const now = kvmScaleTsc(hostTsc(vcpu.kvm), vcpu.arch.tscScalingRatio);
  let offset = value - now;
  const first = vcpusOf(vcpu.kvm)[0];
  if (first !== undefined && first !== vcpu) {
    const difference = offset - first.arch.tscOffset;
    // Within a second of the first vCPU, or zero at its start: user space wants them equal.
    const second = BigInt(vcpu.arch.virtualTscKhz) * 1000n;
    if (value === 0n || (difference < second && -difference < second)) offset = first.arch.tscOffset;
  }
  kvmVcpuWriteTscOffset(vcpu, offset);
}

/** By hardware scaling. @upstream kvm_set_tsc_khz() */
export function kvmSetTscKhz(vcpu: X86Vcpu, khz: number): Errno {
  if (vcpu.arch.guestTscProtected) return -EINVAL;
  if (!Number.isInteger(khz) || khz <= 0 || khz > MAX_TSC_KHZ) return -EINVAL;
  const now = kvmReadL1Tsc(vcpu);
  vcpu.arch.virtualTscKhz = khz;
  vcpu.arch.tscScalingRatio = tscScalingRatio(khz);
  vcpu.kvm.ops.writeTscMultiplier(vcpu);
  kvmVcpuWriteTscOffset(vcpu, now - kvmScaleTsc(hostTsc(vcpu.kvm), vcpu.arch.tscScalingRatio));
  return 0;
}

/** What the TSC of vCPUs to come runs at; 0 is the host's frequency. @upstream kvm_arch_vm_ioctl() case KVM_SET_TSC_KHZ */
export function kvmVmIoctlSetTscKhz(kvm: X86Vm, khz: number): Errno {
  if (!Number.isInteger(khz) || khz < 0 || khz > MAX_TSC_KHZ || kvm.vcpus.length > 0) return -EINVAL;
  kvm.arch.defaultTscKhz = khz === 0 ? TSC_KHZ : khz;
  return 0;
}
