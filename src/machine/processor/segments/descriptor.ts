/**
 * Segment descriptors in memory.
 *
 *   63:56 base 31:24   55 G  54 D/B  53 L  52 AVL   51:48 limit 19:16   47 P  46:45 DPL  44 S  43:40 type   39:16 base 23:0   15:0 limit 15:0
 *
 * @sdm "Segment Descriptors", "Segment Descriptor Tables in IA-32e Mode"
 */
import { loadLinear, storeLinear } from '../../mmu/access.ts';
import { DONE, type Outcome } from '../../outcome.ts';
import { AR_DB, AR_L, AR_P, AR_S, AR_UNUSABLE, dplOf, type Processor, type Segment } from '../../processor.ts';

/** A descriptor as fetched: the segment it describes, and where it came from. */
export interface Descriptor {
  readonly selector: number;
  /** Linear address of its first byte. */
  readonly address: bigint;
  /** The first eight bytes. */
  readonly raw: bigint;
  /** As AR of the VMCS: type, S, DPL, P, AVL, L, D/B, G. */
  readonly attributes: number;
}

/** System descriptor types. @sdm "System Descriptor Types" */
export const SYSTEM = {
  tss16: 1,
  ldt: 2,
  tss16Busy: 3,
  callGate16: 4,
  taskGate: 5,
  interruptGate16: 6,
  trapGate16: 7,
  tss32: 9,
  tss32Busy: 11,
  callGate32: 12,
  interruptGate32: 14,
  trapGate32: 15,
} as const;

export const typeOf = (attributes: number): number => attributes & 15;
/** Index and table indicator of a selector: what error codes carry. */
export const indexOf = (selector: number): number => selector & 0xfffc;
export const rplOf = (selector: number): number => selector & 3;
export const isNull = (selector: number): boolean => (selector & 0xfffc) === 0;
export const isCode = (attributes: number): boolean => (attributes & (AR_S | 8)) === (AR_S | 8);
export const isConforming = (attributes: number): boolean => (attributes & 4) !== 0;
export const isWritableData = (attributes: number): boolean => (attributes & (AR_S | 8 | 2)) === (AR_S | 2);
export const isPresent = (attributes: number): boolean => (attributes & AR_P) !== 0;
export { dplOf };

/** Base of the descriptor; `upper` is bits 63:32 of a 16-byte one. */
export function baseOf(raw: bigint, upper = 0n): bigint {
  return ((raw >> 16n) & 0xff_ffffn) | ((raw >> 32n) & 0xff00_0000n) | ((upper & 0xffff_ffffn) << 32n);
}

/** Limit in bytes. */
export function limitOf(raw: bigint): number {
  const limit = Number(raw & 0xffffn) | Number((raw >> 32n) & 0xf_0000n);
  return (raw >> 55n) & 1n ? ((limit << 12) | 0xfff) >>> 0 : limit;
}

/** The descriptor as the hidden part of a segment register. */
export function segmentOf(
  { selector, raw, attributes }: Descriptor,
  rpl: number = rplOf(selector),
  upper = 0n,
): Segment {
  return { selector: indexOf(selector) | rpl, base: baseOf(raw, upper), limit: limitOf(raw), attributes };
}

/** What a null selector loads. DPL is only meaningful for SS, where it is the CPL. */
export function nullSegment(selector: number, dpl = 0): Segment {
  return { selector, base: 0n, limit: 0, attributes: AR_UNUSABLE | (dpl << 5) };
}

/**
 * Linear address of a descriptor of `size` bytes, or undefined if the selector names none (outside the table's
 * limit, or in an LDT that is not there). Raises nothing.
 */
export function descriptorAddress(p: Processor, selector: number, size: 8 | 16 = 8): bigint | undefined {
  const offset = selector & 0xfff8;
  const local = (selector & 4) !== 0;
  if (local && p.ldtr.attributes & AR_UNUSABLE) return undefined;
  const table = local ? p.ldtr : p.gdtr;
  if (offset + size - 1 > table.limit) return undefined;
  return BigInt.asUintN(p.longMode ? 64 : 32, table.base + BigInt(offset));
}

/** Reads the descriptor at `address`, or undefined with p.outcome set. */
export function readDescriptorAt(p: Processor, selector: number, address: bigint): Descriptor | undefined {
  const raw = loadLinear(p, address, 8, true);
  if (raw === undefined) return undefined;
  return { selector, address, raw, attributes: Number((raw >> 40n) & 0xf0ffn) };
}

/**
 * Fetches the descriptor of a selector that is not null.
 *
 * @param vector raised with the selector if it lies outside its table
 * @param ext EXT bit of that error code
 * @returns undefined with p.outcome set
 */
export function fetchDescriptor(p: Processor, selector: number, vector: number, ext = 0): Descriptor | undefined {
  const address = descriptorAddress(p, selector);
  if (address === undefined) {
    p.raise(vector, indexOf(selector) | ext);
    return undefined;
  }
  return readDescriptorAt(p, selector, address);
}

/**
 * The upper eight bytes of a 16-byte system descriptor (IA-32e mode), whose type field has to be zero.
 *
 * @returns undefined with p.outcome set
 */
export function fetchUpper(
  p: Processor,
  { selector, address }: Descriptor,
  vector: number,
  ext = 0,
): bigint | undefined {
  const inTable = descriptorAddress(p, selector, 16) !== undefined;
  if (inTable) {
    const upper = loadLinear(p, BigInt.asUintN(64, address + 8n), 8, true);
    if (upper === undefined || ((upper >> 40n) & 0x1fn) === 0n) return upper;
  }
  p.raise(vector, indexOf(selector) | ext);
  return undefined;
}

/** Sets the accessed bit in memory if it is clear; the result carries the set bit. */
export function markAccessed(p: Processor, descriptor: Descriptor): Descriptor | undefined {
  const { attributes, address, raw } = descriptor;
  if (attributes & 1) return descriptor;
  const outcome: Outcome = storeLinear(p, address + 5n, 1, ((raw >> 40n) & 0xffn) | 1n, true);
  if (outcome !== DONE) {
    p.outcome = outcome;
    return undefined;
  }
  return { ...descriptor, attributes: attributes | 1 };
}

/** Whether a code segment is 64-bit (L=1, D=0) in IA-32e mode. */
export const isLongCode = (attributes: number): boolean => (attributes & (AR_L | AR_DB)) === AR_L;
/** L and D both set, which IA-32e mode reserves. */
export const isReservedSize = (attributes: number): boolean => (attributes & (AR_L | AR_DB)) === (AR_L | AR_DB);
