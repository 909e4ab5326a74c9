/**
 * Metadata lists: many fields in one page, as sequences of consecutive fields of one size.
 *
 *   list:      header: 15:0 bytes used, 31:16 sequences | sequences
 *   sequence:  identifier of the first field with LAST_ELEMENT_IN_FIELD and LAST_FIELD_IN_SEQUENCE | elements, 8 bytes each
 *
 * @tdx "ABI Reference: Data Types", Metadata List, Metadata Field Sequence
 */
import { elementSizeOf, type Field, fieldCodeOf } from './field.ts';
import { asksForFirst, type Element, type MetadataTable, NO_FIELD_ID, type Party, readMask } from './metadata-table.ts';
import { type MetadataContext, readElement } from './read-element.ts';

const LAST_ELEMENT_SHIFT = 34n;
const LAST_FIELD_SHIFT = 38n;
const HEADER_BYTES = 8;
const WORD = 8;

/** Whether fields with consecutive codes share a sequence. */
const alike = (a: Field, b: Field): boolean =>
  a.classCode === b.classCode && a.elements === b.elements && a.size === b.size;

/** Elements of one field of an array. */
function valuesOf(context: MetadataContext, field: Field, number: number, party: Party): bigint[] | undefined {
  const values: bigint[] = [];
  for (let i = 0; i < field.elements; i++) {
    const read = readElement(context, { field, index: number * field.elements + i }, party);
    if ('error' in read) return undefined;
    values.push(read.value);
  }
  return values;
}

/** All fields that a party may read, from one on: position in the table, number in its array. */
function* fieldsFrom(table: MetadataTable, start: Element, party: Party): Generator<readonly [Field, number]> {
  let number = Math.floor(start.index / start.field.elements);
  for (const field of table.fields.slice(table.fields.indexOf(start.field))) {
    if (readMask(field.access, party) !== 0n) {
      for (; number < field.fields; number++) yield [field, number];
    }
    number = 0;
  }
}

/**
 * The field at which a list may begin: any identifier of its first element with its element size. Null if it is none.
 */
export function listStart(table: MetadataTable, id: bigint, party: Party): Element | null {
  if (asksForFirst(id)) return table.firstReadable(party)!;
  const start = table.find(id);
  if (start === undefined || start.index % start.field.elements !== 0) return null;
  return elementSizeOf(id) === start.field.size ? start : null;
}

/** A list of the fields from one on, as much as fits, and the identifier of the first field that did not. */
export function dumpList(
  table: MetadataTable,
  context: MetadataContext,
  start: Element,
  bytes: number,
  party: Party,
): { readonly list: Uint8Array; readonly next: bigint } {
  const page = new Uint8Array(bytes);
  const view = new DataView(page.buffer);
  let at = HEADER_BYTES;
  let sequences = 0;
  let header = -1;
  let inSequence = 0;
  let previous: { readonly field: Field; readonly end: number } | undefined;
  let next = NO_FIELD_ID;
  const close = (): void => {
    if (header < 0) return;
    const id = view.getBigUint64(header, true);
    view.setBigUint64(header, id | (BigInt(inSequence - 1) << LAST_FIELD_SHIFT), true);
  };
  for (const [field, number] of fieldsFrom(table, start, party)) {
    const id = field.id + BigInt(number * field.elements);
    const values = valuesOf(context, field, number, party);
    if (values === undefined) continue;
    const joins = previous?.end === fieldCodeOf(id) && alike(previous.field, field);
    if (at + (joins ? 0 : HEADER_BYTES) + values.length * WORD > bytes) {
      next = id;
      break;
    }
    if (!joins) {
      close();
      header = at;
      inSequence = 0;
      sequences++;
      view.setBigUint64(at, id | (BigInt(field.elements - 1) << LAST_ELEMENT_SHIFT), true);
      at += HEADER_BYTES;
    }
    for (const value of values) {
      view.setBigUint64(at, value, true);
      at += WORD;
    }
    inSequence++;
    previous = { field, end: fieldCodeOf(id) + field.elements };
  }
  close();
  view.setUint16(0, at, true);
  view.setUint16(2, sequences, true);
  return { list: page.subarray(0, at), next };
}
