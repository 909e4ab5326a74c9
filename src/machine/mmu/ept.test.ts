import { describe, expect, test } from 'vitest';
import { ACCESS } from '../engine/layout.ts';
import { VMEXIT } from '../outcome.ts';
import { invept } from './invalidate.ts';
import { tlbContextChanged } from './select.ts';
import { TestMachine } from './test-machine.ts';
import { guestPhysicalToHost, loadPdptes, translate } from './translate.ts';

const R = 1n,
  W = 2n,
  X = 4n,
  RWX = 7n,
  WB = 6n << 3n,
  IPAT = 0x40n,
  PS = 0x80n,
  A = 0x100n,
  D = 0x200n;
const READ = 0,
  WRITE = 1,
  FETCH = 3;
/** A guest-physical page beyond RAM, so that an identity mapping would show. */
const GPA = 0x1234_5000;
const HPA = 0x7000n;

/** A guest without paging: linear addresses are guest-physical. */
function unpaged(accessedDirty = false): { machine: TestMachine; root: number } {
  const machine = new TestMachine();
  const root = machine.page();
  machine.vtx.enable(root, accessedDirty);
  tlbContextChanged(machine.p);
  return { machine, root };
}

/** Result of an access: the host-physical address, the violation's qualification, or 'misconfiguration'. */
function attempt(
  machine: TestMachine,
  access: typeof READ | typeof WRITE | typeof FETCH,
  linear = BigInt(GPA),
): number | string {
  const { p, vtx } = machine;
  vtx.violation = undefined;
  vtx.misconfiguration = undefined;
  const hpa = translate(p, linear, access);
  if (hpa !== undefined) return hpa;
  expect(p.outcome).toBe(VMEXIT);
  if (vtx.misconfiguration !== undefined) return 'misconfiguration';
  return `violation ${vtx.violation!.qualification.toString(16)}`;
}

describe('EPT rights', () => {
  // With PG=0 the advanced bits say user-mode, writable (600).
  test.each([
    [RWX, 0x7000, 0x7000, 0x7000],
    [R | W, 0x7000, 0x7000, 'violation 71c'],
    [R | X, 0x7000, 'violation 72a', 0x7000],
    [R, 0x7000, 'violation 70a', 'violation 70c'],
    [X, 'violation 721', 'violation 722', 0x7000],
    [0n, 'violation 701', 'violation 702', 'violation 704'],
    [W, 'misconfiguration', 'misconfiguration', 'misconfiguration'],
    [W | X, 'misconfiguration', 'misconfiguration', 'misconfiguration'],
  ] as const)('leaf rights %s: read %s, write %s, fetch %s', (rights, read, write, fetch) => {
    const { machine, root } = unpaged();
    machine.map(BigInt(GPA), HPA | WB | rights, root);
    expect([attempt(machine, READ), attempt(machine, WRITE), attempt(machine, FETCH)]).toEqual([read, write, fetch]);
  });

  test('rights are the AND over all levels', () => {
    const { machine, root } = unpaged();
    machine.map(BigInt(GPA), HPA | WB | RWX, root, R | X);
    expect(attempt(machine, WRITE)).toBe('violation 72a');
  });

  test('an entry that is not present reports no rights, whatever the levels above allow', () => {
    const { machine, root } = unpaged();
    machine.mapAt(1, BigInt(GPA), 0n, root, RWX);
    expect(attempt(machine, READ)).toBe('violation 701');
  });

  test('the exit tells the whole guest-physical and linear address', () => {
    const { machine } = unpaged();
    attempt(machine, READ, 0x1234_5678n);
    expect(machine.vtx.violation).toMatchObject({ gpa: 0x1234_5678, linear: 0x1234_5678n });
  });

  test('more rights need no INVEPT after the violation', () => {
    const { machine, root } = unpaged();
    const leaf = machine.map(BigInt(GPA), HPA | WB | R, root);
    expect(attempt(machine, READ)).toBe(0x7000);
    expect(attempt(machine, WRITE)).toBe('violation 70a');
    machine.memory.write64(leaf, 0x8000n | WB | RWX);
    expect(attempt(machine, WRITE)).toBe(0x8000);
    expect(attempt(machine, READ)).toBe(0x8000);
  });

  test('guest-physical addresses beyond four levels are violations', () => {
    const { machine } = unpaged();
    expect(guestPhysicalToHost(machine.p, 2 ** 48, ACCESS.read)).toBe(undefined);
    expect(machine.vtx.violation).toMatchObject({ gpa: 2 ** 48, linear: undefined });
  });
});

