/**
 * MRTD while a TD is being built: a SHA-384 over blocks of 128 bytes, each the name of an operation and an address, or data.
 *
 * @tdx "Measurement and Attestation", MRTD: Build-Time Measurement Register
 */
import type { Gpa } from '../../util/address.ts';
import type { Tdcs } from './tdcs.ts';

const BLOCK = 128;
const GPA_OFFSET = 16;
/** Bytes that one TDH.MR.EXTEND measures. */
export const MEASURED_CHUNK = 256;

function operationBlock(name: string, gpa: Gpa): Uint8Array {
  const block = new Uint8Array(BLOCK);
  for (let i = 0; i < name.length; i++) block[i] = name.charCodeAt(i);
  new DataView(block.buffer).setBigUint64(GPA_OFFSET, BigInt(gpa), true);
  return block;
}

/** The page at `gpa` was added; its content is not part of it. */
export function measurePage(tdcs: Tdcs, gpa: Gpa): void {
  tdcs.measurement!.update(operationBlock('MEM.PAGE.ADD', gpa));
}

/** Content of {@link MEASURED_CHUNK} bytes at `gpa`. */
export function measureChunk(tdcs: Tdcs, gpa: Gpa, chunk: Uint8Array): void {
  tdcs.measurement!.update(operationBlock('MR.EXTEND', gpa)).update(chunk);
}

/** The measurement is complete and becomes MRTD. */
export function finalizeMeasurement(tdcs: Tdcs): void {
  tdcs.setBytes('MRTD', tdcs.measurement!.digest());
  tdcs.measurement = null;
}
