import { describe, expect, test } from 'vitest';
import { ACCESS } from '../engine/layout.ts';
import { DONE, FAULT, GP, PF } from '../outcome.ts';
import { CR0_PE, CR0_PG, CR0_WP, CR4_PAE, CR4_PSE, CR4_SMAP, CR4_SMEP, EFER_NXE, FLAG_AC } from '../processor.ts';
import { tlbContextChanged } from './select.ts';
import { TestMachine } from './test-machine.ts';
import { loadPdptes, translate } from './translate.ts';

const P = 1n,
  W = 2n,
  U = 4n,
  A = 0x20n,
  D = 0x40n,
  PS = 0x80n,
  G = 0x100n,
  NX = 1n << 63n;
const LINEAR = 0x7f12_3456_7abcn;

/** Sets controls beside long mode's, the privilege and RFLAGS.AC. */
function setUp(machine: TestMachine, { cr4 = 0, wp = true, cpl = 0, ac = false, nxe = true }): void {
  const { p } = machine;
  machine.longMode();
  p.cr4 |= cr4;
  if (!wp) p.cr0 &= ~CR0_WP;
  if (!nxe) p.efer &= ~EFER_NXE;
  p.cpl = cpl;
  p.flagsRest = ac ? FLAG_AC : 0;
  tlbContextChanged(p);
}

/** The page-fault error code of an access, or 'ok'. */
function errorOf(machine: TestMachine, access: keyof typeof ACCESS, implicit = false, linear = LINEAR): number | 'ok' {
  const { p } = machine;
  if (translate(p, linear, ACCESS[access], implicit) !== undefined) return 'ok';
  expect(p.outcome).toBe(FAULT);
  expect(p.fault.vector).toBe(PF);
  expect(p.fault.address).toBe(linear);
  return p.fault.errorCode;
}

