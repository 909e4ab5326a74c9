/**
 * The page tables of a VM, built lazily by faults in host memory, in 4 KiB and 2 MiB pages.
 *
 * The direct ones are what the processor walks. The mirror ones of a trust domain are walked by nobody: they are KVM's copy
 * of tables that are kept elsewhere, and each change of them is passed on (external_spt.ts).
 *
 * @upstream arch/x86/kvm/mmu/tdp_mmu.c
 */
import { PAGE_OWNER } from '../../../host/pages.ts';
import type { Gfn, Hpa } from '../../../util/address.ts';
import { trace } from '../../../util/trace.ts';
import type { X86Vm } from '../kvm_host.ts';
import { ExternalSpt } from './external_spt.ts';
import {
  EPT_DIRTY,
  EPT_WRITABLE,
  isFrozenSpte,
  isLargePte,
  isShadowPresentPte,
  makeNonleafSpte,
  SHADOW_NONPRESENT_VALUE,
  SPTE_MMU_WRITABLE,
  spteAddress,
} from './spte.ts';

/** Levels: 1 is a 4 KiB page, 2 is 2 MiB. */
export const PG_LEVEL_4K = 1;
export const PG_LEVEL_2M = 2;
const ENTRIES = 512;

/** Frames that one entry of a level maps. */
export const pagesPerHpage = (level: number): number => ENTRIES ** (level - 1);
/** First frame of the entry of a level that maps `gfn`. @upstream gfn_round_for_level() */
export const gfnRoundForLevel = (gfn: Gfn, level: number): Gfn => gfn - (gfn % pagesPerHpage(level));

/** A table of entries that map nothing. */
const EMPTY_TABLE: Uint8Array = new Uint8Array(new BigUint64Array(ENTRIES).fill(SHADOW_NONPRESENT_VALUE).buffer);

/** What {@link TdpMmu.map} came to. */
export const MAP_FIXED = 0;
/** The entry is there already. */
export const MAP_SPURIOUS = 1;
/** Somebody else is at the entry, or does not take it at present. */
export const MAP_RETRY = 2;
export const MAP_NOMEM = 3;
export type MapResult = 0 | 1 | 2 | 3;

/** Where a walk ended. */
export interface TdpWalk {
  /** Level of the last entry that was read. */
  level: number;
  /** Its value. */
  spte: bigint;
  /** Its address. */
  address: Hpa;
}

/** Sees an entry of a range; true to see the entries below it, too. */
type Visit = (address: Hpa, gfn: Gfn, level: number, spte: bigint) => boolean;

/** The paging structures behind one root. */
export class TdpMmu {
  /** Levels of tables: 4 or 5; fixed once there is a root. */
  rootLevel = 4;
  readonly #kvm: X86Vm;
  /** Where changes are passed on to; null for tables that the processor walks. */
  readonly #external: ExternalSpt | null;
  #root: Hpa | null = null;
  /** Tables in use, the root among them. */
  tables = 0;

  constructor(kvm: X86Vm, kind: 'direct' | 'mirror' = 'direct') {
    this.#kvm = kvm;
    this.#external = kind === 'mirror' ? new ExternalSpt(kvm) : null;
  }