describe('EPT page sizes and misconfigurations', () => {
  test('2 MiB and 1 GiB pages', () => {
    const { machine, root } = unpaged();
    machine.mapAt(1, 0x4020_0000n, 0x20_0000n | PS | WB | RWX, root, RWX);
    machine.mapAt(2, 0x8000_0000n, PS | WB | RWX, root, RWX);
    expect(attempt(machine, READ, 0x4031_2345n)).toBe(0x31_2345);
    expect(attempt(machine, READ, 0xa000_0123n)).toBe(0x2000_0123);
  });

  test.each([
    ['PML4E bit 3', 3, 8n, true],
    ['PML4E bit 7', 3, PS, true],
    ['PDPTE bit 6', 2, IPAT, true],
    ['PDE bit 3', 1, 8n, true],
    ['PML4E bit 11 and bits 62:52 are ignored', 3, 0x7ff0_0000_0000_0800n, false],
    ['1 GiB page, bit 12', 2, PS | 0x1000n | WB, true],
    ['2 MiB page, bit 20', 1, PS | 0x10_0000n | WB, true],
    ['leaf memory type 2', 0, 2n << 3n, true],
    ['leaf memory type 3', 0, 3n << 3n, true],
    ['leaf memory type 7', 0, 7n << 3n, true],
    ['leaf memory type 5', 0, 5n << 3n, false],
    ['leaf ignore-PAT', 0, IPAT | WB, false],
    ['leaf bit 7 is ignored', 0, PS | WB, false],
    ['leaf bits 62:52 are ignored', 0, (0x7ffn << 52n) | WB, false],
  ] as const)('%s', (_name, level, bits, wrong) => {
    const { machine, root } = unpaged();
    machine.mapAt(level, BigInt(GPA), bits | RWX, root, RWX);
    expect(attempt(machine, READ) === 'misconfiguration').toBe(wrong);
    if (wrong) expect(machine.vtx.misconfiguration).toBe(GPA);
  });

  test('address bits above the physical width are reserved', () => {
    for (const level of [0, 1, 2, 3]) {
      const { machine, root } = unpaged();
      machine.setPhysicalBits(46);
      machine.mapAt(level, BigInt(GPA), (1n << 46n) | RWX, root, RWX);
      expect(attempt(machine, READ), `level ${level}`).toBe('misconfiguration');
    }
  });

  test('an entry that is not present is a violation whatever its other bits', () => {
    const { machine, root } = unpaged();
    machine.map(BigInt(GPA), ~7n & ((1n << 64n) - 1n), root, RWX);
    expect(attempt(machine, READ)).toBe('violation 701');
  });
});

describe('EPT accessed and dirty flags', () => {
  test('off: nothing is written', () => {
    const { machine, root } = unpaged();
    const leaf = machine.map(BigInt(GPA), HPA | WB | RWX, root);
    attempt(machine, WRITE);
    expect(machine.memory.read64(leaf)).toBe(HPA | WB | RWX);
  });

  test('on: A in every entry, D in the leaf of a write', () => {
    const { machine, root } = unpaged(true);
    const leaf = machine.map(BigInt(GPA), HPA | WB | RWX, root);
    attempt(machine, READ);
    expect(machine.memory.read64(leaf)).toBe(HPA | WB | RWX | A);
    expect(machine.memory.read64(root + 0) & A).toBe(A);
    attempt(machine, WRITE);
    expect(machine.memory.read64(leaf)).toBe(HPA | WB | RWX | A | D);
    expect(machine.memory.read64(root + 0) & D).toBe(0n);
  });

  test('page-modification logging: the page is logged when its D flag goes to 1, and a full log exits first', () => {
    const { machine, root } = unpaged(true);
    const leaf = machine.map(BigInt(GPA), HPA | WB | RWX, root);
    machine.vtx.pml = true;
    machine.vtx.logFull = true;
    expect(translate(machine.p, BigInt(GPA) + 0x123n, ACCESS.write)).toBe(undefined);
    expect(machine.p.outcome).toBe(VMEXIT);
    expect(machine.memory.read64(leaf)).toBe(HPA | WB | RWX);
    machine.vtx.logFull = false;
    attempt(machine, READ);
    expect(machine.vtx.logged).toEqual([]);
    attempt(machine, WRITE, BigInt(GPA) + 0x123n);
    attempt(machine, WRITE, BigInt(GPA) + 0x456n);
    expect(machine.vtx.logged).toEqual([GPA + 0x123]);
  });
});

