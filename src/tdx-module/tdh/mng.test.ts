import { describe, expect, test } from 'vitest';
import { KEYID_SHIFT, withKeyId } from '../../machine/seam/key-id.ts';
import { LIFECYCLE } from '../objects/tdr.ts';
import { BUFFER, MIB, type Operands, OUTSIDE, PAMT, TestHost } from '../testing/test-host.ts';
import { CACHE_PARTS } from './phymem-cache-wb.ts';

const ADDCX = 1;
const KEY_CONFIG = 8;
const CREATE = 9;
const VPFLUSHDONE = 19;
const KEY_FREEID = 20;
const INIT = 21;
const RDMD = 24;
const RECLAIMID = 27;
const RECLAIM = 28;
const CACHE_WB = 40;
const PAGE_WBINVD = 41;
const HKID = 33;
const FREE = 0;
const ASSIGNED = 1;
const FLUSHED = 2;

/** A TD after MNG.CREATE. */
function created(host = new TestHost().ready(), hkid = HKID): { host: TestHost; tdr: number } {
  const tdr = host.page();
  host.expect(CREATE, { rcx: tdr, rdx: hkid });
  return { host, tdr };
}
/** A TD with its key. */
function keyed(host?: TestHost, hkid?: number): { host: TestHost; tdr: number } {
  const td = created(host, hkid);
  td.host.expect(KEY_CONFIG, { rcx: td.tdr });
  return td;
}

/** Somebody else holds a lock. */
function holding(host: TestHost, kind: string, id: number, leaf: number, operands: Operands): string {
  host.module.hooks.lockHeld = (k, i) => k === kind && i === id;
  const name = host.status(leaf, operands);
  delete host.module.hooks.lockHeld;
  return name;
}

/** What every leaf says of a TDR operand, in order. */
function tdrOperand(leaf: number, register: 'rcx' | 'rdx', operands: Operands = {}): void {
  const { host, tdr } = keyed();
  const id = register === 'rcx' ? '0x1' : '0x2';
  const say = (pa: bigint | number): string => host.status(leaf, { ...operands, [register]: pa });
  expect(say(tdr + 8)).toBe(`TDX_OPERAND_INVALID ${id}`);
  expect(say(withKeyId(tdr, HKID))).toBe(`TDX_OPERAND_INVALID ${id}`);
  expect(say(withKeyId(tdr, 1))).toBe(`TDX_OPERAND_INVALID ${id}`);
  expect(say(1n << 52n)).toBe(`TDX_OPERAND_INVALID ${id}`);
  expect(say(OUTSIDE)).toBe(`TDX_OPERAND_ADDR_RANGE_ERROR ${id}`);
  expect(say(PAMT)).toBe(`TDX_PAGE_METADATA_INCORRECT ${id}`);
  expect(holding(host, 'pamt4k', tdr, leaf, { ...operands, [register]: tdr })).toBe(`TDX_OPERAND_BUSY ${id}`);
  expect(say(host.page())).toBe(`TDX_PAGE_METADATA_INCORRECT ${id}`);
}

