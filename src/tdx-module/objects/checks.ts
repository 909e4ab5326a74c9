/**
 * Checks that leaves have in common, in the order of the specification. Each gives its object, or the status (a bigint)
 * with which the leaf ends.
 *
 * @tdx "ABI Reference: Interface Functions", Common operand checks
 */
import { isPrivateKeyId, keyIdOf, stripKeyId } from '../../machine/seam/key-id.ts';
import { SEAMRR_BASE, SEAMRR_SIZE } from '../../machine/seam/seam.ts';
import type { Hpa } from '../../util/address.ts';
import type { LockMode } from '../locks.ts';
import { PHYSICAL_ADDRESS_BITS } from '../platform.ts';
import { OPERAND, STATUS, status } from '../status.ts';
import type { Call } from './call.ts';
import { leafAllowedIn } from './op-state.ts';
import { type PamtEntry, PT } from './pamt.ts';
import type { Tdcs } from './tdcs.ts';
import { LEVEL_BYTES, type PageLevel } from './tdmr.ts';
import { LIFECYCLE, type Tdr } from './tdr.ts';
import { NO_LP, type Tdvps } from './tdvps.ts';

export const operandInvalid = (operand: number): bigint => status(STATUS.OPERAND_INVALID, operand);
export const operandBusy = (operand: number): bigint => status(STATUS.OPERAND_BUSY, operand);

/** Makes way for an interrupt with nothing changed: the caller starts again, with the operands it still has. */
export function interrupted(call: Call): bigint {
  call.out.rcx = undefined;
  call.out.rdx = undefined;
  return status(STATUS.INTERRUPTED_RESTARTABLE);
}

/** An address that fits and is aligned, KeyID bits included; else OPERAND_INVALID. */
function physical(value: bigint, operand: number, alignment: number): Hpa | bigint {
  if (value >> BigInt(PHYSICAL_ADDRESS_BITS) !== 0n) return operandInvalid(operand);
  const pa = Number(value);
  return pa % alignment === 0 ? pa : operandInvalid(operand);
}

/** The address of a page to become or being private: aligned, KeyID bits clear. */
export function privatePa(value: bigint, operand: number, alignment = 4096): Hpa | bigint {
  const pa = physical(value, operand, alignment);
  return typeof pa === 'number' && keyIdOf(pa) !== 0 ? operandInvalid(operand) : pa;
}

const inSeamrr = (pa: Hpa): boolean => pa >= SEAMRR_BASE && pa < SEAMRR_BASE + SEAMRR_SIZE;
const isShared = (pa: Hpa): boolean => !isPrivateKeyId(keyIdOf(pa)) && !inSeamrr(stripKeyId(pa));
/** Whether a value is the address of memory that the host may share: it fits, has no private KeyID, is outside SEAMRR. */
export const isSharedPa = (value: bigint): boolean =>
  value >> BigInt(PHYSICAL_ADDRESS_BITS) === 0n && isShared(Number(value));

/**
 * The address of a buffer of the host's: aligned, without a private KeyID, outside SEAMRR. It keeps its (shared) KeyID bits.
 */
export function sharedPa(value: bigint, operand: number, alignment: number): Hpa | bigint {
  const pa = physical(value, operand, alignment);
  if (typeof pa === 'bigint') return pa;
  return isShared(pa) ? pa : operandInvalid(operand);
}

/** Walks the PAMT to the entry that rules an address, or that of a size: those on the way are locked as shared. */
function walkPamt(call: Call, pa: Hpa, operand: number, mode: LockMode, size: PageLevel): PamtEntry | bigint {
  const path = call.module.pamt.path(pa, size);
  if (path === null) return status(STATUS.OPERAND_ADDR_RANGE_ERROR, operand);
  const entry = path.at(-1)!;
  const locked = path.every((each) => call.lock(each.lockKind, each.page, each === entry ? mode : 'shared'));
  return locked ? entry : operandBusy(operand);
}

/** Finds and locks the PAMT entry of a page in use. */
export function lockPage(call: Call, value: bigint, operand: number, mode: LockMode): PamtEntry | bigint {
  const pa = privatePa(value, operand);
  return typeof pa === 'bigint' ? pa : walkPamt(call, pa, operand, mode, 0);
}

