import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { decompressXz, unpackDeb } from './deb.ts';
import { writeAr, writeDataTar, writeDeb } from './testing/deb-writer.ts';
import { writeXz } from './testing/xz-writer.ts';

const FILES = { 'bin/busybox': 'busybox', 'usr/share/doc/readme': 'text', empty: '' };

test.each([
  ['data.tar', (tar: Uint8Array) => tar],
  ['data.tar.gz', (tar: Uint8Array) => gzipSync(tar)],
  ['data.tar.xz', (tar: Uint8Array) => writeXz(tar)],
  ['data.tar.zst', (tar: Uint8Array) => zstdCompressSync(tar)],
])('a package with %s gives the files asked for', async (member, compress) => {
  const deb = writeAr([
    ['debian-binary', Buffer.from('2.0\n')],
    [member, compress(await writeDataTar(FILES))],
  ]);
  const files = await unpackDeb(deb, 'x.deb', (path) => !path.startsWith('usr/'));
  expect(files.map(({ path, data }) => [path, Buffer.from(data).toString()])).toEqual([
    ['bin/busybox', 'busybox'],
    ['empty', ''],
  ]);
});

test.each([
  ['no archive', async () => Buffer.from('<html>'), 'it is not an ar archive'],
  ['an empty file', async () => Buffer.alloc(0), 'it is not an ar archive'],
  ['an unknown format', async () => writeAr([['data.tar.lzma', Buffer.alloc(9)]]), 'no data archive in a known format'],
  ['a header cut off', async () => (await writeDeb(FILES)).subarray(0, 90), 'it ends inside a header'],
  ['a member cut off', async () => (await writeDeb(FILES)).subarray(0, -9), 'it ends inside data.tar.xz'],
  ['no tar inside', async () => writeAr([['data.tar.gz', gzipSync(Buffer.alloc(2048, 7))]]), 'cannot be unpacked'],
  ['broken gzip', async () => writeAr([['data.tar.gz', Buffer.alloc(64, 7)]]), 'cannot be unpacked'],
  ['broken zstd', async () => writeAr([['data.tar.zst', Buffer.alloc(64, 7)]]), 'cannot be unpacked'],
])('%s is refused in one line', async (_, make, why) => {
  await expect(unpackDeb(await make(), 'x.deb', () => true)).rejects.toMatchObject({
    code: 'ERR_SOFTVT_PACKAGE',
    message: expect.stringMatching(new RegExp(`^x\\.deb is damaged: [^\n]*${why}`)),
  });
});

test('xz: whole files come back, damaged and truncated ones are refused, one after the other', async () => {
  const data = Buffer.from(Array.from({ length: 200_000 }, (_, index) => index % 251));
  const xz = writeXz(data);
  for (let round = 0; round < 3; round++) {
    expect(Buffer.from(await decompressXz(xz, 'x')).equals(data)).toBe(true);
    for (const cut of [0, 5, 40, 100_000, xz.length - 1]) {
      await expect(decompressXz(xz.subarray(0, cut), 'x')).rejects.toThrow('x is damaged');
    }
  }
});
