import { expect, test } from 'vitest';
import { withKeyId } from '../../src/machine/seam/key-id.ts';
import { HOST_LEAVES } from '../../src/tdx-module/dispatch.ts';
import { TDCS_FIELDS } from '../../src/tdx-module/metadata/tdcs-fields.ts';
import { TDVPS_FIELDS } from '../../src/tdx-module/metadata/tdvps-fields.ts';
import { HKID } from '../../src/tdx-module/objects/kot.ts';
import { PT } from '../../src/tdx-module/objects/pamt.ts';
import { LIFECYCLE } from '../../src/tdx-module/objects/tdr.ts';
import { STATUS, statusName } from '../../src/tdx-module/status.ts';
import { BUFFER, GLOBAL_HKID, MIB, PAMT, RAM, TestHost } from '../../src/tdx-module/testing/test-host.ts';
import { Random } from '../../src/util/random.ts';

const PAGES = 96;
const FIRST_PAGE = 2 * MIB;
const POOL: readonly number[] = Array.from({ length: PAGES }, (_, i) => FIRST_PAGE + i * 4096);
const LARGE = 4 * MIB;
const CODES: ReadonlySet<number> = new Set(Object.values(STATUS));
const FIELD_IDS: readonly bigint[] = [...Object.values(TDCS_FIELDS), ...Object.values(TDVPS_FIELDS)].map(
  ({ id }) => id,
);
/** All but shutting down, and those that write where the host says: over a TD's page that is the host's own doing. */
const LEAVES: readonly number[] = [...HOST_LEAVES.keys()].filter((leaf) => ![32, 37, 52].includes(leaf));
const times = (leaf: number, count: number): number[] => new Array<number>(count).fill(leaf);
/** Leaves that build TDs and work on them, weighted so that TDs come into being and live for a while. */
const COMMON: readonly number[] = [
  ...times(1, 12),
  ...times(2, 10),
  ...times(3, 10),
  ...times(4, 14),
  ...times(6, 6),
  ...times(7, 4),
  ...times(8, 4),
  ...times(9, 2),
  ...times(10, 4),
  ...times(21, 4),
  ...times(22, 6),
  ...times(29, 4),
  ...times(38, 3),
  ...[0, 0, 0, 11, 13, 15, 16, 16, 17, 18, 23, 26, 39, 43],
];
const ENDING: readonly number[] = [18, 19, 20, 28, 28, 28, 28, 28, 28, 40, 40];

/** A host that calls anything with anything. */
class Fuzzer {
  readonly host: TestHost = new TestHost(2).ready();
  readonly random: Random;
  readonly seen: Map<string, number> = new Map();

  constructor(seed: number) {
    this.random = new Random(seed);
    this.host.memory.fill(BUFFER + 4096, 4096, 0x5a);
  }

  parameters(): void {
    const { module } = this.host;
    if (module.pamt.lookup(BUFFER)?.pageType === PT.NDA) this.host.tdParams(BUFFER);
  }

  pick<T>(from: readonly T[]): T {
    return from[this.random.below(from.length)]!;
  }

  page(): number {
    return this.pick(POOL);
  }

  /** A page of some type if there is one: most leaves want one. */
  pageOf(type: number): number {
    const found = POOL.filter((page) => this.host.module.pamt.lookup(page)?.pageType === type);
    return found.length === 0 || this.random.below(10) === 0 ? this.page() : this.pick(found);
  }

  /** Near 0, so that tables and pages meet. */
  gpa(): bigint {
    const level = this.pick([0, 0, 0, 0, 1, 2, 3]);
    const number = level === 0 ? this.random.below(6) : this.pick([0, 0, 0, 1]);
    return BigInt(number * 2 ** (12 + 9 * level)) | BigInt(level);
  }

  operand(): bigint {
    switch (this.random.below(14)) {
      case 0:
        return this.random.u64();
      case 1:
        return BigInt(this.random.below(70));
      case 2:
        return 1n << BigInt(this.random.below(64));
      case 3:
        return BigInt(withKeyId(this.page(), this.random.below(64)));
      case 4:
        return BigInt(this.pick([0, BUFFER, BUFFER + 4096, RAM, LARGE, 16 * MIB]));
      case 5:
        return this.pick(FIELD_IDS);
      case 6:
      case 7:
        return this.gpa();
      case 8:
        return BigInt(this.pageOf(PT.TDR));
      case 9:
        return BigInt(this.pageOf(PT.TDVPR));
      default:
        return BigInt(this.page());
    }
  }

  /** Operands as the leaf wants them, more or less. */
  plausible(leaf: number): Record<string, bigint> {
    const page = BigInt(this.pageOf(PT.NDA));
    const tdr = BigInt(this.pageOf(PT.TDR));
    const tdvpr = BigInt(this.pageOf(PT.TDVPR));
    switch (leaf) {
      case 9:
        return { rcx: page, rdx: BigInt(33 + this.random.below(4)) };
      case 1:
      case 10:
        return { rcx: page, rdx: tdr };
      case 4:
        return { rcx: page, rdx: tdvpr };
      case 21:
        return { rcx: tdr, rdx: BigInt(BUFFER) };
      case 0:
      case 18:
      case 22:
        return { rcx: tdvpr, rdx: 5n };
      case 8:
      case 11:
      case 13:
      case 17:
      case 19:
      case 20:
      case 38:
        return { rcx: tdr, rdx: this.pick(FIELD_IDS), r8: 1n, r9: this.random.u64() };
      case 26:
      case 43:
        return { rcx: tdvpr, rdx: this.pick(FIELD_IDS), r8: BigInt(this.random.below(300)), r9: this.random.u64() };
      case 24:
      case 28:
      case 41:
        return { rcx: BigInt(this.page()) };
      case 40:
        return { rcx: BigInt(this.random.below(2)) };
      default:
        return { rcx: this.gpa(), rdx: tdr, r8: page, r9: BigInt(BUFFER + 4096), r10: page, r11: page };
    }
  }

