import { beforeEach, describe, expect, it } from 'vitest';
import { type Result, TestPlatform, type TestTd } from '../tdh/test-td.ts';
import { Call } from './call.ts';
import { acceptPage, type GuestAccess, guestAccess } from './sept-guest.ts';
import { TD_CTLS } from './tdcs.ts';

const GPA = 0x40_0000;
const BLOCK = 7;
const MAPPED = 4;
const PENDING = 2;
const READ = 1;
const WRITE = 2;
const ACCEPT = 1n;

let platform: TestPlatform;
let td: TestTd;
beforeEach(() => {
  platform = new TestPlatform(1);
  td = platform.td();
});

const access = (gpa = GPA, need = READ): GuestAccess => guestAccess(td.tdcs, gpa, need);
const block = (gpa: number): Result => td.call(BLOCK, { rcx: gpa });

/** TDG.MEM.PAGE.ACCEPT's part, as if the TD had called. */
function accept(gpa: number, level = 0): ReturnType<typeof acceptPage> {
  const call = new Call(platform.module, platform.machine.processors[0]!);
  const result = acceptPage(call, td.tdcs, gpa, level);
  platform.module.locks.releaseAll();
  return result;
}
const statusOf = (result: ReturnType<typeof acceptPage>): bigint | null =>
  result.kind === 'status' ? result.status : null;

describe('Guest access to private memory', () => {
  it('a mapped page: its address, and everything allowed', () => {
    const page = td.add(GPA);
    expect(access(GPA + 0x123, WRITE)).toEqual({ kind: 'mapped', hpa: page + 0x123, level: 0, rights: 7 });
  });

  it('a page that waits for acceptance: #VE, or with PENDING_VE_DISABLE a TD exit that says so', () => {
    td.aug(GPA);
    expect(access()).toEqual({ kind: 've', rights: 0 });
    td.tdcs.set('TD_CTLS', TD_CTLS.PENDING_VE_DISABLE);
    expect(access()).toEqual({ kind: 'exit', extended: 6n, rights: 0 });
  });

  it('nothing there, or blocked at any level: TD exit', () => {
    const exit = { kind: 'exit', extended: 0n, rights: 0 };
    expect(access()).toEqual(exit);
    td.add(GPA);
    block(GPA);
    expect(access()).toEqual(exit);
    td.aug(GPA + 0x1000);
    block(GPA + 0x1000);
    expect(access(GPA + 0x1000)).toEqual(exit);
    td.add(GPA + 0x20_0000);
    block(GPA + 0x20_0001);
    expect(access(GPA + 0x20_0000)).toEqual(exit);
  });

  it('inside of a large page', () => {
    const page = td.aug(GPA, 1);
    accept(GPA, 1);
    expect(access(GPA + 0x12_3456)).toMatchObject({ kind: 'mapped', hpa: page + 0x12_3456, level: 1 });
  });

  it('a table that is not the TD’s any more is a machine check', () => {
    td.add(GPA);
    platform.keyed.write64(td.tdcs.pages[3]!, 0, 7n);
    expect(access()).toEqual({ kind: 'machine-check' });
    expect(accept(GPA)).toEqual({ kind: 'machine-check' });
  });
});

