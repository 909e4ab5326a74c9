import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { MrtdCalculator } from './mrtd.ts';

test('a page is one block of 128 bytes, a chunk one block and its 256 bytes', () => {
  const page = Uint8Array.from({ length: 4096 }, (_, i) => i >> 8);
  const calculator = new MrtdCalculator();
  calculator.addPage(0x12_3000, page, true);
  calculator.addPage(0x7000, page, false);

  const expected = createHash('sha384');
  const block = (name: string, gpa: number) => {
    const bytes = Buffer.alloc(128);
    bytes.write(name, 'ascii');
    bytes.writeBigUInt64LE(BigInt(gpa), 16);
    return bytes;
  };
  expected.update(block('MEM.PAGE.ADD', 0x12_3000));
  for (let i = 0; i < 16; i++) {
    expected.update(block('MR.EXTEND', 0x12_3000 + i * 256)).update(page.subarray(i * 256, i * 256 + 256));
  }
  expected.update(block('MEM.PAGE.ADD', 0x7000));
  expect(Buffer.from(calculator.finalize())).toEqual(expected.digest());
});

test('a chunk of another size is refused', () => {
  expect(() => new MrtdCalculator().extend(0, new Uint8Array(255))).toThrow(RangeError);
});
