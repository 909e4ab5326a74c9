/**
 * Recorded results of the real processor. The frames come from their seed again, so that a 32-bit digest of each result is
 * all there is to keep; of approximate instructions the results themselves.
 *
 *   digest  u32            for each frame of an exact instruction
 *   trap s8, FSW u16, eight registers of 10 bytes    of an approximate one; all else is a function of these
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Frame, FX } from './frame.ts';
import { RECORDED, RECORDED_SEED, suites } from './suites.ts';

export type SuiteName = keyof typeof suites;
const DIGEST_SIZE = 4;
const RESULT_SIZE = 83;

export const vectorFile = (suite: SuiteName): string => join(import.meta.dirname, 'vectors', `${suite}.bin`);

/** The bytes that are kept of a result. */
export function encode(result: Frame, approximate: boolean): Uint8Array {
  if (!approximate) return new Uint8Array(Uint32Array.of(result.digest()).buffer);
  const bytes = new Uint8Array(RESULT_SIZE);
  bytes[0] = result.trap;
  bytes.set(result.fx.subarray(FX.fsw, FX.fsw + 2), 1);
  for (let n = 0; n < 8; n++) bytes.set(result.fx.subarray(FX.st + n * 16, FX.st + n * 16 + 10), 3 + n * 10);
  return bytes;
}

/** A frame with what `encode` has kept put in. */
function decode(kept: Uint8Array, template: Frame): Frame {
  const frame = template.copy();
  frame.trap = (kept[0]! << 24) >> 24;
  frame.fx.set(kept.subarray(1, 3), FX.fsw);
  for (let n = 0; n < 8; n++) frame.fx.set(kept.subarray(3 + n * 10, 13 + n * 10), FX.st + n * 16);
  return frame;
}

/** Instructions of a suite whose recorded results `run` does not reproduce. */
export function mismatches(suite: SuiteName, run: (frame: Frame) => Frame): string[] {
  const recorded = readFileSync(vectorFile(suite));
  const found: string[] = [];
  let at = 0;
  for (const test of suites[suite]) {
    const size = test.approximate ? RESULT_SIZE : DIGEST_SIZE;
    let wrong = 0;
    for (const frame of test.frames(RECORDED_SEED, RECORDED[suite])) {
      const kept = recorded.subarray(at, (at += size));
      const actual = run(frame);
      const same = test.approximate
        ? Buffer.from(encode(actual.tolerating(decode(kept, actual)), true)).equals(kept)
        : actual.digest() === kept.readUInt32LE();
      if (!same) wrong++;
    }
    if (wrong > 0) found.push(`${test.name}: ${wrong} of ${RECORDED[suite]}`);
  }
  if (at !== recorded.length) found.push(`${recorded.length - at} bytes left over`);
  return found;
}
