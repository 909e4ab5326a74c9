/** stress-ng and the shared libraries that it is linked with, out of the packages of the distribution at hand. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { unpackDeb } from '../../src/cli/images/deb.ts';
import type { InitramfsFile } from '../../src/cli/images/initramfs.ts';
import { SoftvtError } from '../../src/util/errors.ts';
import { fetchPackages, resolvePackages } from '../debian/packages.ts';

/** Drivers that the library packages drag in, and that a program only loads when it draws. */
const NOT_LINKED = /mesa|llvm|dri|drm-(amdgpu|radeon|nouveau|intel)/;

/** Names of the libraries that an ELF file names as needed. */
function needed(elf: Uint8Array): string[] {
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  const [table, size, count] = [
    Number(view.getBigUint64(0x20, true)),
    view.getUint16(0x36, true),
    view.getUint16(0x38, true),
  ];
  const segments = Array.from({ length: count }, (_, n) => {
    const at = table + n * size;
    const word = (offset: number): number => Number(view.getBigUint64(at + offset, true));
    return { type: view.getUint32(at, true), offset: word(8), address: word(16), length: word(32) };
  });
  const dynamic = segments.find(({ type }) => type === 2);
  if (dynamic === undefined) return [];
  const entries: [number, number][] = [];
  for (let at = dynamic.offset; at < dynamic.offset + dynamic.length; at += 16) {
    entries.push([Number(view.getBigUint64(at, true)), Number(view.getBigUint64(at + 8, true))]);
  }
  const strings = entries.find(([tag]) => tag === 5)?.[1] ?? 0;
  const home = segments.find(
    ({ type, address, length }) => type === 1 && strings >= address && strings < address + length,
  )!;
  const names = home.offset + strings - home.address;
  return entries
    .filter(([tag]) => tag === 1)
    .map(([, at]) => Buffer.from(elf.subarray(names + at, elf.indexOf(0, names + at))).toString('latin1'));
}

/** Library `name` of the packages: by its name, or by the version that the name is a link to. */
function library(files: ReadonlyMap<string, Uint8Array>, name: string): Uint8Array | undefined {
  const exact = files.get(name);
  if (exact !== undefined) return exact;
  const versions = [...files.keys()].filter((file) => file.startsWith(`${name}.`)).sort();
  return versions.length === 0 ? undefined : files.get(versions.at(-1)!);
}

/** Fetches them. Throws a SoftvtError where there is no apt, or no such package. */
export async function stressFiles(): Promise<InitramfsFile[]> {
  const libraries = new Map<string, Uint8Array>();
  let program: Uint8Array | undefined;
  for (const file of fetchPackages(resolvePackages(['stress-ng'], NOT_LINKED))) {
    const wanted = (path: string): boolean => /(^|\/)lib(32|64)?\/.*\.so(\.|$)|bin\/stress-ng$/.test(path);
    for (const { path, data } of await unpackDeb(readFileSync(file), basename(file), wanted)) {
      if (basename(path) === 'stress-ng') program = data;
      else libraries.set(basename(path), data);
    }
  }
  if (program === undefined) throw new SoftvtError('ERR_SOFTVT_PACKAGE', 'the package stress-ng has no program');
  const found: InitramfsFile[] = [{ path: 'bin/stress-ng', data: program, mode: 0o755 }];
  const names = new Set(needed(program));
  // A set grows while it is walked: libraries of libraries follow.
  for (const name of names) {
    const data = library(libraries, name);
    if (data === undefined)
      throw new SoftvtError('ERR_SOFTVT_PACKAGE', `stress-ng needs ${name}, which no package has`);
    for (const further of needed(data)) names.add(further);
    found.push({ path: `${name.startsWith('ld-') ? 'lib64' : 'lib/x86_64-linux-gnu'}/${name}`, data, mode: 0o755 });
  }
  return found;
}
