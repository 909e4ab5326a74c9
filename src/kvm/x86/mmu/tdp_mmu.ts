/**
 * The EPT of a VM: built lazily by faults, in 4 KiB and 2 MiB pages, in host memory.
 *
 * @upstream arch/x86/kvm/mmu/tdp_mmu.c
 */
import { PAGE_OWNER } from '../../../host/pages.ts';
import type { Gfn, Hpa } from '../../../util/address.ts';
import { trace } from '../../../util/trace.ts';
import type { X86Vm } from '../kvm_host.ts';
import {
  EPT_DIRTY,
  EPT_WRITABLE,
  isLargePte,
  isShadowPresentPte,
  makeNonleafSpte,
  SPTE_MMU_WRITABLE,
  spteAddress,
} from './spte.ts';

/** Levels: 1 is a 4 KiB page, 2 is 2 MiB. */
export const PG_LEVEL_4K = 1;
export const PG_LEVEL_2M = 2;
const ROOT_LEVEL = 4;
const ENTRIES = 512;

/** Frames that one entry of a level maps. */
export const pagesPerHpage = (level: number): number => ENTRIES ** (level - 1);

/** Where a walk ended. */
export interface TdpWalk {
  /** Level of the last entry that was read. */
  level: number;
  /** Its value. */
  spte: bigint;
  /** Its address. */
  address: Hpa;
}

/** The paging structures behind one EPTP. */
export class TdpMmu {
  readonly rootLevel: number = ROOT_LEVEL;
  readonly #kvm: X86Vm;
  #root: Hpa | null = null;
  /** Tables in use, the root among them. */
  tables = 0;

  constructor(kvm: X86Vm) {
    this.#kvm = kvm;
  }

  /** The root table, made on first use; undefined without memory. @upstream kvm_tdp_mmu_alloc_root() */
  root(): Hpa | undefined {
    this.#root ??= this.#allocTable() ?? null;
    return this.#root ?? undefined;
  }

  #allocTable(): Hpa | undefined {
    const table = this.#kvm.host.pages.alloc(PAGE_OWNER.ept);
    if (table !== undefined) this.tables++;
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
    for (let level = ROOT_LEVEL; ; level--) {
      const address = table + indexOf(gfn, level) * 8;
      const spte = this.#read(address);
      if (level === 1 || !isShadowPresentPte(spte) || isLargePte(spte)) return { level, spte, address };
      table = spteAddress(spte);
    }
  }

  /** Installs a leaf, making tables on the way. False without memory. @upstream kvm_tdp_mmu_map() */
  map(gfn: Gfn, level: number, spte: bigint): boolean {
    let table: Hpa | undefined = this.root();
    if (table === undefined) return false;
    for (let at = ROOT_LEVEL; ; at--) {
      const address: Hpa = table + indexOf(gfn, at) * 8;
      const old = this.#read(address);
      if (at === level) {
        if (old === spte) return true;
        if (isShadowPresentPte(old) && at > 1 && !isLargePte(old)) this.#freeTree(spteAddress(old), at - 1);
        this.#write(address, gfn, at, old, spte);
        return true;
      }
      if (isShadowPresentPte(old) && !isLargePte(old)) {
        table = spteAddress(old);
        continue;
      }
      // An empty entry, an MMIO entry of a larger level, or a large page that must be mapped in small ones.
      const next = this.#allocTable();
      if (next === undefined) return false;
      this.#write(address, gfn, at, old, makeNonleafSpte(next));
      if (isLargePte(old) && isShadowPresentPte(old)) this.#kvm.arch_hooks.kvmArchFlushRemoteTlbs(this.#kvm);
      table = next;
    }
  }

  /** Changes one entry that a walk found. */
  replace(walk: TdpWalk, gfn: Gfn, spte: bigint): void {
    this.#write(walk.address, gfn, walk.level, walk.spte, spte);
  }

  /** Removes every mapping in [start, end). True if something was there, so that TLBs must be flushed. @upstream tdp_mmu_zap_leafs() */
  zap(start: Gfn, end: Gfn): boolean {
    return this.#root !== null && this.#zapTable(this.#root, ROOT_LEVEL, 0, start, end);
  }

  #zapTable(table: Hpa, level: number, base: Gfn, start: Gfn, end: Gfn): boolean {
    const span = pagesPerHpage(level);
    let flush = false;
    const first = Math.max(0, Math.floor((start - base) / span));
    const last = Math.min(ENTRIES - 1, Math.floor((end - 1 - base) / span));
    for (let i = first; i <= last; i++) {
      const address = table + i * 8;
      const spte = this.#read(address);
      if (spte === 0n) continue;
      const gfn = base + i * span;
      if (isShadowPresentPte(spte) && level > 1 && !isLargePte(spte)) {
        if (start <= gfn && gfn + span <= end) this.#freeTree(spteAddress(spte), level - 1);
        else {
          flush = this.#zapTable(spteAddress(spte), level - 1, gfn, start, end) || flush;
          continue;
        }
      }
      flush = flush || isShadowPresentPte(spte);
      this.#write(address, gfn, level, spte, 0n);
    }
    return flush;
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
    return this.#root !== null && this.#protectTable(this.#root, ROOT_LEVEL, 0, start, end);
  }

  #protectTable(table: Hpa, level: number, base: Gfn, start: Gfn, end: Gfn): boolean {
    const span = pagesPerHpage(level);
    let flush = false;
    const first = Math.max(0, Math.floor((start - base) / span));
    const last = Math.min(ENTRIES - 1, Math.floor((end - 1 - base) / span));
    for (let i = first; i <= last; i++) {
      const address = table + i * 8;
      const spte = this.#read(address);
      if (!isShadowPresentPte(spte)) continue;
      const gfn = base + i * span;
      if (level > 1 && !isLargePte(spte)) {
        flush = this.#protectTable(spteAddress(spte), level - 1, gfn, start, end) || flush;
      } else if (spte & EPT_WRITABLE) {
        this.#write(address, gfn, level, spte, spte & ~(EPT_WRITABLE | EPT_DIRTY));
        flush = true;
      }
    }
    return flush;
  }

  /** Whether an entry was write-protected by KVM alone, so that a write fault may just give write access back. */
  static isMmuWritable(spte: bigint): boolean {
    return (spte & SPTE_MMU_WRITABLE) !== 0n;
  }

  /** Frees every table. @upstream kvm_mmu_uninit_tdp_mmu() */
  destroy(): void {
    if (this.#root === null) return;
    this.#freeTree(this.#root, ROOT_LEVEL);
    this.#root = null;
  }
}

const indexOf = (gfn: Gfn, level: number): number => Math.floor(gfn / pagesPerHpage(level)) % ENTRIES;
