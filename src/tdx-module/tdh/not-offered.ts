/**
 * Host leaves of the 1.5 interface whose feature this module lacks: migration, service TDs, TD partitioning. A module
 * without a feature answers as for an unknown leaf.
 *
 * @tdx "ABI Reference: Interface Functions", Host-Side (SEAMCALL) Interface Functions
 */
import type { HostLeaf } from '../objects/call.ts';
import { operandInvalid } from '../objects/checks.ts';
import { OPERAND } from '../status.ts';

const notOffered = (number: number, name: string): HostLeaf => ({
  number,
  name,
  versions: [],
  run: () => operandInvalid(OPERAND.RAX),
});

export const NOT_OFFERED: readonly HostLeaf[] = [
  notOffered(42, 'TDH.MEM.SEPT.WR'),
  notOffered(48, 'TDH.SERVTD.BIND'),
  notOffered(49, 'TDH.SERVTD.PREBIND'),
  notOffered(64, 'TDH.EXPORT.ABORT'),
  notOffered(65, 'TDH.EXPORT.BLOCKW'),
  notOffered(66, 'TDH.EXPORT.RESTORE'),
  notOffered(68, 'TDH.EXPORT.MEM'),
  notOffered(70, 'TDH.EXPORT.PAUSE'),
  notOffered(71, 'TDH.EXPORT.TRACK'),
  notOffered(72, 'TDH.EXPORT.STATE.IMMUTABLE'),
  notOffered(73, 'TDH.EXPORT.STATE.TD'),
  notOffered(74, 'TDH.EXPORT.STATE.VP'),
  notOffered(75, 'TDH.EXPORT.UNBLOCKW'),
  notOffered(80, 'TDH.IMPORT.ABORT'),
  notOffered(81, 'TDH.IMPORT.END'),
  notOffered(82, 'TDH.IMPORT.COMMIT'),
  notOffered(83, 'TDH.IMPORT.MEM'),
  notOffered(84, 'TDH.IMPORT.TRACK'),
  notOffered(85, 'TDH.IMPORT.STATE.IMMUTABLE'),
  notOffered(86, 'TDH.IMPORT.STATE.TD'),
  notOffered(87, 'TDH.IMPORT.STATE.VP'),
  notOffered(96, 'TDH.MIG.STREAM.CREATE'),
];
