/**
 * Control registers, EFER and XCR0 as guests and user space write them. Setters give 0, or 1 for #GP.
 *
 * @upstream arch/x86/kvm/x86.c kvm_set_cr0(), kvm_set_cr3(), kvm_set_cr4(), set_efer(), __kvm_set_xcr()
 */

import { kvmReadGuest64 } from '../virt/guest_memory.ts';
import { kvmMakeRequest } from '../virt/kvm_host.ts';
import { kvmUpdateCpuidRuntime } from './cpuid.ts';
import { guestCpuidHas } from './cpuid_caps.ts';
import { kvmInjectGp, kvmQueueException, UD_VECTOR } from './event_queue.ts';
import {
  is64BitMode,
  isLongMode,
  isPaePaging,
  isPaging,
  kvmReadCr0,
  kvmReadCr0Bits,
  kvmReadCr3,
  kvmReadCr4,
  kvmReadCr4Bits,
  kvmRegisterMarkAvailable,
  kvmRegisterMarkDirty,
  kvmRegisterRead32,
} from './kvm_cache_regs.ts';
import {
  KVM_REQ_LOAD_MMU_PGD,
  KVM_REQ_TLB_FLUSH_GUEST,
  VCPU_EXREG_CR3,
  VCPU_EXREG_PDPTR,
  VCPU_REGS_RAX,
  VCPU_REGS_RCX,
  VCPU_REGS_RDX,
  type X86Vcpu,
} from './kvm_host.ts';
import { kvmLapicGetCr8, kvmLapicSetTpr } from './lapic.ts';
import { kvmSkipEmulatedInstruction } from './skip.ts';

const CR0_PE = 1;
const CR0_ET = 0x10;
const CR0_NW = 0x2000_0000;
const CR0_CD = 0x4000_0000;
const CR0_PG = 0x8000_0000;
const CR0_WP = 0x10000;
const CR0_RESERVED: number = ~0xe005_003f >>> 0;
const CR4_PAE = 0x20;
const CR4_PGE = 0x80;
const CR4_PSE = 0x10;
const CR4_PCIDE = 0x20000;
const CR4_LA57 = 0x1000;
const CR4_SMEP = 0x100000;
const CR4_SMAP = 0x200000;
const CR4_OSXSAVE = 0x40000;
const CR4_PKE = 0x400000;
const CR4_PDPTR_BITS: number = CR4_PGE | CR4_PSE | CR4_PAE | CR4_SMEP;
const CR4_TLBFLUSH_BITS: number = CR4_PGE | CR4_PCIDE | CR4_PAE | CR4_SMEP;
const CR3_PCID_INVD = 1n << 63n;
const EFER_SCE = 1;
const EFER_LME = 0x100;
const EFER_LMA = 0x400;
const EFER_NX = 0x800;
const PDPTE_RESERVED_LOW = 0x1e6n;

/** Injects #GP on failure, else skips the instruction. @upstream kvm_complete_insn_gp() */
export function kvmCompleteInsnGp(vcpu: X86Vcpu, failed: number): number {
  if (failed !== 0) {
    kvmInjectGp(vcpu);
    return 1;
  }
  return kvmSkipEmulatedInstruction(vcpu);
}

/** Loads the four PDPTEs of PAE paging; false if a present one has reserved bits set. @upstream load_pdptrs() */
export function loadPdptrs(vcpu: X86Vcpu, cr3: bigint): boolean {
  const base = Number(cr3 & 0xffff_ffe0n);
  const reserved = PDPTE_RESERVED_LOW | ((~0n << BigInt(vcpu.arch.maxphyaddr)) & 0xffff_ffff_ffff_ffffn);
  const loaded: bigint[] = [];
  for (let i = 0; i < 4; i++) {
    const entry = kvmReadGuest64(vcpu.kvm, base + i * 8);
    if (entry === undefined || (entry & 1n && entry & reserved)) return false;
    loaded.push(entry);
  }
  for (let i = 0; i < 4; i++) vcpu.arch.pdptrs[i] = loaded[i]!;
  kvmRegisterMarkDirty(vcpu, VCPU_EXREG_PDPTR);
  kvmMakeRequest(KVM_REQ_LOAD_MMU_PGD, vcpu);
  return true;
}

/** @upstream kvm_is_valid_cr0() */
export function kvmIsValidCr0(vcpu: X86Vcpu, cr0: bigint): boolean {
  if (cr0 >> 32n !== 0n) return false;
  const value = Number(cr0);
  if (value & CR0_NW && !(value & CR0_CD)) return false;
  if (value & CR0_PG && !(value & CR0_PE)) return false;
  return vcpu.kvm.ops.isValidCr0(vcpu, value);
}

