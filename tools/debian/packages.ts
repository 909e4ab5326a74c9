/** Packages of the distribution at hand, with all that they depend on, by apt: which checks what it fetches. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDirectory } from '../../src/cli/images/environment.ts';
import { SoftvtError } from '../../src/util/errors.ts';

/** Runs a program of the host and returns what it printed. Throws ERR_SOFTVT_PACKAGE with the last line it complained. */
export function hostTool(command: string, args: readonly string[], cwd?: string): string {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (status === 0) return stdout;
  const why = stderr?.trim().split('\n').at(-1) ?? 'it is not there';
  throw new SoftvtError('ERR_SOFTVT_PACKAGE', `packages come by apt, and ${command} ${args[0]} fails: ${why}`);
}

/** What each package needs, by apt's lines: a name, then `  Depends: a`, and ` |Depends: a` before an alternative. */
function needsOf(names: readonly string[]): Map<string, string[]> {
  const only = ['recommends', 'suggests', 'conflicts', 'breaks', 'replaces', 'enhances'].map((kind) => `--no-${kind}`);
  const all = new Map<string, string[]>();
  let needs: string[] = [];
  let decided = false;
  let provided = false;
  for (const line of hostTool('apt-cache', ['depends', '--recurse', ...only, ...names]).split('\n')) {
    const [, bar, name] = /^ ([ |])(?:Pre)?Depends: (\S+)$/.exec(line) ?? [];
    if (name !== undefined) {
      // The first of several alternatives is the distribution's choice.
      provided = !decided && name.startsWith('<');
      if (!decided && !provided) needs.push(name);
      decided = bar === '|';
    } else if (line.startsWith('    ')) {
      // Who provides a virtual package: the first of them.
      if (provided) needs.push(line.trim());
      provided = false;
    } else if (/^[^ <]/.test(line)) {
      needs = [];
      all.set(line, needs);
    }
  }
  return all;
}

/**
 * `names` and everything that they need, but for packages that `skip` matches, in the order found.
 *
 * @param skip packages that run only while others are installed, and what they would bring
 */
export function resolvePackages(names: readonly string[], skip: RegExp): string[] {
  const needs = needsOf(names);
  const found = new Set(names);
  // A set grows while it is walked.
  for (const name of found) for (const need of needs.get(name) ?? []) if (!skip.test(need)) found.add(need);
  return [...found];
}

/** Fetches packages into the cache, unless they are there with the right hash. Returns the files in their order. */
export function fetchPackages(names: readonly string[]): string[] {
  const directory = join(cacheDirectory(process.env), 'apt');
  mkdirSync(directory, { recursive: true });
  // In the cache's directory it would name those only that are not there.
  const uris = hostTool('apt-get', ['download', '--print-uris', ...names], '/');
  const files = [...uris.matchAll(/^'\S+' (\S+\.deb) \d+ SHA256:([0-9a-f]{64})$/gm)].map(([, file, hash]) => ({
    path: join(directory, file!),
    name: file!.split('_')[0]!,
    hash,
  }));
  const missing = files.filter(({ path, hash }) => {
    return !existsSync(path) || createHash('sha256').update(readFileSync(path)).digest('hex') !== hash;
  });
  if (missing.length > 0) hostTool('apt-get', ['download', ...missing.map(({ name }) => name)], directory);
  return files.map(({ path }) => path);
}