  step(): void {
    const { host, random } = this;
    const kind = random.below(40);
    const leaf = this.pick(kind === 0 ? ENDING : kind < 6 ? LEAVES : COMMON);
    const operands = this.plausible(leaf);
    if (random.below(5) === 0) operands[this.pick(['rcx', 'rdx', 'r8', 'r9'])] = this.operand();
    const busy = random.below(10) === 0 ? random.below(4) : -1;
    let asked = 0;
    host.module.hooks.lockHeld = () => asked++ === busy;
    const version = random.below(12) === 0 ? random.below(3) : 0;
    const { rax } = host.call(leaf, { ...operands, version, cpu: random.below(2) });
    const code = Number(rax >> 32n);
    expect(CODES.has(code), `leaf ${leaf}: ${statusName(rax)}`).toBe(true);
    const name = HOST_LEAVES.get(leaf)!.name;
    if (rax === 0n) this.seen.set(name, (this.seen.get(name) ?? 0) + 1);
  }

  /** Every page has the owner that the PAMT names, each TD counts its pages, each HKID in use has one TD. */
  check(): void {
    const { module, memory } = this.host;
    const counted = new Map<number, number>();
    for (const page of [...POOL, BUFFER, BUFFER + 4096, LARGE]) {
      const { pageType, owner, size } = module.pamt.lookup(page)!;
      if (pageType === PT.NDA) continue;
      if (pageType === PT.TDR) {
        expect(memory.keyed.ownerOf(page)).toBe(GLOBAL_HKID);
        continue;
      }
      counted.set(owner, (counted.get(owner) ?? 0) + (size === 1 ? 512 : 1));
      expect(module.pamt.lookup(owner)?.pageType).toBe(PT.TDR);
      // A pending page keeps its old content and owner until it is accepted.
      if (pageType !== PT.REG) expect(memory.keyed.ownerOf(page)).toBe(module.tdrAt(owner).hkid);
    }
    const users = new Map<number, number>();
    for (const tdr of module.tds) {
      expect(tdr.get('CHLDCNT')).toBe(BigInt(counted.get(tdr.pa) ?? 0));
      if (tdr.lifecycle !== LIFECYCLE.TEARDOWN) users.set(tdr.hkid, (users.get(tdr.hkid) ?? 0) + 1);
    }
    for (const [hkid, { state }] of module.kot.entries.entries()) {
      const inUse = state === HKID.ASSIGNED || state === HKID.FLUSHED ? 1 : 0;
      expect([hkid, users.get(hkid) ?? 0]).toEqual([hkid, inUse]);
    }
  }
}

test.each([1, 2, 3, 4])('any SEAMCALL with any operands answers with a status and keeps the books, seed %i', (seed) => {
  const fuzzer = new Fuzzer(seed);
  for (let i = 0; i < 4000; i++) {
    fuzzer.step();
    if (i % 50 === 0) fuzzer.check();
    // The page with TD_PARAMS may have become a TD's.
    if (i % 200 === 0) fuzzer.parameters();
  }
  fuzzer.check();
  // It got somewhere.
  for (const name of ['TDH.MNG.CREATE', 'TDH.MNG.KEY.CONFIG', 'TDH.MNG.ADDCX', 'TDH.PHYMEM.PAGE.RECLAIM']) {
    expect([name, (fuzzer.seen.get(name) ?? 0) > 0]).toEqual([name, true]);
  }
});

test.each([11, 12, 13])(
  'a host that also writes over private memory and the PAMT gets answers all the same, seed %i',
  (seed) => {
    const fuzzer = new Fuzzer(seed);
    const { random, host } = fuzzer;
    for (let i = 0; i < 4000; i++) {
      if (random.below(60) === 0) host.memory.write8(fuzzer.page() + random.below(4096), random.below(256));
      if (random.below(400) === 0)
        host.memory.write8(PAMT + (fuzzer.page() / 4096) * 16 + random.below(16), random.below(256));
      fuzzer.step();
      if (i % 200 === 0) fuzzer.parameters();
    }
    // What is dead stays dead, and memory that was not touched still serves a new TD.
    for (const tdr of host.module.tds) {
      if (tdr.fatal) expect(host.status(11, { rcx: tdr.pa })).not.toBe('TDX_SUCCESS');
    }
    host.module.hooks.lockHeld = () => false;
    const hkid = host.module.kot.entries.findIndex(({ state }) => state === HKID.FREE);
    expect(host.status(9, { rcx: 8 * MIB, rdx: hkid })).toBe('TDX_SUCCESS');
    expect(host.status(8, { rcx: 8 * MIB })).toBe('TDX_SUCCESS');
  },
);
