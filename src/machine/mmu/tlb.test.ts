import { describe, expect, test } from 'vitest';
import { ACCESS, RAM_BASE, TLB_BANK_COUNT, TLB_BASE } from '../engine/layout.ts';
import { DONE, FAULT } from '../outcome.ts';
import { CR4_PCIDE, CR4_PGE, CR4_SMAP, FLAG_AC } from '../processor.ts';
import {
  dropPage,
  engineDropExecuteEntries,
  engineDropWriteEntries,
  flushTlb,
  flushVpid,
  invept,
  invlpg,
  invpcid,
  invvpid,
} from './invalidate.ts';
import { handleMiss } from './miss.ts';
import { tlbContextChanged } from './select.ts';
import { TestMachine } from './test-machine.ts';

const P = 1n,
  W = 2n,
  U = 4n,
  A = 0x20n,
  D = 0x40n,
  PS = 0x80n,
  G = 0x100n;
const LINEAR = 0x7f12_3456_7000n;
const { read, write, fetch } = ACCESS;

/** A long-mode machine with LINEAR mapped to 0x5000, all rights, accessed and dirty. */
function mapped(flags = P | W | U | A | D): TestMachine {
  const machine = new TestMachine();
  machine.longMode();
  machine.map(LINEAR, 0x5000n | flags);
  return machine;
}

/** Access as generated code does it: look up, on a miss handle it and look up again. */
function touch(machine: TestMachine, access: (typeof ACCESS)[keyof typeof ACCESS], linear = LINEAR): number {
  const host = machine.lookUp(linear, access);
  if (host >= 0) return host;
  expect(handleMiss(machine.p)).toBe(DONE);
  return machine.lookUp(linear, access);
}

/** Whether an access would hit. */
const hits = (machine: TestMachine, access: (typeof ACCESS)[keyof typeof ACCESS], linear = LINEAR): boolean =>
  machine.lookUp(linear, access) >= 0;

describe('which entries a page gets', () => {
  test('a read enters the page for reads, and for writes too where a write would change no flag', () => {
    const machine = mapped();
    expect(touch(machine, read)).toBe(RAM_BASE + 0x5000);
    expect(hits(machine, write)).toBe(true);
    expect(hits(machine, fetch)).toBe(false);
  });

  test('no write entry before the dirty flag is set; the write sets it', () => {
    const machine = mapped(P | W | U | A);
    touch(machine, read);
    expect(hits(machine, write)).toBe(false);
    touch(machine, write);
    expect(hits(machine, write)).toBe(true);
  });

  test("a fetch enters the engine's code page for the code size", () => {
    const machine = mapped();
    expect(touch(machine, fetch, LINEAR + 3n)).toBe(0x200_0000 + 0x5000 + machine.p.codeMode + 3);
  });

  test('a page with decoded code gets no write entry', () => {
    const machine = mapped();
    machine.engine.code.add(0x5000);
    touch(machine, read);
    expect(hits(machine, write)).toBe(false);
  });

  test('accesses that leave the page miss, and non-canonical ones never hit', () => {
    const machine = mapped();
    touch(machine, read);
    expect(machine.lookUp(LINEAR + 0xff8n, read, 8)).toBeGreaterThan(0);
    expect(machine.lookUp(LINEAR + 0xff9n, read, 8)).toBe(-1);
    for (let index = 0n; index < 4096n; index++) {
      for (const top of [0x8080_8080_8000_0000n, 0x8000_0000_0000_0000n, 0x1_0000_0000_0000n]) {
        for (const low of [0n, 0x80n, 0x7ffn, 0xfffn]) {
          expect(hits(machine, write, top + (index << 12n) + low)).toBe(false);
        }
      }
    }
  });

  test('a fresh bank matches no address at all', () => {
    const machine = mapped();
    touch(machine, read);
    flushTlb(machine.p);
    for (let page = 0n; page < 4096n; page++) {
      for (const top of [0n, 0x8080_8080_8040_0000n, 0x8080_8080_8080_0000n, 0xffff_ffff_ffc0_0000n]) {
        expect(hits(machine, read, (top & ~0x3f_ffffn) + (page << 12n) + 0x80n)).toBe(false);
      }
    }
  });
});

