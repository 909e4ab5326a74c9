/** The td-shim as bytes: mailbox, page tables and the assembled code. */

import { assemble } from '../../../machine/isa/assembler/assemble.ts';
import { identityMap, PRESENT_WRITABLE } from '../../loaders/entry-state.ts';
import { HOB_END, HOB_GUID, HOB_RESOURCE, MEMORY_UNACCEPTED, PAYLOAD_GUID_HIGH, PAYLOAD_GUID_LOW } from '../hob.ts';
import { SHIM_ADDRESS, SHIM_SIZE } from '../layout.ts';
import { SHIM_SOURCE } from './source.ts';

const PAGE = 0x1000;
const TABLES_5_LEVEL = PAGE;
const TABLES = 2 * PAGE;
const CODE: number = SHIM_SIZE - PAGE;

/** The shim for a place in memory; a TD's first instruction is 16 bytes before its end. */
export function buildShim(address: number = SHIM_ADDRESS): Uint8Array {
  const names: Readonly<Record<string, number | bigint>> = {
    CODE: address + CODE,
    MAILBOX: address,
    TABLES: address + TABLES,
    TABLES_5_LEVEL: address + TABLES_5_LEVEL,
    HOB_RESOURCE,
    HOB_GUID,
    HOB_END,
    MEMORY_UNACCEPTED,
    PAYLOAD_GUID_LOW,
    PAYLOAD_GUID_HIGH,
  };
  const definitions = Object.entries(names).map(([name, value]) => `${name} equ ${value}`);
  const { bytes } = assemble([...definitions, SHIM_SOURCE].join('\n'), 32, BigInt(address + CODE));
  const shim = new Uint8Array(SHIM_SIZE);
  // A PML5 table with one entry, for a processor that comes back with 5-level paging on.
  new DataView(shim.buffer).setUint32(TABLES_5_LEVEL, address + TABLES + PRESENT_WRITABLE, true);
  shim.set(identityMap(address + TABLES), TABLES);
  shim.set(bytes, CODE);
  return shim;
}