/** @upstream kvm_set_cr0() */
export function kvmSetCr0(vcpu: X86Vcpu, raw: bigint): number {
  const old = kvmReadCr0(vcpu);
  if (raw >> 32n !== 0n || !kvmIsValidCr0(vcpu, raw)) return 1;
  const cr0 = ((Number(raw) | CR0_ET) & ~CR0_RESERVED) >>> 0;
  const paging = (cr0 & CR0_PG) !== 0;
  if (vcpu.arch.efer & EFER_LME && !isPaging(vcpu) && paging) {
    const bits = vcpu.kvm.ops.getCsDbLBits(vcpu);
    if ((kvmReadCr4(vcpu) & CR4_PAE) === 0) return 1;
    if (bits & 2) return 1;
  }
  if (
    !(vcpu.arch.efer & EFER_LME) &&
    paging &&
    kvmReadCr4(vcpu) & CR4_PAE &&
    (cr0 ^ old) & (CR0_PG | CR0_CD | CR0_NW) &&
    !loadPdptrs(vcpu, kvmReadCr3(vcpu))
  )
    return 1;
  if (!paging && (is64BitMode(vcpu) || kvmReadCr4Bits(vcpu, CR4_PCIDE))) return 1;
  vcpu.kvm.ops.setCr0(vcpu, cr0);
  kvmPostSetCr0(vcpu, old, cr0);
  return 0;
}

/** @upstream kvm_post_set_cr0() */
export function kvmPostSetCr0(vcpu: X86Vcpu, old: number, cr0: number): void {
  if ((old ^ cr0) & (CR0_PG | CR0_WP)) {
    // Translations made under the other mode are void. EPT itself does not change with it.
    if ((old ^ cr0) & CR0_PG) kvmMakeRequest(KVM_REQ_TLB_FLUSH_GUEST, vcpu);
  }
}

/** LMSW: PE can be set and not cleared. @upstream kvm_lmsw() */
export function kvmLmsw(vcpu: X86Vcpu, msw: number): void {
  const cr0 = (kvmReadCr0Bits(vcpu, ~0x0e >>> 0) | (msw & 0x0f)) >>> 0;
  kvmSetCr0(vcpu, BigInt(cr0));
}

/** @upstream kvm_set_cr3() */
export function kvmSetCr3(vcpu: X86Vcpu, raw: bigint): number {
  let cr3 = raw;
  let skipFlush = false;
  if (kvmReadCr4Bits(vcpu, CR4_PCIDE)) {
    skipFlush = (cr3 & CR3_PCID_INVD) !== 0n;
    cr3 &= ~CR3_PCID_INVD;
  }
  if (cr3 >> BigInt(vcpu.arch.maxphyaddr) !== 0n) return 1;
  if (isPaePaging(vcpu) && !loadPdptrs(vcpu, cr3)) return 1;
  vcpu.arch.cr3 = cr3;
  kvmRegisterMarkDirty(vcpu, VCPU_EXREG_CR3);
  kvmMakeRequest(KVM_REQ_LOAD_MMU_PGD, vcpu);
  if (!skipFlush) kvmMakeRequest(KVM_REQ_TLB_FLUSH_GUEST, vcpu);
  return 0;
}

/** @upstream kvm_is_valid_cr4() */
export const kvmIsValidCr4 = (vcpu: X86Vcpu, cr4: bigint): boolean =>
  cr4 >> 32n === 0n && (Number(cr4) & vcpu.arch.cr4GuestRsvdBits) === 0 && vcpu.kvm.ops.isValidCr4(vcpu, Number(cr4));

/** @upstream kvm_set_cr4() */
export function kvmSetCr4(vcpu: X86Vcpu, raw: bigint): number {
  const old = kvmReadCr4(vcpu);
  if (!kvmIsValidCr4(vcpu, raw)) return 1;
  const cr4 = Number(raw);
  if (isLongMode(vcpu)) {
    if (!(cr4 & CR4_PAE)) return 1;
    if ((cr4 ^ old) & CR4_LA57) return 1;
  } else if (isPaging(vcpu) && cr4 & CR4_PAE && (cr4 ^ old) & CR4_PDPTR_BITS && !loadPdptrs(vcpu, kvmReadCr3(vcpu))) {
    return 1;
  }
  if (cr4 & CR4_PCIDE && !(old & CR4_PCIDE)) {
    // PCIDs can only be turned on with PCID 0 in CR3, in long mode.
    if (kvmReadCr3(vcpu) & 0xfffn || !isLongMode(vcpu)) return 1;
  }
  vcpu.kvm.ops.setCr4(vcpu, cr4);
  kvmPostSetCr4(vcpu, old, cr4);
  return 0;
}

