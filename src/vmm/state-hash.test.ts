import { describe, expect, test } from 'vitest';
import { StateHash } from './state-hash.ts';

const hashOf = (feed: (hash: StateHash) => void): string => {
  const hash = new StateHash();
  feed(hash);
  return hash.finish();
};
const page = (at: number, value: number): Int32Array => {
  const words = new Int32Array(1024);
  words[at] = value;
  return words;
};

describe('stateHash', () => {
  test('equal input, equal hash of 16 digits', () => {
    const feed = (hash: StateHash): void => {
      hash.page(3, page(7, 1));
      hash.value({ rip: 5n, xmm: Uint8Array.of(1, 2) });
    };
    expect(hashOf(feed)).toBe(hashOf(feed));
    expect(hashOf(feed)).toMatch(/^[0-9a-f]{16}$/);
  });

  test('every bit and every place of a page counts', () => {
    const seen = new Set<string>();
    for (let at = 0; at < 1024; at += 31) {
      for (let bit = 0; bit < 32; bit++) seen.add(hashOf((hash) => hash.page(0, page(at, 1 << bit))));
    }
    expect(seen.size).toBe(Math.ceil(1024 / 31) * 32);
  });

  test('the same page elsewhere is another state', () => {
    expect(hashOf((hash) => hash.page(1, page(0, 1)))).not.toBe(hashOf((hash) => hash.page(2, page(0, 1))));
  });

  test('pages of zeros change nothing', () => {
    expect(hashOf((hash) => hash.page(1, new Int32Array(1024)))).toBe(hashOf(() => {}));
  });

  test('values differ by their contents, bigints included', () => {
    const values = [0, 1, 0n, 1n, '1', [1], { a: 1 }, { a: 2 }, { b: 1 }, Uint8Array.of(1, 0)];
    expect(new Set(values.map((value) => hashOf((hash) => hash.value(value)))).size).toBe(values.length);
  });
});
