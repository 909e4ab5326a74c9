/**
 * The second half of a task switch: the new task's state is loaded, then its segments are checked one by one. From here on
 * faults belong to the new task.
 *
 * @sdm "Task Switching", "Exception Conditions Checked During a Task Switch"
 */
import { CS, DS, ES, FS, GS, SS } from '../../engine/layout.ts';
import { DONE, FAULT, GP, JUMPED, NP, type Outcome, SS_FAULT, TS } from '../../outcome.ts';
import { CR0_TS, FLAG_VM, type Processor, type Segment } from '../../processor.ts';
import { writeCr3 } from '../../system/control-registers.ts';
import { DR6_BT } from '../events/debug.ts';
import { enterCode, loadFlags, privilegeChanged } from '../rip.ts';
import {
  dplOf,
  fetchDescriptor,
  indexOf,
  isCode,
  isConforming,
  isNull,
  isPresent,
  markAccessed,
  nullSegment,
  rplOf,
  SYSTEM,
  segmentOf,
} from '../segments/descriptor.ts';
import { setSegment, v86Segment } from '../segments/load.ts';
import type { TaskState } from './task-state.ts';

/** L0 to L3 of DR7. */
const LOCAL_BREAKPOINTS = 0x55;
const AR_SYSTEM = 0x10;

const refuse = (p: Processor, vector: number, selector: number): undefined => {
  p.raise(vector, indexOf(selector));
  return undefined;
};

function localTable(p: Processor, selector: number): Segment | undefined {
  if (isNull(selector)) return nullSegment(selector);
  if (selector & 4) return refuse(p, TS, selector);
  const descriptor = fetchDescriptor(p, selector, TS);
  if (descriptor === undefined) return undefined;
  if ((descriptor.attributes & 0x1f) !== SYSTEM.ldt) return refuse(p, TS, selector);
  return isPresent(descriptor.attributes) ? segmentOf(descriptor) : refuse(p, TS, selector);
}

function code(p: Processor, selector: number): Segment | undefined {
  if (isNull(selector)) return refuse(p, TS, selector);
  const descriptor = fetchDescriptor(p, selector, TS);
  if (descriptor === undefined) return undefined;
  const { attributes } = descriptor;
  const dpl = dplOf(attributes);
  const fits = isConforming(attributes) ? dpl <= rplOf(selector) : dpl === rplOf(selector);
  if (!isCode(attributes) || !fits) return refuse(p, TS, selector);
  if (!isPresent(attributes)) return refuse(p, NP, selector);
  const marked = markAccessed(p, descriptor);
  return marked && segmentOf(marked);
}

function stack(p: Processor, selector: number, cpl: number): Segment | undefined {
  if (isNull(selector)) return refuse(p, TS, selector);
  const descriptor = fetchDescriptor(p, selector, TS);
  if (descriptor === undefined) return undefined;
  const { attributes } = descriptor;
  const writable = (attributes & (AR_SYSTEM | 8 | 2)) === (AR_SYSTEM | 2);
  if (!writable || dplOf(attributes) !== cpl || rplOf(selector) !== cpl) return refuse(p, TS, selector);
  if (!isPresent(attributes)) return refuse(p, SS_FAULT, selector);
  const marked = markAccessed(p, descriptor);
  return marked && segmentOf(marked);
}

function data(p: Processor, selector: number, cpl: number): Segment | undefined {
  if (isNull(selector)) return nullSegment(selector);
  const descriptor = fetchDescriptor(p, selector, TS);
  if (descriptor === undefined) return undefined;
  const { attributes } = descriptor;
  const isData = (attributes & AR_SYSTEM) !== 0 && (!isCode(attributes) || (attributes & 2) !== 0);
  const open = isCode(attributes) && isConforming(attributes);
  const dpl = dplOf(attributes);
  if (!isData || (!open && (dpl < cpl || dpl < rplOf(selector)))) return refuse(p, TS, selector);
  if (!isPresent(attributes)) return refuse(p, NP, selector);
  const marked = markAccessed(p, descriptor);
  return marked && segmentOf(marked);
}

/** Registers with their selectors only: what they hold before their descriptors have been checked. */
function loadSelectors(p: Processor, selectors: readonly number[]): void {
  selectors.forEach((selector, n) => void Object.assign(p.segments[n]!, nullSegment(selector)));
}

/** Loads a checked segment; false with p.outcome set where the check has failed. */
function put(p: Processor, n: number, segment: Segment | undefined): boolean {
  if (segment !== undefined) setSegment(p, n, segment);
  return segment !== undefined;
}

function loadSegments(p: Processor, { selectors, eip }: TaskState): Outcome {
  const [es, cs, ss, ds, fs, gs] = selectors as [number, number, number, number, number, number];
  if (p.v86) {
    selectors.forEach((selector, n) => void setSegment(p, n, v86Segment(selector)));
    enterCode(p, v86Segment(cs), 3, BigInt(eip));
    return DONE;
  }
  const cpl = rplOf(cs);
  const codeSegment = code(p, cs);
  if (codeSegment === undefined) return FAULT;
  enterCode(p, codeSegment, cpl, BigInt(eip));
  if (!put(p, SS, stack(p, ss, cpl))) return FAULT;
  const rest: [number, number][] = [
    [DS, ds],
    [ES, es],
    [FS, fs],
    [GS, gs],
  ];
  for (const [n, selector] of rest) if (!put(p, n, data(p, selector, cpl))) return FAULT;
  return DONE;
}

/**
 * Makes `task` the running one; TR is loaded already.
 * @param eflags with NT as the kind of switch wants it
 * @returns JUMPED, or FAULT in the new task
 */
export function loadTask(p: Processor, task: TaskState, eflags: number, wide: boolean): Outcome {
  p.cr0 = (p.cr0 | CR0_TS) >>> 0;
  p.dr7 &= ~LOCAL_BREAKPOINTS;
  // Registers of a 16-bit task have ones above.
  task.registers.forEach((value, n) => void p.setGpr32(n, wide ? value : (value | 0xffff_0000) >>> 0));
  p.rip = BigInt(task.eip);
  loadSelectors(p, task.selectors);
  Object.assign(p.ldtr, nullSegment(task.ldt));
  p.cpl = eflags & FLAG_VM ? 3 : rplOf(task.selectors[CS]!);
  loadFlags(p, eflags);
  p.syncSegments();
  privilegeChanged(p);
  if (task.cr3 !== p.cr3) {
    const outcome = writeCr3(p, task.cr3);
    if (outcome !== DONE) return outcome;
  }
  const table = localTable(p, task.ldt);
  if (table === undefined) return FAULT;
  Object.assign(p.ldtr, table);
  const loaded = loadSegments(p, task);
  if (loaded !== DONE) return loaded;
  if (task.eip > p.segments[CS]!.limit) return p.raise(GP, 0);
  if (task.trap) p.pendingDebug |= DR6_BT;
  p.eventsPending = true;
  return JUMPED;
}
