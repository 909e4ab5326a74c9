/** Far JMP. @sdm JMP—Jump, "FAR JUMPS" */
import { CS } from '../../engine/layout.ts';
import { implement } from '../../isa/handlers.ts';
import type { Insn } from '../../isa/insn.ts';
import { GP, JUMPED, type Outcome } from '../../outcome.ts';
import { AR_S, type Processor, type Segment } from '../../processor.ts';
import { checkTarget, enterCode } from '../rip.ts';
import { type Descriptor, indexOf, isCode, SYSTEM, segmentOf, typeOf } from '../segments/descriptor.ts';
import { realModeSegment, v86Segment } from '../segments/load.ts';
import { readCallGate } from './call-gate.ts';
import { directTarget, fetchTarget, gateTarget } from './code-segment.ts';
import { farPointerOf } from './far-pointer.ts';
import { TASK_SWITCH, taskSwitchThrough } from './task-switch.ts';

/** The CS that a far transfer loads in real and virtual-8086 mode. */
export const unprotectedCode = (p: Processor, selector: number): Segment =>
  p.v86 ? v86Segment(selector) : realModeSegment(p.segments[CS]!, selector);

function jumpThroughSystemDescriptor(p: Processor, descriptor: Descriptor, length: number): Outcome {
  const { selector, attributes, raw } = descriptor;
  const type = typeOf(attributes);
  const isCallGate = type === SYSTEM.callGate32 || (type === SYSTEM.callGate16 && !p.longMode);
  if (isCallGate) {
    const gate = readCallGate(p, descriptor);
    if (gate === undefined) return p.outcome;
    const target = gateTarget(p, gate.selector, false);
    if (target === undefined) return p.outcome;
    const code = segmentOf(target, p.cpl);
    if (!checkTarget(p, code, gate.offset)) return p.outcome;
    // all checks passed
    enterCode(p, code, p.cpl, gate.offset);
    return JUMPED;
  }
  if (p.longMode) return p.raise(GP, indexOf(selector));
  if (type === SYSTEM.taskGate) {
    return taskSwitchThrough(p, selector, attributes, Number((raw >> 16n) & 0xffffn), TASK_SWITCH.jump, length);
  }
  if (type === SYSTEM.tss16 || type === SYSTEM.tss32) {
    return taskSwitchThrough(p, selector, attributes, selector, TASK_SWITCH.jump, length);
  }
  return p.raise(GP, indexOf(selector));
}

function jumpFar(p: Processor, insn: Insn): Outcome {
  const pointer = farPointerOf(p, insn);
  if (pointer === undefined) return p.outcome;
  const { selector, offset } = pointer;
  if (!p.protectedMode || p.v86) {
    const code = unprotectedCode(p, selector);
    if (!checkTarget(p, code, offset)) return p.outcome;
    enterCode(p, code, p.cpl, offset);
    return JUMPED;
  }
  const descriptor = fetchTarget(p, selector);
  if (descriptor === undefined) return p.outcome;
  if (!(descriptor.attributes & AR_S)) return jumpThroughSystemDescriptor(p, descriptor, insn.length);
  if (!isCode(descriptor.attributes)) return p.raise(GP, indexOf(selector));
  const code = directTarget(p, descriptor);
  if (code === undefined || !checkTarget(p, code, offset)) return p.outcome;
  // all checks passed
  enterCode(p, code, p.cpl, offset);
  return JUMPED;
}

implement('JMPF', jumpFar);
