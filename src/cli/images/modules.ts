/** Kernel modules for an initramfs: which ones a module needs, in the order of loading. */

import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { decompress as decompressZstd } from 'fzstd';
import { SoftvtError } from '../../util/errors.ts';
import { decompressXz } from './deb.ts';
import type { InitramfsFile } from './initramfs.ts';

/** Modules ready for {@link import('./initramfs.ts').buildInitramfs}: the files, and their paths in loading order. */
export interface ModuleSet {
  readonly files: readonly InitramfsFile[];
  readonly load: readonly string[];
}

const SUFFIX = /\.ko(\.xz|\.zst|\.gz)?$/;

/** The kernel takes `-` and `_` in module names for the same. */
function normalise(name: string): string {
  return name.replaceAll('-', '_');
}

async function readModule(path: string): Promise<Uint8Array> {
  const bytes = readFileSync(path);
  if (path.endsWith('.xz')) return await decompressXz(bytes, path);
  if (path.endsWith('.zst')) return decompressZstd(bytes);
  return path.endsWith('.gz') ? gunzipSync(bytes) : bytes;
}

/**
 * The names in the `depends=` entry of a module's `.modinfo` section; empty if there is none.
 *
 * Formats: ELF-64, little-endian ("Section header table", "String table"); `.modinfo` is `key=value` strings, each
 * ended by a zero byte.
 */
export function moduleDepends(elf: Uint8Array, file: string): string[] {
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  const text = new TextDecoder('latin1');
  try {
    const table = Number(view.getBigUint64(0x28, true));
    const entrySize = view.getUint16(0x3a, true);
    const count = view.getUint16(0x3c, true);
    const section = (index: number): { name: number; offset: number; size: number } => {
      const at = table + index * entrySize;
      const offset = Number(view.getBigUint64(at + 0x18, true));
      return { name: view.getUint32(at, true), offset, size: Number(view.getBigUint64(at + 0x20, true)) };
    };
    const names = section(view.getUint16(0x3e, true));
    for (let index = 0; index < count; index++) {
      const { name, offset, size } = section(index);
      const start = names.offset + name;
      if (text.decode(elf.subarray(start, start + 9)) !== '.modinfo\0') continue;
      const entries = text.decode(elf.subarray(offset, offset + size)).split('\0');
      const depends = entries.find((entry) => entry.startsWith('depends='))?.slice('depends='.length) ?? '';
      return depends.split(',').filter((word) => word !== '');
    }
    return [];
  } catch (error) {
    throw new SoftvtError('ERR_SOFTVT_PACKAGE', `${file} is not a kernel module`, { cause: error });
  }
}

/**
 * Reads the named modules and everything they depend on from an image's module directory.
 *
 * Throws ERR_SOFTVT_NOT_FOUND if the kernel has no such module (it may be built in).
 */
export async function collectModules(directory: string, names: readonly string[]): Promise<ModuleSet> {
  const paths = new Map<string, string>();
  for (const path of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    if (SUFFIX.test(path)) paths.set(normalise(basename(path).replace(SUFFIX, '')), path);
  }
  const files: InitramfsFile[] = [];
  const seen = new Set<string>();
  const visit = async (name: string): Promise<void> => {
    if (seen.has(name)) return;
    seen.add(name);
    const path = paths.get(name);
    if (path === undefined) throw new SoftvtError('ERR_SOFTVT_NOT_FOUND', `this kernel has no module ${name}`);
    const data = await readModule(join(directory, path));
    for (const dependency of moduleDepends(data, path)) await visit(normalise(dependency));
    files.push({ path: `lib/modules/${name}.ko`, data });
  };
  for (const name of names) await visit(normalise(name));
  return { files, load: files.map((file) => file.path) };
}
