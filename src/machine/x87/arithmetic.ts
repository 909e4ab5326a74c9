/** x87 addition, subtraction, multiplication, division, and the simple functions of ST(0). @sdm "FADD/FADDP/FIADD" … "FSQRT", "FRNDINT", "FCHS", "FABS" */
import type { Insn } from '../isa/insn.ts';
import { DONE, type Outcome } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import { add, divide, multiply, squareRoot, subtract } from '../softfloat/arithmetic.ts';
import { roundToIntegral } from '../softfloat/convert.ts';
import { DE, type Environment } from '../softfloat/environment.ts';
import { DEFAULT_NAN, DENORMAL, F80, type Float } from '../softfloat/float.ts';
import { isMemory, loadFloat, loadInteger, stackIndex } from './operands.ts';
import { inUse, pop, read, readRaw, readUsed, write, writeRaw } from './registers.ts';
import { DEFAULT_NAN_RAW, environmentOf, settle, waiting } from './status.ts';

type Binary = (env: Environment, a: Float, b: Float) => Float;
const OPERATIONS: readonly (readonly [string, Binary])[] = [
  ['ADD', (env, a, b) => add(env, F80, a, b)],
  ['MUL', (env, a, b) => multiply(env, F80, a, b)],
  ['SUB', (env, a, b) => subtract(env, F80, a, b)],
  ['SUBR', (env, a, b) => subtract(env, F80, b, a)],
  ['DIV', (env, a, b) => divide(env, F80, a, b)],
  ['DIVR', (env, a, b) => divide(env, F80, b, a)],
];

/** ST(to) = op(ST(to), source), where `source` is null for an empty register. */
function combine(p: Processor, insn: Insn, op: Binary, to: number, source: Float | null, popping: boolean): Outcome {
  const env = environmentOf(p);
  const full = inUse(p, to) && source !== null;
  const result = full ? op(env, read(p, to), source) : DEFAULT_NAN;
  if (settle(p, insn, env, full ? '' : 'underflow')) {
    write(p, to, result);
    if (popping) pop(p);
  }
  return DONE;
}

for (const [name, op] of OPERATIONS) {
  waiting(`F${name}`, (p, insn) => {
    if (isMemory(insn)) {
      const source = loadFloat(p, insn);
      return source === undefined ? p.outcome : combine(p, insn, op, 0, source, false);
    }
    const i = stackIndex(insn);
    // D8: ST(0) with ST(i); DC: ST(i) with ST(0)
    return insn.row.opcode === 0xd8
      ? combine(p, insn, op, 0, readUsed(p, i), false)
      : combine(p, insn, op, i, readUsed(p, 0), false);
  });
  waiting(`F${name}P`, (p, insn) => combine(p, insn, op, stackIndex(insn), readUsed(p, 0), true));
  waiting(`FI${name}`, (p, insn) => {
    const source = loadInteger(p, insn);
    return source === undefined ? p.outcome : combine(p, insn, op, 0, source, false);
  });
}

/** ST(0) = f(ST(0)). */
function unary(mnemonic: string, f: (env: Environment, a: Float) => Float): void {
  waiting(mnemonic, (p, insn) => {
    const env = environmentOf(p);
    const full = inUse(p, 0);
    const result = full ? f(env, read(p, 0)) : DEFAULT_NAN;
    if (settle(p, insn, env, full ? '' : 'underflow')) write(p, 0, result);
    return DONE;
  });
}
unary('FSQRT', (env, a) => squareRoot(env, F80, a));
unary('FRNDINT', (env, a) => {
  if (a.kind === DENORMAL) env.raise(DE);
  return roundToIntegral(env, a, env.rounding);
});

/** Sign changes take any bits. */
function signOnly(mnemonic: string, change: (raw: bigint) => bigint): void {
  waiting(mnemonic, (p, insn) => {
    const full = inUse(p, 0);
    const result = full ? change(readRaw(p, 0)) : DEFAULT_NAN_RAW;
    if (settle(p, insn, environmentOf(p), full ? '' : 'underflow')) writeRaw(p, 0, result);
    return DONE;
  });
}
const SIGN = 1n << 79n;
signOnly('FCHS', (raw) => raw ^ SIGN);
signOnly('FABS', (raw) => raw & ~SIGN);
