/**
 * Linear memory for TypeScript handlers: loads and stores by the running software's rights, through the same TLB banks as
 * generated code.
 *
 * Accesses may cross pages; then both pages are checked before anything is read or written. Segment and canonical checks
 * of instruction operands are the caller's (processor/operands.ts).
 */
import type { Gva } from '../../util/address.ts';
import { fromLittleEndian, littleEndianBytes } from '../../util/bytes.ts';
import { ACCESS, RAM_BASE, TLB_READ, TLB_WRITE } from '../engine/layout.ts';
import { DONE, GP, type Outcome } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import { inApicAccessPage, noteApicWrite, virtualizeAccess } from '../vtx/apic-access.ts';
import { misaligned, naturalAlignment } from './alignment.ts';
import { breakpointHits, noteHits } from './breakpoints.ts';
import { fillData } from './fill.ts';
import { halves, splitLinear } from './halves.ts';
import { machineChecks, readRange, readValue, writeRange, writeValue } from './keyed-access.ts';
import { needOf } from './select.ts';
import { type Mmu, NEED_FETCH, NEED_WRITE } from './state.ts';
import { entryOffset } from './tlb-banks.ts';
import type { PrivilegeClass } from './tlb-context.ts';
import { type Access, canonical, needFor } from './translate.ts';
import { walk } from './walk.ts';

/** Bytes of a scalar access. */
export type AccessSize = 1 | 2 | 4 | 8;

/**
 * Loads a zero-extended value.
 * @param size 1, 2, 4 or 8 bytes
 * @param implicitSupervisor the processor reads a system structure: supervisor whatever the CPL
 * @param alignment what alignment checks ask for
 * @returns undefined where it faults or exits; p.outcome tells which
 */
export function loadLinear(
  p: Processor,
  linear: Gva,
  size: number,
  implicitSupervisor = false,
  alignment: number = naturalAlignment(size),
): bigint | undefined {
  const m = p.mmu;
  splitLinear(linear);
  const low = halves[0]!;
  const high = halves[1]!;
  const cls = implicitSupervisor ? m.implicitClass : m.class;
  if ((low & 0xfff) + size > 4096) {
    const bytes = loadLinearBytes(p, linear, size, implicitSupervisor, false, alignment);
    return bytes === undefined ? undefined : fromLittleEndian(bytes);
  }
  const { memory } = p.machine;
  const host = lookUp(m, cls, TLB_READ, low, high);
  if (host !== 0) return readRam(memory.view, host, size);
  if (!translateFill(p, m, cls, low, high, needOf(cls), alignment)) return undefined;
  const hpa = redirect(p, m.hpa, size, ACCESS.read);
  const keyId = keyFor(m, hpa);
  if (hpa < 0 || machineChecks(p, hpa, size, keyId)) return undefined;
  noteHits(p, breakpointHits(p, linear, size, false));
  return readValue(p, hpa, keyId, size);
}

/**
 * Stores the low `size` bytes of a value, or nothing.
 * @param size 1, 2, 4 or 8 bytes
 * @returns DONE, FAULT or VMEXIT
 */
export function storeLinear(
  p: Processor,
  linear: Gva,
  size: number,
  value: bigint,
  implicitSupervisor = false,
  alignment: number = naturalAlignment(size),
): Outcome {
  const m = p.mmu;
  splitLinear(linear);
  const low = halves[0]!;
  const high = halves[1]!;
  const cls = implicitSupervisor ? m.implicitClass : m.class;
  if ((low & 0xfff) + size > 4096)
    return storeLinearBytes(p, linear, littleEndianBytes(value, size), implicitSupervisor, false, alignment);
  const { memory } = p.machine;
  const host = lookUp(m, cls, TLB_WRITE, low, high);
  if (host !== 0) {
    writeRam(memory.view, host, size, value);
    return DONE;
  }
  if (!translateFill(p, m, cls, low, high, needOf(cls) | NEED_WRITE, alignment)) return p.outcome;
  const hpa = redirect(p, m.hpa, size, ACCESS.write);
  const keyId = keyFor(m, hpa);
  if (hpa < 0 || machineChecks(p, hpa, size, keyId)) return p.outcome;
  writeValue(p, hpa, keyId, size, value);
  if (hpa !== m.hpa) noteApicWrite(p.vtx, hpa & 0xfff, size);
  noteHits(p, breakpointHits(p, linear, size, true));
  return DONE;
}

/** Where an access that has no TLB entry goes: the APIC-access page has another page behind it, or the access exits (-1). */
const redirect = (p: Processor, hpa: number, size: number, access: Access): number =>
  inApicAccessPage(p.vtx, hpa) ? virtualizeAccess(p.vtx, hpa, size, access) : hpa;

/** KeyID for an access that has been redirected or not: the virtual-APIC page of a TD is its own. */
const keyFor = (m: Mmu, hpa: number): number => (hpa === m.hpa ? m.keyId : m.hkid);

/**
 * Loads bytes: up to a few pages.
 * @param fetch the bytes are fetched as code: execute rights, no data breakpoints
 * @param alignment what alignment checks ask for
 * @returns undefined where it faults or exits; p.outcome tells which
 */
export function loadLinearBytes(
  p: Processor,
  linear: Gva,
  length: number,
  implicitSupervisor = false,
  fetch = false,
  alignment = 1,
): Uint8Array | undefined {
  const access = fetch ? ACCESS.fetch : ACCESS.read;
  const pieces = translatePieces(p, linear, length, access, implicitSupervisor, alignment);
  if (pieces === undefined) return undefined;
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const { hpa, keyId, size } of pieces) {
    bytes.set(readRange(p, hpa, keyId, size), at);
    at += size;
  }
  if (!fetch) noteHits(p, breakpointHits(p, linear, length, false));
  return bytes;
}

