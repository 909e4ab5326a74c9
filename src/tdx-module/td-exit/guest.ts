/**
 * A TD's virtual processor between a VM exit and the next entry: its registers are in the processor, the rest of its
 * state in its VMCS.
 */

import { GP, NO_ERROR } from '../../machine/outcome.ts';
import type { Processor } from '../../machine/processor.ts';
import { AR_L, dplOf, EFER_LMA, FLAG_RF, FLAG_TF } from '../../machine/processor.ts';
import { F } from '../../machine/vtx/field-slots.ts';
import { EVENT, INFO_ERROR_CODE, INFO_VALID } from '../../machine/vtx/reasons.ts';
import type { Vmcs } from '../../machine/vtx/vmcs.ts';
import type { TdxModule } from '../module.ts';
import { ATTRIBUTES, type Tdcs } from '../objects/tdcs.ts';
import type { Tdvps } from '../objects/tdvps.ts';
import { type TdView, viewOf } from '../virtualization/td-view.ts';
import { ZeroStep } from './zero-step.ts';

const RSP = 4;
/** Blocking by STI and by MOV SS in the interruptibility state. */
const SHADOW = 3;
/** Single step, in the pending debug exceptions. */
const PENDING_BS = 0x4000n;
const DEBUGCTL_BTF = 2n;

export class Guest {
  readonly module: TdxModule;
  readonly p: Processor;
  readonly tdvps: Tdvps;
  readonly tdcs: Tdcs;
  readonly vmcs: Vmcs;
  readonly view: TdView;
  readonly zeroStep: ZeroStep;

  constructor(module: TdxModule, p: Processor, tdvps: Tdvps) {
    this.module = module;
    this.p = p;
    this.tdvps = tdvps;
    this.tdcs = tdvps.tdcs;
    this.vmcs = tdvps.vmcs;
    this.view = viewOf(this.tdcs);
    this.zeroStep = new ZeroStep(tdvps);
  }

  get isDebug(): boolean {
    return this.tdcs.hasAttribute(ATTRIBUTES.DEBUG);
  }
  /** Privilege level at the exit. */
  get cpl(): number {
    return dplOf(this.vmcs.low(F.GUEST_SS_ACCESS_RIGHTS));
  }
  /** The TD was in 64-bit mode. */
  get mode64(): boolean {
    const { vmcs } = this;
    return (vmcs.low(F.GUEST_EFER) & EFER_LMA) !== 0 && (vmcs.low(F.GUEST_CS_ACCESS_RIGHTS) & AR_L) !== 0;
  }
  get reason(): number {
    return this.vmcs.low(F.EXIT_REASON);
  }
  get qualification(): bigint {
    return this.vmcs.get64(F.EXIT_QUALIFICATION);
  }

  /** A general register; RSP is in the VMCS. */
  gpr(n: number): bigint {
    return n === RSP ? this.vmcs.get64(F.GUEST_RSP) : this.p.gpr(n);
  }

  /** Changes a field of the VMCS as VMWRITE does. */
  write(slot: number, value: bigint): void {
    this.vmcs.set64(slot, BigInt.asUintN(64, value));
    this.vmcs.touch(slot);
  }

  /** The instruction that exited is complete: RIP behind it, shadows of STI and MOV SS gone, single step due if TF is on. */
  advance(): void {
    const { vmcs } = this;
    const next = vmcs.get64(F.GUEST_RIP) + BigInt(vmcs.low(F.EXIT_INSTRUCTION_LENGTH));
    this.write(F.GUEST_RIP, BigInt.asUintN(this.mode64 ? 64 : 32, next));
    vmcs.setLow(F.GUEST_INTERRUPTIBILITY, vmcs.low(F.GUEST_INTERRUPTIBILITY) & ~SHADOW);
    const stepping = (vmcs.low(F.GUEST_RFLAGS) & FLAG_TF) !== 0 && !(vmcs.get64(F.GUEST_DEBUGCTL) & DEBUGCTL_BTF);
    if (stepping) this.write(F.GUEST_PENDING_DEBUG, vmcs.get64(F.GUEST_PENDING_DEBUG) | PENDING_BS);
    // An instruction clears RF.
    vmcs.setNumber(F.GUEST_RFLAGS, vmcs.low(F.GUEST_RFLAGS) & ~FLAG_RF);
  }

  /** The next entry delivers an event. @param errorCode NO_ERROR if the vector pushes none */
  inject(type: number, vector: number, errorCode: number = NO_ERROR, instructionLength = 0): void {
    const { vmcs } = this;
    const code = errorCode === NO_ERROR ? 0 : INFO_ERROR_CODE;
    vmcs.setLow(F.ENTRY_INTERRUPTION_INFO, (INFO_VALID | code | (type << 8) | vector) >>> 0);
    if (errorCode !== NO_ERROR) vmcs.setLow(F.ENTRY_EXCEPTION_ERROR_CODE, errorCode);
    vmcs.setLow(F.ENTRY_INSTRUCTION_LENGTH, instructionLength);
  }

  /** A fault at the instruction that exited. */
  injectFault(vector: number, errorCode: number = NO_ERROR): void {
    this.inject(EVENT.HARDWARE_EXCEPTION, vector, errorCode);
    this.setResumeFlag();
  }
  injectGp(): void {
    this.injectFault(GP, 0);
  }

  /** RFLAGS.RF as a fault pushes it. */
  setResumeFlag(): void {
    this.vmcs.setNumber(F.GUEST_RFLAGS, (this.vmcs.low(F.GUEST_RFLAGS) | FLAG_RF) >>> 0);
  }
}
