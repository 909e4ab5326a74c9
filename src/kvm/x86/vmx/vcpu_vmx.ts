/**
 * The VMX backend's part of a vCPU, and reading and writing its guest state with upstream's caches.
 *
 * @upstream arch/x86/kvm/vmx/vmx.h struct vcpu_vmx, vmx.c vmx_read_guest_seg_*(), vmx_cache_reg(), vmx_get_rflags()
 */
import type { Processor } from '../../../machine/processor.ts';
import type { Vtx } from '../../../machine/vtx/vtx.ts';
import type { Hpa } from '../../../util/address.ts';
import { kvmVmBugged } from '../../virt/kvm_host.ts';
import {
  VCPU_EXREG_CR0,
  VCPU_EXREG_CR3,
  VCPU_EXREG_CR4,
  VCPU_EXREG_EXIT_INFO_1,
  VCPU_EXREG_EXIT_INFO_2,
  VCPU_EXREG_PDPTR,
  VCPU_EXREG_RFLAGS,
  VCPU_EXREG_SEGMENTS,
  VCPU_REGS_RIP,
  VCPU_REGS_RSP,
  type X86Vcpu,
} from '../kvm_host.ts';
import { VcpuVt } from './common.ts';
import {
  EXIT_QUALIFICATION,
  GUEST_CR0,
  GUEST_CR3,
  GUEST_CR4,
  GUEST_ES_AR_BYTES,
  GUEST_ES_BASE,
  GUEST_ES_LIMIT,
  GUEST_ES_SELECTOR,
  GUEST_PDPTR0,
  GUEST_RFLAGS,
  GUEST_RIP,
  GUEST_RSP,
  type LoadedVmcs,
  VM_EXIT_INTR_INFO,
  vmcsRead32,
  vmcsRead64,
  vmcsWrite,
} from './vmcs.ts';
import type { VmxHardware } from './vmx_hardware.ts';

/** MSRs that are the guest's only while it runs: the host kernel does not use them. @upstream vmx_uret_msrs_list */
export const VMX_URET_MSRS: readonly number[] = [
  0xc000_0081, // STAR
  0xc000_0082, // LSTAR
  0xc000_0083, // CSTAR
  0xc000_0084, // SYSCALL_MASK
];

/** @upstream struct vcpu_vmx */
export class VcpuVmx extends VcpuVt {
  readonly hw: VmxHardware;
  readonly loadedVmcs: LoadedVmcs;
  readonly vpid: number;
  readonly msrBitmap: Hpa;
  /** Of the CPU it is loaded on. */
  v!: Vtx;
  p!: Processor;
  /** VMLAUNCH or VMRESUME itself failed. */
  fail = 0;
  /** VM-instruction error of that failure. */
  vmInstructionError = 0;
  idtVectoringInfo = 0;
  rflags = 0;
  /** Valid parts of the segment cache: four bits per segment (selector, base, limit, access rights). */
  segValid = 0;
  readonly segSelector: Uint32Array = new Uint32Array(8);
  readonly segBase: BigUint64Array = new BigUint64Array(8);
  readonly segLimit: Uint32Array = new Uint32Array(8);
  readonly segAr: Uint32Array = new Uint32Array(8);
  msrGuestKernelGsBase = 0n;
  readonly uretMsrs: bigint[] = VMX_URET_MSRS.map(() => 0n);
  /** uretMsrs differ from what the processor holds. */
  uretDirty = true;
  pleWindow = 4096;
  /** TPR threshold as last written. */
  tprThreshold = 0;

  constructor(hw: VmxHardware, loadedVmcs: LoadedVmcs, vpid: number, msrBitmap: Hpa) {
    super();
    this.hw = hw;
    this.loadedVmcs = loadedVmcs;
    this.vpid = vpid;
    this.msrBitmap = msrBitmap;
  }
}

/** The VMX part of a vCPU that is known to be a VM's. @upstream to_vmx() */
export const toVmx = (vcpu: X86Vcpu): VcpuVmx => vcpu.vt as VcpuVmx;

const SEG_FIELD_SEL = 1;
const SEG_FIELD_BASE = 2;
const SEG_FIELD_LIMIT = 4;
const SEG_FIELD_AR = 8;

