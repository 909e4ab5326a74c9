/** Far RET, to outer levels too. @sdm RET—Return From Procedure */
import { SS } from '../../engine/layout.ts';
import { implement } from '../../isa/handlers.ts';
import type { Insn } from '../../isa/insn.ts';
import { JUMPED, type Outcome } from '../../outcome.ts';
import type { Processor, Segment } from '../../processor.ts';
import { checkTarget, enterCode, isCode64 } from '../rip.ts';
import { rplOf } from '../segments/descriptor.ts';
import { dropPrivilegedSegments, setSegment } from '../segments/load.ts';
import { currentStack, peek, peekAll, popped, type SlotSize, setStackPointer, stackWidth } from '../stack.ts';
import { returnTarget } from './code-segment.ts';
import { unprotectedCode } from './far-jump.ts';
import { returnStack } from './outer-stack.ts';

/** The outer stack lies above the return address and the released parameters; it loses as many parameters. */
function returnOuter(p: Processor, code: Segment, rip: bigint, size: SlotSize, release: number): Outcome {
  const stack = popped(currentStack(p), 2 * size + release);
  const values = peekAll(p, stack, size, 2);
  if (values === undefined) return p.outcome;
  const cpl = rplOf(code.selector);
  const to64 = isCode64(p, code);
  const segment = returnStack(p, Number(values[1]! & 0xffffn), cpl, to64);
  if (segment === undefined || !checkTarget(p, code, rip)) return p.outcome;
  // all checks passed
  setSegment(p, SS, segment);
  enterCode(p, code, cpl, rip);
  const outer = { segment, pointer: values[0]!, width: stackWidth(segment, to64) };
  setStackPointer(p, popped(outer, release));
  dropPrivilegedSegments(p);
  return JUMPED;
}

function returnFar(p: Processor, insn: Insn): Outcome {
  const size = (insn.operandSize / 8) as SlotSize;
  const release = insn.operands.length > 0 ? Number(BigInt.asUintN(16, insn.immediate)) : 0;
  const stack = currentStack(p);
  const rip = peek(p, stack, 0, size);
  if (rip === undefined) return p.outcome;
  const word = peek(p, stack, size, size);
  if (word === undefined) return p.outcome;
  const selector = Number(word & 0xffffn);
  const unprotected = !p.protectedMode || p.v86;
  const code = unprotected ? unprotectedCode(p, selector) : returnTarget(p, selector);
  if (code === undefined) return p.outcome;
  if (!unprotected && rplOf(selector) > p.cpl) return returnOuter(p, code, rip, size, release);
  if (!checkTarget(p, code, rip)) return p.outcome;
  // all checks passed
  setStackPointer(p, popped(stack, 2 * size + release));
  enterCode(p, code, p.cpl, rip);
  return JUMPED;
}

implement('RETF', returnFar);
