/**
 * Structures of the binary interface as tables: the layout that C gives them, and translation between bytes and objects.
 *
 * Members follow each other at their natural alignment; sizes and offsets are checked where a structure is defined. A
 * structure may end with as many of something as one of its members says; that tail does not count in its size.
 */

/** How a member lies in memory. `flag` is a byte that objects show as boolean; `address` a u64 that they show as number. */
type Scalar = 'u8' | 'u16' | 'u32' | 's32' | 'u64' | 'flag' | 'address';

/** One member: its name ('' for padding), its type, and how many of it. */
interface Member {
  readonly name: string;
  readonly type: Scalar | UapiStruct<object>;
  /** undefined: one; a number: a fixed array; a name: a tail of as many as that member says. */
  readonly count: number | string | undefined;
  readonly offset: number;
}

const SIZES: Readonly<Record<Scalar, number>> = {
  u8: 1,
  flag: 1,
  u16: 2,
  u32: 4,
  s32: 4,
  u64: 8,
  address: 8,
};

/** Description of a member: name, type and, for arrays, length, or for a tail the name of the member that has it. */
export type MemberSpec = readonly [name: string, type: Scalar | UapiStruct<object>, count?: number | string];

/** A structure of the binary interface. */
export class UapiStruct<T extends object> {
  readonly name: string;
  readonly size: number;
  readonly alignment: number;
  readonly members: readonly Member[];

  /** @param size what the compiler says; anything else is a mistake in the table */
  constructor(name: string, size: number, specs: readonly MemberSpec[]) {
    this.name = name;
    const members: Member[] = [];
    let offset = 0;
    let alignment = 1;
    for (const [member, type, count] of specs) {
      const own = typeof type === 'string' ? SIZES[type] : type.alignment;
      const each = sizeOf(type);
      offset = Math.ceil(offset / own) * own;
      members.push({ name: member, type, count, offset });
      if (typeof count !== 'string') offset += each * (count ?? 1);
      alignment = Math.max(alignment, own);
    }
    this.members = members;
    this.alignment = alignment;
    this.size = Math.ceil(offset / alignment) * alignment;
    if (this.size !== size) throw new Error(`struct ${name} has ${this.size} bytes, not ${size}`);
  }

  /** Offset of a member in bytes. */
  offsetOf(name: string): number {
    const member = this.members.find((one) => one.name === name);
    if (member === undefined) throw new Error(`struct ${this.name} has no ${name}`);
    return member.offset;
  }

  /** How many bytes an object takes, with its tail. */
  byteLength(value: T): number {
    const object = value as Readonly<Record<string, unknown>>;
    let length = this.size;
    for (const { name, type, count, offset } of this.members) {
      const content = object[name];
      if (typeof count === 'string') {
        length = Math.max(length, offset + (content as ArrayLike<unknown>).length * sizeOf(type));
      } else if (typeof type !== 'string' && count === undefined && name !== '') {
        length = Math.max(length, offset + type.byteLength(content as object));
      }
    }
    return length;
  }

  /** The bytes of an object; padding is zero. */
  encode(value: T): Uint8Array {
    const bytes = new Uint8Array(this.byteLength(value));
    this.encodeInto(value, new DataView(bytes.buffer), 0);
    return bytes;
  }
  encodeInto(value: T, view: DataView, at: number): void {
    const object = value as Readonly<Record<string, unknown>>;
    for (const { name, type, count, offset } of this.members) {
      if (name === '') continue;
      const content = object[name];
      if (count === undefined) {
        put(view, at + offset, type, content);
        continue;
      }
      const list = content as ArrayLike<unknown>;
      const entries = typeof count === 'string' ? list.length : count;
      for (let i = 0; i < entries; i++) put(view, at + offset + i * sizeOf(type), type, list[i]);
    }
  }

  /** The object that bytes describe; at least `size` of them. A tail has as many entries as there are bytes for. */
  decode(bytes: Uint8Array): T {
    return this.decodeFrom(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0);
  }
  decodeFrom(view: DataView, at: number): T {
    const object: Record<string, unknown> = {};
    for (const { name, type, count, offset } of this.members) {
      if (name === '') continue;
      if (count === undefined) {
        object[name] = get(view, at + offset, type);
        continue;
      }
      const room = Math.floor((view.byteLength - at - offset) / sizeOf(type));
      const length = typeof count === 'string' ? Math.min(Number(object[count]), room) : count;
      object[name] =
        type === 'u8'
          ? new Uint8Array(view.buffer, view.byteOffset + at + offset, length).slice()
          : Array.from({ length }, (_, i) => get(view, at + offset + i * sizeOf(type), type));
    }
    return object as T;
  }
}

const sizeOf = (type: Scalar | UapiStruct<object>): number => (typeof type === 'string' ? SIZES[type] : type.size);

function put(view: DataView, at: number, type: Scalar | UapiStruct<object>, value: unknown): void {
  if (typeof type !== 'string') return type.encodeInto(value as object, view, at);
  switch (type) {
    case 'u8':
      return view.setUint8(at, value as number);
    case 'flag':
      return view.setUint8(at, value ? 1 : 0);
    case 'u16':
      return view.setUint16(at, value as number, true);
    case 'u32':
    case 's32':
      return view.setUint32(at, value as number, true);
    case 'u64':
      return view.setBigUint64(at, value as bigint, true);
    case 'address':
      return view.setBigUint64(at, BigInt(value as number), true);
  }
}

function get(view: DataView, at: number, type: Scalar | UapiStruct<object>): unknown {
  if (typeof type !== 'string') return type.decodeFrom(view, at);
  switch (type) {
    case 'u8':
      return view.getUint8(at);
    case 'flag':
      return view.getUint8(at) !== 0;
    case 'u16':
      return view.getUint16(at, true);
    case 'u32':
      return view.getUint32(at, true);
    case 's32':
      return view.getInt32(at, true);
    case 'u64':
      return view.getBigUint64(at, true);
    case 'address':
      return Number(view.getBigUint64(at, true));
  }
}
