/**
 * A trust domain and its virtual processors as KVM knows them.
 *
 * @upstream arch/x86/kvm/vmx/tdx.h
 */
import type { Cpu, Cpus } from '../../../host/cpus.ts';
import { VpEnterArgs } from '../../../host/tdx-seamcall.ts';
import type { Hpa } from '../../../util/address.ts';
import type { X86Vcpu, X86Vm } from '../kvm_host.ts';
import { VcpuVt } from './common.ts';

/** How far a TD is. @upstream enum kvm_tdx_state */
export const TD_STATE_UNINITIALIZED = 0;
/** KVM_TDX_INIT_VM is done: control structures exist, memory and vCPUs can be added. */
export const TD_STATE_INITIALIZED = 1;
/** KVM_TDX_FINALIZE_VM is done: the measurement is complete, vCPUs can run. */
export const TD_STATE_RUNNABLE = 2;

/** How far a vCPU of one is. @upstream enum vcpu_tdx_state */
export const VCPU_TD_STATE_UNINITIALIZED = 0;
export const VCPU_TD_STATE_INITIALIZED = 1;

/** A trust domain. @upstream struct kvm_tdx */
export class KvmTdx {
  readonly kvm: X86Vm;
  readonly cpus: Cpus;
  state: 0 | 1 | 2 = TD_STATE_UNINITIALIZED;
  /** Its KeyID; −1 while it has none. */
  hkid = -1;
  attributes = 0n;
  xfam = 0n;
  tdr: Hpa | null = null;
  readonly tdcs: Hpa[] = [];
  tscOffset = 0n;
  /** Fraction bits as the processor's TSC multiplier. */
  tscMultiplier = 0n;
  /** Removal of private memory waits for vCPUs to be out: none may enter. */
  waitForSeptZap = false;
  /** Where the content of the page that is being added comes from. */
  pageAddSrc: Hpa | null = null;

  constructor(kvm: X86Vm) {
    this.kvm = kvm;
    this.cpus = kvm.host.cpus;
  }

  /** @upstream is_hkid_assigned() */
  get hkidAssigned(): boolean {
    return this.hkid > 0;
  }
}

/** A virtual processor of a TD. @upstream struct vcpu_tdx */
export class VcpuTdx extends VcpuVt {
  readonly td: KvmTdx;
  state: 0 | 1 = VCPU_TD_STATE_UNINITIALIZED;
  /** The CPU that has its state; null for none. */
  associatedCpu: Cpu | null = null;
  tdvpr: Hpa | null = null;
  readonly tdcx: Hpa[] = [];
  /** Registers of the last exit, and of the next entry. */
  readonly vpEnterArgs: VpEnterArgs = new VpEnterArgs();
  /** Status of the last entry. */
  vpEnterRet = 0n;
  extExitQualification = 0n;
  /** Guest-physical address of the last EPT violation. */
  exitGpa = 0n;
  /** The part of a MapGPA that is still to be done. */
  mapGpaNext = 0n;
  mapGpaEnd = 0n;

  constructor(td: KvmTdx) {
    super();
    this.td = td;
  }

  /** General registers of the last exit by number. */
  get regs(): BigUint64Array {
    return this.vpEnterArgs.regs;
  }
}

const tds: WeakMap<X86Vm, KvmTdx> = new WeakMap();

/** Makes a VM a TD. */
export function newKvmTdx(kvm: X86Vm): KvmTdx {
  const td = new KvmTdx(kvm);
  tds.set(kvm, td);
  return td;
}

/** The TDX part of a VM that is known to be a TD. @upstream to_kvm_tdx() */
export function toKvmTdx(kvm: X86Vm): KvmTdx {
  const td = tds.get(kvm);
  if (td === undefined) throw new Error('the VM is no trust domain');
  return td;
}

/** The TDX part of a vCPU that is known to be a TD's. @upstream to_tdx() */
export const toTdx = (vcpu: X86Vcpu): VcpuTdx => vcpu.vt as VcpuTdx;

/** Whether an address of the guest is private: its shared bit is clear. @upstream vt_is_tdx_private_gpa() */
export function vtIsTdxPrivateGpa(kvm: X86Vm, gpa: bigint): boolean {
  const shared = BigInt(kvm.arch.gfnDirectBits) << 12n;
  return shared !== 0n && (gpa & shared) === 0n;
}

/** The address without its shared bit. */
export const tdxStripShared = (kvm: X86Vm, gpa: bigint): bigint => gpa & ~(BigInt(kvm.arch.gfnDirectBits) << 12n);