describe('banks by privilege', () => {
  test('a supervisor page entered by the kernel is not there for the user, and comes back without a walk', () => {
    const machine = mapped(P | W | A | D);
    const { p } = machine;
    touch(machine, read);
    p.cpl = 3;
    tlbContextChanged(p);
    expect(hits(machine, read)).toBe(false);
    expect(handleMiss(p)).toBe(FAULT);
    p.cpl = 0;
    tlbContextChanged(p);
    expect(hits(machine, read)).toBe(false);
    touch(machine, read);
    p.cpl = 3;
    tlbContextChanged(p);
    p.cpl = 0;
    tlbContextChanged(p);
    expect(hits(machine, read)).toBe(true);
  });

  test('RFLAGS.AC under SMAP selects another bank', () => {
    const machine = mapped();
    const { p } = machine;
    p.cr4 |= CR4_SMAP;
    p.flagsRest = FLAG_AC;
    tlbContextChanged(p);
    touch(machine, read);
    p.flagsRest = 0;
    tlbContextChanged(p);
    expect(hits(machine, read)).toBe(false);
    expect(handleMiss(p)).toBe(FAULT);
  });

  test('a change of the code size empties the execute entries only', () => {
    const machine = mapped();
    const { p } = machine;
    touch(machine, read);
    touch(machine, fetch);
    p.segments[1]!.attributes = 0x209b;
    tlbContextChanged(p);
    expect([hits(machine, fetch), hits(machine, read)]).toEqual([false, true]);
  });
});

describe('invalidation', () => {
  /** Turns PCIDs on and selects one. */
  function pcid(machine: TestMachine, id: number): void {
    const { p } = machine;
    p.cr4 |= CR4_PCIDE | CR4_PGE;
    p.cr3 = (p.cr3 & ~0xfffn) | BigInt(id);
    tlbContextChanged(p);
  }

  test('a stale entry survives a change of the tables until INVLPG', () => {
    const machine = mapped();
    const leaf = machine.map(LINEAR, 0x5000n | P | W | U | A | D);
    touch(machine, read);
    machine.memory.write64(leaf, 0x6000n | P | W | U | A | D);
    expect(touch(machine, read)).toBe(RAM_BASE + 0x5000);
    invlpg(machine.p, LINEAR + 0x123n);
    expect(touch(machine, read)).toBe(RAM_BASE + 0x6000);
  });

  test('INVLPG drops one page', () => {
    const machine = mapped();
    machine.map(LINEAR + 0x1000n, 0x6000n | P | W | U | A | D);
    touch(machine, read);
    touch(machine, read, LINEAR + 0x1000n);
    invlpg(machine.p, LINEAR);
    expect([hits(machine, read), hits(machine, write), hits(machine, read, LINEAR + 0x1000n)]).toEqual([
      false,
      false,
      true,
    ]);
  });

  test('INVLPG of any address in a large page drops all of it', () => {
    for (const [level, far] of [
      [1, 0x1f_f000n],
      [2, 0x3fff_f000n],
    ] as const) {
      const machine = new TestMachine();
      machine.longMode();
      machine.mapAt(level, 0x4000_0000n, P | W | A | D | PS);
      touch(machine, read, 0x4000_1000n);
      invlpg(machine.p, 0x4000_0000n + far);
      expect(hits(machine, read, 0x4000_1000n), `level ${level}`).toBe(false);
    }
  });

  test('a page fault drops the entries of its address', () => {
    const machine = mapped(P | U | A);
    touch(machine, read);
    expect(hits(machine, write)).toBe(false);
    machine.p.cpl = 3;
    tlbContextChanged(machine.p);
    touch(machine, read);
    machine.lookUp(LINEAR, write);
    expect(handleMiss(machine.p)).toBe(FAULT);
    expect(hits(machine, read)).toBe(false);
  });

  test('PCIDs keep their entries side by side; MOV CR3 that flushes drops one', () => {
    const machine = mapped();
    pcid(machine, 1);
    touch(machine, read);
    pcid(machine, 2);
    expect(hits(machine, read)).toBe(false);
    touch(machine, read);
    flushTlb(machine.p);
    expect(hits(machine, read)).toBe(false);
    pcid(machine, 1);
    expect(hits(machine, read)).toBe(true);
    flushTlb(machine.p, { global: true });
    expect(hits(machine, read)).toBe(false);
  });

  test('INVLPG drops a global page under every PCID', () => {
    const machine = mapped(P | W | U | A | D | G);
    pcid(machine, 1);
    touch(machine, read);
    pcid(machine, 2);
    invlpg(machine.p, LINEAR);
    pcid(machine, 1);
    expect(hits(machine, read)).toBe(false);
  });

  test('INVPCID: address, context, all', () => {
    const other = LINEAR + 0x1000n;
    const fresh = (): TestMachine => {
      const machine = mapped();
      machine.map(other, 0x6000n | P | W | U | A | D);
      for (const id of [1, 2]) {
        pcid(machine, id);
        touch(machine, read);
        touch(machine, read, other);
      }
      return machine;
    };
    const left = (machine: TestMachine): boolean[] => {
      const result: boolean[] = [];
      for (const id of [1, 2]) {
        pcid(machine, id);
        result.push(hits(machine, read), hits(machine, read, other));
      }
      return result;
    };
    const address = fresh();
    invpcid(address.p, 0, 1, LINEAR);
    expect(left(address)).toEqual([false, true, true, true]);
    const context = fresh();
    invpcid(context.p, 1, 1, 0n);
    expect(left(context)).toEqual([false, false, true, true]);
    for (const type of [2, 3]) {
      const all = fresh();
      invpcid(all.p, type, 0, 0n);
      expect(left(all)).toEqual([false, false, false, false]);
    }
  });

  test('VPIDs and EPT pointers keep their entries side by side through VM exits and entries', () => {
    const machine = mapped();
    const { p, vtx } = machine;
    touch(machine, read);
    vtx.vpid = 7;
    tlbContextChanged(p);
    expect(hits(machine, read)).toBe(false);
    touch(machine, read);
    vtx.vpid = 0;
    tlbContextChanged(p);
    expect(hits(machine, read)).toBe(true);
    flushVpid(p, 0);
    expect(hits(machine, read)).toBe(false);
    vtx.vpid = 7;
    tlbContextChanged(p);
    expect(hits(machine, read)).toBe(true);
  });

  test('INVVPID: address, one VPID, all but 0', () => {
    for (const [type, expected] of [
      [0, [true, false, true]],
      [1, [true, false, true]],
      [3, [true, false, true]],
      [2, [true, false, false]],
    ] as const) {
      const machine = mapped();
      const { p, vtx } = machine;
      const select = (vpid: number): void => {
        vtx.vpid = vpid;
        tlbContextChanged(p);
      };
      for (const vpid of [0, 1, 2]) {
        select(vpid);
        touch(machine, read);
      }
      invvpid(p, type, 1, LINEAR);
      const left = [0, 1, 2].map((vpid) => {
        select(vpid);
        return hits(machine, read);
      });
      expect(left, `type ${type}`).toEqual(expected);
    }
  });

  test('INVEPT drops combined mappings of one EP4TA, or of all', () => {
    const machine = new TestMachine();
    const { p, vtx } = machine;
    const roots = [machine.page(), machine.page()];
    for (const root of roots) machine.map(0x1000n, 0x5000n | 0x37n, root);
    const select = (root: number): void => {
      vtx.enable(root);
      tlbContextChanged(p);
    };
    const enter = (): void => {
      for (const root of roots) {
        select(root);
        touch(machine, read, 0x1000n);
      }
    };
    const left = (): boolean[] =>
      roots.map((root) => {
        select(root);
        return hits(machine, read, 0x1000n);
      });
    enter();
    invept(p, 1, BigInt(roots[0]!) | 0x1en);
    expect(left()).toEqual([false, true]);
    enter();
    invept(p, 2, 0n);
    expect(left()).toEqual([false, false]);
  });
});

