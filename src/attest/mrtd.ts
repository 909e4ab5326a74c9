/**
 * MRTD of a TD from what is put into it, without a machine: the measurement that the TDX module makes, computed again.
 *
 * @tdx "Measurement and Attestation", MRTD: Build-Time Measurement Register
 */

import { PAGE_SIZE } from '../util/address.ts';
import { type HashStream, sha384Stream } from '../util/crypto/hash.ts';

const CHUNK = 256;
/** Bytes of a block that names an operation. */
const BLOCK = 128;
const GPA_OFFSET = 16;

/** The block hashed before (or instead of) data: the name of the leaf and the address. */
function operationBlock(name: string, gpa: number): Uint8Array {
  const block = new Uint8Array(BLOCK);
  for (let i = 0; i < name.length; i++) block[i] = name.charCodeAt(i);
  new DataView(block.buffer).setBigUint64(GPA_OFFSET, BigInt(gpa), true);
  return block;
}

/** Follows the calls that build a TD, in their order. */
export class MrtdCalculator {
  readonly #hash: HashStream = sha384Stream();

  /** TDH.MEM.PAGE.ADD of the page at `gpa`. */
  pageAdd(gpa: number): void {
    this.#hash.update(operationBlock('MEM.PAGE.ADD', gpa));
  }

  /** TDH.MR.EXTEND of the 256 bytes at `gpa`. */
  extend(gpa: number, chunk: Uint8Array): void {
    if (chunk.length !== CHUNK) throw new RangeError(`a chunk has ${CHUNK} bytes, not ${chunk.length}`);
    this.#hash.update(operationBlock('MR.EXTEND', gpa)).update(chunk);
  }

  /** A page added and, where `measure` is set, extended in 16 chunks, as KVM_TDX_INIT_MEM_REGION does it. */
  addPage(gpa: number, page: Uint8Array, measure: boolean): void {
    this.pageAdd(gpa);
    if (!measure) return;
    for (let at = 0; at < PAGE_SIZE; at += CHUNK) this.extend(gpa + at, page.subarray(at, at + CHUNK));
  }

  /** TDH.MR.FINALIZE: the 48 bytes. */
  finalize(): Uint8Array {
    return this.#hash.digest();
  }
}
