/** MMX and SSE integer arithmetic, comparison and logic. @sdm "PADDB/PADDW/PADDD", "PSUBB…", "PMULLW", "PCMPEQB…", "PAND" … */
import { constant, u32 } from '../expr.ts';
import { define } from '../row.ts';
import { splat, type V, v1, v2, vAnd, vAndNot, vConst, vOr, vShift, vShuffle, vXor } from '../vector.ts';
import { vexBinary } from './avx-lanes.ts';
import { bothFiles, mmx, readLanes, sse, writeLanes, xmmOnly } from './simd-lanes.ts';

/** [mnemonic, opcode, wasm SIMD instruction] */
const direct: readonly (readonly [string, string, number])[] = [
  ['PADDB', 'FC', 0x6e],
  ['PADDW', 'FD', 0x8e],
  ['PADDD', 'FE', 0xae],
  ['PADDQ', 'D4', 0xce],
  ['PSUBB', 'F8', 0x71],
  ['PSUBW', 'F9', 0x91],
  ['PSUBD', 'FA', 0xb1],
  ['PSUBQ', 'FB', 0xd1],
  ['PADDSB', 'EC', 0x6f],
  ['PADDSW', 'ED', 0x8f],
  ['PADDUSB', 'DC', 0x70],
  ['PADDUSW', 'DD', 0x90],
  ['PSUBSB', 'E8', 0x72],
  ['PSUBSW', 'E9', 0x92],
  ['PSUBUSB', 'D8', 0x73],
  ['PSUBUSW', 'D9', 0x93],
  ['PMULLW', 'D5', 0x95],
  ['PMADDWD', 'F5', 0xba],
  ['PCMPEQB', '74', 0x23],
  ['PCMPEQW', '75', 0x2d],
  ['PCMPEQD', '76', 0x37],
  ['PCMPGTB', '64', 0x27],
  ['PCMPGTW', '65', 0x31],
  ['PCMPGTD', '66', 0x3b],
  ['PMINUB', 'DA', 0x77],
  ['PMAXUB', 'DE', 0x79],
  ['PMINSW', 'EA', 0x96],
  ['PMAXSW', 'EE', 0x98],
  ['PAVGB', 'E0', 0x7b],
  ['PAVGW', 'E3', 0x9b],
  ['PAND', 'DB', 0x4e],
  ['POR', 'EB', 0x50],
  ['PXOR', 'EF', 0x51],
];
for (const [mnemonic, opcode, op] of direct) bothFiles(mnemonic, opcode, 'sse2', (a, b) => v2(op, a, b));

bothFiles('PANDN', 'DF', 'sse2', (a, b) => vAndNot(b, a));

/** The upper halves of the 32-bit products of words: even and odd results come from the two extended multiplications. */
const highWords =
  (low: number, high: number) =>
  (a: V, b: V): V =>
    vShuffle(v2(low, a, b), v2(high, a, b), [2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31]);
bothFiles('PMULHW', 'E5', 'sse2', highWords(0xbc, 0xbd));
bothFiles('PMULHUW', 'E4', 'sse2', highWords(0xbe, 0xbf));

/** The products of the even doublewords. */
const evens = (a: V): V => vShuffle(a, a, [0, 1, 2, 3, 8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11]);
bothFiles('PMULUDQ', 'F4', 'sse2', (a, b) => v2(0xde, evens(a), evens(b)));
xmmOnly('PMULDQ', '66 0F38 28', 'sse4_1', (a, b) => v2(0xdc, evens(a), evens(b)));

/** Sums of absolute differences of unsigned bytes, one sum per half. */
bothFiles('PSADBW', 'F6', 'sse2', (a, b) => {
  const difference = vOr(v2(0x73, a, b), v2(0x73, b, a));
  const words = v1(0x7d, difference); // i16x8.extadd_pairwise_i8x16_u
  const doubles = v1(0x7f, words); // i32x4.extadd_pairwise_i16x8_u
  const other = vShuffle(doubles, doubles, [4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11]);
  return vAnd(v2(0xae, doubles, other), vConst([255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0]));
});

