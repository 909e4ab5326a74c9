/**
 * Content of a Secure EPT entry, as the processor's page walk and the module read it.
 *
 * ```
 *   0 R  1 W  2 X  5:3 memory type  6 ignore PAT  7 leaf  9 state  10 X (user)  11 entry lock
 *   51:12 HPA with the TD's HKID  52 host priority  56:53 state  63 suppress #VE
 * ```
 * Bits 7:6 belong to the state as well: every leaf has both, also one of 4 KiB. Secure EPT entries suppress #VE in every
 * state; whether a guest sees one is the module's decision at the EPT violation.
 *
 * @tdx "Secure EPT", Secure EPT Entry Format
 */
import type { Hpa } from '../../util/address.ts';
import { ENCODINGS, SEPT, type SeptState, stateOfEncoding } from './sept-state.ts';

const PERMISSIONS_RWX = 0x407n; // R, W, X, X for user mode
const PERMISSIONS_R_X = 0x405n;
const MEMORY_TYPE_WB = 6n << 3n;
const MEMORY_TYPE_MASK = 7n << 3n;
const IGNORE_PAT = 1n << 6n;
const LEAF = 1n << 7n;
const STATE_BIT_9 = 1n << 9n;
const STATE_MASK_HIGH = 0xfn << 53n;
const STATE_MASK: bigint = STATE_BIT_9 | STATE_MASK_HIGH | LEAF | IGNORE_PAT;
const HPA_MASK = 0x000f_ffff_ffff_f000n;
/** HPA bits below the KeyID. */
const HPA_WITHOUT_KEYID = 0x0000_3fff_ffff_f000n;
const SUPPRESS_VE = 1n << 63n;
/** The host waits for the entry's lock: the guest has to leave it to the host. */
export const HOST_PRIORITY: bigint = 1n << 52n;
const PUBLIC_LEAF: bigint = PERMISSIONS_RWX | MEMORY_TYPE_MASK | HPA_WITHOUT_KEYID | IGNORE_PAT | LEAF | SUPPRESS_VE;
const PUBLIC_NON_LEAF: bigint = PERMISSIONS_RWX | LEAF;
/** Where a KeyID sits in a physical address of this machine. */
const KEYID_SHIFT = 46n;

/** Entries per table. */
export const SEPT_ENTRIES = 512;
/** Highest level a Secure EPT page can be mapped at (1 GiB). */
export const MAX_LEAF_LEVEL = 2;

const bitsOf = (encoding: number): bigint =>
  (BigInt(encoding & 1) << 9n) | (BigInt((encoding >> 1) & 0xf) << 53n) | (BigInt((encoding >> 5) & 3) << 6n);
const BITS: readonly bigint[] = Array.from({ length: ENCODINGS }, (_, encoding) => bitsOf(encoding));
const stateBits = (s: SeptState): bigint => BITS[s.encoding]!;

/** A FREE entry: what a new table is filled with. */
export const SEPT_FREE_ENTRY: bigint = stateBits(SEPT.FREE) | SUPPRESS_VE;
/** A REMOVED entry: as FREE, in a TD that is being imported. */
export const SEPT_REMOVED_ENTRY: bigint = stateBits(SEPT.REMOVED) | SUPPRESS_VE;

/** State of an entry. A combination of bits that nobody writes is a broken module: throws. */
export function entryState(entry: bigint): SeptState {
  // perf: every step of a walk comes here; as numbers it is a fraction of what it is as bigints.
  const low = Number(BigInt.asUintN(32, entry));
  const high = Number(BigInt.asUintN(32, entry >> 32n));
  const encoding = ((low >>> 9) & 1) | ((high >>> 20) & 0x1e) | ((low >>> 1) & 0x60);
  const found = stateOfEncoding(encoding);
  if (found === undefined) throw new Error(`Secure EPT entry ${entry.toString(16)} is in no state`);
  return found;
}

/** Whether the page walk goes on at (or translates by) this entry: any permission bit is set. */
export const isPresent = (entry: bigint): boolean => (entry & 7n) !== 0n;

/** Permissions that an entry in this state has. */
function permissions(s: SeptState): bigint {
  if (s === SEPT.NL_MAPPED || s.accessible) return PERMISSIONS_RWX;
  return s.readable ? PERMISSIONS_R_X : 0n;
}

/** A leaf in state `s` for the page at `hpa` (without KeyID) of the TD with `hkid`. */
export function leafEntry(s: SeptState, hpa: Hpa, hkid: number): bigint {
  return permissions(s) | stateBits(s) | MEMORY_TYPE_WB | BigInt(hpa) | (BigInt(hkid) << KEYID_SHIFT) | SUPPRESS_VE;
}

