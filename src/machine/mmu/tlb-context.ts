/**
 * What TLB entries are tagged with: one address space of one processor as the processor's TLB sees it.
 *
 * A context has up to four banks, one per privilege class, so that a change of CPL or RFLAGS.AC selects a bank and
 * flushes nothing.
 */
import type { TlbBanks } from './tlb-banks.ts';

/** Supervisor accesses that may touch user pages: CR4.SMAP is clear or RFLAGS.AC is set. */
export const SUPERVISOR = 0;
/** Supervisor accesses with SMAP in force. */
export const SUPERVISOR_SMAP = 1;
/** Accesses at CPL 3. */
export const USER = 2;
/** The same with alignment checks: no data has an entry, so that each access comes to TypeScript, which looks (alignment.ts). */
export const USER_CHECKED = 3;
/** Privilege class of a memory access. */
export type PrivilegeClass = 0 | 1 | 2 | 3;
const CLASSES = [SUPERVISOR, SUPERVISOR_SMAP, USER, USER_CHECKED] as const;

/** Bit of the mode: CR4.PKE with IA-32e paging. */
export const MODE_KEYS = 128;
/** Entries for pages with protection keys that are remembered. */
const KEYED = 256;

export class TlbContext {
  readonly vpid: number;
  /** The EPT pointer, or -1 with EPT off. */
  readonly eptp: number;
  /** Paging mode and the control bits that rights depend on (controls.ts). */
  readonly mode: number;
  readonly pcid: number;
  /** One bank per PrivilegeClass; 0 before the first fill. */
  readonly banks: [number, number, number, number] = [0, 0, 0, 0];
  /** Code mode that the execute entries of each bank were made for. */
  readonly codeModes: [number, number, number, number] = [0, 0, 0, 0];
  /** The processor is using it. */
  current = false;
  /** When it was used last, by TlbBanks.clock. */
  used = 0;
  /** Data breakpoints that the entries keep out of the way of. */
  watched = '';
  readonly #tlb: TlbBanks;
  /** Entries that were filled for pages with another protection key than 0. Others may have taken their place. */
  readonly #keyed: number[] = [];
  // A guest page above 4 KiB is cached in 4 KiB pieces, but INVLPG of any address in it drops all of it.
  /** Numbers of 4 MiB regions in which a 2 or 4 MiB page was cached. */
  readonly #large: Set<number> = new Set();
  /** Numbers of 1 GiB regions that were cached as one page. */
  readonly #giant: Set<number> = new Set();

  constructor(tlb: TlbBanks, vpid: number, eptp: number, mode: number, pcid: number) {
    this.#tlb = tlb;
    this.vpid = vpid;
    this.eptp = eptp;
    this.mode = mode;
    this.pcid = pcid;
  }

  /** Pages have protection keys. */
  get hasKeys(): boolean {
    return (this.mode & MODE_KEYS) !== 0;
  }

  /** The bank of a class, allocated if there is none. */
  bank(cls: PrivilegeClass): number {
    let bank = this.banks[cls];
    if (bank === 0) {
      bank = this.#tlb.allocate(this);
      this.banks[cls] = bank;
    }
    return bank;
  }

  /** Another context took the bank. */
  loseBank(bank: number): void {
    for (const cls of CLASSES) if (this.banks[cls] === bank) this.banks[cls] = 0;
  }

  /** Gives all banks back. */
  release(): void {
    this.#keyed.length = 0;
    for (const cls of CLASSES) {
      if (this.banks[cls] !== 0) this.#tlb.release(this.banks[cls]);
      this.banks[cls] = 0;
    }
    this.#large.clear();
    this.#giant.clear();
  }

  /** Notes that the page of a linear address is cached as a piece of a page of 2 to the power of `shift` bytes. */
  noteLargePage(low: number, high: number, shift: number): void {
    if (shift <= 22) this.#large.add(high * 0x400 + (low >>> 22));
    else this.#giant.add(high * 4 + (low >>> 30));
  }

  /** Notes that an entry was filled for a page with another protection key than 0. */
  noteKeyed(entry: number): void {
    if (this.#keyed.length <= KEYED) this.#keyed.push(entry);
  }

  /** PKRU denies more than it did. @param key0 pages with key 0 are concerned */
  forgetKeyed(key0: boolean): void {
    if (key0 || this.#keyed.length > KEYED) return this.flush();
    for (const entry of this.#keyed) this.#tlb.drop(entry);
    this.#keyed.length = 0;
  }

  flush(): void {
    this.#keyed.length = 0;
    for (const bank of this.banks) if (bank !== 0) this.#tlb.flush(bank);
    this.#large.clear();
    this.#giant.clear();
  }

  /** Drops at least everything about pages that are not global. */
  flushLocal(): void {
    for (const bank of this.banks) if (bank !== 0) this.#tlb.flushLocal(bank);
  }

  /** Drops everything about the guest page that holds a linear address. */
  flushPage(low: number, high: number): void {
    if (this.#large.size !== 0 && this.#large.has(high * 0x400 + (low >>> 22))) return this.flush();
    if (this.#giant.size !== 0 && this.#giant.has(high * 4 + (low >>> 30))) return this.flush();
    this.dropLinear(low, high);
  }

  /** Drops the entries of one 4 KiB piece, whatever the size of the guest page. */
  dropLinear(low: number, high: number): void {
    for (const bank of this.banks) if (bank !== 0) this.#tlb.dropLinear(bank, low, high);
  }
}
