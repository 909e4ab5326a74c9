import { describe, expect, it } from 'vitest';
import {
  accepted,
  blocked,
  entryHpa,
  entryState,
  isPresent,
  leafEntry,
  publicEntry,
  publicInfo,
  SEPT_FREE_ENTRY,
  SEPT_REMOVED_ENTRY,
  tableEntry,
  unblocked,
  withHpa,
  withState,
} from './sept-entry.ts';
import { LEAF_ALLOWED, leafAllowed, SEPT, SEPT_STATES } from './sept-state.ts';

const HKID = 0x25;
const PAGE = 0x1234_5000;

describe('Secure EPT entry', () => {
  it('a FREE entry is what a new table is filled with: three state bits and suppress #VE', () => {
    expect(SEPT_FREE_ENTRY).toBe(0x80e0_0000_0000_0000n);
    expect(entryState(SEPT_FREE_ENTRY)).toBe(SEPT.FREE);
    expect(entryState(SEPT_REMOVED_ENTRY)).toBe(SEPT.REMOVED);
  });

  it('a mapped page reads to the processor as RWX, write-back, ignore PAT, leaf, HPA with the HKID', () => {
    const entry = leafEntry(SEPT.MAPPED, PAGE, HKID);
    expect(entry & 0xfffn).toBe(0x4f7n);
    expect((entry >> 12n) & 0xff_ffff_ffffn).toBe((BigInt(HKID) << 34n) | BigInt(PAGE >> 12));
    expect(entry >> 63n).toBe(1n);
    expect(entryHpa(entry)).toBe(PAGE);
  });

  it('an entry for a table has RWX and no memory type, which would be reserved bits', () => {
    const entry = tableEntry(PAGE, HKID);
    expect(entry & 0xfffn).toBe(0x407n);
    expect(entryState(entry)).toBe(SEPT.NL_MAPPED);
  });

  it.each(SEPT_STATES.map((s) => [s.name, s] as const))('%s survives encoding and decoding', (_name, s) => {
    const entry = withState(leafEntry(SEPT.MAPPED, PAGE, HKID), s);
    expect(entryState(entry)).toBe(s);
    expect(entryHpa(entry)).toBe(PAGE);
    expect(isPresent(entry)).toBe(s.readable || s === SEPT.NL_MAPPED);
    expect((entry & 2n) !== 0n).toBe(s.accessible || s === SEPT.NL_MAPPED);
  });

  it('state numbers for the host are all different, bit 7 set for references to tables', () => {
    expect(new Set(SEPT_STATES.map((s) => s.publicState)).size).toBe(SEPT_STATES.length);
    expect(SEPT_STATES.filter((s) => s.publicState >= 128)).toEqual([SEPT.NL_MAPPED, SEPT.NL_BLOCKED]);
  });

  it('BLOCK takes the permissions, UNBLOCK gives them back', () => {
    for (const [from, to] of [
      [SEPT.MAPPED, SEPT.BLOCKED],
      [SEPT.PENDING, SEPT.PENDING_BLOCKED],
    ] as const) {
      const entry = leafEntry(from, PAGE, HKID);
      const closed = blocked(entry);
      expect(entryState(closed)).toBe(to);
      expect(isPresent(closed)).toBe(false);
      expect(unblocked(closed)).toBe(entry);
    }
    const table = tableEntry(PAGE, HKID);
    expect(entryState(blocked(table))).toBe(SEPT.NL_BLOCKED);
    expect(isPresent(blocked(table))).toBe(false);
    expect(unblocked(blocked(table))).toBe(table);
  });

  it('UNBLOCK of an entry that is not blocked changes nothing', () => {
    for (const s of [SEPT.MAPPED, SEPT.PENDING]) {
      expect(unblocked(leafEntry(s, PAGE, HKID))).toBe(leafEntry(s, PAGE, HKID));
    }
  });

  it('ACCEPT makes a pending page mapped', () => {
    expect(accepted(leafEntry(SEPT.PENDING, PAGE, HKID))).toBe(leafEntry(SEPT.MAPPED, PAGE, HKID));
    expect(entryState(accepted(leafEntry(SEPT.PENDING_EXPORTED_DIRTY, PAGE, HKID)))).toBe(SEPT.EXPORTED_DIRTY);
  });

  it('another page under the same state', () => {
    expect(withHpa(leafEntry(SEPT.BLOCKED, PAGE, HKID), 0x7000, HKID)).toBe(leafEntry(SEPT.BLOCKED, 0x7000, HKID));
  });
});

describe('What the host is told of an entry', () => {
  it('FREE is suppress #VE alone', () => {
    expect(publicEntry(SEPT_FREE_ENTRY)).toBe(0x8000_0000_0000_0000n);
    expect(publicInfo(SEPT_FREE_ENTRY, 1)).toBe(1n);
  });

  it('a leaf shows permissions, memory type and HPA without HKID, nothing of the state bits', () => {
    expect(publicEntry(leafEntry(SEPT.MAPPED, PAGE, HKID))).toBe(0x8000_0000_0000_04f7n | BigInt(PAGE));
    expect(publicEntry(leafEntry(SEPT.PENDING_BLOCKED, PAGE, HKID))).toBe(0x8000_0000_0000_00f0n | BigInt(PAGE));
  });

  it('a reference to a table shows no address', () => {
    expect(publicEntry(tableEntry(PAGE, HKID))).toBe(0x407n);
    expect(publicEntry(blocked(tableEntry(PAGE, HKID)))).toBe(0n);
  });

  it('RDX has the level and the state', () => {
    expect(publicInfo(leafEntry(SEPT.MAPPED, PAGE, HKID), 0)).toBe(0x400n);
    expect(publicInfo(leafEntry(SEPT.PENDING, PAGE, HKID), 1)).toBe(0x201n);
    expect(publicInfo(tableEntry(PAGE, HKID), 2)).toBe(0x8402n);
  });
});

describe('Leaf and state', () => {
  it('nothing but PAGE.AUG, PAGE.ADD, SEPT.ADD and SEPT.RD acts on a FREE entry', () => {
    const on = Object.keys(LEAF_ALLOWED).filter((leaf) => leafAllowed(leaf as keyof typeof LEAF_ALLOWED, SEPT.FREE));
    expect(on).toEqual(['TDH.MEM.PAGE.ADD', 'TDH.MEM.SEPT.ADD', 'TDH.MEM.PAGE.AUG', 'TDH.MEM.SEPT.RD']);
  });

  it('a blocked entry cannot be blocked again, and only a blocked one unblocked', () => {
    for (const s of SEPT_STATES) {
      if (s.blocked) expect(leafAllowed('TDH.MEM.RANGE.BLOCK', s)).toBe(false);
      expect(leafAllowed('TDH.MEM.RANGE.UNBLOCK', s)).toBe(s.blocked);
    }
  });

  it('the guest may accept what is pending and not blocked', () => {
    for (const s of SEPT_STATES) expect(leafAllowed('TDG.MEM.PAGE.ACCEPT', s)).toBe(s.acceptable);
  });

  it('no page outside a mapped state is accessible', () => {
    expect(SEPT_STATES.filter((s) => s.accessible)).toEqual([SEPT.MAPPED, SEPT.EXPORTED_DIRTY]);
  });
});