describe('guest paging through EPT', () => {
  /** A long-mode guest whose tables and data lie at guest-physical = host-physical addresses below 4 MiB. */
  function paged(
    accessedDirty: boolean,
    tableRights: bigint,
  ): { machine: TestMachine; eptEntryOf: (gpa: number) => number } {
    const machine = new TestMachine();
    machine.longMode();
    machine.map(0x5000n, 0x6003n);
    const root = machine.page();
    machine.vtx.enable(root, accessedDirty);
    for (let gpa = 0; gpa < 0x40_0000; gpa += 4096) {
      const rights = gpa === 0x6000 ? RWX : tableRights;
      machine.map(BigInt(gpa), BigInt(gpa) | WB | rights, root);
    }
    tlbContextChanged(machine.p);
    const entryOf = (gpa: number): number =>
      machine.map(BigInt(gpa), BigInt(gpa) | WB | (gpa === 0x6000 ? RWX : tableRights), root);
    return { machine, eptEntryOf: entryOf };
  }
  const root = (machine: TestMachine): number => Number(machine.p.cr3);

  test('reading a guest entry needs R: violation with bits 0 and 7 but not 8', () => {
    const { machine } = paged(false, X);
    expect(attempt(machine, WRITE, 0x5123n)).toBe('violation 21');
    expect(machine.vtx.violation).toEqual({ gpa: root(machine), linear: 0x5123n, qualification: 0x21 });
  });

  test('setting a guest A flag needs R and W: bits 0 and 1', () => {
    const { machine } = paged(false, R);
    expect(attempt(machine, READ, 0x5123n)).toBe('violation b');
  });

  test("with EPT A/D a page-walk read counts as a write: bits 0 and 1, and D is set in the table page's EPT entry", () => {
    const denied = paged(true, R);
    expect(attempt(denied.machine, READ, 0x5123n)).toBe('violation b');
    const { machine, eptEntryOf } = paged(true, RWX);
    const entry = eptEntryOf(root(machine));
    machine.memory.write64(entry, BigInt(root(machine)) | WB | RWX);
    expect(attempt(machine, READ, 0x5123n)).toBe(0x6123);
    expect(machine.memory.read64(entry) & (A | D)).toBe(A | D);
  });

  test('a guest page fault at a level beats the EPT violation of the page behind it', () => {
    const { machine } = paged(false, RWX);
    expect(translate(machine.p, 0x9000n, ACCESS.read)).toBe(undefined);
    expect(machine.vtx.violation).toBe(undefined);
    expect(machine.p.fault.errorCode).toBe(0);
  });

  test("advanced information comes from the guest's tables: supervisor, writable, execute-disable", () => {
    const { machine } = paged(false, RWX);
    machine.map(0xa000n, 0x50_0000_0003n | (1n << 63n));
    expect(attempt(machine, READ, 0xa010n)).toBe('violation d01');
    expect(machine.vtx.violation!.gpa).toBe(0x50_0000_0010);
  });

  test('PDPTE loads are reads without a linear address', () => {
    const { machine } = paged(false, X);
    expect(loadPdptes(machine.p, 0x1000n)).toBe(VMEXIT);
    expect(machine.vtx.violation).toEqual({ gpa: 0x1000, linear: undefined, qualification: 0x21 });
  });

  test('guest-physical mappings may outlive the tables until INVEPT of their EP4TA', () => {
    const { machine, root: eptRoot } = unpaged();
    const leaf = machine.map(BigInt(GPA), HPA | WB | RWX, eptRoot);
    expect(attempt(machine, READ)).toBe(0x7000);
    machine.memory.write64(leaf, 0x8000n | WB | RWX);
    invept(machine.p, 1, machine.vtx.eptp + 0x1000n);
    expect(attempt(machine, READ)).toBe(0x7000);
    // Bits 11:0 of the pointer are no part of the EP4TA.
    invept(machine.p, 1, machine.vtx.eptp & ~0xfffn);
    expect(attempt(machine, READ)).toBe(0x8000);
  });
});
