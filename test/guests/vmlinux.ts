/** Takes the ELF kernel out of a bzImage whose payload is LZ4 in the legacy frame, as Debian's 6.1 cloud kernel is. */

const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const SETUP_SECTS = 0x1f1;
const LEGACY_MAGIC = 0x184c2102;
const MIN_MATCH = 4;

/** The vmlinux inside. */
export function extractVmlinux(bzImage: Uint8Array): Uint8Array {
  const view = new DataView(bzImage.buffer, bzImage.byteOffset, bzImage.byteLength);
  const at = (bzImage[SETUP_SECTS]! + 1) * 512 + view.getUint32(PAYLOAD_OFFSET, true);
  const end = at + view.getUint32(PAYLOAD_LENGTH, true);
  if (view.getUint32(at, true) !== LEGACY_MAGIC) throw new Error('the payload is not LZ4');
  // Behind the stream stands the size of what it holds.
  const out = new Uint8Array(view.getUint32(end - 4, true));
  let length = 0;
  for (let block = at + 4; block < end - 4; ) {
    const size = view.getUint32(block, true);
    length = unpackBlock(bzImage.subarray(block + 4, block + 4 + size), out, length);
    block += 4 + size;
  }
  if (length !== out.length) throw new Error('the payload has another size than it says');
  return out;
}

/** Where a block is read. */
interface Cursor {
  readonly block: Uint8Array;
  at: number;
}

/** A count of four bits, continued in bytes if it is 15. */
function extendedCount(cursor: Cursor, count: number): number {
  if (count < 15) return count;
  let total = count;
  for (;;) {
    const byte = cursor.block[cursor.at++]!;
    total += byte;
    if (byte !== 255) return total;
  }
}

/** One LZ4 block: literals and matches in turn. Gives the new length of the output. */
function unpackBlock(block: Uint8Array, out: Uint8Array, start: number): number {
  const cursor: Cursor = { block, at: 0 };
  let to = start;
  while (cursor.at < block.length) {
    const token = block[cursor.at++]!;
    const literals = extendedCount(cursor, token >> 4);
    out.set(block.subarray(cursor.at, cursor.at + literals), to);
    cursor.at += literals;
    to += literals;
    if (cursor.at >= block.length) break;
    const distance = block[cursor.at]! | (block[cursor.at + 1]! << 8);
    cursor.at += 2;
    const match = extendedCount(cursor, token & 15) + MIN_MATCH;
    for (let n = 0; n < match; n++, to++) out[to] = out[to - distance]!;
  }
  return to;
}
