/** AES rounds and carry-less multiplication. @sdm "AESENC", "AESDEC", "AESIMC", "AESKEYGENASSIST", "PCLMULQDQ"; FIPS 197 */
import { implementBytes, implementWords } from './words.ts';

/** Multiplication by x in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1. */
const times2 = (x: number): number => ((x << 1) ^ (x & 0x80 ? 0x11b : 0)) & 0xff;
const multiply = (a: number, b: number): number => {
  let product = 0;
  for (let x = a, y = b; y !== 0; x = times2(x), y >>= 1) if (y & 1) product ^= x;
  return product;
};

const S_BOX = new Uint8Array(256);
const INVERSE_S_BOX = new Uint8Array(256);
for (let x = 0; x < 256; x++) {
  let inverse = 0;
  for (let y = 1; y < 256 && x !== 0; y++) if (multiply(x, y) === 1) inverse = y;
  const rotate = (n: number): number => ((inverse << n) | (inverse >> (8 - n))) & 0xff;
  const value = inverse ^ rotate(1) ^ rotate(2) ^ rotate(3) ^ rotate(4) ^ 0x63;
  S_BOX[x] = value;
  INVERSE_S_BOX[value] = x;
}

/** Row r of the state moves r columns to the left (or right); byte r + 4c is row r, column c. */
const shiftRows = (state: Uint8Array, direction: 1 | -1): Uint8Array =>
  state.map((_, i) => state[(i + 4 * (i % 4) * direction + 16) % 16]!);
const substitute = (state: Uint8Array, box: Uint8Array): Uint8Array => state.map((x) => box[x]!);
const mixColumns = (state: Uint8Array, row: readonly [number, number, number, number]): Uint8Array =>
  state.map((_, i) => {
    const column = i & 12,
      r = i & 3;
    let sum = 0;
    for (let k = 0; k < 4; k++) sum ^= multiply(state[column + ((r + k) & 3)]!, row[k]!);
    return sum;
  });
const FORWARD = [2, 3, 1, 1] as const;
const INVERSE = [14, 11, 13, 9] as const;
const addKey = (state: Uint8Array, key: Uint8Array): Uint8Array => state.map((x, i) => x ^ key[i]!);

implementBytes('AESENC', (state, key) => addKey(mixColumns(substitute(shiftRows(state, 1), S_BOX), FORWARD), key));
implementBytes('AESENCLAST', (state, key) => addKey(substitute(shiftRows(state, 1), S_BOX), key));
implementBytes('AESDEC', (state, key) =>
  addKey(mixColumns(substitute(shiftRows(state, -1), INVERSE_S_BOX), INVERSE), key),
);
implementBytes('AESDECLAST', (state, key) => addKey(substitute(shiftRows(state, -1), INVERSE_S_BOX), key));
implementBytes('AESIMC', (_, src) => mixColumns(src, INVERSE));

const substituteWord = (x: number): number =>
  S_BOX[x & 0xff]! | (S_BOX[(x >>> 8) & 0xff]! << 8) | (S_BOX[(x >>> 16) & 0xff]! << 16) | (S_BOX[x >>> 24]! << 24);
const rotateWord = (x: number): number => (x >>> 8) | (x << 24);
implementWords('AESKEYGENASSIST', (_, src, constant) => {
  const x1 = substituteWord(src[1]!),
    x3 = substituteWord(src[3]!);
  return [x1, rotateWord(x1) ^ constant, x3, rotateWord(x3) ^ constant];
});

implementBytes('PCLMULQDQ', (a, b, select) => {
  const half = (v: Uint8Array, upper: boolean): bigint =>
    new DataView(v.buffer, v.byteOffset).getBigUint64(upper ? 8 : 0, true);
  const x = half(a, (select & 1) !== 0);
  let product = 0n;
  for (let rest = half(b, (select & 16) !== 0), shift = 0n; rest !== 0n; rest >>= 1n, shift++)
    if (rest & 1n) product ^= x << shift;
  const out = new Uint8Array(16);
  const view = new DataView(out.buffer);
  view.setBigUint64(0, BigInt.asUintN(64, product), true);
  view.setBigUint64(8, product >> 64n, true);
  return out;
});
