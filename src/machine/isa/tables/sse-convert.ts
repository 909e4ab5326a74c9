/** SSE conversions and ROUNDPS. @sdm "CVTDQ2PD" to "CVTTSS2SI", "ROUNDPD" */
import type { Cpu } from '../cpu.ts';
import { add, and, constant, type Expr, eq, ltU, ne, negate, or, select, u32, u64, type Width } from '../expr.ts';
import { ASSIST, define } from '../row.ts';
import { lane, scalar, splat, type V, v1, v2, vAnd, vAndNot, vNot, vOr } from '../vector.ts';
import { avx, vex, writeScalar } from './avx-lanes.ts';
import { sse } from './simd-lanes.ts';
import {
  DOUBLE,
  extraordinary,
  isZeroLane,
  type Lanes,
  need,
  needExact,
  needExactScalar,
  needUsual,
  SINGLE,
} from './sse-fast.ts';

const w = { dst: 'w' } as const;

// ---- MMX operands: all TypeScript's
for (const [mnemonic, encoding, feature] of [
  ['CVTPI2PS', 'NP 0F 2A Vq,Qq', 'sse'],
  ['CVTPI2PD', '66 0F 2A Vdq,Qq', 'sse2'],
  ['CVTTPS2PI', 'NP 0F 2C Pq,Wq', 'sse'],
  ['CVTTPD2PI', '66 0F 2C Pq,Wdq', 'sse2'],
  ['CVTPS2PI', 'NP 0F 2D Pq,Wq', 'sse'],
  ['CVTPD2PI', '66 0F 2D Pq,Wdq', 'sse2'],
] as const) {
  define(mnemonic, sse(feature, w), encoding, ASSIST);
}

// ---- scalar integers

/** The wasm instructions between an integer and the bits of a float. */
const F64_OF_I32 = [0xb7, 0xbd],
  F64_OF_I64 = [0xb9, 0xbd],
  F32_OF_I32 = [0xb2, 0xbc],
  F32_OF_I64 = [0xb4, 0xbc];
const I32_OF_F64 = [0xbf, 0xfc, 0x02],
  I64_OF_F64 = [0xbf, 0xfc, 0x06],
  I32_OF_F32 = [0xbe, 0xfc, 0x00],
  I64_OF_F32 = [0xbe, 0xfc, 0x04];

/** An integer register's value as a double. */
function toDouble(cpu: Cpu, value: Expr<Width>): Expr<64> {
  // Every 32-bit integer is exact.
  if (value.width === 32) return scalar(64, F64_OF_I32, value);
  const wide = cpu.code.let(value as Expr<64>);
  needUsual(cpu);
  needExactScalar(cpu, () => ltU(add(wide, u64(1n << 53n)), u64(1n << 54n)));
  return scalar(64, F64_OF_I64, wide);
}
/** The same as a single. */
function toSingle(cpu: Cpu, integer: Expr<Width>): Expr<32> {
  const value = cpu.code.let(integer);
  const limit = (n: bigint): Expr => (value.width === 64 ? u64(n) : u32(Number(n)));
  needUsual(cpu);
  needExactScalar(cpu, () => ltU(add(value as Expr, limit(1n << 24n)), limit(1n << 25n)));
  return scalar(32, value.width === 64 ? F32_OF_I64 : F32_OF_I32, value);
}
define('CVTSI2SD', sse('sse2', w), 'F2 0F 2A Vq,Ey', (cpu) => cpu.write(0, toDouble(cpu, cpu.read(1))));
define('CVTSI2SS', sse('sse', w), 'F3 0F 2A Vd,Ey', (cpu) => cpu.write(0, toSingle(cpu, cpu.read(1))));
define('VCVTSI2SD', avx('avx'), 'F2 VEX.LIG 0F 2A Vdq,Hdq,Ey', (cpu) => writeScalar(cpu, toDouble(cpu, cpu.read(2))));
define('VCVTSI2SS', avx('avx'), 'F3 VEX.LIG 0F 2A Vdq,Hdq,Ey', (cpu) => writeScalar(cpu, toSingle(cpu, cpu.read(2))));

