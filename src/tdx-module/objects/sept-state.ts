/**
 * States of a Secure EPT entry: their encoding, the number the host is told, and what is allowed in each.
 *
 * The state of an entry is spread over seven of its bits: enc[0] = bit 9, enc[4:1] = bits 56:53, enc[6:5] = bits 7:6.
 *
 * @tdx "Secure EPT", Secure EPT Entry State
 */

/** One state. The flags say what the rules below ask. */
export interface SeptState {
  readonly name: string;
  /** The seven bits. */
  readonly encoding: number;
  /** What RDX bits 15:8 of TDH.MEM.* say; bit 7 marks an entry that refers to a table. */
  readonly publicState: number;
  /** Maps a page: bit 7 of the entry. */
  readonly leaf: boolean;
  /** Guest may read and write. */
  readonly accessible: boolean;
  /** Guest may read. */
  readonly readable: boolean;
  /** Waits for TDG.MEM.PAGE.ACCEPT, which may come. */
  readonly acceptable: boolean;
  /** Any state that waits for acceptance, whether or not the guest could accept now. */
  readonly pending: boolean;
  /** Closed to the guest by TDH.MEM.RANGE.BLOCK. */
  readonly blocked: boolean;
  /** A processor's TLB may still hold a translation that the entry gave. */
  readonly trackingRequired: boolean;
}

interface StateOptions {
  leaf?: boolean;
  accessible?: boolean;
  readable?: boolean;
  acceptable?: boolean;
  pending?: boolean;
  blocked?: boolean;
  untracked?: boolean;
}

function state(name: string, encoding: number, publicState: number, o: StateOptions = {}): SeptState {
  return {
    name,
    encoding,
    publicState,
    leaf: o.leaf ?? false,
    accessible: o.accessible ?? false,
    readable: o.readable ?? o.accessible ?? false,
    acceptable: o.acceptable ?? false,
    pending: o.pending ?? false,
    blocked: o.blocked ?? false,
    trackingRequired: o.untracked !== true,
  };
}

/** Name of a state. */
export type SeptStateName =
  | 'FREE'
  | 'REMOVED'
  | 'NL_MAPPED'
  | 'NL_BLOCKED'
  | 'MAPPED'
  | 'BLOCKED'
  | 'BLOCKEDW'
  | 'EXPORTED_BLOCKEDW'
  | 'EXPORTED_DIRTY'
  | 'EXPORTED_DIRTY_BLOCKEDW'
  | 'PENDING'
  | 'PENDING_BLOCKED'
  | 'PENDING_BLOCKEDW'
  | 'PENDING_EXPORTED_BLOCKEDW'
  | 'PENDING_EXPORTED_DIRTY'
  | 'PENDING_EXPORTED_DIRTY_BLOCKEDW';

/** The states by the specification's names. Those of live migration exist as states; no leaf of this module enters them. */
export const SEPT: Readonly<Record<SeptStateName, SeptState>> = {
  FREE: state('FREE', 0x0e, 0, { untracked: true }),
  REMOVED: state('REMOVED', 0x0c, 5, { untracked: true }),
  NL_MAPPED: state('NL_MAPPED', 0x00, 132),
  NL_BLOCKED: state('NL_BLOCKED', 0x08, 129, { blocked: true }),
  MAPPED: state('MAPPED', 0x60, 4, { leaf: true, accessible: true }),
  BLOCKED: state('BLOCKED', 0x68, 1, { leaf: true, blocked: true }),
  BLOCKEDW: state('BLOCKEDW', 0x64, 8, { leaf: true, readable: true }),
  EXPORTED_BLOCKEDW: state('EXPORTED_BLOCKEDW', 0x66, 9, { leaf: true, readable: true, untracked: true }),
  EXPORTED_DIRTY: state('EXPORTED_DIRTY', 0x63, 11, { leaf: true, accessible: true }),
  EXPORTED_DIRTY_BLOCKEDW: state('EXPORTED_DIRTY_BLOCKEDW', 0x67, 12, { leaf: true, readable: true }),
  PENDING: state('PENDING', 0x70, 2, { leaf: true, acceptable: true, pending: true }),
  PENDING_BLOCKED: state('PENDING_BLOCKED', 0x78, 3, { leaf: true, pending: true, blocked: true }),
  PENDING_BLOCKEDW: state('PENDING_BLOCKEDW', 0x74, 16, { leaf: true, pending: true }),
  PENDING_EXPORTED_BLOCKEDW: state('PENDING_EXPORTED_BLOCKEDW', 0x76, 17, {
    leaf: true,
    pending: true,
    untracked: true,
  }),
  PENDING_EXPORTED_DIRTY: state('PENDING_EXPORTED_DIRTY', 0x73, 19, { leaf: true, acceptable: true, pending: true }),
  PENDING_EXPORTED_DIRTY_BLOCKEDW: state('PENDING_EXPORTED_DIRTY_BLOCKEDW', 0x77, 20, { leaf: true, pending: true }),
};