describe('TDH.MNG.CREATE', () => {
  test('makes a free page a TDR: zeros under the global key, HKID assigned, a UUID', () => {
    const host = new TestHost().ready();
    const tdr = host.page();
    host.memory.fill(tdr, 4096, 0xaa);
    expect(host.status(CREATE, { rcx: tdr, rdx: HKID })).toBe('TDX_SUCCESS');
    expect(host.memory.keyed.ownerOf(tdr)).toBe(32);
    expect(host.memory.read64(tdr)).toBe(0n);
    expect(host.module.kot.entries[HKID]!.state).toBe(ASSIGNED);
    const td = host.module.tdrAt(tdr);
    expect([td.hkid, td.lifecycle, td.get('CHLDCNT')]).toEqual([HKID, LIFECYCLE.HKID_ASSIGNED, 0n]);
    expect(host.memory.keyed.read16(tdr + 0x100, 32)).toBe(HKID);
    expect(host.memory.keyed.readBytes(tdr + 0x60, 32, 32)).toEqual(td.bytes('TD_UUID'));
    expect(td.get('TD_UUID')).not.toBe(0n);
    const { rcx, rdx, r8 } = host.expect(RDMD, { rcx: tdr });
    expect([rcx, rdx, r8]).toEqual([4n, 0n, 0n]);
  });

  test('errors in order: HKID, page, KOT, HKID in use, entropy', () => {
    const { host, tdr } = created();
    for (const rdx of [0, 31, 64, 0x1_0021])
      expect(host.status(CREATE, { rcx: 1, rdx })).toBe('TDX_OPERAND_INVALID 0x2');
    expect(host.status(CREATE, { rcx: 1, rdx: HKID })).toBe('TDX_OPERAND_INVALID 0x1');
    expect(host.status(CREATE, { rcx: OUTSIDE, rdx: HKID })).toBe('TDX_OPERAND_ADDR_RANGE_ERROR 0x1');
    expect(host.status(CREATE, { rcx: tdr, rdx: HKID })).toBe('TDX_PAGE_METADATA_INCORRECT 0x1');
    const page = host.page();
    expect(holding(host, 'pamt4k', page, CREATE, { rcx: page, rdx: HKID })).toBe('TDX_OPERAND_BUSY 0x1');
    expect(holding(host, 'kot', 0, CREATE, { rcx: page, rdx: HKID })).toBe('TDX_OPERAND_BUSY 0xba');
    expect(host.status(CREATE, { rcx: page, rdx: HKID })).toBe('TDX_HKID_NOT_FREE');
    expect(host.status(CREATE, { rcx: page, rdx: 32 })).toBe('TDX_HKID_NOT_FREE');
    expect(holding(host, 'entropy', 0, CREATE, { rcx: page, rdx: 34 })).toBe('TDX_RND_NO_ENTROPY');
    expect(host.status(CREATE, { rcx: page, rdx: 34 })).toBe('TDX_SUCCESS');
  });

  test('a failed call changes nothing', () => {
    const { host } = created();
    const page = host.page();
    host.memory.write64(page, 7n);
    host.status(CREATE, { rcx: page, rdx: HKID });
    expect(host.memory.read64(page)).toBe(7n);
    expect(host.expect(RDMD, { rcx: page }).rcx).toBe(0n);
  });

  test('a machine with few KeyIDs has no more TDs than those', () => {
    const host = new TestHost(1, 2).ready();
    expect(host.status(CREATE, { rcx: host.page(), rdx: 33 })).toBe('TDX_SUCCESS');
    expect(host.status(CREATE, { rcx: host.page(), rdx: 34 })).toBe('TDX_OPERAND_INVALID 0x2');
  });
});

describe('TDH.MNG.KEY.CONFIG', () => {
  test('TDR operand', () => tdrOperand(KEY_CONFIG, 'rcx'));

  test('configures the key once per package', () => {
    const { host, tdr } = created();
    const td = host.module.tdrAt(tdr);
    expect(holding(host, 'ket', 0, KEY_CONFIG, { rcx: tdr })).toBe('TDX_OPERAND_BUSY 0xbb');
    expect(holding(host, 'entropy', 0, KEY_CONFIG, { rcx: tdr })).toBe('TDX_KEY_GENERATION_FAILED');
    expect(td.lifecycle).toBe(LIFECYCLE.HKID_ASSIGNED);
    expect(host.status(KEY_CONFIG, { rcx: tdr })).toBe('TDX_SUCCESS');
    expect(td.lifecycle).toBe(LIFECYCLE.KEYS_CONFIGURED);
    expect(host.status(KEY_CONFIG, { rcx: tdr })).toBe('TDX_LIFECYCLE_STATE_INCORRECT');
  });

  test('with a second package the first is told that it has the key', () => {
    const { host, tdr } = created();
    Object.defineProperty(host.module.platform, 'packages', { value: 2 });
    expect(host.status(KEY_CONFIG, { rcx: tdr })).toBe('TDX_SUCCESS');
    expect(host.module.tdrAt(tdr).lifecycle).toBe(LIFECYCLE.HKID_ASSIGNED);
    expect(host.status(KEY_CONFIG, { rcx: tdr })).toBe('TDX_KEY_CONFIGURED');
  });

  test('not of a dead TD', () => {
    const { host, tdr } = created();
    host.module.tdrAt(tdr).setFatal();
    expect(host.status(KEY_CONFIG, { rcx: tdr })).toBe('TDX_TD_FATAL');
  });
});

