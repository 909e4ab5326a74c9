/**
 * Delivery of exceptions and interrupts: VMX intercepts, side effects, nested faults, double and triple faults.
 *
 * @sdm "Interrupt and Exception Handling"; "Exception and Interrupt Delivery" of VMX non-root operation
 */
import { DB, DF, JUMPED, NO_ERROR, type Outcome, PF, VMEXIT } from '../../outcome.ts';
import { ACTIVE, FLAG_RF, type PendingFault, type Processor, SHUTDOWN } from '../../processor.ts';
import { NON_ROOT } from '../../vtx/operation.ts';
import { nextRip } from '../rip.ts';
import { DR6_BD, debugExceptionTaken } from './debug.ts';
import { combine, EVENT, type Event, exception, isSoftware } from './event.ts';
import { deliverThroughGate } from './gate.ts';
import { deliverThroughVector } from './real-mode.ts';

/** What the exception itself changes, even if its delivery then fails. */
function takeSideEffects(p: Processor, { vector, address, debug }: PendingFault): void {
  if (vector === PF) p.cr2 = address;
  if (vector === DB) debugExceptionTaken(p, debug);
}

function attempt(p: Processor, event: Event, flags: number): Outcome {
  if (p.mode64 && p.machine.engine.deliver(p, event, flags)) return JUMPED;
  const returnRip = isSoftware(event) ? nextRip(p, event.instructionLength) : p.rip;
  return p.protectedMode
    ? deliverThroughGate(p, event, returnRip, flags)
    : deliverThroughVector(p, event, returnRip, flags);
}

/** Whether the exception bitmap (in VMX non-root operation) wants the exception in p.fault. */
const isIntercepted = (p: Processor): boolean =>
  p.vtx.operation === NON_ROOT && p.vtx.exceptionExits(p.fault.vector, p.fault.errorCode);

/** A fault while the double-fault handler was called: the processor stops, or leaves non-root operation. */
function tripleFault(p: Processor): Outcome {
  if (p.vtx.operation === NON_ROOT) return p.vtx.tripleFaultExit();
  p.activity = SHUTDOWN;
  p.interruptShadow = 0;
  return JUMPED;
}

/** Delivers an event that is beyond interception, and whatever faults come of it. */
function deliver(p: Processor, first: Event, firstFlags: number): Outcome {
  const { fault } = p;
  let event = first;
  let flags = firstFlags;
  for (;;) {
    p.delivering = event;
    const outcome = attempt(p, event, flags);
    if (outcome === VMEXIT) return VMEXIT;
    if (outcome === JUMPED) {
      p.delivering = null;
      p.activity = ACTIVE;
      p.interruptShadow = 0;
      p.eventsPending = true;
      // With the monitor trap flag the boundary after a delivery exits, wherever the handler is.
      if (p.vtx.stepNeeded) p.vtx.monitorTrapPending = true;
      return JUMPED;
    }
    if (!p.protectedMode) fault.errorCode = NO_ERROR;
    // A fault's own intercept counts before the fault can become a double fault.
    if (isIntercepted(p)) return p.vtx.eventExit(exception(fault.vector, fault.errorCode));
    p.delivering = null;
    takeSideEffects(p, fault);
    const next = combine(event, fault.vector, fault.errorCode);
    if (next === 'shutdown') return tripleFault(p);
    if (next.vector === DF) {
      p.raise(DF, p.protectedMode ? 0 : NO_ERROR);
      if (isIntercepted(p)) return p.vtx.eventExit(exception(DF, fault.errorCode));
    }
    event = exception(fault.vector, fault.errorCode);
    flags = p.rflags | FLAG_RF;
  }
}

/**
 * Delivers the exception in p.fault, which the instruction at p.rip raised.
 *
 * @returns JUMPED (RIP is at the handler, or the processor is in shutdown) or VMEXIT
 */
export function deliverFault(p: Processor): Outcome {
  const { fault, vtx } = p;
  if (!p.protectedMode) fault.errorCode = NO_ERROR;
  // Traps of the faulting instruction happen again when it is restarted, except those that a MOV SS shadow holds back.
  if (p.interruptShadow === 0) p.pendingDebug = 0;
  // Every fault but an instruction breakpoint pushes RF, so that the restarted instruction is not stopped at again.
  const resume = fault.vector !== DB || (fault.debug & DR6_BD) !== 0;
  const event = exception(fault.vector, fault.errorCode);
  if (isIntercepted(p)) {
    if (resume) p.flagsRest |= FLAG_RF;
    return vtx.eventExit(event);
  }
  vtx.endIret();
  takeSideEffects(p, fault);
  return deliver(p, event, resume ? p.rflags | FLAG_RF : p.rflags);
}

/** Delivers the debug trap with the DR6 bits `debug`, at the boundary before p.rip. */
export function deliverDebugTrap(p: Processor, debug: number): Outcome {
  p.raise(DB);
  p.fault.debug = debug;
  if (isIntercepted(p)) return p.vtx.eventExit(exception(DB));
  takeSideEffects(p, p.fault);
  return deliver(p, exception(DB), p.rflags);
}

/**
 * Delivers an event as it is: an interrupt at a boundary, or what VM entry injects. Its own intercept is not asked,
 * RF is pushed as it stands, CR2, DR6 and DR7 stay; nested faults are treated as usual.
 *
 * @returns JUMPED or VMEXIT
 */
export const deliverEvent = (p: Processor, event: Event): Outcome => deliver(p, event, p.rflags);

/**
 * The event of INT n, INT3, INTO or INT1 at p.rip. INT3, INTO and INT1 can be intercepted like exceptions.
 *
 * @param type EVENT.software, EVENT.softwareException or EVENT.privilegedSoftwareException
 * @param length of the instruction
 */
export function deliverSoftwareEvent(p: Processor, vector: number, type: number, length: number): Outcome {
  const event: Event = { vector, type, errorCode: NO_ERROR, instructionLength: length };
  p.raise(vector);
  if (type !== EVENT.software && isIntercepted(p)) return p.vtx.eventExit(event);
  return deliver(p, event, p.rflags);
}
