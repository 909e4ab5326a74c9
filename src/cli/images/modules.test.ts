import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { collectModules, moduleDepends } from './modules.ts';
import { writeXz } from './testing/xz-writer.ts';

/** A relocatable ELF-64 file with a string table and a `.modinfo` section. */
function moduleFile(modinfo: string): Buffer {
  const names = Buffer.from('\0.shstrtab\0.modinfo\0');
  const info = Buffer.from(modinfo);
  const header = Buffer.alloc(64);
  header.write('\x7fELF\x02\x01\x01', 'latin1');
  const namesAt = 64;
  const infoAt = namesAt + names.length;
  const tableAt = infoAt + info.length;
  header.writeBigUInt64LE(BigInt(tableAt), 0x28);
  header.writeUInt16LE(64, 0x3a);
  header.writeUInt16LE(3, 0x3c);
  header.writeUInt16LE(1, 0x3e);
  const table = Buffer.alloc(3 * 64);
  const section = (index: number, name: number, offset: number, size: number): void => {
    table.writeUInt32LE(name, index * 64);
    table.writeBigUInt64LE(BigInt(offset), index * 64 + 0x18);
    table.writeBigUInt64LE(BigInt(size), index * 64 + 0x20);
  };
  section(1, 1, namesAt, names.length);
  section(2, 11, infoAt, info.length);
  return Buffer.concat([header, names, info, table]);
}

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'softvt-modules-'));
});

afterEach(() => rmSync(directory, { recursive: true }));

function put(path: string, data: Uint8Array): void {
  mkdirSync(dirname(join(directory, path)), { recursive: true });
  writeFileSync(join(directory, path), data);
}

test('a module’s dependencies are read from .modinfo', () => {
  expect(moduleDepends(moduleFile('license=GPL\0depends=tsm,configfs\0name=x\0'), 'x.ko')).toEqual(['tsm', 'configfs']);
  expect(moduleDepends(moduleFile('license=GPL\0depends=\0'), 'x.ko')).toEqual([]);
  expect(() => moduleDepends(Buffer.from('no ELF file'), 'x.ko')).toThrow('x.ko is not a kernel module');
});

test('modules come with what they need, in loading order, each once, whatever their compression', async () => {
  const base = moduleFile('depends=\0');
  put('kernel/fs/configfs/configfs.ko.xz', writeXz(base));
  put('kernel/drivers/virt/coco/tsm.ko.gz', gzipSync(moduleFile('depends=configfs\0')));
  put('kernel/drivers/virt/coco/tdx-guest.ko.zst', zstdCompressSync(moduleFile('depends=tsm,configfs\0')));
  put('kernel/drivers/virt/other.ko', moduleFile('depends=\0'));
  put('modules.builtin', Buffer.from('kernel/fs/built-in.ko\n'));
  const set = await collectModules(directory, ['tdx_guest', 'configfs', 'other']);
  expect(set.load).toEqual([
    'lib/modules/configfs.ko',
    'lib/modules/tsm.ko',
    'lib/modules/tdx_guest.ko',
    'lib/modules/other.ko',
  ]);
  expect(Buffer.from(set.files[0]?.data ?? []).equals(base)).toBe(true);
});

test('a module the kernel does not have is refused by name', async () => {
  await expect(collectModules(directory, ['nosuch'])).rejects.toMatchObject({
    code: 'ERR_SOFTVT_NOT_FOUND',
    message: 'this kernel has no module nosuch',
  });
});
