/**
 * A small model of what a TDX module keeps: pages, keys, TDs, Secure EPTs, virtual processors. It shares nothing with the
 * module; each call says what the module must answer, and changes the model if the answer is success.
 */

export type PageType = 'NDA' | 'RSVD' | 'REG' | 'TDR' | 'TDCX' | 'TDVPR' | 'EPT';
/** The numbers of page types, as TDH.PHYMEM.PAGE.RDMD tells them. */
export const PAGE_TYPE: Readonly<Record<PageType, number>> = {
  NDA: 0,
  RSVD: 1,
  REG: 3,
  TDR: 4,
  TDCX: 5,
  TDVPR: 6,
  EPT: 8,
};

export type EntryState = 'FREE' | 'NL_MAPPED' | 'NL_BLOCKED' | 'MAPPED' | 'BLOCKED' | 'PENDING' | 'PENDING_BLOCKED';
/** The numbers of states, as the host is told them. */
export const ENTRY_STATE: Readonly<Record<EntryState, number>> = {
  FREE: 0,
  BLOCKED: 1,
  PENDING: 2,
  PENDING_BLOCKED: 3,
  MAPPED: 4,
  NL_BLOCKED: 129,
  NL_MAPPED: 132,
};

interface Page {
  type: PageType;
  owner: number;
  size: 0 | 1;
  bepoch: number;
}

interface Entry {
  state: EntryState;
  /** Page or table. */
  target: number;
  table?: Map<number, Entry>;
  /** The host waits for the entry. */
  priority?: boolean;
}

interface Td {
  readonly pa: number;
  readonly hkid: number;
  life: 'assigned' | 'keys' | 'blocked' | 'teardown';
  tdcx: number;
  op: 'uninitialized' | 'initialized' | 'runnable';
  children: number;
  readonly root: Map<number, Entry>;
  epoch: number;
  /** Virtual processors inside, by parity of the epoch of their entry. */
  readonly inside: [number, number];
  vcpus: number;
  associated: number;
}

interface Vp {
  readonly td: Td;
  pages: number;
  ready: boolean;
  lp: number | null;
  index: number;
  /** Entries, which all end at its first instruction, whose page is not there. */
  faults: number;
}

/** What the TDMRs say of an address. */
export type Memory = 'usable' | 'reserved' | 'outside';

/** A check failed. */
class Failure {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}
const fail = (name: string, operand?: number): never => {
  throw new Failure(operand ? `TDX_${name} 0x${operand.toString(16)}` : `TDX_${name}`);
};

const RCX = 1;
const RDX = 2;
const R8 = 8;
const R9 = 9;
const TDR = 128;
const SEPT_TREE = 146;
const TD_EPOCH = 169;
const OP_STATE = 172;
const KOT = 186;
const MIB2 = 0x20_0000;
const GIB = 0x4000_0000;
const TOP = 3;
const MAX_VCPUS = 2;
const sizeOf = (level: number): number => 2 ** (12 + 9 * level);

export class Model {
  readonly small: Map<number, Page> = new Map();
  readonly large: Map<number, Page> = new Map();
  readonly hkids: Map<number, 'assigned' | 'flushed' | 'written'> = new Map();
  readonly tds: Map<number, Td> = new Map();
  readonly vps: Map<number, Vp> = new Map();
  readonly #privateHkids: (hkid: number) => boolean;
  readonly #memory: (pa: number) => Memory;
  /** A lock that somebody else holds. */
  held: string | null = null;
  #own: Map<string, 'shared' | 'exclusive'> = new Map();

  /**
   * @param privateHkids which HKIDs TDs may have
   * @param memory which pages a TDMR covers
   */
  constructor(privateHkids: (hkid: number) => boolean, memory: (pa: number) => Memory) {
    this.#privateHkids = privateHkids;
    this.#memory = memory;
  }

  /** What the module answers to a call that the model carries out. */
  call(run: () => void): string {
    this.#own = new Map();
    try {
      run();
      return 'TDX_SUCCESS';
    } catch (error) {
      if (error instanceof Failure) return error.name;
      throw error;
    }
  }