/**
 * Stores bytes, or nothing.
 * @param wholeLine they are a line of 64 bytes that is written without being read first, whoever's it was
 * @returns DONE, FAULT or VMEXIT
 */
export function storeLinearBytes(
  p: Processor,
  linear: Gva,
  bytes: Uint8Array,
  implicitSupervisor = false,
  wholeLine = false,
  alignment = 1,
): Outcome {
  const pieces = translatePieces(p, linear, bytes.length, ACCESS.write, implicitSupervisor, alignment, wholeLine);
  if (pieces === undefined) return p.outcome;
  let at = 0;
  for (const { hpa, keyId, size, apic } of pieces) {
    writeRange(p, hpa, keyId, bytes.subarray(at, at + size));
    if (apic) noteApicWrite(p.vtx, hpa & 0xfff, size);
    at += size;
  }
  noteHits(p, breakpointHits(p, linear, bytes.length, true));
  return DONE;
}

/** Whether `size` bytes may be written: does everything that a store does except storing. @returns DONE, FAULT or VMEXIT */
export function checkWritable(
  p: Processor,
  linear: Gva,
  size: number,
  implicitSupervisor = false,
  alignment: number = naturalAlignment(size),
): Outcome {
  const m = p.mmu;
  splitLinear(linear);
  const low = halves[0]!;
  const cls = implicitSupervisor ? m.implicitClass : m.class;
  if ((low & 0xfff) + size <= 4096 && lookUp(m, cls, TLB_WRITE, low, halves[1]!) !== 0) return DONE;
  return translatePieces(p, linear, size, ACCESS.write, implicitSupervisor, alignment) === undefined ? p.outcome : DONE;
}

/** Where the byte at a linear address lies in memory, if its page has an entry; else 0. */
export function lookUp(m: Mmu, cls: PrivilegeClass, array: number, low: number, high: number): number {
  const bank = m.context.banks[cls];
  if (bank === 0) return 0;
  const { words } = m.tlb;
  const at = (bank + array + entryOffset(low)) >>> 2;
  if (words[at] !== (low & 0xffff_f000) >>> 0 || words[at + 1] !== high) return 0;
  return words[at + 2]! + (low & 0xfff);
}

/** Walks for one data access within a page, and fills what entries the page may have. */
function translateFill(
  p: Processor,
  m: Mmu,
  cls: PrivilegeClass,
  low: number,
  high: number,
  need: number,
  alignment: number,
): boolean {
  if (!canonical(p, m, high)) {
    p.raise(GP, 0);
    return false;
  }
  if (misaligned(p, cls, low, alignment)) return false;
  if (!walk(p, m, low, high, need)) return false;
  if ((need & NEED_FETCH) === 0) fillData(p, m, cls, need);
  return true;
}

interface Piece {
  readonly hpa: number;
  readonly keyId: number;
  readonly size: number;
  /** It lies in the virtual-APIC page, on behalf of the APIC-access page. */
  readonly apic: boolean;
}

/** Translates every page of a range before anything is accessed. */
function translatePieces(
  p: Processor,
  linear: Gva,
  length: number,
  access: Access,
  implicitSupervisor: boolean,
  alignment: number,
  wholeLine = false,
): Piece[] | undefined {
  const m = p.mmu;
  const cls = implicitSupervisor ? m.implicitClass : m.class;
  const need = needFor(m, access, implicitSupervisor);
  const array = access === ACCESS.write ? TLB_WRITE : TLB_READ;
  splitLinear(linear);
  // Outside 64-bit mode what starts below 4 GiB wraps there.
  const wraps = !p.mode64 && halves[1] === 0;
  const pieces: Piece[] = [];
  let at = linear;
  for (let left = length; left > 0; ) {
    splitLinear(at);
    const low = halves[0]!;
    const high = halves[1]!;
    const size = Math.min(left, 4096 - (low & 0xfff));
    const host = access === ACCESS.fetch ? 0 : lookUp(m, cls, array, low, high);
    if (host === 0) {
      // The pages after the first begin aligned.
      if (!translateFill(p, m, cls, low, high, need, alignment)) return undefined;
      // An access that crosses into another page is none that a register could take.
      const hpa = redirect(p, m.hpa, length, access);
      const keyId = keyFor(m, hpa);
      if (hpa < 0 || (!wholeLine && machineChecks(p, hpa, size, keyId))) return undefined;
      pieces.push({ hpa, keyId, size, apic: hpa !== m.hpa });
    } else {
      // What has an entry is its owner's who uses it.
      const hpa = p.machine.memory.addressOf(host - RAM_BASE);
      pieces.push({ hpa, keyId: m.owners[hpa >>> 12] ?? 0, size, apic: false });
    }
    left -= size;
    at = wraps ? BigInt.asUintN(32, at + BigInt(size)) : BigInt.asUintN(64, at + BigInt(size));
  }
  return pieces;
}

function readRam(view: DataView, at: number, size: number): bigint {
  switch (size) {
    case 1:
      return BigInt(view.getUint8(at));
    case 2:
      return BigInt(view.getUint16(at, true));
    case 4:
      return BigInt(view.getUint32(at, true));
    default:
      return view.getBigUint64(at, true);
  }
}

function writeRam(view: DataView, at: number, size: number, value: bigint): void {
  switch (size) {
    case 1:
      return view.setUint8(at, Number(value & 0xffn));
    case 2:
      return view.setUint16(at, Number(value & 0xffffn), true);
    case 4:
      return view.setUint32(at, Number(value & 0xffff_ffffn), true);
    default:
      return view.setBigUint64(at, value, true);
  }
}
