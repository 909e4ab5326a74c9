import { describe, expect, test } from 'vitest';
import { ACCESS, RAM_BASE } from '../engine/layout.ts';
import { FAULT, PF, VMEXIT } from '../outcome.ts';
import {
  CR0_PE,
  CR0_PG,
  CR0_WP,
  CR4_LA57,
  CR4_PAE,
  CR4_PKE,
  CR4_PSE,
  CR4_SMAP,
  CR4_SMEP,
  EFER_LMA,
  EFER_LME,
  EFER_NXE,
  FLAG_AC,
} from '../processor.ts';
import { flushAll, writePkru } from './invalidate.ts';
import { type ReferenceState, referenceWalk } from './reference-walk.ts';
import { tlbContextChanged } from './select.ts';
import { TestMachine } from './test-machine.ts';
import { translate } from './translate.ts';

/** Frames that guest tables and data use, and the EPT tables above them. */
const GUEST_FRAMES = 44;
const FRAMES = 64;
const RAM = FRAMES * 4096;

/** mulberry32 */
function generator(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * n);
  };
}

type Random = (n: number) => number;
const chance = (random: Random, percent: number): boolean => random(100) < percent;

/** An entry of a guest table: mostly good, with each bit wrong now and then. */
function guestEntry(random: Random, wide: boolean, keys: boolean): bigint {
  let entry = BigInt(random(GUEST_FRAMES)) << 12n;
  if (chance(random, 97)) entry |= 1n;
  if (chance(random, 90)) entry |= 2n;
  if (chance(random, 80)) entry |= 4n;
  if (chance(random, 50)) entry |= 0x20n;
  if (chance(random, 50)) entry |= 0x40n;
  if (chance(random, 8))
    entry = (entry & ~0x3fff_f000n) | 0x80n | (chance(random, 20) ? 1n << BigInt(12 + random(19)) : 0n);
  if (wide && chance(random, 6)) entry |= 1n << 63n;
  if (keys) entry |= BigInt(random(16)) << 59n;
  if (wide && chance(random, 4)) entry |= 1n << BigInt(40 + random(23));
  return entry;
}

function eptEntry(random: Random): bigint {
  let entry = BigInt(GUEST_FRAMES + random(FRAMES - GUEST_FRAMES)) << 12n;
  entry |= chance(random, 93) ? 7n : BigInt(random(8));
  if (chance(random, 50)) entry |= 0x100n;
  if (chance(random, 2)) entry |= 1n << BigInt(3 + random(60));
  if (chance(random, 10)) entry = (entry & ~0x3fff_f000n) | 0x80n | (BigInt(chance(random, 90) ? 6 : random(8)) << 3n);
  return entry;
}

/** EPT tables: the last level leads to guest frames. */
function fillEpt(machine: TestMachine, random: Random): number {
  const { memory } = machine;
  const root = GUEST_FRAMES * 4096;
  const leafTables = FRAMES - 4;
  for (let frame = GUEST_FRAMES; frame < FRAMES; frame++) {
    for (let i = 0; i < 512; i++) {
      let entry = eptEntry(random);
      const keep = entry & ~0xf_ffff_ffff_f000n;
      if (frame >= leafTables)
        entry = keep | (BigInt(random(GUEST_FRAMES)) << 12n) | (6n << 3n) | (chance(random, 50) ? 0x200n : 0n);
      else if ((entry & 0x80n) === 0n) {
        // The four levels lie in four bands of frames, so that a walk ends.
        const band = Math.floor((frame - GUEST_FRAMES) / 6);
        const next =
          band >= 2
            ? leafTables + random(4)
            : GUEST_FRAMES + 6 * (band + 1) + random(Math.min(6, leafTables - GUEST_FRAMES - 6 * (band + 1)));
        entry = keep | (BigInt(next) << 12n);
      }
      memory.write64(frame * 4096 + i * 8, entry);
    }
  }
  return root;
}

function fillGuest(machine: TestMachine, random: Random, mode: (typeof MODES)[number]): void {
  const wide = mode !== '32';
  const keys = mode === '4' || mode === '5';
  const { memory } = machine;
  for (let at = 0; at < GUEST_FRAMES * 4096; at += wide ? 8 : 4) {
    if (wide) memory.write64(at, guestEntry(random, true, keys));
    else memory.write32(at, Number(guestEntry(random, false, false) & 0xffff_ffffn));
  }
}

const MODES = ['off', '32', 'pae', '4', '5'] as const;

