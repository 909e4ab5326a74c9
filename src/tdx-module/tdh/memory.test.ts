import { beforeEach, describe, expect, it } from 'vitest';
import { PT } from '../objects/pamt.ts';
import { septOf } from '../objects/sept.ts';
import { HOST_PRIORITY } from '../objects/sept-entry.ts';
import { OP_STATE } from '../objects/tdcs.ts';
import { type Result, TestPlatform, type TestTd } from './test-td.ts';

const SEPT_ADD = 3;
const PAGE_ADD = 2;
const RELOCATE = 5;
const AUG = 6;
const BLOCK = 7;
const MEM_RD = 12;
const MEM_WR = 14;
const DEMOTE = 15;
const PROMOTE = 23;
const SEPT_RD = 25;
const REMOVE = 29;
const SEPT_REMOVE = 30;
const TRACK = 38;
const UNBLOCK = 39;

const FREE = 0;
const BLOCKED = 1;
const PENDING = 2;
const PENDING_BLOCKED = 3;
const MAPPED = 4;
const NL_BLOCKED = 129;
const NL_MAPPED = 132;

const SUCCESS = 'TDX_SUCCESS';
const GPA = 0x40_0000;
const NULL_PA = 0xffff_ffff_ffff_ffffn;

let platform: TestPlatform;
let td: TestTd;
beforeEach(() => {
  platform = new TestPlatform();
  td = platform.td();
});

const track = (): Result => platform.call(TRACK, { rcx: td.pa });

describe('TDH.MEM.SEPT.ADD', () => {
  it('adds a table of FREE entries', () => {
    const page = platform.page();
    const children = td.children;
    expect(td.call(SEPT_ADD, { rcx: 3, r8: page })).toMatchObject({ name: SUCCESS, rcx: 0n, rdx: 0n });
    expect(td.entry(0, 3).state).toBe(NL_MAPPED);
    expect(td.pamt(page)).toEqual({ pageType: PT.EPT, owner: td.pa, size: 0 });
    expect(td.children).toBe(children + 1);
    expect(platform.keyed.ownerOf(page)).toBe(td.hkid);
    for (let i = 0; i < 512; i++) expect(platform.keyed.read64(page + 8 * i, td.hkid)).toBe(0x80e0_0000_0000_0000n);
  });

  it('a level above the root, or of pages, is an invalid operand', () => {
    expect(td.call(SEPT_ADD, { rcx: 4, r8: platform.page() }).name).toBe('TDX_OPERAND_INVALID 0x1');
    expect(td.call(SEPT_ADD, { rcx: 0, r8: platform.page() }).name).toBe('TDX_OPERAND_INVALID 0x1');
  });

  it('five levels with a GPA width of 52', () => {
    const wide = platform.td({ gpaw52: true });
    expect(wide.call(SEPT_ADD, { rcx: 4, r8: platform.page() }).name).toBe(SUCCESS);
    expect(wide.call(SEPT_ADD, { rcx: 3, r8: platform.page() }).name).toBe(SUCCESS);
    expect(wide.call(SEPT_ADD, { rcx: (1n << 51n) | 4n, r8: platform.page() }).name).toBe('TDX_OPERAND_INVALID 0x1');
  });

  it('not over an entry that has a table; the host is told the entry', () => {
    td.tables(GPA);
    const again = td.call(SEPT_ADD, { rcx: GPA + 1, r8: platform.page() });
    expect(again).toMatchObject({ name: 'TDX_EPT_ENTRY_STATE_INCORRECT 0x1', rcx: 0x407n, rdx: 0x8401n });
  });

  it('version 1: a table that exists is no error where that is allowed; the page comes back', () => {
    td.tables(GPA);
    const page = platform.page();
    const l2 = { r9: NULL_PA, r10: NULL_PA, r11: NULL_PA };
    const allowed = { ...l2, version: 1, rdx: td.pa + 1, rcx: GPA + 1 };
    expect(td.call(SEPT_ADD, { ...allowed, r8: page })).toMatchObject({
      name: SUCCESS,
      r8: BigInt(page) | (1n << 63n),
      r9: NULL_PA,
    });
    expect(td.call(SEPT_ADD, { ...allowed, r8: NULL_PA })).toMatchObject({ name: SUCCESS, r8: NULL_PA });
    expect(td.call(SEPT_ADD, { ...allowed, rcx: 2 ** 30 + 1, r8: NULL_PA }).name).toBe('TDX_EPT_WALK_FAILED 0x1');
    expect(td.call(SEPT_ADD, { ...allowed, rcx: 2 ** 30 + 2, r8: NULL_PA }).name).toBe(
      'TDX_EPT_ENTRY_STATE_INCORRECT 0x1',
    );
    expect(td.call(SEPT_ADD, { ...allowed, rcx: 2 ** 30 + 2, r8: page })).toMatchObject({ name: SUCCESS, r8: NULL_PA });
    // there are no L2 virtual machines to have tables
    expect(td.call(SEPT_ADD, { ...allowed, r8: NULL_PA, r9: page }).name).toBe('TDX_OPERAND_INVALID 0x9');
  });

  it('version 0 takes the flag in RDX too, looks not at bit 63 of R8, and wants always a page', () => {
    const page = platform.page();
    expect(td.call(SEPT_ADD, { rdx: td.pa + 1, rcx: 3, r8: BigInt(page) | (1n << 63n) }).name).toBe(SUCCESS);
    expect(td.call(SEPT_ADD, { rdx: td.pa + 2, rcx: 3, r8: page }).name).toBe('TDX_OPERAND_INVALID 0x2');
    expect(td.call(SEPT_ADD, { version: 2, rcx: 3, r8: page }).name).toBe('TDX_OPERAND_INVALID');
    expect(td.call(SEPT_ADD, { rcx: 3, r8: NULL_PA }).name).toBe('TDX_OPERAND_INVALID 0x8');
  });
});

