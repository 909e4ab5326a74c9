/** KVM_CHECK_EXTENSION. @upstream arch/x86/kvm/x86.c kvm_vm_ioctl_check_extension(), virt/kvm/kvm_main.c */
import type { Host } from '../../host/host.ts';
import { KVM_MEMORY_ATTRIBUTE_PRIVATE } from '../virt/mem_attributes.ts';
import { KVM_MAX_VCPU_IDS, KVM_MAX_VCPUS } from '../virt/vcpu.ts';
import { kvmCaps } from './kvm_caps.ts';
import type { X86Vm } from './kvm_host.ts';
import { TSC_KHZ } from './tsc.ts';

/** Capability numbers. @upstream include/uapi/linux/kvm.h KVM_CAP_* */
export const KVM_CAP = {
  IRQCHIP: 0,
  HLT: 1,
  USER_MEMORY: 3,
  SET_TSS_ADDR: 4,
  EXT_CPUID: 7,
  CLOCKSOURCE: 8,
  NR_VCPUS: 9,
  NR_MEMSLOTS: 10,
  PIT: 11,
  NOP_IO_DELAY: 12,
  MP_STATE: 14,
  SYNC_MMU: 16,
  DESTROY_MEMORY_REGION_WORKS: 21,
  USER_NMI: 22,
  SET_GUEST_DEBUG: 23,
  REINJECT_CONTROL: 24,
  IRQ_ROUTING: 25,
  IRQ_INJECT_STATUS: 26,
  ASSIGN_DEV_IRQ: 29,
  JOIN_MEMORY_REGIONS_WORKS: 30,
  MCE: 31,
  IRQFD: 32,
  PIT2: 33,
  SET_BOOT_CPU_ID: 34,
  PIT_STATE2: 35,
  IOEVENTFD: 36,
  SET_IDENTITY_MAP_ADDR: 37,
  ADJUST_CLOCK: 39,
  INTERNAL_ERROR_DATA: 40,
  VCPU_EVENTS: 41,
  INTR_SHADOW: 49,
  DEBUGREGS: 50,
  X86_ROBUST_SINGLESTEP: 51,
  ENABLE_CAP: 54,
  XSAVE: 55,
  XCRS: 56,
  GET_TSC_KHZ: 61,
  MAX_VCPUS: 66,
  TSC_CONTROL: 60,
  READONLY_MEM: 81,
  SIGNAL_MSI: 77,
  TSC_DEADLINE_TIMER: 72,
  IRQFD_RESAMPLE: 82,
  IOEVENTFD_ANY_LENGTH: 122,
  DISABLE_QUIRKS: 116,
  SPLIT_IRQCHIP: 121,
  MAX_VCPU_ID: 128,
  X2APIC_API: 129,
  IMMEDIATE_EXIT: 136,
  X86_DISABLE_EXITS: 143,
  EXCEPTION_PAYLOAD: 164,
  MANUAL_DIRTY_LOG_PROTECT2: 168,
  X86_USER_SPACE_MSR: 188,
  X86_MSR_FILTER: 189,
  EXIT_HYPERCALL: 201,
  XSAVE2: 208,
  X86_TRIPLE_FAULT_EVENT: 218,
  VM_TSC_CONTROL: 214,
  USER_MEMORY2: 231,
  MEMORY_FAULT_INFO: 232,
  MEMORY_ATTRIBUTES: 233,
  GUEST_MEMFD: 234,
  VM_TYPES: 235,
  PRE_FAULT_MEMORY: 236,
  X86_APIC_BUS_CYCLES_NS: 237,
} as const;

