/** Fetching files over HTTP: small ones into memory, big ones to disk with resume and a hash. */

import { createHash, type Hash } from 'node:crypto';
import { closeSync, createReadStream, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { SoftvtError } from '../../util/errors.ts';
import { errnoOf, makeDirectory, temporaryName, writeFailure } from './cache-files.ts';
import type { ProgressListener } from './progress.ts';

/** What the suite's index says about a file. */
export interface ExpectedFile {
  /** Length in bytes. */
  readonly size: number;
  /** SHA-256 in lower-case hexadecimal. */
  readonly sha256: string;
}

/** How patient a download is; tests make it impatient. */
export interface DownloadPatience {
  /** Attempts in all; each goes on where the one before broke off. */
  readonly attempts: number;
  /** Milliseconds without a byte after which an attempt is given up. */
  readonly idleMs: number;
  /** Milliseconds before the second attempt; doubled each time. */
  readonly pauseMs: number;
}

const PATIENCE: DownloadPatience = { attempts: 4, idleMs: 30_000, pauseMs: 500 };

/** A server's answer that no second attempt changes. */
class RefusedError extends Error {
  readonly status: number;
  constructor(status: number) {
    super(`HTTP status ${status}`);
    this.status = status;
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause: unknown = error.cause;
  if (typeof cause === 'object' && cause !== null && 'code' in cause && typeof cause.code === 'string')
    return cause.code;
  return (cause instanceof Error ? cause : error).message.replace(/\s+/g, ' ');
}

function fetchFailure(url: string, error: unknown): SoftvtError {
  if (error instanceof SoftvtError) return error;
  if (error instanceof RefusedError) {
    const code = error.status === 404 ? 'ERR_SOFTVT_NOT_FOUND' : 'ERR_SOFTVT_NETWORK';
    return new SoftvtError(code, `the mirror answers ${error.status} for ${url}`, { cause: error });
  }
  return new SoftvtError('ERR_SOFTVT_NETWORK', `cannot fetch ${url}: ${reasonOf(error)}`, {
    cause: error,
  });
}

/** Runs one request; `receive` gets the response and each chunk. The idle timer covers headers and body. */
async function request(
  url: string,
  headers: Record<string, string>,
  idleMs: number,
  accept: (response: Response) => void,
  receive: (chunk: Uint8Array) => void,
): Promise<void> {
  const abort = new AbortController();
  const giveUp = (): void => abort.abort(new Error(`no data for ${idleMs / 1000} s`));
  let timer = setTimeout(giveUp, idleMs);
  try {
    const response = await fetch(url, { headers, signal: abort.signal });
    accept(response);
    if (response.body === null) return;
    const reader = response.body.getReader();
    for (;;) {
      clearTimeout(timer);
      timer = setTimeout(giveUp, idleMs);
      const { done, value } = await reader.read();
      if (done) return;
      receive(value);
    }
  } finally {
    clearTimeout(timer);
    // Frees the connection when `accept` or `receive` threw; after a whole body it does nothing.
    abort.abort();
  }
}

/** Calls `attempt` until it succeeds, is refused, or patience ends. */
async function persist(url: string, patience: DownloadPatience, attempt: () => Promise<void>): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      const final = error instanceof SoftvtError || (error instanceof RefusedError && error.status < 500);
      if (final || tries >= patience.attempts) throw fetchFailure(url, error);
      await new Promise((resolve) => setTimeout(resolve, patience.pauseMs * 2 ** (tries - 1)));
    }
  }
}

/**
 * Fetches a small file into memory, at most `limit` bytes.
 *
 * Throws ERR_SOFTVT_NOT_FOUND if the server has no such file, ERR_SOFTVT_NETWORK for everything else.
 */
export async function fetchBytes(
  url: string,
  limit: number,
  patience: DownloadPatience = PATIENCE,
): Promise<Uint8Array> {
  let chunks: Uint8Array[] = [];
  let length = 0;
  await persist(url, patience, () => {
    chunks = [];
    length = 0;
    return request(
      url,
      {},
      patience.idleMs,
      (response) => {
        if (response.status !== 200) throw new RefusedError(response.status);
      },
      (chunk) => {
        length += chunk.length;
        if (length > limit) throw new SoftvtError('ERR_SOFTVT_NETWORK', `${url} is larger than ${limit} bytes`);
        chunks.push(chunk);
      },
    );
  });
  return Buffer.concat(chunks, length);
}