describe('access rights in 4-level paging (leaf rights, controls → error code of read, write, fetch)', () => {
  const user = { cpl: 3 };
  const cases: [
    name: string,
    leaf: bigint,
    controls: Parameters<typeof setUp>[1],
    read: number | 'ok',
    write: number | 'ok',
    fetch: number | 'ok',
  ][] = [
    ['not present, supervisor', 0n, {}, 0, 2, 16],
    ['not present, user', 0n, user, 4, 6, 20],
    ['supervisor page, supervisor', P | W, {}, 'ok', 'ok', 'ok'],
    ['supervisor page, user', P | W, user, 5, 7, 21],
    ['read-only supervisor page, WP', P, {}, 'ok', 3, 'ok'],
    ['read-only supervisor page, no WP', P, { wp: false }, 'ok', 'ok', 'ok'],
    ['user page, user', P | W | U, user, 'ok', 'ok', 'ok'],
    ['read-only user page, user', P | U, user, 'ok', 7, 'ok'],
    ['read-only user page, user, no WP', P | U, { cpl: 3, wp: false }, 'ok', 7, 'ok'],
    ['read-only user page, supervisor, WP', P | U, {}, 'ok', 3, 'ok'],
    ['read-only user page, supervisor, no WP', P | U, { wp: false }, 'ok', 'ok', 'ok'],
    ['no-execute supervisor page', P | W | NX, {}, 'ok', 'ok', 17],
    ['no-execute user page, user', P | W | U | NX, user, 'ok', 'ok', 21],
    ['no-execute without EFER.NXE is reserved', P | W | NX, { nxe: false }, 9, 11, 9],
    ['fetch without NXE and SMEP has no I/D bit', 0n, { nxe: false }, 0, 2, 0],
    ['fetch with SMEP has the I/D bit', 0n, { nxe: false, cr4: CR4_SMEP }, 0, 2, 16],
    ['SMEP: user page, supervisor', P | W | U, { cr4: CR4_SMEP }, 'ok', 'ok', 17],
    ['SMEP: user page, user', P | W | U, { cr4: CR4_SMEP, cpl: 3 }, 'ok', 'ok', 'ok'],
    ['SMAP: user page, supervisor', P | W | U, { cr4: CR4_SMAP }, 1, 3, 'ok'],
    ['SMAP: user page, supervisor, AC', P | W | U, { cr4: CR4_SMAP, ac: true }, 'ok', 'ok', 'ok'],
    ['SMAP: user page, user, AC clear', P | W | U, { cr4: CR4_SMAP, cpl: 3 }, 'ok', 'ok', 'ok'],
    ['SMAP: supervisor page, supervisor', P | W, { cr4: CR4_SMAP }, 'ok', 'ok', 'ok'],
    ['SMAP and no WP: user page, supervisor', P | W | U, { cr4: CR4_SMAP, wp: false }, 1, 3, 'ok'],
    ['reserved bit and no rights: reserved wins', P | NX, { nxe: false, cpl: 3 }, 13, 15, 13],
  ];
  for (const [name, leaf, controls, ...expected] of cases) {
    test(name, () => {
      const machine = new TestMachine();
      setUp(machine, controls);
      machine.map(LINEAR, leaf | 0x5000n);
      expect([errorOf(machine, 'read'), errorOf(machine, 'write'), errorOf(machine, 'fetch')]).toEqual(expected);
      expect(errorOf(machine, 'readWrite')).toBe(expected[1]);
    });
  }

  test('rights of upper levels are combined with the leaf: U/S and R/W and, XD or', () => {
    for (const [upper, read, write, fetch] of [
      [P | U, 'ok', 7, 'ok'],
      [P | W, 5, 7, 21],
      [P | W | U | NX, 'ok', 'ok', 21],
    ] as const) {
      const machine = new TestMachine();
      setUp(machine, { cpl: 3 });
      machine.map(LINEAR, P | W | U | 0x5000n, undefined, upper);
      expect([errorOf(machine, 'read'), errorOf(machine, 'write'), errorOf(machine, 'fetch')]).toEqual([
        read,
        write,
        fetch,
      ]);
    }
  });

  test('implicit supervisor accesses at CPL 3 have supervisor rights, and SMAP counts whatever RFLAGS.AC', () => {
    const machine = new TestMachine();
    setUp(machine, { cr4: CR4_SMAP, cpl: 3, ac: true });
    machine.map(LINEAR, P | W | 0x5000n);
    machine.map(0x1000n, P | W | U | 0x6000n);
    expect(errorOf(machine, 'read', true)).toBe('ok');
    expect(errorOf(machine, 'read', true, 0x1000n)).toBe(1);
    machine.p.cpl = 0;
    tlbContextChanged(machine.p);
    expect(errorOf(machine, 'read', false, 0x1000n)).toBe('ok');
    expect(errorOf(machine, 'read', true, 0x1000n)).toBe(1);
  });
});

describe('page sizes and reserved bits', () => {
  test('2 MiB and 1 GiB pages: address from the entry, PAT bit 12 is no address bit', () => {
    const machine = new TestMachine();
    machine.longMode();
    machine.mapAt(1, 0x4020_0000n, P | W | PS | 0x1000n | 0x20_0000n);
    machine.mapAt(2, 0x80_0000_0000n, P | W | PS | 0x1000n);
    expect(translate(machine.p, 0x4021_2345n, ACCESS.read)).toBe(0x21_2345);
    expect(translate(machine.p, 0x80_2345_6789n, ACCESS.read)).toBe(0x2345_6789);
  });

  test.each([
    ['PML4E.PS', 3, PS, 9],
    ['1 GiB page, bit 13', 2, PS | 0x2000n, 9],
    ['1 GiB page, bit 29', 2, PS | 0x2000_0000n, 9],
    ['2 MiB page, bit 13', 1, PS | 0x2000n, 9],
    ['2 MiB page, bit 20', 1, PS | 0x10_0000n, 9],
    ['bits 62:52 are ignored', 0, 0x7ff0_0000_0000_0000n, 'ok'],
    ['bit 7 of a PTE is PAT', 0, PS, 'ok'],
  ] as const)('%s', (_name, level, bits, expected) => {
    const machine = new TestMachine();
    machine.longMode();
    machine.mapAt(level, LINEAR, P | W | bits);
    expect(errorOf(machine, 'read')).toBe(expected);
  });

  test('physical-address bits above MAXPHYADDR are reserved at every level', () => {
    for (const level of [0, 1, 2, 3]) {
      const machine = new TestMachine();
      machine.setPhysicalBits(46);
      machine.longMode();
      machine.mapAt(level, LINEAR, P | W | (1n << 46n) | (level === 0 || level === 3 ? 0n : PS));
      expect(errorOf(machine, 'write'), `level ${level}`).toBe(11);
    }
  });

  test('non-canonical linear addresses raise #GP(0)', () => {
    const machine = new TestMachine();
    machine.longMode();
    expect(translate(machine.p, 0x8000_0000_0000n, ACCESS.read)).toBe(undefined);
    expect([machine.p.fault.vector, machine.p.fault.errorCode]).toEqual([GP, 0]);
  });
});

