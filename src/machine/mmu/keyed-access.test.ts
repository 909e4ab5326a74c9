import { describe, expect, test } from 'vitest';
import { ACCESS } from '../engine/layout.ts';
import { GP, PF, UD, VMEXIT } from '../outcome.ts';
import { keyIdOf, withKeyId } from '../seam/key-id.ts';
import { writeCr3 } from '../system/control-registers.ts';
import { loadLinear, loadLinearBytes, storeLinear, storeLinearBytes } from './access.ts';
import { fetchPage } from './fetch.ts';
import { invept } from './invalidate.ts';
import { tlbContextChanged } from './select.ts';
import { TestMachine } from './test-machine.ts';
import { translate } from './translate.ts';

const TD = 33;
const OTHER_TD = 34;
const RWX = 7n;
const WB = 6n << 3n;
const LEAF = 0x80n;
const SHARED = 2n ** 47n;
const PRIVATE_GPA = 0x1234_5000n;
const SHARED_GPA = 0x1234_6000n | SHARED;
const PRIVATE_PAGE = 0x7000;
const SHARED_PAGE = 0x8000;
const PRESENT = 3n;

const withKey = (hpa: number, keyId: number): bigint => BigInt(withKeyId(hpa, keyId));

/** A TDX host without paging. */
function host(): TestMachine {
  return new TestMachine(undefined, true);
}

/** Writes an entry of a table, as the table's owner does. */
function setEntry(machine: TestMachine, table: number, index: number, entry: bigint, keyId: number): void {
  machine.memory.keyed.write64(table + index * 8, keyId, entry);
}

/** A chain of EPT tables for one page of 4 KiB. */
function mapEpt(machine: TestMachine, root: number, gpa: bigint, leaf: bigint, keyId: number): number[] {
  const tables = [root];
  let table = root;
  for (let level = 3; level > 0; level--) {
    const next = machine.page();
    if (keyId !== 0) machine.memory.keyed.take(next, keyId);
    setEntry(machine, table, Number((gpa >> BigInt(12 + 9 * level)) & 0x1ffn), withKey(next, keyId) | RWX, keyId);
    table = next;
    tables.push(table);
  }
  setEntry(machine, table, Number((gpa >> 12n) & 0x1ffn), leaf, keyId);
  return tables;
}

/** A TD in real-address mode: linear addresses are guest-physical. One private page, one shared. */
function td(leaf: bigint = withKey(PRIVATE_PAGE, TD) | RWX | WB | LEAF): {
  machine: TestMachine;
  tables: number[];
  sharedTables: number[];
} {
  const machine = host();
  const { keyed } = machine.memory;
  const root = machine.page();
  const sharedRoot = machine.page();
  keyed.take(root, TD);
  keyed.take(PRIVATE_PAGE, TD);
  const tables = mapEpt(machine, root, PRIVATE_GPA, leaf, TD);
  const sharedTables = mapEpt(machine, sharedRoot, SHARED_GPA, BigInt(SHARED_PAGE) | RWX | WB, 0);
  machine.vtx.enterTd(TD, root, sharedRoot);
  tlbContextChanged(machine.p);
  return { machine, tables, sharedTables };
}

/** What reading 8 bytes gives, or what stops it. */
function read(machine: TestMachine, linear: bigint): bigint | string {
  const { p, vtx } = machine;
  vtx.violation = undefined;
  vtx.misconfiguration = undefined;
  vtx.machineChecks = 0;
  const value = loadLinear(p, linear, 8);
  if (value !== undefined) return value;
  if (p.outcome !== VMEXIT) return `#${p.fault.vector}(${p.fault.errorCode})`;
  if (vtx.machineChecks > 0) return 'machine check';
  return vtx.misconfiguration !== undefined ? 'misconfiguration' : 'violation';
}

