/** The cache's packages: fetched once, checked each time they are opened. */

import { readFileSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { SoftvtError } from '../../util/errors.ts';
import { downloadFile } from './download.ts';
import type { ImageEnvironment } from './environment.ts';
import { type ManifestPackage, sha256Of } from './manifest.ts';
import type { ProgressListener } from './progress.ts';

/** Where the cache keeps a package. */
export function poolPath(cacheDirectory: string, entry: ManifestPackage): string {
  return join(cacheDirectory, 'pool', basename(entry.filename));
}

function readGood(path: string, entry: ManifestPackage): Uint8Array | undefined {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch {
    return undefined;
  }
  if (bytes.length === entry.size && sha256Of(bytes) === entry.sha256) return bytes;
  // Damaged since it was fetched.
  rmSync(path, { force: true });
  return undefined;
}

/** The bytes of a package, from the cache or from the first mirror that has it. */
export async function obtainPackage(
  environment: ImageEnvironment,
  entry: ManifestPackage,
  offline: boolean,
  progress: ProgressListener,
): Promise<Uint8Array> {
  const path = poolPath(environment.cacheDirectory, entry);
  const cached = readGood(path, entry);
  if (cached !== undefined) return cached;
  if (offline || environment.mirrors.length === 0) throw notCached(`package ${entry.name}`);
  let failure: unknown;
  for (const mirror of environment.mirrors) {
    try {
      await downloadFile(`${mirror.base}/${entry.filename}`, path, entry, progress, environment.patience);
      return readFileSync(path);
    } catch (error) {
      failure ??= error;
      const elsewhere = error instanceof SoftvtError && error.code === 'ERR_SOFTVT_NOT_FOUND';
      if (!elsewhere) break;
    }
  }
  throw failure;
}

/** The failure of something that is needed, not in the cache and not to be fetched now. */
export function notCached(what: string): SoftvtError {
  return new SoftvtError('ERR_SOFTVT_OFFLINE', `${what} is not in the cache`, {
    hint: 'fetch it once with a network: softvt images fetch',
  });
}
