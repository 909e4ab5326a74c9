/** Integers and digits as bytes, where speed does not matter. */

const word: Uint8Array = new Uint8Array(8);
const wordView: DataView = new DataView(word.buffer);

/** The lower `size` bytes of a value, lowest first. */
export function littleEndianBytes(value: bigint, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  // perf: MMIO. Shifts make a BigInt per byte.
  if (size <= 8) {
    wordView.setBigUint64(0, value, true);
    for (let i = 0; i < size; i++) bytes[i] = word[i]!;
    return bytes;
  }
  for (let i = 0; i < size; i++) bytes[i] = Number((value >> BigInt(8 * i)) & 0xffn);
  return bytes;
}

/** The unsigned value of bytes of which the lowest comes first. */
export function fromLittleEndian(bytes: Uint8Array): bigint {
  if (bytes.length <= 8) {
    word.fill(0);
    for (let i = 0; i < bytes.length; i++) word[i] = bytes[i]!;
    return wordView.getBigUint64(0, true);
  }
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
  return value;
}

/** Bytes as hexadecimal digits, two each. */
export function hexOf(bytes: Uint8Array, separator: string = ''): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(separator);
}
