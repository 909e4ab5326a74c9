/** The paravirtual interface: CPUID leaves, MSRs and hypercalls. @upstream arch/x86/include/uapi/asm/kvm_para.h, include/uapi/linux/kvm_para.h */

export const KVM_CPUID_SIGNATURE = 0x4000_0000;

const CLOCKSOURCE = 1 << 0;
const NOP_IO_DELAY = 1 << 1;
const CLOCKSOURCE2 = 1 << 3;
const PV_UNHALT = 1 << 7;
const PV_SEND_IPI = 1 << 11;
const POLL_CONTROL = 1 << 12;
const PV_SCHED_YIELD = 1 << 13;
const CLOCKSOURCE_STABLE = 1 << 24;

/** Features in leaf 0x40000001 EAX: what KVM implements. */
export const KVM_CPUID_FEATURES_BITS: number =
  CLOCKSOURCE |
  NOP_IO_DELAY |
  CLOCKSOURCE2 |
  PV_UNHALT |
  PV_SEND_IPI |
  POLL_CONTROL |
  PV_SCHED_YIELD |
  CLOCKSOURCE_STABLE;

export const MSR_KVM_WALL_CLOCK = 0x11;
export const MSR_KVM_SYSTEM_TIME = 0x12;
export const MSR_KVM_WALL_CLOCK_NEW = 0x4b56_4d00;
export const MSR_KVM_SYSTEM_TIME_NEW = 0x4b56_4d01;
export const MSR_KVM_POLL_CONTROL = 0x4b56_4d05;

export const KVM_HC_VAPIC_POLL_IRQ = 1;
export const KVM_HC_KICK_CPU = 5;
export const KVM_HC_SEND_IPI = 10;
export const KVM_HC_SCHED_YIELD = 11;
export const KVM_HC_MAP_GPA_RANGE = 12;