describe('TDH.MEM.PAGE.ADD', () => {
  it("copies the host's page to one of the TD's", () => {
    const content = Uint8Array.from({ length: 4096 }, (_, i) => i * 7);
    const page = td.add(GPA, content);
    expect(td.entry(GPA)).toEqual({ state: MAPPED, level: 0, entry: 0x8000_0000_0000_04f7n | BigInt(page) });
    expect(td.pamt(page)).toEqual({ pageType: PT.REG, owner: td.pa, size: 0 });
    expect(platform.keyed.readBytes(page, td.hkid, 4096)).toEqual(content);
    expect(platform.keyed.readBytes(page, 0, 4096).every((byte) => byte === 0)).toBe(true);
  });

  it('takes no page twice: neither a GPA nor a physical one', () => {
    const page = td.add(GPA);
    const source = platform.page();
    expect(td.call(PAGE_ADD, { rcx: GPA, r8: platform.page(), r9: source }).name).toBe(
      'TDX_EPT_ENTRY_STATE_INCORRECT 0x1',
    );
    expect(td.call(PAGE_ADD, { rcx: GPA + 0x1000, r8: page, r9: source }).name).toBe('TDX_PAGE_METADATA_INCORRECT 0x8');
    expect(td.call(PAGE_ADD, { rcx: GPA + 0x1000, r8: td.pa, r9: source }).name).toBe('TDX_OPERAND_BUSY 0x8');
  });

  it('source: aligned and without a private KeyID, looked at before the target', () => {
    td.tables(GPA);
    for (const r9 of [1, 2 ** 52, 32 * 2 ** 46]) {
      expect(td.call(PAGE_ADD, { rcx: GPA, r8: 1, r9 }).name).toBe('TDX_OPERAND_INVALID 0x9');
    }
    expect(td.call(PAGE_ADD, { rcx: GPA, r8: 1, r9: 0 }).name).toBe('TDX_OPERAND_INVALID 0x8');
    expect(td.call(PAGE_ADD, { rcx: GPA, r8: 2 ** 46, r9: 0 }).name).toBe('TDX_OPERAND_INVALID 0x8');
    expect(td.call(PAGE_ADD, { rcx: GPA, r8: 16 * 2 ** 20, r9: 0 }).name).toBe('TDX_PAGE_METADATA_INCORRECT 0x8');
    expect(td.call(PAGE_ADD, { rcx: GPA, r8: 2 ** 31, r9: 0 }).name).toBe('TDX_OPERAND_ADDR_RANGE_ERROR 0x8');
  });

  it('not at a shared GPA', () => {
    expect(td.call(PAGE_ADD, { rcx: 2 ** 47, r8: platform.page() }).name).toBe('TDX_OPERAND_INVALID 0x1');
  });

  it('not once the TD is built', () => {
    td.tables(GPA);
    td.runnable();
    expect(td.call(PAGE_ADD, { rcx: GPA, r8: platform.page() }).name).toBe('TDX_OP_STATE_INCORRECT');
  });
});

