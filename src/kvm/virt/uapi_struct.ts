/**
 * Structures of the binary interface as tables: the layout that C gives them, and translation between bytes and objects.
 *
 * Members follow each other at their natural alignment; sizes and offsets are checked where a structure is defined.
 */

/** How a member lies in memory. `flag` is a byte that objects show as boolean; `address` a u64 that they show as number. */
type Scalar = 'u8' | 'u16' | 'u32' | 's32' | 'u64' | 'flag' | 'address';

/** One member: its name ('' for padding), its type, and how many of it. */
interface Member {
  readonly name: string;
  readonly type: Scalar | UapiStruct<object>;
  /** undefined: one; a number: a fixed array. */
  readonly count: number | undefined;
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

/** Description of a member: name, type and, for arrays, length. */
export type MemberSpec = readonly [name: string, type: Scalar | UapiStruct<object>, count?: number];

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
      const each = typeof type === 'string' ? SIZES[type] : type.size;
      offset = Math.ceil(offset / own) * own;
      members.push({ name: member, type, count, offset });
      offset += each * (count ?? 1);
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

  /** The bytes of an object; padding is zero. */
  encode(value: T): Uint8Array {
    const bytes = new Uint8Array(this.size);
    this.encodeInto(value, new DataView(bytes.buffer), 0);
    return bytes;
  }
  encodeInto(value: T, view: DataView, at: number): void {
    const object = value as Readonly<Record<string, unknown>>;
    for (const { name, type, count, offset } of this.members) {
      if (name === '') continue;
      const content = object[name];
      if (count === undefined) put(view, at + offset, type, content);
      else {
        const step = typeof type === 'string' ? SIZES[type] : type.size;
        const list = content as ArrayLike<unknown>;
        for (let i = 0; i < count; i++) put(view, at + offset + i * step, type, list[i]);
      }
    }
  }

  /** The object that bytes describe; at least `size` of them. */
  decode(bytes: Uint8Array): T {
    return this.decodeFrom(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0);
  }
  decodeFrom(view: DataView, at: number): T {
    const object: Record<string, unknown> = {};
    for (const { name, type, count, offset } of this.members) {
      if (name === '') continue;
      if (count === undefined) {
        object[name] = get(view, at + offset, type);
      } else if (type === 'u8') {
        object[name] = new Uint8Array(view.buffer, view.byteOffset + at + offset, count).slice();
      } else {
        const step = typeof type === 'string' ? SIZES[type] : type.size;
        object[name] = Array.from({ length: count }, (_, i) => get(view, at + offset + i * step, type));
      }
    }
    return object as T;
  }
}

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