/** VMCS order of upstream's segment numbers: ES CS SS DS FS GS TR LDTR against ES CS SS DS FS GS LDTR TR. */
const VMCS_INDEX: readonly number[] = [0, 1, 2, 3, 4, 5, 7, 6];
const offset = (seg: number): number => VMCS_INDEX[seg]! * 2;

/** @upstream vmx_read_guest_seg_selector() */
export function vmxReadGuestSegSelector(vmx: VcpuVmx, seg: number): number {
  const bit = SEG_FIELD_SEL << (seg * 4);
  if ((vmx.segValid & bit) === 0) {
    vmx.segSelector[seg] = vmcsRead32(vmx.v, GUEST_ES_SELECTOR + offset(seg));
    vmx.segValid |= bit;
  }
  return vmx.segSelector[seg]!;
}
/** @upstream vmx_read_guest_seg_base() */
export function vmxReadGuestSegBase(vmx: VcpuVmx, seg: number): bigint {
  const bit = SEG_FIELD_BASE << (seg * 4);
  if ((vmx.segValid & bit) === 0) {
    vmx.segBase[seg] = vmcsRead64(vmx.v, GUEST_ES_BASE + offset(seg));
    vmx.segValid |= bit;
  }
  return vmx.segBase[seg]!;
}
/** @upstream vmx_read_guest_seg_limit() */
export function vmxReadGuestSegLimit(vmx: VcpuVmx, seg: number): number {
  const bit = SEG_FIELD_LIMIT << (seg * 4);
  if ((vmx.segValid & bit) === 0) {
    vmx.segLimit[seg] = vmcsRead32(vmx.v, GUEST_ES_LIMIT + offset(seg));
    vmx.segValid |= bit;
  }
  return vmx.segLimit[seg]!;
}
/** @upstream vmx_read_guest_seg_ar() */
export function vmxReadGuestSegAr(vmx: VcpuVmx, seg: number): number {
  const bit = SEG_FIELD_AR << (seg * 4);
  if ((vmx.segValid & bit) === 0) {
    vmx.segAr[seg] = vmcsRead32(vmx.v, GUEST_ES_AR_BYTES + offset(seg));
    vmx.segValid |= bit;
  }
  return vmx.segAr[seg]!;
}

/** Writes a whole segment register. */
export function vmxWriteGuestSeg(
  vmx: VcpuVmx,
  seg: number,
  selector: number,
  base: bigint,
  limit: number,
  ar: number,
): void {
  vmx.segValid &= ~(0xf << (seg * 4));
  vmcsWrite(vmx.v, GUEST_ES_SELECTOR + offset(seg), selector);
  vmcsWrite(vmx.v, GUEST_ES_BASE + offset(seg), base);
  vmcsWrite(vmx.v, GUEST_ES_LIMIT + offset(seg), limit);
  vmcsWrite(vmx.v, GUEST_ES_AR_BYTES + offset(seg), ar);
}
/** Writes a segment base alone. */
export function vmxWriteGuestSegBase(vmx: VcpuVmx, seg: number, base: bigint): void {
  vmx.segValid &= ~(SEG_FIELD_BASE << (seg * 4));
  vmcsWrite(vmx.v, GUEST_ES_BASE + offset(seg), base);
}

/** @upstream vmx_cache_reg() */
export function vmxCacheReg(vcpu: X86Vcpu, reg: number): void {
  const { arch } = vcpu;
  const { v } = toVmx(vcpu);
  arch.regsAvail |= 1 << reg;
  switch (reg) {
    case VCPU_REGS_RSP:
      arch.regs[VCPU_REGS_RSP] = vmcsRead64(v, GUEST_RSP);
      break;
    case VCPU_REGS_RIP:
      arch.regs[VCPU_REGS_RIP] = vmcsRead64(v, GUEST_RIP);
      break;
    case VCPU_EXREG_PDPTR:
      for (let i = 0; i < 4; i++) arch.pdptrs[i] = vmcsRead64(v, GUEST_PDPTR0 + 2 * i);
      break;
    case VCPU_EXREG_CR0: {
      const owned = arch.cr0GuestOwnedBits;
      arch.cr0 = ((arch.cr0 & ~owned) | (vmcsRead32(v, GUEST_CR0) & owned)) >>> 0;
      break;
    }
    case VCPU_EXREG_CR3:
      arch.cr3 = vmcsRead64(v, GUEST_CR3);
      break;
    case VCPU_EXREG_CR4: {
      const owned = arch.cr4GuestOwnedBits;
      arch.cr4 = ((arch.cr4 & ~owned) | (vmcsRead32(v, GUEST_CR4) & owned)) >>> 0;
      break;
    }
    default:
      kvmVmBugged(vcpu.kvm, `register ${reg} is not cached`);
  }
}