describe('guest-physical addresses of a TD', () => {
  test('private ones go through the secure EPT and are accessed with the TD’s KeyID', () => {
    const { machine } = td();
    machine.memory.keyed.write64(PRIVATE_PAGE + 8, TD, 0x1234n);
    expect(read(machine, PRIVATE_GPA + 8n)).toBe(0x1234n);
    expect(storeLinear(machine.p, PRIVATE_GPA + 16n, 8, 5n)).toBe(0);
    expect(machine.memory.keyed.read64(PRIVATE_PAGE + 16, TD)).toBe(5n);
    expect(machine.memory.read64(PRIVATE_PAGE + 16)).toBe(0n);
    expect([machine.p.mmu.hpa, machine.p.mmu.keyId]).toEqual([PRIVATE_PAGE + 8, TD]);
  });

  test('shared ones go through the shared EPT, with the shared bit, and are the host’s', () => {
    const { machine } = td();
    machine.memory.write64(SHARED_PAGE, 77n);
    expect(read(machine, SHARED_GPA)).toBe(77n);
    expect(storeLinear(machine.p, SHARED_GPA + 8n, 4, 9n)).toBe(0);
    expect(machine.memory.read32(SHARED_PAGE + 8)).toBe(9);
  });

  test('are private and shared apart: one kind has no translation in the other’s tables', () => {
    const { machine } = td();
    expect(read(machine, PRIVATE_GPA + 0x1000n)).toBe('violation');
    expect(machine.vtx.violation!.gpa).toBe(Number(PRIVATE_GPA) + 0x1000);
    expect(read(machine, SHARED_GPA + 0x1000n)).toBe('violation');
    expect(machine.vtx.violation!.gpa).toBe(Number(SHARED_GPA) + 0x1000);
  });

  test('give TLB entries for both, and INVEPT drops both', () => {
    const { machine } = td();
    read(machine, PRIVATE_GPA);
    read(machine, SHARED_GPA);
    expect([machine.lookUp(PRIVATE_GPA, ACCESS.read), machine.lookUp(SHARED_GPA, ACCESS.read)]).not.toContain(-1);
    invept(machine.p, 1, machine.vtx.eptp);
    expect([machine.lookUp(PRIVATE_GPA, ACCESS.read), machine.lookUp(SHARED_GPA, ACCESS.read)]).toEqual([-1, -1]);
  });

  test('need no KeyID in a secure EPT entry; another TD’s is a misconfiguration', () => {
    expect(read(td(BigInt(PRIVATE_PAGE) | RWX | WB | LEAF).machine, PRIVATE_GPA)).toBe(0n);
    expect(read(td(withKey(PRIVATE_PAGE, OTHER_TD) | RWX | WB | LEAF).machine, PRIVATE_GPA)).toBe('misconfiguration');
  });
});