describe('Acceptance of a page', () => {
  it('gives zeros, whatever the host left there', () => {
    td.tables(GPA);
    const page = platform.page();
    platform.keyed.fill(page, 0, 4096, 0xee);
    td.call(6, { rcx: GPA, r8: page });
    expect(statusOf(accept(GPA))).toBe(0n);
    expect(td.entry(GPA).state).toBe(MAPPED);
    expect(platform.keyed.ownerOf(page)).toBe(td.hkid);
    expect(platform.keyed.readBytes(page, td.hkid, 4096).every((byte) => byte === 0)).toBe(true);
  });

  it('2 MiB at once', () => {
    const page = td.aug(GPA, 1);
    expect(statusOf(accept(GPA, 1))).toBe(0n);
    expect(td.entry(GPA, 1).state).toBe(MAPPED);
    for (const i of [0, 300, 511]) expect(platform.keyed.ownerOf(page + i * 4096)).toBe(td.hkid);
  });

  it('2 MiB with interrupts: a part at a time, from where it stopped', () => {
    const page = td.aug(GPA, 1);
    const before = td.entry(GPA, 1);
    let asked = 0;
    platform.module.hooks.interruptPending = () => ++asked % 200 === 0;
    expect(accept(GPA, 1)).toEqual({ kind: 'interrupted' });
    expect(platform.keyed.ownerOf(page + 199 * 4096)).toBe(td.hkid);
    expect(platform.keyed.ownerOf(page + 200 * 4096)).toBe(0);
    // The host sees nothing of it.
    expect(td.entry(GPA, 1)).toEqual(before);
    platform.keyed.write64(page, td.hkid, 5n);
    expect(accept(GPA, 1)).toEqual({ kind: 'interrupted' });
    expect(statusOf(accept(GPA, 1))).toBe(0n);
    expect(td.entry(GPA, 1).state).toBe(MAPPED);
    expect(access(GPA + 0x12_3456)).toMatchObject({ kind: 'mapped', hpa: page + 0x12_3456 });
    // What was done was not done again.
    expect(platform.keyed.read64(page, td.hkid)).toBe(5n);
  });

  it('twice: success that says so, with the level', () => {
    td.aug(GPA);
    accept(GPA);
    expect(statusOf(accept(GPA))).toBe(0x0000_0b0a_0000_0000n);
    td.aug(GPA + 0x20_0000, 1);
    accept(GPA + 0x20_0000, 1);
    expect(statusOf(accept(GPA + 0x20_1000))).toBe(0x0000_0b0a_0000_0001n);
  });

  it('2 MiB where there are small pages: size mismatch, with the level', () => {
    td.aug(GPA);
    expect(statusOf(accept(GPA, 1))).toBe(0xc000_0b0b_0000_0001n);
    expect(td.entry(GPA).state).toBe(PENDING);
  });

  it('nothing to accept: TD exit that tells what was asked and found', () => {
    const detail = (requested: number, level: number, state: number, leaf: number): bigint =>
      ACCEPT | (BigInt(requested | (level << 3) | (state << 6) | (leaf << 14)) << 32n);
    expect(accept(GPA)).toEqual({ kind: 'exit', extended: detail(0, 3, 0, 0) });
    td.tables(GPA);
    expect(accept(GPA)).toEqual({ kind: 'exit', extended: detail(0, 0, 0, 0) });
    expect(accept(GPA + 0x20_0000, 1)).toEqual({ kind: 'exit', extended: detail(1, 1, 0, 0) });
    td.aug(GPA);
    block(GPA);
    expect(accept(GPA)).toEqual({ kind: 'exit', extended: detail(0, 0, 3, 1) });
    td.aug(GPA + 0x20_0000, 1);
    expect(accept(GPA + 0x20_0000)).toEqual({ kind: 'exit', extended: detail(0, 1, 2, 1) });
  });

  it('the entry is busy, or the host waits for it', () => {
    td.aug(GPA);
    expect(statusOf(platform.holding('sept_entry', GPA, () => accept(GPA)))).toBe(0x8000_0200_0000_0001n);
    // the host finds the guest in the entry; from then on the guest must let it go first
    expect(platform.holding('sept_entry', GPA, () => block(GPA)).name).toBe('TDX_OPERAND_BUSY 0x1');
    expect(statusOf(accept(GPA))).toBe(0x8000_0204_0000_0001n);
    expect(block(GPA).name).toBe('TDX_SUCCESS');
    expect(td.call(39, { rcx: GPA }).name).toBe('TDX_SUCCESS');
    expect(statusOf(accept(GPA))).toBe(0n);
  });
});
