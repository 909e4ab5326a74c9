/**
 * The fields of one context in their order: finding one by identifier, and the identifier that follows another.
 *
 * @tdx "Metadata", Metadata Access Interface
 */
import { classCodeOf, type Field, type FieldAccess, fieldCodeOf } from './field.ts';

/** Whose access it is: the host of a production or debug TD, the guest, a migration TD. */
export type Party = 'host' | 'debug' | 'guest' | 'migration';

export const readMask = (access: FieldAccess, party: Party): bigint => access[`${party}Read`];
export const writeMask = (access: FieldAccess, party: Party): bigint => access[`${party}Write`];

/** An element: which of all elements of a field. */
export interface Element {
  readonly field: Field;
  readonly index: number;
}

/** As identifier: the first one, or no further one. */
export const NO_FIELD_ID = 0xffff_ffff_ffff_ffffn;
/** CONTEXT, which is known anyway. */
export const CONTEXT_BITS = 0x0070_0000_0000_0000n;
/** 49:47, 55, 62, 31:24: reserved. LAST_ELEMENT_IN_FIELD and LAST_FIELD_IN_SEQUENCE must be 0 too. */
const SINGLE_ELEMENT_ZEROS = 0x4083_fffc_ff00_0000n;

/** Whether the identifier asks for the first field. */
export const asksForFirst = (id: bigint): boolean => (id | CONTEXT_BITS) === NO_FIELD_ID;
/** Whether the identifier is one of a single element: reserved bits and sequence lengths are 0. */
export const isSingleElement = (id: bigint): boolean => (id & SINGLE_ELEMENT_ZEROS) === 0n;

export class MetadataTable {
  readonly fields: readonly Field[];

  constructor(fields: Readonly<Record<string, Field>>) {
    this.fields = Object.values(fields);
  }

  /** The element of an identifier, by class and code alone. */
  find(id: bigint): Element | undefined {
    const classCode = classCodeOf(id);
    const code = fieldCodeOf(id);
    const field = this.fields.find((f) => f.classCode === classCode && code >= f.code && code < f.code + f.count);
    return field && { field, index: code - field.code };
  }

  /** Identifier of an element. */
  idOf({ field, index }: Element): bigint {
    return field.id + BigInt(index);
  }

  /** First element that a party may read, of the fields from one position of the table on. */
  firstReadable(party: Party, from = 0): Element | undefined {
    const field = this.fields.slice(from).find(({ access }) => readMask(access, party) !== 0n);
    return field && { field, index: 0 };
  }

  /** The element after one, among those that a party may read. */
  next({ field, index }: Element, party: Party): Element | undefined {
    if (index + 1 < field.count) return { field, index: index + 1 };
    return this.firstReadable(party, this.fields.indexOf(field) + 1);
  }
}
