/** A machine without an engine, for tests of the MMU: real memory, processor and Mmu; engine and VT-x record what is asked. */
import type { Gpa, Hpa } from '../../util/address.ts';
import { EngineCounters } from '../engine/counters.ts';
import {
  ACCESS,
  EXIT,
  type Exit,
  FAULT_INFO,
  FAULT_VA,
  TLB_BASE,
  TLB_EXECUTE,
  TLB_READ,
  TLB_WRITE,
} from '../engine/layout.ts';
import type { Insn } from '../isa/insn.ts';
import type { Machine } from '../machine.ts';
import { PhysicalMemory } from '../memory.ts';
import { type Outcome, VMEXIT } from '../outcome.ts';
import { CR0_PE, CR0_PG, CR0_WP, CR4_PAE, EFER_LMA, EFER_LME, EFER_NXE, Processor } from '../processor.ts';
import { dropPage, engineDropWriteEntries } from './invalidate.ts';
import { tlbContextChanged } from './select.ts';
import { Mmu } from './state.ts';
import { offsetIn } from './tlb-banks.ts';
import type { Access } from './translate.ts';

/** Stands for the engine: pages with code are a set, and a step runs a script. */
export class TestEngine {
  readonly counters: EngineCounters = new EngineCounters();
  readonly code: Set<Hpa> = new Set();
  readonly written: Hpa[] = [];
  /** Called by step(); the script accesses memory through TestMachine.access. */
  script: () => Exit = () => EXIT.stop;
  insn: Insn | undefined;
  hasCode(page: Hpa): boolean {
    return this.code.has(page);
  }
  /** Told about pages that get their first code. */
  onNewCode: (page: Hpa) => void = () => {};
  codePage(page: Hpa, mode: number): number {
    this.code.add(page);
    this.onNewCode(page);
    return 0x200_0000 + page + mode;
  }
  pageWritten(page: Hpa): void {
    this.written.push(page);
    this.code.delete(page);
  }
  step(): Exit {
    return this.script();
  }
  currentInsn(): Insn | undefined {
    return this.insn;
  }
  statusFlags(): number {
    return 0;
  }
  setStatusFlags(): void {}
}

/** Stands for VT-x: records the last EPT exit. */
export class TestVtx {
  ept = false;
  eptp = 0n;
  eptRoot: Hpa = 0;
  eptLevels = 4;
  eptAccessedDirty = false;
  pml = false;
  vpid = 0;
  apicAccessPage = -1;
  seamHkid = 0;
  sharedBase: number = Number.POSITIVE_INFINITY;
  sharedEptRoot: Hpa = 0;
  machineChecks = 0;
  violation: { gpa: Gpa; linear: bigint | undefined; qualification: number } | undefined;
  misconfiguration: Gpa | undefined;
  readonly logged: Gpa[] = [];
  logFull = false;
  eptViolation(gpa: Gpa, linear: bigint | undefined, qualification: number): Outcome {
    this.violation = { gpa, linear, qualification };
    return VMEXIT;
  }
  eptMisconfiguration(gpa: Gpa): Outcome {
    this.misconfiguration = gpa;
    return VMEXIT;
  }
  pmlFullExits(): boolean {
    return this.logFull;
  }
  logDirtyPage(gpa: Gpa): void {
    this.logged.push(gpa);
  }
  machineCheck(): Outcome {
    this.machineChecks++;
    return VMEXIT;
  }
  /** Makes the guest a TD with these roots of private and shared tables; bit 47 is the shared bit. */
  enterTd(keyId: number, root: Hpa, sharedRoot: Hpa): void {
    this.enable(root);
    this.seamHkid = keyId;
    this.sharedBase = 2 ** 47;
    this.sharedEptRoot = sharedRoot;
  }
  /** Turns EPT on. @param flags bits 6:0 of the EPT pointer beside memory type and length */
  enable(root: Hpa, accessedDirty = false): void {
    this.ept = true;
    this.eptRoot = root;
    this.eptAccessedDirty = accessedDirty;
    this.eptp = BigInt(root) | (accessedDirty ? 0x5en : 0x1en);
  }
}

