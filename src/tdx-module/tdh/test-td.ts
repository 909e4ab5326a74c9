/**
 * For tests: a machine with a module that is ready, and TDs in the state in which memory is given to them, put there
 * without the leaves that lead to it.
 */
import { Machine } from '../../machine/machine.ts';
import { CR0_NE, CR0_PE, CR0_PG, CR4_PAE, CR4_VMXE, EFER_LMA, EFER_LME } from '../../machine/processor.ts';
import { withKeyId } from '../../machine/seam/key-id.ts';
import { seamcall } from '../../machine/seam/seamcall.ts';
import type { Hpa } from '../../util/address.ts';
import { sha384Stream } from '../../util/crypto/hash.ts';
import type { LockKind } from '../locks.ts';
import { installTdxModule, type TdxModule } from '../module.ts';
import { HKID, Kot } from '../objects/kot.ts';
import { PT } from '../objects/pamt.ts';
import { SEPT_ENTRIES, SEPT_FREE_ENTRY } from '../objects/sept-entry.ts';
import { SYS_STATE } from '../objects/system-state.ts';
import { OP_STATE, type Tdcs } from '../objects/tdcs.ts';
import { GIB, MIB2, Tdmr } from '../objects/tdmr.ts';
import { LIFECYCLE, type Tdr } from '../objects/tdr.ts';
import { statusName } from '../status.ts';

const MIB = 2 ** 20;
const RAM = 128 * MIB;
const PAMT_BASE = 16 * MIB;
const PAMT_SIZES = [4 * MIB, 8192, 4096];
const SHARED_KEY_IDS = 31;
const PRIVATE_KEY_IDS = 32;
const GLOBAL_KEY_ID = 32;

/** Operands of a call. */
export interface Operands {
  rcx?: bigint | number;
  rdx?: bigint | number;
  r8?: bigint | number;
  r9?: bigint | number;
  r10?: bigint | number;
  r11?: bigint | number;
  version?: number;
  /** Index of the logical processor that calls. */
  cpu?: number;
}

/** What a call left in the registers. */
export interface Result {
  readonly status: bigint;
  /** The status by name, with its details. */
  readonly name: string;
  readonly rcx: bigint;
  readonly rdx: bigint;
  readonly r8: bigint;
  readonly r9: bigint;
}

export class TestPlatform {
  readonly machine: Machine;
  readonly module: TdxModule;
  #nextPage = MIB;
  #nextLarge = 22 * MIB;
  #tds = 0;

  constructor(processors = 2) {
    this.machine = new Machine({ processors, ramSize: RAM, profile: 'tdx-host', seed: 1 });
    this.module = installTdxModule(this.machine);
    for (const p of this.machine.processors) {
      p.cr0 = (CR0_PE | CR0_NE | CR0_PG) >>> 0;
      p.cr4 = CR4_PAE | CR4_VMXE;
      p.efer = EFER_LME | EFER_LMA;
      p.vtx.operation = 1;
      this.module.system.lps.add(p.index);
    }
    this.module.system.state = SYS_STATE.SYS_READY;
    this.module.kot = new Kot(SHARED_KEY_IDS, PRIVATE_KEY_IDS);
    this.module.kot.entries[GLOBAL_KEY_ID]!.state = HKID.RESERVED;
    this.module.globalKeyId = GLOBAL_KEY_ID;
    const pamt: { base: Hpa; size: number }[] = [];
    let at = PAMT_BASE;
    for (const size of PAMT_SIZES) {
      pamt.push({ base: at, size });
      for (const end = at + size; at < end; at += 4096) this.keyed.take(at, GLOBAL_KEY_ID);
    }
    const tdmr = new Tdmr({ base: 0, size: GIB }, pamt, [
      { base: PAMT_BASE, size: at - PAMT_BASE },
      { base: RAM, size: GIB - RAM },
    ]);
    this.module.pamt.initialize(tdmr, GIB / 4096);
    this.module.tdmrs.push(tdmr);
  }

  get keyed(): TdxModule['platform']['keyed'] {
    return this.module.platform.keyed;
  }

  /** A page that nobody has. */
  page(): Hpa {
    const page = this.#nextPage;
    this.#nextPage += 4096;
    return page;
  }
  /** 2 MiB that nobody has. */
  largePage(): Hpa {
    const page = this.#nextLarge;
    this.#nextLarge += MIB2;
    return page;
  }

  call(leaf: number, operands: Operands = {}): Result {
    const p = this.machine.processors[operands.cpu ?? 0]!;
    p.setGpr(0, BigInt(leaf | ((operands.version ?? 0) << 16)));
    for (const [name, register] of [
      ['rcx', 1],
      ['rdx', 2],
      ['r8', 8],
      ['r9', 9],
      ['r10', 10],
      ['r11', 11],
    ] as const) {
      p.setGpr(register, BigInt.asUintN(64, BigInt(operands[name] ?? 0)));
    }
    const outcome = seamcall(p);
    if (outcome !== 0) throw new Error(`SEAMCALL failed: ${outcome}`);
    const [status, rcx, rdx, r8, r9] = [0, 1, 2, 8, 9].map((register) => p.gpr(register)) as [
      bigint,
      bigint,
      bigint,
      bigint,
      bigint,
    ];
    return { status, name: statusName(status), rcx, rdx, r8, r9 };
  }