/**
 * Finds and locks a page that nobody has: a leaf gives it to a TD.
 * @param size 0 for 4 KiB, 1 for 2 MiB, 2 for 1 GiB; the address must be aligned to it
 */
export function newPage(call: Call, value: bigint, operand: number, size: PageLevel = 0): PamtEntry | bigint {
  const pa = privatePa(value, operand, LEVEL_BYTES[size]!);
  if (typeof pa === 'bigint') return pa;
  const entry = walkPamt(call, pa, operand, 'exclusive', size);
  if (typeof entry === 'bigint') return entry;
  const free = entry.size === size && entry.pageType === PT.NDA && call.module.pamt.isFree(pa, size);
  return free ? entry : status(STATUS.PAGE_METADATA_INCORRECT, operand);
}

/** Finds and locks a TD by its TDR's address. */
export function lockTdr(call: Call, value: bigint, operand: number, mode: LockMode): Tdr | bigint {
  const entry = lockPage(call, value, operand, mode);
  if (typeof entry === 'bigint') return entry;
  if (entry.pageType !== PT.TDR) return status(STATUS.PAGE_METADATA_INCORRECT, operand);
  call.td = call.module.tdrAt(entry.page);
  return call.td;
}

/** The TD's control structure, if the TD is alive, has its keys and all pages of its TDCS. */
export function tdcsOf(tdr: Tdr): Tdcs | bigint {
  if (tdr.fatal) return status(STATUS.TD_FATAL);
  if (tdr.lifecycle !== LIFECYCLE.KEYS_CONFIGURED) return status(STATUS.TD_KEYS_NOT_CONFIGURED);
  return tdr.hasTdcs ? tdr.tdcs : status(STATUS.TDCS_NOT_ALLOCATED);
}

/** As {@link tdcsOf}, and the TD's operation state, which is locked, allows the leaf. */
export function tdInState(call: Call, tdr: Tdr, mode: LockMode = 'shared', leaf: number = call.leaf): Tdcs | bigint {
  const tdcs = tdcsOf(tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  if (!call.lock('op_state', tdr.pa, mode)) return operandBusy(OPERAND.OP_STATE);
  return leafAllowedIn(leaf, tdcs.opState) ? tdcs : status(STATUS.OP_STATE_INCORRECT);
}

/** Finds and locks a virtual processor by its TDVPR's address, and its TD's TDR. */
export function lockTdvpr(
  call: Call,
  value: bigint,
  operand: number,
  mode: LockMode,
  tdrMode: LockMode = 'shared',
): Tdvps | bigint {
  const entry = lockPage(call, value, operand, mode);
  if (typeof entry === 'bigint') return entry;
  if (entry.pageType !== PT.TDVPR) return status(STATUS.PAGE_METADATA_INCORRECT, operand);
  if (!call.lock('pamt4k', entry.owner, tdrMode)) return operandBusy(OPERAND.TDR);
  const tdvps = call.module.tdvpsAt(entry.page);
  call.td = tdvps.tdr;
  return tdvps;
}

/**
 * Makes a virtual processor the calling logical processor's, if no other has it: its VMCS is loaded and counted.
 * @returns a status, or null if it is this processor's
 */
export function associate(call: Call, tdvps: Tdvps): bigint | null {
  const lp = tdvps.associatedLp;
  if (lp === call.p.index) return null;
  if (lp !== NO_LP) return status(STATUS.VCPU_ASSOCIATED);
  associateInitially(tdvps, call.p.index);
  tdvps.loadVmcs();
  return null;
}

/** The same for a virtual processor that nobody had so far, and whose VMCS is loaded already. */
export function associateInitially(tdvps: Tdvps, lp: number): void {
  tdvps.set('ASSOC_LPID', lp);
  const { tdcs } = tdvps;
  tdcs.set('NUM_ASSOC_VCPUS', tdcs.num('NUM_ASSOC_VCPUS') + 1);
}

/** Takes a virtual processor from its logical processor: its VMCS is in its page again. */
export function dissociate(tdvps: Tdvps): void {
  tdvps.storeVmcs();
  tdvps.set('ASSOC_LPID', NO_LP);
  const { tdcs } = tdvps;
  tdcs.set('NUM_ASSOC_VCPUS', tdcs.num('NUM_ASSOC_VCPUS') - 1);
}
