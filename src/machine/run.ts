/**
 * The run loop: lets a processor execute until it must stop, and turns what the engine reports into architecture.
 *
 * The order at each instruction boundary: timers that are due, events (processor/events), then instructions up to the
 * next timer. Everything that happens is a function of the instruction count, so the same run is the same run.
 */
import { EXIT, type Exit, FSW } from './engine/layout.ts';
import './handlers.ts';
import { fetchInsn, fetchStraddling } from './fetch-insn.ts';
import { handlerOf } from './isa/handlers.ts';
import type { Insn } from './isa/insn.ts';
import { raiseSegment } from './mmu/data-fault.ts';
import { fetchPage } from './mmu/fetch.ts';
import { handleMiss } from './mmu/miss.ts';
import { DE, DONE, FAULT, GP, JUMPED, MF, type Outcome, UD, VMEXIT } from './outcome.ts';
import { deliverFault } from './processor/events/deliver.ts';
import { pollEvents } from './processor/events/poll.ts';
import { beginStep, endShadow, endStep, stepNeeded } from './processor/events/step.ts';
import { advanceRip } from './processor/rip.ts';
import { ACTIVE, type Processor } from './processor.ts';
import { fpuAvailable } from './system/fpu-access.ts';

/** Why runProcessor returned. */
export const STOP = {
  /** Machine time has reached the deadline, or the turn is over. */
  deadline: 0,
  /** A VM exit has given control back to root software in TypeScript. */
  vmExit: 1,
  /** The processor waits (HLT, shutdown, wait-for-SIPI) and nothing is pending. */
  idle: 2,
} as const;
export type Stop = (typeof STOP)[keyof typeof STOP];

/** Exception summary of the x87 status word. */
const FSW_ES = 0x80;

/** Longest stretch between two looks at the world, in instructions (V8 replaces code of a loop only on entry). */
const MAX_STRETCH = 1_000_000;

/**
 * Runs `p` until machine time reaches `deadline`, it becomes idle, or a VM exit returns to TypeScript.
 * @param deadline ns on the machine's clock
 */
export function runProcessor(p: Processor, deadline: number): Stop {
  const { machine } = p;
  const { clock, engine } = machine;
  machine.activate(p);
  machine.turnOver = false;
  for (;;) {
    clock.runTimers();
    if (p.eventsPending || p.activity !== ACTIVE) {
      p.eventsPending = false;
      if (settle(p, pollEvents(p))) return STOP.vmExit;
      if (p.activity !== ACTIVE) {
        if (!p.eventsPending) return STOP.idle;
        continue;
      }
    }
    const now = clock.now();
    if (now >= deadline || machine.turnOver) return STOP.deadline;
    if (stepNeeded(p)) {
      if (settle(p, stepOnce(p))) return STOP.vmExit;
      continue;
    }
    const reason = engine.run(
      p,
      Math.max(0, Math.min(deadline, clock.queue.nextDeadline, now + MAX_STRETCH) - now - 1),
    );
    clock.retire(engine.executed);
    if (reason === EXIT.budget) continue;
    // An STI that was the last of the run shadows the instruction that is next.
    const shadow = p.interruptShadow;
    const outcome = handle(p, reason);
    const complete = outcome === JUMPED || (outcome === DONE && reason === EXIT.assist);
    if (shadow !== 0 && complete) endShadow(p, shadow);
    if (settle(p, outcome)) return STOP.vmExit;
  }
}

/** Delivers faults and takes VM exits. True if control goes back to TypeScript root software. */
function settle(p: Processor, outcome: Outcome): boolean {
  let now = outcome;
  if (now === FAULT) now = deliverFault(p);
  if (now !== VMEXIT) return false;
  const byMethod = p.vtx.launchedByMethod;
  p.vtx.takeVmExit();
  return byMethod;
}

/** Executes one instruction between beginStep and endStep. */
function stepOnce(p: Processor): Outcome {
  const token = beginStep(p);
  if (token < 0) return FAULT;
  const insn = fetchInsn(p);
  if (insn === undefined) return p.outcome;
  const outcome = executeAlone(p, insn);
  if (outcome === DONE || outcome === JUMPED) endStep(p, token);
  return outcome;
}

/** What the engine could not do by itself. After DONE or JUMPED the engine runs on. */
function handle(p: Processor, reason: Exit): Outcome {
  const { engine, clock } = p.machine;
  engine.counters.exits[reason]!++;
  switch (reason) {
    case EXIT.assist: {
      const insn = engine.currentInsn(p)!;
      const { mnemonic, unit } = insn.row.operation;
      if (unit !== '') {
        if (fpuAvailable(p, unit) !== DONE) return FAULT;
        if (unit === 'mmx' && p.read16(FSW) & FSW_ES) return p.raise(MF);
      }
      engine.counters.countAssist(mnemonic);
      const handler = handlerOf(mnemonic);
      if (handler === undefined) throw new Error(`no handler for ${mnemonic}`);
      const outcome = handler(p, insn);
      if (outcome === DONE) advanceRip(p, insn);
      if (outcome === DONE || outcome === JUMPED) clock.retire(1);
      return outcome;
    }
    case EXIT.miss: {
      const outcome = handleMiss(p);
      if (outcome === JUMPED) clock.retire(1);
      return outcome;
    }
    case EXIT.lookup:
      return lookup(p);
    case EXIT.hot:
      engine.becameHot();
      return DONE;
    case EXIT.straddle:
      return straddle(p);
    case EXIT.divide:
      return p.raise(DE);
    case EXIT.alignment:
      return p.raise(GP, 0);
    case EXIT.undefined:
      return undefinedInstruction(p);
    case EXIT.segment:
      return raiseSegment(p, engine.currentInsn(p)!);
    default:
      return DONE;
  }
}

/** Maps the page of RIP and decodes there. */
function lookup(p: Processor): Outcome {
  const { engine } = p.machine;
  const linear = engine.linearRip();
  if (!p.mode64 && p.rip > BigInt(p.segments[1]!.limit)) return p.raise(GP, 0);
  if (engine.decodeMapped()) return DONE;
  const outcome = fetchPage(p, Number(linear & 0xffff_ffffn), Number(linear >> 32n));
  if (outcome !== DONE) return outcome;
  engine.pages.decodeAt(p.mmu.hpa - (p.mmu.hpa % 4096), p.codeMode, Number(linear & 0xfffn));
  return DONE;
}

/** An instruction that crosses a page boundary is executed by itself. */
function straddle(p: Processor): Outcome {
  const insn = fetchStraddling(p);
  return insn === undefined ? p.outcome : executeAlone(p, insn);
}

/** Executes exactly one instruction, TLB misses included. Never DONE. */
function executeAlone(p: Processor, insn: Insn): Outcome {
  const { engine, clock } = p.machine;
  engine.counters.steps++;
  let outcome: Outcome;
  do {
    engine.setCurrentInsn(insn);
    const reason = engine.step(p, insn);
    clock.retire(engine.executed);
    if (reason === EXIT.assist) {
      outcome = handle(p, reason);
      if (outcome === DONE) outcome = JUMPED;
    } else outcome = reason === EXIT.stop ? JUMPED : handle(p, reason);
  } while (outcome === DONE);
  engine.setCurrentInsn(null);
  return outcome;
}

/** #UD, or #GP(0) for more than 15 bytes. */
function undefinedInstruction(p: Processor): Outcome {
  const insn = fetchInsn(p);
  if (insn === undefined) return p.outcome;
  return p.raise(UD);
}
