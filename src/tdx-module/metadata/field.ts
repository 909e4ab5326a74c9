/**
 * A metadata field: what it is called, its identifier, where it lies in its control structure, and who may access it.
 *
 *   identifier:  63 non-architectural | 61:56 class | 54:52 context | 50 inc size | 51 write mask valid
 *                46:38 last field in sequence | 37:34 last element in field | 33:32 log2 of the element's bytes | 23:0 code
 *
 * Each element has a code of its own: element j of field i of an array has the first code plus i × elements + j.
 * One description serves metadata access by identifier and typed access by name.
 *
 * @tdx "ABI Reference: Data Types", Metadata Field Identifier
 */

/** Bits that each party may read or write; 0 if it may not at all. */
export interface FieldAccess {
  readonly hostRead: bigint;
  readonly hostWrite: bigint;
  /** The host, if the TD is under debug. */
  readonly debugRead: bigint;
  readonly debugWrite: bigint;
  readonly guestRead: bigint;
  readonly guestWrite: bigint;
  readonly migrationRead: bigint;
  readonly migrationWrite: bigint;
}

/**
 * How tables write a field: identifier of its first element, number of fields, elements per field, offset in the control
 * structure, access (`H` host, `D` host of a debug TD, `G` guest, `M` migration TD; `r`, `w`; in brackets which bits).
 */
export type FieldRow = readonly [id: bigint, fields: number, elements: number, offset: number, access: string];

export interface Field {
  readonly name: string;
  /** Identifier of the first element. */
  readonly id: bigint;
  readonly classCode: number;
  /** Code of the first element. */
  readonly code: number;
  /** Bytes of an element: 1, 2, 4 or 8. */
  readonly size: number;
  readonly fields: number;
  readonly elements: number;
  /** Elements of all fields. */
  readonly count: number;
  /** Bytes from the start of the control structure to the first element. */
  readonly offset: number;
  readonly access: FieldAccess;
}

/** CONTEXT of an identifier. */
export const CONTEXT = { SYS: 0, TD: 1, VP: 2 } as const;

export const elementSizeOf = (id: bigint): number => 1 << Number((id >> 32n) & 3n);
export const classCodeOf = (id: bigint): number => Number((id >> 56n) & 0x3fn);
export const fieldCodeOf = (id: bigint): number => Number(id & 0xff_ffffn);
export const contextOf = (id: bigint): number => Number((id >> 52n) & 7n);

const PARTY = { H: 'host', D: 'debug', G: 'guest', M: 'migration' } as const;
const DIRECTION = { r: 'Read', w: 'Write' } as const;

function accessOf(text: string, all: bigint): FieldAccess {
  const access = {
    hostRead: 0n,
    hostWrite: 0n,
    debugRead: 0n,
    debugWrite: 0n,
    guestRead: 0n,
    guestWrite: 0n,
    migrationRead: 0n,
    migrationWrite: 0n,
  };
  for (const word of text.split(' ')) {
    const parts = /^([HDGM])([rw])(?:\[(0x[0-9a-f]+)\])?$/.exec(word);
    if (parts === null) continue;
    const key = `${PARTY[parts[1] as 'H']}${DIRECTION[parts[2] as 'r']}` as const;
    access[key] = parts[3] === undefined ? all : BigInt(parts[3]);
  }
  return access;
}

/** The field that a table's row describes. */
export function fieldOf(name: string, [id, fields, elements, offset, access]: FieldRow): Field {
  const size = elementSizeOf(id);
  const all = (1n << BigInt(size * 8)) - 1n;
  return {
    name,
    id,
    classCode: classCodeOf(id),
    code: fieldCodeOf(id),
    size,
    fields,
    elements,
    count: fields * elements,
    offset,
    access: accessOf(access, all),
  };
}

/** All fields of a table, by name. */
export function fieldsOf<Name extends string>(table: Readonly<Record<Name, FieldRow>>): Readonly<Record<Name, Field>> {
  const names = Object.keys(table) as Name[];
  return Object.fromEntries(names.map((name) => [name, fieldOf(name, table[name])])) as Record<Name, Field>;
}