/** A mapped entry that refers to the table at `hpa`. */
export function tableEntry(hpa: Hpa, hkid: number): bigint {
  return PERMISSIONS_RWX | stateBits(SEPT.NL_MAPPED) | BigInt(hpa) | (BigInt(hkid) << KEYID_SHIFT) | SUPPRESS_VE;
}

/** The same entry in another state, with the permissions of that state. */
export function withState(entry: bigint, s: SeptState): bigint {
  return (entry & ~(STATE_MASK | PERMISSIONS_RWX)) | stateBits(s) | permissions(s);
}

/** The same entry for another page. */
export const withHpa = (entry: bigint, hpa: Hpa, hkid: number): bigint =>
  (entry & ~HPA_MASK) | BigInt(hpa) | (BigInt(hkid) << KEYID_SHIFT);

/** The page or table of an entry, without KeyID. */
export const entryHpa = (entry: bigint): Hpa => Number(entry & HPA_WITHOUT_KEYID);

const BLOCKED_FROM: ReadonlyMap<SeptState, SeptState> = new Map<SeptState, SeptState>([
  [SEPT.NL_MAPPED, SEPT.NL_BLOCKED],
  [SEPT.MAPPED, SEPT.BLOCKED],
  [SEPT.BLOCKEDW, SEPT.BLOCKED],
  [SEPT.PENDING, SEPT.PENDING_BLOCKED],
  [SEPT.PENDING_BLOCKEDW, SEPT.PENDING_BLOCKED],
]);

const UNBLOCKED_FROM: ReadonlyMap<SeptState, SeptState> = new Map<SeptState, SeptState>([
  [SEPT.NL_BLOCKED, SEPT.NL_MAPPED],
  [SEPT.BLOCKED, SEPT.MAPPED],
  [SEPT.PENDING_BLOCKED, SEPT.PENDING],
]);

/** Bits 20:12 of a pending 2 MiB leaf count the 4 KiB parts that an interrupted TDG.MEM.PAGE.ACCEPT has initialised. */
const ACCEPT_PROGRESS_SHIFT = 12n;
const ACCEPT_PROGRESS = 0x1ffn << ACCEPT_PROGRESS_SHIFT;
/** Parts of a pending 2 MiB page that need not be initialised again. */
export const acceptProgress = (entry: bigint): number => Number((entry & ACCEPT_PROGRESS) >> ACCEPT_PROGRESS_SHIFT);
/** The same entry with so many parts initialised. */
export const withAcceptProgress = (entry: bigint, parts: number): bigint =>
  (entry & ~ACCEPT_PROGRESS) | (BigInt(parts) << ACCEPT_PROGRESS_SHIFT);
/** The same entry without a trace of an interrupted acceptance. */
export const withoutAcceptProgress = (entry: bigint, level: number): bigint =>
  level === 1 && entryState(entry).pending ? entry & ~ACCEPT_PROGRESS : entry;

const ACCEPTED_FROM: ReadonlyMap<SeptState, SeptState> = new Map<SeptState, SeptState>([
  [SEPT.PENDING, SEPT.MAPPED],
  [SEPT.PENDING_EXPORTED_DIRTY, SEPT.EXPORTED_DIRTY],
]);

function moved(entry: bigint, table: ReadonlyMap<SeptState, SeptState>): bigint {
  const to = table.get(entryState(entry));
  return to === undefined ? entry : withState(entry, to);
}

/** The entry after TDH.MEM.RANGE.BLOCK. */
export const blocked = (entry: bigint): bigint => moved(entry, BLOCKED_FROM);
/** The entry after TDH.MEM.RANGE.UNBLOCK; one that is not blocked stays as it is. */
export const unblocked = (entry: bigint): bigint => moved(entry, UNBLOCKED_FROM);
/** The entry after TDG.MEM.PAGE.ACCEPT. */
export const accepted = (entry: bigint): bigint => moved(entry, ACCEPTED_FROM);

/**
 * What the host is told of an entry in RCX: the architectural bits, without HKID and without the state.
 *
 * @tdx "ABI Reference", Secure EPT Entry Information as Returned by TDX Interface Functions
 */
export function publicEntry(entry: bigint): bigint {
  const s = entryState(entry);
  if (s === SEPT.FREE) return SUPPRESS_VE;
  return entry & (s.leaf ? PUBLIC_LEAF : PUBLIC_NON_LEAF);
}

/** What the host is told in RDX: level in bits 2:0, state in bits 15:8. */
export const publicInfo = (entry: bigint, level: number): bigint =>
  BigInt(level) | (BigInt(entryState(entry).publicState) << 8n);
