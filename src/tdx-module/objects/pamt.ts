/**
 * The physical address metadata tables: what each page of the TDMRs is used for, and by which TD.
 *
 *   entry (16 bytes):  15:0 lock | 23:16 page type | 63:24 owner: address of the TDR / 4096 | 127:64 BEPOCH
 *
 * A page has an entry per size that it may be part of; the one of the largest size whose type is not NDA rules.
 *
 * @tdx "Physical Memory Management", Physical Address Metadata Table (PAMT)
 */
import type { Hpa } from '../../util/address.ts';
import type { LockKind } from '../locks.ts';
import type { TdxModule } from '../module.ts';
import { GIB, LEVEL_BYTES, PAMT_ENTRY_SIZE, type PageLevel, type Tdmr } from './tdmr.ts';

/** Page types. */
export const PT = { NDA: 0, RSVD: 1, REG: 3, TDR: 4, TDCX: 5, TDVPR: 6, EPT: 8 } as const;
export type PageType = (typeof PT)[keyof typeof PT];

/** Bytes of an entry with the page type, and where the owner begins. */
const PAGE_TYPE_BYTE = 2;
const OWNER_BYTE = 3;

const LOCK_KINDS: readonly LockKind[] = ['pamt4k', 'pamt2m', 'pamt1g'];

/** An entry, read from and written to its place in the PAMT. */
export class PamtEntry {
  readonly #module: TdxModule;
  /** Where it lies. */
  readonly #at: Hpa;
  /** First byte of the page it describes. */
  readonly page: Hpa;
  /** Its size: 0 for 4 KiB, 1 for 2 MiB, 2 for 1 GiB. */
  readonly size: PageLevel;

  constructor(module: TdxModule, at: Hpa, page: Hpa, size: PageLevel) {
    this.#module = module;
    this.#at = at;
    this.page = page;
    this.size = size;
  }

  /** Whether nobody but the module has written to it. */
  get isIntact(): boolean {
    return this.#module.platform.keyed.owns(this.#at, PAMT_ENTRY_SIZE, this.#module.globalKeyId);
  }