describe('TDH.MEM.PAGE.AUG', () => {
  it('leaves the page as it is, and pending', () => {
    td.tables(GPA);
    const page = platform.page();
    platform.keyed.write64(page, 0, 0x1234n);
    expect(td.call(AUG, { rcx: GPA, r8: page }).name).toBe(SUCCESS);
    expect(td.entry(GPA)).toEqual({ state: PENDING, level: 0, entry: 0x8000_0000_0000_00f0n | BigInt(page) });
    expect(platform.keyed.read64(page, 0)).toBe(0x1234n);
    expect(td.pamt(page)).toEqual({ pageType: PT.REG, owner: td.pa, size: 0 });
  });

  it('2 MiB: counts 512 pages and needs all of them free', () => {
    td.runnable();
    const children = td.children;
    const page = td.aug(GPA, 1);
    expect(td.children).toBe(children + 2 + 512);
    expect(td.pamt(page + 0x5000)).toEqual({ pageType: PT.REG, owner: td.pa, size: 1 });
    expect(td.call(AUG, { rcx: 0x60_0001, r8: page }).name).toBe('TDX_PAGE_METADATA_INCORRECT 0x8');
    const partly = platform.largePage();
    td.tables(0x80_0000);
    expect(td.call(AUG, { rcx: 0x80_0000, r8: partly + 0x3000 }).name).toBe(SUCCESS);
    expect(td.call(AUG, { rcx: 0x60_0001, r8: partly }).name).toBe('TDX_PAGE_METADATA_INCORRECT 0x8');
    expect(td.call(AUG, { rcx: 0x60_0001, r8: partly + 0x1000 }).name).toBe('TDX_OPERAND_INVALID 0x8');
    expect(td.call(AUG, { rcx: 0x4000_0002, r8: 0 }).name).toBe('TDX_OPERAND_INVALID 0x1');
  });

  it('2 MiB with the TD’s own TDR, or a reserved page, in them', () => {
    td.tables(GPA, 1);
    const around = td.pa - (td.pa % 0x20_0000);
    expect(td.call(AUG, { rcx: GPA + 1, r8: around }).name).toBe('TDX_OPERAND_BUSY 0x8');
    expect(td.call(AUG, { rcx: GPA + 1, r8: 20 * 2 ** 20 }).name).toBe('TDX_PAGE_METADATA_INCORRECT 0x8');
  });

  it('a page in a large one that somebody has locked is busy', () => {
    td.tables(GPA, 1);
    const large = platform.largePage();
    const inside = large + 0x3000;
    const aug = (): string => td.call(AUG, { rcx: GPA + 0x20_0000, r8: inside }).name;
    td.tables(GPA + 0x20_0000);
    expect(platform.holding('pamt2m', large, aug)).toBe('TDX_OPERAND_BUSY 0x8');
    expect(platform.holding('pamt1g', 0, aug)).toBe('TDX_OPERAND_BUSY 0x2');
    expect(aug()).toBe(SUCCESS);
  });

  it('a part of a large page is no free page', () => {
    const page = td.runnable().aug(GPA, 1);
    td.tables(0x80_0000);
    expect(td.call(AUG, { rcx: 0x80_0000, r8: page + 0x1000 }).name).toBe('TDX_PAGE_METADATA_INCORRECT 0x8');
  });
});