/** Hashes what an earlier run left of a download. */
async function hashOf(path: string): Promise<Hash> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash;
}

function sizeIfThere(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/** Whether the process that made a lock file has ended without removing it. */
function ownerIsGone(lock: string): boolean {
  try {
    process.kill(Number(readFileSync(lock, 'utf8')), 0);
    return false;
  } catch (error) {
    // EPERM: the process lives and belongs to somebody else.
    return errnoOf(error) !== 'EPERM';
  }
}

/** Takes the partial file for this process, or names a private one when another process is writing it. */
function claimPart(part: string): { readonly path: string; release(): void } {
  const lock = `${part}.lock`;
  for (let tries = 0; tries < 2; tries++) {
    try {
      const descriptor = openSync(lock, 'wx');
      writeSync(descriptor, String(process.pid));
      closeSync(descriptor);
      return { path: part, release: () => rmSync(lock, { force: true }) };
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw writeFailure(lock, error);
      if (tries === 0 && ownerIsGone(lock)) rmSync(lock, { force: true });
      else break;
    }
  }
  const path = temporaryName(part);
  return { path, release: () => rmSync(path, { force: true }) };
}

/**
 * Fetches `url` to `path`, going on from what an earlier attempt left, and checks length and SHA-256.
 *
 * The data collect in `path` + `.part`, which stays when the connection fails, so that the next run resumes, and goes
 * when it is wrong or the disk is full. `path` itself appears only when the file is whole and right. Throws
 * ERR_SOFTVT_NETWORK, ERR_SOFTVT_NOT_FOUND, ERR_SOFTVT_HASH, ERR_SOFTVT_DISK_FULL or ERR_SOFTVT_CACHE.
 */
export async function downloadFile(
  url: string,
  path: string,
  expected: ExpectedFile,
  progress: ProgressListener,
  patience: DownloadPatience = PATIENCE,
): Promise<void> {
  const file = basename(path);
  makeDirectory(dirname(path));
  // The hash in the name keeps a part of one version from being continued with another.
  const part = claimPart(`${path}.${expected.sha256.slice(0, 12)}.part`);
  let descriptor: number | undefined;
  try {
    let done = sizeIfThere(part.path);
    let hash = done > 0 ? await hashOf(part.path) : createHash('sha256');
    const openAt = (flags: 'a' | 'w'): void => {
      if (descriptor !== undefined) closeSync(descriptor);
      descriptor = openSync(part.path, flags);
    };
    const restart = (): void => {
      done = 0;
      hash = createHash('sha256');
      openAt('w');
    };
    const write = (chunk: Uint8Array): void => {
      for (let at = 0; at < chunk.length; ) at += writeSync(descriptor as number, chunk, at);
      hash.update(chunk);
      done += chunk.length;
      if (done > expected.size) throw wrong(file, `longer than the ${expected.size} bytes in the index`);
      progress({ kind: 'download', file, done, total: expected.size });
    };
    openAt('a');
    if (done > expected.size) restart();
    if (done < expected.size) {
      await persist(url, patience, () =>
        request(
          url,
          done > 0 ? { range: `bytes=${done}-` } : {},
          patience.idleMs,
          (response) => {
            if (response.status === 200) restart();
            else if (response.status !== 206) throw new RefusedError(response.status);
          },
          (chunk) => {
            try {
              write(chunk);
            } catch (error) {
              throw writeFailure(path, error);
            }
          },
        ),
      );
    }
    progress({ kind: 'verify', file });
    if (done !== expected.size) throw wrong(file, `${done} bytes long where the index says ${expected.size}`);
    const found = hash.digest('hex');
    if (found !== expected.sha256)
      throw wrong(file, `SHA-256 ${found.slice(0, 16)}… where the index says ${expected.sha256.slice(0, 16)}…`);
    renameSync(part.path, path);
  } catch (error) {
    const failure = writeFailure(path, error);
    // A broken connection is worth resuming; a wrong file or a full disk is not.
    const keep = failure instanceof SoftvtError && failure.code === 'ERR_SOFTVT_NETWORK';
    if (!keep) rmSync(part.path, { force: true });
    throw failure;
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
    part.release();
  }
}

function wrong(file: string, what: string): SoftvtError {
  return new SoftvtError('ERR_SOFTVT_HASH', `${file} is not what the index promises: ${what}`);
}
