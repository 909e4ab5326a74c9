/**
 * Accesses that have no TLB entry: page-crossing ones, memory that is no RAM, pages with decoded code, data breakpoints.
 *
 * The instruction is executed alone with one-shot entries, which lead its accesses to staged bytes or to the page itself;
 * afterwards the entries go and staged writes reach their place.
 */
import type { Hpa } from '../../util/address.ts';
import {
  ACCESS,
  EXIT,
  type Exit,
  FAULT_INFO,
  FAULT_VA,
  RAM_BASE,
  SCRATCH_BYTES,
  TLB_READ,
  TLB_WRITE,
} from '../engine/layout.ts';
import { handlerOf } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { DE, DONE, GP, JUMPED, type Outcome, UD } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import { inApicAccessPage, noteApicWrite, virtualizeAccess } from '../vtx/apic-access.ts';
import { misaligned, naturalAlignment } from './alignment.ts';
import { breakpointHits, noteHits } from './breakpoints.ts';
import { compareStrings, isCompareStrings } from './compare-strings.ts';
import { raiseNotCanonical, raiseSegment } from './data-fault.ts';
import { fetchPage } from './fetch.ts';
import { fillData } from './fill.ts';
import { joinLinear } from './halves.ts';
import { machineChecks } from './keyed-access.ts';
import { readInto, writeFrom } from './physical.ts';
import { bankFor } from './select.ts';
import { entryOffset } from './tlb-banks.ts';
import { type Access, canonical, needFor } from './translate.ts';
import { walk } from './walk.ts';

/** Room for the bytes of one access. */
const STAGE_SIZE = 64;
/** More misses than an instruction can have. */
const MAX_MISSES = 16;

/** One access of the instruction under way that has a one-shot entry. */
interface Shot {
  entry: number;
  linear: bigint;
  size: number;
  write: boolean;
  /** It is to the APIC-access page; `first` lies in the virtual-APIC page. */
  apic: boolean;
  /** Where its bytes wait, or 0 if the entry leads to the page itself. */
  stage: number;
  first: Hpa;
  firstKey: number;
  firstLength: number;
  second: Hpa;
  secondKey: number;
}

const FINISHED = 0;
const FAILED = 1;
const CONFLICT = 2;

/**
 * Executes the instruction at RIP, whose access has just missed, alone.
 * @returns JUMPED when it is complete, FAULT or VMEXIT
 */
export function stepSlowly(p: Processor): Outcome {
  const { engine } = p.machine;
  engine.counters.slowAccesses++;
  const insn = engine.currentInsn(p);
  // The only operation with two reads: their one-shot entries could meet.
  if (insn !== undefined && isCompareStrings(insn)) return compareStrings(p, insn);
  const shots: Shot[] = [];
  for (let misses = 0; misses < MAX_MISSES; misses++) {
    const prepared = prepare(p, shots);
    if (prepared !== FINISHED) {
      drop(p, shots);
      if (prepared === FAILED) return p.outcome;
      throw new Error(`two slow accesses of one instruction meet: ${insn?.row.operation.mnemonic}`);
    }
    const reason = engine.step(p, insn ?? null);
    if (reason === EXIT.miss) continue;
    drop(p, shots);
    if (reason !== EXIT.stop) return finishOtherwise(p, reason, engine.currentInsn(p));
    for (const shot of shots) commit(p, shot);
    return JUMPED;
  }
  throw new Error('an instruction with more memory accesses than there are');
}

/** The instruction stopped for a reason that is no miss. */
function finishOtherwise(p: Processor, reason: Exit, insn: Insn | undefined): Outcome {
  if (reason === EXIT.divide) return p.raise(DE);
  if (reason === EXIT.alignment) return p.raise(GP, 0);
  if (insn === undefined) return DONE;
  if (reason === EXIT.segment) return raiseSegment(p, insn);
  if (reason === EXIT.undefined) return p.raise(UD);
  const handler = handlerOf(insn.row.operation.mnemonic);
  if (reason !== EXIT.assist || handler === undefined) throw new Error(`no way to go on after exit ${reason}`);
  const outcome = handler(p, insn);
  if (outcome !== DONE) return outcome;
  p.rip = BigInt.asUintN(insn.mode === 64 ? 64 : 32, p.rip + BigInt(insn.length));
  return JUMPED;
}