describe('TDH.MNG.ADDCX', () => {
  test('TDR operand', () => tdrOperand(ADDCX, 'rdx'));

  test('six pages make a TDCS, with MSR bitmaps all ones and a free S-EPT root', () => {
    const { host, tdr } = keyed();
    const pages = Array.from({ length: 6 }, () => host.page());
    for (const page of pages) expect(host.status(ADDCX, { rcx: page, rdx: tdr })).toBe('TDX_SUCCESS');
    const { keyed: memory } = host.memory;
    const words = pages.map((page) => memory.read64(page, HKID));
    expect(words[0]).toBe(0n);
    expect(words[2]).toBe(0xffff_ffff_ffff_ffffn);
    expect(words[3]! >> 63n).toBe(1n);
    expect(words[4]).toBe(0n);
    const td = host.module.tdrAt(tdr);
    expect([td.num('NUM_TDCX'), td.get('CHLDCNT'), td.num('TDCX_PA', 2)]).toEqual([6, 6n, withKeyId(pages[2]!, HKID)]);
    expect(host.expect(RDMD, { rcx: pages[0]! })).toMatchObject({ rcx: 5n, rdx: BigInt(tdr) });
    for (const page of pages) expect(memory.ownerOf(page)).toBe(HKID);
  });

  test('errors in order: state of the TD, number of pages, page', () => {
    const { host, tdr } = created();
    expect(host.status(ADDCX, { rcx: 1, rdx: tdr })).toBe('TDX_TD_KEYS_NOT_CONFIGURED');
    host.expect(KEY_CONFIG, { rcx: tdr });
    expect(host.status(ADDCX, { rcx: 1, rdx: tdr })).toBe('TDX_OPERAND_INVALID 0x1');
    expect(host.status(ADDCX, { rcx: OUTSIDE, rdx: tdr })).toBe('TDX_OPERAND_ADDR_RANGE_ERROR 0x1');
    // The TDR's own page is locked by the call.
    expect(host.status(ADDCX, { rcx: tdr, rdx: tdr })).toBe('TDX_OPERAND_BUSY 0x1');
    const page = host.page();
    host.expect(ADDCX, { rcx: page, rdx: tdr });
    expect(host.status(ADDCX, { rcx: page, rdx: tdr })).toBe('TDX_PAGE_METADATA_INCORRECT 0x1');
    for (let i = 1; i < 5; i++) host.expect(ADDCX, { rcx: host.page(), rdx: tdr });
    expect(holding(host, 'entropy', 0, ADDCX, { rcx: host.page(), rdx: tdr })).toBe('TDX_RND_NO_ENTROPY');
    for (let i = 5; i < 9; i++) host.expect(ADDCX, { rcx: host.page(), rdx: tdr });
    expect(host.status(ADDCX, { rcx: host.page(), rdx: tdr })).toBe('TDX_TDCX_NUM_INCORRECT');
    host.module.tdrAt(tdr).setFatal();
    expect(host.status(ADDCX, { rcx: 1, rdx: tdr })).toBe('TDX_TD_FATAL');
  });

  test('no page for a TD that is initialised', () => {
    const { host, tdr } = keyed();
    for (let i = 0; i < 6; i++) host.expect(ADDCX, { rcx: host.page(), rdx: tdr });
    host.tdParams(BUFFER);
    host.expect(INIT, { rcx: tdr, rdx: BUFFER });
    expect(host.status(ADDCX, { rcx: host.page(), rdx: tdr })).toBe('TDX_OP_STATE_INCORRECT');
  });
});

