import { PRIMARY, SECONDARY } from '../../../machine/vtx/controls.ts';
import type { Hpa } from '../../../util/address.ts';
import type { X86Vcpu } from '../kvm_host.ts';
import { cpuHasVmxEptAdBits } from './capabilities.ts';
import { controlsGet, controlsSet, toVmx } from './vcpu_vmx.ts';
import {
  CPU_BASED_VM_EXEC_CONTROL,
  EPT_POINTER,
  EXCEPTION_BITMAP,
  GUEST_DR7,
  SECONDARY_VM_EXEC_CONTROL,
  TSC_MULTIPLIER,
  TSC_OFFSET,
  vmcsRead32,
  vmcsWrite,
} from './vmcs.ts';
import { vmxLoadMmuPgdWith } from './vmx_state.ts';

/** INVEPT and INVVPID types. */
const EXTENT_CONTEXT = 1;
const EXTENT_GLOBAL = 2;
const EXTENT_INDIVIDUAL_ADDR = 0;
const EXTENT_SINGLE_CONTEXT = 1;

const DB_VECTOR = 1;
const BP_VECTOR = 3;
const MC_VECTOR = 18;
const KVM_GUESTDBG_ENABLE = 1;
const KVM_GUESTDBG_USE_SW_BP = 0x10000;

/** @upstream vmx_update_exception_bitmap() */
export function vmxUpdateExceptionBitmap(vcpu: X86Vcpu): void {
  // #DB comes to KVM, which keeps DR6. Every other exception of a guest is its own: nothing is shadowed or emulated.
  let bitmap = (1 << DB_VECTOR) | (1 << MC_VECTOR);
  const breakpoints = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
  if ((vcpu.arch.guestDebug & breakpoints) === breakpoints) bitmap |= 1 << BP_VECTOR;
  vmcsWrite(toVmx(vcpu).v, EXCEPTION_BITMAP, bitmap);
}

/** @upstream vmx_write_tsc_offset() */
export function vmxWriteTscOffset(vcpu: X86Vcpu): void {
  vmcsWrite(toVmx(vcpu).v, TSC_OFFSET, BigInt.asUintN(64, vcpu.arch.tscOffset));
}
/** @upstream vmx_write_tsc_multiplier() */
export function vmxWriteTscMultiplier(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  if (controlsGet(vmx, SECONDARY_VM_EXEC_CONTROL) & SECONDARY.TSC_SCALING)
    vmcsWrite(vmx.v, TSC_MULTIPLIER, vcpu.arch.tscScalingRatio);
}

/** @upstream vmx_set_dr7() */
export function vmxSetDr7(vcpu: X86Vcpu, dr7: bigint): void {
  vmcsWrite(toVmx(vcpu).v, GUEST_DR7, dr7);
}

/** Debug registers that the guest changed without an exit come back. @upstream vmx_sync_dirty_debug_regs() */
export function vmxSyncDirtyDebugRegs(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  for (let i = 0; i < 4; i++) vcpu.arch.db[i] = vmx.p.dr[i]!;
  vcpu.arch.dr6 = BigInt(vmx.p.dr6);
  vcpu.arch.dr7 = BigInt(vmcsRead32(vmx.v, GUEST_DR7));
  vcpu.arch.debugRegsWontExit = false;
  controlsSet(vmx, CPU_BASED_VM_EXEC_CONTROL, controlsGet(vmx, CPU_BASED_VM_EXEC_CONTROL) | PRIMARY.MOV_DR);
}

/** @upstream vmx_load_mmu_pgd() */
export function vmxLoadMmuPgd(vcpu: X86Vcpu, root: Hpa, rootLevel: number): void {
  vmxLoadMmuPgdWith(vcpu, root, rootLevel, cpuHasVmxEptAdBits(toVmx(vcpu).hw.config));
}

/** @upstream vmx_flush_tlb_all() */
export function vmxFlushTlbAll(vcpu: X86Vcpu): void {
  toVmx(vcpu).v.invept(EXTENT_GLOBAL, 0n);
}
/** @upstream vmx_flush_tlb_current() */
export function vmxFlushTlbCurrent(vcpu: X86Vcpu): void {
  const { v } = toVmx(vcpu);
  const eptp = v.vmread(EPT_POINTER) ?? 0n;
  if (eptp !== 0n) v.invept(EXTENT_CONTEXT, eptp);
}
/** @upstream vmx_flush_tlb_gva() */
export function vmxFlushTlbGva(vcpu: X86Vcpu, gva: bigint): void {
  const { v, vpid } = toVmx(vcpu);
  if (vpid !== 0) v.invvpid(EXTENT_INDIVIDUAL_ADDR, vpid, gva);
}
/** @upstream vmx_flush_tlb_guest() */
export function vmxFlushTlbGuest(vcpu: X86Vcpu): void {
  const { v, vpid } = toVmx(vcpu);
  if (vpid !== 0) v.invvpid(EXTENT_SINGLE_CONTEXT, vpid);
}

/** Everything is write-back: there are no caches to protect a device from. @upstream vmx_get_mt_mask() */
export const vmxGetMtMask = (_vcpu: X86Vcpu, isMmio: boolean): number => (isMmio ? 0 : 6 << 3);