describe('TDH.MEM.RANGE.BLOCK, TRACK, UNBLOCK', () => {
  it('a page loses its translation, and what was blocked already says so', () => {
    const page = td.add(GPA);
    td.runnable();
    expect(td.call(BLOCK, { rcx: GPA }).name).toBe(SUCCESS);
    expect(td.entry(GPA)).toEqual({ state: BLOCKED, level: 0, entry: 0x8000_0000_0000_00f0n | BigInt(page) });
    const again = td.call(BLOCK, { rcx: GPA });
    expect(again.name).toBe('TDX_GPA_RANGE_ALREADY_BLOCKED 0x1');
    expect(again.status >> 63n).toBe(0n);
    expect(again.rdx).toBe(0x100n);
    expect(td.call(BLOCK, { rcx: GPA + 0x1000 }).name).toBe('TDX_EPT_ENTRY_STATE_INCORRECT 0x1');
  });

  it('a range below a blocked table cannot be walked', () => {
    td.add(GPA);
    expect(td.call(BLOCK, { rcx: GPA + 1 }).name).toBe(SUCCESS);
    expect(td.entry(GPA, 1).state).toBe(NL_BLOCKED);
    expect(td.call(SEPT_RD, { rcx: GPA })).toMatchObject({ name: 'TDX_EPT_WALK_FAILED 0x1', rdx: 0x8101n });
    expect(td.call(UNBLOCK, { rcx: GPA + 1 }).name).toBe(SUCCESS);
    expect(td.entry(GPA).state).toBe(MAPPED);
  });

  it('UNBLOCK of a running TD waits for tracking', () => {
    td.add(GPA);
    td.runnable();
    td.call(BLOCK, { rcx: GPA });
    expect(td.call(UNBLOCK, { rcx: GPA }).name).toBe('TDX_TLB_TRACKING_NOT_DONE 0x1');
    expect(track().name).toBe(SUCCESS);
    expect(td.call(UNBLOCK, { rcx: GPA }).name).toBe(SUCCESS);
    expect(td.entry(GPA).state).toBe(MAPPED);
    expect(td.call(UNBLOCK, { rcx: GPA }).name).toBe('TDX_EPT_ENTRY_STATE_INCORRECT 0x1');
  });

  it('a virtual processor that entered before the blocking keeps the page from being tracked', () => {
    td.add(GPA);
    td.runnable();
    td.tdcs.set('REFCOUNT', 1, 1); // entered in epoch 1
    td.call(BLOCK, { rcx: GPA });
    expect(track().name).toBe(SUCCESS);
    expect(td.call(UNBLOCK, { rcx: GPA }).name).toBe('TDX_TLB_TRACKING_NOT_DONE 0x1');
    expect(track().name).toBe('TDX_PREVIOUS_TLB_EPOCH_BUSY');
    td.tdcs.set('REFCOUNT', 0, 1);
    expect(td.call(UNBLOCK, { rcx: GPA }).name).toBe(SUCCESS);
  });

  it('two epochs later it does not matter who is inside', () => {
    td.add(GPA);
    td.runnable();
    td.call(BLOCK, { rcx: GPA });
    track();
    track();
    td.tdcs.set('REFCOUNT', 3, 0);
    td.tdcs.set('REFCOUNT', 3, 1);
    expect(td.call(UNBLOCK, { rcx: GPA }).name).toBe(SUCCESS);
  });

  it('TRACK: epoch lock', () => {
    expect(platform.holding('td_epoch', td.pa, track).name).toBe('TDX_OPERAND_BUSY 0xa9');
    expect(td.tdcs.num('TD_EPOCH')).toBe(1);
  });

  it('pending pages keep waiting', () => {
    td.aug(GPA);
    expect(td.call(BLOCK, { rcx: GPA }).name).toBe(SUCCESS);
    expect(td.entry(GPA).state).toBe(PENDING_BLOCKED);
    expect(td.call(UNBLOCK, { rcx: GPA }).name).toBe(SUCCESS);
    expect(td.entry(GPA).state).toBe(PENDING);
  });
});

describe('TDH.MEM.PAGE.REMOVE', () => {
  it('before the TD is built it needs no blocking', () => {
    const page = td.add(GPA);
    const children = td.children;
    expect(td.call(REMOVE, { rcx: GPA })).toMatchObject({ name: SUCCESS, rcx: BigInt(page), rdx: 0n });
    expect(td.entry(GPA).state).toBe(FREE);
    // The last owner stays.
    expect(td.pamt(page)).toEqual({ pageType: PT.NDA, owner: td.pa, size: 0 });
    expect(td.children).toBe(children - 1);
  });

  it('of a running TD: blocked, then tracked', () => {
    const page = td.add(GPA);
    td.runnable();
    expect(td.call(REMOVE, { rcx: GPA })).toMatchObject({ name: 'TDX_GPA_RANGE_NOT_BLOCKED 0x1', rdx: 0x400n });
    td.call(BLOCK, { rcx: GPA });
    expect(td.call(REMOVE, { rcx: GPA }).name).toBe('TDX_TLB_TRACKING_NOT_DONE 0x1');
    expect(td.pamt(page).pageType).toBe(PT.REG);
    track();
    expect(td.call(REMOVE, { rcx: GPA })).toMatchObject({ name: SUCCESS, rcx: BigInt(page) });
    // the content stays unreadable for the host until it writes the page
    expect(platform.keyed.ownerOf(page)).toBe(td.hkid);
  });

  it('2 MiB at once; never a table', () => {
    const page = td.aug(GPA, 1);
    const children = td.children;
    expect(td.call(REMOVE, { rcx: GPA })).toMatchObject({ name: 'TDX_EPT_WALK_FAILED 0x1', rdx: 0x201n });
    expect(td.call(REMOVE, { rcx: GPA + 1 })).toMatchObject({ name: SUCCESS, rcx: BigInt(page) });
    expect(td.children).toBe(children - 512);
    expect(td.call(REMOVE, { rcx: 2 }).name).toBe('TDX_EPT_ENTRY_STATE_INCORRECT 0x1');
    expect(td.call(REMOVE, { rcx: 3 }).name).toBe('TDX_OPERAND_INVALID 0x1');
  });

  it('PAMT entry of the page busy', () => {
    const page = td.add(GPA);
    const busy = platform.holding('pamt4k', page, () => td.call(REMOVE, { rcx: GPA }));
    expect(busy.name).toBe('TDX_OPERAND_BUSY 0x1');
    expect(td.entry(GPA).state).toBe(MAPPED);
  });
});

