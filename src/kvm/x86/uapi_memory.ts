/**
 * Layouts of what user space says of guest memory that may be private. Files are numbers here; who has the table of a
 * process's open files puts the file in their place.
 *
 * @upstream include/uapi/linux/kvm.h
 */
import type { KvmCreateGuestMemfd } from '../virt/guest_memfd.ts';
import type { KvmMemoryAttributes } from '../virt/mem_attributes.ts';
import type { KvmUserspaceMemoryRegion } from '../virt/memslots.ts';
import type { KvmPreFaultMemory } from '../virt/pre_fault.ts';
import { UapiStruct } from '../virt/uapi_struct.ts';

export const kvm_userspace_memory_region2: UapiStruct<
  KvmUserspaceMemoryRegion & { guestMemfdOffset: number; guestMemfd: number }
> = new UapiStruct('kvm_userspace_memory_region2', 160, [
  ['slot', 'u32'],
  ['flags', 'u32'],
  ['guestPhysAddr', 'address'],
  ['memorySize', 'address'],
  ['userspaceAddr', 'address'],
  ['guestMemfdOffset', 'address'],
  ['guestMemfd', 'u32'],
  ['', 'u32'],
  ['', 'u64', 14],
]);

export const kvm_create_guest_memfd: UapiStruct<KvmCreateGuestMemfd> = new UapiStruct('kvm_create_guest_memfd', 64, [
  ['size', 'address'],
  ['flags', 'u64'],
  ['', 'u64', 6],
]);

export const kvm_memory_attributes: UapiStruct<KvmMemoryAttributes> = new UapiStruct('kvm_memory_attributes', 32, [
  ['address', 'address'],
  ['size', 'address'],
  ['attributes', 'u64'],
  ['flags', 'u64'],
]);

export const kvm_pre_fault_memory: UapiStruct<KvmPreFaultMemory> = new UapiStruct('kvm_pre_fault_memory', 64, [
  ['gpa', 'address'],
  ['size', 'address'],
  ['flags', 'u64'],
  ['', 'u64', 5],
]);
