/** SSE4.1 tests and searches. @sdm "PTEST", "PHMINPOSUW", "MPSADBW" */
import { add, and, type Expr, ltU, negate, or, select, shl, u8, u64, zeroExtend } from '../expr.ts';
import { at, CF, flagsFromWord, STATUS, ZF } from '../flags.ts';
import { define } from '../row.ts';
import { lane, splat, type V, v1, v2, vAnd, vAndNot, vAnyTrue, vConst, vOr, vZero, withLane } from '../vector.ts';
import { sse } from './simd-lanes.ts';

define('PTEST', sse('sse4_1', { dst: 'r', writes: STATUS }), '66 0F38 17 Vdq,Wdq', (cpu) => {
  const a = cpu.readVector(0),
    b = cpu.readVector(1);
  cpu.setFlags(flagsFromWord(or(at(negate(vAnyTrue(vAnd(a, b))), ZF), at(negate(vAnyTrue(vAndNot(b, a))), CF))));
});

/** The smallest unsigned word and the index of its first place. */
define('PHMINPOSUW', sse('sse4_1', { dst: 'w' }), '66 0F38 41 Vdq,Wdq', (cpu) => {
  const v = cpu.readVector(1);
  let best = cpu.code.let(zeroExtend(lane(v, 16, 0), 64));
  for (let n = 1; n < 8; n++) {
    const value = cpu.code.let(zeroExtend(lane(v, 16, n), 64));
    best = cpu.code.let(select(ltU(value, and(best, u64(0xffff))), or(value, shl(u64(n), u64(16))), best));
  }
  cpu.writeVector(0, withLane(vZero(), 0, best));
});

/** Bytes of `v` at `first` and the 15 places after it. */
const from = (v: V, first: Expr<8>): V =>
  v2(0x0e, v, v2(0x6e, splat(first), vConst([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])));

/** How much each of eight groups of four bytes differs from one group: bit 2 of the immediate says where the eight begin, bits 1:0 which the one is. */
define('MPSADBW', sse('sse4_1'), '66 0F3A 42 Vdq,Wdq,Ib', (cpu) => {
  const dst = cpu.readVector(0),
    src = cpu.readVector(1),
    choice = cpu.code.let(cpu.read(2) as Expr<8>);
  const start = cpu.code.let(and(choice, u8(4))),
    block = cpu.code.let(shl(and(choice, u8(3)), u8(2)));
  let sum: V = vZero();
  for (let n = 0; n < 4; n++) {
    const a = from(dst, add(start, u8(n))),
      b = v2(0x0e, src, splat(add(block, u8(n))));
    const difference = vOr(v2(0x73, a, b), v2(0x73, b, a));
    sum = v2(0x8e, sum, v1(0x89, difference)); // widened to words
  }
  cpu.writeVector(0, sum);
});