describe('TDH.MEM.PAGE.RELOCATE', () => {
  it('moves content and frees the old page', () => {
    const old = td.add(GPA, new Uint8Array(4096).fill(0x5a));
    const page = platform.page();
    const children = td.children;
    expect(td.call(RELOCATE, { rcx: GPA, r8: page })).toMatchObject({ name: SUCCESS, rcx: BigInt(old) });
    expect(td.entry(GPA)).toMatchObject({ state: MAPPED, entry: 0x8000_0000_0000_04f7n | BigInt(page) });
    expect(platform.keyed.readBytes(page, td.hkid, 4096).every((byte) => byte === 0x5a)).toBe(true);
    expect(td.pamt(old).pageType).toBe(PT.NDA);
    expect(td.pamt(page)).toEqual({ pageType: PT.REG, owner: td.pa, size: 0 });
    expect(td.children).toBe(children);
  });

  it('of a running TD: blocked and tracked; afterwards the page is mapped', () => {
    td.add(GPA);
    td.runnable();
    const r8 = platform.page();
    expect(td.call(RELOCATE, { rcx: GPA, r8 }).name).toBe('TDX_GPA_RANGE_NOT_BLOCKED 0x1');
    td.call(BLOCK, { rcx: GPA });
    expect(td.call(RELOCATE, { rcx: GPA, r8 }).name).toBe('TDX_TLB_TRACKING_NOT_DONE 0x1');
    track();
    expect(td.call(RELOCATE, { rcx: GPA, r8: td.pa + 0x800 }).name).toBe('TDX_OPERAND_INVALID 0x8');
    expect(td.call(RELOCATE, { rcx: GPA, r8 }).name).toBe(SUCCESS);
    expect(td.entry(GPA).state).toBe(MAPPED);
  });

  it('a page that waits for acceptance goes on waiting, and not to where it is', () => {
    const old = td.aug(GPA);
    td.call(BLOCK, { rcx: GPA });
    expect(td.call(RELOCATE, { rcx: GPA, r8: old }).name).toBe('TDX_OPERAND_INVALID 0x8');
    expect(td.call(RELOCATE, { rcx: GPA, r8: BigInt(old) | (1n << 52n) }).name).toBe('TDX_OPERAND_INVALID 0x8');
    expect(td.call(RELOCATE, { rcx: GPA, r8: platform.page() }).name).toBe(SUCCESS);
    expect(td.entry(GPA).state).toBe(PENDING);
  });
});

describe('TDH.MEM.SEPT.REMOVE', () => {
  it('an empty table goes', () => {
    const page = td.add(GPA);
    expect(td.call(SEPT_REMOVE, { rcx: GPA + 1 }).name).toBe('TDX_EPT_PAGE_NOT_FREE 0x1');
    td.call(REMOVE, { rcx: GPA });
    const children = td.children;
    const { name, rcx } = td.call(SEPT_REMOVE, { rcx: GPA + 1 });
    expect(name).toBe(SUCCESS);
    expect(Number(rcx)).not.toBe(page);
    expect(td.pamt(Number(rcx)).pageType).toBe(PT.NDA);
    expect(td.children).toBe(children - 1);
    expect(td.entry(GPA, 1).state).toBe(FREE);
  });

  it('of a running TD: blocked and tracked', () => {
    td.tables(GPA);
    td.runnable();
    expect(td.call(SEPT_REMOVE, { rcx: GPA + 1 }).name).toBe('TDX_GPA_RANGE_NOT_BLOCKED 0x1');
    td.call(BLOCK, { rcx: GPA + 1 });
    expect(td.call(SEPT_REMOVE, { rcx: GPA + 1 }).name).toBe('TDX_TLB_TRACKING_NOT_DONE 0x1');
    track();
    expect(td.call(SEPT_REMOVE, { rcx: GPA + 1 }).name).toBe(SUCCESS);
  });

  it('never a page', () => {
    td.aug(GPA, 1);
    expect(td.call(SEPT_REMOVE, { rcx: GPA + 1 }).name).toBe('TDX_EPT_ENTRY_STATE_INCORRECT 0x1');
  });
});