  get pageType(): PageType {
    const { platform, globalKeyId } = this.#module;
    return platform.keyed.read8(this.#at + PAGE_TYPE_BYTE, globalKeyId) as PageType;
  }
  /** Address of the TDR of the TD that has the page. */
  get owner(): Hpa {
    const { platform, globalKeyId } = this.#module;
    const low = platform.keyed.read8(this.#at + OWNER_BYTE, globalKeyId);
    return (platform.keyed.read32(this.#at + OWNER_BYTE + 1, globalKeyId) * 0x100 + low) * 4096;
  }
  /** TD_EPOCH when the page was blocked. */
  get bepoch(): bigint {
    return this.#module.platform.keyed.read64(this.#at + 8, this.#module.globalKeyId);
  }
  set bepoch(value: bigint) {
    this.#module.platform.keyed.write64(this.#at + 8, this.#module.globalKeyId, value);
  }

  /** Gives the page to a TD. @param owner address of the TDR */
  assign(pageType: PageType, owner: Hpa): void {
    this.assignKeepingEpoch(pageType, owner);
    this.bepoch = 0n;
  }
  /** The same, with the BEPOCH that the page's last use left. */
  assignKeepingEpoch(pageType: PageType, owner: Hpa): void {
    const word = (BigInt(pageType) << 16n) | (BigInt(owner / 4096) << 24n);
    this.#module.platform.keyed.write64(this.#at, this.#module.globalKeyId, word);
  }
  /** The page is nobody's again. Its last owner and BEPOCH stay in the entry. */
  free(): void {
    const { platform, globalKeyId } = this.#module;
    platform.keyed.write8(this.#at + PAGE_TYPE_BYTE, globalKeyId, PT.NDA);
  }

  get lockKind(): LockKind {
    return LOCK_KINDS[this.size]!;
  }
}

/** Entries of 4 KiB pages from an address on: reserved or free. */
function smallEntries(tdmr: Tdmr, first: Hpa, count: number): Uint8Array {
  const entries = new Uint8Array(count * PAMT_ENTRY_SIZE);
  for (const { base, size } of tdmr.reserved) {
    const from = Math.max(0, (base - first) / 4096);
    const end = Math.min(count, (base + size - first) / 4096);
    for (let i = from; i < end; i++) entries[i * PAMT_ENTRY_SIZE + PAGE_TYPE_BYTE] = PT.RSVD;
  }
  return entries;
}

export class Pamt {
  readonly #module: TdxModule;

  constructor(module: TdxModule) {
    this.#module = module;
  }

  #tdmrOf(pa: Hpa): Tdmr | undefined {
    return this.#module.tdmrs.find((tdmr) => tdmr.contains(pa));
  }

  #entryIn(tdmr: Tdmr, pa: Hpa, size: PageLevel): PamtEntry {
    const bytes = LEVEL_BYTES[size]!;
    const page = pa - (pa % bytes);
    const at = tdmr.pamt[size]!.base + ((page - tdmr.base) / bytes) * PAMT_ENTRY_SIZE;
    return new PamtEntry(this.#module, at, page, size);
  }

  /** Makes the entries of the next pages of a TDMR: reserved ones and free ones. */
  initialize(tdmr: Tdmr, pages: number): void {
    const { keyed } = this.#module.platform;
    const first = tdmr.next;
    for (const size of [0, 1, 2] as const) {
      const bytes = LEVEL_BYTES[size]!;
      // Entries of larger pages are made with the first page they cover.
      const count = Math.max(1, (pages * 4096) / bytes);
      if (first % bytes !== 0) continue;
      const entries = size === 0 ? smallEntries(tdmr, first, count) : new Uint8Array(count * PAMT_ENTRY_SIZE);
      const at = tdmr.pamt[size]!.base + ((first - tdmr.base) / bytes) * PAMT_ENTRY_SIZE;
      // No line of a PAMT page is the host's any more: what is written whole changes hands by that, the rest is taken.
      for (let page = at - (at % 4096); page < at + entries.length; page += 4096) {
        const whole = page >= at && page + 4096 <= at + entries.length;
        if (!whole && !keyed.owns(page, 4096, this.#module.globalKeyId)) keyed.take(page, this.#module.globalKeyId);
      }
      keyed.writeBytes(at, this.#module.globalKeyId, entries);
    }
    tdmr.next = Math.min(tdmr.end, first + pages * 4096);
    tdmr.initialized = tdmr.next - (tdmr.next % GIB);
  }

  /**
   * The entry of one size for an address that a TD has; null if the address has no PAMT. If the host wrote over the entry,
   * using it is a machine check and changes nothing.
   */
  entry(pa: Hpa, size: PageLevel): PamtEntry | null {
    const tdmr = this.#tdmrOf(pa);
    return tdmr?.isInitialized(pa, 1) === true ? this.#entryIn(tdmr, pa, size) : null;
  }

  /**
   * The entries for an address from the one of 1 GiB down to the one that rules it or that of the size asked for. Null if it
   * is in no TDMR or not initialised yet, or if the host wrote to the PAMT there: what is not known to be free is not used.
   */
  path(pa: Hpa, size: PageLevel = 0): PamtEntry[] | null {
    const tdmr = this.#tdmrOf(pa);
    if (tdmr?.isInitialized(pa - (pa % 4096), 4096) !== true) return null;
    const path: PamtEntry[] = [];
    for (let level: PageLevel = 2; level >= 0; level--) {
      const entry = this.#entryIn(tdmr, pa, level as PageLevel);
      if (!entry.isIntact) return null;
      path.push(entry);
      if (level === size || entry.pageType !== PT.NDA) break;
    }
    return path;
  }

  /** The entry that rules an address; null where {@link path} is. */
  lookup(pa: Hpa): PamtEntry | null {
    return this.path(pa)?.at(-1) ?? null;
  }

  /** Whether a page that its own entry of this size calls free has no part that is reserved or in use. */
  isFree(page: Hpa, size: PageLevel): boolean {
    const tdmr = this.#tdmrOf(page)!;
    const bytes = LEVEL_BYTES[size]!;
    for (let smaller = size - 1; smaller >= 0; smaller--) {
      const step = LEVEL_BYTES[smaller]!;
      for (let pa = page; pa < page + bytes; pa += step) {
        const entry = this.#entryIn(tdmr, pa, smaller as PageLevel);
        if (!entry.isIntact || entry.pageType !== PT.NDA) return false;
      }
    }
    return true;
  }
}
