/**
 * Registers as user space gets and sets them.
 *
 * @upstream arch/x86/kvm/x86.c kvm_arch_vcpu_ioctl_get_regs(), __set_sregs(), kvm_vcpu_ioctl_x86_set_vcpu_events()
 */
import { EINVAL, type Errno } from '../../host/errno.ts';
import { kvmMakeRequest } from '../virt/kvm_host.ts';
import { kvmUpdateCpuidRuntime } from './cpuid.ts';
import {
  kvmGetCr8,
  kvmIsValidCr0,
  kvmIsValidCr4,
  kvmMarkCr3,
  kvmPostSetCr0,
  kvmPostSetCr4,
  kvmSetCr8,
  kvmValidEfer,
  loadPdptrs,
} from './cr.ts';
import { kvmApicBase } from './irqchip_mode.ts';
import {
  isPaePaging,
  kvmReadCr0,
  kvmReadCr3,
  kvmReadCr4,
  kvmRegisterReadRaw,
  kvmRegisterWriteRaw,
  kvmRipRead,
  kvmRipWrite,
} from './kvm_cache_regs.ts';
import {
  KVM_MP_STATE_RUNNABLE,
  KVM_REQ_EVENT,
  KVM_REQ_TLB_FLUSH_GUEST,
  type KvmDtable,
  type KvmSegment,
  VCPU_SREG_CS,
  VCPU_SREG_DS,
  VCPU_SREG_ES,
  VCPU_SREG_FS,
  VCPU_SREG_GS,
  VCPU_SREG_LDTR,
  VCPU_SREG_SS,
  VCPU_SREG_TR,
  type X86Vcpu,
} from './kvm_host.ts';
import { kvmApicSetBase } from './lapic.ts';

/** @upstream struct kvm_regs */
export interface KvmRegs {
  rax: bigint;
  rbx: bigint;
  rcx: bigint;
  rdx: bigint;
  rsi: bigint;
  rdi: bigint;
  rsp: bigint;
  rbp: bigint;
  r8: bigint;
  r9: bigint;
  r10: bigint;
  r11: bigint;
  r12: bigint;
  r13: bigint;
  r14: bigint;
  r15: bigint;
  rip: bigint;
  rflags: bigint;
}

/** All of them 0. */
export const CLEAR_REGS: Readonly<KvmRegs> = {
  rax: 0n,
  rbx: 0n,
  rcx: 0n,
  rdx: 0n,
  rsi: 0n,
  rdi: 0n,
  rsp: 0n,
  rbp: 0n,
  r8: 0n,
  r9: 0n,
  r10: 0n,
  r11: 0n,
  r12: 0n,
  r13: 0n,
  r14: 0n,
  r15: 0n,
  rip: 0n,
  rflags: 0n,
};

export type GeneralRegister = Exclude<keyof KvmRegs, 'rip' | 'rflags'>;

/** General registers by number. */
export const REG_NAMES: readonly GeneralRegister[] = [
  'rax',
  'rcx',
  'rdx',
  'rbx',
  'rsp',
  'rbp',
  'rsi',
  'rdi',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
];

/** KVM_GET_REGS */
export function kvmGetRegs(vcpu: X86Vcpu): KvmRegs {
  const regs: KvmRegs = {
    ...CLEAR_REGS,
    rip: kvmRipRead(vcpu),
    rflags: BigInt(vcpu.kvm.ops.getRflags(vcpu)),
  };
  REG_NAMES.forEach((name, n) => {
    regs[name] = kvmRegisterReadRaw(vcpu, n);
  });
  return regs;
}

const X86_EFLAGS_FIXED = 2;

/** KVM_SET_REGS */
export function kvmSetRegs(vcpu: X86Vcpu, regs: KvmRegs): Errno {
  REG_NAMES.forEach((name, n) => {
    kvmRegisterWriteRaw(vcpu, n, BigInt.asUintN(64, regs[name]));
  });
  kvmRipWrite(vcpu, BigInt.asUintN(64, regs.rip));
  vcpu.kvm.ops.setRflags(vcpu, Number(regs.rflags & 0xffff_ffffn) | X86_EFLAGS_FIXED);
  vcpu.arch.exception.pending = false;
  kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  return 0;
}

/** @upstream struct kvm_sregs */
export interface KvmSregs {
  cs: KvmSegment;
  ds: KvmSegment;
  es: KvmSegment;
  fs: KvmSegment;
  gs: KvmSegment;
  ss: KvmSegment;
  tr: KvmSegment;
  ldt: KvmSegment;
  gdt: KvmDtable;
  idt: KvmDtable;
  cr0: bigint;
  cr2: bigint;
  cr3: bigint;
  cr4: bigint;
  cr8: bigint;
  efer: bigint;
  apicBase: bigint;
  /** 256 bits; at most one is set: the interrupt that is being injected. */
  interruptBitmap: readonly bigint[];
}

const SEGMENT_NAMES: readonly (readonly ['cs' | 'ds' | 'es' | 'fs' | 'gs' | 'ss' | 'tr' | 'ldt', number])[] = [
  ['cs', VCPU_SREG_CS],
  ['ds', VCPU_SREG_DS],
  ['es', VCPU_SREG_ES],
  ['fs', VCPU_SREG_FS],
  ['gs', VCPU_SREG_GS],
  ['ss', VCPU_SREG_SS],
  ['tr', VCPU_SREG_TR],
  ['ldt', VCPU_SREG_LDTR],
];