describe('TDH.MEM.PAGE.DEMOTE and PROMOTE', () => {
  it('a large page becomes 512 small ones in the same state, and one again', () => {
    const page = td.aug(GPA, 1);
    const table = platform.page();
    const children = td.children;
    expect(td.call(DEMOTE, { rcx: GPA + 1, r8: table, r9: 9, r10: 10, r11: 11 })).toMatchObject({
      name: SUCCESS,
      r9: 9n,
    });
    expect(td.children).toBe(children + 1);
    expect(td.entry(GPA, 1).state).toBe(NL_MAPPED);
    for (const i of [0, 1, 511]) {
      const { state, entry } = td.entry(GPA + i * 4096);
      expect(state).toBe(PENDING);
      expect(Number(entry & 0x3fff_ffff_f000n)).toBe(page + i * 4096);
      expect(td.pamt(page + i * 4096)).toEqual({ pageType: PT.REG, owner: td.pa, size: 0 });
    }
    expect(td.pamt(table).pageType).toBe(PT.EPT);
    expect(td.call(PROMOTE, { rcx: GPA + 1 })).toMatchObject({ name: SUCCESS, rcx: BigInt(table) });
    expect(td.children).toBe(children);
    expect(td.entry(GPA, 1)).toEqual({ state: PENDING, level: 1, entry: 0x8000_0000_0000_00f0n | BigInt(page) });
    expect(td.pamt(page + 0x1000)).toEqual({ pageType: PT.REG, owner: td.pa, size: 1 });
    expect(td.pamt(table).pageType).toBe(PT.NDA);
  });

  it('DEMOTE of a running TD: blocked and tracked, and the small pages are not blocked', () => {
    td.runnable().aug(GPA, 1);
    const r8 = platform.page();
    expect(td.call(DEMOTE, { rcx: GPA + 1, r8 }).name).toBe('TDX_GPA_RANGE_NOT_BLOCKED 0x1');
    td.call(BLOCK, { rcx: GPA + 1 });
    expect(td.call(DEMOTE, { rcx: GPA + 1, r8 }).name).toBe('TDX_TLB_TRACKING_NOT_DONE 0x1');
    track();
    expect(td.call(DEMOTE, { rcx: GPA + 1, r8: td.pa }).name).toBe('TDX_OPERAND_BUSY 0x8');
    expect(td.call(DEMOTE, { rcx: GPA + 1, r8 }).name).toBe(SUCCESS);
    expect(td.entry(GPA + 0x7000).state).toBe(PENDING);
  });

  it('PROMOTE of a running TD: the table blocked and tracked', () => {
    td.aug(GPA, 1);
    td.call(DEMOTE, { rcx: GPA + 1, r8: platform.page() });
    td.runnable();
    expect(td.call(PROMOTE, { rcx: GPA + 1 }).name).toBe('TDX_GPA_RANGE_NOT_BLOCKED 0x1');
    td.call(BLOCK, { rcx: GPA + 1 });
    expect(td.call(PROMOTE, { rcx: GPA + 1 }).name).toBe('TDX_TLB_TRACKING_NOT_DONE 0x1');
    track();
    expect(td.call(PROMOTE, { rcx: GPA + 1 }).name).toBe(SUCCESS);
  });

  it('DEMOTE and PROMOTE make way for an interrupt that waits', () => {
    td.aug(GPA, 1);
    const r8 = platform.page();
    const leaves = [
      [DEMOTE, { rcx: GPA + 1, r8 }],
      [PROMOTE, { rcx: GPA + 1 }],
    ] as const;
    for (const [leaf, operands] of leaves) {
      const before = td.entry(GPA, 1);
      platform.module.hooks.interruptPending = () => true;
      expect(td.call(leaf, operands)).toMatchObject({
        name: 'TDX_INTERRUPTED_RESTARTABLE',
        rcx: BigInt(operands.rcx),
        rdx: BigInt(td.pa),
      });
      expect(td.entry(GPA, 1)).toEqual(before);
      platform.module.hooks.interruptPending = () => false;
      expect(td.call(leaf, operands).name).toBe(SUCCESS);
    }
  });

  it('PAMT entry of the large page busy', () => {
    const large = td.aug(GPA, 1);
    const operands = { rcx: GPA + 1, r8: platform.page() };
    const busy = (leaf: number): string => platform.holding('pamt2m', large, () => td.call(leaf, operands).name);
    expect(busy(DEMOTE)).toBe('TDX_OPERAND_BUSY 0x1');
    td.call(DEMOTE, operands);
    expect(busy(PROMOTE)).toBe('TDX_OPERAND_BUSY 0x1');
  });

  it('BEPOCH of a page in a new use is the old one for the table of DEMOTE and the large page of PROMOTE', () => {
    const large = td.aug(GPA, 1);
    const table = platform.page();
    const { pamt } = platform.module;
    pamt.entry(table, 0)!.bepoch = 77n;
    pamt.entry(large, 1)!.bepoch = 78n;
    td.call(DEMOTE, { rcx: GPA + 1, r8: table });
    expect(pamt.entry(table, 0)!.bepoch).toBe(77n);
    expect(pamt.entry(large, 0)!.bepoch).toBe(0n);
    td.call(PROMOTE, { rcx: GPA + 1 });
    expect(pamt.entry(large, 1)!.bepoch).toBe(78n);
  });

  it('PROMOTE: an entry that the guest has is busy, and marked for the host; nothing behind it is looked at', () => {
    for (let i = 0; i < 4; i++) td.aug(GPA + i * 0x1000);
    const sept = septOf(td.tdcs);
    const marked = (i: number): boolean => (sept.walk(GPA + i * 0x1000, 0).entry & HOST_PRIORITY) !== 0n;
    const { name, rdx } = platform.holding('sept_entry', GPA, () => td.call(PROMOTE, { rcx: GPA + 1 }));
    expect([name, rdx]).toEqual(['TDX_OPERAND_BUSY 0x1', 0x8401n]);
    expect([marked(0), marked(1)]).toEqual([true, false]);
    const later = platform.holding('sept_entry', GPA + 0x3000, () => td.call(PROMOTE, { rcx: GPA + 1 })).name;
    expect(later).toBe('TDX_EPT_INVALID_PROMOTE_CONDITIONS 0x1');
    expect(marked(3)).toBe(false);
  });

  it('PROMOTE: pages in one state, one after the other, from an aligned one on', () => {
    td.add(GPA);
    expect(td.call(PROMOTE, { rcx: GPA + 1 }).name).toBe('TDX_EPT_INVALID_PROMOTE_CONDITIONS 0x1');
    td.aug(0x60_0000, 1);
    td.call(DEMOTE, { rcx: 0x60_0001, r8: platform.page() });
    td.call(BLOCK, { rcx: 0x60_5000 });
    expect(td.call(PROMOTE, { rcx: 0x60_0001 }).name).toBe('TDX_EPT_INVALID_PROMOTE_CONDITIONS 0x1');
    td.call(UNBLOCK, { rcx: 0x60_5000 });
    td.call(RELOCATE, { rcx: 0x60_5000, r8: platform.page() });
    expect(td.call(PROMOTE, { rcx: 0x60_0001 }).name).toBe('TDX_EPT_INVALID_PROMOTE_CONDITIONS 0x1');
    expect(td.call(PROMOTE, { rcx: 0x80_0001 }).name).toBe('TDX_EPT_ENTRY_STATE_INCORRECT 0x1');
  });

  it('DEMOTE: reserved bits beside the TDR', () => {
    expect(td.call(DEMOTE, { rdx: td.pa + 2, rcx: GPA + 1 }).name).toBe('TDX_OPERAND_INVALID 0x2');
  });
});