describe('memory that is not the TD’s, in private accesses', () => {
  test('a page of another owner is a machine check, and gets no TLB entry', () => {
    for (const owner of [0, OTHER_TD]) {
      const { machine } = td();
      machine.memory.keyed.take(PRIVATE_PAGE, owner);
      expect(read(machine, PRIVATE_GPA)).toBe('machine check');
      expect(machine.lookUp(PRIVATE_GPA, ACCESS.read)).toBe(-1);
      expect(storeLinear(machine.p, PRIVATE_GPA, 8, 1n)).toBe(VMEXIT);
      expect(machine.memory.keyed.ownerOf(PRIVATE_PAGE)).toBe(owner);
    }
  });

  test('a table of another owner is a machine check', () => {
    for (const level of [0, 1, 2, 3]) {
      const { machine, tables } = td();
      machine.memory.keyed.take(tables[level]!, 0);
      expect(read(machine, PRIVATE_GPA)).toBe('machine check');
    }
  });

  test('a line that the host wrote is a machine check, read or written; the other lines go on without TLB entries', () => {
    const { machine } = td();
    machine.memory.keyed.write64(PRIVATE_PAGE, TD, 1n);
    machine.memory.write8(PRIVATE_PAGE + 64, 0);
    expect(read(machine, PRIVATE_GPA + 64n)).toBe('machine check');
    expect(storeLinear(machine.p, PRIVATE_GPA + 72n, 8, 1n)).toBe(VMEXIT);
    expect(loadLinearBytes(machine.p, PRIVATE_GPA, 100)).toBeUndefined();
    expect(read(machine, PRIVATE_GPA)).toBe(1n);
    expect(storeLinear(machine.p, PRIVATE_GPA + 8n, 8, 2n)).toBe(0);
    expect(machine.memory.keyed.read64(PRIVATE_PAGE + 8, TD)).toBe(2n);
    expect(machine.lookUp(PRIVATE_GPA, ACCESS.read)).toBe(-1);
  });

  test('an entry in a poisoned line of a table is a machine check', () => {
    const { machine, tables } = td();
    machine.memory.write8(tables[3]! + Number((PRIVATE_GPA >> 12n) & 0x1ffn) * 8, 0);
    expect(read(machine, PRIVATE_GPA)).toBe('machine check');
  });

  test('fetching from a page with such a line is a machine check', () => {
    const { machine } = td();
    expect(fetchPage(machine.p, Number(PRIVATE_GPA), 0)).toBe(0);
    machine.memory.write8(PRIVATE_PAGE + 64, 0);
    machine.vtx.machineChecks = 0;
    expect(fetchPage(machine.p, Number(PRIVATE_GPA), 0)).toBe(VMEXIT);
    expect(machine.vtx.machineChecks).toBe(1);
  });

  test('a whole line that is written without being read becomes the TD’s', () => {
    const { machine } = td();
    machine.memory.write8(PRIVATE_PAGE + 64, 0);
    expect(storeLinearBytes(machine.p, PRIVATE_GPA + 64n, new Uint8Array(64).fill(3), false, true)).toBe(0);
    expect(read(machine, PRIVATE_GPA + 64n)).toBe(0x0303_0303_0303_0303n);
    expect(machine.memory.keyed.poisoned(PRIVATE_PAGE)).toBe(false);
  });
});

describe('a change of owner', () => {
  test('drops the TLB entries and the decoded code of the page first', () => {
    const { machine } = td();
    read(machine, PRIVATE_GPA);
    fetchPage(machine.p, Number(PRIVATE_GPA), 0);
    expect(machine.lookUp(PRIVATE_GPA, ACCESS.read)).not.toBe(-1);
    expect(machine.engine.hasCode(PRIVATE_PAGE)).toBe(true);
    machine.memory.write8(PRIVATE_PAGE + 64, 0);
    expect(machine.lookUp(PRIVATE_GPA, ACCESS.read)).toBe(-1);
    expect(machine.lookUp(PRIVATE_GPA, ACCESS.fetch)).toBe(-1);
    expect(machine.engine.hasCode(PRIVATE_PAGE)).toBe(false);
  });

  test('drops entries at every linear address, and new ones are found again', () => {
    const machine = host();
    machine.longMode();
    const addresses = [0x1000n, 0x5000n, 0x1_2345_6000n];
    for (const linear of addresses) machine.map(linear, BigInt(SHARED_PAGE) | PRESENT);
    machine.map(0x7000n, 0x9000n | PRESENT);
    const hits = (linear: bigint): boolean => machine.lookUp(linear, ACCESS.read) !== -1;
    for (const keyId of [TD, 0, TD, 0]) {
      for (const linear of [...addresses, 0x7000n]) read(machine, linear);
      machine.memory.keyed.take(SHARED_PAGE, keyId);
      expect(addresses.some(hits)).toBe(false);
    }
    for (const linear of [...addresses, 0x7000n]) {
      read(machine, linear);
      expect(hits(linear)).toBe(true);
    }
  });

  test('drops what an ordinary guest has of the page', () => {
    const machine = host();
    const root = machine.page();
    mapEpt(machine, root, PRIVATE_GPA, BigInt(PRIVATE_PAGE) | RWX | WB, 0);
    machine.vtx.enable(root);
    tlbContextChanged(machine.p);
    storeLinear(machine.p, PRIVATE_GPA, 8, 5n);
    expect(machine.lookUp(PRIVATE_GPA, ACCESS.write)).not.toBe(-1);
    machine.memory.keyed.take(PRIVATE_PAGE, TD);
    machine.memory.keyed.write64(PRIVATE_PAGE, TD, 6n);
    expect(machine.lookUp(PRIVATE_GPA, ACCESS.write)).toBe(-1);
    expect(read(machine, PRIVATE_GPA)).toBe(0n);
    expect(machine.lookUp(PRIVATE_GPA, ACCESS.read)).toBe(-1);
  });
});

