/**
 * The GPA operand of a host leaf: decoded, checked, walked to its Secure EPT entry, and the entry locked, in the order in
 * which all of them do it.
 *
 * @tdx "ABI Reference", TDH.MEM.*: common checks
 */
import type { Gpa, Hpa } from '../../util/address.ts';
import type { LockMode } from '../locks.ts';
import { OPERAND, STATUS, status } from '../status.ts';
import type { Call } from './call.ts';
import { leafHpa, type Sept, type SeptPosition, septOf } from './sept.ts';
import { entryHpa, entryState, HOST_PRIORITY, publicEntry, publicInfo, withoutAcceptProgress } from './sept-entry.ts';
import { decodeGpaMapping, isPrivateGpa, isPrivateGpaOperand } from './sept-gpa.ts';
import { lockEntryForHost } from './sept-lock.ts';
import { leafAllowed, type SeptLeafName, type SeptState } from './sept-state.ts';
import type { Tdcs } from './tdcs.ts';

/** An entry that a leaf may act on. */
export class SeptOperand {
  readonly sept: Sept;
  readonly gpa: Gpa;
  readonly level: number;
  readonly #position: SeptPosition;

  constructor(sept: Sept, gpa: Gpa, position: SeptPosition) {
    this.sept = sept;
    this.gpa = gpa;
    this.level = position.level;
    this.#position = position;
  }

  /** As it was found, without the mark of a lock or of an interrupted acceptance. */
  get entry(): bigint {
    return withoutAcceptProgress(this.#position.entry & ~HOST_PRIORITY, this.level);
  }
  get state(): SeptState {
    return entryState(this.entry);
  }
  /** The table, or the first byte of the page, that the entry refers to. */
  get target(): Hpa {
    return entryHpa(this.entry);
  }
  /** Address of the operand's GPA, in a page that may be larger. */
  get hpa(): Hpa {
    return leafHpa(this.#position, this.gpa);
  }
  replace(entry: bigint): void {
    this.sept.write(this.gpa, this.#position, entry);
  }
}

/** Tells the host in RCX and RDX what the entry is. */
export function reportEntry(call: Call, entry: bigint, level: number): void {
  call.out.rcx = publicEntry(withoutAcceptProgress(entry, level));
  call.out.rdx = publicInfo(entry, level);
}

/**
 * Entry of the mapping operand in RCX.
 * @param tree how the tree is locked; null if the exclusive lock of the TDR stands for it
 * @returns a status where a check failed
 */
export function septOperand(
  call: Call,
  tdcs: Tdcs,
  minLevel: number,
  maxLevel: number,
  tree: LockMode | null,
): SeptOperand | bigint {
  const mapping = decodeGpaMapping(call.rcx, minLevel, maxLevel);
  if (mapping === null || !isPrivateGpa(mapping.gpa, tdcs.gpaw === 52))
    return status(STATUS.OPERAND_INVALID, OPERAND.RCX);
  const { gpa, level } = mapping;
  if (tree !== null && !call.lock('sept_tree', tdcs.tdr.pa, tree)) {
    return status(STATUS.OPERAND_BUSY, OPERAND.SEPT_TREE);
  }
  const sept = septOf(tdcs);
  const position = sept.walk(gpa, level);
  if (position.corrupt) return corrupted(tdcs);
  if (position.level !== level) {
    reportEntry(call, position.entry, position.level);
    return status(STATUS.EPT_WALK_FAILED, OPERAND.RCX);
  }
  if (tree !== null && !lockEntryForHost(call, sept, gpa, position)) {
    reportEntry(call, position.entry, level);
    return status(STATUS.OPERAND_BUSY, OPERAND.RCX);
  }
  return new SeptOperand(sept, gpa, position);
}

/**
 * Page that holds the GPA in RCX, whatever its size: for leaves that work on bytes of it.
 * @param tree whether the tree and the entry are locked (else the TDR's exclusive lock stands for both)
 */
export function septLeafOperand(call: Call, tdcs: Tdcs, alignment: bigint, tree: boolean): SeptOperand | bigint {
  if (call.rcx % alignment !== 0n) return status(STATUS.OPERAND_INVALID, OPERAND.RCX);
  if (tree && !call.lock('sept_tree', tdcs.tdr.pa, 'shared')) return status(STATUS.OPERAND_BUSY, OPERAND.SEPT_TREE);
  if (!isPrivateGpaOperand(call.rcx, tdcs.gpaw === 52)) return status(STATUS.OPERAND_INVALID, OPERAND.RCX);
  const gpa = Number(call.rcx);
  const sept = septOf(tdcs);
  const position = sept.walk(gpa, 0);
  if (position.corrupt) return corrupted(tdcs);
  const { readable, leaf } = entryState(position.entry);
  if (!leaf || !readable) {
    reportEntry(call, position.entry, position.level);
    return status(STATUS.EPT_ENTRY_NOT_PRESENT, OPERAND.RCX);
  }
  if (tree && !lockEntryForHost(call, sept, gpa, position)) {
    reportEntry(call, position.entry, position.level);
    return status(STATUS.OPERAND_BUSY, OPERAND.RCX);
  }
  return new SeptOperand(sept, gpa, position);
}

/** SUCCESS if the leaf may act on an entry in this state; else the host is told the entry. */
export function checkState(call: Call, operand: SeptOperand, leaf: SeptLeafName): bigint {
  if (leafAllowed(leaf, operand.state)) return status(STATUS.SUCCESS);
  reportEntry(call, operand.entry, operand.level);
  return status(STATUS.EPT_ENTRY_STATE_INCORRECT, OPERAND.RCX);
}

/** The TD whose table was overwritten is dead: on a processor the walk is a machine check. */
function corrupted(tdcs: Tdcs): bigint {
  tdcs.tdr.setFatal();
  return status(STATUS.TD_FATAL);
}
