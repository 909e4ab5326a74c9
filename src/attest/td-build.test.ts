import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { buildCalls, mrtdOf } from './td-build.ts';

const page = (value: number): Uint8Array => new Uint8Array(4096).fill(value);
const regions = [
  { name: 'a', gpa: 0x1000, data: new Uint8Array([...page(1), ...page(2)]), measured: true },
  { name: 'b', gpa: 0x8000, data: page(0), measured: false },
];

describe('the calls that build a TD', () => {
  test('each page is added and extended in 16 chunks before the next one', () => {
    const calls = [...buildCalls(regions)];
    expect(calls).toHaveLength(2 * 17 + 1);
    expect(calls.slice(0, 3)).toEqual([
      { leaf: 'TDH.MEM.PAGE.ADD', gpa: 0x1000 },
      { leaf: 'TDH.MR.EXTEND', gpa: 0x1000 },
      { leaf: 'TDH.MR.EXTEND', gpa: 0x1100 },
    ]);
    expect(calls[17]).toEqual({ leaf: 'TDH.MEM.PAGE.ADD', gpa: 0x2000 });
  });

  test('memory that is not measured is only added', () => {
    expect([...buildCalls(regions)].at(-1)).toEqual({ leaf: 'TDH.MEM.PAGE.ADD', gpa: 0x8000 });
  });
});

describe('MRTD of a TD', () => {
  test('is SHA-384 over the calls in their order, with the data of each chunk behind its call', () => {
    const hash = createHash('sha384');
    for (const { leaf, gpa } of buildCalls(regions)) {
      const block = Buffer.alloc(128);
      block.write(leaf.slice('TDH.'.length));
      block.writeBigUInt64LE(BigInt(gpa), 16);
      hash.update(block);
      if (leaf === 'TDH.MR.EXTEND') hash.update(Buffer.alloc(256, gpa < 0x2000 ? 1 : 2));
    }
    expect(Buffer.from(mrtdOf(regions)).toString('hex')).toBe(hash.digest('hex'));
  });

  test('changes with contents, addresses, order, and with what is measured', () => {
    const [a, b] = regions as [(typeof regions)[0], (typeof regions)[0]];
    const variants = [
      [a, b],
      [b, a],
      [{ ...a, gpa: 0x2000 }, b],
      [{ ...a, data: new Uint8Array([...page(1), ...page(3)]) }, b],
      [a, { ...b, measured: true }],
    ];
    const values = variants.map((variant) => Buffer.from(mrtdOf(variant)).toString('hex'));
    expect(new Set(values).size).toBe(variants.length);
  });

  test('a name changes nothing', () => {
    expect(mrtdOf(regions.map((region) => ({ ...region, name: 'x' })))).toEqual(mrtdOf(regions));
  });

  test('pieces of pages are refused', () => {
    expect(() => mrtdOf([{ name: '', gpa: 0x10, data: page(0), measured: true }])).toThrow(RangeError);
    expect(() => mrtdOf([{ name: '', gpa: 0, data: new Uint8Array(5), measured: true }])).toThrow(RangeError);
  });
});
