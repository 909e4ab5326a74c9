/** Where images come from and where they are kept: read once from the machine, or made up by a test. */

import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { type AptSource, readAptSources } from './apt-sources.ts';
import type { DownloadPatience } from './download.ts';

/** A repository that may hold the distribution's suites. */
export interface Mirror {
  /** Base address without a slash at its end; `dists/` and `pool/` lie below it. */
  readonly base: string;
  /** Keyring file that the suite's index must be signed with; undefined if none is on the machine. */
  readonly keyring: string | undefined;
}

/** What the image functions need to know about the machine. */
export interface ImageEnvironment {
  /** Directory of the cache; made when first written. */
  readonly cacheDirectory: string;
  /** Mirrors in the order of trying; empty when none is known. */
  readonly mirrors: readonly Mirror[];
  /** How long to wait for a mirror; the default suits people. */
  readonly patience?: DownloadPatience;
}

/** The suites of the distribution, as apt sources name them; `-updates` and the like come with a suffix. */
const DISTRIBUTION_SUITES: readonly string[] = [
  'oldoldstable',
  'oldstable',
  'stable',
  'testing',
  'unstable',
  'bullseye',
  'bookworm',
  'trixie',
  'forky',
  'sid',
];

const DISTRIBUTION_KEYRINGS: readonly string[] = [
  '/usr/share/keyrings/debian-archive-keyring.pgp',
  '/usr/share/keyrings/debian-archive-keyring.gpg',
];

function holdsDistribution(source: AptSource): boolean {
  return (
    source.components.includes('main') &&
    source.suites.some((suite) =>
      DISTRIBUTION_SUITES.includes(suite.replace(/-(updates|backports|proposed-updates)$/, '')),
    )
  );
}

/** Directory of the cache: SOFTVT_CACHE, else `softvt` below the XDG cache directory. */
export function cacheDirectory(env: Readonly<Record<string, string | undefined>>): string {
  const own = env['SOFTVT_CACHE'];
  if (own !== undefined && own !== '') return own;
  const xdg = env['XDG_CACHE_HOME'];
  // The XDG Base Directory Specification has relative paths ignored.
  return join(xdg?.startsWith('/') ? xdg : join(homedir(), '.cache'), 'softvt');
}

/**
 * The environment of this machine: SOFTVT_MIRROR if set, else the mirrors of apt's configuration, with the keyring that
 * SOFTVT_KEYRING names, else the one apt's configuration names, else the distribution's.
 *
 * @param env the process's environment variables
 * @param aptDirectory apt's configuration directory
 */
export function readEnvironment(
  env: Readonly<Record<string, string | undefined>> = process.env,
  aptDirectory: string = '/etc/apt',
): ImageEnvironment {
  const own = env['SOFTVT_KEYRING'];
  const keyring = own !== undefined && own !== '' ? own : DISTRIBUTION_KEYRINGS.find((file) => existsSync(file));
  const named = env['SOFTVT_MIRROR'];
  const mirrors: Mirror[] = [];
  if (named !== undefined && named !== '') {
    mirrors.push({ base: named.replace(/\/+$/, ''), keyring });
  } else {
    for (const source of readAptSources(aptDirectory).filter(holdsDistribution)) {
      if (mirrors.some((mirror) => mirror.base === source.uri)) continue;
      const signedBy = source.signedBy !== undefined && existsSync(source.signedBy) ? source.signedBy : undefined;
      mirrors.push({ base: source.uri, keyring: own ? keyring : (signedBy ?? keyring) });
    }
  }
  return { cacheDirectory: cacheDirectory(env), mirrors };
}
