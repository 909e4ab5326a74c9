/**
 * What a mirror of page tables passes on to those who keep the real ones: every entry that becomes present, every leaf that
 * goes, every table that is no longer used.
 *
 * An entry is frozen while the other side is asked, and is what it was before if that fails. So the mirror never says that
 * something is mapped which is not.
 *
 * @upstream arch/x86/kvm/mmu/tdp_mmu.c set_external_spte_present(), remove_external_spte(), handle_removed_pt()
 */
import { EIO, type Errno } from '../../../host/errno.ts';
import { PAGE_OWNER } from '../../../host/pages.ts';
import type { Gfn, Hpa } from '../../../util/address.ts';
import { kvmVmBugged } from '../../virt/kvm_host.ts';
import type { X86Vm } from '../kvm_host.ts';
import { FROZEN_SPTE } from './spte.ts';

/** The other side of one mirror. */
export class ExternalSpt {
  readonly #kvm: X86Vm;
  /** The page that holds the real table, by the mirror's table. @upstream kvm_mmu_page.external_spt */
  readonly #tables: Map<Hpa, Hpa> = new Map();

  constructor(kvm: X86Vm) {
    this.#kvm = kvm;
  }

  /** A page for the real table behind a new one of the mirror. */
  alloc(table: Hpa): Hpa | undefined {
    const external = this.#kvm.host.pages.alloc(PAGE_OWNER.tdx);
    if (external !== undefined) this.#tables.set(table, external);
    return external;
  }

  /** The table was never linked, or has come back: its page is free again. */
  free(table: Hpa): void {
    const external = this.#tables.get(table);
    if (external === undefined) return;
    this.#tables.delete(table);
    this.#kvm.host.pages.free(external);
  }

  /** Makes a leaf present on both sides. */
  setLeaf(address: Hpa, gfn: Gfn, level: number, old: bigint, spte: bigint): Errno {
    const { ops } = this.#kvm;
    return this.#frozen(address, old, spte, () => ops.setExternalSpte(this.#kvm, gfn, level, spte));
  }

  /** Makes an entry of `level` lead to a table, on both sides. */
  setTable(address: Hpa, gfn: Gfn, level: number, old: bigint, spte: bigint, external: Hpa): Errno {
    const { ops } = this.#kvm;
    return this.#frozen(address, old, spte, () => ops.linkExternalSpt(this.#kvm, gfn, level, external));
  }

  #frozen(address: Hpa, old: bigint, spte: bigint, ask: () => Errno): Errno {
    const { memory } = this.#kvm.host.machine;
    if (!this.#kvm.arch.mmuLock.heldForRead) return this.#bug('an entry is set without mmu_lock');
    memory.write64(address, FROZEN_SPTE);
    const result = ask();
    memory.write64(address, result === 0 ? spte : old);
    return result;
  }

  /** Takes a leaf from the other side; the mirror's entry is empty already. */
  removeLeaf(gfn: Gfn, level: number, spte: bigint): void {
    if (!this.#kvm.arch.mmuLock.heldForWrite) {
      this.#bug('a private page is removed without mmu_lock held for writing');
      return;
    }
    this.#kvm.ops.removeExternalSpte(this.#kvm, gfn, level, spte);
  }

  /** A table of `level` is empty and comes back. If the other side keeps it, its page is lost, as nobody may use it again. */
  removeTable(gfn: Gfn, level: number, table: Hpa): void {
    const external = this.#tables.get(table);
    if (external === undefined) return;
    if (this.#kvm.ops.freeExternalSpt(this.#kvm, gfn, level, external) === 0) this.free(table);
    else this.#tables.delete(table);
  }

  #bug(what: string): Errno {
    kvmVmBugged(this.#kvm, what);
    return -EIO;
  }
}
