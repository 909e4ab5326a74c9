/**
 * Guest control registers, EFER, segments and descriptor tables in the VMCS.
 *
 * The processor must offer EPT and unrestricted guest (hardware setup checks it), so every mode runs natively.
 *
 * @upstream arch/x86/kvm/vmx/vmx.c vmx_set_cr0(), vmx_set_cr4(), vmx_set_efer(), vmx_set_segment()
 */
import { ENTRY_CONTROL } from '../../../machine/vtx/controls.ts';
import type { Hpa } from '../../../util/address.ts';
import {
  isPaePaging,
  isPaging,
  isProtmode,
  isV86,
  kvmReadCr0Bits,
  kvmRegisterMarkAvailable,
} from '../kvm_cache_regs.ts';
import {
  type KvmDtable,
  type KvmSegment,
  VCPU_EXREG_CR0,
  VCPU_EXREG_CR3,
  VCPU_EXREG_CR4,
  VCPU_EXREG_PDPTR,
  VCPU_SREG_CS,
  VCPU_SREG_SS,
  VCPU_SREG_TR,
  type X86Vcpu,
} from '../kvm_host.ts';
import {
  controlsClearbit,
  controlsSetbit,
  toVmx,
  type VcpuVmx,
  vmxReadGuestSegAr,
  vmxReadGuestSegBase,
  vmxReadGuestSegLimit,
  vmxReadGuestSegSelector,
  vmxWriteGuestSeg,
} from './vcpu_vmx.ts';
import {
  CR0_GUEST_HOST_MASK,
  CR0_READ_SHADOW,
  CR4_GUEST_HOST_MASK,
  CR4_READ_SHADOW,
  EPT_POINTER,
  GUEST_CR0,
  GUEST_CR3,
  GUEST_CR4,
  GUEST_GDTR_BASE,
  GUEST_GDTR_LIMIT,
  GUEST_IA32_EFER,
  GUEST_IDTR_BASE,
  GUEST_IDTR_LIMIT,
  GUEST_PDPTR0,
  VM_ENTRY_CONTROLS,
  vmcsRead32,
  vmcsRead64,
  vmcsWrite,
} from './vmcs.ts';

const CR0_WP = 0x10000;
const CR0_NE = 0x20;
const CR0_TS = 8;
const CR0_NW = 0x2000_0000;
const CR0_CD = 0x4000_0000;
const CR0_PG = 0x8000_0000;
const CR4_VMXE = 0x2000;
const CR4_MCE = 0x40;
const EFER_LME = 0x100;
const EFER_LMA = 0x400;

/** CR0 bits a guest may change without an exit. @upstream KVM_POSSIBLE_CR0_GUEST_BITS */
export const KVM_POSSIBLE_CR0_GUEST_BITS: number = CR0_TS | CR0_WP;
/** CR4 bits a guest may change without an exit: PVI DE PCE OSFXSR OSXMMEXCPT PGE TSD FSGSBASE. @upstream KVM_POSSIBLE_CR4_GUEST_BITS */
export const KVM_POSSIBLE_CR4_GUEST_BITS: number = 0x2 | 0x8 | 0x100 | 0x200 | 0x400 | 0x80 | 0x4 | 0x10000;

const AR_UNUSABLE = 0x10000;
const AR_TYPE_MASK = 0xf;
const AR_BUSY_64_TSS = 11;
const TYPE_ACCESSED = 1;

/** @upstream vmx_set_cr0() */
export function vmxSetCr0(vcpu: X86Vcpu, cr0: number): void {
  const vmx = toVmx(vcpu);
  const { arch } = vcpu;
  const old = kvmReadCr0Bits(vcpu, CR0_PG);
  const hwCr0 = ((cr0 & ~(CR0_NW | CR0_CD)) | CR0_NE) >>> 0;
  vmcsWrite(vmx.v, CR0_READ_SHADOW, cr0);
  vmcsWrite(vmx.v, GUEST_CR0, hwCr0);
  arch.cr0 = cr0;
  kvmRegisterMarkAvailable(vcpu, VCPU_EXREG_CR0);
  if (arch.efer & EFER_LME) {
    if (!old && cr0 & CR0_PG) enterLmode(vcpu);
    else if (old && !(cr0 & CR0_PG)) exitLmode(vcpu);
  }
  // Without paging, CR3 accesses are still native under unrestricted guest: nothing to intercept.
}