export class TestMachine {
  readonly memory: PhysicalMemory;
  readonly engine: TestEngine = new TestEngine();
  readonly vtx: TestVtx = new TestVtx();
  readonly p: Processor;
  #freePage: Hpa;

  /** @param keyIds physical addresses have KeyIDs, as on a TDX host */
  constructor(ramSize = 0x40_0000, keyIds = false) {
    this.memory = new PhysicalMemory(ramSize, keyIds);
    this.memory.pageWritten = (page) => {
      if (this.engine.code.has(page)) this.engine.pageWritten(page);
    };
    const machine = { memory: this.memory, engine: this.engine, options: { profile: 'pc' } } as unknown as Machine;
    this.memory.keyed.ownerChanges = (page) => {
      dropPage(machine, page);
      this.engine.pageWritten(page);
    };
    this.engine.onNewCode = (page) => engineDropWriteEntries(machine, page);
    this.p = new Processor(machine, 0);
    this.p.mmu = new Mmu(machine);
    this.p.vtx = this.vtx as unknown as Processor['vtx'];
    this.#freePage = ramSize;
    tlbContextChanged(this.p);
  }

  /** Sets MAXPHYADDR. */
  setPhysicalBits(physicalBits: number): void {
    const { mmu } = this.p;
    Object.assign(mmu, { physicalBits });
    // Not something that changes on a processor: make it decode its controls again.
    mmu.cr0 = -1;
    tlbContextChanged(this.p);
  }

  /** A zeroed page from the top of RAM. */
  page(): Hpa {
    this.#freePage -= 4096;
    return this.#freePage;
  }

  /** 4-level paging with an empty PML4, NX and WP on. */
  longMode(): void {
    const { p } = this;
    p.cr3 = BigInt(this.page());
    p.cr4 = CR4_PAE;
    p.cr0 = CR0_PE | CR0_WP | CR0_PG;
    p.efer = EFER_LME | EFER_LMA | EFER_NXE;
    tlbContextChanged(p);
  }

  /** Maps a 4 KiB page in tables of 8-byte entries, 4 levels below `root`; entries on the way have all rights. */
  map(linear: bigint, leaf: bigint, root: Hpa = Number(this.p.cr3 & ~0xfffn), upper = 7n): Hpa {
    return this.mapAt(0, linear, leaf, root, upper);
  }

  /** Maps a page at a level: 0 4 KiB, 1 2 MiB, 2 1 GiB. Returns the address of the entry. */
  mapAt(level: number, linear: bigint, leaf: bigint, root: Hpa = Number(this.p.cr3 & ~0xfffn), upper = 7n): Hpa {
    let table = root;
    for (let at = 3; ; at--) {
      const entry = table + Number((linear >> BigInt(12 + 9 * at)) & 0x1ffn) * 8;
      if (at === level) {
        this.memory.write64(entry, leaf);
        return entry;
      }
      let next = this.memory.read64(entry);
      if (next === 0n) {
        next = BigInt(this.page()) | upper;
        this.memory.write64(entry, next);
      }
      table = Number(next & 0xf_ffff_ffff_f000n);
    }
  }

  /** Where generated code's access would go by the TLB bank in force, or -1 with the miss reported as generated code does. */
  lookUp(linear: bigint, access: Access, size = 1): number {
    const { p } = this;
    const { view } = this.memory;
    const array = access === ACCESS.read ? TLB_READ : access === ACCESS.fetch ? TLB_EXECUTE : TLB_WRITE;
    const entry = p.read32(TLB_BASE) + array + offsetIn(array, Number(linear & 0xffff_ffffn));
    const offset = BigInt.asUintN(64, linear - view.getBigUint64(entry, true));
    if (offset <= BigInt(4096 - size)) return (view.getUint32(entry + 8, true) + Number(offset)) >>> 0;
    p.write64(FAULT_VA, linear);
    p.write32(FAULT_INFO, size | (access << 8));
    return -1;
  }
}
