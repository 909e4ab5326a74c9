/**
 * Exits for control and debug registers. A handler returns 1 to go on, 0 to exit to user space, or a negative errno.
 *
 * @upstream arch/x86/kvm/vmx/vmx.c handle_cr(), handle_dr()
 */

import { PRIMARY } from '../../../machine/vtx/controls.ts';
import { trace } from '../../../util/trace.ts';
import { kvmCompleteInsnGp, kvmGetCr8, kvmLmsw, kvmSetCr0, kvmSetCr3, kvmSetCr4, kvmSetCr8 } from '../cr.ts';
import { kvmGetDr, kvmSetDr } from '../debugregs.ts';
import { kvmInjectGp, kvmQueueException, UD_VECTOR } from '../event_queue.ts';
import { lapicInKernel } from '../irqchip_mode.ts';
import { is64BitMode, kvmReadCr0Bits, kvmReadCr3, kvmRegisterReadRaw, kvmRegisterWriteRaw } from '../kvm_cache_regs.ts';
import type { X86Vcpu } from '../kvm_host.ts';
import { kvmSkipEmulatedInstruction } from '../skip.ts';
import { controlsClearbit, toVmx, vmxGetExitQual } from './vcpu_vmx.ts';
import { CPU_BASED_VM_EXEC_CONTROL } from './vmcs.ts';

/** What the guest must not execute. @upstream handle_invalid_op() */
export function handleUd(vcpu: X86Vcpu): number {
  kvmQueueException(vcpu, UD_VECTOR);
  return 1;
}

/** MOV to and from CR, CLTS, LMSW. @upstream handle_cr() */
export function handleCr(vcpu: X86Vcpu): number {
  const qualification = Number(vmxGetExitQual(vcpu));
  const cr = qualification & 15;
  const reg = (qualification >>> 8) & 15;
  switch ((qualification >>> 4) & 3) {
    case 0: {
      const raw = kvmRegisterReadRaw(vcpu, reg);
      const value = is64BitMode(vcpu) ? raw : raw & 0xffff_ffffn;
      trace.kvm_cr?.(true, cr, value);
      switch (cr) {
        case 0:
          return kvmCompleteInsnGp(vcpu, kvmSetCr0(vcpu, value));
        case 3:
          return kvmCompleteInsnGp(vcpu, kvmSetCr3(vcpu, value));
        case 4:
          return kvmCompleteInsnGp(vcpu, kvmSetCr4(vcpu, value));
        case 8: {
          const failed = kvmSetCr8(vcpu, value);
          const result = kvmCompleteInsnGp(vcpu, failed);
          if (lapicInKernel(vcpu) || failed) return result;
          vcpu.run.setPlainExit({ kind: 'set-tpr', exitReason: 11 });
          return 0;
        }
        default:
          return handleUd(vcpu);
      }
    }
    case 1:
      if (cr === 3) {
        const value = kvmReadCr3(vcpu);
        kvmRegisterWriteRaw(vcpu, reg, value);
        trace.kvm_cr?.(false, 3, value);
      } else {
        kvmRegisterWriteRaw(vcpu, reg, BigInt(kvmGetCr8(vcpu)));
      }
      return kvmSkipEmulatedInstruction(vcpu);
    case 2: {
      // CLTS
      const cr0 = kvmReadCr0Bits(vcpu, 0xffff_ffff) & ~8;
      return kvmCompleteInsnGp(vcpu, kvmSetCr0(vcpu, BigInt(cr0 >>> 0)));
    }
    default: {
      // LMSW
      kvmLmsw(vcpu, qualification >>> 16);
      return kvmSkipEmulatedInstruction(vcpu);
    }
  }
}

/** The first access makes debug registers the guest's until the vCPU leaves the CPU. @upstream handle_dr() */
export function handleDr(vcpu: X86Vcpu): number {
  const vmx = toVmx(vcpu);
  const qualification = Number(vmxGetExitQual(vcpu));
  const dr = qualification & 7;
  const CR4_DE = 8;
  if ((dr === 4 || dr === 5) && vcpu.arch.cr4 & CR4_DE) return handleUd(vcpu);
  if (vcpu.kvm.ops.getCpl(vcpu) !== 0) {
    kvmInjectGp(vcpu);
    return 1;
  }
  if (vcpu.arch.guestDebug === 0) {
    controlsClearbit(vmx, CPU_BASED_VM_EXEC_CONTROL, PRIMARY.MOV_DR);
    vcpu.arch.debugRegsWontExit = true;
    // The instruction runs again, natively, with the guest's registers loaded.
    return 1;
  }
  const reg = (qualification >>> 8) & 15;
  if (qualification & 16) {
    kvmRegisterWriteRaw(vcpu, reg, kvmGetDr(vcpu, dr));
    return kvmSkipEmulatedInstruction(vcpu);
  }
  return kvmCompleteInsnGp(vcpu, kvmSetDr(vcpu, dr, kvmRegisterReadRaw(vcpu, reg)) ? 0 : 1);
}
