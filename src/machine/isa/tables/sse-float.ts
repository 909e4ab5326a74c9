/** SSE floating-point arithmetic and comparison. @sdm "ADDPS", "ADDPD", "ADDSS", "ADDSD" … "CMPPS", "COMISS", "DPPS", "RCPPS" */
import type { Cpu } from '../cpu.ts';
import { and, constant, type Expr, eq, neg, or, zeroExtend } from '../expr.ts';
import { at, CF, flagsFromWord, STATUS, ZF } from '../flags.ts';
import { ASSIST, define } from '../row.ts';
import { lane, splat, type V, v2, vAnyTrue, vConst, vOr, vSelect, vXor, vZero } from '../vector.ts';
import { avx, vex } from './avx-lanes.ts';
import { sse } from './simd-lanes.ts';
import {
  type Arithmetic,
  DOUBLE,
  extraordinary,
  greatest,
  type Lanes,
  least,
  minus,
  need,
  over,
  pairs,
  plus,
  root,
  SINGLE,
  times,
} from './sse-fast.ts';

/** [suffix, mandatory prefix, operand size, feature, lanes]; the first two are whole vectors. */
const FORMS = [
  ['PS', 'NP', 'dq', 'sse', SINGLE],
  ['PD', '66', 'dq', 'sse2', DOUBLE],
  ['SS', 'F3', 'd', 'sse', SINGLE],
  ['SD', 'F2', 'q', 'sse2', DOUBLE],
] as const;

/** A vector operand, or a scalar copied to all lanes: then all lanes have the same cares. */
const operand = (cpu: Cpu, index: number, size: string): V =>
  cpu.code.let(size === 'dq' ? cpu.readVector(index) : splat(cpu.read(index)));
const result = (cpu: Cpu, size: string, lanes: Lanes, value: V): void =>
  size === 'dq' ? cpu.writeVector(0, value) : cpu.write(0, lane(value, lanes.bits, 0));

/** [mnemonic, opcode, computation, whether it has one source] */
export const ARITHMETIC: readonly (readonly [string, string, Arithmetic, boolean])[] = [
  ['SQRT', '51', root, true],
  ['ADD', '58', plus, false],
  ['MUL', '59', times, false],
  ['SUB', '5C', minus, false],
  ['MIN', '5D', least, false],
  ['DIV', '5E', over, false],
  ['MAX', '5F', greatest, false],
];
for (const [mnemonic, opcode, compute, unary] of ARITHMETIC) {
  for (const [suffix, prefix, size, feature, lanes] of FORMS) {
    define(mnemonic + suffix, sse(feature), `${prefix} 0F ${opcode} V${size},W${size}`, (cpu) => {
      const b = operand(cpu, 1, size);
      const a = unary ? b : operand(cpu, 0, size);
      result(cpu, size, lanes, compute(cpu, lanes, a, b));
    });
  }
}

// ---- SSE3
for (const [suffix, prefix, lanes] of [
  ['PS', 'F2', SINGLE],
  ['PD', '66', DOUBLE],
] as const) {
  const horizontal = (mnemonic: string, opcode: string, compute: Arithmetic): void =>
    define(mnemonic + suffix, sse('pni'), `${prefix} 0F ${opcode} Vdq,Wdq`, (cpu) => {
      const [even, odd] = pairs(lanes, operand(cpu, 0, 'dq'), operand(cpu, 1, 'dq'));
      cpu.writeVector(0, compute(cpu, lanes, cpu.code.let(even), cpu.code.let(odd)));
    });
  horizontal('HADD', '7C', plus);
  horizontal('HSUB', '7D', minus);
  define(`ADDSUB${suffix}`, sse('pni'), `${prefix} 0F D0 Vdq,Wdq`, (cpu) =>
    cpu.writeVector(0, addSubtract(cpu, lanes, operand(cpu, 0, 'dq'), operand(cpu, 1, 'dq'))),
  );
}
/** Even lanes are subtracted: the sign of the second operand is turned there. */
export function addSubtract(cpu: Cpu, lanes: Lanes, a: V, b: V): V {
  const signs = lanes.bits === 32 ? [3, 11] : [7];
  const turned = vXor(b, vConst(Array.from({ length: 16 }, (_, i) => (signs.includes(i) ? 128 : 0))));
  return plus(cpu, lanes, a, cpu.code.let(turned));
}