  /** Page type, owner, size and epoch of blocking. What a page's last use left stays. */
  page(pa: number): Page {
    if (this.#isLarge(pa)) return this.large.get(pa - (pa % MIB2))!;
    const unused = this.#memory(pa) === 'reserved' ? 'RSVD' : 'NDA';
    return this.small.get(pa) ?? { type: unused, owner: 0, size: 0, bepoch: 0 };
  }
  #isLarge(pa: number): boolean {
    const large = this.large.get(pa - (pa % MIB2));
    return large !== undefined && large.type !== 'NDA';
  }

  // ---- checks

  #lock(kind: string, id: number, mode: 'shared' | 'exclusive'): boolean {
    const key = `${kind} ${id}`;
    if (this.held === key) return false;
    const own = this.#own.get(key);
    if (own !== undefined && (own === 'exclusive' || mode === 'exclusive')) return false;
    this.#own.set(key, mode);
    return true;
  }
  #lockPage(pa: number, operand: number, mode: 'shared' | 'exclusive', size: 0 | 1 = 0): void {
    if (pa % 4096 !== 0 || pa >= 2 ** 46) fail('OPERAND_INVALID', operand);
    if (this.#memory(pa) === 'outside') fail('OPERAND_ADDR_RANGE_ERROR', operand);
    const base = pa - (pa % MIB2);
    const large = size === 1 || this.#isLarge(pa);
    const locked =
      this.#lock('pamt1g', pa - (pa % GIB), 'shared') &&
      this.#lock('pamt2m', base, large ? mode : 'shared') &&
      (large || this.#lock('pamt4k', pa, mode));
    if (!locked) fail('OPERAND_BUSY', operand);
  }
  #tdr(pa: number, operand: number, mode: 'shared' | 'exclusive'): Td {
    this.#lockPage(pa, operand, mode);
    if (this.page(pa).type !== 'TDR') fail('PAGE_METADATA_INCORRECT', operand);
    return this.tds.get(pa)!;
  }
  #inState(td: Td, states: readonly Td['op'][], locked = true): void {
    if (td.life !== 'keys') fail('TD_KEYS_NOT_CONFIGURED');
    if (td.tdcx < 6) fail('TDCS_NOT_ALLOCATED');
    if (locked && !this.#lock('op_state', td.pa, 'shared')) fail('OPERAND_BUSY', OP_STATE);
    if (!states.includes(td.op)) fail('OP_STATE_INCORRECT');
  }
  #newPage(pa: number, operand: number, size: 0 | 1 = 0): void {
    if (pa % sizeOf(size) !== 0 || pa >= 2 ** 46) fail('OPERAND_INVALID', operand);
    this.#lockPage(pa, operand, 'exclusive', size);
    for (let page = pa; page < pa + sizeOf(size); page += 4096) {
      if (this.page(page).type !== 'NDA') fail('PAGE_METADATA_INCORRECT', operand);
    }
  }
  #vp(pa: number, operand: number, mode: 'shared' | 'exclusive'): Vp {
    this.#lockPage(pa, operand, mode);
    if (this.page(pa).type !== 'TDVPR') fail('PAGE_METADATA_INCORRECT', operand);
    const vp = this.vps.get(pa)!;
    if (!this.#lock('pamt4k', vp.td.pa, 'shared')) fail('OPERAND_BUSY', TDR);
    return vp;
  }

  /** The entry of a mapping operand. */
  #entry(td: Td, gpa: number, level: number, min: number, max: number, tree: 'shared' | 'exclusive' | null): Place {
    if (level < min || level > max || gpa % sizeOf(level) !== 0 || gpa >= 2 ** 47) fail('OPERAND_INVALID', RCX);
    if (tree !== null && !this.#lock('sept_tree', td.pa, tree)) fail('OPERAND_BUSY', SEPT_TREE);
    const place = this.walk(td, gpa, level);
    if (place.level !== level) fail('EPT_WALK_FAILED', RCX);
    const entry = place.table.get(place.index) ?? { state: 'FREE', target: 0 };
    if (tree !== null) {
      if (!this.#lock('sept_entry', gpa + level, 'exclusive')) {
        place.table.set(place.index, { ...entry, priority: true });
        fail('OPERAND_BUSY', RCX);
      }
      if (entry.priority) place.table.set(place.index, { ...entry, priority: false });
    }
    return place;
  }

  /** How far a walk comes. */
  walk(td: Td, gpa: number, level: number): Place {
    let table = td.root;
    for (let at = TOP; ; at--) {
      const index = Math.floor(gpa / sizeOf(at)) % 512;
      const entry = table.get(index) ?? { state: 'FREE' as const, target: 0 };
      if (at === level || entry.state !== 'NL_MAPPED') return { table, index, level: at, entry };
      table = entry.table!;
    }
  }

  #tracked(td: Td, { entry }: Place, bepoch: number): void {
    if (td.op !== 'runnable' || entry.state === 'FREE') return;
    if (!entry.state.endsWith('BLOCKED')) fail('GPA_RANGE_NOT_BLOCKED', RCX);
    const late = bepoch >= td.epoch || (bepoch === td.epoch - 1 && td.inside[bepoch % 2]! > 0);
    if (late) fail('TLB_TRACKING_NOT_DONE', RCX);
  }
  #allowed({ entry }: Place, ...states: EntryState[]): void {
    if (!states.includes(entry.state)) fail('EPT_ENTRY_STATE_INCORRECT', RCX);
  }
  #lockTarget({ entry, level }: Place): Page {
    const large = level === 1 && !entry.state.startsWith('NL');
    if (!this.#lock(large ? 'pamt2m' : 'pamt4k', entry.target, 'exclusive')) fail('OPERAND_BUSY', RCX);
    return this.#target(level, entry);
  }
  #target(level: number, entry: Entry): Page {
    const large = level === 1 && !entry.state.startsWith('NL');
    return (large ? this.large : this.small).get(entry.target)!;
  }

  // ---- changes

  #give(pa: number, type: PageType, owner: number, size: 0 | 1 = 0): void {
    (size === 1 ? this.large : this.small).set(pa, { type, owner, size, bepoch: 0 });
  }

  #free(pa: number, size: 0 | 1): void {
    const pages = size === 1 ? this.large : this.small;
    pages.set(pa, { ...pages.get(pa)!, type: 'NDA' });
  }

  // ---- TD life cycle

  create(pa: number, hkid: number): void {
    if (!this.#privateHkids(hkid)) fail('OPERAND_INVALID', RDX);
    this.#newPage(pa, RCX);
    if (!this.#lock('kot', 0, 'exclusive')) fail('OPERAND_BUSY', KOT);
    if (this.hkids.has(hkid)) fail('HKID_NOT_FREE');
    this.hkids.set(hkid, 'assigned');
    this.#give(pa, 'TDR', 0);
    this.tds.set(pa, {
      pa,
      hkid,
      life: 'assigned',
      tdcx: 0,
      op: 'uninitialized',
      children: 0,
      root: new Map(),
      epoch: 1,
      inside: [0, 0],
      vcpus: 0,
      associated: 0,
    });
  }

  keyConfig(tdr: number): void {
    const td = this.#tdr(tdr, RCX, 'exclusive');
    if (td.life !== 'assigned') fail('LIFECYCLE_STATE_INCORRECT');
    td.life = 'keys';
  }

  addcx(pa: number, tdr: number): void {
    const td = this.#tdr(tdr, RDX, 'exclusive');
    if (td.life !== 'keys') fail('TD_KEYS_NOT_CONFIGURED');
    if (td.tdcx >= 9) fail('TDCX_NUM_INCORRECT');
    this.#newPage(pa, RCX);
    if (td.tdcx >= 6 && td.op !== 'uninitialized') fail('OP_STATE_INCORRECT');
    td.tdcx++;
    td.children++;
    this.#give(pa, 'TDCX', tdr);
  }

  init(tdr: number): void {
    const td = this.#tdr(tdr, RCX, 'exclusive');
    this.#inState(td, ['uninitialized'], false);
    td.op = 'initialized';
  }

  finalize(tdr: number): void {
    const td = this.#tdr(tdr, RCX, 'exclusive');
    this.#inState(td, ['initialized']);
    if (td.vcpus === 0) fail('NO_VCPUS');
    td.op = 'runnable';
  }

  vpFlushDone(tdr: number): void {
    const td = this.#tdr(tdr, RCX, 'exclusive');
    if (!this.#lock('kot', 0, 'exclusive')) fail('OPERAND_BUSY', KOT);
    if (td.life !== 'assigned' && td.life !== 'keys') fail('LIFECYCLE_STATE_INCORRECT');
    if (td.associated > 0) fail('FLUSHVP_NOT_DONE');
    td.life = 'blocked';
    this.hkids.set(td.hkid, 'flushed');
  }

  cacheWb(): void {
    if (!this.#lock('wbcache', 0, 'exclusive')) fail('OPERAND_BUSY', 188);
    if (!this.#lock('kot', 0, 'shared')) fail('OPERAND_BUSY', KOT);
    const flushed = [...this.hkids].filter(([, state]) => state !== 'assigned');
    if (flushed.length === 0) fail('NO_HKID_READY_TO_WBCACHE');
    for (const [hkid] of flushed) this.hkids.set(hkid, 'written');
  }

  freeId(tdr: number): void {
    const td = this.#tdr(tdr, RCX, 'exclusive');
    if (td.life !== 'blocked') fail('LIFECYCLE_STATE_INCORRECT');
    if (!this.#lock('kot', 0, 'exclusive')) fail('OPERAND_BUSY', KOT);
    if (this.hkids.get(td.hkid) !== 'written') fail('WBCACHE_NOT_COMPLETE');
    this.hkids.delete(td.hkid);
    td.life = 'teardown';
  }

  reclaim(pa: number): void {
    this.#lockPage(pa, RCX, 'exclusive');
    const page = this.page(pa);
    if (page.type === 'NDA' || page.type === 'RSVD') fail('PAGE_METADATA_INCORRECT', RCX);
    if (pa % sizeOf(page.size) !== 0) fail('OPERAND_INVALID', RCX);
    if (page.type !== 'TDR' && !this.#lock('pamt4k', page.owner, 'shared')) fail('OPERAND_BUSY', TDR);
    const td = this.tds.get(page.type === 'TDR' ? pa : page.owner)!;
    if (td.life !== 'teardown') fail('LIFECYCLE_STATE_INCORRECT');
    if (page.type === 'TDR') {
      if (td.children > 0) fail('TD_ASSOCIATED_PAGES_EXIST');
      this.tds.delete(pa);
    } else td.children -= page.size === 1 ? 512 : 1;
    this.vps.delete(pa);
    this.#free(pa, page.size);
  }

  wbinvd(pa: number): void {
    this.#lockPage(pa % 2 ** 46, RCX, 'shared');
    if (this.page(pa % 2 ** 46).type !== 'NDA') fail('PAGE_METADATA_INCORRECT', RCX);
  }

  // ---- virtual processors

  vpCreate(pa: number, tdr: number): void {
    const td = this.#tdr(tdr, RDX, 'shared');
    this.#inState(td, ['initialized']);
    this.#newPage(pa, RCX);
    this.#give(pa, 'TDVPR', tdr);
    td.children++;
    this.vps.set(pa, { td, pages: 1, ready: false, lp: null, index: -1, faults: 0 });
  }

  vpAddcx(pa: number, tdvpr: number): void {
    const vp = this.#vp(tdvpr, RDX, 'exclusive');
    this.#inState(vp.td, ['initialized']);
    if (vp.ready) fail('VCPU_STATE_INCORRECT', 2);
    if (vp.pages >= 6) fail('TDCX_NUM_INCORRECT');
    this.#newPage(pa, RCX);
    vp.pages++;
    vp.td.children++;
    this.#give(pa, 'TDCX', vp.td.pa);
  }

  vpInit(tdvpr: number, lp: number): void {
    const vp = this.#vp(tdvpr, RCX, 'exclusive');
    this.#inState(vp.td, ['initialized']);
    if (vp.pages < 6) fail('TDCX_NUM_INCORRECT');
    if (vp.ready) fail('VCPU_STATE_INCORRECT', 2);
    if (vp.td.vcpus >= MAX_VCPUS) fail('MAX_VCPUS_EXCEEDED');
    vp.index = vp.td.vcpus++;
    vp.ready = true;
    vp.lp = lp;
    vp.td.associated++;
  }

  #associate(vp: Vp, lp: number): void {
    if (vp.lp !== null && vp.lp !== lp) fail('VCPU_ASSOCIATED');
    if (vp.lp === null) vp.td.associated++;
    vp.lp = lp;
  }

  vpFlush(tdvpr: number, lp: number): void {
    const vp = this.#vp(tdvpr, RCX, 'exclusive');
    if (vp.td.life !== 'keys') fail('TD_KEYS_NOT_CONFIGURED');
    if (vp.pages < 6) fail('TDCX_NUM_INCORRECT');
    if (vp.lp !== lp) fail('VCPU_NOT_ASSOCIATED');
    vp.lp = null;
    vp.td.associated--;
  }

  /** TDH.VP.RD of VCPU_INDEX. */
  vpRd(tdvpr: number, lp: number): void {
    const vp = this.#vp(tdvpr, RCX, 'shared');
    this.#inState(vp.td, ['initialized', 'runnable']);
    if (vp.pages < 6) fail('TDCX_NUM_INCORRECT');
    if (!vp.ready) fail('VCPU_STATE_INCORRECT');
    this.#associate(vp, lp);
  }

  /** Enters; nothing is mapped where virtual processors start, so that the TD exits at once. */
  vpEnter(tdvpr: number, lp: number): void {
    const vp = this.#vp(tdvpr, RCX, 'shared');
    this.#inState(vp.td, ['runnable']);
    if (vp.pages < 6) fail('TDCX_NUM_INCORRECT');
    if (!vp.ready) fail('VCPU_STATE_INCORRECT');
    this.#associate(vp, lp);
    if (!this.#lock('td_epoch', vp.td.pa, 'shared')) fail('OPERAND_BUSY', TD_EPOCH);
    // From then on it looks like zero-stepping.
    if (vp.faults > 6 && !this.#lock('sept_tree', vp.td.pa, 'exclusive')) fail('OPERAND_BUSY', SEPT_TREE);
    vp.faults++;
  }

  // ---- private memory

  septAdd(gpa: number, level: number, tdr: number, pa: number): void {
    const td = this.#tdr(tdr, RDX, 'shared');
    this.#inState(td, ['initialized', 'runnable']);
    const place = this.#entry(td, gpa, level, 1, TOP, 'shared');
    this.#allowed(place, 'FREE');
    this.#newPage(pa, R8);
    this.#give(pa, 'EPT', tdr);
    place.table.set(place.index, { state: 'NL_MAPPED', target: pa, table: new Map() });
    td.children++;
  }

  pageAdd(gpa: number, level: number, tdr: number, pa: number, source: number): void {
    const td = this.#tdr(tdr, RDX, 'exclusive');
    this.#inState(td, ['initialized']);
    const place = this.#entry(td, gpa, level, 0, 0, null);
    this.#allowed(place, 'FREE');
    if (source % 4096 !== 0 || Math.floor(source / 2 ** 46) > 31) fail('OPERAND_INVALID', R9);
    this.#newPage(pa, R8);
    this.#give(pa, 'REG', tdr);
    place.table.set(place.index, { state: 'MAPPED', target: pa });
    td.children++;
  }

  pageAug(gpa: number, level: number, tdr: number, pa: number): void {
    const td = this.#tdr(tdr, RDX, 'shared');
    this.#inState(td, ['initialized', 'runnable']);
    const place = this.#entry(td, gpa, level, 0, 1, 'shared');
    this.#allowed(place, 'FREE');
    this.#newPage(pa, R8, level as 0 | 1);
    this.#give(pa, 'REG', tdr, level as 0 | 1);
    place.table.set(place.index, { state: 'PENDING', target: pa });
    td.children += level === 1 ? 512 : 1;
  }

  block(gpa: number, level: number, tdr: number): void {
    const td = this.#tdr(tdr, RDX, 'shared');
    this.#inState(td, ['initialized', 'runnable']);
    const place = this.#entry(td, gpa, level, 0, TOP, 'exclusive');
    const { entry } = place;
    if (entry.state.endsWith('BLOCKED')) fail('GPA_RANGE_ALREADY_BLOCKED', RCX);
    this.#allowed(place, 'NL_MAPPED', 'MAPPED', 'PENDING');
    const to = { NL_MAPPED: 'NL_BLOCKED', MAPPED: 'BLOCKED', PENDING: 'PENDING_BLOCKED' } as const;
    this.#target(level, entry).bepoch = td.epoch;
    place.table.set(place.index, { ...entry, state: to[entry.state as keyof typeof to], priority: false });
  }

  unblock(gpa: number, level: number, tdr: number): void {
    const td = this.#tdr(tdr, RDX, 'shared');
    this.#inState(td, ['initialized', 'runnable']);
    const place = this.#entry(td, gpa, level, 0, TOP, 'exclusive');
    this.#allowed(place, 'NL_BLOCKED', 'BLOCKED', 'PENDING_BLOCKED');
    this.#tracked(td, place, this.#target(level, place.entry).bepoch);
    place.table.set(place.index, unblocked(place.entry));
  }

  track(tdr: number): void {
    const td = this.#tdr(tdr, RCX, 'shared');
    this.#inState(td, ['initialized', 'runnable']);
    if (!this.#lock('td_epoch', td.pa, 'exclusive')) fail('OPERAND_BUSY', TD_EPOCH);
    if (td.inside[(td.epoch + 1) % 2]! > 0) fail('PREVIOUS_TLB_EPOCH_BUSY');
    td.epoch++;
  }

  /** @returns the page */
  pageRemove(gpa: number, level: number, tdr: number): number {
    const td = this.#tdr(tdr, RDX, 'shared');
    this.#inState(td, ['initialized', 'runnable']);
    const place = this.#entry(td, gpa, level, 0, 2, 'shared');
    this.#allowed(place, 'MAPPED', 'BLOCKED', 'PENDING', 'PENDING_BLOCKED');
    this.#tracked(td, place, this.#lockTarget(place).bepoch);
    place.table.delete(place.index);
    this.#free(place.entry.target, level as 0 | 1);
    td.children -= level === 1 ? 512 : 1;
    return place.entry.target;
  }

  /** @returns the old page */
  relocate(gpa: number, level: number, tdr: number, pa: number): number {
    const td = this.#tdr(tdr, RDX, 'shared');
    this.#inState(td, ['initialized', 'runnable']);
    const place = this.#entry(td, gpa, level, 0, 0, 'shared');
    this.#allowed(place, 'MAPPED', 'BLOCKED', 'PENDING', 'PENDING_BLOCKED');
    const old = place.entry.target;
    if (pa === old) fail('OPERAND_INVALID', R8);
    this.#tracked(td, place, this.#lockTarget(place).bepoch);
    this.#newPage(pa, R8);
    this.#free(old, 0);
    this.#give(pa, 'REG', tdr);
    place.table.set(place.index, { ...unblocked(place.entry), target: pa });
    return old;
  }

  /** @returns the table */
  septRemove(gpa: number, level: number, tdr: number): number {
    const td = this.#tdr(tdr, RDX, 'shared');
    this.#inState(td, ['initialized', 'runnable']);
    const place = this.#entry(td, gpa, level, 1, TOP, 'exclusive');
    this.#allowed(place, 'NL_MAPPED', 'NL_BLOCKED');
    this.#tracked(td, place, this.#lockTarget(place).bepoch);
    if ([...place.entry.table!.values()].some(({ state }) => state !== 'FREE')) fail('EPT_PAGE_NOT_FREE', RCX);
    place.table.delete(place.index);
    this.#free(place.entry.target, 0);
    td.children--;
    return place.entry.target;
  }

  demote(gpa: number, level: number, tdr: number, pa: number): void {
    const td = this.#tdr(tdr, RDX, 'shared');
    this.#inState(td, ['initialized', 'runnable']);
    const place = this.#entry(td, gpa, level, 1, 2, 'shared');
    this.#allowed(place, 'MAPPED', 'BLOCKED', 'PENDING', 'PENDING_BLOCKED');
    this.#tracked(td, place, this.#target(level, place.entry).bepoch);
    this.#newPage(pa, R8);
    const { state, target } = unblocked(place.entry);
    if (!this.#lock('pamt2m', target, 'exclusive')) fail('OPERAND_BUSY', RCX);
    this.#free(target, 1);
    const table = new Map<number, Entry>();
    for (let i = 0; i < 512; i++) {
      this.#give(target + i * 4096, 'REG', tdr);
      table.set(i, { state, target: target + i * 4096 });
    }
    this.#give(pa, 'EPT', tdr);
    place.table.set(place.index, { state: 'NL_MAPPED', target: pa, table });
    td.children++;
  }

  /** @returns the table */
  promote(gpa: number, level: number, tdr: number): number {
    const td = this.#tdr(tdr, RDX, 'shared');
    this.#inState(td, ['initialized', 'runnable']);
    const place = this.#entry(td, gpa, level, 1, 2, 'shared');
    this.#allowed(place, 'NL_MAPPED', 'NL_BLOCKED');
    this.#tracked(td, place, this.#lockTarget(place).bepoch);
    const table = place.entry.table!;
    for (let i = 0; i < 512; i++) {
      const entry = table.get(i) ?? { state: 'FREE', target: 0 };
      const locked = this.#lock('sept_entry', gpa + i * sizeOf(level - 1) + level - 1, 'exclusive');
      table.set(i, { ...entry, priority: !locked });
      if (!locked) fail('OPERAND_BUSY', RCX);
      const like = table.get(0)!;
      const fits =
        i === 0
          ? (entry.state === 'MAPPED' || entry.state === 'PENDING') && entry.target % sizeOf(level) === 0
          : entry.state === like.state && entry.target === like.target + i * 4096;
      if (!fits) fail('EPT_INVALID_PROMOTE_CONDITIONS', RCX);
    }
    const first = table.get(0);
    if (!this.#lock('pamt2m', first!.target, 'exclusive')) fail('OPERAND_BUSY', RCX);
    for (let i = 0; i < 512; i++) this.#free(first!.target + i * 4096, 0);
    this.#give(first!.target, 'REG', tdr, 1);
    this.#free(place.entry.target, 0);
    place.table.set(place.index, { state: first!.state, target: first!.target });
    td.children--;
    return place.entry.target;
  }

  /** @returns what the host is told: level, state, page */
  septRd(gpa: number, level: number, tdr: number): { state: number; target: number } {
    const td = this.#tdr(tdr, RDX, 'shared');
    this.#inState(td, ['initialized', 'runnable']);
    const { entry } = this.#entry(td, gpa, level, 0, TOP, 'shared');
    return { state: ENTRY_STATE[entry.state], target: entry.state.startsWith('NL') ? 0 : entry.target };
  }

  /** The guest accepts. @returns the status, or null for a TD exit */
  accept(td: Td, gpa: number, level: number): string | null {
    this.#own = new Map();
    const place = this.walk(td, gpa, level);
    const { entry } = place;
    if (place.level !== level) return entry.state === 'MAPPED' ? `TDX_PAGE_ALREADY_ACCEPTED 0x${place.level}` : null;
    if (entry.priority) return 'TDX_OPERAND_BUSY_HOST_PRIORITY 0x1';
    if (!this.#lock('sept_entry', gpa + level, 'exclusive')) return 'TDX_OPERAND_BUSY 0x1';
    if (entry.state.startsWith('NL')) return `TDX_PAGE_SIZE_MISMATCH 0x${level}`;
    if (entry.state === 'MAPPED') return level === 0 ? 'TDX_PAGE_ALREADY_ACCEPTED' : 'TDX_PAGE_ALREADY_ACCEPTED 0x1';
    if (entry.state !== 'PENDING') return null;
    place.table.set(place.index, { ...entry, state: 'MAPPED' });
    return 'TDX_SUCCESS';
  }
}

interface Place {
  readonly table: Map<number, Entry>;
  readonly index: number;
  readonly level: number;
  readonly entry: Entry;
}

function unblocked(entry: Entry): Entry {
  const to = { NL_BLOCKED: 'NL_MAPPED', BLOCKED: 'MAPPED', PENDING_BLOCKED: 'PENDING' } as const;
  const state = to[entry.state as keyof typeof to] ?? entry.state;
  return { ...entry, state, priority: false };
}