/** @upstream vmx_get_rflags() */
export function vmxGetRflags(vcpu: X86Vcpu): number {
  const vmx = toVmx(vcpu);
  if ((vcpu.arch.regsAvail & (1 << VCPU_EXREG_RFLAGS)) === 0) {
    vcpu.arch.regsAvail |= 1 << VCPU_EXREG_RFLAGS;
    vmx.rflags = vmcsRead32(vmx.v, GUEST_RFLAGS);
  }
  return vmx.rflags;
}
/** @upstream vmx_set_rflags() */
export function vmxSetRflags(vcpu: X86Vcpu, rflags: number): void {
  const vmx = toVmx(vcpu);
  vcpu.arch.regsAvail |= 1 << VCPU_EXREG_RFLAGS;
  vmx.rflags = rflags >>> 0;
  vmcsWrite(vmx.v, GUEST_RFLAGS, rflags >>> 0);
}

/** @upstream vmx_get_exit_qual() */
export function vmxGetExitQual(vcpu: X86Vcpu): bigint {
  const vmx = toVmx(vcpu);
  if ((vcpu.arch.regsAvail & (1 << VCPU_EXREG_EXIT_INFO_1)) === 0) {
    vcpu.arch.regsAvail |= 1 << VCPU_EXREG_EXIT_INFO_1;
    vmx.exitQualification = vmcsRead64(vmx.v, EXIT_QUALIFICATION);
  }
  return vmx.exitQualification;
}
/** @upstream vmx_get_intr_info() */
export function vmxGetIntrInfo(vcpu: X86Vcpu): number {
  const vmx = toVmx(vcpu);
  if ((vcpu.arch.regsAvail & (1 << VCPU_EXREG_EXIT_INFO_2)) === 0) {
    vcpu.arch.regsAvail |= 1 << VCPU_EXREG_EXIT_INFO_2;
    vmx.exitIntrInfo = vmcsRead32(vmx.v, VM_EXIT_INTR_INFO);
  }
  return vmx.exitIntrInfo;
}

/** Registers that a VM exit leaves in the VMCS, to be read when somebody asks. */
export const VMX_REGS_LAZY_LOAD_SET: number =
  (1 << VCPU_REGS_RIP) |
  (1 << VCPU_REGS_RSP) |
  (1 << VCPU_EXREG_RFLAGS) |
  (1 << VCPU_EXREG_PDPTR) |
  (1 << VCPU_EXREG_SEGMENTS) |
  (1 << VCPU_EXREG_CR0) |
  (1 << VCPU_EXREG_CR3) |
  (1 << VCPU_EXREG_CR4) |
  (1 << VCPU_EXREG_EXIT_INFO_1) |
  (1 << VCPU_EXREG_EXIT_INFO_2);

/** Writes a control word unless it holds that value already. @upstream the vmcs controls_shadow accessors */
export function controlsSet(vmx: VcpuVmx, field: number, value: number): void {
  const word = value >>> 0;
  const { shadow } = vmx.loadedVmcs;
  if (shadow.get(field) === word) return;
  vmcsWrite(vmx.v, field, word);
  shadow.set(field, word);
}
/** The control word as last written. */
export const controlsGet = (vmx: VcpuVmx, field: number): number => vmx.loadedVmcs.shadow.get(field) ?? 0;
/** Sets bits of a control word. */
export const controlsSetbit = (vmx: VcpuVmx, field: number, bits: number): void =>
  controlsSet(vmx, field, controlsGet(vmx, field) | bits);
/** Clears bits of a control word. */
export const controlsClearbit = (vmx: VcpuVmx, field: number, bits: number): void =>
  controlsSet(vmx, field, controlsGet(vmx, field) & ~bits);
