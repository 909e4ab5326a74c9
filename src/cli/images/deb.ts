/** Debian binary packages: an `ar` archive around a compressed tar. Pure functions over bytes. */

import { gunzipSync } from 'node:zlib';
import { decompress as decompressZstd } from 'fzstd';
import { unpackTar } from 'modern-tar';
import xz from 'xz-decompress';
import { SoftvtError } from '../../util/errors.ts';

/** A regular file out of a package, with its path below the root, such as `boot/vmlinuz-6.1`. */
export interface PackageFile {
  readonly path: string;
  readonly data: Uint8Array;
}

function damaged(file: string, why: string, cause?: unknown): SoftvtError {
  return new SoftvtError('ERR_SOFTVT_PACKAGE', `${file} is damaged: ${why}`, { cause });
}

/** The members of an `ar` archive by name. */
function readAr(bytes: Uint8Array, file: string): Map<string, Uint8Array> {
  const text = (from: number, to: number): string => Buffer.from(bytes.subarray(from, to)).toString('latin1');
  if (text(0, 8) !== '!<arch>\n') throw damaged(file, 'it is not an ar archive');
  const members = new Map<string, Uint8Array>();
  for (let at = 8; at < bytes.length; ) {
    // Header: name 16, time 12, owner 6, group 6, mode 8, size 10, then "`\n".
    if (at + 60 > bytes.length || text(at + 58, at + 60) !== '`\n') throw damaged(file, 'it ends inside a header');
    const name = text(at, at + 16)
      .trim()
      .replace(/\/$/, '');
    const size = Number(text(at + 48, at + 58));
    const start = at + 60;
    if (!Number.isInteger(size) || start + size > bytes.length) throw damaged(file, `it ends inside ${name}`);
    members.set(name, bytes.subarray(start, start + size));
    at = start + size + (size & 1);
  }
  return members;
}

/** A stream of one chunk. */
function wholeStream(bytes: Uint8Array): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(bytes);
      controller.close();
    },
  });
}

/** Decompresses an xz stream. Throws what the decoder throws. */
export function xzStream(bytes: Uint8Array): ReadableStream<Uint8Array> {
  return new xz.XzReadableStream(wholeStream(bytes));
}

/** Decompresses a whole xz file. Throws ERR_SOFTVT_PACKAGE naming `file`. */
export async function decompressXz(bytes: Uint8Array, file: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  try {
    const reader = xzStream(bytes).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      chunks.push(value);
    }
  } catch (error) {
    throw damaged(file, 'its xz data cannot be decompressed', error);
  }
  return Buffer.concat(chunks);
}

function openData(members: ReadonlyMap<string, Uint8Array>, file: string): Uint8Array | ReadableStream<Uint8Array> {
  for (const [name, bytes] of members) {
    switch (name) {
      case 'data.tar':
        return bytes;
      case 'data.tar.gz':
        return gunzipSync(bytes);
      case 'data.tar.xz':
        return xzStream(bytes);
      case 'data.tar.zst':
        return decompressZstd(bytes);
    }
  }
  throw damaged(file, 'it holds no data archive in a known format');
}

/**
 * The regular files of a package that `wanted` accepts.
 *
 * @param file the package's name in messages
 * @param wanted gets the path below the root, without `./`
 */
export async function unpackDeb(
  bytes: Uint8Array,
  file: string,
  wanted: (path: string) => boolean,
): Promise<PackageFile[]> {
  const members = readAr(bytes, file);
  const clean = (name: string): string => name.replace(/^(\.?\/)+/, '');
  try {
    const entries = await unpackTar(openData(members, file), {
      strict: true,
      filter: (header) => (header.type === undefined || header.type === 'file') && wanted(clean(header.name)),
    });
    return entries.map((entry) => ({
      path: clean(entry.header.name),
      data: entry.data ?? new Uint8Array(0),
    }));
  } catch (error) {
    if (error instanceof SoftvtError) throw error;
    throw damaged(file, 'its data archive cannot be unpacked', error);
  }
}
