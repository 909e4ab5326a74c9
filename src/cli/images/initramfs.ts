/** The small user space that softvt gives a guest: busybox, an init script, and files on request. */

import { type CpioEntry, writeCpio } from './cpio.ts';
import { tdreportProgram } from './tdreport-program.ts';

/** The line that says that user space runs; tests and the demo wait for it. */
export const USERSPACE_MARKER = 'softvt: userspace reached';

/** What stands in front of a TDREPORT in hexadecimal digits. */
export const TDREPORT_MARKER = 'softvt: tdreport ';
/** REPORTDATA of that TDREPORT, filled up with zeros. */
export const TDREPORT_DATA = 'softvt';
const TDREPORT_PROGRAM = 'bin/tdreport';

/** What the default init does after it has printed the marker. */
export type InitMode = 'poweroff' | 'shell';

/** A file to put into the initramfs. */
export interface InitramfsFile {
  /** Path without a slash in front; missing directories are made. */
  readonly path: string;
  readonly data: Uint8Array;
  /** Permission bits; 0o644 if not given. */
  readonly mode?: number;
}

/** What {@link buildInitramfs} packs. */
export interface InitramfsOptions {
  /** A static busybox for the guest's architecture. */
  readonly busybox: Uint8Array;
  /** Text of `/init`, or the mode of the default one. */
  readonly init: InitMode | { readonly script: string };
  readonly files?: readonly InitramfsFile[];
  /** Kernel modules for the default init to load, as paths of `files`, in order. */
  readonly load?: readonly string[];
  /** The default init prints a TDREPORT (needs the module tdx_guest), behind {@link TDREPORT_MARKER} in hex. */
  readonly tdreport?: boolean;
}

/**
 * The default `/init`: mounts the kernel's file systems, loads modules, prints the marker and the number of CPUs, and
 * then powers off or hands the console to a shell (and powers off when that ends).
 */
export function initScript(mode: InitMode, load: readonly string[] = [], tdreport: boolean = false): string {
  const lines = [
    '#!/bin/busybox sh',
    'export PATH=/bin HOME=/',
    'busybox mount -t proc proc /proc',
    'busybox mount -t sysfs sys /sys',
    'busybox mount -t devtmpfs dev /dev',
    ...load.map((path) => `busybox insmod /${path}`),
    `echo '${USERSPACE_MARKER}'`,
    'echo "softvt: nproc $(busybox nproc)"',
  ];
  if (tdreport) {
    const hex = "$(busybox od -An -v -tx1 /tmp/tdreport | busybox tr -d ' \\n')";
    lines.push(
      `busybox printf ${TDREPORT_DATA} | /${TDREPORT_PROGRAM} >/tmp/tdreport && echo "${TDREPORT_MARKER}${hex}" || echo "softvt: no TDREPORT: error $?"`,
    );
  }
  if (mode === 'shell') {
    // Only a shell needs every applet by its name, and linking them costs time. cttyhack gives it a controlling
    // terminal, without which Ctrl-C does nothing.
    lines.push('busybox --install -s /bin', 'busybox setsid busybox cttyhack busybox sh');
  }
  lines.push('busybox poweroff -f', '');
  return lines.join('\n');
}

/** The directories above a path, outermost first: `a/b/c` has `a` and `a/b`. */
function parents(path: string): string[] {
  const parts = path.split('/');
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join('/'));
}

/** Packs an uncompressed initramfs. The same input gives the same bytes. */
export function buildInitramfs(options: InitramfsOptions): Uint8Array {
  const { init, busybox, load = [], tdreport = false } = options;
  const files = [...(options.files ?? [])];
  if (tdreport) files.push({ path: TDREPORT_PROGRAM, data: tdreportProgram(), mode: 0o755 });
  const script = typeof init === 'string' ? initScript(init, load, tdreport) : init.script;
  const directories = new Set(['bin', 'dev', 'proc', 'sys', 'tmp']);
  for (const file of files) for (const parent of parents(file.path)) directories.add(parent);
  const entries: CpioEntry[] = [...directories].sort().map((path) => ({ kind: 'directory', path }));
  // Before devtmpfs is mounted the kernel opens this one for init's standard streams.
  entries.push({ kind: 'device', path: 'dev/console', major: 5, minor: 1 });
  entries.push({ kind: 'file', path: 'bin/busybox', mode: 0o755, data: busybox });
  entries.push({ kind: 'symlink', path: 'bin/sh', target: 'busybox' });
  entries.push({ kind: 'file', path: 'init', mode: 0o755, data: new TextEncoder().encode(script) });
  for (const { path, data, mode = 0o644 } of files) entries.push({ kind: 'file', path, mode, data });
  return writeCpio(entries);
}