/**
 * A float to an integer register. wasm saturates and takes NaN to 0, so a result that converts back to the rounded
 * operand is right (but for the largest integer, which may be a saturated one).
 */
function toGpr(mnemonic: string, encoding: string, feature: string, lanes: Lanes, truncating: boolean): void {
  const semantics = (cpu: Cpu): void => {
    const wide = cpu.width(0) === 64;
    const source = cpu.code.let(splat(cpu.read(1)));
    const rounded = cpu.code.let(v1(truncating ? lanes.trunc : lanes.nearest, source));
    const bits = lane(rounded, lanes.bits, 0);
    const instruction = lanes.bits === 64 ? (wide ? I64_OF_F64 : I32_OF_F64) : wide ? I64_OF_F32 : I32_OF_F32;
    const back = lanes.bits === 64 ? (wide ? F64_OF_I64 : F64_OF_I32) : wide ? F32_OF_I64 : F32_OF_I32;
    const result = cpu.code.let(scalar(wide ? 64 : 32, instruction, bits));
    const largest = wide ? u64((1n << 63n) - 1n) : u32(0x7fff_ffff);
    needUsual(cpu);
    cpu.assistIf(
      or(
        eq(result as Expr, largest as Expr),
        negate(eq(lane(v2(lanes.eq, splat(scalar(lanes.bits, back, result)), rounded), 32, 0), u32(-1))),
      ),
    );
    needExact(cpu, () => v2(lanes.eq, source, rounded));
    cpu.write(0, result);
  };
  define(mnemonic, sse(feature, w), encoding, semantics);
  define(`V${mnemonic}`, avx('avx'), vex(encoding, 'LIG'), semantics);
}
toGpr('CVTTSS2SI', 'F3 0F 2C Gy,Wd', 'sse', SINGLE, true);
toGpr('CVTTSD2SI', 'F2 0F 2C Gy,Wq', 'sse2', DOUBLE, true);
toGpr('CVTSS2SI', 'F3 0F 2D Gy,Wd', 'sse', SINGLE, false);
toGpr('CVTSD2SI', 'F2 0F 2D Gy,Wq', 'sse2', DOUBLE, false);

// ---- between precisions
const PROMOTE = 0x5f,
  DEMOTE = 0x5e;

export function widen(cpu: Cpu, source: V): V {
  need(cpu, extraordinary(SINGLE, source));
  return v1(PROMOTE, source);
}
/** Narrows the two doubles; the upper half of the result is zero. */
export function narrow(cpu: Cpu, source: V): V {
  const result = cpu.code.let(v1(DEMOTE, source));
  const again = cpu.code.let(v1(PROMOTE, result));
  needUsual(cpu);
  const zero = isZeroLane(DOUBLE, source);
  // The smallest single is rounded from a tiny double; twice it is safe.
  const magnitude = v1(DOUBLE.abs, again);
  const least = splat(u64(0x3820_0000_0000_0000n));
  const fine = vOr(zero, vAnd(v2(DOUBLE.le, least, magnitude), v2(DOUBLE.lt, magnitude, DOUBLE.infinity())));
  need(cpu, vNot(fine));
  needExact(cpu, () => v2(DOUBLE.eq, again, source));
  return result;
}
define('CVTSS2SD', sse('sse2', w), 'F3 0F 5A Vq,Wd', (cpu) =>
  cpu.write(0, lane(widen(cpu, cpu.code.let(splat(cpu.read(1)))), 64, 0)),
);
define('CVTSD2SS', sse('sse2', w), 'F2 0F 5A Vd,Wq', (cpu) =>
  cpu.write(0, lane(narrow(cpu, cpu.code.let(splat(cpu.read(1)))), 32, 0)),
);
define('CVTPS2PD', sse('sse2', w), 'NP 0F 5A Vdq,Wq', (cpu) =>
  cpu.writeVector(0, widen(cpu, cpu.code.let(splat(cpu.read(1))))),
);
define('CVTPD2PS', sse('sse2', w), '66 0F 5A Vdq,Wdq', (cpu) =>
  cpu.writeVector(0, narrow(cpu, cpu.code.let(cpu.readVector(1)))),
);

