/**
 * A second, slow translation for tests, written straight from the manual's tables: it shares no code with the MMU.
 * @sdm "Paging", "The Extended Page Table Mechanism (EPT)"
 */

/** Everything a translation depends on. */
export interface ReferenceState {
  readonly read64: (address: bigint) => bigint;
  readonly read32: (address: bigint) => number;
  /** Sets bits of the low half of an entry. */
  readonly setBits: (address: bigint, bits: number) => void;
  readonly mode: 'off' | '32' | 'pae' | '4' | '5';
  readonly cr3: bigint;
  readonly pdptes: readonly bigint[];
  readonly wp: boolean;
  readonly pse: boolean;
  readonly nxe: boolean;
  readonly smep: boolean;
  readonly smap: boolean;
  /** CR4.PKE. */
  readonly pke: boolean;
  readonly pkru: number;
  readonly ac: boolean;
  readonly physicalBits: number;
  readonly ept: { readonly root: bigint; readonly accessedDirty: boolean } | null;
}

export type ReferenceResult =
  | { readonly kind: 'ok'; readonly hpa: bigint }
  | { readonly kind: 'fault'; readonly error: number }
  | { readonly kind: 'violation'; readonly gpa: bigint; readonly qualification: number }
  | { readonly kind: 'misconfiguration'; readonly gpa: bigint };

type Stop = Exclude<ReferenceResult, { kind: 'ok' }>;
type Kind = 'read' | 'write' | 'fetch';

const bit = (value: bigint, n: number): boolean => ((value >> BigInt(n)) & 1n) === 1n;
const bits = (value: bigint, high: number, low: number): bigint =>
  (value >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);

class Stopped {
  readonly result: Stop;
  constructor(result: Stop) {
    this.result = result;
  }
}

/** Translates one access; sets accessed and dirty flags through `setBits`. */
export function referenceWalk(
  s: ReferenceState,
  linear: bigint,
  access: Kind,
  userMode: boolean,
  implicit: boolean,
): ReferenceResult {
  try {
    return { kind: 'ok', hpa: guestWalk(s, linear, access, userMode && !implicit, implicit) };
  } catch (e) {
    if (e instanceof Stopped) return e.result;
    throw e;
  }
}

function guestWalk(s: ReferenceState, linear: bigint, access: Kind, user: boolean, implicit: boolean): bigint {
  const fault = (present: boolean, reserved: boolean, key = false): never => {
    let error = (present ? 1 : 0) + (key ? 32 : 0);
    if (access === 'write') error += 2;
    if (user) error += 4;
    if (reserved) error += 8;
    const pae = s.mode !== '32';
    if (access === 'fetch' && ((pae && s.nxe) || s.smep)) error += 16;
    throw new Stopped({ kind: 'fault', error });
  };
  if (s.mode === 'off') return finalTranslation(s, linear, access, true, true, false);

  const used: { gpa: bigint; value: bigint }[] = [];
  let executeDisable = false;
  const take = (gpa: bigint, value: bigint): void => {
    used.push({ gpa, value });
  };
  let gpa: bigint;
  let key = 0n;
  if (s.mode === '32') {
    const pdeAt = (s.cr3 & 0xffff_f000n) + bits(linear, 31, 22) * 4n;
    const pde = BigInt(s.read32(pagingStructure(s, pdeAt)));
    if (!bit(pde, 0)) fault(false, false);
    take(pdeAt, pde);
    if (s.pse && bit(pde, 7)) {
      const top = Math.min(40, s.physicalBits);
      // Bits 21:(top - 19) are reserved, bits (top - 20):13 are address bits (top - 1):32.
      if (bits(pde, 21, top - 19) !== 0n) fault(true, true);
      gpa = (bits(pde, top - 20, 13) << 32n) | (bits(pde, 31, 22) << 22n) | bits(linear, 21, 0);
    } else {
      const pteAt = (bits(pde, 31, 12) << 12n) + bits(linear, 21, 12) * 4n;
      const pte = BigInt(s.read32(pagingStructure(s, pteAt)));
      if (!bit(pte, 0)) fault(false, false);
      take(pteAt, pte);
      gpa = (bits(pte, 31, 12) << 12n) | bits(linear, 11, 0);
    }
  } else {
    let table: bigint;
    let level: number;
    if (s.mode === 'pae') {
      const pdpte = s.pdptes[Number(bits(linear, 31, 30))]!;
      if (!bit(pdpte, 0)) fault(false, false);
      table = bits(pdpte, 51, 12) << 12n;
      level = 2;
    } else {
      table = bits(s.cr3, 51, 12) << 12n;
      level = s.mode === '4' ? 4 : 5;
    }
    for (;;) {
      const shift = 12 + 9 * (level - 1);
      const at = table + bits(linear, shift + 8, shift) * 8n;
      const entry = s.read64(pagingStructure(s, at));
      if (!bit(entry, 0)) fault(false, false);
      if (s.physicalBits < 52 && bits(entry, 51, s.physicalBits) !== 0n) fault(true, true);
      if (s.mode === 'pae' && bits(entry, 62, 52) !== 0n) fault(true, true);
      if (!s.nxe && bit(entry, 63)) fault(true, true);
      if (level >= 4 && bit(entry, 7)) fault(true, true);
      const isPage = level === 1 || bit(entry, 7);
      if (isPage && level > 1 && bits(entry, shift - 1, 13) !== 0n) fault(true, true);
      take(at, entry);
      executeDisable ||= bit(entry, 63);
      if (isPage) {
        key = bits(entry, 62, 59);
        gpa = (bits(entry, 51, shift) << BigInt(shift)) | bits(linear, shift - 1, 0);
        break;
      }
      table = bits(entry, 51, 12) << 12n;
      level--;
    }
  }

  const writable = used.every(({ value }) => bit(value, 1));
  const userPage = used.every(({ value }) => bit(value, 2));
  const keyed = s.pke && (s.mode === '4' || s.mode === '5') && userPage && access !== 'fetch';
  const accessDisable = bit(BigInt(s.pkru), Number(2n * key));
  const writeDisable = bit(BigInt(s.pkru), Number(2n * key + 1n));
  const keyViolation = keyed && (accessDisable || (access === 'write' && writeDisable && (user || s.wp)));
  let allowed: boolean;
  if (user) {
    allowed = userPage && (access === 'read' || (access === 'write' ? writable : !executeDisable));
  } else if (access === 'fetch') {
    allowed = userPage ? !s.smep && !executeDisable : !executeDisable;
  } else {
    const smapBlocks = s.smap && userPage && (implicit || !s.ac);
    allowed = !smapBlocks && (access === 'read' || writable || !s.wp);
  }
  if (!allowed || keyViolation) fault(true, false, keyViolation);

  used.forEach(({ gpa: at, value }, i) => {
    let set = bit(value, 5) ? 0 : 0x20;
    if (i === used.length - 1 && access === 'write' && !bit(value, 6)) set |= 0x40;
    if (set === 0) return;
    const hpa =
      s.ept === null
        ? at
        : eptWalk(s, s.ept, at, { read: true, write: true, execute: false }, (rights) => 3 | (rights << 3));
    s.setBits(hpa, set);
  });
  return finalTranslation(s, gpa, access, userPage, writable, executeDisable);
}

