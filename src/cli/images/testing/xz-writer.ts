/**
 * Writes xz files whose data are stored, not compressed: enough to test readers without a compressor.
 *
 * Format: "The .xz File Format" (stream, block and index layout) and LZMA2's uncompressed chunks.
 */

import { crc32 } from 'node:zlib';

const LZMA2 = 0x21;
const CHECK_CRC32 = 1;

function le32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

function withCrc(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, le32(crc32(bytes))]);
}

/** A multibyte integer: seven bits a byte, least significant first. */
function variableLength(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  return Buffer.from([...bytes, rest]);
}

function pad4(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}

/** One xz stream holding `data`. */
export function writeXz(data: Uint8Array): Uint8Array {
  const flags = Buffer.from([0, CHECK_CRC32]);
  const header = Buffer.concat([Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]), flags, le32(crc32(flags))]);
  // Header size in units of four bytes less one, one filter, LZMA2 with its one property byte (dictionary size).
  const blockHeader = withCrc(Buffer.from([0x02, 0x00, LZMA2, 0x01, 0x16, 0x00, 0x00, 0x00]));
  const chunks: Buffer[] = [];
  for (let at = 0; at < data.length; at += 0x10000) {
    const piece = data.subarray(at, at + 0x10000);
    // 0x01 resets the dictionary, 0x02 does not; then the length less one, big-endian.
    chunks.push(
      Buffer.from([at === 0 ? 0x01 : 0x02, (piece.length - 1) >> 8, (piece.length - 1) & 0xff]),
      Buffer.from(piece),
    );
  }
  chunks.push(Buffer.from([0x00]));
  const compressed = Buffer.concat(chunks);
  const unpadded = blockHeader.length + compressed.length + 4;
  const index = withCrc(
    pad4(Buffer.concat([Buffer.from([0x00, 0x01]), variableLength(unpadded), variableLength(data.length)])),
  );
  const footerBody = Buffer.concat([le32(index.length / 4 - 1), flags]);
  const footer = Buffer.concat([le32(crc32(footerBody)), footerBody, Buffer.from('YZ')]);
  return Buffer.concat([header, blockHeader, pad4(compressed), le32(crc32(data)), index, footer]);
}
