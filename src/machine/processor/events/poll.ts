/**
 * Events at an instruction boundary, by priority: INIT and SIPI, debug traps, NMI, interrupts, and between them what VMX
 * wants to exit for.
 *
 * @sdm "Priority Among Concurrent Events" (and its VMX additions)
 */
import { DONE, JUMPED, NMI, NO_ERROR, type Outcome, VMEXIT } from '../../outcome.ts';
import { BLOCKED_BY_MOV_SS, FLAG_IF, MWAITING, type Processor, SHUTDOWN, WAIT_SIPI } from '../../processor.ts';
import { mwaitEnds } from '../../system/monitor.ts';
import { OUTSIDE } from '../../vtx/operation.ts';
import { init, startup } from '../reset.ts';
import { updateInterruptWindow } from '../slow-flags.ts';
import { deliverDebugTrap, deliverEvent } from './deliver.ts';
import { EVENT, externalInterrupt } from './event.ts';

/** The processor waits for a SIPI, and for nothing else that VMX does not block. */
function takeSipi(p: Processor): Outcome {
  const vector = p.sipiPending;
  if (vector < 0) return DONE;
  p.sipiPending = -1;
  if (p.vtx.sipiExits(vector)) return VMEXIT;
  startup(p, vector);
  return JUMPED;
}

/** Takes the most important event that is not blocked. */
function takeOne(p: Processor): Outcome {
  const { vtx, apic } = p;
  if (vtx.boundaryTraps()) return VMEXIT;
  if (p.initPending && vtx.operation === OUTSIDE) {
    p.initPending = false;
    init(p);
    return JUMPED;
  }
  if (p.activity === WAIT_SIPI) return takeSipi(p);
  // Elsewhere a SIPI is lost; one behind an INIT that is still to come waits for it.
  if (!p.initPending) p.sipiPending = -1;

  const shutdown = p.activity === SHUTDOWN;
  const afterMovSs = (p.interruptShadow & BLOCKED_BY_MOV_SS) !== 0;
  if (p.pendingDebug !== 0 && !afterMovSs && !shutdown) {
    const bits = p.pendingDebug;
    p.pendingDebug = 0;
    return deliverDebugTrap(p, bits);
  }
  if (vtx.boundaryExits(apic.interruptPending)) return VMEXIT;
  if (p.activity === MWAITING && !mwaitEnds(p)) return DONE;
  if (p.nmiPending && !p.nmiBlocked && !afterMovSs) {
    p.nmiPending = false;
    p.nmiBlocked = true;
    return deliverEvent(p, { vector: NMI, type: EVENT.nmi, errorCode: NO_ERROR, instructionLength: 0 });
  }
  const open = (p.flagsRest & FLAG_IF) !== 0 && p.interruptShadow === 0 && !shutdown;
  if (open && vtx.virtualInterruptPending) return deliverEvent(p, externalInterrupt(vtx.takeVirtualInterrupt()));
  return open && apic.interruptPending ? deliverEvent(p, externalInterrupt(apic.takeInterrupt())) : DONE;
}

/**
 * Takes all events that can be taken at this boundary, one on top of the other.
 *
 * @returns DONE if there was none, JUMPED, or VMEXIT
 */
export function pollEvents(p: Processor): Outcome {
  let result: Outcome = DONE;
  for (;;) {
    p.eventsPending = false;
    const outcome = takeOne(p);
    if (outcome === VMEXIT) return VMEXIT;
    if (outcome === DONE) break;
    result = JUMPED;
  }
  updateInterruptWindow(p);
  return result;
}