describe('The end of a TD', () => {
  test('TDR operands', () => {
    tdrOperand(VPFLUSHDONE, 'rcx');
    tdrOperand(KEY_FREEID, 'rcx');
  });

  test('VPFLUSHDONE, CACHE.WB, KEY.FREEID, RECLAIM: in this order only', () => {
    const { host, tdr } = keyed();
    const page = host.page();
    host.expect(ADDCX, { rcx: page, rdx: tdr });
    const td = host.module.tdrAt(tdr);
    const key = host.module.kot.entries[HKID]!;
    expect(host.status(RECLAIM, { rcx: page })).toBe('TDX_LIFECYCLE_STATE_INCORRECT');
    expect(host.status(KEY_FREEID, { rcx: tdr })).toBe('TDX_LIFECYCLE_STATE_INCORRECT');
    expect(host.status(CACHE_WB)).toBe('TDX_NO_HKID_READY_TO_WBCACHE');
    expect(holding(host, 'kot', 0, VPFLUSHDONE, { rcx: tdr })).toBe('TDX_OPERAND_BUSY 0xba');
    expect(host.status(VPFLUSHDONE, { rcx: tdr })).toBe('TDX_SUCCESS');
    expect([td.lifecycle, key.state, key.writeBack]).toEqual([LIFECYCLE.BLOCKED, FLUSHED, 1n]);
    expect(host.status(VPFLUSHDONE, { rcx: tdr })).toBe('TDX_LIFECYCLE_STATE_INCORRECT');
    expect(host.status(ADDCX, { rcx: host.page(), rdx: tdr })).toBe('TDX_TD_KEYS_NOT_CONFIGURED');
    expect(host.status(KEY_FREEID, { rcx: tdr })).toBe('TDX_WBCACHE_NOT_COMPLETE');
    expect(host.status(CREATE, { rcx: host.page(), rdx: HKID })).toBe('TDX_HKID_NOT_FREE');
    expect(host.status(CACHE_WB)).toBe('TDX_SUCCESS');
    expect(host.status(RECLAIM, { rcx: page })).toBe('TDX_LIFECYCLE_STATE_INCORRECT');
    expect(holding(host, 'kot', 0, KEY_FREEID, { rcx: tdr })).toBe('TDX_OPERAND_BUSY 0xba');
    expect(host.status(KEY_FREEID, { rcx: tdr })).toBe('TDX_SUCCESS');
    expect([td.lifecycle, key.state]).toEqual([LIFECYCLE.TEARDOWN, FREE]);
    expect(host.status(RECLAIM, { rcx: tdr })).toBe('TDX_TD_ASSOCIATED_PAGES_EXIST');
    expect(host.status(PAGE_WBINVD, { rcx: withKeyId(page, HKID) })).toBe('TDX_PAGE_METADATA_INCORRECT 0x1');
    expect(host.call(RECLAIM, { rcx: page })).toMatchObject({ name: 'TDX_SUCCESS', rcx: 5n, rdx: BigInt(tdr), r8: 0n });
    expect(host.call(RECLAIM, { rcx: tdr })).toMatchObject({ name: 'TDX_SUCCESS', rcx: 4n, rdx: 0n });
    expect(host.status(PAGE_WBINVD, { rcx: withKeyId(tdr, 32) })).toBe('TDX_SUCCESS');
    expect([...host.module.tds]).toEqual([]);
    // The same pages and HKID serve another TD.
    host.expect(CREATE, { rcx: tdr, rdx: HKID });
    host.expect(KEY_CONFIG, { rcx: tdr });
    host.expect(ADDCX, { rcx: page, rdx: tdr });
  });

  test('a TD whose HKID was never configured ends the same way', () => {
    const { host, tdr } = created();
    host.expect(VPFLUSHDONE, { rcx: tdr });
    host.expect(CACHE_WB);
    host.expect(KEY_FREEID, { rcx: tdr });
    host.expect(RECLAIM, { rcx: tdr });
  });

  test('VPFLUSHDONE waits for virtual processors that are on a processor', () => {
    const { host, tdr } = keyed();
    for (let i = 0; i < 6; i++) host.expect(ADDCX, { rcx: host.page(), rdx: tdr });
    host.tdParams(BUFFER);
    host.expect(INIT, { rcx: tdr, rdx: BUFFER });
    const { tdcs } = host.module.tdrAt(tdr);
    tdcs.set('NUM_ASSOC_VCPUS', 1);
    expect(host.status(VPFLUSHDONE, { rcx: tdr })).toBe('TDX_FLUSHVP_NOT_DONE');
    tdcs.set('NUM_ASSOC_VCPUS', 0);
    expect(host.status(VPFLUSHDONE, { rcx: tdr })).toBe('TDX_SUCCESS');
  });

  test('TDH.MNG.KEY.RECLAIMID does nothing', () => {
    const { host, tdr } = keyed();
    expect(host.status(RECLAIMID, { rcx: tdr })).toBe('TDX_SUCCESS');
    expect(host.module.tdrAt(tdr).lifecycle).toBe(LIFECYCLE.KEYS_CONFIGURED);
  });
});