describe('accessed and dirty flags', () => {
  test('a read sets A in all entries; a write also D in the leaf only', () => {
    const machine = new TestMachine();
    machine.longMode();
    const leaf = machine.map(LINEAR, P | W | 0x5000n);
    const pml4e = Number(machine.p.cr3) + Number((LINEAR >> 39n) & 0x1ffn) * 8;
    translate(machine.p, LINEAR, ACCESS.read);
    expect(machine.memory.read64(leaf)).toBe(P | W | A | 0x5000n);
    expect(machine.memory.read64(pml4e) & (A | D)).toBe(A);
    translate(machine.p, LINEAR, ACCESS.write);
    expect(machine.memory.read64(leaf)).toBe(P | W | A | D | 0x5000n);
    expect(machine.memory.read64(pml4e) & (A | D)).toBe(A);
  });

  test('an access that faults changes no entry', () => {
    const machine = new TestMachine();
    machine.longMode();
    const leaf = machine.map(LINEAR, P | 0x5000n);
    expect(errorOf(machine, 'write')).toBe(3);
    expect(machine.memory.read64(leaf)).toBe(P | 0x5000n);
  });

  test('global and ignored bits survive', () => {
    const machine = new TestMachine();
    machine.longMode();
    const leaf = machine.map(LINEAR, P | W | G | 0xe00n | 0x5000n);
    translate(machine.p, LINEAR, ACCESS.write);
    expect(machine.memory.read64(leaf)).toBe(P | W | G | A | D | 0xe00n | 0x5000n);
  });
});

/** 32-bit paging with its directory at 0x1000 and one page table at 0x2000 for 0x0040_0000. */
function legacy(cr4 = 0): TestMachine {
  const machine = new TestMachine();
  const { p, memory } = machine;
  memory.write32(0x1004, 0x2007);
  p.cr3 = 0x1000n;
  p.cr0 = CR0_PE | CR0_PG | CR0_WP;
  p.cr4 = cr4;
  tlbContextChanged(p);
  return machine;
}

