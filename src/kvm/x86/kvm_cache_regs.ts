/**
 * Guest registers through the cache of what is already known since the last VM exit.
 *
 * @upstream arch/x86/kvm/kvm_cache_regs.h
 */
import { VCPU_EXREG_CR0, VCPU_EXREG_CR3, VCPU_EXREG_CR4, VCPU_REGS_RIP, type X86Vcpu } from './kvm_host.ts';

/** Upstream's kvm_register_is_available(). */
export const kvmRegisterIsAvailable = (vcpu: X86Vcpu, reg: number): boolean => (vcpu.arch.regsAvail & (1 << reg)) !== 0;
/** The cached value is right and, for RSP and RIP, must be written before entry. */
export function kvmRegisterMarkDirty(vcpu: X86Vcpu, reg: number): void {
  vcpu.arch.regsAvail |= 1 << reg;
  vcpu.arch.regsDirty |= 1 << reg;
}
export function kvmRegisterMarkAvailable(vcpu: X86Vcpu, reg: number): void {
  vcpu.arch.regsAvail |= 1 << reg;
}

/** A general register (0 to 15) or RIP, all 64 bits. @upstream kvm_register_read_raw() */
export function kvmRegisterReadRaw(vcpu: X86Vcpu, reg: number): bigint {
  if ((vcpu.arch.regsAvail & (1 << reg)) === 0) vcpu.kvm.ops.cacheReg(vcpu, reg);
  return vcpu.arch.regs[reg]!;
}
/** @upstream kvm_register_write_raw() */
export function kvmRegisterWriteRaw(vcpu: X86Vcpu, reg: number, value: bigint): void {
  vcpu.arch.regs[reg] = value;
  kvmRegisterMarkDirty(vcpu, reg);
}
/** Low 32 bits of a register other than RSP and RIP, unsigned. */
export const kvmRegisterRead32 = (vcpu: X86Vcpu, reg: number): number => vcpu.arch.regs32[reg * 2]!;
/** Writes a 32-bit result: the upper half becomes 0. */
export function kvmRegisterWrite32(vcpu: X86Vcpu, reg: number, value: number): void {
  vcpu.arch.regs32[reg * 2] = value;
  vcpu.arch.regs32[reg * 2 + 1] = 0;
}

export const kvmRipRead = (vcpu: X86Vcpu): bigint => kvmRegisterReadRaw(vcpu, VCPU_REGS_RIP);
export function kvmRipWrite(vcpu: X86Vcpu, value: bigint): void {
  kvmRegisterWriteRaw(vcpu, VCPU_REGS_RIP, value);
}

/** CR0, unsigned 32 bits; guest-owned bits are read only if asked for. @upstream kvm_read_cr0_bits() */
export function kvmReadCr0Bits(vcpu: X86Vcpu, mask: number): number {
  const { arch } = vcpu;
  if (mask & arch.cr0GuestOwnedBits && (arch.regsAvail & (1 << VCPU_EXREG_CR0)) === 0)
    vcpu.kvm.ops.cacheReg(vcpu, VCPU_EXREG_CR0);
  return (arch.cr0 & mask) >>> 0;
}
export const kvmReadCr0 = (vcpu: X86Vcpu): number => kvmReadCr0Bits(vcpu, 0xffff_ffff);
/** @upstream kvm_read_cr4_bits() */
export function kvmReadCr4Bits(vcpu: X86Vcpu, mask: number): number {
  const { arch } = vcpu;
  if (mask & arch.cr4GuestOwnedBits && (arch.regsAvail & (1 << VCPU_EXREG_CR4)) === 0)
    vcpu.kvm.ops.cacheReg(vcpu, VCPU_EXREG_CR4);
  return (arch.cr4 & mask) >>> 0;
}
export const kvmReadCr4 = (vcpu: X86Vcpu): number => kvmReadCr4Bits(vcpu, 0xffff_ffff);
export function kvmReadCr3(vcpu: X86Vcpu): bigint {
  if ((vcpu.arch.regsAvail & (1 << VCPU_EXREG_CR3)) === 0) vcpu.kvm.ops.cacheReg(vcpu, VCPU_EXREG_CR3);
  return vcpu.arch.cr3;
}

const CR0_PE = 1;
const CR0_PG = 0x8000_0000;
const CR4_PAE = 0x20;
const EFER_LMA = 0x400;
const RFLAGS_VM = 0x20000;

export const isProtmode = (vcpu: X86Vcpu): boolean => kvmReadCr0Bits(vcpu, CR0_PE) !== 0;
export const isPaging = (vcpu: X86Vcpu): boolean => kvmReadCr0Bits(vcpu, CR0_PG) !== 0;
export const isPae = (vcpu: X86Vcpu): boolean => kvmReadCr4Bits(vcpu, CR4_PAE) !== 0;
export const isLongMode = (vcpu: X86Vcpu): boolean => (vcpu.arch.efer & EFER_LMA) !== 0;
export const isPaePaging = (vcpu: X86Vcpu): boolean => !isLongMode(vcpu) && isPae(vcpu) && isPaging(vcpu);
export const isV86 = (vcpu: X86Vcpu): boolean => isProtmode(vcpu) && (vcpu.kvm.ops.getRflags(vcpu) & RFLAGS_VM) !== 0;
/** CS.L in long mode. @upstream is_64_bit_mode() */
export const is64BitMode = (vcpu: X86Vcpu): boolean => isLongMode(vcpu) && (vcpu.kvm.ops.getCsDbLBits(vcpu) & 2) !== 0;
/** 16, 32 or 64: size of code. */
export function codeSize(vcpu: X86Vcpu): 16 | 32 | 64 {
  const bits = vcpu.kvm.ops.getCsDbLBits(vcpu);
  if (isLongMode(vcpu) && bits & 2) return 64;
  if (!isProtmode(vcpu) || isV86(vcpu)) return 16;
  return bits & 1 ? 32 : 16;
}
