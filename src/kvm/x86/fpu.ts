/**
 * The guest's x87, SSE and AVX state: on the processor while nothing else needs it there, in memory otherwise.
 *
 * The host kernel never uses those registers, so they stay with the vCPU that used the processor last.
 *
 * @upstream arch/x86/kvm/x86.c kvm_load_guest_fpu(), kvm_put_guest_fpu(), kvm_vcpu_ioctl_x86_set_fpu()
 */
import type { Cpu } from '../../host/cpus.ts';
import { EINVAL, type Errno } from '../../host/errno.ts';
import {
  FCW,
  FDP,
  FIP,
  FOP,
  FPR,
  FSW,
  FTAG,
  FTOP,
  MXCSR,
  STATE,
  STATE_SIZE,
  XMM,
  YMM_HIGH,
} from '../../machine/engine/layout.ts';
import { pkruOffset } from '../../machine/system/xstate-layout.ts';
import type { X86Vcpu } from './kvm_host.ts';

/** The parts of a processor's state block that hold floating-point state: [first, end) as layout addresses. */
const PARTS: readonly (readonly [number, number])[] = [
  [FCW, FOP + 2],
  [FIP, MXCSR + 4],
  [FPR, FPR + 128],
  [XMM, XMM + 256],
  [YMM_HIGH, YMM_HIGH + 256],
];

const owners: WeakMap<Cpu, X86Vcpu> = new WeakMap();

function copy(from: Uint8Array, to: Uint8Array): void {
  for (const [first, end] of PARTS) to.set(from.subarray(first - STATE, end - STATE), first - STATE);
}

/** What a processor has after reset: x87 as FNINIT leaves it, MXCSR 1F80. @upstream fpstate_reset() */
export function newGuestFpu(): Uint8Array {
  const fpu = new Uint8Array(STATE_SIZE);
  const view = new DataView(fpu.buffer);
  view.setUint16(FCW - STATE, 0x37f, true);
  view.setUint32(MXCSR - STATE, 0x1f80, true);
  return fpu;
}

/** The vCPU's registers go to the CPU it is about to run on. */
export function kvmLoadGuestFpu(vcpu: X86Vcpu, cpu: Cpu): void {
  const owner = owners.get(cpu);
  if (owner === vcpu && vcpu.arch.fpuCpu === cpu) return;
  if (owner !== undefined && owner.arch.fpuCpu === cpu) saveFpu(owner);
  saveFpu(vcpu);
  copy(vcpu.arch.guestFpu, cpu.processor.stateBlock());
  owners.set(cpu, vcpu);
  vcpu.arch.fpuCpu = cpu;
}

/** Whatever a processor holds of the vCPU comes back to memory. */
function saveFpu(vcpu: X86Vcpu): void {
  const cpu = vcpu.arch.fpuCpu;
  if (cpu === null) return;
  copy(cpu.processor.stateBlock(), vcpu.arch.guestFpu);
  vcpu.arch.fpuCpu = null;
}

/** The state in memory, up to date and the only copy: what user space reads and changes. */
export function guestFpu(vcpu: X86Vcpu): Uint8Array {
  saveFpu(vcpu);
  return vcpu.arch.guestFpu;
}

/** The vCPU goes away. */
export function freeGuestFpu(vcpu: X86Vcpu): void {
  vcpu.arch.fpuCpu = null;
}

/** @upstream struct kvm_fpu */
export interface KvmFpu {
  /** Eight registers of 16 bytes, ST(0) first. */
  fpr: Uint8Array;
  fcw: number;
  fsw: number;
  /** Abridged tag word: 1 = in use, by physical register. */
  ftwx: number;
  lastOpcode: number;
  lastIp: bigint;
  lastDp: bigint;
  /** Sixteen registers of 16 bytes. */
  xmm: Uint8Array;
  mxcsr: number;
}

const MXCSR_MASK = 0xffff;

/** KVM_GET_FPU. */
export function kvmVcpuIoctlGetFpu(vcpu: X86Vcpu): KvmFpu {
  const fpu = guestFpu(vcpu);
  const view = new DataView(fpu.buffer, fpu.byteOffset);
  const at = (address: number): number => address - STATE;
  const top = fpu[at(FTOP)]! & 7;
  const fpr = new Uint8Array(128);
  for (let i = 0; i < 8; i++) {
    const from = at(FPR) + ((top + i) & 7) * 16;
    fpr.set(fpu.subarray(from, from + 10), i * 16);
  }
  return {
    fpr,
    fcw: view.getUint16(at(FCW), true),
    fsw: (view.getUint16(at(FSW), true) & ~0x3800) | (top << 11),
    ftwx: fpu[at(FTAG)]!,
    lastOpcode: view.getUint16(at(FOP), true),
    lastIp: view.getBigUint64(at(FIP), true),
    lastDp: view.getBigUint64(at(FDP), true),
    xmm: fpu.slice(at(XMM), at(XMM) + 256),
    mxcsr: view.getUint32(at(MXCSR), true),
  };
}

