/** MXCSR. @sdm "LDMXCSR", "STMXCSR" */
import { EXIT, MXCSR } from '../../engine/layout.ts';
import { and, type Expr, isZero, negate, u32 } from '../expr.ts';
import { define } from '../row.ts';
import { sse } from './simd-lanes.ts';

/** Bits of MXCSR that exist; setting another one is #GP(0). */
const MXCSR_MASK = 0xffff;

define('LDMXCSR', sse('sse', { dst: 'r' }), 'NP 0F AE /2 Md', (cpu) => {
  const value = cpu.read(0) as Expr<32>;
  cpu.faultIf(negate(isZero(and(value, u32(~MXCSR_MASK)))), EXIT.alignment);
  cpu.setState(MXCSR, value);
});
define('STMXCSR', sse('sse', { dst: 'w' }), 'NP 0F AE /3 Md', (cpu) => cpu.write(0, cpu.state(MXCSR, 32)));
