/**
 * Call gates of 8 and (IA-32e mode) 16 bytes.
 *
 *   63:48 offset 31:16   47 P  46:45 DPL  44 0  43:40 type   36:32 parameters   31:16 selector   15:0 offset 15:0
 *
 * @sdm "Call Gates", "IA-32e Mode Call Gates"
 */
import { GP, NP } from '../../outcome.ts';
import { dplOf, type Processor } from '../../processor.ts';
import { type Descriptor, fetchUpper, indexOf, isPresent, rplOf, SYSTEM, typeOf } from '../segments/descriptor.ts';

export interface CallGate {
  readonly selector: number;
  readonly offset: bigint;
  /** Words or doublewords to copy from the caller's stack. */
  readonly parameters: number;
  /** Bytes of a stack slot. */
  readonly size: 2 | 4 | 8;
}

/** Checks a call gate and takes it apart; undefined with p.outcome set. */
export function readCallGate(p: Processor, descriptor: Descriptor): CallGate | undefined {
  const { selector, attributes, raw } = descriptor;
  if (dplOf(attributes) < p.cpl || rplOf(selector) > dplOf(attributes)) {
    p.raise(GP, indexOf(selector));
    return undefined;
  }
  const upper = p.longMode ? fetchUpper(p, descriptor, GP) : 0n;
  if (upper === undefined) return undefined;
  if (!isPresent(attributes)) {
    p.raise(NP, indexOf(selector));
    return undefined;
  }
  const narrow = typeOf(attributes) === SYSTEM.callGate16;
  const middle = narrow ? 0n : (raw >> 32n) & 0xffff_0000n;
  return {
    selector: Number((raw >> 16n) & 0xffffn),
    offset: (raw & 0xffffn) | middle | ((upper & 0xffff_ffffn) << 32n),
    parameters: p.longMode ? 0 : Number((raw >> 32n) & 31n),
    size: p.longMode ? 8 : narrow ? 2 : 4,
  };
}
