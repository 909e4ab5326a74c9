/**
 * Hashes and message authentication, by an audited library. One place, so that a front end can put in the platform's own.
 */
import { hmac } from '@noble/hashes/hmac.js';
import { sha256, sha384 } from '@noble/hashes/sha2.js';

/** A hash that is fed piece by piece. */
export interface HashStream {
  update(data: Uint8Array): HashStream;
  /** The digest of everything fed so far; the stream ends. */
  digest(): Uint8Array;
  /** An independent stream that has been fed the same. */
  clone(): HashStream;
}

/** Begins a SHA-384. */
export const sha384Stream = (): HashStream => sha384.create();
/** SHA-384 of one piece: 48 bytes. */
export const sha384Of = (data: Uint8Array): Uint8Array => sha384(data);
/** HMAC-SHA-256 of one piece: 32 bytes. */
export const hmacSha256 = (key: Uint8Array, data: Uint8Array): Uint8Array => hmac(sha256, key, data);