/** Entering IA-32e mode needs a 64-bit TSS. @upstream enter_lmode() */
function enterLmode(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  const ar = vmxReadGuestSegAr(vmx, VCPU_SREG_TR);
  if ((ar & AR_TYPE_MASK) !== AR_BUSY_64_TSS) {
    vmxWriteGuestSeg(
      vmx,
      VCPU_SREG_TR,
      vmxReadGuestSegSelector(vmx, VCPU_SREG_TR),
      vmxReadGuestSegBase(vmx, VCPU_SREG_TR),
      vmxReadGuestSegLimit(vmx, VCPU_SREG_TR),
      (ar & ~AR_TYPE_MASK) | AR_BUSY_64_TSS,
    );
  }
  vmxSetEfer(vcpu, vcpu.arch.efer | EFER_LMA);
}
/** @upstream exit_lmode() */
function exitLmode(vcpu: X86Vcpu): void {
  vmxSetEfer(vcpu, vcpu.arch.efer & ~EFER_LMA);
}

/** @upstream vmx_is_valid_cr0(): unrestricted guest allows every mode. */
export const vmxIsValidCr0 = (_vcpu: X86Vcpu, _cr0: number): boolean => true;

/** @upstream vmx_is_valid_cr4(): there is no nested VMX. */
export const vmxIsValidCr4 = (_vcpu: X86Vcpu, cr4: number): boolean => (cr4 & CR4_VMXE) === 0;

/** @upstream vmx_set_cr4() */
export function vmxSetCr4(vcpu: X86Vcpu, cr4: number): void {
  const vmx = toVmx(vcpu);
  // Machine checks belong to the host.
  const hwCr4 = ((vmx.p.cr4 & CR4_MCE) | (cr4 & ~CR4_MCE) | CR4_VMXE) >>> 0;
  vcpu.arch.cr4 = cr4;
  kvmRegisterMarkAvailable(vcpu, VCPU_EXREG_CR4);
  vmcsWrite(vmx.v, CR4_READ_SHADOW, cr4);
  vmcsWrite(vmx.v, GUEST_CR4, hwCr4);
}

/** @upstream set_cr4_guest_host_mask() */
export function setCr4GuestHostMask(vcpu: X86Vcpu): void {
  const { arch } = vcpu;
  arch.cr4GuestOwnedBits = KVM_POSSIBLE_CR4_GUEST_BITS & ~arch.cr4GuestRsvdBits;
  vmcsWrite(toVmx(vcpu).v, CR4_GUEST_HOST_MASK, ~arch.cr4GuestOwnedBits >>> 0);
}
/** CR0 bits the guest owns. */
export function setCr0GuestHostMask(vcpu: X86Vcpu): void {
  vcpu.arch.cr0GuestOwnedBits = KVM_POSSIBLE_CR0_GUEST_BITS;
  vmcsWrite(toVmx(vcpu).v, CR0_GUEST_HOST_MASK, ~KVM_POSSIBLE_CR0_GUEST_BITS >>> 0);
}

/** @upstream vmx_set_efer() */
export function vmxSetEfer(vcpu: X86Vcpu, efer: number): number {
  const vmx = toVmx(vcpu);
  vcpu.arch.efer = efer;
  if (efer & EFER_LMA) controlsSetbit(vmx, VM_ENTRY_CONTROLS, ENTRY_CONTROL.IA32E_GUEST);
  else controlsClearbit(vmx, VM_ENTRY_CONTROLS, ENTRY_CONTROL.IA32E_GUEST);
  // The entry checks want LME equal to LMA while paging is on; the guest's own value is in arch.efer.
  vmcsWrite(vmx.v, GUEST_IA32_EFER, efer & EFER_LMA ? efer : efer & ~EFER_LME);
  return 0;
}

/** EPTP: write-back paging structures, page-walk length 4 (or 5). @upstream construct_eptp() */
export const constructEptp = (root: Hpa, rootLevel: number, accessedDirty: boolean): bigint =>
  BigInt(root) | 6n | (BigInt(rootLevel - 1) << 3n) | (accessedDirty ? 0x40n : 0n);

/** @upstream vmx_load_mmu_pgd() */
export function vmxLoadMmuPgdWith(vcpu: X86Vcpu, root: Hpa, rootLevel: number, accessedDirty: boolean): void {
  const vmx = toVmx(vcpu);
  vmcsWrite(vmx.v, EPT_POINTER, constructEptp(root, rootLevel, accessedDirty));
  if (isPaging(vcpu) && (vcpu.arch.regsAvail & (1 << VCPU_EXREG_CR3)) === 0) return;
  eptLoadPdptrs(vcpu);
  vmcsWrite(vmx.v, GUEST_CR3, vcpu.arch.cr3);
}

