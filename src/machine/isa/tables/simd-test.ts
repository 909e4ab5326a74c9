/** SSE4.1 tests and searches. @sdm "PTEST", "PHMINPOSUW", "MPSADBW" */
import type { Cpu } from '../cpu.ts';
import { add, and, type Expr, ltU, negate, or, select, shl, shr, u8, u32, u64, zeroExtend } from '../expr.ts';
import { at, CF, flagsFromWord, STATUS, ZF } from '../flags.ts';
import { define } from '../row.ts';
import { lane, splat, type V, v1, v2, vAnd, vAndNot, vAnyTrue, vConst, vOr, vZero, withLane } from '../vector.ts';
import { avx, vex } from './avx-lanes.ts';
import { sse } from './simd-lanes.ts';

define('PTEST', sse('sse4_1', { dst: 'r', writes: STATUS }), '66 0F38 17 Vdq,Wdq', (cpu) => {
  const a = cpu.readVector(0),
    b = cpu.readVector(1);
  cpu.setFlags(flagsFromWord(or(at(negate(vAnyTrue(vAnd(a, b))), ZF), at(negate(vAnyTrue(vAndNot(b, a))), CF))));
});

/** The smallest unsigned word and the index of its first place. */
function smallestWord(cpu: Cpu, v: V): V {
  let best = cpu.code.let(zeroExtend(lane(v, 16, 0), 64));
  for (let n = 1; n < 8; n++) {
    const value = cpu.code.let(zeroExtend(lane(v, 16, n), 64));
    best = cpu.code.let(select(ltU(value, and(best, u64(0xffff))), or(value, shl(u64(n), u64(16))), best));
  }
  return withLane(vZero(), 0, best);
}
define('PHMINPOSUW', sse('sse4_1', { dst: 'w' }), '66 0F38 41 Vdq,Wdq', (cpu) =>
  cpu.writeVector(0, smallestWord(cpu, cpu.readVector(1))),
);
define('VPHMINPOSUW', avx('avx'), '66 VEX.L0 0F38 41 Vdq,Wdq', (cpu) =>
  cpu.writeHalves(0, [smallestWord(cpu, cpu.readHalves(1)[0]!)]),
);

/** Bytes of `v` at `first` and the 15 places after it. */
const from = (v: V, first: Expr<8>): V =>
  v2(0x0e, v, v2(0x6e, splat(first), vConst([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])));

/** How much each of eight groups of four bytes differs from one group: bit 2 of the immediate says where the eight begin, bits 1:0 which the one is. */
function differences(cpu: Cpu, dst: V, src: V, choice: Expr<8>): V {
  const start = cpu.code.let(and(choice, u8(4))),
    block = cpu.code.let(shl(and(choice, u8(3)), u8(2)));
  let sum: V = vZero();
  for (let n = 0; n < 4; n++) {
    const a = from(dst, add(start, u8(n))),
      b = v2(0x0e, src, splat(add(block, u8(n))));
    const difference = vOr(v2(0x73, a, b), v2(0x73, b, a));
    sum = v2(0x8e, sum, v1(0x89, difference)); // widened to words
  }
  return sum;
}
define('MPSADBW', sse('sse4_1'), '66 0F3A 42 Vdq,Wdq,Ib', (cpu) =>
  cpu.writeVector(0, differences(cpu, cpu.readVector(0), cpu.readVector(1), cpu.code.let(cpu.read(2) as Expr<8>))),
);
/** The upper halves have the immediate's bits 5:3. */
const vmpsadbw = (cpu: Cpu): void => {
  const a = cpu.readHalves(1),
    b = cpu.readHalves(2);
  const choice = cpu.code.let(cpu.read(3) as Expr<8>);
  cpu.writeHalves(
    0,
    a.map((half, i) => differences(cpu, half, b[i]!, i === 0 ? choice : cpu.code.let(shr(choice, u8(3))))),
  );
};
define('VMPSADBW', avx('avx'), '66 VEX.L0 0F3A 42 Vdq,Hdq,Wdq,Ib', vmpsadbw);
define('VMPSADBW', avx('avx2'), '66 VEX.L1 0F3A 42 Vqq,Hqq,Wqq,Ib', vmpsadbw);

/** ZF: no bit of `both` is set; CF: none of `onlySecond`. */
const setTestFlags = (cpu: Cpu, both: V, onlySecond: V): void =>
  cpu.setFlags(flagsFromWord(or(at(negate(vAnyTrue(both)), ZF), at(negate(vAnyTrue(onlySecond)), CF))));
/** Tests all bits, or the signs of lanes. */
const testHalves =
  (signs: V | null) =>
  (cpu: Cpu): void => {
    const a = cpu.readHalves(0),
      b = cpu.readHalves(1);
    const join = (op: (x: V, y: V) => V): V => {
      const all = a.map((half, i) => op(half, b[i]!)).reduce(vOr);
      return signs === null ? all : vAnd(all, signs);
    };
    setTestFlags(
      cpu,
      join(vAnd),
      join((x, y) => vAndNot(y, x)),
    );
  };
const flagsOnly = { dst: 'r', writes: STATUS } as const;
const tests = (mnemonic: string, encoding: string, signs: () => V | null): void => {
  for (const [l, size] of [
    ['L0', 'dq'],
    ['L1', 'qq'],
  ] as const)
    define(mnemonic, avx('avx', flagsOnly), `${vex(encoding, l)} V${size},W${size}`, (cpu) => testHalves(signs())(cpu));
};
tests('VPTEST', '66 0F38 17', () => null);
tests('VTESTPS', '66 W0 0F38 0E', () => splat(u32(0x8000_0000)));
tests('VTESTPD', '66 W0 0F38 0F', () => splat(u64(1n << 63n)));
