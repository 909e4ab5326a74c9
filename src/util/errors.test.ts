import { expect, test } from 'vitest';
import { SoftvtError } from './errors.ts';

test('a SoftvtError is told in one line, with its hint in parentheses', () => {
  const cause = new Error('EACCES');
  const error = new SoftvtError('ERR_SOFTVT_CACHE', 'cannot write the cache', {
    hint: 'set SOFTVT_CACHE',
    cause,
  });
  expect(error.line).toBe('cannot write the cache (set SOFTVT_CACHE)');
  expect(error.code).toBe('ERR_SOFTVT_CACHE');
  expect(error.cause).toBe(cause);
});

test('a SoftvtError without a hint is its message', () => {
  const error = new SoftvtError('ERR_SOFTVT_HASH', 'the file does not match');
  expect(error.line).toBe('the file does not match');
  expect(Object.hasOwn(error, 'cause')).toBe(false);
});
