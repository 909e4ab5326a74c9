/**
 * The TD HOB: the list by which the VMM tells the td-shim what memory there is and what to enter.
 *
 * @see UEFI Platform Initialization Specification, volume 3 "HOB Code Definitions"
 */

import { ByteWriter } from '../byte-writer.ts';

/** HOB types that are used. */
export const HOB_HANDOFF = 1;
export const HOB_RESOURCE = 3;
export const HOB_GUID = 4;
export const HOB_END = 0xffff;

/** Resource types. */
export const SYSTEM_MEMORY = 0;
export const MEMORY_UNACCEPTED = 7;

/** PRESENT, INITIALIZED, TESTED. */
const ATTRIBUTES = 7;
const HANDOFF_VERSION = 9;
const HANDOFF_SIZE = 56;
const RESOURCE_SIZE = 48;
const PAYLOAD_SIZE = 40;
const END_SIZE = 8;

/** The two halves of the GUID of softvt's payload HOB, 1d5ca5a9-0c39-4a4e-8f4d-736f66747674, as they lie in memory. */
export const PAYLOAD_GUID_LOW = 0x4a4e0c391d5ca5a9n;
export const PAYLOAD_GUID_HIGH = 0x74767466_6f734d8fn;

/** A piece of RAM; `added`: the VMM put it there when it built the TD, nothing is to be accepted. */
export interface HobMemory {
  readonly start: number;
  readonly length: number;
  readonly added: boolean;
}

/** What the td-shim enters when all memory is there. */
export interface HobPayload {
  /** 64-bit entry point. */
  readonly entry: number;
  /** For RSI. */
  readonly bootParams: number;
}

/** The HOB list for the memory ranges in ascending order. `address` is where the list will lie. */
export function tdHob(address: number, memory: readonly HobMemory[], payload: HobPayload): Uint8Array {
  const size = HANDOFF_SIZE + memory.length * RESOURCE_SIZE + PAYLOAD_SIZE + END_SIZE;
  const end = address + size;
  const out = new ByteWriter();
  out.u16(HOB_HANDOFF, HANDOFF_SIZE).u32(0, HANDOFF_VERSION, 0);
  // Memory top and bottom are not used; free memory begins and ends where the list ends.
  out.u64(0, 0, end, end, end - END_SIZE);
  for (const { start, length, added } of memory) {
    out.u16(HOB_RESOURCE, RESOURCE_SIZE).u32(0).zeros(16);
    out.u32(added ? SYSTEM_MEMORY : MEMORY_UNACCEPTED, ATTRIBUTES).u64(start, length);
  }
  out.u16(HOB_GUID, PAYLOAD_SIZE).u32(0).u64(PAYLOAD_GUID_LOW, PAYLOAD_GUID_HIGH, payload.entry, payload.bootParams);
  return out.u16(HOB_END, END_SIZE).u32(0).finish();
}