/** Fills an entry, one-shot if need be, for the access that missed last. */
function prepare(p: Processor, shots: Shot[]): typeof FINISHED | typeof FAILED | typeof CONFLICT {
  const m = p.mmu;
  const low = p.read32(FAULT_VA);
  const high = p.read32(FAULT_VA + 4);
  const info = p.read32(FAULT_INFO);
  const access = (info >>> 8) as Access;
  const size = info & 0xff;
  if (access === ACCESS.fetch) return fetchPage(p, low, high) === DONE ? FINISHED : FAILED;
  if (!canonical(p, m, high)) {
    raiseNotCanonical(p, access);
    return FAILED;
  }
  if (misaligned(p, m.class, low, naturalAlignment(size))) return FAILED;
  const write = access !== ACCESS.read;
  const need = needFor(m, access, false);
  if (!walk(p, m, low, high, need)) return FAILED;
  let first = m.hpa;
  const apic = inApicAccessPage(p.vtx, first);
  if (apic) {
    first = virtualizeAccess(p.vtx, first, size, access);
    if (first < 0) return FAILED;
  }
  // The virtual-APIC page of a TD is the TD's, whatever the address in the APIC-access page was.
  const firstKey = apic ? m.hkid : m.keyId;
  const firstLength = Math.min(size, 4096 - (low & 0xfff));
  if (machineChecks(p, first, firstLength, firstKey)) return FAILED;
  let second = -1;
  let secondKey = 0;
  if (firstLength < size) {
    const nextLow = ((low | 0xfff) + 1) >>> 0;
    const nextHigh = nextLow !== 0 ? high : nextPageHigh(p, high);
    if (!canonical(p, m, nextHigh)) {
      raiseNotCanonical(p, access);
      return FAILED;
    }
    if (!walk(p, m, nextLow, nextHigh, need)) return FAILED;
    second = m.hpa;
    secondKey = m.keyId;
    if (machineChecks(p, second, size - firstLength, secondKey)) return FAILED;
    if (inApicAccessPage(p.vtx, second)) {
      virtualizeAccess(p.vtx, second, size, access);
      return FAILED;
    }
  } else if (!apic && fillData(p, m, m.class, need)) {
    return FINISHED;
  }

  const entry = bankFor(p, m, m.class) + (write ? TLB_WRITE : TLB_READ) + entryOffset(low);
  if (shots.some((s) => s.entry === entry)) return CONFLICT;
  const direct = second < 0 && p.machine.memory.isRam(first, size) && m.owners[first >>> 12] === firstKey;
  const stage = direct ? 0 : SCRATCH_BYTES + shots.length * STAGE_SIZE;
  const shot: Shot = {
    entry,
    linear: joinLinear(low, high),
    size,
    write,
    apic,
    stage,
    first,
    firstKey,
    firstLength,
    second,
    secondKey,
  };
  if (stage !== 0) load(p, shot, access !== ACCESS.write);
  m.tlb.fill(entry, low, high, stage === 0 ? RAM_BASE + first : stage, -1);
  shots.push(shot);
  return FINISHED;
}

/** Upper half of the linear address after the last one with upper half `high`: it wraps at 4 GiB outside 64-bit mode. */
export const nextPageHigh = (p: Processor, high: number): number => (p.mode64 || high !== 0 ? (high + 1) >>> 0 : 0);

/** Stages what memory holds. Of what is only written, device memory is left alone: reading it could have effects. */
function load(p: Processor, shot: Shot, devices: boolean): void {
  const { memory } = p.machine;
  const { stage, first, firstKey, firstLength, second, secondKey, size } = shot;
  if (devices || memory.isRam(first)) readInto(p, stage, first, firstKey, firstLength);
  if (second >= 0 && (devices || memory.isRam(second)))
    readInto(p, stage + firstLength, second, secondKey, size - firstLength);
}

function drop(p: Processor, shots: readonly Shot[]): void {
  for (const shot of shots) p.mmu.tlb.drop(shot.entry);
}

/** After the instruction: staged writes reach memory, the engine learns about changed code, breakpoints trigger. */
function commit(p: Processor, shot: Shot): void {
  const { engine } = p.machine;
  const { stage, first, firstKey, firstLength, second, secondKey, size, write, apic } = shot;
  if (write) {
    if (stage === 0) {
      engine.pageWritten(first - (first & 0xfff), first & 0xfff, size);
    } else {
      writeFrom(p, stage, first, firstKey, firstLength);
      if (second >= 0) writeFrom(p, stage + firstLength, second, secondKey, size - firstLength);
    }
    if (apic) noteApicWrite(p.vtx, first & 0xfff, size);
  }
  noteHits(p, breakpointHits(p, shot.linear, size, write));
}