/** Host-physical address of a paging-structure entry that is read. */
function pagingStructure(s: ReferenceState, gpa: bigint): bigint {
  if (s.ept === null) return gpa;
  const { accessedDirty } = s.ept;
  return eptWalk(
    s,
    s.ept,
    gpa,
    { read: true, write: accessedDirty, execute: false },
    (rights) => (accessedDirty ? 3 : 1) | (rights << 3),
  );
}

function finalTranslation(
  s: ReferenceState,
  gpa: bigint,
  access: Kind,
  userPage: boolean,
  writable: boolean,
  executeDisable: boolean,
): bigint {
  if (s.ept === null) return gpa;
  const kind = access === 'read' ? 1 : access === 'write' ? 2 : 4;
  const advanced = (userPage ? 0x200 : 0) | (writable ? 0x400 : 0) | (executeDisable ? 0x800 : 0);
  const need = { read: access === 'read', write: access === 'write', execute: access === 'fetch' };
  return eptWalk(s, s.ept, gpa, need, (rights) => kind | (rights << 3) | 0x100 | advanced);
}

function eptWalk(
  s: ReferenceState,
  ept: { readonly root: bigint; readonly accessedDirty: boolean },
  gpa: bigint,
  need: { read: boolean; write: boolean; execute: boolean },
  qualify: (rights: number) => number,
): bigint {
  const violation = (rights: number): never => {
    throw new Stopped({ kind: 'violation', gpa, qualification: qualify(rights) });
  };
  const misconfiguration = (): never => {
    throw new Stopped({ kind: 'misconfiguration', gpa });
  };
  if (gpa >> 48n !== 0n) violation(0);
  const used: { at: bigint; entry: bigint }[] = [];
  let table = ept.root;
  let rights = 7;
  let level = 4;
  let hpa: bigint;
  for (;;) {
    const shift = 12 + 9 * (level - 1);
    const at = table + bits(gpa, shift + 8, shift) * 8n;
    const entry = s.read64(at);
    if (bits(entry, 2, 0) === 0n) violation(0);
    if (bit(entry, 1) && !bit(entry, 0)) misconfiguration();
    if (s.physicalBits < 52 && bits(entry, 51, s.physicalBits) !== 0n) misconfiguration();
    const isPage = level === 1 || (level < 4 && bit(entry, 7));
    if (level === 4 && bits(entry, 7, 3) !== 0n) misconfiguration();
    if (level < 4 && !isPage && bits(entry, 6, 3) !== 0n) misconfiguration();
    if (isPage && [2n, 3n, 7n].includes(bits(entry, 5, 3))) misconfiguration();
    if (isPage && level > 1 && bits(entry, shift - 1, 12) !== 0n) misconfiguration();
    rights &= Number(bits(entry, 2, 0));
    used.push({ at, entry });
    if (isPage) {
      hpa = (bits(entry, 51, shift) << BigInt(shift)) | bits(gpa, shift - 1, 0);
      break;
    }
    table = bits(entry, 51, 12) << 12n;
    level--;
  }
  if ((need.read && !(rights & 1)) || (need.write && !(rights & 2)) || (need.execute && !(rights & 4)))
    violation(rights);
  if (ept.accessedDirty) {
    used.forEach(({ at, entry }, i) => {
      let set = bit(entry, 8) ? 0 : 0x100;
      if (i === used.length - 1 && need.write && !bit(entry, 9)) set |= 0x200;
      if (set !== 0) s.setBits(at, set);
    });
  }
  return hpa;
}
