import { createHash, createHmac } from 'node:crypto';
import { expect, test } from 'vitest';
import { hmacSha256, sha384Of, sha384Stream } from './hash.ts';

const data = Uint8Array.from({ length: 1000 }, (_, i) => i * 7);

test('the hashes are those of another library', () => {
  expect(Buffer.from(sha384Of(data))).toEqual(createHash('sha384').update(data).digest());
  expect(Buffer.from(hmacSha256(data.subarray(0, 32), data))).toEqual(
    createHmac('sha256', data.subarray(0, 32)).update(data).digest(),
  );
});

test('a clone of a stream goes its own way', () => {
  const stream = sha384Stream().update(data.subarray(0, 100));
  const clone = stream.clone();
  stream.update(data.subarray(100));
  clone.update(data.subarray(0, 5));
  expect(stream.digest()).toEqual(sha384Of(data));
  expect(clone.digest()).not.toEqual(sha384Of(data));
});
