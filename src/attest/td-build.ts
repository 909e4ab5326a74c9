/**
 * How a TD's initial memory is built, as the ordered list of host-interface calls that MRTD follows from.
 *
 * Each page is added and, where the VMM wants it measured, extended in chunks at once, before the next page: the order in
 * which KVM_TDX_INIT_MEM_REGION works.
 */

import { PAGE_SIZE } from '../util/address.ts';
import { MrtdCalculator } from './mrtd.ts';

const CHUNK = 256;

/** A piece of initial memory in whole pages. */
export interface InitialMemory {
  /** What it is, for people. */
  readonly name: string;
  /** Guest-physical address. */
  readonly gpa: number;
  readonly data: Uint8Array;
  /** Whether the contents are measured, not only the addresses. */
  readonly measured: boolean;
}

/** One call of the TDX module that changes MRTD. */
export interface BuildCall {
  readonly leaf: 'TDH.MEM.PAGE.ADD' | 'TDH.MR.EXTEND';
  readonly gpa: number;
}

/** The calls that build `regions` in their order; TDH.MR.FINALIZE, which takes no address, comes after them. */
export function* buildCalls(regions: readonly InitialMemory[]): Generator<BuildCall> {
  for (const { gpa, data, measured } of regions) {
    for (let at = 0; at < data.length; at += PAGE_SIZE) {
      yield { leaf: 'TDH.MEM.PAGE.ADD', gpa: gpa + at };
      if (!measured) continue;
      for (let chunk = at; chunk < at + PAGE_SIZE; chunk += CHUNK) yield { leaf: 'TDH.MR.EXTEND', gpa: gpa + chunk };
    }
  }
}

/** MRTD of a TD that is built of `regions` in their order: 48 bytes. Throws a RangeError for pieces that are no pages. */
export function mrtdOf(regions: readonly InitialMemory[]): Uint8Array {
  const calculator = new MrtdCalculator();
  for (const { gpa, data, measured } of regions) {
    if (gpa % PAGE_SIZE !== 0 || data.length % PAGE_SIZE !== 0)
      throw new RangeError(`not pages: 0x${gpa.toString(16)}`);
    for (let at = 0; at < data.length; at += PAGE_SIZE) {
      calculator.addPage(gpa + at, data.subarray(at, at + PAGE_SIZE), measured);
    }
  }
  return calculator.finalize();
}
