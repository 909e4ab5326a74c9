/** SHA-1 and SHA-256 steps. @sdm "SHA1RNDS4", "SHA1NEXTE", "SHA1MSG1", "SHA1MSG2", "SHA256RNDS2", "SHA256MSG1", "SHA256MSG2" */
import { implementWords } from './words.ts';

const rol = (x: number, n: number): number => (x << n) | (x >>> (32 - n));
const ror = (x: number, n: number): number => (x >>> n) | (x << (32 - n));

const choose = (b: number, c: number, d: number): number => (b & c) ^ (~b & d);
const parity = (b: number, c: number, d: number): number => b ^ c ^ d;
const majority = (b: number, c: number, d: number): number => (b & c) ^ (b & d) ^ (c & d);
const SHA1: readonly (readonly [(b: number, c: number, d: number) => number, number])[] = [
  [choose, 0x5a827999],
  [parity, 0x6ed9eba1],
  [majority, 0x8f1bbcdc],
  [parity, 0xca62c1d6],
];

/** Word 3 is A and the first message word. E is already added into the first message word. */
implementWords('SHA1RNDS4', (state, message, immediate) => {
  const [f, k] = SHA1[immediate & 3]!;
  let [d, c, b, a] = state as unknown as [number, number, number, number];
  let e = 0;
  for (let i = 0; i < 4; i++) {
    const next = (f(b, c, d) + rol(a, 5) + message[3 - i]! + e + k) | 0;
    e = d;
    d = c;
    c = rol(b, 30);
    b = a;
    a = next;
  }
  return [d, c, b, a];
});
implementWords('SHA1NEXTE', (dst, src) => [src[0]!, src[1]!, src[2]!, src[3]! + rol(dst[3]!, 30)]);
implementWords('SHA1MSG1', (a, b) => [b[2]! ^ a[0]!, b[3]! ^ a[1]!, a[0]! ^ a[2]!, a[1]! ^ a[3]!]);
implementWords('SHA1MSG2', (a, b) => {
  const w16 = rol(a[3]! ^ b[2]!, 1),
    w17 = rol(a[2]! ^ b[1]!, 1),
    w18 = rol(a[1]! ^ b[0]!, 1);
  return [rol(a[0]! ^ w16, 1), w18, w17, w16];
});

const sigma0 = (x: number): number => ror(x, 7) ^ ror(x, 18) ^ (x >>> 3);
const sigma1 = (x: number): number => ror(x, 17) ^ ror(x, 19) ^ (x >>> 10);

/** dst holds C D G H (word 3 is C), src A B E F; XMM0 has the two round keys plus message words. */
implementWords('SHA256RNDS2', (cdgh, abef, _, keys) => {
  let [h, g, d, c] = cdgh as unknown as [number, number, number, number];
  let [f, e, b, a] = abef as unknown as [number, number, number, number];
  for (let i = 0; i < 2; i++) {
    const t1 = (choose(e, f, g) + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + keys[i]! + h) | 0;
    const t2 = (majority(a, b, c) + (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22))) | 0;
    h = g;
    g = f;
    f = e;
    e = (t1 + d) | 0;
    d = c;
    c = b;
    b = a;
    a = (t1 + t2) | 0;
  }
  return [f, e, b, a];
});
implementWords('SHA256MSG1', (a, b) => [
  a[0]! + sigma0(a[1]!),
  a[1]! + sigma0(a[2]!),
  a[2]! + sigma0(a[3]!),
  a[3]! + sigma0(b[0]!),
]);
implementWords('SHA256MSG2', (a, b) => {
  const w16 = (a[0]! + sigma1(b[2]!)) | 0,
    w17 = (a[1]! + sigma1(b[3]!)) | 0;
  return [w16, w17, a[2]! + sigma1(w16), a[3]! + sigma1(w17)];
});
