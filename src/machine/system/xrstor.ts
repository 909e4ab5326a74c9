/**
 * XRSTOR and XRSTORS: the header decides the format, and each requested component is loaded or put into its initial
 * configuration.
 *
 * @sdm "Operation of XRSTOR", "Operation of XRSTORS"
 */
import { MXCSR } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { loadLinear, loadLinearBytes } from '../mmu/access.ts';
import { writePkru } from '../mmu/invalidate.ts';
import { DONE, GP, type Outcome } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import { areaAddress, hasWidePointers } from './fxsave.ts';
import { initXmm, isMxcsr, loadXmm, MXCSR_INIT, mxcsrIn, xmmCount, ymmBytes } from './sse-state.ts';
import { initX87, loadX87 } from './x87-state.ts';
import { requestedComponents, supervisorXsaveAvailable, xsaveAvailable } from './xsave.ts';
import {
  AVX,
  COMPACTED,
  HEADER_RESERVED,
  HEADER_SIZE,
  LEGACY_SIZE,
  PKRU,
  pkruOffset,
  SSE,
  X87,
  XCOMP_BV,
  XSTATE_BV,
  YMM_AT,
} from './xstate-layout.ts';

const AREA_SIZE: number = LEGACY_SIZE + HEADER_SIZE;

/** Whether the bytes of the image in [from, to) are zero. Both are multiples of 8. */
function isZero(image: DataView, from: number, to: number): boolean {
  for (let at = from; at < to; at += 8) if (image.getBigUint64(at, true) !== 0n) return false;
  return true;
}

/** Whether the header is legal with these components enabled. */
function headerFaults(image: DataView, enabled: bigint): boolean {
  const present = image.getBigUint64(XSTATE_BV, true);
  const layout = image.getBigUint64(XCOMP_BV, true);
  if (!(layout & COMPACTED))
    return (present & ~enabled) !== 0n || layout !== 0n || !isZero(image, HEADER_RESERVED, HEADER_RESERVED + 8);
  const contained = layout & ~COMPACTED;
  return (contained & ~enabled) !== 0n || (present & ~contained) !== 0n || !isZero(image, HEADER_RESERVED, AREA_SIZE);
}

function restore(p: Processor, insn: Insn, enabled: bigint, onlyCompacted: boolean): Outcome {
  const at = areaAddress(p, insn, AREA_SIZE, 64, false);
  if (at === undefined) return p.outcome;
  const bytes = loadLinearBytes(p, at, AREA_SIZE);
  if (bytes === undefined) return p.outcome;
  const image = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const compacted = (image.getBigUint64(XCOMP_BV, true) & COMPACTED) !== 0n;
  if ((onlyCompacted && !compacted) || headerFaults(image, enabled)) return p.raise(GP, 0);
  const asked = requestedComponents(p) & enabled;
  const present = image.getBigUint64(XSTATE_BV, true);
  // The standard format loads MXCSR with SSE or AVX whether they are present or not.
  const loadsMxcsr = compacted ? (asked & present & SSE) !== 0n : (asked & (SSE | AVX)) !== 0n;
  if (loadsMxcsr && !isMxcsr(mxcsrIn(image))) return p.raise(GP, 0);
  const ymm =
    asked & present & AVX ? loadLinearBytes(p, BigInt.asUintN(64, at + BigInt(YMM_AT)), 16 * xmmCount(p)) : null;
  if (ymm === undefined) return p.outcome;
  const pkruAt = BigInt.asUintN(64, at + BigInt(pkruOffset(image.getBigUint64(XCOMP_BV, true))));
  const pkru = asked & present & PKRU ? loadLinear(p, pkruAt, 4) : 0n;
  if (pkru === undefined) return p.outcome;
  // all checks passed
  if (asked & X87) {
    if (present & X87) loadX87(p, image, hasWidePointers(insn));
    else initX87(p);
  }
  if (asked & SSE) {
    if (present & SSE) loadXmm(p, image);
    else initXmm(p);
  }
  if (asked & AVX) {
    if (ymm !== null) ymmBytes(p).set(ymm);
    else ymmBytes(p).fill(0);
  }
  if (asked & PKRU) writePkru(p, Number(pkru));
  if (loadsMxcsr) p.write32(MXCSR, mxcsrIn(image));
  else if (asked & SSE) p.write32(MXCSR, MXCSR_INIT);
  return DONE;
}

export function xrstor(p: Processor, insn: Insn): Outcome {
  const available = xsaveAvailable(p);
  return available === DONE ? restore(p, insn, p.xcr0, false) : available;
}

export function xrstors(p: Processor, insn: Insn): Outcome {
  const available = supervisorXsaveAvailable(p);
  return available === DONE ? restore(p, insn, p.xcr0 | p.xss, true) : available;
}

implement('XRSTOR', xrstor);
implement('XRSTORS', xrstors);