/** PDPTEs that KVM loaded go to the VMCS. @upstream vmx_ept_load_pdptrs() */
export function eptLoadPdptrs(vcpu: X86Vcpu): void {
  const { arch } = vcpu;
  if ((arch.regsDirty & (1 << VCPU_EXREG_PDPTR)) === 0) return;
  if (isPaePaging(vcpu)) {
    const { v } = toVmx(vcpu);
    for (let i = 0; i < 4; i++) vmcsWrite(v, GUEST_PDPTR0 + 2 * i, arch.pdptrs[i]!);
  }
  arch.regsDirty &= ~(1 << VCPU_EXREG_PDPTR);
}

/** @upstream vmx_get_segment() */
export function vmxGetSegment(vcpu: X86Vcpu, seg: number): KvmSegment {
  const vmx = toVmx(vcpu);
  const ar = vmxReadGuestSegAr(vmx, seg);
  const unusable = (ar >>> 16) & 1;
  return {
    base: vmxReadGuestSegBase(vmx, seg),
    limit: vmxReadGuestSegLimit(vmx, seg),
    selector: vmxReadGuestSegSelector(vmx, seg),
    type: ar & 15,
    s: (ar >>> 4) & 1,
    dpl: (ar >>> 5) & 3,
    present: unusable ? 0 : (ar >>> 7) & 1,
    avl: (ar >>> 12) & 1,
    l: (ar >>> 13) & 1,
    db: (ar >>> 14) & 1,
    g: (ar >>> 15) & 1,
    unusable,
  };
}

/** @upstream vmx_segment_access_rights() */
export const vmxSegmentAccessRights = (seg: KvmSegment): number =>
  (seg.type & 15) |
  ((seg.s & 1) << 4) |
  ((seg.dpl & 3) << 5) |
  ((seg.present & 1) << 7) |
  ((seg.avl & 1) << 12) |
  ((seg.l & 1) << 13) |
  ((seg.db & 1) << 14) |
  ((seg.g & 1) << 15) |
  (seg.unusable || !seg.present ? AR_UNUSABLE : 0);

/** @upstream vmx_set_segment() */
export function vmxSetSegment(vcpu: X86Vcpu, seg: number, value: KvmSegment): void {
  let ar = vmxSegmentAccessRights(value);
  // User space may give code and data segments without the accessed bit, which VM entry under unrestricted guest wants.
  if (value.s && seg < VCPU_SREG_TR && (ar & AR_UNUSABLE) === 0) ar |= TYPE_ACCESSED;
  vmxWriteGuestSeg(toVmx(vcpu), seg, value.selector, value.base, value.limit >>> 0, ar);
}

/** @upstream vmx_get_segment_base() */
export const vmxGetSegmentBase = (vcpu: X86Vcpu, seg: number): bigint => vmxReadGuestSegBase(toVmx(vcpu), seg);

/** DPL of SS is the privilege level. @upstream vmx_get_cpl() */
export function vmxGetCpl(vcpu: X86Vcpu): number {
  if (!isProtmode(vcpu)) return 0;
  if (isV86(vcpu)) return 3;
  return (vmxReadGuestSegAr(toVmx(vcpu), VCPU_SREG_SS) >>> 5) & 3;
}

/** CS.D in bit 0, CS.L in bit 1. @upstream vmx_get_cs_db_l_bits() */
export function vmxGetCsDbLBits(vcpu: X86Vcpu): number {
  const ar = vmxReadGuestSegAr(toVmx(vcpu), VCPU_SREG_CS);
  return ((ar >>> 14) & 1) | (((ar >>> 13) & 1) << 1);
}

const readTable = (vmx: VcpuVmx, base: number, limit: number): KvmDtable => ({
  base: vmcsRead64(vmx.v, base),
  limit: vmcsRead32(vmx.v, limit),
});
function writeTable(vmx: VcpuVmx, base: number, limit: number, table: KvmDtable): void {
  vmcsWrite(vmx.v, base, table.base);
  vmcsWrite(vmx.v, limit, table.limit);
}
export const vmxGetIdt = (vcpu: X86Vcpu): KvmDtable => readTable(toVmx(vcpu), GUEST_IDTR_BASE, GUEST_IDTR_LIMIT);
export function vmxSetIdt(vcpu: X86Vcpu, table: KvmDtable): void {
  writeTable(toVmx(vcpu), GUEST_IDTR_BASE, GUEST_IDTR_LIMIT, table);
}
export const vmxGetGdt = (vcpu: X86Vcpu): KvmDtable => readTable(toVmx(vcpu), GUEST_GDTR_BASE, GUEST_GDTR_LIMIT);
export function vmxSetGdt(vcpu: X86Vcpu, table: KvmDtable): void {
  writeTable(toVmx(vcpu), GUEST_GDTR_BASE, GUEST_GDTR_LIMIT, table);
}
