/**
 * VT-x state of one logical processor, the VMX instructions as methods, and what other parts ask.
 *
 * Who asks what:
 * - instruction handlers test the cached control words (`v.primary & PRIMARY.HLT`), which are 0 outside VMX non-root
 *   operation, and then `return v.instructionExit(insn, REASON.HLT)`; anything that takes more than one bit has a query
 *   here (`ioExits`, `msrExits`, `movToCrExits` …). A query named `…Exits` records the exit when it returns true; the
 *   caller then returns VMEXIT.
 * - event delivery keeps p.delivering and calls `exceptionExits`, `eventExit`, `tripleFaultExit`, `taskSwitchExit`, IRET
 *   `unblockNmi` and `endIret`; at instruction boundaries `boundaryTraps` and `boundaryExits` are asked.
 * - the MMU reads `ept`, `eptRoot`, `vpid` … and calls `eptViolation`, `eptMisconfiguration`, `logDirtyPage`.
 * - the run loop calls `takeVmExit`.
 */
import type { Gpa, Hpa } from '../../util/address.ts';
import type { Insn } from '../isa/insn.ts';
import { DONE, FAULT, type Outcome, VMEXIT } from '../outcome.ts';
import type { Event } from '../processor/events/event.ts';
import { boundaryExits, boundaryTraps } from './boundary.ts';
import { cr8Write, guestTsc, ioExits, msrExits, pauseExits, pauseSpins } from './conditional-exits.ts';
import { PIN } from './controls.ts';
import { clts, lmswExits, movDrExits, movFromCrExits, movToCrExits } from './cr-exits.ts';
import { enter } from './entry.ts';
import { eventExit, exceptionExits } from './exceptions.ts';
import { leaveNonRoot, takeVmExit } from './exit.ts';
import { duringDelivery, RF_CLEAR, RF_KEEP, RF_SET } from './exit-info.ts';
import { instructionInformation, memoryQualification } from './instruction-information.ts';
import { NON_ROOT, OUTSIDE, VM_SUCCEED } from './operation.ts';
import * as operations from './operations.ts';
import { logDirtyPage, pmlFullExits } from './pml.ts';
import { EVENT, INFO_NMI_UNBLOCKED, INFO_VALID, REASON } from './reasons.ts';
import { readVirtual, takeVirtualInterrupt, VAPIC } from './virtual-apic.ts';
import { virtualizationException } from './virtualization-exception.ts';
import { VtxState } from './vtx-state.ts';
import { readVirtualX2apic, writeVirtualX2apic } from './x2apic.ts';

const MC_VECTOR = 18;
const NMI_UNBLOCKED_BIT = BigInt(INFO_NMI_UNBLOCKED);

export class Vtx extends VtxState {
  /** RESET: outside VMX operation, nothing loaded. */
  reset(): void {
    leaveNonRoot(this);
    this.operation = OUTSIDE;
    this.vmxonPointer = -1;
    this.current = null;
    this.active.clear();
    this.publishedSegments = null;
    this.launchedByMethod = false;
    this.resident = null;
    this.saveDue = false;
    this.abort = 0;
  }

  // ---- VMX instructions for root software in TypeScript; faults as the instruction's with CPL 0 in 64-bit mode

