/**
 * Exits at instruction boundaries, by priority.
 * @sdm "Priority Among Concurrent Events"; "VM Exits Induced by …" under "Event Injection" and "Other Causes of VM Exits"
 */
import { ACTIVE, BLOCKED_BY_MOV_SS, FLAG_IF, HLT, MWAITING, SHUTDOWN, WAIT_SIPI } from '../processor.ts';
import { emulateApicWrite } from './apic-write.ts';
import { EXIT_CONTROL, PIN, PRIMARY } from './controls.ts';
import { RF_KEEP } from './exit-info.ts';
import { isNotification, processPostedInterrupts } from './posted-interrupts.ts';
import { EVENT, INFO_VALID, REASON } from './reasons.ts';
import type { Vtx } from './vtx.ts';

const NMI_VECTOR = 2;

function exits(v: Vtx, reason: number): true {
  v.record(reason, 0n, RF_KEEP);
  return true;
}

/** The rest of a virtualized APIC write and the traps of APIC virtualization, INIT, monitor trap flag. */
export function boundaryTraps(v: Vtx): boolean {
  const { p } = v;
  if (v.machineCheckPending) {
    v.machineCheck();
    return true;
  }
  if (p.activity === WAIT_SIPI) return false;
  if (v.apicWrite >= 0) emulateApicWrite(v);
  if (v.apicTrap !== 0 && p.activity !== SHUTDOWN) {
    v.record(v.apicTrap, BigInt(v.apicTrapQualification), RF_KEEP);
    return true;
  }
  if (p.initPending) {
    p.initPending = false;
    return exits(v, REASON.INIT);
  }
  if (p.activity === SHUTDOWN) return false;
  return v.monitorTrapDue() && exits(v, REASON.MONITOR_TRAP_FLAG);
}

function nmiExit(v: Vtx): boolean {
  if ((v.pin & PIN.NMI_EXITING) === 0) return false;
  v.p.nmiPending = false;
  v.record(REASON.EXCEPTION_OR_NMI, 0n, RF_KEEP);
  v.exit.interruptionInfo = (INFO_VALID | (EVENT.NMI << 8) | NMI_VECTOR) >>> 0;
  return true;
}

/**
 * Preemption timer, NMI window, NMI, interrupt window, external interrupt. Where a virtual interrupt can be delivered
 * nothing below it is looked at. Notifications of posted interrupts are taken here, without an exit.
 */
export function boundaryExits(v: Vtx, interrupt: boolean): boolean {
  const { p, primary } = v;
  if (p.activity === WAIT_SIPI) return false;
  if (v.timerDeadline <= p.machine.clock.now()) return exits(v, REASON.PREEMPTION_TIMER);
  const running = p.activity === ACTIVE || p.activity === HLT || p.activity === MWAITING;
  const movSs = (p.interruptShadow & BLOCKED_BY_MOV_SS) !== 0;
  if (primary & PRIMARY.NMI_WINDOW && running && !v.virtualNmiBlocked && !movSs) return exits(v, REASON.NMI_WINDOW);
  // An NMI that does not exit is delivered before any interrupt is looked at.
  if (p.nmiPending && !p.nmiBlocked && !movSs) return nmiExit(v);
  if (!running || p.interruptShadow !== 0) return false;
  if (primary & PRIMARY.INTERRUPT_WINDOW && p.flagsRest & FLAG_IF) return exits(v, REASON.INTERRUPT_WINDOW);
  if (v.virtualInterruptPending && p.flagsRest & FLAG_IF) return false;
  if (interrupt && v.pin & PIN.EXTERNAL_INTERRUPT_EXITING) {
    const vector = v.exitControls & EXIT_CONTROL.ACKNOWLEDGE_INTERRUPT ? p.apic.takeInterrupt() : -1;
    if (vector >= 0 && isNotification(v, vector)) {
      processPostedInterrupts(v);
      return boundaryExits(v, p.apic.interruptPending);
    }
    v.externalInterruptExit(vector);
    return true;
  }
  return false;
}