  /** The bit that addresses in these tables have beyond the frame numbers of slots. @upstream kvm_gfn_root_bits() */
  get #gfnBits(): Gfn {
    return this.#external === null ? this.#kvm.arch.gfnDirectBits : 0;
  }

  /** The root table, made on first use; undefined without memory. @upstream kvm_tdp_mmu_alloc_root() */
  root(): Hpa | undefined {
    this.#root ??= this.#allocTable() ?? null;
    return this.#root ?? undefined;
  }

  get hasRoot(): boolean {
    return this.#root !== null;
  }

  #allocTable(): Hpa | undefined {
    const { host } = this.#kvm;
    const table = host.pages.alloc(PAGE_OWNER.ept);
    if (table === undefined) return undefined;
    host.machine.memory.writeBytes(table, EMPTY_TABLE);
    this.tables++;
    return table;
  }
  #freeTable(table: Hpa): void {
    this.#kvm.host.pages.free(table);
    this.tables--;
  }

  #read(address: Hpa): bigint {
    return this.#kvm.host.machine.memory.read64(address);
  }
  #write(address: Hpa, gfn: Gfn, level: number, old: bigint, spte: bigint): void {
    this.#kvm.host.machine.memory.write64(address, spte);
    trace.kvm_tdp_mmu_spte_changed?.(gfn, level, old, spte);
  }

  /** Walks down to the entry that maps (or fails to map) `gfn`; null without a root. */
  lookup(gfn: Gfn): TdpWalk | null {
    let table = this.#root;
    if (table === null) return null;
    const index = gfn + this.#gfnBits;
    for (let level = this.rootLevel; ; level--) {
      const address = table + indexOf(index, level) * 8;
      const spte = this.#read(address);
      if (level === 1 || !isShadowPresentPte(spte) || isLargePte(spte)) return { level, spte, address };
      table = spteAddress(spte);
    }
  }

  /** Installs a leaf, making tables on the way. @upstream kvm_tdp_mmu_map() */
  map(gfn: Gfn, level: number, spte: bigint): MapResult {
    let table: Hpa | undefined = this.root();
    if (table === undefined) return MAP_NOMEM;
    const index = gfn + this.#gfnBits;
    for (let at = this.rootLevel; ; at--) {
      const address: Hpa = table + indexOf(index, at) * 8;
      const old = this.#read(address);
      if (isFrozenSpte(old)) return MAP_RETRY;
      if (at === level) return this.#setLeaf(address, gfn, at, old, spte);
      if (isShadowPresentPte(old) && !isLargePte(old)) {
        table = spteAddress(old);
        continue;
      }
      // An empty entry, an MMIO entry of a larger level, or a large page that must be mapped in small ones.
      const next = this.#allocTable();
      if (next === undefined) return MAP_NOMEM;
      const linked = this.#link(address, gfnRoundForLevel(gfn, at), at, old, next);
      if (linked !== MAP_FIXED) {
        this.#freeTable(next);
        return linked;
      }
      table = next;
    }
  }

  #setLeaf(address: Hpa, gfn: Gfn, level: number, old: bigint, spte: bigint): MapResult {
    if (old === spte) return MAP_SPURIOUS;
    if (this.#external !== null) {
      if (isShadowPresentPte(old)) return MAP_SPURIOUS;
      if (this.#external.setLeaf(address, gfn, level, old, spte) !== 0) return MAP_RETRY;
      trace.kvm_tdp_mmu_spte_changed?.(gfn, level, old, spte);
      return MAP_FIXED;
    }
    if (isShadowPresentPte(old) && level > 1 && !isLargePte(old)) this.#freeTree(spteAddress(old), level - 1);
    this.#write(address, gfn, level, old, spte);
    return MAP_FIXED;
  }

  /** @upstream tdp_mmu_link_sp() */
  #link(address: Hpa, gfn: Gfn, level: number, old: bigint, table: Hpa): MapResult {
    const spte = makeNonleafSpte(table);
    if (this.#external === null) {
      this.#write(address, gfn, level, old, spte);
      if (isLargePte(old) && isShadowPresentPte(old)) this.#kvm.arch_hooks.kvmArchFlushRemoteTlbs(this.#kvm);
      return MAP_FIXED;
    }
    const external = this.#external.alloc(table);
    if (external === undefined) return MAP_NOMEM;
    if (this.#external.setTable(address, gfn, level, old, spte, external) !== 0) {
      this.#external.free(table);
      return MAP_RETRY;
    }
    trace.kvm_tdp_mmu_spte_changed?.(gfn, level, old, spte);
    return MAP_FIXED;
  }

  /** Changes one entry that a walk found. */
  replace(walk: TdpWalk, gfn: Gfn, spte: bigint): void {
    this.#write(walk.address, gfn, walk.level, walk.spte, spte);
  }

  /** Removes every mapping in [start, end). True if something was there, so that TLBs must be flushed. @upstream tdp_mmu_zap_leafs() */
  zap(start: Gfn, end: Gfn): boolean {
    const found = { flush: false };
    this.#forRange(start, end, (address, gfn, level, spte) => {
      if (spte === SHADOW_NONPRESENT_VALUE) return false;
      const present = isShadowPresentPte(spte);
      if (present && level > 1 && !isLargePte(spte)) {
        // Tables that others keep, too, stay until the VM goes.
        if (this.#external !== null || gfn < start || gfn + pagesPerHpage(level) > end) return true;
        this.#freeTree(spteAddress(spte), level - 1);
      }
      found.flush ||= present;
      this.#zapEntry(address, gfn, level, spte);
      return false;
    });
    return found.flush;
  }

  /** Empties an entry; what it mapped is taken from the external tables as well. @upstream tdp_mmu_set_spte() */
  #zapEntry(address: Hpa, gfn: Gfn, level: number, spte: bigint): void {
    this.#write(address, gfn, level, spte, SHADOW_NONPRESENT_VALUE);
    if (this.#external !== null && isShadowPresentPte(spte)) this.#external.removeLeaf(gfn, level, spte);
  }

  #freeTree(table: Hpa, level: number): void {
    if (level > 1) {
      for (let i = 0; i < ENTRIES; i++) {
        const spte = this.#read(table + i * 8);
        if (isShadowPresentPte(spte) && !isLargePte(spte)) this.#freeTree(spteAddress(spte), level - 1);
      }
    }
    this.#freeTable(table);
  }

  /** Takes write access from every mapping in [start, end); true if TLBs must be flushed. @upstream kvm_tdp_mmu_wrprot_slot() */
  writeProtect(start: Gfn, end: Gfn): boolean {
    const found = { flush: false };
    this.#forRange(start, end, (address, gfn, level, spte) => {
      if (!isShadowPresentPte(spte)) return false;
      if (level > 1 && !isLargePte(spte)) return true;
      if (spte & EPT_WRITABLE) {
        this.#write(address, gfn, level, spte, spte & ~(EPT_WRITABLE | EPT_DIRTY));
        found.flush = true;
      }
      return false;
    });
    return found.flush;
  }

  /** Whether an entry was write-protected by KVM alone, so that a write fault may just give write access back. */
  static isMmuWritable(spte: bigint): boolean {
    return (spte & SPTE_MMU_WRITABLE) !== 0n;
  }

  /** Visits the entries that map frames of [start, end), from the root down. @upstream for_each_tdp_pte() */
  #forRange(start: Gfn, end: Gfn, visit: Visit): void {
    if (this.#root === null) return;
    const bits = this.#gfnBits;
    this.#forTable(this.#root, this.rootLevel, 0, start + bits, end + bits, (address, gfn, level, spte) =>
      visit(address, gfn - bits, level, spte),
    );
  }

  #forTable(table: Hpa, level: number, base: Gfn, start: Gfn, end: Gfn, visit: Visit): void {
    const span = pagesPerHpage(level);
    const first = Math.max(0, Math.floor((start - base) / span));
    const last = Math.min(ENTRIES - 1, Math.floor((end - 1 - base) / span));
    for (let i = first; i <= last; i++) {
      const address = table + i * 8;
      const spte = this.#read(address);
      const gfn = base + i * span;
      if (visit(address, gfn, level, spte)) this.#forTable(spteAddress(spte), level - 1, gfn, start, end, visit);
    }
  }

  /** Frees every table. @upstream kvm_mmu_uninit_tdp_mmu() */
  destroy(): void {
    if (this.#root === null) return;
    if (this.#external === null) {
      this.#freeTree(this.#root, this.rootLevel);
    } else {
      for (let level = 1; level <= this.rootLevel; level++) this.#zapLevel(level);
      this.#freeTable(this.#root);
    }
    this.#root = null;
  }

  /** Empties the entries of one level; the tables below it are empty already, and go. @upstream __tdp_mmu_zap_root() */
  #zapLevel(zapLevel: number): void {
    const external = this.#external!;
    const end = pagesPerHpage(this.rootLevel + 1);
    this.#forRange(0, end, (address, gfn, level, spte) => {
      if (!isShadowPresentPte(spte)) return false;
      if (level > zapLevel) return true;
      if (level === 1 || isLargePte(spte)) {
        this.#zapEntry(address, gfn, level, spte);
      } else {
        this.#write(address, gfn, level, spte, SHADOW_NONPRESENT_VALUE);
        external.removeTable(gfn, level - 1, spteAddress(spte));
        this.#freeTable(spteAddress(spte));
      }
      return false;
    });
  }
}

const indexOf = (gfn: Gfn, level: number): number => Math.floor(gfn / pagesPerHpage(level)) % ENTRIES;