describe('TDH.MEM.SEPT.RD', () => {
  it('tells any entry, also a FREE one', () => {
    td.tables(GPA);
    expect(td.call(SEPT_RD, { rcx: GPA })).toMatchObject({ name: SUCCESS, rcx: 1n << 63n, rdx: 0n });
    expect(td.call(SEPT_RD, { rcx: GPA + 1 })).toMatchObject({ name: SUCCESS, rcx: 0x407n, rdx: 0x8401n });
  });

  it('attributes for L2 virtual machines are for debug TDs', () => {
    td.tables(GPA);
    expect(td.call(SEPT_RD, { rdx: td.pa + 1, rcx: GPA }).name).toBe('TDX_OPERAND_INVALID 0x2');
    td.tdcs.set('ATTRIBUTES', 1n);
    expect(td.call(SEPT_RD, { rdx: td.pa + 1, rcx: GPA, r8: 5 })).toMatchObject({ name: SUCCESS, r8: 0n });
  });
});

describe('TDH.MEM.RD and WR', () => {
  it('read and write eight bytes of a TD under debug', () => {
    td.tdcs.set('ATTRIBUTES', 1n);
    td.add(GPA, new Uint8Array(4096).fill(0x11));
    expect(td.call(MEM_WR, { rcx: GPA + 8, r8: 0x1234n })).toMatchObject({ name: SUCCESS, r8: 0x1111_1111_1111_1111n });
    expect(td.call(MEM_RD, { rcx: GPA + 8 })).toMatchObject({ name: SUCCESS, r8: 0x1234n });
    expect(td.call(MEM_RD, { rcx: GPA })).toMatchObject({ name: SUCCESS, r8: 0x1111_1111_1111_1111n });
  });

  it('no other TD', () => {
    td.add(GPA);
    expect(td.call(MEM_RD, { rcx: GPA, r8: 1 })).toMatchObject({ name: 'TDX_TD_NON_DEBUG', r8: 0n });
    expect(td.call(MEM_WR, { rcx: GPA, r8: 1 }).name).toBe('TDX_TD_NON_DEBUG');
  });

  it('aligned, private, mapped', () => {
    td.tdcs.set('ATTRIBUTES', 1n);
    td.aug(GPA);
    expect(td.call(MEM_RD, { rcx: GPA + 4 }).name).toBe('TDX_OPERAND_INVALID 0x1');
    expect(td.call(MEM_RD, { rcx: 2 ** 47 }).name).toBe('TDX_OPERAND_INVALID 0x1');
    expect(td.call(MEM_RD, { rcx: GPA })).toMatchObject({ name: 'TDX_EPT_ENTRY_NOT_PRESENT 0x1', rdx: 0x200n });
    expect(td.call(MEM_RD, { rcx: 0 }).name).toBe('TDX_EPT_ENTRY_NOT_PRESENT 0x1');
  });
});

