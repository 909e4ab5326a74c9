/**
 * Delivery through the interrupt vector table: four bytes per vector, offset and segment.
 *
 * @sdm "Interrupt and Exception Handling" of real-address mode
 */
import { CS } from '../../engine/layout.ts';
import { loadLinear } from '../../mmu/access.ts';
import { DONE, GP, JUMPED, type Outcome } from '../../outcome.ts';
import { FLAG_AC, FLAG_IF, FLAG_RF, FLAG_TF, type Processor } from '../../processor.ts';
import { enterCode, privilegeChanged } from '../rip.ts';
import { realModeSegment } from '../segments/load.ts';
import { commitPush, currentStack, preparePush, setStackPointer } from '../stack.ts';
import type { Event } from './event.ts';

/** Like deliverThroughGate, for CR0.PE = 0. No error code is pushed. */
export function deliverThroughVector(p: Processor, event: Event, returnRip: bigint, flags: number): Outcome {
  const offset = event.vector * 4;
  if (offset + 3 > p.idtr.limit) return p.raise(GP);
  const pointer = loadLinear(p, BigInt.asUintN(32, p.idtr.base + BigInt(offset)), 4, true);
  if (pointer === undefined) return p.outcome;
  const code = p.segments[CS]!;
  const prepared = preparePush(p, currentStack(p), 2, [BigInt(flags), BigInt(code.selector), returnRip]);
  if (prepared === undefined) return p.outcome;
  // all checks passed
  const outcome = commitPush(p, prepared);
  if (outcome !== DONE) return outcome;
  setStackPointer(p, prepared.stack);
  const before = p.flagsRest;
  p.flagsRest = before & ~(FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF);
  if (before & FLAG_AC) privilegeChanged(p);
  enterCode(p, realModeSegment(code, Number(pointer >> 16n)), p.cpl, pointer & 0xffffn);
  return JUMPED;
}
