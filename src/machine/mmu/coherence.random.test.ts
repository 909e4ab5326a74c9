import { expect, test } from 'vitest';
import { ACCESS, RAM_BASE } from '../engine/layout.ts';
import { DONE } from '../outcome.ts';
import { CR4_PCIDE, CR4_PKE, CR4_SMAP, CR4_SMEP, FLAG_AC } from '../processor.ts';
import { engineDropWriteEntries, flushTlb, invept, invlpg, invpcid, invvpid, writePkru } from './invalidate.ts';
import { handleMiss } from './miss.ts';
import { tlbContextChanged } from './select.ts';
import { TestMachine } from './test-machine.ts';

const PAGES = 6;
const FRAMES = 8;
const BASE = 0x7f00_0000_0000n;
/** Pages lie so that some share an index of the TLB arrays. */
const linearOf = (page: number): bigint => BASE + BigInt(page >> 1) * 0x40_0000n + BigInt(page & 1) * 0x1000n;
const frameOf = (frame: number): number => 0x1_0000 + frame * 4096;

function generator(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return ((state >>> 8) % n) | 0;
  };
}

/** What a processor may still believe: every leaf since the last invalidation, per VPID, PCID and page. */
class Beliefs {
  readonly #leaves: Map<string, Set<bigint>> = new Map();
  #key(vpid: number, pcid: number, page: number): string {
    return `${vpid} ${pcid} ${page}`;
  }
  leaves(vpid: number, pcid: number, page: number): Set<bigint> {
    const key = this.#key(vpid, pcid, page);
    let set = this.#leaves.get(key);
    if (set === undefined) {
      set = new Set();
      this.#leaves.set(key, set);
    }
    return set;
  }
  forget(matches: (vpid: number, pcid: number, page: number) => boolean): void {
    for (const key of this.#leaves.keys()) {
      const [vpid, pcid, page] = key.split(' ').map(Number);
      if (matches(vpid!, pcid!, page!)) this.#leaves.delete(key);
    }
  }
  changed(page: number, leaf: bigint): void {
    for (const [key, set] of this.#leaves) if (key.endsWith(` ${page}`)) set.add(leaf);
  }
}

// A translation that was there may be used until it is invalidated; nothing older than the last invalidation may.
test.each([1, 2, 3])(
  'random table changes, invalidations and PKRU: no access uses what was invalidated or is denied (seed %i)',
  (seed) => {
    const random = generator(seed);
    const machine = new TestMachine();
    const { p, vtx, engine } = machine;
    machine.longMode();
    p.cr4 |= CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE;
    const slots = Array.from({ length: PAGES }, (_, page) => machine.map(linearOf(page), 0n));
    const current: bigint[] = Array(PAGES).fill(0n);
    const beliefs = new Beliefs();
    const root = p.cr3 & ~0xfffn;
    let pcid = 0;
    let used = 0;
    for (let n = 0; n < 40_000; n++) {
      const page = random(PAGES);
      const { vpid } = vtx;
      switch (random(18)) {
        case 0:
        case 1:
          current[page] =
            BigInt(frameOf(random(FRAMES))) |
            0x61n |
            (random(2) ? 2n : 0n) |
            (random(2) ? 4n : 0n) |
            (random(3) === 0 ? 1n << 63n : 0n) |
            (BigInt(random(4)) << 59n);
          if (random(6) === 0) current[page] = 0n;
          machine.memory.write64(slots[page]!, current[page]!);
          beliefs.changed(page, current[page]!);
          break;
        case 2:
          invlpg(p, linearOf(page) + BigInt(random(4096)));
          beliefs.forget((v, c, at) => v === vpid && c === pcid && at === page);
          break;
        case 3: {
          const type = random(4);
          const which = random(3);
          invpcid(p, type, which, linearOf(page));
          beliefs.forget((v, c, at) => v === vpid && (type >= 2 || (c === which && (type === 1 || at === page))));
          break;
        }
        case 4: {
          const type = random(4);
          const which = 1 + random(2);
          invvpid(p, type, which, linearOf(page));
          beliefs.forget((v, _c, at) => (type === 2 ? v !== 0 : v === which && (type !== 0 || at === page)));
          break;
        }
        case 5:
          pcid = random(3);
          p.cr3 = root | BigInt(pcid);
          tlbContextChanged(p);
          if (random(2)) {
            flushTlb(p);
            beliefs.forget((v, c) => v === vpid && c === pcid);
          }
          break;
        case 6:
          vtx.vpid = random(3);
          tlbContextChanged(p);
          break;
        case 7:
          p.cpl = random(2) * 3;
          p.flagsRest = random(2) ? FLAG_AC : 0;
          tlbContextChanged(p);
          break;
        case 8: {
          const frame = frameOf(random(FRAMES));
          engine.code.add(frame);
          engineDropWriteEntries(p.machine, frame);
          break;
        }
        case 10:
          writePkru(p, random(3) === 0 ? 0 : random(256));
          break;
        case 11:
          if (random(4) === 0) p.cr4 ^= CR4_PKE;
          tlbContextChanged(p);
          break;
        case 9:
          engine.code.clear();
          invept(p, 2, 0n);
          break;
        default: {
          const access = [ACCESS.read, ACCESS.write, ACCESS.fetch][random(3)]!;
          const linear = linearOf(page) + BigInt(random(4096));
          let host = machine.lookUp(linear, access);
          const hit = host >= 0;
          const believed = beliefs.leaves(vpid, pcid, page);
          if (!hit) {
            believed.add(current[page]!);
            const outcome = handleMiss(p);
            if (outcome !== DONE) break;
            host = machine.lookUp(linear, access);
            if (host < 0) break;
          }
          const frame = (access === ACCESS.fetch ? host - 0x200_0000 - p.codeMode : host - RAM_BASE) & ~0xfff;
          const allowed = [...believed].some((leaf) => {
            if (Number(leaf & 0xf_ffff_ffff_f000n) !== frame || (leaf & 1n) === 0n) return false;
            const user = (leaf & 4n) !== 0n;
            if (access === ACCESS.fetch) return leaf >> 63n === 0n && user === (p.cpl === 3);
            if (access === ACCESS.write && (leaf & 2n) === 0n) return false;
            // PKRU counts as it is now, whatever was cached under another.
            const denies = user && p.cr4 & CR4_PKE ? p.pkru >>> (2 * Number((leaf >> 59n) & 15n)) : 0;
            if (denies & (access === ACCESS.write ? 3 : 1)) return false;
            return p.cpl === 3 ? user : !user || (p.flagsRest & FLAG_AC) !== 0;
          });
          expect(allowed, `case ${n}: ${hit ? 'hit' : 'miss'} page ${page} frame ${frame.toString(16)}`).toBe(true);
          if (access === ACCESS.write) expect(engine.code.has(frame), `case ${n}`).toBe(false);
          used++;
        }
      }
    }
    expect(used).toBeGreaterThan(3500);
  },
);
