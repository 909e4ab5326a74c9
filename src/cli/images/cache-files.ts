/** Writing into the cache so that a file is there whole or not at all. */

import { mkdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { SoftvtError } from '../../util/errors.ts';

/** The errno name of a Node error, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** Says a failed write in one line; anything that is not the file system's doing is passed through. */
export function writeFailure(path: string, error: unknown): unknown {
  switch (errnoOf(error)) {
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return new SoftvtError('ERR_SOFTVT_DISK_FULL', `no space left to write ${path}`, {
        hint: 'free some space, or set SOFTVT_CACHE to a directory on another disk',
        cause: error,
      });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
    case 'ENOTDIR':
    case 'EEXIST':
    case 'ENOENT':
      return new SoftvtError('ERR_SOFTVT_CACHE', `cannot write ${path}: ${errnoOf(error)}`, {
        hint: 'set SOFTVT_CACHE to a directory that can be written',
        cause: error,
      });
    default:
      return error;
  }
}

/** Makes a directory and those above it. Throws ERR_SOFTVT_DISK_FULL or ERR_SOFTVT_CACHE. */
export function makeDirectory(path: string): void {
  // Not mkdir's own `recursive`: in Node 20 it never returns where a file system answers ENOENT to everything (/proc).
  const make = (directory: string, parentIsThere: boolean): void => {
    try {
      mkdirSync(directory);
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'EEXIST' && statSync(directory).isDirectory()) return;
      if (errno !== 'ENOENT' || parentIsThere || dirname(directory) === directory) throw error;
      make(dirname(directory), false);
      make(directory, true);
    }
  };
  try {
    make(path, false);
  } catch (error) {
    throw writeFailure(path, error);
  }
}

let temporaryCount = 0;

/** A name beside `path` that no other process and no other call uses. */
export function temporaryName(path: string): string {
  temporaryCount += 1;
  return `${path}.tmp-${process.pid}-${temporaryCount}`;
}

/** Makes `path` by letting `fill` write a temporary file or directory that is then renamed; on failure nothing stays. */
export function makeAtomically(path: string, fill: (temporary: string) => void): void {
  const temporary = temporaryName(path);
  try {
    makeDirectory(dirname(path));
    fill(temporary);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    throw writeFailure(path, error);
  }
}

/** Writes a whole file atomically. Throws ERR_SOFTVT_DISK_FULL or ERR_SOFTVT_CACHE. */
export function writeAtomically(path: string, data: Uint8Array | string): void {
  makeAtomically(path, (temporary) => writeFileSync(temporary, data, { flag: 'wx' }));
}
