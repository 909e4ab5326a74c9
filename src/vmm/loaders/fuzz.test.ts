/** Damaged files never get further than one clear line. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SoftvtError } from '../../util/errors.ts';
import { loadKernel } from './kernel.ts';
import { bootInput, MIB, makeBzImage, makeElf, makeMultiboot } from './testing.ts';

const code = Uint8Array.of(0xfa, 0xf4);
const files: Readonly<Record<string, Uint8Array>> = {
  bzImage: makeBzImage(),
  'ELF64 with PVH note': makeElf({ pvhEntry: MIB }),
  'ELF32 with PVH note': makeElf({ bits: 32, machine: 3, pvhEntry: MIB }),
  'Multiboot with addresses': makeMultiboot(code),
  'Multiboot ELF': makeElf({ bits: 32, machine: 3, content: makeMultiboot(code, { flags: 3, padding: 0 }) }),
};

/** Bytes, half-words and words at random places, mostly in the first KiB, where the headers are. */
const damage = fc.array(
  fc.record({
    at: fc.oneof(fc.nat(1023), fc.nat(4095)),
    value: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x7fffffff, 0x80000000, 0xffffffff), fc.nat(0xffffffff)),
    size: fc.constantFrom(1, 2, 4),
  }),
  { minLength: 1, maxLength: 6 },
);

describe.each(Object.entries(files))('%s', (_, file) => {
  test('damaged or cut, it loads or is refused with a SoftvtError of one line', () => {
    const { memory } = bootInput(file, {}, 32 * MIB);
    fc.assert(
      fc.property(damage, fc.option(fc.nat(file.length)), (changes, cut) => {
        const bytes = file.slice(0, cut ?? file.length);
        const view = new DataView(bytes.buffer);
        for (const { at, value, size } of changes) {
          const place = at % Math.max(bytes.length - 4, 1);
          if (place + 4 > bytes.length) continue;
          if (size === 1) view.setUint8(place, value);
          else if (size === 2) view.setUint16(place, value, true);
          else view.setUint32(place, value, true);
        }
        const { input } = bootInput(bytes, { initrd: new Uint8Array(4096) }, 0);
        try {
          loadKernel(memory, input);
        } catch (error) {
          expect(error).toBeInstanceOf(SoftvtError);
          expect((error as SoftvtError).line).not.toContain('\n');
        }
      }),
      { numRuns: 400, seed: 1 },
    );
  });
});