// ---- SSSE3
for (const [mnemonic, opcode, op] of [
  ['PABSB', '1C', 0x60],
  ['PABSW', '1D', 0x80],
  ['PABSD', '1E', 0xa0],
] as const) {
  bothFiles(mnemonic, opcode, 'ssse3', (_, b) => v1(op, b), '0F38', true);
}
/** Negates, keeps or clears each lane of `a` by the sign of `b`'s. */
for (const [mnemonic, opcode, neg, gt] of [
  ['PSIGNB', '08', 0x61, 0x27],
  ['PSIGNW', '09', 0x81, 0x31],
  ['PSIGND', '0A', 0xa1, 0x3b],
] as const) {
  bothFiles(
    mnemonic,
    opcode,
    'ssse3',
    (a, b) => {
      const zero = vConst(new Uint8Array(16));
      const negative = v2(gt, zero, b),
        positive = v2(gt, b, zero);
      return vOr(vAnd(v1(neg, a), negative), vAnd(a, positive));
    },
    '0F38',
  );
}
/** Rounded high half of the product; wasm saturates the one product that does not fit, x86 wraps. */
bothFiles(
  'PMULHRSW',
  '0B',
  'ssse3',
  (a, b) => {
    const lowest = splat(constant(16, 0x8000));
    return vXor(v2(0x82, a, b), vAnd(v2(0x2d, a, lowest), v2(0x2d, b, lowest)));
  },
  '0F38',
);
/** Words from pairs: unsigned bytes of a times signed bytes of b, added with saturation. */
bothFiles(
  'PMADDUBSW',
  '04',
  'ssse3',
  (a, b) => {
    const even = (v: V, signed: boolean): V =>
      signed ? v2Shift(0x8c, v2Shift(0x8b, v, 8), 8) : vAnd(v, splat(u32(0x00ff00ff)));
    const odd = (v: V, signed: boolean): V => (signed ? v2Shift(0x8c, v, 8) : v2Shift(0x8d, v, 8));
    return v2(0x8f, v2(0x95, even(a, false), even(b, true)), v2(0x95, odd(a, false), odd(b, true)));
  },
  '0F38',
);
/** Adjacent lanes of the pair (a, b): the even ones and the odd ones. */
const wordLanes = (start: number): number[] => [0, 4, 8, 12, 16, 20, 24, 28].flatMap((n) => [n + start, n + start + 1]);
const doubleLanes = (start: number): number[] => [0, 8, 16, 24].flatMap((n) => [0, 1, 2, 3].map((i) => n + start + i));
for (const [mnemonic, opcode, op, doubles] of [
  ['PHADDW', '01', 0x8e, false],
  ['PHADDD', '02', 0xae, true],
  ['PHADDSW', '03', 0x8f, false],
  ['PHSUBW', '05', 0x91, false],
  ['PHSUBD', '06', 0xb1, true],
  ['PHSUBSW', '07', 0x92, false],
] as const) {
  horizontal(mnemonic, opcode, op, doubles);
}

// ---- SSE4.1, SSE4.2
for (const [mnemonic, opcode, op] of [
  ['PMINSB', '38', 0x76],
  ['PMINSD', '39', 0xb6],
  ['PMINUW', '3A', 0x97],
  ['PMINUD', '3B', 0xb7],
  ['PMAXSB', '3C', 0x78],
  ['PMAXSD', '3D', 0xb8],
  ['PMAXUW', '3E', 0x99],
  ['PMAXUD', '3F', 0xb9],
  ['PMULLD', '40', 0xb5],
  ['PCMPEQQ', '29', 0xd6],
] as const) {
  xmmOnly(mnemonic, `66 0F38 ${opcode}`, 'sse4_1', (a, b) => v2(op, a, b));
}
xmmOnly('PCMPGTQ', '66 0F38 37', 'sse4_2', (a, b) => v2(0xd9, a, b));

function v2Shift(op: number, a: V, count: number): V {
  return vShift(op, a, u32(count));
}
/** Pairs of neighbours. The MMX form joins the two 64-bit operands into one vector first. */
function horizontal(mnemonic: string, opcode: string, op: number, doubles: boolean): void {
  const lanes = doubles ? doubleLanes : wordLanes;
  const step = doubles ? 4 : 2;
  define(mnemonic, mmx({ feature: 'ssse3' }), `NP 0F38 ${opcode} Pq,Qq`, (cpu) => {
    const a = readLanes(cpu, 0),
      b = readLanes(cpu, 1);
    const both = vShuffle(a, b, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]);
    writeLanes(cpu, 0, v2(op, vShuffle(both, both, lanes(0)), vShuffle(both, both, lanes(step))));
  });
  define(mnemonic, sse('ssse3'), `66 0F38 ${opcode} Vdq,Wdq`, (cpu) => {
    const a = cpu.readVector(0),
      b = cpu.readVector(1);
    cpu.writeVector(0, v2(op, vShuffle(a, b, lanes(0)), vShuffle(a, b, lanes(step))));
  });
  vexBinary(`V${mnemonic}`, `66 0F38 ${opcode}`, (a, b) =>
    v2(op, vShuffle(a, b, lanes(0)), vShuffle(a, b, lanes(step))),
  );
}
