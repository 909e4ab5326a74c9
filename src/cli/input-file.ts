/** Reads the files that a user names, with one clear line for each way that can fail. */

import { readFileSync, statSync } from 'node:fs';
import { SoftvtError } from '../util/errors.ts';

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'the file may not be read',
  EISDIR: 'it is a directory, not a file',
  ENOTDIR: 'there is no such file',
  ERR_FS_FILE_TOO_LARGE: 'the file is too large',
};

/** All bytes of `path`. `role` names the file in the message: "kernel". Throws ERR_SOFTVT_FILE. */
export function readInputFile(role: string, path: string): Uint8Array {
  try {
    const kind = statSync(path);
    // Reading a device may never end. Pipes are fine: shells make them for <(…).
    if (kind.isCharacterDevice() || kind.isBlockDevice()) {
      throw new SoftvtError('ERR_SOFTVT_FILE', `${role} ${path}: it is a device, not a file`);
    }
    return readFileSync(path);
  } catch (error) {
    if (error instanceof SoftvtError) throw error;
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    throw new SoftvtError('ERR_SOFTVT_FILE', `${role} ${path}: ${REASONS[code] ?? `cannot be read (${code})`}`, {
      cause: error,
    });
  }
}