describe('shared accesses of a TD, and ordinary guests', () => {
  test('read zeros from a TD’s page; a write makes the line the host’s', () => {
    const { machine, sharedTables } = td();
    machine.memory.keyed.write64(PRIVATE_PAGE, TD, 6n);
    setEntry(machine, sharedTables[3]!, Number((SHARED_GPA >> 12n) & 0x1ffn), BigInt(PRIVATE_PAGE) | RWX | WB, 0);
    expect(read(machine, SHARED_GPA)).toBe(0n);
    expect(read(machine, PRIVATE_GPA)).toBe(6n);
    expect(storeLinear(machine.p, SHARED_GPA, 8, 1n)).toBe(0);
    expect(read(machine, PRIVATE_GPA)).toBe('machine check');
  });

  test('read tables that are a TD’s as zeros: nothing is present', () => {
    const { machine, sharedTables } = td();
    machine.memory.keyed.take(sharedTables[3]!, TD);
    expect(read(machine, SHARED_GPA)).toBe('violation');
  });

  test('an EPT entry with a private KeyID is a misconfiguration, in a table and in a leaf', () => {
    for (const level of [1, 3]) {
      const { machine, sharedTables } = td();
      const at = sharedTables[level]! + Number((SHARED_GPA >> BigInt(12 + 9 * (3 - level))) & 0x1ffn) * 8;
      machine.memory.write64(at, machine.memory.read64(at) | withKey(0, TD));
      expect(read(machine, SHARED_GPA)).toBe('misconfiguration');
    }
  });

  test('an EPT entry with a shared KeyID is none, and reaches the page', () => {
    const { machine, sharedTables } = td();
    const at = sharedTables[3]! + Number((SHARED_GPA >> 12n) & 0x1ffn) * 8;
    machine.memory.write64(at, machine.memory.read64(at) | withKey(0, 5));
    machine.memory.write64(SHARED_PAGE, 77n);
    expect(read(machine, SHARED_GPA)).toBe(77n);
    expect(keyIdOf(machine.p.mmu.hpa)).toBe(5);
  });

  test('fetching from a page of another KeyID is no instruction', () => {
    const machine = host();
    machine.memory.keyed.take(PRIVATE_PAGE, TD);
    machine.p.mmu.cr0 = -1;
    tlbContextChanged(machine.p);
    expect(fetchPage(machine.p, PRIVATE_PAGE, 0)).toBe(1);
    expect(machine.p.fault.vector).toBe(UD);
  });
});

