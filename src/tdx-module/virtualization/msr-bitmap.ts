/**
 * The MSR bitmap of a TD: a bit is 0 where the instruction acts on the processor's own MSR, 1 where it exits.
 *
 *   0 reads of 0 to 1FFF | 400 reads of C0000000 to C0001FFF | 800 writes, low | C00 writes, high
 *
 * @sdm "MSR-Bitmap Address"
 */
import { MSR_RULES } from './msr-table.ts';
import type { TdView } from './td-view.ts';

const HIGH = 0xc000_0000;
const PER_RANGE = 0x2000;
const WRITES = 0x800;
const PAGE = 4096;

/** Byte of the page and bit of the byte. @param index an MSR inside one of the two ranges */
function position(index: number, write: boolean): { byte: number; mask: number } {
  const low = index < PER_RANGE;
  const bit = low ? index : index - HIGH;
  return { byte: (write ? WRITES : 0) + (low ? 0 : WRITES / 2) + (bit >>> 3), mask: 1 << (bit & 7) };
}

/** The page for a TD with this configuration. */
export function buildMsrBitmap(td: TdView): Uint8Array {
  const page = new Uint8Array(PAGE).fill(0xff);
  for (const { first, last, read, write } of MSR_RULES) {
    const native = [read(td) === 'native', write(td) === 'native'];
    for (let index = first; index <= last; index++) {
      for (const [direction, isNative] of native.entries()) {
        const { byte, mask } = position(index, direction === 1);
        if (isNative) page[byte]! &= ~mask;
      }
    }
  }
  return page;
}
