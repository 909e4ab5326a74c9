/**
 * XSAVE, XSAVEOPT, XSAVEC and XSAVES.
 *
 * All skip components in their initial configuration where the SDM lets them (the init optimization). None uses the
 * modified optimization, which is a processor's choice.
 *
 * @sdm "Operation of XSAVE", "Operation of XSAVEOPT", "Operation of XSAVEC", "Operation of XSAVES"
 */
import { MXCSR, RAX, RDX } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { checkWritable, loadLinear, storeLinearBytes } from '../mmu/access.ts';
import { DONE, GP, NM, type Outcome, UD } from '../outcome.ts';
import { CR0_TS, CR4_OSXSAVE, type Processor } from '../processor.ts';
import { SECONDARY } from '../vtx/controls.ts';
import { areaAddress, hasWidePointers } from './fxsave.ts';
import { MXCSR_INIT, saveMxcsr, saveXmm, xmmCount, xmmInUse, ymmBytes, ymmInUse } from './sse-state.ts';
import { saveX87, x87InUse } from './x87-state.ts';
import {
  AVX,
  COMPACTED,
  compactSize,
  PKRU,
  pkruOffset,
  SSE,
  standardSize,
  X87,
  XCOMP_BV,
  XSTATE_BV,
  YMM_AT,
} from './xstate-layout.ts';

/** Components that are not in their initial configuration. @sdm "Processor Tracking of XSAVE-Managed State" */
export const componentsInUse = (p: Processor): bigint =>
  (x87InUse(p) ? X87 : 0n) | (xmmInUse(p) ? SSE : 0n) | (ymmInUse(p) ? AVX : 0n) | (p.pkru !== 0 ? PKRU : 0n);

/** EDX:EAX. */
export const requestedComponents = (p: Processor): bigint => (BigInt(p.gpr32(RDX)) << 32n) | BigInt(p.gpr32(RAX));

/** CR4.OSXSAVE and CR0.TS. DONE, or #UD or #NM raised. */
export function xsaveAvailable(p: Processor): Outcome {
  if (!(p.cr4 & CR4_OSXSAVE)) return p.raise(UD);
  return p.cr0 & CR0_TS ? p.raise(NM) : DONE;
}

/** XSAVES and XRSTORS need the host's consent in non-root operation, and CPL 0. */
export function supervisorXsaveAvailable(p: Processor): Outcome {
  if (p.vtx.nonRoot && !(p.vtx.secondary & SECONDARY.XSAVES)) return p.raise(UD);
  const available = xsaveAvailable(p);
  if (available !== DONE) return available;
  return p.cpl === 0 ? DONE : p.raise(GP, 0);
}

/** What is written: an image of the area and the ranges of it that are stored. */
class Area {
  readonly image: DataView;
  readonly #ranges: [from: number, to: number][] = [];

  constructor(size: number) {
    this.image = new DataView(new ArrayBuffer(size));
  }

  /** [from, to) is to be stored. Ranges come in ascending order. */
  add(from: number, to: number): void {
    const last = this.#ranges.at(-1);
    if (last && last[1] === from) last[1] = to;
    else this.#ranges.push([from, to]);
  }

  /** Stores all ranges, or nothing if one of them cannot be written. */
  store(p: Processor, at: bigint): Outcome {
    for (const [from, to] of this.#ranges) {
      const writable = checkWritable(p, BigInt.asUintN(64, at + BigInt(from)), to - from);
      if (writable !== DONE) return writable;
    }
    // all checks passed
    for (const [from, to] of this.#ranges) {
      const bytes = new Uint8Array(this.image.buffer, from, to - from);
      const stored = storeLinearBytes(p, BigInt.asUintN(64, at + BigInt(from)), bytes);
      if (stored !== DONE) return stored;
    }
    return DONE;
  }
}