/** KVM_GET_SREGS */
export function kvmGetSregs(vcpu: X86Vcpu): KvmSregs {
  const { ops } = vcpu.kvm;
  const { arch } = vcpu;
  const bitmap = [0n, 0n, 0n, 0n];
  if (arch.interrupt.injected && !arch.interrupt.soft)
    bitmap[arch.interrupt.nr >> 6]! |= 1n << BigInt(arch.interrupt.nr & 63);
  const segment = (n: number): KvmSegment => ops.getSegment(vcpu, n);
  return {
    cs: segment(VCPU_SREG_CS),
    ds: segment(VCPU_SREG_DS),
    es: segment(VCPU_SREG_ES),
    fs: segment(VCPU_SREG_FS),
    gs: segment(VCPU_SREG_GS),
    ss: segment(VCPU_SREG_SS),
    tr: segment(VCPU_SREG_TR),
    ldt: segment(VCPU_SREG_LDTR),
    gdt: ops.getGdt(vcpu),
    idt: ops.getIdt(vcpu),
    cr0: BigInt(kvmReadCr0(vcpu)),
    cr2: arch.cr2,
    cr3: kvmReadCr3(vcpu),
    cr4: BigInt(kvmReadCr4(vcpu)),
    cr8: BigInt(kvmGetCr8(vcpu)),
    efer: BigInt(arch.efer),
    apicBase: kvmApicBase(vcpu),
    interruptBitmap: bitmap,
  };
}

const CR0_PG = 0x8000_0000n;
const CR0_PE = 1n;
const CR4_PAE = 0x20n;
const EFER_LME = 0x100n;
const EFER_LMA = 0x400n;

/** @upstream kvm_is_valid_sregs() */
function kvmIsValidSregs(vcpu: X86Vcpu, sregs: KvmSregs): boolean {
  if (sregs.efer & EFER_LME && sregs.cr0 & CR0_PG) {
    if (!(sregs.cr4 & CR4_PAE) || !(sregs.efer & EFER_LMA)) return false;
    if (sregs.cr3 >> BigInt(vcpu.arch.maxphyaddr)) return false;
  } else if (sregs.efer & EFER_LMA || sregs.cs.l) {
    // 64-bit code needs IA-32e mode.
    return false;
  }
  if (sregs.efer >> 32n !== 0n) return false;
  return kvmIsValidCr4(vcpu, sregs.cr4) && kvmIsValidCr0(vcpu, sregs.cr0);
}

/** KVM_SET_SREGS */
export function kvmSetSregs(vcpu: X86Vcpu, sregs: KvmSregs): Errno {
  const { ops } = vcpu.kvm;
  const { arch } = vcpu;
  if (!kvmIsValidSregs(vcpu, sregs)) return -EINVAL;
  if (!kvmValidEfer(vcpu, Number(sregs.efer)) && vcpu.arch.cpuidEntries.length > 0) return -EINVAL;
  if (kvmApicSetBase(vcpu, sregs.apicBase, true) !== 0) return -EINVAL;
  ops.setIdt(vcpu, sregs.idt);
  ops.setGdt(vcpu, sregs.gdt);
  arch.cr2 = sregs.cr2;
  kvmMarkCr3(vcpu, sregs.cr3);
  kvmSetCr8(vcpu, sregs.cr8);
  ops.setEfer(vcpu, Number(sregs.efer));
  const oldCr0 = kvmReadCr0(vcpu);
  const oldCr4 = kvmReadCr4(vcpu);
  ops.setCr0(vcpu, Number(sregs.cr0));
  ops.setCr4(vcpu, Number(sregs.cr4));
  kvmPostSetCr0(vcpu, oldCr0, Number(sregs.cr0));
  kvmPostSetCr4(vcpu, oldCr4, Number(sregs.cr4));
  if (isPaePaging(vcpu)) loadPdptrs(vcpu, sregs.cr3);
  for (const [name, n] of SEGMENT_NAMES) ops.setSegment(vcpu, n, sregs[name]);
  // An older user space starts its boot processor in real mode at the reset vector without a word about HLT.
  if (
    vcpu.vcpuId === vcpu.kvm.arch.bspVcpuId &&
    kvmRipRead(vcpu) === 0xfff0n &&
    sregs.cs.selector === 0xf000 &&
    sregs.cs.base === 0xffff_0000n &&
    !(sregs.cr0 & CR0_PE)
  )
    arch.mpState = KVM_MP_STATE_RUNNABLE;
  const pending = sregs.interruptBitmap.findIndex((word) => word !== 0n);
  if (pending >= 0) {
    const word = sregs.interruptBitmap[pending]!;
    let bit = 0;
    while (!(word & (1n << BigInt(bit)))) bit++;
    arch.interrupt.injected = true;
    arch.interrupt.soft = false;
    arch.interrupt.nr = pending * 64 + bit;
  }
  kvmUpdateCpuidRuntime(vcpu);
  kvmMakeRequest(KVM_REQ_TLB_FLUSH_GUEST, vcpu);
  kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  return 0;
}