describe('TDH.PHYMEM.CACHE.WB', () => {
  test('operands and locks', () => {
    const { host, tdr } = keyed();
    expect(host.status(CACHE_WB, { rcx: 2 })).toBe('TDX_OPERAND_INVALID 0x1');
    expect(holding(host, 'wbcache', 0, CACHE_WB, {})).toBe('TDX_OPERAND_BUSY 0xbc');
    expect(holding(host, 'kot', 0, CACHE_WB, {})).toBe('TDX_OPERAND_BUSY 0xba');
    expect(host.status(CACHE_WB, { rcx: 1 })).toBe('TDX_WBCACHE_RESUME_ERROR');
    host.expect(VPFLUSHDONE, { rcx: tdr });
    expect(host.status(CACHE_WB, { rcx: 1 })).toBe('TDX_WBCACHE_RESUME_ERROR');
  });

  test('an interrupted write-back is resumed, for the HKIDs it began with', () => {
    const { host, tdr } = keyed();
    const other = keyed(host, 40).tdr;
    host.expect(VPFLUSHDONE, { rcx: tdr });
    host.module.hooks.interruptPending = () => true;
    expect(host.status(CACHE_WB)).toBe('TDX_INTERRUPTED_RESUMABLE');
    expect(host.status(CACHE_WB, { rcx: 1 })).toBe('TDX_INTERRUPTED_RESUMABLE');
    host.expect(VPFLUSHDONE, { rcx: other });
    host.module.hooks.interruptPending = () => false;
    expect(host.status(CACHE_WB, { rcx: 1 })).toBe('TDX_SUCCESS');
    expect(host.status(CACHE_WB, { rcx: 1 })).toBe('TDX_WBCACHE_RESUME_ERROR');
    expect(host.status(KEY_FREEID, { rcx: tdr })).toBe('TDX_SUCCESS');
    expect(host.status(KEY_FREEID, { rcx: other })).toBe('TDX_WBCACHE_NOT_COMPLETE');
    expect(host.status(CACHE_WB, { rcx: 1 })).toBe('TDX_WBCACHE_RESUME_ERROR');
  });
});

describe('TDH.PHYMEM.CACHE.WB', () => {
  test('makes progress with every call, however many interrupts wait', () => {
    const { host, tdr } = keyed();
    host.expect(VPFLUSHDONE, { rcx: tdr });
    const { apic } = host.machine.processors[0]!;
    Object.defineProperty(apic, 'interruptPending', { value: true });
    expect(host.status(CACHE_WB)).toBe('TDX_INTERRUPTED_RESUMABLE');
    for (let part = 2; part < CACHE_PARTS; part++) {
      expect(host.status(CACHE_WB, { rcx: 1 })).toBe('TDX_INTERRUPTED_RESUMABLE');
    }
    expect(host.status(CACHE_WB, { rcx: 1 })).toBe('TDX_SUCCESS');
    expect(host.status(KEY_FREEID, { rcx: tdr })).toBe('TDX_SUCCESS');
  });
});