describe('paging of a TD', () => {
  /** 4-level paging whose tables are at private guest-physical addresses equal to their host-physical ones. */
  function paged(leaf: bigint, cr3Bits = 0n): TestMachine {
    const machine = host();
    const { keyed } = machine.memory;
    const root = machine.page();
    const sharedRoot = machine.page();
    keyed.take(root, TD);
    const guest = [machine.page(), machine.page(), machine.page(), machine.page()];
    for (let i = 0; i < 4; i++) {
      keyed.take(guest[i]!, TD);
      keyed.write64(guest[i]!, TD, i < 3 ? BigInt(guest[i + 1]!) | PRESENT : leaf | PRESENT);
    }
    // One 2 MiB page over each half of RAM.
    const tables = [machine.page(), machine.page()];
    for (const table of tables) keyed.take(table, TD);
    keyed.write64(root, TD, withKey(tables[0]!, TD) | RWX);
    keyed.write64(tables[0]!, TD, withKey(tables[1]!, TD) | RWX);
    for (const n of [0, 1]) keyed.write64(tables[1]! + n * 8, TD, withKey(n * 0x20_0000, TD) | RWX | WB | LEAF);
    keyed.take(PRIVATE_PAGE, TD);
    keyed.write64(PRIVATE_PAGE, TD, 21n);
    mapEpt(machine, sharedRoot, BigInt(SHARED_PAGE) | SHARED, BigInt(SHARED_PAGE) | RWX | WB, 0);
    machine.memory.write64(SHARED_PAGE, 22n);
    machine.longMode();
    machine.p.cr3 = BigInt(guest[0]!) | cr3Bits;
    machine.vtx.enterTd(TD, root, sharedRoot);
    tlbContextChanged(machine.p);
    return machine;
  }

  test('walks tables in private memory, sets their flags, and leads to private and shared pages', () => {
    const machine = paged(BigInt(PRIVATE_PAGE));
    expect(read(machine, 0n)).toBe(21n);
    const pml4 = Number(machine.p.cr3);
    expect(machine.memory.keyed.read64(pml4, TD) & 0x20n).toBe(0x20n);
    expect(machine.memory.keyed.ownerOf(pml4)).toBe(TD);
    expect(read(paged(BigInt(SHARED_PAGE) | SHARED), 0n)).toBe(22n);
  });

  test('takes no tables from shared memory: a reserved bit', () => {
    expect(read(paged(BigInt(PRIVATE_PAGE), SHARED), 0n)).toBe(`#${PF}(9)`);
  });

  test('does not fetch from shared memory: a reserved bit', () => {
    const machine = paged(BigInt(SHARED_PAGE) | SHARED);
    expect(translate(machine.p, 0n, ACCESS.fetch)).toBeUndefined();
    expect([machine.p.fault.vector, machine.p.fault.errorCode]).toEqual([PF, 0x19]);
  });

  test('a poisoned line of a guest table is a machine check', () => {
    const machine = paged(BigInt(PRIVATE_PAGE));
    machine.memory.write8(Number(machine.p.cr3), 0);
    expect(read(machine, 0n)).toBe('machine check');
  });
});

describe('paging outside SEAM', () => {
  test('a private KeyID in an entry is a reserved bit', () => {
    for (const level of [0, 1, 2, 3]) {
      const machine = host();
      machine.longMode();
      const entry = machine.map(0n, BigInt(SHARED_PAGE) | PRESENT);
      expect(read(machine, 0n)).toBe(0n);
      let at = Number(machine.p.cr3);
      for (let n = 3; n > level; n--) at = Number(machine.memory.read64(at) & 0xf_ffff_f000n);
      if (level === 0) expect(at).toBe(entry);
      machine.memory.write64(at, machine.memory.read64(at) | withKey(0, TD));
      machine.p.mmu.context.flush();
      expect(read(machine, 0n)).toBe(`#${PF}(9)`);
    }
  });

  test('a shared KeyID is none', () => {
    const machine = host();
    machine.longMode();
    machine.memory.write64(SHARED_PAGE, 4n);
    machine.map(0n, withKey(SHARED_PAGE, 31) | PRESENT);
    expect(read(machine, 0n)).toBe(4n);
  });

  test('a private KeyID in CR3 is #GP(0); behind EPT the bit is part of a guest-physical address', () => {
    const { p, vtx } = host();
    expect(writeCr3(p, withKey(0x3000, TD))).toBe(1);
    expect(p.fault.vector).toBe(GP);
    vtx.enable(0x3000);
    tlbContextChanged(p);
    expect(writeCr3(p, withKey(0x3000, TD))).toBe(0);
  });

  test('without KeyIDs the same bits are an address', () => {
    const machine = new TestMachine();
    machine.longMode();
    machine.map(0n, withKey(SHARED_PAGE, TD) | PRESENT);
    expect(read(machine, 0n)).toBe(0xffff_ffff_ffff_ffffn);
  });
});
