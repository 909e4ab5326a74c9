/** Writes small Debian packages for tests. */

import { packTar } from 'modern-tar';
import { writeXz } from './xz-writer.ts';

/** Files of a package by path, such as `boot/vmlinuz-1`. */
export type DebFiles = Readonly<Record<string, Uint8Array | string>>;

/** An `ar` archive of the named members. */
export function writeAr(members: readonly (readonly [string, Uint8Array])[]): Uint8Array {
  const parts: Uint8Array[] = [Buffer.from('!<arch>\n')];
  for (const [name, data] of members) {
    const fields = [name.padEnd(16), '0'.padEnd(12), '0'.padEnd(6), '0'.padEnd(6), '100644'.padEnd(8)];
    parts.push(Buffer.from(`${fields.join('')}${String(data.length).padEnd(10)}\`\n`), data);
    if (data.length % 2 === 1) parts.push(Buffer.from('\n'));
  }
  return Buffer.concat(parts);
}

/** A tar archive as packages hold it: every path begins with `./`. */
export async function writeDataTar(files: DebFiles): Promise<Uint8Array> {
  return await packTar(
    Object.entries(files).map(([path, content]) => {
      const data = typeof content === 'string' ? Buffer.from(content) : content;
      return { header: { name: `./${path}`, size: data.length, mtime: new Date(0) }, body: data };
    }),
  );
}

/** A package with the files, as `data.tar.xz`. */
export async function writeDeb(files: DebFiles): Promise<Uint8Array> {
  return writeAr([
    ['debian-binary', Buffer.from('2.0\n')],
    ['control.tar.xz', writeXz(await writeDataTar({ control: 'Package: test\n' }))],
    ['data.tar.xz', writeXz(await writeDataTar(files))],
  ]);
}
