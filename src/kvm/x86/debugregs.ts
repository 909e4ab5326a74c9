/** Debug registers. @upstream arch/x86/kvm/x86.c kvm_set_dr(), kvm_update_dr7() */
import type { X86Vcpu } from './kvm_host.ts';

const DR6_FIXED_1 = 0xfffe_0ff0n;
const DR6_VOLATILE = 0xe00fn;
const DR7_FIXED_1 = 0x400n;
const DR7_VOLATILE = 0xffff_2bffn;
const DR7_BP_EN_MASK = 0xffn;
const KVM_GUESTDBG_USE_HW_BP = 0x20000;

/** DR0 to DR3, DR6, DR7 (4 and 5 are 6 and 7). @upstream kvm_get_dr() */
export function kvmGetDr(vcpu: X86Vcpu, dr: number): bigint {
  const { arch } = vcpu;
  if (dr < 4) return arch.db[dr]!;
  return dr === 4 || dr === 6 ? arch.dr6 : arch.dr7;
}

/** False for #GP. @upstream kvm_set_dr() */
export function kvmSetDr(vcpu: X86Vcpu, dr: number, value: bigint): boolean {
  const { arch } = vcpu;
  if (dr < 4) {
    arch.db[dr] = value;
    if (!(arch.guestDebug & KVM_GUESTDBG_USE_HW_BP)) arch.effDb[dr] = value;
    return true;
  }
  if (value >> 32n !== 0n) return false;
  if (dr === 4 || dr === 6) {
    arch.dr6 = (value & DR6_VOLATILE) | DR6_FIXED_1 | 0x10000n;
  } else {
    arch.dr7 = (value & DR7_VOLATILE) | DR7_FIXED_1;
    kvmUpdateDr7(vcpu);
  }
  return true;
}

/** The breakpoint addresses in force: the guest's, unless a debugger has its own. @upstream kvm_update_dr0123() */
export function kvmUpdateDr0123(vcpu: X86Vcpu): void {
  const { arch } = vcpu;
  if (arch.guestDebug & KVM_GUESTDBG_USE_HW_BP) return;
  for (let i = 0; i < 4; i++) arch.effDb[i] = arch.db[i]!;
}

/** Puts the DR7 in force: the guest's or the debugger's. @upstream kvm_update_dr7() */
export function kvmUpdateDr7(vcpu: X86Vcpu): void {
  const { arch } = vcpu;
  const dr7 = arch.guestDebug & KVM_GUESTDBG_USE_HW_BP ? arch.guestDebugDr7 : arch.dr7;
  vcpu.kvm.ops.setDr7(vcpu, dr7);
  arch.debugRegsBpEnabled = (dr7 & DR7_BP_EN_MASK) !== 0n;
}
