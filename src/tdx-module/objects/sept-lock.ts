/**
 * The lock of a Secure EPT entry, for which host and guest compete.
 *
 * A host that finds the guest in it leaves a mark: the guest then has to stay away until the host has had its turn.
 *
 * @tdx "Concurrency Restrictions", Secure EPT entry locks, Host Priority
 */
import type { Gpa } from '../../util/address.ts';
import { STATUS } from '../status.ts';
import type { Call } from './call.ts';
import type { Sept, SeptPosition } from './sept.ts';
import { HOST_PRIORITY } from './sept-entry.ts';

/** Takes it for the host. False if the guest has it: then the entry keeps the host's mark. */
export function lockEntryForHost(call: Call, sept: Sept, gpa: Gpa, position: SeptPosition): boolean {
  if (!call.lock('sept_entry', gpa + position.level, 'exclusive')) {
    sept.write(gpa, position, position.entry | HOST_PRIORITY);
    return false;
  }
  if ((position.entry & HOST_PRIORITY) !== 0n) sept.write(gpa, position, position.entry & ~HOST_PRIORITY);
  return true;
}

/** Takes it for the guest: code of the status that says why not, SUCCESS if it did. */
export function lockEntryForGuest(call: Call, gpa: Gpa, position: SeptPosition): number {
  if ((position.entry & HOST_PRIORITY) !== 0n) return STATUS.OPERAND_BUSY_HOST_PRIORITY;
  return call.lock('sept_entry', gpa + position.level, 'exclusive') ? STATUS.SUCCESS : STATUS.OPERAND_BUSY;
}
