/**
 * Reading and writing single elements of metadata: which identifiers are legal, and what each party may do.
 *
 * @tdx "Metadata", Single-Element Metadata Access
 */
import { STATUS, status } from '../status.ts';
import {
  CONTEXT_BITS,
  type Element,
  isSingleElement,
  type MetadataTable,
  NO_FIELD_ID,
  type Party,
  readMask,
  writeMask,
} from './metadata-table.ts';

/** One context of metadata: the fields of the platform, of a TD or of a virtual processor. */
export interface MetadataContext {
  /** The element of an identifier whose form is legal; a status if there is none. */
  find(id: bigint): Element | bigint;
  /** The value, whoever reads it; a status (as `error`) if it cannot be read now. */
  read(element: Element, party: Party): { readonly value: bigint } | { readonly error: bigint };
  /**
   * Stores a value in which only bits of `mask` differ, which the party may write; a status if the field does not take it.
   */
  write(element: Element, value: bigint, party: Party, mask: bigint): bigint | null;
  /** Identifier of the next element that the party may read, after one or (undefined) from the start; NO_FIELD_ID at the end. */
  next(element: Element | undefined, party: Party): bigint;
}

/** The element of an identifier in a table. */
export function findIn(table: MetadataTable, id: bigint): Element | bigint {
  return table.find(id) ?? status(STATUS.METADATA_FIELD_ID_INCORRECT);
}

/** The element that an identifier names, after the checks of its form. */
export function elementOf(context: MetadataContext, id: bigint): Element | bigint {
  return isSingleElement(id) ? context.find(id) : status(STATUS.METADATA_FIELD_ID_INCORRECT);
}

/** Bits of an identifier that select an element: class and field code. */
const SELECTING = 0x3f00_0000_00ff_ffffn;

/**
 * Identifier of the element after one that was asked for by `id`. Within a field it keeps what of `id` selects nothing: size,
 * increment, write mask, the non-architectural mark.
 */
export function followingId(context: MetadataContext, element: Element, id: bigint, party: Party): bigint {
  const next = context.next(element, party);
  if (next === NO_FIELD_ID) return next;
  const following = context.find(next);
  if (typeof following === 'bigint' || following.field !== element.field) return next;
  return (next & (SELECTING | CONTEXT_BITS)) | (id & ~(SELECTING | CONTEXT_BITS));
}

/** What a party reads of an element. */
export function readElement(
  context: MetadataContext,
  element: Element,
  party: Party,
): { readonly value: bigint } | { readonly error: bigint } {
  const read = context.read(element, party);
  if ('error' in read) return read;
  const mask = readMask(element.field.access, party);
  return mask === 0n ? { error: status(STATUS.METADATA_FIELD_NOT_READABLE) } : { value: read.value & mask };
}

/**
 * Writes the bits of an element that `requested` names.
 * @returns what a reader would have seen before, or a status
 */
export function writeElement(
  context: MetadataContext,
  element: Element,
  value: bigint,
  requested: bigint,
  party: Party,
): { readonly value: bigint } | { readonly error: bigint } {
  const { access } = element.field;
  const old = context.read(element, party);
  if ('error' in old) return old;
  const writable = writeMask(access, party) & requested;
  if (writable === 0n) return { error: status(STATUS.METADATA_FIELD_NOT_WRITABLE) };
  const readable = readMask(access, party);
  // Bits that are asked for but not writable must stay what the writer can read.
  const forbidden = requested & ~writeMask(access, party) & readable;
  if ((old.value ^ value) & forbidden) return { error: status(STATUS.METADATA_FIELD_VALUE_NOT_VALID) };
  const error = context.write(element, (old.value & ~writable) | (value & writable), party, writable);
  return error === null ? { value: old.value & readable } : { error };
}
