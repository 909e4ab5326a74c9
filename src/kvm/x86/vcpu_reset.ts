/** RESET, INIT and SIPI of a vCPU. @upstream arch/x86/kvm/x86.c kvm_vcpu_reset() */
import { kvmMakeRequest } from '../virt/kvm_host.ts';
import { kvmUpdateDr7 } from './debugregs.ts';
import { kvmClearExceptionQueue, kvmClearInterruptQueue } from './event_queue.ts';
import { newGuestFpu } from './fpu.ts';
import { kvmRegisterMarkAvailable, kvmRegisterWriteRaw, kvmRipWrite } from './kvm_cache_regs.ts';
import {
  KVM_REQ_EVENT,
  KVM_REQ_LOAD_MMU_PGD,
  KVM_REQ_TLB_FLUSH_GUEST,
  VCPU_EXREG_CR3,
  VCPU_REGS_RDX,
  VCPU_SREG_CS,
  type X86Vcpu,
} from './kvm_host.ts';
import { kvmLapicReset } from './lapic.ts';

const RFLAGS_FIXED = 2;
/** CPUID 1 EAX where the guest's CPUID has not been set: what real processors have in RDX at reset. */
const RESET_RDX = 0x600n;
const CR0_RESET = 0x6000_0010;
const CR0_CD_NW = 0x6000_0000;

/** RESET or INIT of a vCPU. @upstream kvm_vcpu_reset() */
export function kvmVcpuReset(vcpu: X86Vcpu, initEvent: boolean): void {
  const { arch } = vcpu;
  const { ops } = vcpu.kvm;
  const oldCr0 = arch.cr0;
  kvmLapicResetIfPresent(vcpu, initEvent);
  arch.nmiQueued = 0;
  arch.nmiPending = 0;
  arch.nmiInjected = false;
  kvmClearInterruptQueue(vcpu);
  kvmClearExceptionQueue(vcpu);
  for (let i = 0; i < 4; i++) {
    arch.db[i] = 0n;
    arch.effDb[i] = 0n;
  }
  arch.dr6 = 0xffff_0ff0n;
  arch.dr7 = 0x400n;
  arch.cr2 = 0n;
  kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  if (!initEvent) {
    arch.guestFpu = newGuestFpu();
    arch.fpuCpu = null;
    arch.xcr0 = 1n;
    arch.iaXss = 0n;
    arch.pkru = 0;
    arch.miscFeaturesEnables = 0n;
    arch.miscEnable = 1n | (1n << 11n) | (1n << 12n);
    arch.pat = 0x0007_0406_0007_0406n;
  }
  arch.regs.fill(0n);
  arch.regsAvail = ~0;
  arch.regsDirty = ~0;
  const signature = arch.cpuidEntries.find((entry) => entry.function === 1);
  kvmRegisterWriteRaw(vcpu, VCPU_REGS_RDX, signature ? BigInt(signature.eax) : RESET_RDX);
  ops.vcpuReset(vcpu, initEvent);
  ops.setRflags(vcpu, RFLAGS_FIXED);
  kvmRipWrite(vcpu, 0xfff0n);
  arch.cr3 = 0n;
  kvmRegisterMarkAvailable(vcpu, VCPU_EXREG_CR3);
  // CD and NW survive INIT; RESET sets them.
  const cr0 = initEvent ? (0x10 | (oldCr0 & CR0_CD_NW)) >>> 0 : CR0_RESET;
  ops.setCr0(vcpu, cr0);
  ops.setCr4(vcpu, 0);
  ops.setEfer(vcpu, 0);
  ops.updateExceptionBitmap(vcpu);
  kvmUpdateDr7(vcpu);
  kvmMakeRequest(KVM_REQ_LOAD_MMU_PGD, vcpu);
  if (initEvent) kvmMakeRequest(KVM_REQ_TLB_FLUSH_GUEST, vcpu);
}

function kvmLapicResetIfPresent(vcpu: X86Vcpu, initEvent: boolean): void {
  if (vcpu.arch.apic !== null) kvmLapicReset(vcpu, initEvent);
}

/** SIPI: real mode at the vector's page. @upstream kvm_vcpu_deliver_sipi_vector() */
export function kvmVcpuDeliverSipiVector(vcpu: X86Vcpu, vector: number): void {
  const cs = vcpu.kvm.ops.getSegment(vcpu, VCPU_SREG_CS);
  cs.selector = vector << 8;
  cs.base = BigInt(vector << 12);
  vcpu.kvm.ops.setSegment(vcpu, VCPU_SREG_CS, cs);
  kvmRipWrite(vcpu, 0n);
}
