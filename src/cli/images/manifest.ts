/** What the cache holds of an image: one small JSON file per image, written last, so that it never promises too much. */

import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeAtomically } from './cache-files.ts';
import type { ExpectedFile } from './download.ts';

/** A package an image is made of. */
export interface ManifestPackage extends ExpectedFile {
  readonly name: string;
  readonly version: string;
  /** Path of the .deb below the mirror's base. */
  readonly filename: string;
}

/** One cached image. Paths are relative to the cache directory. */
export interface Manifest {
  readonly name: string;
  readonly suite: string;
  /** The kernel's release, such as `6.1.0-50-cloud-amd64`; for busybox the package's version. */
  readonly version: string;
  /** Package with the main file. */
  readonly package: ManifestPackage;
  /** Package with the kernel modules; the same one where the suite does not split them. */
  readonly modulesPackage?: ManifestPackage;
  /** The kernel or busybox itself. */
  readonly file: string;
  readonly fileSha256: string;
  /** Directory of the kernel modules, once they were asked for. */
  readonly modules?: string;
}

function manifestPath(cacheDirectory: string, name: string): string {
  return join(cacheDirectory, 'images', `${name}.json`);
}

/** Reads the manifest of an image; undefined if the image, or a file it names, is not in the cache. */
export function readManifest(cacheDirectory: string, name: string): Manifest | undefined {
  try {
    const manifest = JSON.parse(readFileSync(manifestPath(cacheDirectory, name), 'utf8')) as Manifest;
    if (!existsSync(join(cacheDirectory, manifest.file))) return undefined;
    if (manifest.modules === undefined || existsSync(join(cacheDirectory, manifest.modules))) return manifest;
    const { modules: _gone, ...rest } = manifest;
    return rest;
  } catch {
    // Absent or unreadable: both are mended by fetching again.
    return undefined;
  }
}

/** Stores a manifest; the files it names must be in place. */
export function writeManifest(cacheDirectory: string, manifest: Manifest): void {
  writeAtomically(manifestPath(cacheDirectory, manifest.name), `${JSON.stringify(manifest, null, 2)}\n`);
}

/** SHA-256 in hexadecimal. */
export function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
