/** SSE4.1 tests. @sdm "PTEST", "PHMINPOSUW" */
import { and, ltU, negate, or, select, shl, u64, zeroExtend } from '../expr.ts';
import { at, CF, flagsFromWord, STATUS, ZF } from '../flags.ts';
import { define } from '../row.ts';
import { lane, vAnd, vAndNot, vAnyTrue, vZero, withLane } from '../vector.ts';
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
