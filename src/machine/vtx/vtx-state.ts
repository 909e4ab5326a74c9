/** VT-x state of one logical processor outside its VMCSs. */
import { Timer } from '../../devices/clock.ts';
import type { Hpa } from '../../util/address.ts';
import { VIRTUAL_NMI_BLOCKED } from '../engine/layout.ts';
import type { Processor } from '../processor.ts';
import { type VmxCapabilities, vmxCapabilities } from './capabilities.ts';
import { PRIMARY, SECONDARY } from './controls.ts';
import { type ExitInfo, RF_KEEP } from './exit-info.ts';
import { NON_ROOT, OUTSIDE } from './operation.ts';
import { SeamMemory, type StructureMemory } from './structure-memory.ts';
import type { Vmcs } from './vmcs.ts';

/** What VM entries set up and the queries of Vtx look at. */
export class VtxState {
  readonly p: Processor;
  readonly capabilities: VmxCapabilities;

  /** OUTSIDE, ROOT or NON_ROOT (operation.ts). */
  operation: 0 | 1 | 2 = OUTSIDE;
  /** VMXON pointer, or -1. */
  vmxonPointer: Hpa = -1;
  /** The current VMCS, or null. */
  current: Vmcs | null = null;
  /** VMCSs that this processor has loaded and not cleared since, by region. */
  readonly active: Map<Hpa, Vmcs> = new Map();
  /** VMX-abort indicator, or 0. Set with the processor in shutdown. */
  abort = 0;
  /** The running guest was entered by the method vmlaunch() or vmresume(): its exit returns to TypeScript. */
  launchedByMethod = false;

  /** VM exits so far by basic exit reason. */
  readonly exitCounts: Float64Array = new Float64Array(128);

  /** The VMCS whose guest segments generated code has had since its exit to TypeScript, or null. */
  publishedSegments: Vmcs | null = null;

  /**
   * Exits leave the guest's state in the processor, as the root software looks at none of what they switch: SEAM root software
   * between two entries of the same TD, and KVM up to the next VMX instruction that is about another VMCS.
   */
  keepsGuest = false;
  /** The VMCS whose guest state the processor has since its exit, or null. */
  resident: Vmcs | null = null;
  /** That state is not all in the VMCS yet: saveDeferred() puts it there before anybody looks. */
  saveDue = false;

  // ---- controls in force; all 0 outside non-root operation
  pin = 0;
  primary = 0;
  secondary = 0;
  /** Of an ordinary VMCS. */
  tertiary = 0;
  entryControls = 0;
  exitControls = 0;
  exceptionBitmap = 0;
  pageFaultMask = 0;
  pageFaultMatch = 0;
  /** Guest/host masks and read shadows, low 32 bits unsigned. */
  cr0Mask = 0;
  cr0Shadow = 0;
  cr4Mask = 0;
  cr4Shadow = 0;
  /** Physical addresses; valid under their controls. */
  msrBitmap: Hpa = 0;
  ioBitmapA: Hpa = 0;
  ioBitmapB: Hpa = 0;
  virtualApicPage: Hpa = 0;
  tprThreshold = 0;
  /** The APIC-access page; -1 while APIC accesses are not virtualized. */
  apicAccessPage: Hpa = -1;
  /** Guest interrupt status: highest requesting and highest servicing virtual interrupt. */
  rvi = 0;
  svi = 0;
  /** A virtual interrupt is recognized. */
  virtualInterruptPending = false;
  /** Offset and size of a virtualized write to the APIC-access page whose emulation is due; offset -1 for none. */
  apicWrite = -1;
  apicWriteSize = 0;
  /** Added to the TSC (0n unless the control is on); with SECONDARY.TSC_SCALING multiply first. Use guestTsc(). */
  tscOffset = 0n;
  /** 48 fraction bits. */
  tscMultiplier: bigint = 1n << 48n;

  // ---- address translation
  /** EPT is in use. */
  ept = false;
  /** EPTP, whole; 0n when EPT is off. */
  eptp = 0n;
  /** Physical address of the EPT root table. */
  eptRoot: Hpa = 0;
  /** 4. */
  eptLevels = 4;
  /** EPT accessed and dirty flags are in use. */
  eptAccessedDirty = false;
  /** Page-modification logging is on. */
  pml = false;
  // ---- SEAM non-root operation
  /** The VMCS in force, or about to be entered, is a TD's. */
  tdGuest = false;
  /** KeyID of the TD's private memory; 0 without one. */
  seamHkid = 0;
  /** Guest-physical addresses from here to twice this are shared memory; Infinity without a TD. */
  sharedBase: number = Number.POSITIVE_INFINITY;
  /** Physical address of the root table for shared memory. */
  sharedEptRoot: Hpa = 0;
  /** Memory that the structures of the VMCS in force lie in. */
  memory: StructureMemory;
  /** The TD used a line that is another KeyID's: the exit is due at the next boundary. */
  machineCheckPending = false;