describe('A Secure EPT table that somebody overwrites', () => {
  it('costs the TD its life, not the module', () => {
    const other = platform.td();
    td.add(GPA);
    other.add(GPA);
    const table = Number((platform.keyed.read64(td.tdcs.pages[3]!, td.hkid) >> 12n) & 0x3_ffff_ffffn) * 4096;
    platform.keyed.write64(table, 0, 0x407n);
    expect(td.call(SEPT_RD, { rcx: GPA }).name).toBe('TDX_TD_FATAL');
    expect(td.call(REMOVE, { rcx: GPA }).name).toBe('TDX_TD_FATAL');
    expect(other.entry(GPA).state).toBe(MAPPED);
  });
});

describe('Operation states', () => {
  it.each([
    [PAGE_ADD, [1]],
    [SEPT_ADD, [1, 2, 3, 6, 7, 8, 9]],
    [AUG, [1, 2, 3, 9]],
    [BLOCK, [1, 2, 3, 4, 5, 8, 9]],
    [UNBLOCK, [1, 2, 3, 4, 5, 8, 9]],
    [REMOVE, [1, 2, 3, 4, 5, 8, 9, 10]],
    [RELOCATE, [1, 2, 3, 4, 5, 8, 9]],
    [DEMOTE, [1, 2, 3, 4, 5, 8, 9]],
    [PROMOTE, [1, 2, 3, 4, 5, 8, 9]],
    [SEPT_REMOVE, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]],
    [SEPT_RD, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]],
  ])('leaf %i runs in %j', (leaf, allowed) => {
    const states = Object.values(OP_STATE).filter((state) => {
      td.tdcs.set('OP_STATE', state);
      return td.call(leaf, { rcx: 7 }).name !== 'TDX_OP_STATE_INCORRECT';
    });
    expect(states).toEqual(allowed);
  });
});
