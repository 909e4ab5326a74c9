/** Rotates and double shifts. @sdm "RCL/RCR/ROL/ROR", "SHLD", "SHRD" */
import type { Cpu } from '../cpu.ts';
import {
  and,
  type Expr,
  eq,
  isZero,
  ltU,
  ne,
  negate,
  or,
  remU,
  rotl,
  select,
  shl,
  shr,
  sub,
  truncate,
  u8,
  u32,
  u64,
  type Width,
  xor,
  zeroExtend,
} from '../expr.ts';
import { AF, at, CF, flagsFromWord, flagsOfResult, OF, STATUS } from '../flags.ts';
import { define } from '../row.ts';
import { countOf, lowBit, shiftEncodings, topBit } from './shift.ts';

/**
 * Rotates change CF and OF only, and nothing when the masked count is 0.
 * @param overflow OF for a count of 1; for other counts it is undefined, and processors set it likewise
 * @param keeps the exception: ROL and ROR of a register by an immediate other than 1 leave OF alone
 */
function setRotateFlags(cpu: Cpu, count: Expr<8>, carry: Expr<1>, overflow: Expr<1>, keeps = false): void {
  if (!cpu.flagsWanted) return;
  cpu.if(ne(count, u8(0)), () => {
    const old = cpu.code.let(cpu.statusWord());
    const now = keeps ? select(eq(count, u8(1)), at(overflow, OF), and(old, u32(OF))) : at(overflow, OF);
    cpu.setFlags(flagsFromWord([and(old, u32(STATUS & ~(CF | OF))), at(carry, CF), now].reduce(or)));
  });
}
const byImmediate = (cpu: Cpu): boolean => !cpu.isMemory(0) && cpu.insn.operands[1]?.place === 'immediate';

define('ROL', { reads: STATUS, undefinedFlags: OF }, shiftEncodings(0), (cpu) => {
  const dst = cpu.read(0),
    count = countOf(cpu);
  const result = cpu.code.let(rotl(dst, and(count, u8(dst.width - 1))));
  cpu.write(0, result);
  setRotateFlags(cpu, count, lowBit(result), topBit(xor(dst, shl(dst, u8(1)))), byImmediate(cpu));
});

define('ROR', { reads: STATUS, undefinedFlags: OF }, shiftEncodings(1), (cpu) => {
  const dst = cpu.read(0),
    count = countOf(cpu);
  const result = cpu.code.let(rotl(dst, and(sub(u8(dst.width), and(count, u8(dst.width - 1))), u8(dst.width - 1))));
  cpu.write(0, result);
  setRotateFlags(cpu, count, topBit(result), xor(topBit(dst), lowBit(dst)), byImmediate(cpu));
});

/** Rotate through carry: a rotation of width + 1 bits, done in 64 bits for narrow operands and in two halves for 64. */
function throughCarry(mnemonic: string, n: number, left: boolean): void {
  define(mnemonic, { reads: STATUS, undefinedFlags: OF }, shiftEncodings(n), (cpu) => {
    const dst = cpu.read(0),
      masked = countOf(cpu);
    const { width } = dst;
    const carryIn = cpu.code.let(cpu.carry());
    const count = cpu.code.let(
      width < 32 ? (truncate(remU(zeroExtend(masked, 32), u32(width + 1)), 8) as Expr<8>) : masked,
    );
    // r = count bits to the left, of width + 1; going right by n is going left by width + 1 - n.
    const go = cpu.code.let(left ? count : select(isZero(count), u8(0), sub(u8(width + 1), count)));
    const wide = zeroExtend(dst, 64),
      c = zeroExtend(carryIn, 64);
    let result: Expr<Width>, carry: Expr<1>;
    if (width < 64) {
      const value = cpu.code.let(or(wide, shl(c, u64(width))));
      const rotated = cpu.code.let(or(shl(value, go), shr(value, sub(u8(width + 1), go))));
      result = truncate(rotated, width);
      carry = ne(and(shr(rotated, u64(width)), u64(1)), u64(0));
    } else {
      // count 0..63 left, so go is 0..64: [carry : dst] rotated by go in 65 bits
      const isNone = isZero(go);
      const below = cpu.code.let(sub(u8(64), go));
      const high = select(ltU(go, u8(64)), shl(wide, go), u64(0));
      const middle = select(isNone, u64(0), shl(c, sub(go, u8(1))));
      const low = select(ltU(u8(1), go), shr(shr(wide, below), u8(1)), u64(0));
      result = cpu.code.let(select(isNone, wide, or(or(high, middle), low)));
      carry = select(isNone, carryIn, lowBit(shr(wide, below)));
    }
    const out = cpu.code.let(result),
      carryOut = cpu.code.let(carry);
    cpu.write(0, out);
    const overflow = left ? topBit(xor(dst, shl(dst, u8(1)))) : xor(topBit(dst), carryIn);
    setRotateFlags(cpu, width < 32 ? count : masked, carryOut, overflow);
  });
}
throughCarry('RCL', 2, true);
throughCarry('RCR', 3, false);

/** A count beyond 16 for 16-bit operands is undefined; the result here is that of recent processors: the pair rotates on. */
function doubleShift(mnemonic: string, low: number, left: boolean): void {
  define(
    mnemonic,
    { writes: 0, reads: STATUS, undefinedFlags: AF | OF },
    `
    0F A${low.toString(16).toUpperCase()} Ev,Gv,Ib
    0F A${(low + 1).toString(16).toUpperCase()} Ev,Gv,CL`,
    (cpu) => {
      const dst = cpu.read(0),
        src = cpu.read(1);
      const { width } = dst;
      const count = cpu.code.let(and(cpu.read(2) as Expr<8>, u8(width === 64 ? 63 : 31)));
      let result: Expr<Width>, carry: Expr<1>;
      if (width === 16) {
        // dst : src : dst, so that counts 16 to 31 are covered
        const d = zeroExtend(dst, 64),
          s = zeroExtend(src, 64);
        const value = cpu.code.let(or(or(shl(d, u8(32)), shl(s, u8(16))), d));
        if (left) {
          const shifted = cpu.code.let(shl(value, count));
          result = truncate(shr(shifted, u8(32)), 16);
          carry = lowBit(shr(shifted, u8(48)));
        } else {
          const shifted = cpu.code.let(shr(value, count));
          result = truncate(shifted, 16);
          carry = lowBit(shr(value, and(sub(count, u8(1)), u8(63))));
        }
      } else {
        const back = and(sub(u8(width), count), u8(width - 1));
        const filled = left ? or(shl(dst, count), shr(src, back)) : or(shr(dst, count), shl(src, back));
        result = select(isZero(count), dst, filled);
        carry = left ? lowBit(shr(dst, back)) : lowBit(shr(dst, and(sub(count, u8(1)), u8(width - 1))));
      }
      const out = cpu.code.let(result);
      const carryOut = cpu.code.let(carry);
      cpu.write(0, out);
      if (!cpu.flagsWanted) return;
      // OF as if the count were 1.
      const overflow = topBit(xor(dst, left ? shl(dst, u8(1)) : shl(src, u8(width - 1))));
      cpu.if(negate(isZero(count)), () => cpu.setFlags(flagsOfResult(out, or(at(carryOut, CF), at(overflow, OF)))));
    },
  );
}
doubleShift('SHLD', 4, true);
doubleShift('SHRD', 12, false);
