/** Far CALL, through call gates and to inner levels too. @sdm CALL—Call Procedure, "FAR CALLS" */
import { CS, RSP, SS } from '../../engine/layout.ts';
import { implement } from '../../isa/handlers.ts';
import type { Insn } from '../../isa/insn.ts';
import { DONE, GP, JUMPED, type Outcome } from '../../outcome.ts';
import { AR_S, dplOf, type Processor, type Segment } from '../../processor.ts';
import { atPrivilege, checkTarget, enterCode, nextRip } from '../rip.ts';
import {
  type Descriptor,
  indexOf,
  isCode,
  isConforming,
  nullSegment,
  SYSTEM,
  segmentOf,
  typeOf,
} from '../segments/descriptor.ts';
import { setSegment } from '../segments/load.ts';
import { commitPush, currentStack, peekAll, preparePush, type SlotSize, setStackPointer } from '../stack.ts';
import { type CallGate, readCallGate } from './call-gate.ts';
import { directTarget, fetchTarget, gateTarget } from './code-segment.ts';
import { unprotectedCode } from './far-jump.ts';
import { farPointerOf } from './far-pointer.ts';
import { legacyInnerStack, longInnerStack } from './inner-stack.ts';
import { TASK_SWITCH, taskSwitchThrough } from './task-switch.ts';

/** Pushes CS and the return address on the current stack and enters `code` at the same privilege level. */
function callSameLevel(p: Processor, code: Segment, offset: bigint, size: SlotSize, length: number): Outcome {
  const values = [BigInt(p.segments[CS]!.selector), nextRip(p, length)];
  const prepared = preparePush(p, currentStack(p), size, values);
  if (prepared === undefined || !checkTarget(p, code, offset)) return p.outcome;
  // all checks passed
  const outcome = commitPush(p, prepared);
  if (outcome !== DONE) return outcome;
  setStackPointer(p, prepared.stack);
  enterCode(p, code, p.cpl, offset);
  return JUMPED;
}

/** Through a gate to an inner level: the stack of the TSS, with the old one's address and the parameters on it. */
function callInnerLevel(p: Processor, target: Descriptor, gate: CallGate, length: number): Outcome {
  const cpl = dplOf(target.attributes);
  const code = segmentOf(target, cpl);
  const long = p.longMode;
  const stack = long ? longInnerStack(p, cpl) : legacyInnerStack(p, cpl, 0);
  if (stack === undefined) return p.outcome;
  const size = gate.size;
  const parameters = peekAll(p, currentStack(p), size, gate.parameters);
  if (parameters === undefined) return p.outcome;
  const values = [
    BigInt(p.segments[SS]!.selector),
    p.gpr(RSP),
    // The last parameter pushed lies lowest, and so it does in the copy.
    ...parameters.reverse(),
    BigInt(p.segments[CS]!.selector),
    nextRip(p, length),
  ];
  const outcome = atPrivilege(p, cpl, () => {
    const prepared = preparePush(p, stack, size, values, indexOf(stack.segment.selector));
    if (prepared === undefined || !checkTarget(p, code, gate.offset)) return p.outcome;
    // all checks passed
    const stored = commitPush(p, prepared);
    if (stored === DONE) setStackPointer(p, prepared.stack);
    return stored;
  });
  if (outcome !== DONE) return outcome;
  setSegment(p, SS, long ? nullSegment(cpl, cpl) : stack.segment);
  enterCode(p, code, cpl, gate.offset);
  return JUMPED;
}

function callThroughGate(p: Processor, descriptor: Descriptor, length: number): Outcome {
  const gate = readCallGate(p, descriptor);
  if (gate === undefined) return p.outcome;
  const target = gateTarget(p, gate.selector, true);
  if (target === undefined) return p.outcome;
  const { attributes } = target;
  if (!isConforming(attributes) && dplOf(attributes) < p.cpl) return callInnerLevel(p, target, gate, length);
  return callSameLevel(p, segmentOf(target, p.cpl), gate.offset, gate.size, length);
}

function callThroughSystemDescriptor(p: Processor, descriptor: Descriptor, length: number): Outcome {
  const { selector, attributes, raw } = descriptor;
  const type = typeOf(attributes);
  if (type === SYSTEM.callGate32 || (type === SYSTEM.callGate16 && !p.longMode))
    return callThroughGate(p, descriptor, length);
  if (p.longMode) return p.raise(GP, indexOf(selector));
  if (type === SYSTEM.taskGate) {
    return taskSwitchThrough(p, selector, attributes, Number((raw >> 16n) & 0xffffn), TASK_SWITCH.call, length);
  }
  if (type === SYSTEM.tss16 || type === SYSTEM.tss32) {
    return taskSwitchThrough(p, selector, attributes, selector, TASK_SWITCH.call, length);
  }
  return p.raise(GP, indexOf(selector));
}

function callFar(p: Processor, insn: Insn): Outcome {
  const pointer = farPointerOf(p, insn);
  if (pointer === undefined) return p.outcome;
  const { selector, offset } = pointer;
  const size = (insn.operandSize / 8) as SlotSize;
  if (!p.protectedMode || p.v86) return callSameLevel(p, unprotectedCode(p, selector), offset, size, insn.length);
  const descriptor = fetchTarget(p, selector);
  if (descriptor === undefined) return p.outcome;
  if (!(descriptor.attributes & AR_S)) return callThroughSystemDescriptor(p, descriptor, insn.length);
  if (!isCode(descriptor.attributes)) return p.raise(GP, indexOf(selector));
  const code = directTarget(p, descriptor);
  return code === undefined ? p.outcome : callSameLevel(p, code, offset, size, insn.length);
}

implement('CALLF', callFar);