const YES: ReadonlySet<number> = new Set([
  KVM_CAP.IRQCHIP,
  KVM_CAP.HLT,
  KVM_CAP.USER_MEMORY,
  KVM_CAP.SET_TSS_ADDR,
  KVM_CAP.EXT_CPUID,
  KVM_CAP.CLOCKSOURCE,
  KVM_CAP.PIT,
  KVM_CAP.NOP_IO_DELAY,
  KVM_CAP.MP_STATE,
  KVM_CAP.SYNC_MMU,
  KVM_CAP.SET_GUEST_DEBUG,
  KVM_CAP.REINJECT_CONTROL,
  KVM_CAP.INTR_SHADOW,
  KVM_CAP.DESTROY_MEMORY_REGION_WORKS,
  KVM_CAP.USER_NMI,
  KVM_CAP.IRQ_INJECT_STATUS,
  KVM_CAP.ASSIGN_DEV_IRQ,
  KVM_CAP.JOIN_MEMORY_REGIONS_WORKS,
  KVM_CAP.IRQFD,
  KVM_CAP.PIT2,
  KVM_CAP.SET_BOOT_CPU_ID,
  KVM_CAP.PIT_STATE2,
  KVM_CAP.IOEVENTFD,
  KVM_CAP.SET_IDENTITY_MAP_ADDR,
  KVM_CAP.INTERNAL_ERROR_DATA,
  KVM_CAP.VCPU_EVENTS,
  KVM_CAP.DEBUGREGS,
  KVM_CAP.X86_ROBUST_SINGLESTEP,
  KVM_CAP.ENABLE_CAP,
  KVM_CAP.XSAVE,
  KVM_CAP.XCRS,
  KVM_CAP.SIGNAL_MSI,
  KVM_CAP.TSC_DEADLINE_TIMER,
  KVM_CAP.TSC_CONTROL,
  KVM_CAP.IRQFD_RESAMPLE,
  KVM_CAP.IOEVENTFD_ANY_LENGTH,
  KVM_CAP.DISABLE_QUIRKS,
  KVM_CAP.SPLIT_IRQCHIP,
  KVM_CAP.IMMEDIATE_EXIT,
  KVM_CAP.EXCEPTION_PAYLOAD,
  KVM_CAP.X86_MSR_FILTER,
  KVM_CAP.X86_TRIPLE_FAULT_EVENT,
  KVM_CAP.VM_TSC_CONTROL,
  KVM_CAP.USER_MEMORY2,
  KVM_CAP.MEMORY_FAULT_INFO,
  KVM_CAP.PRE_FAULT_MEMORY,
  KVM_CAP.X86_APIC_BUS_CYCLES_NS,
]);

const KVM_USER_MEM_SLOTS = 32764;
const KVM_MAX_IRQ_ROUTES = 4096;
const KVM_MAX_MCE_BANKS = 32;
const XSAVE_SIZE = 4096;
const MAP_GPA_RANGE_BIT: number = 1 << 12;
/** TSC stable, realtime, host TSC. */
const CLOCK_FLAGS = 0xe;

/** What a VM can, or without one what some VM can; 0: not there. */
export function kvmVmIoctlCheckExtension(host: Host, kvm: X86Vm | null, extension: number): number {
  if (YES.has(extension)) return 1;
  const privateMem = kvm === null || kvm.arch.hasPrivateMem;
  switch (extension) {
    case KVM_CAP.NR_VCPUS:
      return host.cpus.online.length;
    case KVM_CAP.MAX_VCPUS:
      return kvm === null ? KVM_MAX_VCPUS : kvm.maxVcpus;
    case KVM_CAP.MAX_VCPU_ID:
      return KVM_MAX_VCPU_IDS;
    case KVM_CAP.NR_MEMSLOTS:
      return KVM_USER_MEM_SLOTS;
    case KVM_CAP.IRQ_ROUTING:
      return KVM_MAX_IRQ_ROUTES;
    case KVM_CAP.MCE:
      return KVM_MAX_MCE_BANKS;
    case KVM_CAP.ADJUST_CLOCK:
      return CLOCK_FLAGS;
    case KVM_CAP.GET_TSC_KHZ:
      return TSC_KHZ;
    case KVM_CAP.X2APIC_API:
      return 3;
    case KVM_CAP.MANUAL_DIRTY_LOG_PROTECT2:
      return 3;
    case KVM_CAP.X86_USER_SPACE_MSR:
      return 7;
    case KVM_CAP.X86_DISABLE_EXITS:
      return 7;
    case KVM_CAP.EXIT_HYPERCALL:
      return MAP_GPA_RANGE_BIT;
    case KVM_CAP.XSAVE2:
      return XSAVE_SIZE;
    case KVM_CAP.VM_TYPES:
      return kvmCaps(host).supportedVmTypes;
    case KVM_CAP.READONLY_MEM:
      return kvm?.arch.hasProtectedState ? 0 : 1;
    case KVM_CAP.MEMORY_ATTRIBUTES:
      return privateMem ? Number(KVM_MEMORY_ATTRIBUTE_PRIVATE) : 0;
    case KVM_CAP.GUEST_MEMFD:
      return privateMem ? 1 : 0;
    default:
      return 0;
  }
}