/** @upstream kvm_post_set_cr4() */
export function kvmPostSetCr4(vcpu: X86Vcpu, old: number, cr4: number): void {
  const changed = old ^ cr4;
  if (changed & (CR4_TLBFLUSH_BITS | CR4_SMAP | CR4_LA57)) kvmMakeRequest(KVM_REQ_TLB_FLUSH_GUEST, vcpu);
  if (changed & (CR4_OSXSAVE | CR4_PKE)) kvmUpdateCpuidRuntime(vcpu);
}

/** @upstream kvm_set_cr8() */
export function kvmSetCr8(vcpu: X86Vcpu, cr8: bigint): number {
  if (cr8 & ~0xfn) return 1;
  if (vcpu.arch.apic !== null) kvmLapicSetTpr(vcpu, Number(cr8));
  else vcpu.arch.cr8 = Number(cr8);
  return 0;
}
/** @upstream kvm_get_cr8() */
export const kvmGetCr8 = (vcpu: X86Vcpu): number => (vcpu.arch.apic !== null ? kvmLapicGetCr8(vcpu) : vcpu.arch.cr8);

/** EFER bits the guest's CPUID allows. @upstream __kvm_valid_efer() */
export function kvmValidEfer(vcpu: X86Vcpu, efer: number): boolean {
  let allowed = 0;
  if (guestCpuidHas(vcpu, 'syscall')) allowed |= EFER_SCE;
  if (guestCpuidHas(vcpu, 'lm')) allowed |= EFER_LME | EFER_LMA;
  if (guestCpuidHas(vcpu, 'nx')) allowed |= EFER_NX;
  return (efer & ~allowed) === 0;
}

/** WRMSR to EFER, or user space's. @upstream set_efer() */
export function setEfer(vcpu: X86Vcpu, raw: bigint, hostInitiated: boolean): number {
  if (raw >> 32n !== 0n) return 1;
  let efer = Number(raw);
  const old = vcpu.arch.efer;
  if (!hostInitiated) {
    if (!kvmValidEfer(vcpu, efer)) return 1;
    if (isPaging(vcpu) && (old & EFER_LME) !== (efer & EFER_LME)) return 1;
    efer = (efer & ~EFER_LMA) | (old & EFER_LMA);
  }
  const result = vcpu.kvm.ops.setEfer(vcpu, efer >>> 0);
  if ((efer ^ old) & EFER_NX) kvmMakeRequest(KVM_REQ_TLB_FLUSH_GUEST, vcpu);
  return result;
}

const XCR0_X87 = 1n;
const XCR0_SSE = 2n;
const XCR0_AVX = 4n;

/** @upstream __kvm_set_xcr() */
export function kvmSetXcr(vcpu: X86Vcpu, index: number, xcr0: bigint): number {
  if (index !== 0 || !(xcr0 & XCR0_X87)) return 1;
  if (xcr0 & XCR0_AVX && !(xcr0 & XCR0_SSE)) return 1;
  if (xcr0 & ~vcpu.arch.guestSupportedXcr0) return 1;
  vcpu.arch.xcr0 = xcr0;
  kvmUpdateCpuidRuntime(vcpu);
  return 0;
}

/** Exit reason XSETBV. @upstream kvm_emulate_xsetbv() */
export function kvmEmulateXsetbv(vcpu: X86Vcpu): number {
  if (!kvmReadCr4Bits(vcpu, CR4_OSXSAVE)) {
    kvmQueueException(vcpu, UD_VECTOR);
    return 1;
  }
  const value =
    BigInt(kvmRegisterRead32(vcpu, VCPU_REGS_RAX)) | (BigInt(kvmRegisterRead32(vcpu, VCPU_REGS_RDX)) << 32n);
  const index = kvmRegisterRead32(vcpu, VCPU_REGS_RCX);
  if (vcpu.kvm.ops.getCpl(vcpu) !== 0 || kvmSetXcr(vcpu, index, value) !== 0) {
    kvmInjectGp(vcpu);
    return 1;
  }
  return kvmSkipEmulatedInstruction(vcpu);
}

/** The vCPU's CR3 changed by user space: the VMCS gets it before entry. */
export function kvmMarkCr3(vcpu: X86Vcpu, cr3: bigint): void {
  vcpu.arch.cr3 = cr3;
  kvmRegisterMarkAvailable(vcpu, VCPU_EXREG_CR3);
  kvmRegisterMarkDirty(vcpu, VCPU_EXREG_CR3);
  kvmMakeRequest(KVM_REQ_LOAD_MMU_PGD, vcpu);
}
