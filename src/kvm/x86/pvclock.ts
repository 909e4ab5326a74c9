/**
 * The paravirtual clock: a page per vCPU that turns the guest's TSC into nanoseconds since the VM started.
 *
 *   0 version u32 (odd while being written)  4 pad  8 tsc_timestamp u64  16 system_time u64
 *   24 tsc_to_system_mul u32  28 tsc_shift s8  29 flags u8  30 pad[2]
 *
 * @upstream arch/x86/include/asm/pvclock-abi.h, arch/x86/kvm/x86.c kvm_guest_time_update(), kvm_write_wall_clock()
 */

import { kvmReadGuest, kvmWriteGuest } from '../virt/guest_memory.ts';
import { kvmMakeRequest } from '../virt/kvm_host.ts';
import { KVM_REQ_CLOCK_UPDATE, type X86Vcpu, type X86Vm } from './kvm_host.ts';
import { hostTsc, kvmReadL1Tsc } from './tsc.ts';

const PVCLOCK_SIZE = 32;
const PVCLOCK_TSC_STABLE_BIT = 1;
const NS_PER_SECOND = 1_000_000_000;
const ENABLED = 1n;

/** A vCPU's paravirtual state. */
export interface KvmPv {
  /** MSR_KVM_SYSTEM_TIME as written. */
  systemTime: bigint;
  /** The old or the new MSR was used; the other then reads 0. */
  pollControl: bigint;
}

export const newKvmPv = (): KvmPv => ({ systemTime: 0n, pollControl: 1n });

/** Nanoseconds since the VM started, as its clock shows. @upstream get_kvmclock_ns() */
export const getKvmclockNs = (kvm: X86Vm): number => kvm.host.timers.now() + kvm.arch.kvmclockOffset;

/** Multiplier and shift that turn TSC ticks into ns. @upstream kvm_get_time_scale() */
export function kvmGetTimeScale(tscKhz: number): { multiplier: number; shift: number } {
  let ticks = tscKhz * 1000;
  let shift = 0;
  const target = NS_PER_SECOND;
  while (ticks > target * 2) {
    ticks = Math.floor(ticks / 2);
    shift--;
  }
  while (ticks <= target) {
    ticks *= 2;
    shift++;
  }
  return { multiplier: Math.floor((target * 2 ** 32) / ticks), shift };
}

/** MSR_KVM_SYSTEM_TIME. @upstream kvm_write_system_time() */
export function kvmWriteSystemTime(vcpu: X86Vcpu, value: bigint): void {
  vcpu.arch.pv.systemTime = value;
  kvmMakeRequest(KVM_REQ_CLOCK_UPDATE, vcpu);
}

/** Writes the vCPU's page. @upstream kvm_guest_time_update() */
export function kvmGuestTimeUpdate(vcpu: X86Vcpu): void {
  const { systemTime } = vcpu.arch.pv;
  if ((systemTime & ENABLED) === 0n) return;
  const gpa = Number(systemTime & ~1n);
  const old = kvmReadGuest(vcpu.kvm, gpa, 4);
  if (old === undefined) return;
  const version = new DataView(old.buffer).getUint32(0, true);
  const page = new Uint8Array(PVCLOCK_SIZE);
  const view = new DataView(page.buffer);
  const { multiplier, shift } = kvmGetTimeScale(vcpu.arch.virtualTscKhz);
  // Odd while it is written, so that a reader tries again; the next even number afterwards.
  const writing = ((version | 1) + (version & 1 ? 2 : 0)) >>> 0;
  view.setUint32(0, (writing + 1) >>> 0, true);
  view.setBigUint64(8, kvmReadL1Tsc(vcpu), true);
  view.setBigUint64(16, BigInt(getKvmclockNs(vcpu.kvm)), true);
  view.setUint32(24, multiplier >>> 0, true);
  view.setInt8(28, shift);
  view.setUint8(29, PVCLOCK_TSC_STABLE_BIT);
  kvmWriteGuest(vcpu.kvm, gpa, page);
}

/** MSR_KVM_WALL_CLOCK: wall time at which the VM started: version, seconds, nanoseconds. @upstream kvm_write_wall_clock() */
export function kvmWriteWallClock(vcpu: X86Vcpu, value: bigint): void {
  const { kvm } = vcpu;
  kvm.arch.wallClock = value;
  if (value === 0n) return;
  const gpa = Number(value);
  const old = kvmReadGuest(kvm, gpa, 4);
  if (old === undefined) return;
  const version = new DataView(old.buffer).getUint32(0, true);
  const start = kvm.host.wallClockNs() - BigInt(getKvmclockNs(kvm));
  const page = new Uint8Array(12);
  const view = new DataView(page.buffer);
  view.setUint32(0, ((version | 1) + 1) >>> 0, true);
  view.setUint32(4, Number(BigInt.asUintN(32, start / BigInt(NS_PER_SECOND))), true);
  view.setUint32(8, Number(start % BigInt(NS_PER_SECOND)), true);
  kvmWriteGuest(kvm, gpa, page);
}

/** KVM_GET_CLOCK: guest ns, and the host TSC that belongs to them. */
export const kvmVmIoctlGetClock = (
  kvm: X86Vm,
): { clock: bigint; flags: number; realtime: bigint; hostTsc: bigint } => ({
  clock: BigInt(getKvmclockNs(kvm)),
  // TSC stable, realtime and host TSC are given.
  flags: 2 | 4 | 8,
  realtime: kvm.host.wallClockNs(),
  hostTsc: hostTsc(kvm),
});

/** KVM_SET_CLOCK. */
export function kvmVmIoctlSetClock(kvm: X86Vm, clock: bigint): void {
  kvm.arch.kvmclockOffset = Number(clock) - kvm.host.timers.now();
  for (const vcpu of kvm.vcpus) kvmMakeRequest(KVM_REQ_CLOCK_UPDATE, vcpu);
}