describe('pages of the host', () => {
  test('when a page gets decoded code its write entries go, in all banks', () => {
    const machine = mapped();
    const { p } = machine;
    machine.map(LINEAR + 0x5000n, 0x5000n | P | W | U | A | D);
    touch(machine, write);
    touch(machine, write, LINEAR + 0x5000n);
    p.cpl = 3;
    tlbContextChanged(p);
    touch(machine, write);
    engineDropWriteEntries(p.machine, 0x5000);
    expect([hits(machine, write), hits(machine, read)]).toEqual([false, true]);
    p.cpl = 0;
    tlbContextChanged(p);
    expect([hits(machine, write), hits(machine, write, LINEAR + 0x5000n)]).toEqual([false, false]);
    touch(machine, write);
    engineDropWriteEntries(p.machine, 0x5000);
    expect(hits(machine, write)).toBe(false);
  });

  test('execute entries of a page, or all its entries, can go', () => {
    const machine = mapped();
    const { p } = machine;
    touch(machine, read);
    touch(machine, fetch);
    engineDropExecuteEntries(p.machine, 0x6000);
    expect(hits(machine, fetch)).toBe(true);
    engineDropExecuteEntries(p.machine, 0x5000);
    expect([hits(machine, fetch), hits(machine, read)]).toEqual([false, true]);
    dropPage(p.machine, 0x5000);
    expect(hits(machine, read)).toBe(false);
  });
});

test('more contexts than banks: the least recently used give theirs up, nothing stale appears', () => {
  const machine = mapped();
  const { p, vtx } = machine;
  const seen = new Set<number>();
  for (let vpid = 1; vpid < TLB_BANK_COUNT + 50; vpid++) {
    vtx.vpid = vpid;
    tlbContextChanged(p);
    expect(hits(machine, read)).toBe(false);
    touch(machine, read);
    seen.add(p.read32(TLB_BASE));
  }
  expect(hits(machine, read)).toBe(true);
  vtx.vpid = TLB_BANK_COUNT + 48;
  tlbContextChanged(p);
  expect(hits(machine, read)).toBe(true);
  expect(seen.size).toBeLessThan(TLB_BANK_COUNT);
});
