/** Packed decimal: FBLD and FBSTP. @sdm "Packed BCD Integers", "FBLD", "FBSTP" */

import { toInteger } from '../softfloat/convert.ts';
import { type Environment, IE } from '../softfloat/environment.ts';
import { F80, type Float, pack, withSign } from '../softfloat/float.ts';
import { floatOf, loadBits } from './operands.ts';
import { read } from './registers.ts';
import { waiting } from './status.ts';
import { load, store } from './transfer.ts';

const DIGITS = 18;
const LIMIT = 10n ** 18n;
/** Packed BCD indefinite. */
const INDEFINITE = 0xffff_c000_0000_0000_0000n;

/** 18 digits and a sign; digits above 9 count what they are. */
function fromDecimal(bits: bigint): Float {
  let value = 0n;
  for (let i = DIGITS - 1; i >= 0; i--) value = value * 10n + ((bits >> BigInt(i * 4)) & 15n);
  return withSign(floatOf(value), bits >> 79n === 1n ? 1 : 0);
}

function toDecimal(env: Environment, f: Float): bigint {
  const value = toInteger(env, f, 64);
  if (env.flags & IE || value >= LIMIT || value <= -LIMIT) {
    env.flags = IE;
    env.roundedUp = false;
    return INDEFINITE;
  }
  let rest = value < 0n ? -value : value;
  let bits = f.sign === 1 ? 1n << 79n : 0n;
  for (let i = 0n; rest > 0n; i++, rest /= 10n) bits |= (rest % 10n) << (i * 4n);
  return bits;
}

waiting('FBLD', (p, insn) => {
  const bits = loadBits(p, insn);
  return bits === undefined ? p.outcome : load(p, insn, () => pack(F80, fromDecimal(bits)));
});
waiting('FBSTP', (p, insn) => store(p, insn, INDEFINITE, (env) => toDecimal(env, read(p, 0)), true));
