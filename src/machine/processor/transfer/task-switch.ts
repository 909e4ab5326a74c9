/**
 * Task switches. In VMX non-root operation they are left to the VMM, always; the processor's own end the run with an error.
 *
 * @sdm "Task Switching", "Instructions That Cause VM Exits Unconditionally"
 */

import { SoftvtError } from '../../../util/errors.ts';
import { GP, NP, type Outcome, TS } from '../../outcome.ts';
import type { Processor } from '../../processor.ts';
import { NON_ROOT } from '../../vtx/operation.ts';
import { dplOf, fetchDescriptor, indexOf, isNull, isPresent, limitOf, rplOf, SYSTEM } from '../segments/descriptor.ts';

/** What caused the switch, as the exit qualification says. */
export const TASK_SWITCH = { call: 0, iret: 1, jump: 2, gate: 3 } as const;

export type TaskSwitchSource = (typeof TASK_SWITCH)[keyof typeof TASK_SWITCH];

/** Whether the types of a switch's target fit: available for CALL, JMP and gates, busy for IRET. */
function isTarget(attributes: number, source: TaskSwitchSource): boolean {
  const type = attributes & 0x1f;
  if (source === TASK_SWITCH.iret) return type === SYSTEM.tss16Busy || type === SYSTEM.tss32Busy;
  return type === SYSTEM.tss16 || type === SYSTEM.tss32;
}

/**
 * Switches to the task of TSS `selector`; the checks that may fault come before the VM exit.
 *
 * @param source one of TASK_SWITCH
 * @param length of the instruction, 0 if none caused it
 * @param ext EXT bit while an event is delivered
 */
export function taskSwitch(p: Processor, selector: number, source: TaskSwitchSource, length: number, ext = 0): Outcome {
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
  throw new SoftvtError(
    'ERR_SOFTVT_TASK_SWITCH',
    `processor ${p.index} meets a hardware task switch, which this machine does not perform`,
  );
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
