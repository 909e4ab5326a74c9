/** A root directory out of packages: the same files for a guest and, by chroot, for this host. */
import { spawn } from 'node:child_process';
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { CpioEntry } from '../../src/cli/images/cpio.ts';
import { fetchPackages, hostTool, resolvePackages } from './packages.ts';

/** What programs here run without: the package manager, the system's administration, and drivers for what is drawn. */
const UNUSED =
  /^(dpkg|debconf.*|cdebconf|debianutils|install-info|tar|mawk|gawk|base-files|mime-support|net-tools|.*(mesa|llvm|dri|drm|glut|glx).*|libgl1)$/;
/** What packages have for readers. */
const EXCLUDED = ['doc', 'man', 'info', 'locale', 'lintian', 'bug', 'bash-completion'].map(
  (name) => `--exclude=./usr/share/${name}/*`,
);
/** Directories that the distribution has merged into /usr; packages have files in both. */
const MERGED = ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32'];

/** Unpacks packages and what they need into the empty directory `root`, without their installation scripts. */
export function unpackRoot(root: string, names: readonly string[]): void {
  for (const name of MERGED) {
    mkdirSync(join(root, 'usr', name), { recursive: true });
    symlinkSync(`usr/${name}`, join(root, name));
  }
  for (const name of ['tmp', 'dev', 'proc', 'etc', 'root']) mkdirSync(join(root, name));
  const unpack = `dpkg-deb --fsys-tarfile "$0" | tar -x --keep-directory-symlink --no-same-owner "$@"`;
  for (const file of fetchPackages(resolvePackages(names, UNUSED)))
    hostTool('sh', ['-ec', unpack, file, '-C', root, ...EXCLUDED]);
}

/** Everything below `root` as cpio entries below `prefix`; every owner is root. */
export function treeEntries(root: string, prefix: string): CpioEntry[] {
  const entries: CpioEntry[] = [{ kind: 'directory', path: prefix }];
  for (const name of readdirSync(root).sort()) {
    const [from, path] = [join(root, name), `${prefix}/${name}`];
    const status = lstatSync(from);
    const mode = status.mode & 0o777;
    if (status.isDirectory()) entries.push(...treeEntries(from, path));
    else if (status.isSymbolicLink()) entries.push({ kind: 'symlink', path, target: readlinkSync(from) });
    else if (status.isFile()) entries.push({ kind: 'file', path, mode, data: readFileSync(from) });
  }
  return entries;
}

/** What a native run came to. */
export interface NativeRun {
  readonly code: number | null;
  readonly output: string;
}

/** Runs a program of `root` on this host, as root of that directory. */
export function runNatively(root: string, command: readonly string[], env: Record<string, string>): Promise<NativeRun> {
  const chroot = ['/usr/sbin/chroot', root, ...command];
  const [program, ...args] = process.getuid?.() === 0 ? chroot : ['/usr/bin/unshare', '--map-root-user', ...chroot];
  const child = spawn(program!, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString('latin1');
    });
  }
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, output }));
  });
}
