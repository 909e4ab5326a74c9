/**
 * Trust domains as user space manages them: the commands of KVM_MEMORY_ENCRYPT_OP and their structures.
 *
 * @upstream arch/x86/include/uapi/asm/kvm.h, Documentation/virt/kvm/x86/intel-tdx.rst
 */
import { type MemberSpec, UapiStruct } from '../virt/uapi_struct.ts';
import type { KvmCpuidEntry2 } from './cpuid.ts';

/** Numbers of the commands. @upstream enum kvm_tdx_cmd_id */
export const KVM_TDX_CAPABILITIES = 0;
export const KVM_TDX_INIT_VM = 1;
export const KVM_TDX_INIT_VCPU = 2;
export const KVM_TDX_INIT_MEM_REGION = 3;
export const KVM_TDX_FINALIZE_VM = 4;
export const KVM_TDX_GET_CPUID = 5;

/** Flag of KVM_TDX_INIT_MEM_REGION: the content counts in MRTD. */
export const KVM_TDX_MEASURE_MEMORY_REGION = 1;

/** ATTRIBUTES bit: touching a page that was not accepted goes to the host. */
export const TDX_TD_ATTR_SEPT_VE_DISABLE: bigint = 1n << 28n;
/** ATTRIBUTES bit: the host may look into the TD. */
export const TDX_TD_ATTR_DEBUG = 1n;

/** Data of KVM_TDX_CAPABILITIES; filled in by KVM. @upstream struct kvm_tdx_capabilities */
export interface KvmTdxCapabilities {
  supportedAttrs: bigint;
  supportedXfam: bigint;
  kernelTdvmcallinfo1R11: bigint;
  userTdvmcallinfo1R11: bigint;
  kernelTdvmcallinfo1R12: bigint;
  userTdvmcallinfo1R12: bigint;
  /** In: room for how many entries. Out: the entries. */
  cpuid: KvmTdxCpuid;
}

/** struct kvm_cpuid2: `nent` is the room, and what is used of it afterwards. */
export interface KvmTdxCpuid {
  nent: number;
  entries: KvmCpuidEntry2[];
}

/** Data of KVM_TDX_INIT_VM. The three identifiers are 48 bytes each. @upstream struct kvm_tdx_init_vm */
export interface KvmTdxInitVm {
  attributes: bigint;
  xfam: bigint;
  mrconfigid?: readonly bigint[];
  mrowner?: readonly bigint[];
  mrownerconfig?: readonly bigint[];
  /** Twelve words that must be zero; may be left out. */
  reserved?: readonly bigint[];
  cpuid: readonly KvmCpuidEntry2[];
}

/** Data of KVM_TDX_INIT_MEM_REGION; advanced over what is done. @upstream struct kvm_tdx_init_mem_region */
export interface KvmTdxInitMemRegion {
  /** In the address space of the VMM. */
  sourceAddr: number;
  gpa: number;
  nrPages: number;
}

interface CommandOf<Id extends number, Data> {
  readonly id: Id;
  readonly flags?: number;
  data: Data;
  /** Out: what the TDX module said, where it is the module that refused. Must be 0 on entry. */
  hwError?: bigint;
}

/** A command of KVM_MEMORY_ENCRYPT_OP. @upstream struct kvm_tdx_cmd */
export type KvmTdxCmd =
  | CommandOf<0, KvmTdxCapabilities>
  | CommandOf<1, KvmTdxInitVm>
  /** `data` is what the vCPU starts with in RCX and R8. */
  | CommandOf<2, bigint>
  | CommandOf<3, KvmTdxInitMemRegion>
  | CommandOf<4, 0n>
  | CommandOf<5, KvmTdxCpuid>;

const u64s = (...names: string[]): MemberSpec[] => names.map((name) => [name, 'u64']);

/** The command as bytes; `data` is an address or a value. */
export const kvm_tdx_cmd: UapiStruct<{ id: number; flags: number; data: bigint; hwError: bigint }> = new UapiStruct(
  'kvm_tdx_cmd',
  24,
  [['id', 'u32'], ['flags', 'u32'], ...u64s('data', 'hwError')],
);

/** The fixed part of the capabilities; a struct kvm_cpuid2 follows at 2048. */
export const kvm_tdx_capabilities: UapiStruct<Omit<KvmTdxCapabilities, 'cpuid'>> = new UapiStruct(
  'kvm_tdx_capabilities',
  2048,
  [
    ...u64s('supportedAttrs', 'supportedXfam', 'kernelTdvmcallinfo1R11', 'userTdvmcallinfo1R11'),
    ...u64s('kernelTdvmcallinfo1R12', 'userTdvmcallinfo1R12'),
    ['', 'u64', 250],
  ],
);

/** The fixed part of the parameters; a struct kvm_cpuid2 follows at 256. */
export const kvm_tdx_init_vm: UapiStruct<Required<Omit<KvmTdxInitVm, 'cpuid'>>> = new UapiStruct(
  'kvm_tdx_init_vm',
  256,
  [
    ...u64s('attributes', 'xfam'),
    ['mrconfigid', 'u64', 6],
    ['mrowner', 'u64', 6],
    ['mrownerconfig', 'u64', 6],
    ['reserved', 'u64', 12],
  ],
);

/** A region of initial memory. */
export const kvm_tdx_init_mem_region: UapiStruct<KvmTdxInitMemRegion> = new UapiStruct('kvm_tdx_init_mem_region', 24, [
  ['sourceAddr', 'address'],
  ['gpa', 'address'],
  ['nrPages', 'address'],
]);