  /** Runs something while somebody else holds a lock. */
  holding<T>(kind: LockKind, id: number, run: () => T): T {
    this.module.hooks.lockHeld = (k, i) => k === kind && i === id;
    const result = run();
    delete this.module.hooks.lockHeld;
    return result;
  }

  /** A TD that is initialised and has no memory yet. */
  td(options: { attributes?: bigint; maxVcpus?: number; gpaw52?: boolean } = {}): TestTd {
    // Of more TDs than there are HKIDs only the last ones are meant to live.
    const hkid = GLOBAL_KEY_ID + 1 + (this.#tds++ % (PRIVATE_KEY_IDS - 1));
    this.module.kot.entries[hkid]!.state = HKID.ASSIGNED;
    const tdr = this.#tdr(hkid);
    const { tdcs } = tdr;
    tdcs.set('OP_STATE', OP_STATE.INITIALIZED);
    tdcs.set('ATTRIBUTES', options.attributes ?? 0n);
    tdcs.set('XFAM', 3);
    tdcs.set('MAX_VCPUS', options.maxVcpus ?? 4);
    tdcs.set('GPAW', options.gpaw52 === true ? 1 : 0);
    const levels = options.gpaw52 === true ? 4n : 3n;
    tdcs.set('EPTP', 6n | (levels << 3n) | BigInt(withKeyId(tdcs.pages[3]!, hkid)));
    tdcs.set('TD_EPOCH', 1);
    tdcs.set('TOPOLOGY_ENUM_CONFIGURED', 1);
    tdcs.measurement = sha384Stream();
    return new TestTd(this, tdr);
  }

  #tdr(hkid: number): Tdr {
    const pa = this.page();
    this.keyed.take(pa, GLOBAL_KEY_ID);
    const tdr = this.module.addTdr(pa);
    this.module.pamt.entry(pa, 0)!.assign(PT.TDR, 0);
    tdr.set('LIFECYCLE_STATE', LIFECYCLE.KEYS_CONFIGURED);
    tdr.set('HKID', hkid);
    for (let i = 0; i < 6; i++) {
      const page = this.page();
      this.keyed.take(page, hkid);
      this.module.pamt.entry(page, 0)!.assign(PT.TDCX, pa);
      tdr.tdcs.pages.push(page);
      tdr.set('TDCX_PA', withKeyId(page, hkid), i);
      if (i !== 3) continue;
      for (let e = 0; e < SEPT_ENTRIES; e++) this.keyed.write64(page + e * 8, hkid, SEPT_FREE_ENTRY);
    }
    tdr.set('NUM_TDCX', 6);
    tdr.addChildren(6);
    return tdr;
  }
}

export class TestTd {
  readonly platform: TestPlatform;
  readonly tdr: Tdr;

  constructor(platform: TestPlatform, tdr: Tdr) {
    this.platform = platform;
    this.tdr = tdr;
  }

  get pa(): Hpa {
    return this.tdr.pa;
  }
  get tdcs(): Tdcs {
    return this.tdr.tdcs;
  }
  get hkid(): number {
    return this.tdr.hkid;
  }

  /** A leaf with this TD's TDR in RDX. */
  call(leaf: number, operands: Operands = {}): Result {
    return this.platform.call(leaf, { rdx: this.pa, ...operands });
  }

  /** Adds the tables above a GPA, down to the one whose entries are of `level`. */
  tables(gpa: number, level = 0): void {
    for (let above = this.tdcs.rootLevel; above > level; above--) {
      const size = 2 ** (12 + 9 * above);
      this.call(3, { rcx: gpa - (gpa % size) + above, r8: this.platform.page() });
    }
  }

  /** A measured page with content. */
  add(gpa: number, content?: Uint8Array): Hpa {
    this.tables(gpa);
    const source = this.platform.page();
    const page = this.platform.page();
    if (content !== undefined) this.platform.keyed.writeBytes(source, 0, content);
    const { name } = this.call(2, { rcx: gpa, r8: page, r9: source });
    if (name !== 'TDX_SUCCESS') throw new Error(`TDH.MEM.PAGE.ADD: ${name}`);
    return page;
  }

  /** A pending page. */
  aug(gpa: number, level = 0): Hpa {
    this.tables(gpa, level);
    const page = level === 0 ? this.platform.page() : this.platform.largePage();
    const { name } = this.call(6, { rcx: gpa + level, r8: page });
    if (name !== 'TDX_SUCCESS') throw new Error(`TDH.MEM.PAGE.AUG: ${name}`);
    return page;
  }

  /** The TD may run. */
  runnable(): this {
    this.tdcs.set('OP_STATE', OP_STATE.RUNNABLE);
    return this;
  }

  /** State of an entry as the host is told it. */
  entry(gpa: number, level = 0): { state: number; level: number; entry: bigint } {
    const { rcx, rdx } = this.call(25, { rcx: gpa + level });
    return { entry: rcx, level: Number(rdx & 7n), state: Number((rdx >> 8n) & 0xffn) };
  }

  /** Page type and owner that the PAMT has for a page, at the size that rules. */
  pamt(page: Hpa): { pageType: number; owner: Hpa; size: number } {
    const { pageType, owner, size } = this.platform.module.pamt.lookup(page)!;
    return { pageType, owner, size };
  }

  get children(): number {
    return this.tdr.num('CHLDCNT');
  }
}