  /** @param region physical address of the VMXON region */
  vmxon(region: Hpa): number {
    return operations.vmxon(this, BigInt(region));
  }
  vmxoff(): number {
    return operations.vmxoff(this);
  }
  vmclear(region: Hpa): number {
    return operations.vmclear(this, BigInt(region));
  }
  vmptrld(region: Hpa): number {
    return operations.vmptrld(this, BigInt(region));
  }
  /** Region of the current VMCS, or 2^64 - 1 as VMPTRST stores where there is none. */
  vmptrst(): bigint {
    return operations.currentPointer(this);
  }
  /** The field's value, zero-extended; undefined where the instruction fails (`vmreadResult` says how). */
  vmread(field: number): bigint | undefined {
    this.vmreadResult = operations.vmread(this, field);
    return this.vmreadResult === VM_SUCCEED ? operations.readField(this, field) : undefined;
  }
  /** The field's low half; -1 where the instruction fails, of which vmread() tells more. perf: most of what KVM reads has 32 bits. */
  vmreadLow(field: number): number {
    return operations.vmreadLow(this, field);
  }
  /** Result of the last vmread(). */
  vmreadResult: number = VM_SUCCEED;
  vmwrite(field: number, value: bigint | number): number {
    return operations.vmwrite(this, field, value);
  }
  /** Enters the guest and returns after its VM exit (or the failure). */
  vmlaunch(): number {
    return this.#run(true);
  }
  vmresume(): number {
    return this.#run(false);
  }
  #run(launch: boolean): number {
    const result = operations.launchChecks(this, launch);
    if (result !== VM_SUCCEED) return result;
    const entered = enter(this, launch, true);
    if (entered === VM_SUCCEED && this.operation === NON_ROOT) this.p.machine.runNonRoot(this.p);
    return entered;
  }
  invept(type: number, eptp: bigint): number {
    return operations.invept(this, BigInt(type), eptp);
  }
  invvpid(type: number, vpid: number, linear: bigint = 0n): number {
    return operations.invvpid(this, BigInt(type), BigInt(vpid), linear);
  }

  // ---- exits

  /** Begins the record of an exit. */
  record(reason: number, qualification: bigint, resumeFlag: number): typeof VMEXIT {
    const { exit, p } = this;
    exit.reason = reason;
    exit.qualification = qualification;
    exit.interruptionInfo = 0;
    exit.interruptionErrorCode = 0;
    exit.instructionLength = 0;
    exit.instructionInfo = 0;
    exit.guestLinear = 0n;
    exit.guestPhysical = 0;
    exit.resumeFlag = resumeFlag;
    exit.idtVectoringInfo = 0;
    exit.idtVectoringErrorCode = 0;
    if (p.delivering !== null) duringDelivery(exit, p.delivering);
    p.outcome = VMEXIT;
    return VMEXIT;
  }

  /**
   * Records the exit of an instruction: length, instruction information and, for instructions whose qualification is
   * their memory operand's displacement, the qualification.
   */
  instructionExit(insn: Insn, reason: number, qualification?: bigint): typeof VMEXIT {
    this.record(reason, qualification ?? memoryQualification(this.p, insn, reason), RF_CLEAR);
    this.exit.instructionLength = insn.length;
    this.exit.instructionInfo = instructionInformation(insn, reason);
    return VMEXIT;
  }

  /** Takes the recorded exit: saves the guest, loads the host. Afterwards `operation` is ROOT (or the processor is shut down by a VMX abort). */
  takeVmExit(): void {
    takeVmExit(this);
  }

  // ---- exceptions and events

  /** Whether the exception bitmap makes this exception exit; records nothing (then eventExit). */
  exceptionExits(vector: number, errorCode: number): boolean {
    return this.operation === NON_ROOT && exceptionExits(this, vector, errorCode);
  }
  /**
   * Records the exit that an event causes directly: p.fault holds a #PF's address and a #DB's bits. Call before CR2, DR6
   * and the stack change, with RFLAGS.RF as delivery would push it. If p.delivering is set, this event arose during its
   * delivery.
   */
  eventExit(event: Event): typeof VMEXIT {
    return eventExit(this, event);
  }
  /** Records the triple-fault exit. */
  tripleFaultExit(): typeof VMEXIT {
    this.p.delivering = null;
    return this.record(REASON.TRIPLE_FAULT, 0n, RF_KEEP);
  }
  /**
   * Records the task-switch exit; call when all checks that may fault first have passed.
   * @param source 0 CALL, 1 IRET, 2 JMP, 3 task gate in the IDT
   * @param instructionLength of CALL, IRET, JMP; not used for a gate in the IDT
   */
  taskSwitchExit(selector: number, source: number, instructionLength: number): typeof VMEXIT {
    this.record(REASON.TASK_SWITCH, BigInt((selector | (source << 30)) >>> 0), source === 3 ? RF_KEEP : RF_CLEAR);
    if (source !== 3) this.exit.instructionLength = instructionLength;
    return VMEXIT;
  }

  /**
   * IRET removes NMI blocking, or virtual-NMI blocking, by the controls; call at its start (it stays removed if IRET
   * faults), and endIret() when it has completed or its fault has been delivered.
   */
  unblockNmi(): void {
    const { p } = this;
    if ((this.pin & PIN.NMI_EXITING) === 0) {
      this.nmiUnblockedByIret = p.nmiBlocked;
      p.nmiBlocked = false;
    } else if (this.pin & PIN.VIRTUAL_NMIS) {
      this.nmiUnblockedByIret = this.virtualNmiBlocked;
      this.virtualNmiBlocked = false;
    }
    if (this.nmiUnblockedByIret) p.eventsPending = true;
  }
  endIret(): void {
    this.nmiUnblockedByIret = false;
  }

  /** First part of a boundary: traps of APIC virtualization, INIT, monitor trap flag. Then come debug traps, then boundaryExits. */
  boundaryTraps(): boolean {
    return this.operation === NON_ROOT && boundaryTraps(this);
  }
  /**
   * Second part of a boundary: preemption timer, NMI window, NMI, interrupt window, external interrupt.
   * False where nothing exits: then a pending NMI that is not blocked is delivered, else an interrupt if IF allows.
   * @param interrupt an external interrupt is pending at the local APIC (not yet acknowledged)
   */
  boundaryExits(interrupt: boolean): boolean {
    return this.operation === NON_ROOT && boundaryExits(this, interrupt);
  }
  /** Records the exit for an external interrupt. @param vector the acknowledged vector, or -1 if it stays pending */
  externalInterruptExit(vector: number): typeof VMEXIT {
    this.record(REASON.EXTERNAL_INTERRUPT, 0n, RF_KEEP);
    if (vector >= 0) this.exit.interruptionInfo = (INFO_VALID | vector) >>> 0;
    return VMEXIT;
  }
  /** Records the exit for a SIPI in wait-for-SIPI state. */
  sipiExits(vector: number): boolean {
    if (this.operation !== NON_ROOT) return false;
    this.record(REASON.SIPI, BigInt(vector), RF_KEEP);
    return true;
  }

  /**
   * Records the exit of a machine check: a TD has used a line of memory that is not its KeyID's. It takes the place of
   * whatever was going on.
   */
  machineCheck(): typeof VMEXIT {
    this.record(REASON.EXCEPTION_OR_NMI, 0n, RF_KEEP);
    this.exit.interruptionInfo = (INFO_VALID | (EVENT.HARDWARE_EXCEPTION << 8) | MC_VECTOR) >>> 0;
    return VMEXIT;
  }

  // ---- control registers

  /** MOV to CR0, CR3, CR4 or CR8: whether it exits. `gpr` is the source register's number. */
  movToCrExits(insn: Insn, cr: number, gpr: number, value: bigint): boolean {
    return this.operation === NON_ROOT && movToCrExits(this, insn, cr, gpr, value);
  }
  /** MOV from CR3 or CR8: whether it exits. */
  movFromCrExits(insn: Insn, cr: number, gpr: number): boolean {
    return this.operation === NON_ROOT && movFromCrExits(this, insn, cr, gpr);
  }
  /** CLTS: VMEXIT recorded; DONE, it does nothing; undefined, it clears CR0.TS as usual. */
  clts(insn: Insn): Outcome | undefined {
    return this.operation === NON_ROOT ? clts(this, insn) : undefined;
  }
  /** LMSW: whether it exits. `linear` is the address of a memory operand. Where it does not, write cr0ToWrite(value). */
  lmswExits(insn: Insn, source: number, linear: bigint | undefined): boolean {
    return this.operation === NON_ROOT && lmswExits(this, insn, source, linear);
  }
  movDrExits(insn: Insn, dr: number, fromDr: boolean, gpr: number): boolean {
    return this.operation === NON_ROOT && movDrExits(this, insn, dr, fromDr, gpr);
  }
  /** What MOV from CR0 and SMSW read. */
  cr0ToRead(): number {
    return ((this.p.cr0 & ~this.cr0Mask) | (this.cr0Shadow & this.cr0Mask)) >>> 0;
  }
  cr4ToRead(): number {
    return ((this.p.cr4 & ~this.cr4Mask) | (this.cr4Shadow & this.cr4Mask)) >>> 0;
  }
  /** The value that a MOV to CR0 or LMSW of `value` really writes: bits that the host owns stay. */
  cr0ToWrite(value: number): number {
    return ((value & ~this.cr0Mask) | (this.p.cr0 & this.cr0Mask)) >>> 0;
  }
  cr4ToWrite(value: number): number {
    return ((value & ~this.cr4Mask) | (this.p.cr4 & this.cr4Mask)) >>> 0;
  }
  /** Whether VMX operation lets CR0 have this value (true outside VMX operation). */
  cr0Allowed(value: number): boolean {
    return this.operation === OUTSIDE || this.capabilities.cr0Allowed(value, this.unrestrictedGuest);
  }
  cr4Allowed(value: number): boolean {
    return this.operation === OUTSIDE || this.capabilities.cr4Allowed(value);
  }

  // ---- other conditional exits

  /** IN, OUT, INS, OUTS; after the TSS bitmap's #GP. `input`: IN or INS. */
  ioExits(insn: Insn, port: number, size: 1 | 2 | 4, input: boolean): boolean {
    return this.operation === NON_ROOT && ioExits(this, insn, port, size, input);
  }
  /** Whether RDMSR or WRMSR of this index exits; records nothing (then instructionExit with REASON.RDMSR or WRMSR). */
  msrExits(index: number, write: boolean): boolean {
    return this.operation === NON_ROOT && msrExits(this, index, write);
  }
  /** Whether PAUSE exits, by PAUSE exiting or PAUSE-loop exiting; records nothing. */
  pauseExits(): boolean {
    return this.operation === NON_ROOT && pauseExits(this);
  }
  /** Whether PAUSE tells that the processor waits: on a bare machine always, in a TD, whose PAUSE cannot exit, in a loop of them. */
  pauseSpins(): boolean {
    return !this.launchedByMethod || (this.operation === NON_ROOT && pauseSpins(this));
  }
  /** The TSC as software in the current operation reads it. @param tsc the processor's TSC */
  guestTsc(tsc: bigint): bigint {
    return guestTsc(this, tsc);
  }
  /** CR8 through the virtual-APIC page; only with PRIMARY.TPR_SHADOW. */
  cr8Read(): number {
    return (readVirtual(this, VAPIC.TPR) >> 4) & 15;
  }
  /** @param value 0 to 15 */
  cr8Write(value: number): typeof DONE {
    cr8Write(this, value);
    return DONE;
  }

  // ---- APIC virtualization

  /** RDMSR where msrExits() is false: the virtualized value, or undefined. */
  virtualMsrRead(index: number): bigint | undefined {
    return readVirtualX2apic(this, index);
  }
  /** WRMSR where msrExits() is false: DONE or FAULT, or undefined where it is not virtualized. */
  virtualMsrWrite(index: number, value: bigint): Outcome | undefined {
    return writeVirtualX2apic(this, index, value);
  }
  /** Vector of the virtual interrupt that is delivered now; asked only while virtualInterruptPending. */
  takeVirtualInterrupt(): number {
    return takeVirtualInterrupt(this);
  }

  // ---- EPT

  /**
   * An EPT violation: a virtualization exception is raised, or the exit is recorded.
   * @param linear the guest-linear address if there is one (qualification bit 7)
   * @param qualification bits 6:0 and 8 to 11 of the exit qualification; bits 7 and 12 are added here
   * @param convertible the EPT entry does not suppress virtualization exceptions
   */
  eptViolation(gpa: Gpa, linear: bigint | undefined, qualification: number, convertible = false): Outcome {
    let bits = BigInt(linear === undefined ? qualification : qualification | 0x80);
    if (convertible && virtualizationException(this, gpa, linear ?? 0n, bits)) return FAULT;
    if (this.nmiUnblockedByIret && this.p.delivering === null) bits |= NMI_UNBLOCKED_BIT;
    this.record(REASON.EPT_VIOLATION, bits, this.p.delivering === null ? RF_SET : RF_KEEP);
    this.exit.guestPhysical = gpa;
    this.exit.guestLinear = linear ?? 0n;
    return VMEXIT;
  }
  eptMisconfiguration(gpa: Gpa): typeof VMEXIT {
    this.record(REASON.EPT_MISCONFIGURATION, 0n, this.p.delivering === null ? RF_SET : RF_KEEP);
    this.exit.guestPhysical = gpa;
    return VMEXIT;
  }
  /**
   * Page-modification logging, before an EPT dirty flag goes from 0 to 1 (or an accessed flag is set): call
   * pmlFullExits() first; when it says no, set the flags and call logDirtyPage() if a dirty flag was set.
   */
  pmlFullExits(): boolean {
    return this.pml && pmlFullExits(this);
  }
  logDirtyPage(gpa: Gpa): void {
    if (this.pml) logDirtyPage(this, gpa);
  }
}
