/** A growing little-endian byte buffer, for tables and headers that software reads as packed structs. */

const utf8 = new TextEncoder();

export class ByteWriter {
  #bytes: Uint8Array = new Uint8Array(256);
  #view: DataView = new DataView(this.#bytes.buffer);
  #length = 0;

  /** Bytes written so far, which is the offset of the next one. */
  get length(): number {
    return this.#length;
  }

  /** Makes room for `size` bytes and returns the offset of the first. */
  #reserve(size: number): number {
    const at = this.#length;
    this.#length = at + size;
    if (this.#length > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#length, this.#bytes.length * 2));
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return at;
  }

  u8(...values: number[]): this {
    for (const value of values) {
      const at = this.#reserve(1);
      this.#view.setUint8(at, value);
    }
    return this;
  }
  u16(...values: number[]): this {
    for (const value of values) {
      const at = this.#reserve(2);
      this.#view.setUint16(at, value, true);
    }
    return this;
  }
  u32(...values: number[]): this {
    for (const value of values) {
      const at = this.#reserve(4);
      this.#view.setUint32(at, value, true);
    }
    return this;
  }
  u64(...values: (number | bigint)[]): this {
    for (const value of values) {
      const at = this.#reserve(8);
      this.#view.setBigUint64(at, BigInt(value), true);
    }
    return this;
  }
  /** Raw bytes. */
  bytes(data: Uint8Array): this {
    const at = this.#reserve(data.length);
    this.#bytes.set(data, at);
    return this;
  }
  /** Text in exactly `size` bytes, cut or padded with `fill`. */
  text(value: string, size: number, fill = 0): this {
    const data = utf8.encode(value).subarray(0, size);
    this.bytes(data);
    for (let n = data.length; n < size; n++) this.u8(fill);
    return this;
  }
  /** `count` zero bytes. */
  zeros(count: number): this {
    this.#reserve(count);
    return this;
  }
  /** Zeros up to the next multiple of `alignment`. */
  align(alignment: number): this {
    return this.zeros((alignment - (this.#length % alignment)) % alignment);
  }
  /** Overwrites one byte that was written before. */
  patch8(at: number, value: number): void {
    this.#view.setUint8(at, value);
  }
  patch32(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
  }
  /** A copy of what was written. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }
}

/** Text as NUL-terminated UTF-8. */
export function cString(value: string): Uint8Array {
  return utf8.encode(`${value}\0`);
}
