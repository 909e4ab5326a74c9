/** Fetches and checks a suite's index: `InRelease`, and the list of packages it vouches for. */

import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { SoftvtError } from '../../util/errors.ts';
import { writeAtomically } from './cache-files.ts';
import { type Architecture, FILE_PACKAGES } from './catalog.ts';
import { decompressXz } from './deb.ts';
import { type DownloadPatience, downloadFile, fetchBytes } from './download.ts';
import type { ImageEnvironment, Mirror } from './environment.ts';
import { isKernelPackage, type PackageEntry, parsePackages } from './packages.ts';
import type { ProgressListener } from './progress.ts';
import { parseRelease, type Release, stripSignature, verifyInRelease } from './release.ts';

/** A suite as one mirror has it now. */
export interface SuiteIndex {
  readonly suite: string;
  readonly mirror: Mirror;
  /** The packages that images are made of, by name. */
  readonly packages: ReadonlyMap<string, PackageEntry>;
}

const IN_RELEASE_LIMIT = 8 * 1024 * 1024;
/** The first thing asked of a mirror: without a network the answer should come soon. */
const ASKING: DownloadPatience = { attempts: 2, idleMs: 15_000, pauseMs: 500 };
const DAY_MS = 24 * 3600 * 1000;

function isImagePackage(name: string): boolean {
  return FILE_PACKAGES.includes(name) || isKernelPackage(name);
}

/** Asks the mirrors in turn for the suite. */
async function fetchInRelease(environment: ImageEnvironment, suite: string): Promise<{ mirror: Mirror; text: string }> {
  if (environment.mirrors.length === 0) {
    throw new SoftvtError('ERR_SOFTVT_NO_MIRROR', "apt's configuration names no Debian mirror on this machine", {
      hint: 'set SOFTVT_MIRROR to the base address of one, such as http://HOST/debian',
    });
  }
  let failure: unknown;
  for (const mirror of environment.mirrors) {
    try {
      const bytes = await fetchBytes(
        `${mirror.base}/dists/${suite}/InRelease`,
        IN_RELEASE_LIMIT,
        environment.patience ?? ASKING,
      );
      return { mirror, text: Buffer.from(bytes).toString('utf8') };
    } catch (error) {
      failure ??= error;
    }
  }
  throw failure;
}

async function checkedRelease(
  mirror: Mirror,
  inRelease: string,
  suite: string,
  progress: ProgressListener,
): Promise<Release> {
  let text: string;
  if (mirror.keyring === undefined) {
    progress({
      kind: 'warning',
      message: `the index of ${suite} is not checked: this machine has no Debian keyring`,
    });
    text = stripSignature(inRelease);
  } else {
    progress({ kind: 'verify', file: `the signature of ${suite}` });
    text = await verifyInRelease(inRelease, mirror.keyring, suite);
  }
  const release = parseRelease(text, suite);
  const late = release.validUntil === undefined ? 0 : Date.now() - release.validUntil.getTime();
  if (late > 0) {
    progress({
      kind: 'warning',
      message: `the mirror's index of ${suite} is out of date by ${Math.ceil(late / DAY_MS)} days`,
    });
  }
  return release;
}

/** The part of a suite's package list that matters here, kept so that the list is decompressed once per version. */
interface CachedList {
  /** SHA-256 of the `Packages.xz` it was made from. */
  readonly sha256: string;
  /** The packages it was looked through for, beside kernels. */
  readonly wanted?: readonly string[];
  readonly packages: readonly PackageEntry[];
}

function readCachedList(path: string, sha256: string): readonly PackageEntry[] | undefined {
  try {
    const list = JSON.parse(readFileSync(path, 'utf8')) as CachedList;
    const complete = FILE_PACKAGES.every((name) => list.wanted?.includes(name));
    return list.sha256 === sha256 && complete ? list.packages : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Fetches the index of a suite from the first mirror that has it.
 *
 * Throws ERR_SOFTVT_NO_MIRROR, ERR_SOFTVT_NETWORK, ERR_SOFTVT_NOT_FOUND, ERR_SOFTVT_SIGNATURE, ERR_SOFTVT_HASH,
 * ERR_SOFTVT_PACKAGE and the errors of writing the cache.
 */
export async function fetchSuiteIndex(
  environment: ImageEnvironment,
  suite: string,
  progress: ProgressListener,
  architecture: Architecture = 'amd64',
): Promise<SuiteIndex> {
  const { mirror, text: inRelease } = await fetchInRelease(environment, suite);
  const release = await checkedRelease(mirror, inRelease, suite, progress);
  const expected = release.files.get(`main/binary-${architecture}/Packages.xz`);
  if (expected === undefined) {
    throw new SoftvtError('ERR_SOFTVT_NOT_FOUND', `the mirror's ${suite} has no list of ${architecture} packages`);
  }
  const directory = join(environment.cacheDirectory, 'index');
  const name = architecture === 'amd64' ? suite : `${suite}-${architecture}`;
  const listPath = join(directory, `${name}.json`);
  const cached = readCachedList(listPath, expected.sha256);
  if (cached !== undefined) {
    return { suite, mirror, packages: new Map(cached.map((entry) => [entry.name, entry])) };
  }
  const file = join(directory, `${name}-Packages.xz`);
  const base = `${mirror.base}/dists/${suite}/main/binary-${architecture}`;
  const url = release.acquireByHash ? `${base}/by-hash/SHA256/${expected.sha256}` : `${base}/Packages.xz`;
  await downloadFile(url, file, expected, progress, environment.patience);
  progress({ kind: 'unpack', file: `the package list of ${suite}` });
  const text = Buffer.from(await decompressXz(readFileSync(file), file)).toString('utf8');
  const packages = parsePackages(text, isImagePackage);
  const list: CachedList = { sha256: expected.sha256, wanted: FILE_PACKAGES, packages: [...packages.values()] };
  writeAtomically(listPath, JSON.stringify(list));
  rmSync(file, { force: true });
  return { suite, mirror, packages };
}
