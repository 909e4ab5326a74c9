import fc from 'fast-check';
import { expect, test } from 'vitest';
import { VMEXIT } from '../outcome.ts';
import { withKeyId } from '../seam/key-id.ts';
import { loadLinear, storeLinear } from './access.ts';
import { fetchPage } from './fetch.ts';
import { tlbContextChanged } from './select.ts';
import { TestMachine } from './test-machine.ts';

/** Two TDs and the host use the same four pages, with every TLB entry they can get; a model knows whose each line is. */

const TDS = [33, 34] as const;
const PAGES = 4;
const BASE = 0x10_0000;
const SHARED = 2n ** 47n;
const RWX = 7n;
const WB = 6n << 3n;
const LEAF = 0x80n;

class Model {
  readonly bytes: Uint8Array = new Uint8Array(PAGES * 4096);
  readonly owners: number[] = new Array(PAGES * 64).fill(0);

  read(at: number, keyId: number): number | 'machine check' {
    if (this.owners[at >> 6] === keyId) return this.bytes[at]!;
    return keyId === 0 ? 0 : 'machine check';
  }
  write(at: number, keyId: number, value: number): 'done' | 'machine check' {
    const line = at >> 6;
    if (this.owners[line] !== keyId) {
      if (keyId !== 0) return 'machine check';
      this.owners[line] = 0;
      this.bytes.fill(0, line * 64, line * 64 + 64);
    }
    this.bytes[at] = value;
    return 'done';
  }
  take(page: number, keyId: number): void {
    this.owners.fill(keyId, page * 64, page * 64 + 64);
    this.bytes.fill(0, page * 4096, page * 4096 + 4096);
  }
}

class Lab {
  readonly machine: TestMachine = new TestMachine(undefined, true);
  readonly #roots: number[] = [];
  readonly #sharedRoot: number;

  constructor() {
    for (const keyId of TDS) this.#roots.push(this.#tables(keyId, 0n));
    this.#sharedRoot = this.#tables(0, SHARED);
  }

  /** Tables that map guest-physical page n of a TD, or shared page n, to page n. */
  #tables(keyId: number, gpa: bigint): number {
    const { machine } = this;
    const { keyed } = machine.memory;
    const key = keyId === 0 ? 0n : BigInt(withKeyId(0, keyId));
    const tables = [machine.page(), machine.page(), machine.page(), machine.page()];
    if (keyId !== 0) for (const table of tables) keyed.take(table, keyId);
    for (let level = 3; level > 0; level--) {
      const index = Number((gpa >> BigInt(12 + 9 * level)) & 0x1ffn);
      keyed.write64(tables[3 - level]! + index * 8, keyId, BigInt(tables[4 - level]!) | key | RWX);
    }
    for (let n = 0; n < PAGES; n++)
      keyed.write64(tables[3]! + n * 8, keyId, BigInt(BASE + n * 4096) | key | RWX | WB | LEAF);
    return tables[0]!;
  }

  /** Makes a TD the one that runs. */
  enter(td: number): void {
    this.machine.vtx.enterTd(TDS[td]!, this.#roots[td]!, this.#sharedRoot);
    this.machine.vtx.vpid = 1;
    tlbContextChanged(this.machine.p);
  }

  read(linear: bigint): number | 'machine check' {
    const value = loadLinear(this.machine.p, linear, 1);
    if (value !== undefined) return Number(value);
    expect(this.machine.p.outcome).toBe(VMEXIT);
    return 'machine check';
  }
  write(linear: bigint, value: number): 'done' | 'machine check' {
    return storeLinear(this.machine.p, linear, 1, BigInt(value)) === VMEXIT ? 'machine check' : 'done';
  }
}

const at = fc.nat(PAGES * 4096 - 1);
const action = fc.oneof(
  fc.record({ kind: fc.constant('enter' as const), td: fc.nat(1) }),
  fc.record({ kind: fc.constant('take' as const), page: fc.nat(PAGES - 1), keyId: fc.constantFrom(0, ...TDS) }),
  fc.record({ kind: fc.constant('host read' as const), at }),
  fc.record({ kind: fc.constant('host write' as const), at }),
  fc.record({ kind: fc.constant('read' as const), at, shared: fc.boolean() }),
  fc.record({ kind: fc.constant('write' as const), at, shared: fc.boolean() }),
  fc.record({ kind: fc.constant('fetch' as const), page: fc.nat(PAGES - 1) }),
);

test('nobody sees a stale mapping, other’s memory, or less than its own', () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 150 }), (actions) => {
      const lab = new Lab();
      const { memory } = lab.machine;
      const model = new Model();
      let td = 0;
      let stamp = 0;
      lab.enter(td);
      for (const step of actions) {
        stamp = (stamp % 255) + 1;
        switch (step.kind) {
          case 'enter':
            td = step.td;
            lab.enter(td);
            break;
          case 'take':
            memory.keyed.take(BASE + step.page * 4096, step.keyId);
            model.take(step.page, step.keyId);
            break;
          case 'host read':
            expect(memory.read8(BASE + step.at)).toBe(model.read(step.at, 0));
            break;
          case 'host write':
            memory.write8(BASE + step.at, stamp);
            model.write(step.at, 0, stamp);
            break;
          case 'read': {
            const linear = BigInt(step.at) | (step.shared ? SHARED : 0n);
            expect(lab.read(linear)).toBe(model.read(step.at, step.shared ? 0 : TDS[td]!));
            break;
          }
          case 'write': {
            const linear = BigInt(step.at) | (step.shared ? SHARED : 0n);
            expect(lab.write(linear, stamp)).toBe(model.write(step.at, step.shared ? 0 : TDS[td]!, stamp));
            break;
          }
          default: {
            const own = model.owners.slice(step.page * 64, step.page * 64 + 64).every((owner) => owner === TDS[td]);
            expect(fetchPage(lab.machine.p, step.page * 4096, 0)).toBe(own ? 0 : VMEXIT);
            expect(lab.machine.engine.hasCode(BASE + step.page * 4096) || !own).toBe(true);
          }
        }
      }
    }),
    { numRuns: 60 },
  );
});
