/**
 * KVM_MEMORY_ENCRYPT_OP of trust domains: which command is allowed when.
 *
 * @upstream arch/x86/kvm/vmx/tdx.c tdx_vm_ioctl(), tdx_vcpu_ioctl(), tdx_vcpu_unlocked_ioctl(), tdx_vcpu_get_cpuid()
 */
import { E2BIG, EINVAL, EIO, type Errno } from '../../../host/errno.ts';
import { TDX_SUCCESS } from '../../../host/tdx-errno.ts';
import { tdhMngRd } from '../../../host/tdx-leaves.ts';
import { KVM_CPUID_FLAG_SIGNIFCANT_INDEX, type KvmCpuidEntry2 } from '../cpuid.ts';
import type { X86Vcpu, X86Vm } from '../kvm_host.ts';
import {
  KVM_TDX_CAPABILITIES,
  KVM_TDX_FINALIZE_VM,
  KVM_TDX_GET_CPUID,
  KVM_TDX_INIT_MEM_REGION,
  KVM_TDX_INIT_VCPU,
  KVM_TDX_INIT_VM,
  type KvmTdxCmd,
  type KvmTdxCpuid,
} from '../uapi_tdx.ts';
import { cpuidValuesField } from './tdx_arch.ts';
import { tdxGetCapabilities, tdxTdInitIoctl } from './tdx_init_vm.ts';
import { tdxTdFinalize, tdxVcpuInitMemRegion } from './tdx_mem.ts';
import { type KvmTdx, TD_STATE_RUNNABLE, toKvmTdx } from './tdx_types.ts';
import { tdxVcpuInit } from './tdx_vcpu.ts';

/** Subleaves that the module can be asked about. */
const MAX_SUBLEAF = 0x3f;
const ADDRESS_SIZES_LEAF = 0x8000_0008;

/** On the VM. @upstream tdx_vm_ioctl() */
export function tdxVmIoctl(kvm: X86Vm, command: KvmTdxCmd): Errno {
  // Only KVM says what the module said.
  if ((command.hwError ?? 0n) !== 0n) return -EINVAL;
  const td = toKvmTdx(kvm);
  const flags = command.flags ?? 0;
  switch (command.id) {
    case KVM_TDX_CAPABILITIES:
      return tdxGetCapabilities(kvm, flags, command.data);
    case KVM_TDX_INIT_VM: {
      const { result, hwError } = tdxTdInitIoctl(td, flags, command.data);
      command.hwError = hwError;
      return result;
    }
    case KVM_TDX_FINALIZE_VM:
      return flags !== 0 ? -EINVAL : tdxTdFinalize(td);
    default:
      return -EINVAL;
  }
}

/** On a vCPU: all of them before the TD is finalized. @upstream tdx_vcpu_ioctl() */
export function tdxVcpuIoctl(vcpu: X86Vcpu, command: KvmTdxCmd): Errno {
  if ((command.hwError ?? 0n) !== 0n) return -EINVAL;
  const td = toKvmTdx(vcpu.kvm);
  if (!td.hkidAssigned || td.state === TD_STATE_RUNNABLE) return -EINVAL;
  const flags = command.flags ?? 0;
  switch (command.id) {
    case KVM_TDX_INIT_VCPU:
      return flags !== 0 ? -EINVAL : tdxVcpuInit(vcpu, command.data);
    case KVM_TDX_INIT_MEM_REGION:
      return tdxVcpuInitMemRegion(vcpu, flags, command.data);
    case KVM_TDX_GET_CPUID:
      return flags !== 0 ? -EINVAL : tdxVcpuGetCpuid(td, command.data);
    default:
      return -EINVAL;
  }
}

/** What the TD will see of CPUID, as far as the module answers it. @upstream tdx_vcpu_get_cpuid() */
function tdxVcpuGetCpuid(td: KvmTdx, data: KvmTdxCpuid): Errno {
  const entries: KvmCpuidEntry2[] = [];
  for (const base of [0, 0x8000_0000]) {
    const first = leafEntries(td, base);
    // Where a class ends, its first leaf says.
    const last = first[0]?.eax ?? base;
    entries.push(...first);
    for (let leaf = base + 1; leaf <= last; leaf++) entries.push(...leafEntries(td, leaf));
  }
  if (data.nent < entries.length) {
    data.nent = entries.length;
    return -E2BIG;
  }
  data.nent = entries.length;
  data.entries = entries;
  return entries.length === 0 ? -EIO : 0;
}

/** @upstream tdx_vcpu_get_cpuid_leaf() */
function leafEntries(td: KvmTdx, leaf: number): KvmCpuidEntry2[] {
  const plain = readEntry(td, leaf, null);
  if (plain !== null) return [plain];
  const entries: KvmCpuidEntry2[] = [];
  for (let subleaf = 0; subleaf <= MAX_SUBLEAF; subleaf++) {
    const entry = readEntry(td, leaf, subleaf);
    if (entry === null) break;
    entries.push(entry);
  }
  return entries;
}

/** null where the module has no such value. @upstream tdx_read_cpuid() */
function readEntry(td: KvmTdx, leaf: number, subleaf: number | null): KvmCpuidEntry2 | null {
  const words: number[] = [];
  for (const element of [0, 1] as const) {
    const { rax, r8 } = tdhMngRd(td.cpus, td.tdr!, cpuidValuesField(leaf, subleaf, element));
    if (rax !== TDX_SUCCESS) return null;
    words.push(Number(r8 & 0xffff_ffffn), Number(r8 >> 32n));
  }
  const [eax, ebx, ecx, edx] = words as [number, number, number, number];
  const entry: KvmCpuidEntry2 = {
    function: leaf,
    index: subleaf ?? 0,
    flags: subleaf === null ? 0 : KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
    eax,
    ebx,
    ecx,
    edx,
  };
  if (leaf === ADDRESS_SIZES_LEAF) entry.eax = ((eax & ~0xff0000) | (guestPaBits(td) << 16)) >>> 0;
  return entry;
}

/** The position of the shared bit, and one. */
const guestPaBits = (td: KvmTdx): number => Math.log2(td.kvm.arch.gfnDirectBits) + 12 + 1;