/** Every state. */
export const SEPT_STATES: readonly SeptState[] = Object.values(SEPT);

/** How many encodings seven bits have. */
export const ENCODINGS = 128;
const BY_ENCODING: readonly (SeptState | undefined)[] = Array.from({ length: ENCODINGS }, (_, encoding) =>
  SEPT_STATES.find((s) => s.encoding === encoding),
);

/** The state with this encoding; undefined for a combination of bits that the module never writes. */
export const stateOfEncoding = (encoding: number): SeptState | undefined => BY_ENCODING[encoding];

const MIGRATED = [
  SEPT.EXPORTED_BLOCKEDW,
  SEPT.EXPORTED_DIRTY,
  SEPT.EXPORTED_DIRTY_BLOCKEDW,
  SEPT.PENDING_EXPORTED_BLOCKEDW,
  SEPT.PENDING_EXPORTED_DIRTY,
  SEPT.PENDING_EXPORTED_DIRTY_BLOCKEDW,
];

/** A leaf that acts on a Secure EPT entry. */
export type SeptLeafName =
  | 'TDH.MEM.PAGE.ADD'
  | 'TDH.MEM.SEPT.ADD'
  | 'TDH.MEM.PAGE.RELOCATE'
  | 'TDH.MEM.PAGE.AUG'
  | 'TDH.MEM.RANGE.BLOCK'
  | 'TDH.MEM.RD'
  | 'TDH.MEM.WR'
  | 'TDH.MEM.PAGE.DEMOTE'
  | 'TDH.MR.EXTEND'
  | 'TDH.MEM.PAGE.PROMOTE'
  | 'TDH.MEM.SEPT.RD'
  | 'TDH.MEM.PAGE.REMOVE'
  | 'TDH.MEM.SEPT.REMOVE'
  | 'TDH.MEM.RANGE.UNBLOCK'
  | 'TDG.MEM.PAGE.ACCEPT';

/**
 * In which states of the entry a leaf may act.
 *
 * @tdx "Secure EPT", SEPT Entry State and the interface functions
 */
export const LEAF_ALLOWED: Readonly<Record<SeptLeafName, ReadonlySet<SeptState>>> = {
  'TDH.MEM.PAGE.ADD': new Set([SEPT.FREE]),
  'TDH.MEM.SEPT.ADD': new Set([SEPT.FREE, SEPT.NL_MAPPED]),
  'TDH.MEM.PAGE.RELOCATE': new Set([
    SEPT.MAPPED,
    SEPT.BLOCKED,
    SEPT.BLOCKEDW,
    SEPT.PENDING,
    SEPT.PENDING_BLOCKED,
    SEPT.PENDING_BLOCKEDW,
    ...MIGRATED,
  ]),
  'TDH.MEM.PAGE.AUG': new Set([SEPT.FREE, SEPT.REMOVED]),
  'TDH.MEM.RANGE.BLOCK': new Set([SEPT.NL_MAPPED, SEPT.MAPPED, SEPT.BLOCKEDW, SEPT.PENDING, SEPT.PENDING_BLOCKEDW]),
  'TDH.MEM.RD': new Set([
    SEPT.MAPPED,
    SEPT.BLOCKEDW,
    SEPT.EXPORTED_BLOCKEDW,
    SEPT.EXPORTED_DIRTY,
    SEPT.EXPORTED_DIRTY_BLOCKEDW,
  ]),
  'TDH.MEM.WR': new Set([SEPT.MAPPED, SEPT.EXPORTED_DIRTY]),
  'TDH.MEM.PAGE.DEMOTE': new Set([SEPT.MAPPED, SEPT.BLOCKED, SEPT.PENDING, SEPT.PENDING_BLOCKED]),
  'TDH.MR.EXTEND': new Set([SEPT.MAPPED]),
  'TDH.MEM.PAGE.PROMOTE': new Set([SEPT.NL_MAPPED, SEPT.NL_BLOCKED]),
  'TDH.MEM.SEPT.RD': new Set(SEPT_STATES),
  'TDH.MEM.PAGE.REMOVE': new Set([
    SEPT.MAPPED,
    SEPT.BLOCKED,
    SEPT.BLOCKEDW,
    SEPT.PENDING,
    SEPT.PENDING_BLOCKED,
    SEPT.PENDING_BLOCKEDW,
  ]),
  'TDH.MEM.SEPT.REMOVE': new Set([SEPT.NL_MAPPED, SEPT.NL_BLOCKED]),
  'TDH.MEM.RANGE.UNBLOCK': new Set([SEPT.NL_BLOCKED, SEPT.BLOCKED, SEPT.PENDING_BLOCKED]),
  'TDG.MEM.PAGE.ACCEPT': new Set([SEPT.PENDING, SEPT.PENDING_EXPORTED_DIRTY]),
};

/** Whether `leaf` may act on an entry in state `s`. */
export const leafAllowed = (leaf: SeptLeafName, s: SeptState): boolean => LEAF_ALLOWED[leaf].has(s);
