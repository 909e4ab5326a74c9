/**
 * Layouts of the structures that x86 user space exchanges with KVM, as objects of the typed API on one side and bytes on
 * the other.
 *
 * @upstream arch/x86/include/uapi/asm/kvm.h, include/uapi/linux/kvm.h
 */
import type { KvmUserspaceMemoryRegion } from '../virt/memslots.ts';
import { type MemberSpec, UapiStruct } from '../virt/uapi_struct.ts';
import type { KvmCpuidEntry2 } from './cpuid.ts';
import type { KvmFpu } from './fpu.ts';
import type { KvmGuestDebug } from './guest_debug.ts';
import type { KvmDtable, KvmSegment } from './kvm_host.ts';
import type { KvmRegs, KvmSregs } from './sregs.ts';
import type { KvmDebugregs } from './vcpu_state.ts';

const u64s = (...names: string[]): MemberSpec[] => names.map((name) => [name, 'u64']);

export const kvm_regs: UapiStruct<KvmRegs> = new UapiStruct('kvm_regs', 144, [
  ...u64s('rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rsp', 'rbp'),
  ...u64s('r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'rip', 'rflags'),
]);

export const kvm_segment: UapiStruct<KvmSegment> = new UapiStruct('kvm_segment', 24, [
  ['base', 'u64'],
  ['limit', 'u32'],
  ['selector', 'u16'],
  ['type', 'u8'],
  ['present', 'u8'],
  ['dpl', 'u8'],
  ['db', 'u8'],
  ['s', 'u8'],
  ['l', 'u8'],
  ['g', 'u8'],
  ['avl', 'u8'],
  ['unusable', 'u8'],
  ['', 'u8'],
]);

export const kvm_dtable: UapiStruct<KvmDtable> = new UapiStruct('kvm_dtable', 16, [
  ['base', 'u64'],
  ['limit', 'u16'],
  ['', 'u16', 3],
]);

export const kvm_sregs: UapiStruct<KvmSregs> = new UapiStruct('kvm_sregs', 312, [
  ['cs', kvm_segment],
  ['ds', kvm_segment],
  ['es', kvm_segment],
  ['fs', kvm_segment],
  ['gs', kvm_segment],
  ['ss', kvm_segment],
  ['tr', kvm_segment],
  ['ldt', kvm_segment],
  ['gdt', kvm_dtable],
  ['idt', kvm_dtable],
  ...u64s('cr0', 'cr2', 'cr3', 'cr4', 'cr8', 'efer', 'apicBase'),
  ['interruptBitmap', 'u64', 4],
]);

/** The FPU as the binary interface has it: fpr is eight registers of 16 bytes, xmm sixteen. */
export const kvm_fpu: UapiStruct<KvmFpu> = new UapiStruct('kvm_fpu', 416, [
  ['fpr', 'u8', 128],
  ['fcw', 'u16'],
  ['fsw', 'u16'],
  ['ftwx', 'u8'],
  ['', 'u8'],
  ['lastOpcode', 'u16'],
  ['lastIp', 'u64'],
  ['lastDp', 'u64'],
  ['xmm', 'u8', 256],
  ['mxcsr', 'u32'],
  ['', 'u32'],
]);

export const kvm_debugregs: UapiStruct<KvmDebugregs> = new UapiStruct('kvm_debugregs', 128, [
  ['db', 'u64', 4],
  ['dr6', 'u64'],
  ['dr7', 'u64'],
  ['', 'u64'],
  ['', 'u64', 9],
]);

export const kvm_guest_debug: UapiStruct<KvmGuestDebug> = new UapiStruct('kvm_guest_debug', 72, [
  ['control', 'u32'],
  ['', 'u32'],
  ['debugreg', 'u64', 8],
]);

export const kvm_cpuid_entry2: UapiStruct<KvmCpuidEntry2> = new UapiStruct('kvm_cpuid_entry2', 40, [
  ['function', 'u32'],
  ['index', 'u32'],
  ['flags', 'u32'],
  ['eax', 'u32'],
  ['ebx', 'u32'],
  ['ecx', 'u32'],
  ['edx', 'u32'],
  ['', 'u32', 3],
]);

/** `nent` is the room for entries, or how many there are. */
export const kvm_cpuid2: UapiStruct<{ nent: number; entries: readonly KvmCpuidEntry2[] }> = new UapiStruct(
  'kvm_cpuid2',
  8,
  [
    ['nent', 'u32'],
    ['', 'u32'],
    ['entries', kvm_cpuid_entry2, 'nent'],
  ],
);

export const kvm_msr_entry: UapiStruct<{ index: number; data: bigint }> = new UapiStruct('kvm_msr_entry', 16, [
  ['index', 'u32'],
  ['', 'u32'],
  ['data', 'u64'],
]);

export const kvm_msrs: UapiStruct<{ nmsrs: number; entries: readonly { index: number; data: bigint }[] }> =
  new UapiStruct('kvm_msrs', 8, [
    ['nmsrs', 'u32'],
    ['', 'u32'],
    ['entries', kvm_msr_entry, 'nmsrs'],
  ]);

export const kvm_userspace_memory_region: UapiStruct<KvmUserspaceMemoryRegion> = new UapiStruct(
  'kvm_userspace_memory_region',
  32,
  [
    ['slot', 'u32'],
    ['flags', 'u32'],
    ['guestPhysAddr', 'address'],
    ['memorySize', 'address'],
    ['userspaceAddr', 'address'],
  ],
);

/** Flat form of the vCPU events; the typed API groups its members. */
export interface KvmVcpuEventsBinary {
  exceptionInjected: boolean;
  exceptionNr: number;
  exceptionHasErrorCode: boolean;
  exceptionPending: boolean;
  exceptionErrorCode: number;
  interruptInjected: boolean;
  interruptNr: number;
  interruptSoft: boolean;
  interruptShadow: number;
  nmiInjected: boolean;
  nmiPending: boolean;
  nmiMasked: boolean;
  sipiVector: number;
  flags: number;
  smiSmm: boolean;
  smiPending: boolean;
  smiInsideNmi: boolean;
  smiLatchedInit: boolean;
  tripleFaultPending: boolean;
  exceptionHasPayload: boolean;
  exceptionPayload: bigint;
}

export const kvm_vcpu_events: UapiStruct<KvmVcpuEventsBinary> = new UapiStruct('kvm_vcpu_events', 64, [
  ['exceptionInjected', 'flag'],
  ['exceptionNr', 'u8'],
  ['exceptionHasErrorCode', 'flag'],
  ['exceptionPending', 'flag'],
  ['exceptionErrorCode', 'u32'],
  ['interruptInjected', 'flag'],
  ['interruptNr', 'u8'],
  ['interruptSoft', 'flag'],
  ['interruptShadow', 'u8'],
  ['nmiInjected', 'flag'],
  ['nmiPending', 'flag'],
  ['nmiMasked', 'flag'],
  ['', 'u8'],
  ['sipiVector', 'u32'],
  ['flags', 'u32'],
  ['smiSmm', 'flag'],
  ['smiPending', 'flag'],
  ['smiInsideNmi', 'flag'],
  ['smiLatchedInit', 'flag'],
  ['tripleFaultPending', 'flag'],
  ['', 'u8', 26],
  ['exceptionHasPayload', 'flag'],
  ['exceptionPayload', 'u64'],
]);

export const kvm_mp_state: UapiStruct<{ mpState: number }> = new UapiStruct('kvm_mp_state', 4, [['mpState', 'u32']]);
export const kvm_xcr: UapiStruct<{ xcr: number; value: bigint }> = new UapiStruct('kvm_xcr', 16, [
  ['xcr', 'u32'],
  ['', 'u32'],
  ['value', 'u64'],
]);
export const kvm_xcrs: UapiStruct<{
  nrXcrs: number;
  flags: number;
  xcrs: readonly { xcr: number; value: bigint }[];
}> = new UapiStruct('kvm_xcrs', 392, [
  ['nrXcrs', 'u32'],
  ['flags', 'u32'],
  ['xcrs', kvm_xcr, 16],
  ['', 'u64', 16],
]);
export const kvm_translation: UapiStruct<{
  linearAddress: bigint;
  physicalAddress: bigint;
  valid: boolean;
  writeable: boolean;
  usermode: boolean;
}> = new UapiStruct('kvm_translation', 24, [
  ['linearAddress', 'u64'],
  ['physicalAddress', 'u64'],
  ['valid', 'flag'],
  ['writeable', 'flag'],
  ['usermode', 'flag'],
  ['', 'u8', 5],
]);
export const kvm_irq_level: UapiStruct<{ irq: number; level: number }> = new UapiStruct('kvm_irq_level', 8, [
  ['irq', 'u32'],
  ['level', 'u32'],
]);
export const kvm_msi: UapiStruct<{
  addressLo: number;
  addressHi: number;
  data: number;
  flags: number;
  devid: number;
}> = new UapiStruct('kvm_msi', 32, [
  ['addressLo', 'u32'],
  ['addressHi', 'u32'],
  ['data', 'u32'],
  ['flags', 'u32'],
  ['devid', 'u32'],
  ['', 'u8', 12],
]);
export const kvm_clock_data: UapiStruct<{
  clock: bigint;
  flags: number;
  realtime: bigint;
  hostTsc: bigint;
}> = new UapiStruct('kvm_clock_data', 48, [
  ['clock', 'u64'],
  ['flags', 'u32'],
  ['', 'u32'],
  ['realtime', 'u64'],
  ['hostTsc', 'u64'],
  ['', 'u32', 4],
]);
export const kvm_enable_cap: UapiStruct<{ cap: number; flags: number; args: readonly bigint[] }> = new UapiStruct(
  'kvm_enable_cap',
  104,
  [
    ['cap', 'u32'],
    ['flags', 'u32'],
    ['args', 'u64', 4],
    ['', 'u8', 64],
  ],
);
export const kvm_clear_dirty_log: UapiStruct<{
  slot: number;
  numPages: number;
  firstPage: number;
  dirtyBitmap: bigint;
}> = new UapiStruct('kvm_clear_dirty_log', 24, [
  ['slot', 'u32'],
  ['numPages', 'u32'],
  ['firstPage', 'address'],
  ['dirtyBitmap', 'u64'],
]);