  /** Current VPID: 0 outside non-root operation and where the control is off. */
  vpid = 0;

  // ---- events
  readonly exit: ExitInfo = {
    reason: 0,
    qualification: 0n,
    guestLinear: 0n,
    guestPhysical: 0,
    interruptionInfo: 0,
    interruptionErrorCode: 0,
    idtVectoringInfo: 0,
    idtVectoringErrorCode: 0,
    instructionLength: 0,
    instructionInfo: 0,
    resumeFlag: RF_KEEP,
  };
  /** The running IRET has just removed (virtual-)NMI blocking: bit 12 of exits it causes. */
  nmiUnblockedByIret = false;
  /** A monitor-trap-flag exit is due at the next boundary. */
  monitorTrapPending = false;
  /** Where the monitor trap flag began to watch: it is due when either differs. */
  monitorTrapRip = 0n;
  monitorTrapTime = 0;
  /** A trap-like exit is due at the next boundary: TPR below threshold, virtualized EOI, APIC write. Its reason, or 0. */
  apicTrap = 0;
  apicTrapQualification = 0;
  /** Machine time in ns at which the preemption timer reaches 0; Infinity when it does not run. */
  timerDeadline: number = Number.POSITIVE_INFINITY;
  /** PAUSE-loop exiting: TSC of the first and of the last PAUSE of the loop; -1 before the first. */
  pauseLoopStart = -1;
  pauseLast = -1;
  pauseGap = 0;
  pauseWindow = 0;

  readonly #timer: Timer;
  readonly #seamMemory: SeamMemory;

  constructor(p: Processor) {
    this.p = p;
    this.#timer = new Timer(() => {
      p.eventsPending = true;
    });
    this.memory = p.machine.memory;
    this.#seamMemory = new SeamMemory(p.machine.memory.keyed, () => {
      this.machineCheckPending = true;
      p.eventsPending = true;
    });
    this.capabilities = vmxCapabilities(p.machine.options.profile);
  }

  /** What follows is about the VMCS of a TD with this KeyID; 0: outside SEAM. */
  selectSeam(hkid: number): void {
    this.tdGuest = hkid !== 0;
    this.seamHkid = hkid;
    this.sharedBase = Number.POSITIVE_INFINITY;
    this.machineCheckPending = false;
    this.#seamMemory.keyId = hkid;
    this.memory = hkid === 0 ? this.p.machine.memory : this.#seamMemory;
  }
  /** Shift that leaves only bits of a physical address's high half that software may not set: outside SEAM also private KeyIDs. */
  get addressShift(): number {
    const { addressShift } = this.capabilities;
    return this.p.machine.seam.enabled && !this.tdGuest ? addressShift - 1 : addressShift;
  }

  /** Virtual-NMI blocking (pin control "virtual NMIs"). */
  get virtualNmiBlocked(): boolean {
    return this.p.read8(VIRTUAL_NMI_BLOCKED) !== 0;
  }
  set virtualNmiBlocked(value: boolean) {
    this.p.write8(VIRTUAL_NMI_BLOCKED, value ? 1 : 0);
  }

  get inVmx(): boolean {
    return this.operation !== OUTSIDE;
  }
  get nonRoot(): boolean {
    return this.operation === NON_ROOT;
  }
  get unrestrictedGuest(): boolean {
    return (this.secondary & SECONDARY.UNRESTRICTED_GUEST) !== 0;
  }
  /** Something is due after each instruction (monitor trap flag): execute one by one, with eventsPending set. */
  get stepNeeded(): boolean {
    return (this.primary & PRIMARY.MONITOR_TRAP_FLAG) !== 0;
  }
  /** Whether a monitor-trap-flag exit is due at this boundary. */
  monitorTrapDue(): boolean {
    if (this.monitorTrapPending) return true;
    if (!this.stepNeeded) return false;
    const { p } = this;
    return p.machine.clock.now() !== this.monitorTrapTime || p.rip !== this.monitorTrapRip;
  }

  /** Starts the preemption timer. @param deadline machine time in ns */
  startTimer(deadline: number): void {
    this.timerDeadline = deadline;
    this.p.machine.clock.setTimer(this.#timer, deadline);
  }
  stopTimer(): void {
    if (this.timerDeadline === Number.POSITIVE_INFINITY) return;
    this.timerDeadline = Number.POSITIVE_INFINITY;
    this.p.machine.clock.cancel(this.#timer);
  }
}
