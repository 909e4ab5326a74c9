/** A suite's signed index: `InRelease`, as the Debian repository format has it. */

import { readFileSync } from 'node:fs';
import { SoftvtError } from '../../util/errors.ts';
import type { ExpectedFile } from './download.ts';

/** The fields of a suite's index that matter here. */
export interface Release {
  /** Files of the suite by path below `dists/SUITE/`, with their SHA-256. */
  readonly files: ReadonlyMap<string, ExpectedFile>;
  /** Whether indices may be fetched by their hash, which cannot race with an update of the mirror. */
  readonly acquireByHash: boolean;
  /** The time after which the index counts as stale, when it names one. */
  readonly validUntil: Date | undefined;
}

/** Reads the index's text (without its signature). Throws ERR_SOFTVT_PACKAGE if it lists no SHA-256. */
export function parseRelease(text: string, suite: string): Release {
  const files = new Map<string, ExpectedFile>();
  let field = '';
  let acquireByHash = false;
  let validUntil: Date | undefined;
  for (const line of text.split('\n')) {
    if (!line.startsWith(' ')) {
      const colon = line.indexOf(':');
      field = colon > 0 ? line.slice(0, colon) : '';
      const value = line.slice(colon + 1).trim();
      if (field === 'Acquire-By-Hash') acquireByHash = value === 'yes';
      if (field === 'Valid-Until') validUntil = new Date(value);
    } else if (field === 'SHA256') {
      const [sha256 = '', size = '', path = ''] = line.trim().split(/\s+/);
      if (/^[0-9a-f]{64}$/.test(sha256)) files.set(path, { sha256, size: Number(size) });
    }
  }
  if (files.size === 0) {
    throw new SoftvtError(
      'ERR_SOFTVT_PACKAGE',
      `the index of ${suite} lists no SHA-256: it is damaged or no InRelease file`,
    );
  }
  return { files, acquireByHash, validUntil };
}

/** The signed text inside the clear-sign armour of OpenPGP (RFC 9580, "Cleartext Signature Framework"), unchecked. */
export function stripSignature(inRelease: string): string {
  const text = inRelease.replaceAll('\r\n', '\n');
  const start = text.indexOf('\n\n', text.indexOf('-----BEGIN PGP SIGNED MESSAGE-----'));
  const end = text.indexOf('\n-----BEGIN PGP SIGNATURE-----');
  if (!text.startsWith('-----BEGIN PGP SIGNED MESSAGE-----') || start < 0 || end < start) return text;
  return text.slice(start + 2, end).replaceAll(/^- /gm, '');
}

/**
 * Checks the signature of an `InRelease` file and returns the text that is signed.
 *
 * One good signature by a key of the keyring is enough, as for apt. Throws ERR_SOFTVT_SIGNATURE.
 *
 * @param keyring file of OpenPGP keys, binary or armoured
 */
export async function verifyInRelease(inRelease: string, keyring: string, suite: string): Promise<string> {
  const openpgp = await import('openpgp');
  const bad = (why: string, cause?: unknown): SoftvtError =>
    new SoftvtError('ERR_SOFTVT_SIGNATURE', `the index of ${suite} is not signed by a key in ${keyring}: ${why}`, {
      cause,
    });
  let message: Awaited<ReturnType<typeof openpgp.readCleartextMessage>>;
  let keys: Awaited<ReturnType<typeof openpgp.readKeys>>;
  try {
    const bytes = readFileSync(keyring);
    const armored = bytes.subarray(0, 5).toString('latin1') === '-----';
    keys = armored
      ? await openpgp.readKeys({ armoredKeys: bytes.toString('latin1') })
      : await openpgp.readKeys({ binaryKeys: bytes });
    message = await openpgp.readCleartextMessage({ cleartextMessage: inRelease });
  } catch (error) {
    throw bad('keyring or signature cannot be read', error);
  }
  const result = await openpgp.verify({ message, verificationKeys: keys });
  const failures: string[] = [];
  for (const signature of result.signatures) {
    try {
      await signature.verified;
      return result.data;
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw bad(failures[0] ?? 'it holds no signature');
}