/** KVM_SET_FPU. */
export function kvmVcpuIoctlSetFpu(vcpu: X86Vcpu, state: KvmFpu): Errno {
  if (state.fpr.length !== 128 || state.xmm.length !== 256) return -EINVAL;
  if (state.mxcsr & ~MXCSR_MASK) return -EINVAL;
  const fpu = guestFpu(vcpu);
  const view = new DataView(fpu.buffer, fpu.byteOffset);
  const at = (address: number): number => address - STATE;
  const top = (state.fsw >> 11) & 7;
  view.setUint16(at(FCW), state.fcw, true);
  view.setUint16(at(FSW), state.fsw & ~0x3800, true);
  fpu[at(FTOP)] = top;
  fpu[at(FTAG)] = state.ftwx;
  view.setUint16(at(FOP), state.lastOpcode, true);
  view.setBigUint64(at(FIP), state.lastIp, true);
  view.setBigUint64(at(FDP), state.lastDp, true);
  for (let i = 0; i < 8; i++) fpu.set(state.fpr.subarray(i * 16, i * 16 + 10), at(FPR) + ((top + i) & 7) * 16);
  fpu.set(state.xmm, at(XMM));
  view.setUint32(at(MXCSR), state.mxcsr, true);
  return 0;
}

const XSAVE_SIZE = 4096;
const XSTATE_BV = 512;
const XSAVE_YMM = 576;
const FP_COMPONENT = 1n;
const SSE_COMPONENT = 2n;
const AVX_COMPONENT = 4n;
const PKRU_COMPONENT = 0x200n;
const XSAVE_PKRU: number = pkruOffset(0n);

/** KVM_GET_XSAVE: the standard format, 4096 bytes. @sdm "XSAVE Area" */
export function kvmVcpuIoctlGetXsave(vcpu: X86Vcpu): Uint8Array {
  const state = kvmVcpuIoctlGetFpu(vcpu);
  const area = new Uint8Array(XSAVE_SIZE);
  const view = new DataView(area.buffer);
  view.setUint16(0, state.fcw, true);
  view.setUint16(2, state.fsw, true);
  area[4] = state.ftwx;
  view.setUint16(6, state.lastOpcode, true);
  view.setBigUint64(8, state.lastIp, true);
  view.setBigUint64(16, state.lastDp, true);
  view.setUint32(24, state.mxcsr, true);
  view.setUint32(28, MXCSR_MASK, true);
  area.set(state.fpr, 32);
  area.set(state.xmm, 160);
  let components = FP_COMPONENT | SSE_COMPONENT;
  if (vcpu.arch.guestSupportedXcr0 & AVX_COMPONENT) {
    components |= AVX_COMPONENT;
    area.set(guestFpu(vcpu).subarray(YMM_HIGH - STATE, YMM_HIGH - STATE + 256), XSAVE_YMM);
  }
  if (vcpu.arch.guestSupportedXcr0 & PKRU_COMPONENT) {
    components |= PKRU_COMPONENT;
    view.setUint32(XSAVE_PKRU, vcpu.arch.pkru, true);
  }
  view.setBigUint64(XSTATE_BV, components, true);
  return area;
}

/** KVM_SET_XSAVE. */
export function kvmVcpuIoctlSetXsave(vcpu: X86Vcpu, area: Uint8Array): Errno {
  if (area.length < XSAVE_SIZE) return -EINVAL;
  const view = new DataView(area.buffer, area.byteOffset);
  const components = view.getBigUint64(XSTATE_BV, true);
  if (components & ~vcpu.arch.guestSupportedXcr0 & ~(FP_COMPONENT | SSE_COMPONENT)) return -EINVAL;
  const reset = newGuestFpu();
  const initial = new DataView(reset.buffer);
  const withFp = (components & FP_COMPONENT) !== 0n;
  const withSse = (components & SSE_COMPONENT) !== 0n;
  const failed = kvmVcpuIoctlSetFpu(vcpu, {
    fpr: withFp ? area.slice(32, 160) : new Uint8Array(128),
    fcw: withFp ? view.getUint16(0, true) : initial.getUint16(FCW - STATE, true),
    fsw: withFp ? view.getUint16(2, true) : 0,
    ftwx: withFp ? area[4]! : 0,
    lastOpcode: withFp ? view.getUint16(6, true) : 0,
    lastIp: withFp ? view.getBigUint64(8, true) : 0n,
    lastDp: withFp ? view.getBigUint64(16, true) : 0n,
    xmm: withSse ? area.slice(160, 416) : new Uint8Array(256),
    mxcsr: view.getUint32(24, true),
  });
  if (failed !== 0) return failed;
  const high = guestFpu(vcpu).subarray(YMM_HIGH - STATE, YMM_HIGH - STATE + 256);
  if (components & AVX_COMPONENT) high.set(area.subarray(XSAVE_YMM, XSAVE_YMM + 256));
  else high.fill(0);
  vcpu.arch.pkru = components & PKRU_COMPONENT ? view.getUint32(XSAVE_PKRU, true) : 0;
  return 0;
}