/** Puts the legacy region's parts into the area, in ascending order. */
function addLegacy(p: Processor, insn: Insn, area: Area, x87: boolean, mxcsr: boolean, xmm: boolean): void {
  if (x87) saveX87(p, area.image, hasWidePointers(insn));
  if (mxcsr) saveMxcsr(p, area.image);
  if (xmm) saveXmm(p, area.image);
  if (x87) area.add(0, 24);
  if (mxcsr) area.add(24, 32);
  if (x87) area.add(32, 160);
  if (xmm) area.add(160, 160 + 16 * xmmCount(p));
}

/** Puts the upper halves of the YMM registers into the area, behind the header. */
function addYmm(p: Processor, area: Area): void {
  const bytes = ymmBytes(p);
  new Uint8Array(area.image.buffer).set(bytes, YMM_AT);
  area.add(YMM_AT, YMM_AT + bytes.length);
}

/** Puts PKRU into the area: the upper half of its component stays as it is in memory, as processors leave it. */
function addPkru(p: Processor, area: Area, at: number): void {
  area.image.setUint32(at, p.pkru, true);
  area.add(at, at + 4);
}

/** XSAVE and XSAVEOPT: the standard format; XSTATE_BV keeps the bits that were not asked for. */
function saveStandard(p: Processor, insn: Insn, optimize: boolean): Outcome {
  const available = xsaveAvailable(p);
  if (available !== DONE) return available;
  const asked = requestedComponents(p) & p.xcr0;
  const at = areaAddress(p, insn, standardSize(asked), 64, true);
  if (at === undefined) return p.outcome;
  const old = loadLinear(p, BigInt.asUintN(64, at + BigInt(XSTATE_BV)), 8);
  if (old === undefined) return p.outcome;
  const inUse = componentsInUse(p);
  const saved = optimize ? asked & inUse : asked;
  const area = new Area(standardSize(asked));
  addLegacy(p, insn, area, (saved & X87) !== 0n, (asked & (SSE | AVX)) !== 0n, (saved & SSE) !== 0n);
  area.image.setBigUint64(XSTATE_BV, (old & ~asked) | (inUse & asked), true);
  area.add(XSTATE_BV, XSTATE_BV + 8);
  if (saved & AVX) addYmm(p, area);
  if (saved & PKRU) addPkru(p, area, pkruOffset(0n));
  return area.store(p, at);
}

/** XSAVEC and XSAVES: the compacted format; MXCSR belongs to SSE and counts as in use when it is not initial. */
function saveCompacted(p: Processor, insn: Insn, enabled: bigint): Outcome {
  const asked = requestedComponents(p) & enabled;
  const at = areaAddress(p, insn, compactSize(asked), 64, true);
  if (at === undefined) return p.outcome;
  const inUse = componentsInUse(p) | (p.read32(MXCSR) === MXCSR_INIT ? 0n : SSE);
  const saved = asked & inUse;
  const area = new Area(compactSize(asked));
  const sse = (saved & SSE) !== 0n;
  addLegacy(p, insn, area, (saved & X87) !== 0n, sse, sse);
  area.image.setBigUint64(XSTATE_BV, saved, true);
  area.image.setBigUint64(XCOMP_BV, asked | COMPACTED, true);
  area.add(XSTATE_BV, XCOMP_BV + 8);
  if (saved & AVX) addYmm(p, area);
  if (saved & PKRU) addPkru(p, area, pkruOffset(asked | COMPACTED));
  return area.store(p, at);
}

export function xsavec(p: Processor, insn: Insn): Outcome {
  const available = xsaveAvailable(p);
  return available === DONE ? saveCompacted(p, insn, p.xcr0) : available;
}

export function xsaves(p: Processor, insn: Insn): Outcome {
  const available = supervisorXsaveAvailable(p);
  return available === DONE ? saveCompacted(p, insn, p.xcr0 | p.xss) : available;
}

implement('XSAVE', (p, insn) => saveStandard(p, insn, false));
implement('XSAVEOPT', (p, insn) => saveStandard(p, insn, true));
implement('XSAVEC', xsavec);
implement('XSAVES', xsaves);