// ---- packed integers
define('CVTDQ2PD', sse('sse2', w), 'F3 0F E6 Vdq,Wq', (cpu) => cpu.writeVector(0, v1(0xfe, splat(cpu.read(1)))));
export function integersToSingles(cpu: Cpu, integers: V): V {
  const source = cpu.code.let(integers);
  const result = cpu.code.let(v1(0xfa, source));
  needUsual(cpu);
  needExact(cpu, () => {
    const back = v1(0xf8, result);
    // A saturated way back proves nothing.
    return vAndNot(v2(0x37, back, source), v2(0x37, back, splat(u32(0x7fff_ffff))));
  });
  return result;
}
define('CVTDQ2PS', sse('sse2', w), 'NP 0F 5B Vdq,Wdq', (cpu) =>
  cpu.writeVector(0, integersToSingles(cpu, cpu.readVector(1))),
);

/** Lanes to doubleword integers; of doubles there are two, in the lower half. */
export function toIntegers(cpu: Cpu, lanes: Lanes, truncating: boolean, floats: V): V {
  const source = cpu.code.let(floats);
  const rounded = cpu.code.let(v1(truncating ? lanes.trunc : lanes.nearest, source));
  const result = cpu.code.let(v1(lanes.bits === 32 ? 0xf8 : 0xfc, rounded));
  const back = v1(lanes.bits === 32 ? 0xfa : 0xfe, result);
  const saturated = v2(0x37, result, splat(u32(0x7fff_ffff)));
  needUsual(cpu);
  need(cpu, vOr(vNot(v2(lanes.eq, back, rounded)), saturated));
  needExact(cpu, () => v2(lanes.eq, source, rounded));
  return result;
}
/** [mnemonic, encoding, lanes, whether it truncates] */
export const TO_INTEGERS: readonly (readonly [string, string, Lanes, boolean])[] = [
  ['CVTPS2DQ', '66 0F 5B', SINGLE, false],
  ['CVTTPS2DQ', 'F3 0F 5B', SINGLE, true],
  ['CVTPD2DQ', 'F2 0F E6', DOUBLE, false],
  ['CVTTPD2DQ', '66 0F E6', DOUBLE, true],
];
for (const [mnemonic, encoding, lanes, truncating] of TO_INTEGERS) {
  define(mnemonic, sse('sse2', w), `${encoding} Vdq,Wdq`, (cpu) =>
    cpu.writeVector(0, toIntegers(cpu, lanes, truncating, cpu.readVector(1))),
  );
}

// ---- SSE4.1 rounding
export function roundLanes(cpu: Cpu, lanes: Lanes, floats: V, immediate: Expr<8>): V {
  const source = cpu.code.let(floats);
  const imm = cpu.code.let(immediate);
  const mode = (n: number): Expr<1> => eq(and(imm, constant(8, 3)), constant(8, n));
  const result = cpu.code.let(
    select(
      or(mode(0), ne(and(imm, constant(8, 4)), constant(8, 0))),
      v1(lanes.nearest, source),
      select(mode(1), v1(lanes.floor, source), select(mode(2), v1(lanes.ceil, source), v1(lanes.trunc, source))),
    ),
  );
  // Bit 2 asks for MXCSR's rounding, which is to nearest here; bit 3 for no precision exception.
  needUsual(cpu);
  need(cpu, extraordinary(lanes, source));
  cpu.if(eq(and(imm, constant(8, 8)), constant(8, 0)), () => needExact(cpu, () => v2(lanes.eq, source, result)));
  return result;
}
for (const [suffix, opcode, size, lanes] of [
  ['PS', '08', 'dq', SINGLE],
  ['PD', '09', 'dq', DOUBLE],
  ['SS', '0A', 'd', SINGLE],
  ['SD', '0B', 'q', DOUBLE],
] as const) {
  define(`ROUND${suffix}`, sse('sse4_1', w), `66 0F3A ${opcode} V${size},W${size},Ib`, (cpu) => {
    const source = size === 'dq' ? cpu.readVector(1) : splat(cpu.read(1));
    const result = roundLanes(cpu, lanes, source, cpu.read(2) as Expr<8>);
    if (size === 'dq') cpu.writeVector(0, result);
    else cpu.write(0, lane(result, lanes.bits, 0));
  });
}