describe('32-bit paging', () => {
  test('page table entries, A and D', () => {
    const machine = legacy();
    machine.memory.write32(0x2000 + 4 * 3, 0x5003);
    expect(translate(machine.p, 0x40_3123n, ACCESS.write)).toBe(0x5123);
    expect(machine.memory.read32(0x200c)).toBe(0x5063);
    expect(machine.memory.read32(0x1004)).toBe(0x2027);
  });

  test('4 MiB pages need CR4.PSE; without it bit 7 is ignored', () => {
    const large = legacy(CR4_PSE);
    large.memory.write32(0x1008, 0xc0_0083);
    expect(translate(large.p, 0x80_1234n, ACCESS.read)).toBe(0xc0_1234);
    const small = legacy();
    small.memory.write32(0x1008, 0x2087);
    small.memory.write32(0x2004, 0x5007);
    expect(translate(small.p, 0x80_1234n, ACCESS.read)).toBe(0x5234);
  });

  test('PSE-36: bits 20:13 are address bits 39:32, bit 21 is reserved', () => {
    const machine = legacy(CR4_PSE);
    machine.memory.write32(0x1008, 0x40_0083 | (0x15 << 13));
    expect(translate(machine.p, 0x80_0000n, ACCESS.read)).toBe(0x15_0040_0000);
    machine.memory.write32(0x1008, 0x40_0083 | (1 << 21));
    expect(errorOf(machine, 'read', false, 0x80_0000n)).toBe(9);
  });

  test('PSE-36 with a narrower physical address reserves what lies above', () => {
    const machine = legacy(CR4_PSE);
    machine.setPhysicalBits(36);
    machine.memory.write32(0x1008, 0x40_0083 | (0x10 << 13));
    expect(errorOf(machine, 'read', false, 0x80_0000n)).toBe(9);
    machine.memory.write32(0x1008, 0x40_0083 | (0x0f << 13));
    expect(translate(machine.p, 0x80_0000n, ACCESS.read)).toBe(0xf_0040_0000);
  });

  test('there is no execute-disable: fetches need no more than reads', () => {
    const machine = legacy();
    machine.memory.write32(0x2000, 0x5001);
    expect(translate(machine.p, 0x40_0000n, ACCESS.fetch)).toBe(0x5000);
  });
});

describe('PAE paging', () => {
  function pae(efer = 0): TestMachine {
    const machine = new TestMachine();
    const { p } = machine;
    p.cr0 = CR0_PE | CR0_PG | CR0_WP;
    p.cr4 = CR4_PAE;
    p.efer = efer;
    p.cr3 = 0x1020n;
    tlbContextChanged(p);
    return machine;
  }

  test('the PDPTE registers are used, not the table in memory', () => {
    const machine = pae();
    machine.memory.write64(0x1020 + 8, 0x2001n);
    expect(loadPdptes(machine.p, 0x1020n)).toBe(DONE);
    machine.memory.write64(0x1020 + 8, 0n);
    machine.memory.write64(0x2000, 0x3007n);
    machine.memory.write64(0x3000 + 8 * 5, 0x6007n);
    expect(translate(machine.p, 0x4000_5678n, ACCESS.write)).toBe(0x6678);
    expect(errorOf(machine, 'read', false, 0n)).toBe(0);
  });

  test.each([0x2n, 0x4n, 0x20n, 0x40n, 0x80n, 0x100n, 1n << 52n, NX])(
    'reserved PDPTE bit %s: #GP(0), and no register is loaded',
    (bit) => {
      const machine = pae();
      machine.memory.write64(0x1020, 0x2001n);
      machine.memory.write64(0x1020 + 24, 0x2001n | bit);
      expect(loadPdptes(machine.p, 0x1020n)).toBe(FAULT);
      expect([machine.p.fault.vector, machine.p.fault.errorCode]).toEqual([GP, 0]);
      expect(machine.p.pdpte).toEqual([0n, 0n, 0n, 0n]);
      machine.memory.write64(0x1020 + 24, bit);
      expect(loadPdptes(machine.p, 0x1020n)).toBe(DONE);
    },
  );

  test('bits 62:52 are reserved, bit 63 too without NXE', () => {
    for (const [bit, efer, expected] of [
      [1n << 52n, EFER_NXE, 9],
      [1n << 62n, EFER_NXE, 9],
      [NX, 0, 9],
      [NX, EFER_NXE, 'ok'],
    ] as const) {
      const machine = pae(efer);
      machine.p.pdpte[0] = 0x2001n;
      machine.memory.write64(0x2000, 0x3007n);
      machine.memory.write64(0x3000, 0x6007n | bit);
      expect(errorOf(machine, 'read', false, 0n)).toBe(expected);
    }
  });

  test('CR3 bits above 31 play no part', () => {
    const { p } = pae();
    p.cr3 = 0x1_0000_1020n;
    tlbContextChanged(p);
    expect(p.mmu.root).toBe(0x1000);
  });
});
