/** A suite's list of packages, and which of them make up a kernel. */

import { SoftvtError } from '../../util/errors.ts';

/** One package of a suite's `Packages` file. */
export interface PackageEntry {
  readonly name: string;
  readonly version: string;
  readonly depends: string;
  /** Path of the .deb below the mirror's base. */
  readonly filename: string;
  readonly size: number;
  readonly sha256: string;
}

/** Picks the packages whose name `wanted` accepts out of a `Packages` file's text. */
export function parsePackages(text: string, wanted: (name: string) => boolean): Map<string, PackageEntry> {
  const entries = new Map<string, PackageEntry>();
  let at = text.startsWith('Package: ') ? 0 : text.indexOf('\nPackage: ') + 1;
  while (at >= 0 && at < text.length) {
    const nameEnd = text.indexOf('\n', at);
    if (!text.startsWith('Package: ', at) || nameEnd < 0) break;
    const next = text.indexOf('\nPackage: ', nameEnd);
    const end = next < 0 ? text.length : next;
    const name = text.slice(at + 9, nameEnd).trim();
    if (wanted(name)) {
      const field = (key: string): string => {
        const start = text.indexOf(`\n${key}: `, at);
        if (start < 0 || start >= end) return '';
        const from = start + key.length + 3;
        const newline = text.indexOf('\n', from);
        return text.slice(from, newline < 0 ? end : Math.min(newline, end)).trim();
      };
      entries.set(name, {
        name,
        version: field('Version'),
        depends: field('Depends'),
        filename: field('Filename'),
        size: Number(field('Size')),
        sha256: field('SHA256').toLowerCase(),
      });
    }
    at = next < 0 ? -1 : next + 1;
  }
  return entries;
}

/** Accepts what {@link resolveKernel} may follow, so that the other sixty thousand packages are skipped. */
export function isKernelPackage(name: string): boolean {
  return /^linux-(image|binary|modules|base)-/.test(name) && !/-(dbg|unsigned)$/.test(name);
}

/**
 * The packages that a kernel's meta package stands for now: the image, and where the suite splits it, the binary and
 * the modules. Follows exact dependencies (`= version`) on kernel packages only.
 *
 * @returns entries with files of the kernel, without the meta package
 */
export function resolveKernel(entries: ReadonlyMap<string, PackageEntry>, meta: string, suite: string): PackageEntry[] {
  const found = new Map<string, PackageEntry>();
  const visit = (name: string, by: string): void => {
    if (found.has(name)) return;
    const entry = entries.get(name);
    if (entry === undefined) throw missingPackage(name, suite, by);
    found.set(name, entry);
    for (const match of entry.depends.matchAll(/([a-z0-9][a-z0-9+.-]*)\s*\(=\s*[^)]+\)/g)) {
      const dependency = match[1] ?? '';
      if (isKernelPackage(dependency)) visit(dependency, name);
    }
  };
  visit(meta, '');
  found.delete(meta);
  // linux-base-* holds the configuration and System.map only; linux-base-cloud-amd64 and its like are meta packages.
  const parts = [...found.values()].filter((entry) => !entry.name.startsWith('linux-base-'));
  if (parts.length === 0) {
    throw new SoftvtError('ERR_SOFTVT_NOT_FOUND', `package ${meta} of ${suite} depends on no kernel image`);
  }
  return parts;
}

/** The failure of a package that is not in the suite. */
export function missingPackage(name: string, suite: string, neededBy: string = ''): SoftvtError {
  const why = neededBy === '' ? '' : `, which ${neededBy} needs`;
  return new SoftvtError('ERR_SOFTVT_NOT_FOUND', `the mirror's ${suite} has no package ${name}${why}`);
}