describe('TDH.PHYMEM.PAGE.RDMD, RECLAIM, WBINVD', () => {
  const leaves = [RDMD, RECLAIM];

  test('page operand', () => {
    const { host, tdr } = keyed();
    for (const leaf of leaves) {
      expect(host.status(leaf, { rcx: tdr + 1 })).toBe('TDX_OPERAND_INVALID 0x1');
      expect(host.status(leaf, { rcx: withKeyId(tdr, HKID) })).toBe('TDX_OPERAND_INVALID 0x1');
      expect(host.status(leaf, { rcx: OUTSIDE })).toBe('TDX_OPERAND_ADDR_RANGE_ERROR 0x1');
      expect(holding(host, 'pamt4k', tdr, leaf, { rcx: tdr })).toBe('TDX_OPERAND_BUSY 0x1');
    }
    expect(host.status(RECLAIM, { rcx: host.page() })).toBe('TDX_PAGE_METADATA_INCORRECT 0x1');
  });

  test('a reserved page is described as one, and is nobody’s to reclaim', () => {
    const { host } = keyed();
    expect(host.expect(RDMD, { rcx: PAMT })).toMatchObject({ rcx: 1n, rdx: 0n, r8: 0n, r9: 0n });
    expect(host.status(RECLAIM, { rcx: PAMT })).toBe('TDX_PAGE_METADATA_INCORRECT 0x1');
  });

  test('a page that was given back is described with its last owner', () => {
    const { host, tdr } = keyed();
    const page = host.page();
    host.expect(ADDCX, { rcx: page, rdx: tdr });
    host.expect(VPFLUSHDONE, { rcx: tdr });
    host.expect(CACHE_WB);
    host.expect(KEY_FREEID, { rcx: tdr });
    host.expect(RECLAIM, { rcx: page });
    expect(host.expect(RDMD, { rcx: page })).toMatchObject({ rcx: 0n, rdx: BigInt(tdr), r8: 0n });
  });

  test('PAGE.WBINVD takes a page with any HKID, of nobody', () => {
    const { host, tdr } = keyed();
    const page = host.page();
    for (const hkid of [0, 5, 33, 63])
      expect(host.status(PAGE_WBINVD, { rcx: withKeyId(page, hkid) })).toBe('TDX_SUCCESS');
    expect(host.status(PAGE_WBINVD, { rcx: page + 1 })).toBe('TDX_OPERAND_INVALID 0x1');
    expect(host.status(PAGE_WBINVD, { rcx: 1n << 52n })).toBe('TDX_OPERAND_INVALID 0x1');
    expect(host.status(PAGE_WBINVD, { rcx: OUTSIDE })).toBe('TDX_OPERAND_ADDR_RANGE_ERROR 0x1');
    expect(host.status(PAGE_WBINVD, { rcx: tdr })).toBe('TDX_PAGE_METADATA_INCORRECT 0x1');
    expect(holding(host, 'pamt4k', page, PAGE_WBINVD, { rcx: page })).toBe('TDX_OPERAND_BUSY 0x1');
  });

  test('a page of a TD is not reclaimed while its TDR is locked; a large one by its first byte only', () => {
    const { host, tdr } = keyed();
    const page = 4 * MIB;
    const { pamt } = host.module;
    pamt.entry(page, 1)!.assign(3, tdr);
    host.module.tdrAt(tdr).addChildren(512);
    expect(host.expect(RDMD, { rcx: page + 4096 })).toMatchObject({ rcx: 3n, r8: 1n });
    host.expect(VPFLUSHDONE, { rcx: tdr });
    host.expect(CACHE_WB);
    host.expect(KEY_FREEID, { rcx: tdr });
    expect(host.status(RECLAIM, { rcx: page + 4096 })).toBe('TDX_OPERAND_INVALID 0x1');
    expect(holding(host, 'pamt4k', tdr, RECLAIM, { rcx: page })).toBe('TDX_OPERAND_BUSY 0x80');
    expect(host.expect(RECLAIM, { rcx: page })).toMatchObject({ rcx: 3n, r8: 1n });
    expect(host.module.tdrAt(tdr).get('CHLDCNT')).toBe(0n);
    expect(host.expect(RDMD, { rcx: page })).toMatchObject({ rcx: 0n, r8: 0n });
    expect(host.module.pamt.entry(page, 1)).toMatchObject({ pageType: 0, owner: tdr });
  });
});

describe('A host that writes to the module memory', () => {
  test('over a TDR: the TD is dead, and can still be torn down; others go on', () => {
    const { host, tdr } = keyed();
    const other = keyed(host, 50).tdr;
    host.memory.write64(tdr + 0x10, 3n);
    expect(host.status(ADDCX, { rcx: host.page(), rdx: tdr })).toBe('TDX_TD_FATAL');
    host.expect(ADDCX, { rcx: host.page(), rdx: other });
    host.expect(VPFLUSHDONE, { rcx: tdr });
    host.expect(CACHE_WB);
    host.expect(KEY_FREEID, { rcx: tdr });
    host.expect(RECLAIM, { rcx: tdr });
  });

  test('over a TDCS page: the TD is dead', () => {
    const { host, tdr } = keyed();
    const page = host.page();
    host.expect(ADDCX, { rcx: page, rdx: tdr });
    host.memory.write8(page + 100, 1);
    expect(host.status(ADDCX, { rcx: host.page(), rdx: tdr })).toBe('TDX_TD_FATAL');
  });

  test('over the PAMT: what it described is not used any more', () => {
    const { host, tdr } = keyed();
    host.memory.write64(PAMT + (tdr / 4096) * 16, 0n);
    expect(host.status(ADDCX, { rcx: host.page(), rdx: tdr })).toBe('TDX_OPERAND_ADDR_RANGE_ERROR 0x2');
    expect(host.status(CREATE, { rcx: tdr, rdx: 40 })).toBe('TDX_OPERAND_ADDR_RANGE_ERROR 0x1');
    expect(host.status(CREATE, { rcx: 8 * MIB, rdx: 40 })).toBe('TDX_SUCCESS');
  });

  test('private KeyIDs are above the shift', () => expect(withKeyId(0, HKID)).toBe(HKID * 2 ** KEYID_SHIFT));
});