// ---- comparison

/** All ones if bit `n` of the immediate is set. */
const everywhereIf = (immediate: Expr<8>, n: number): V =>
  splat(neg(zeroExtend(eq(and(immediate, constant(8, 1 << n)), constant(8, 1 << n)), 64)));

/** All ones in lanes where predicate bits 2:0 hold. What AVX's bits 4:3 say matters only with NaNs. */
export function compareLanes(cpu: Cpu, lanes: Lanes, a: V, b: V, predicate: Expr<8>): V {
  need(cpu, vOr(extraordinary(lanes, a), extraordinary(lanes, b)));
  // Ordered operands: EQ, LT, LE are what they say and UNORD is false; bit 2 negates.
  const odd = everywhereIf(predicate, 0),
    high = everywhereIf(predicate, 1),
    negated = everywhereIf(predicate, 2);
  const low = vSelect(v2(lanes.lt, a, b), v2(lanes.eq, a, b), odd);
  const upper = vSelect(vZero(), v2(lanes.le, a, b), odd);
  return vXor(vSelect(upper, low, high), negated);
}
for (const [suffix, prefix, size, feature, lanes] of FORMS) {
  define(`CMP${suffix}`, sse(feature), `${prefix} 0F C2 V${size},W${size},Ib`, (cpu) => {
    const a = operand(cpu, 0, size),
      b = operand(cpu, 1, size);
    result(cpu, size, lanes, compareLanes(cpu, lanes, a, b, cpu.code.let(cpu.read(2) as Expr<8>)));
  });
}

for (const [mnemonic, opcode] of [
  ['UCOMIS', '2E'],
  ['COMIS', '2F'],
] as const) {
  for (const [suffix, prefix, size, feature, lanes] of [
    ['S', 'NP', 'd', 'sse', SINGLE],
    ['D', '66', 'q', 'sse2', DOUBLE],
  ] as const) {
    const traits = { dst: 'r', writes: STATUS } as const;
    const encoding = `${prefix} 0F ${opcode} V${size},W${size}`;
    const semantics = (cpu: Cpu): void => {
      const a = operand(cpu, 0, size),
        b = operand(cpu, 1, size);
      need(cpu, vOr(extraordinary(lanes, a), extraordinary(lanes, b)));
      cpu.setFlags(flagsFromWord(or(at(vAnyTrue(v2(lanes.eq, a, b)), ZF), at(vAnyTrue(v2(lanes.lt, a, b)), CF))));
    };
    define(mnemonic + suffix, sse(feature, traits), encoding, semantics);
    define(`V${mnemonic}${suffix}`, avx('avx', traits), vex(encoding, 'LIG'), semantics);
  }
}

// ---- all TypeScript's
define('RSQRTPS', sse('sse', { dst: 'w' }), 'NP 0F 52 Vdq,Wdq', ASSIST);
define('RSQRTSS', sse('sse', { dst: 'w' }), 'F3 0F 52 Vd,Wd', ASSIST);
define('RCPPS', sse('sse', { dst: 'w' }), 'NP 0F 53 Vdq,Wdq', ASSIST);
define('RCPSS', sse('sse', { dst: 'w' }), 'F3 0F 53 Vd,Wd', ASSIST);
define('DPPS', sse('sse4_1'), '66 0F3A 40 Vdq,Wdq,Ib', ASSIST);
define('DPPD', sse('sse4_1'), '66 0F3A 41 Vdq,Wdq,Ib', ASSIST);