function runCase(mode: (typeof MODES)[number], ept: boolean, seed: number, count: number): Record<string, number> {
  const random = generator(seed);
  const machine = new TestMachine(RAM);
  const { p, memory, vtx } = machine;
  const words = new Uint32Array(memory.memory.buffer, RAM_BASE, RAM / 4);
  const kinds: Record<string, number> = {};
  const copy = new Uint8Array(RAM);
  const copyView = new DataView(copy.buffer);
  const copyWords = new Uint32Array(copy.buffer);
  const inRam = (a: bigint, size: number): boolean => a + BigInt(size) <= BigInt(RAM);
  for (let n = 0; n < count; n++) {
    if (n % 100 === 0) {
      fillGuest(machine, random, mode);
      if (ept) vtx.enable(fillEpt(machine, random), chance(random, 50));
      Object.assign(p.mmu, { physicalBits: chance(random, 50) ? 52 : 46 });
      const on = (bit: number): number => (chance(random, 50) ? bit : 0);
      p.cr0 = CR0_PE | (mode === 'off' ? 0 : CR0_PG) | on(CR0_WP);
      const extension =
        mode === '4' || mode === '5' ? CR4_PAE | (mode === '5' ? CR4_LA57 : 0) : mode === 'pae' ? CR4_PAE : 0;
      p.cr4 = (mode === 'off' ? 0 : extension) | on(CR4_PSE) | on(CR4_SMEP) | on(CR4_SMAP) | on(CR4_PKE);
      p.efer = (mode === '4' || mode === '5' ? EFER_LME | EFER_LMA : 0) | on(EFER_NXE);
      p.cr3 = BigInt(random(GUEST_FRAMES)) << 12n;
      for (let i = 0; i < 4; i++) p.pdpte[i] = (BigInt(random(GUEST_FRAMES)) << 12n) | (chance(random, 90) ? 1n : 0n);
    }
    p.cpl = chance(random, 50) ? 3 : 0;
    p.flagsRest = chance(random, 50) ? FLAG_AC : 0;
    if (chance(random, 20)) writePkru(p, chance(random, 30) ? 0 : random(2 ** 32));
    // Controls without a context of their own for the physical width: decode afresh.
    p.mmu.cr0 = -1;
    tlbContextChanged(p);
    // What the walks before have cached stays legal until the tables change.
    if (n % 100 === 0 || chance(random, 30)) flushAll(p);

    const bitsOfMode = mode === '4' ? 47 : mode === '5' ? 56 : 32;
    let linear = 0n;
    for (let i = 0; i < bitsOfMode; i += 16) linear |= BigInt(random(0x10000)) << BigInt(i);
    linear &= (1n << BigInt(bitsOfMode)) - 1n;
    // A guest without paging sees its few frames most of the time.
    if (mode === 'off' && chance(random, 70)) linear &= 0x3_ffffn;
    const access = (['read', 'write', 'fetch'] as const)[random(3)]!;
    const implicit = access !== 'fetch' && chance(random, 20);
    copy.set(memory.bytes.subarray(RAM_BASE, RAM_BASE + RAM));
    const state: ReferenceState = {
      read64: (a) => (inRam(a, 8) ? copyView.getBigUint64(Number(a), true) : (1n << 64n) - 1n),
      read32: (a) => (inRam(a, 4) ? copyView.getUint32(Number(a), true) : 0xffff_ffff),
      setBits: (a, bits) => {
        if (inRam(a, 4)) copyView.setUint32(Number(a), copyView.getUint32(Number(a), true) | bits, true);
      },
      mode,
      cr3: p.cr3,
      pdptes: p.pdpte,
      wp: (p.cr0 & CR0_WP) !== 0,
      pse: (p.cr4 & CR4_PSE) !== 0,
      nxe: (p.efer & EFER_NXE) !== 0,
      smep: (p.cr4 & CR4_SMEP) !== 0,
      smap: (p.cr4 & CR4_SMAP) !== 0,
      pke: (p.cr4 & CR4_PKE) !== 0,
      pkru: p.pkru,
      ac: p.flagsRest !== 2 && (p.flagsRest & FLAG_AC) !== 0,
      physicalBits: p.mmu.physicalBits,
      ept: ept ? { root: BigInt(vtx.eptRoot), accessedDirty: vtx.eptAccessedDirty } : null,
    };
    const expected = referenceWalk(state, linear, access, p.cpl === 3, implicit);
    vtx.violation = undefined;
    vtx.misconfiguration = undefined;
    const hpa = translate(p, linear, ACCESS[access], implicit);
    const what = `seed ${seed} case ${n} ${mode} ${access} ${linear.toString(16)}`;
    kinds[expected.kind] = (kinds[expected.kind] ?? 0) + 1;
    switch (expected.kind) {
      case 'ok':
        expect(hpa === undefined ? `outcome ${p.outcome} ${p.fault.errorCode}` : hpa, what).toBe(Number(expected.hpa));
        break;
      case 'fault':
        expect([hpa, p.outcome, p.fault.vector, p.fault.errorCode, p.fault.address], what).toEqual([
          undefined,
          FAULT,
          PF,
          expected.error,
          linear,
        ]);
        break;
      case 'violation':
        expect([hpa, p.outcome, vtx.violation], what).toEqual([
          undefined,
          VMEXIT,
          { gpa: Number(expected.gpa), linear, qualification: expected.qualification },
        ]);
        break;
      default:
        expect([hpa, p.outcome, vtx.misconfiguration], what).toEqual([undefined, VMEXIT, Number(expected.gpa)]);
    }
    for (let i = 0; i < words.length; i++) {
      if (words[i] !== copyWords[i]) throw new Error(`${what}: memory differs at ${(i * 4).toString(16)}`);
    }
  }
  return kinds;
}

describe('random tables: the MMU and the reference agree on address, fault, exit and flags', () => {
  for (const mode of MODES) {
    test(`paging ${mode}`, () => {
      const kinds = runCase(mode, false, 1, 1000);
      expect(kinds['ok']).toBeGreaterThan(60);
      if (mode !== 'off') expect(kinds['fault']).toBeGreaterThan(60);
    });
    test(`paging ${mode} under EPT`, () => {
      const kinds = runCase(mode, true, 2, 1000);
      for (const kind of ['ok', 'violation', 'misconfiguration']) expect(kinds[kind], kind).toBeGreaterThan(2);
      if (mode !== 'off') expect(kinds['fault']).toBeGreaterThan(10);
    });
  }
});
