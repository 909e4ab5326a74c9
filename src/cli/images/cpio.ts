/**
 * Writes cpio archives in the "newc" format, which the kernel unpacks as initramfs.
 *
 * Format: Linux, Documentation/driver-api/early-userspace/buffer-format.rst. Same entries, same bytes: times are 0 and
 * inode numbers count up.
 */

/** What kind of thing an entry makes, in the file type bits of `st_mode`. */
const FILE_TYPE = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  device: 0o020000,
} as const;

/** One entry; `path` is relative to the root and without a slash in front. */
export type CpioEntry =
  | { readonly kind: 'directory'; readonly path: string; readonly mode?: number }
  | {
      readonly kind: 'file';
      readonly path: string;
      readonly mode?: number;
      readonly data: Uint8Array;
    }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string }
  /** A character device node. */
  | {
      readonly kind: 'device';
      readonly path: string;
      readonly mode?: number;
      readonly major: number;
      readonly minor: number;
    };

const DEFAULT_MODE = { file: 0o644, directory: 0o755, symlink: 0o777, device: 0o600 } as const;
const HEADER_LENGTH = 110;

function align4(value: number): number {
  return (value + 3) & ~3;
}

/** Packs entries in their order; a directory must come before what lies in it. */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const encoder = new TextEncoder();
  const records = entries.map((entry, index) => {
    const name = encoder.encode(`${entry.path}\0`);
    let data: Uint8Array = new Uint8Array(0);
    if (entry.kind === 'file') data = entry.data;
    if (entry.kind === 'symlink') data = encoder.encode(entry.target);
    const mode =
      FILE_TYPE[entry.kind] | ('mode' in entry && entry.mode !== undefined ? entry.mode : DEFAULT_MODE[entry.kind]);
    const device = entry.kind === 'device' ? { major: entry.major, minor: entry.minor } : { major: 0, minor: 0 };
    return {
      name,
      data,
      inode: index + 1,
      mode,
      links: entry.kind === 'directory' ? 2 : 1,
      device,
    };
  });
  const trailer = {
    name: encoder.encode('TRAILER!!!\0'),
    data: new Uint8Array(0),
    inode: 0,
    mode: 0,
    links: 1,
  };
  records.push({ ...trailer, device: { major: 0, minor: 0 } });

  let length = 0;
  for (const record of records) length += align4(HEADER_LENGTH + record.name.length) + align4(record.data.length);
  const archive = new Uint8Array(length);
  let at = 0;
  for (const { name, data, inode, mode, links, device } of records) {
    // inode, mode, uid, gid, links, mtime, size, device of the file system (2), device of the node (2), name size, check.
    const fields = [inode, mode, 0, 0, links, 0, data.length, 0, 0, device.major, device.minor, name.length, 0];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
    encoder.encodeInto(header, archive.subarray(at));
    archive.set(name, at + HEADER_LENGTH);
    at = align4(at + HEADER_LENGTH + name.length);
    archive.set(data, at);
    at = align4(at + data.length);
  }
  return archive;
}
