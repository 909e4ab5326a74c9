/**
 * Task switches. In VMX non-root operation they are left to the VMM, always.
 *
 * @sdm "Task Switching", "Instructions That Cause VM Exits Unconditionally"
 */

import { storeLinear } from '../../mmu/access.ts';
import { DONE, GP, JUMPED, NO_ERROR, NP, type Outcome, TS } from '../../outcome.ts';
import { FLAG_NT, type Processor } from '../../processor.ts';
import { NON_ROOT } from '../../vtx/operation.ts';
import { nextRip } from '../rip.ts';
import {
  type Descriptor,
  descriptorAddress,
  dplOf,
  fetchDescriptor,
  indexOf,
  isNull,
  isPresent,
  limitOf,
  readDescriptorAt,
  rplOf,
  SYSTEM,
  segmentOf,
} from '../segments/descriptor.ts';
import { push } from '../stack.ts';
import { loadTask } from './task-load.ts';
import { checkLink, checkSaveable, readTask, saveTask, writeLink } from './task-state.ts';

/** What caused the switch, as the exit qualification says. */
export const TASK_SWITCH = { call: 0, iret: 1, jump: 2, gate: 3 } as const;

export type TaskSwitchSource = (typeof TASK_SWITCH)[keyof typeof TASK_SWITCH];

/** Whether the types of a switch's target fit: available for CALL, JMP and gates, busy for IRET. */
function isTarget(attributes: number, source: TaskSwitchSource): boolean {
  const type = attributes & 0x1f;
  if (source === TASK_SWITCH.iret) return type === SYSTEM.tss16Busy || type === SYSTEM.tss32Busy;
  return type === SYSTEM.tss16 || type === SYSTEM.tss32;
}

/** What the event that a task gate delivers adds. */
export interface TaskEvent {
  /** RFLAGS as they are saved. */
  readonly flags: number;
  /** Pushed on the new task's stack; NO_ERROR for none. */
  readonly errorCode: number;
}

/** Sets or clears the busy flag of a TSS descriptor in memory. */
function setBusy(p: Processor, { address, raw }: Descriptor, busy: boolean): Outcome {
  const access = Number((raw >> 40n) & 0xffn);
  return storeLinear(p, address + 5n, 1, BigInt(busy ? access | 2 : access & ~2), true);
}

/** The descriptor of the task that is left, or undefined with p.outcome set. */
function oldDescriptor(p: Processor): Descriptor | undefined {
  const { selector } = p.tr;
  const address = descriptorAddress(p, selector);
  if (address !== undefined) return readDescriptorAt(p, selector, address);
  p.raise(TS, indexOf(selector));
  return undefined;
}

function perform(
  p: Processor,
  target: Descriptor,
  source: TaskSwitchSource,
  length: number,
  event: TaskEvent | null,
): Outcome {
  const wide = (target.attributes & 15) >= SYSTEM.tss32;
  const oldWide = (p.tr.attributes & 15) >= SYSTEM.tss32;
  const next = segmentOf(target);
  const nested = source === TASK_SWITCH.call || source === TASK_SWITCH.gate;
  const old = oldDescriptor(p);
  if (old === undefined) return p.outcome;
  const task = readTask(p, next.base, wide);
  if (task === undefined) return p.outcome;
  const oldBase = BigInt.asUintN(32, p.tr.base);
  let outcome = checkSaveable(p, oldBase, oldWide);
  if (outcome === DONE && nested) outcome = checkLink(p, next.base);
  // The tables that hold the busy flags were read a moment ago: if they cannot be written, nothing has changed yet.
  if (outcome === DONE && !nested) outcome = setBusy(p, old, false);
  if (outcome === DONE && source !== TASK_SWITCH.iret) outcome = setBusy(p, target, true);
  if (outcome !== DONE) return outcome;
  // all checks passed
  const flags = event?.flags ?? p.rflags;
  saveTask(p, oldBase, oldWide, Number(nextRip(p, length)), source === TASK_SWITCH.iret ? flags & ~FLAG_NT : flags);
  if (nested) {
    outcome = writeLink(p, next.base, p.tr.selector);
    if (outcome !== DONE) return outcome;
  }
  Object.assign(p.tr, next, { attributes: next.attributes | 2 });
  const loaded = loadTask(p, task, (nested ? task.eflags | FLAG_NT : task.eflags) | 2, wide);
  if (loaded !== JUMPED || event === null || event.errorCode === NO_ERROR) return loaded;
  const pushed = push(p, wide ? 4 : 2, BigInt(event.errorCode));
  return pushed === DONE ? JUMPED : pushed;
}

/**
 * Switches to the task of TSS `selector`; the checks that may fault come before the VM exit.
 *
 * @param source one of TASK_SWITCH
 * @param length of the instruction, 0 if none caused it
 * @param ext EXT bit while an event is delivered
 * @param event what a task gate delivers, else null
 * @returns JUMPED; FAULT or VMEXIT, in the old task or, once that has been saved, in the new one
 */
export function taskSwitch(
  p: Processor,
  selector: number,
  source: TaskSwitchSource,
  length: number,
  ext = 0,
  event: TaskEvent | null = null,
): Outcome {
  const vector = source === TASK_SWITCH.iret ? TS : GP;
  if (isNull(selector) || selector & 4) return p.raise(vector, indexOf(selector) | ext);
  const descriptor = fetchDescriptor(p, selector, vector, ext);
  if (descriptor === undefined) return p.outcome;
  const { attributes, raw } = descriptor;
  if (!isTarget(attributes, source)) return p.raise(vector, indexOf(selector) | ext);
  if (!isPresent(attributes)) return p.raise(NP, indexOf(selector) | ext);
  const wide = (attributes & 15) >= SYSTEM.tss32;
  if (limitOf(raw) < (wide ? 0x67 : 0x2b)) return p.raise(TS, indexOf(selector) | ext);
  if (p.vtx.operation === NON_ROOT) return p.vtx.taskSwitchExit(selector, source, length);
  return perform(p, descriptor, source, length, event);
}

/**
 * A task switch through CALL or JMP to a TSS descriptor or task gate: privilege first.
 *
 * @param selector of the TSS or gate itself
 * @param attributes of the TSS or gate descriptor
 * @param target the gate's TSS selector, or `selector`
 */
export function taskSwitchThrough(
  p: Processor,
  selector: number,
  attributes: number,
  target: number,
  source: TaskSwitchSource,
  length: number,
): Outcome {
  if (dplOf(attributes) < p.cpl || dplOf(attributes) < rplOf(selector)) return p.raise(GP, indexOf(selector));
  if (target !== selector && !isPresent(attributes)) return p.raise(NP, indexOf(selector));
  return taskSwitch(p, target, source, length);
}
