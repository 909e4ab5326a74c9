/** Shifts. @sdm "SAL/SAR/SHL/SHR" */

import type { Cpu } from '../cpu.ts';
import {
  and,
  constant,
  type Expr,
  isNegative,
  isZero,
  ne,
  negate,
  or,
  sar,
  shl,
  shr,
  sub,
  truncate,
  u8,
  u32,
  type Width,
  xor,
  zeroExtend,
} from '../expr.ts';
import { AF, at, CF, flagsOfResult, OF, STATUS } from '../flags.ts';
import { define } from '../row.ts';

export const shiftEncodings = (n: number): string => `
    C0 /${n} Eb,Ib
    C1 /${n} Ev,Ib
    D0 /${n} Eb
    D1 /${n} Ev
    D2 /${n} Eb,CL
    D3 /${n} Ev,CL${n === 4 ? '\n    C0 /6 Eb,Ib\n    C1 /6 Ev,Ib\n    D0 /6 Eb\n    D1 /6 Ev\n    D2 /6 Eb,CL\n    D3 /6 Ev,CL' : ''}`;

/** The count operand, masked to 5 or 6 bits. The forms without one shift by 1. */
export const countOf = (cpu: Cpu): Expr<8> =>
  cpu.insn.operands.length === 1 ? u8(1) : and(cpu.read(1) as Expr<8>, u8(cpu.width(0) === 64 ? 63 : 31));

type Shift = (dst: Expr<Width>, count: Expr<8>) => { result: Expr<Width>; carry: Expr<1>; overflow: Expr<1> };

/** A count of zero changes no flag. OF is defined for a count of 1 only; processors set it as if the count were 1. */
function defineShift(mnemonic: string, n: number, shift: Shift): void {
  define(mnemonic, { reads: STATUS, writes: 0, undefinedFlags: AF | OF }, shiftEncodings(n), (cpu) => {
    const dst = cpu.read(0),
      count = countOf(cpu);
    const { result, carry, overflow } = shift(dst, count);
    cpu.write(0, result);
    if (!cpu.flagsWanted) return;
    cpu.if(ne(count, u8(0)), () => cpu.setFlags(flagsOfResult(result, or(at(carry, CF), at(overflow, OF)))));
  });
}

export const topBit = (e: Expr<Width>): Expr<1> => isNegative(e);
export const lowBit = (e: Expr<Width>): Expr<1> => negate(isZero(and(e, constant(e.width, 1))));

/** Shifts narrower than 32 bits happen in 32 bits, so that counts of 8 to 31 push everything out. */
defineShift('SHL', 4, (dst, count) => {
  const wide = dst.width < 32 ? zeroExtend(dst, 32) : dst;
  const shifted = shl(wide, count);
  const result = truncate(shifted, dst.width);
  const lastOut =
    dst.width < 32
      ? lowBit(shr(shifted, u32(dst.width)))
      : lowBit(shr(dst, and(sub(u8(dst.width), count), u8(dst.width - 1))));
  return { result, carry: lastOut, overflow: topBit(xor(dst, shl(dst, u8(1)))) };
});

defineShift('SHR', 5, (dst, count) => ({
  result: shr(dst, count),
  carry: lowBit(shr(dst, and(sub(count, u8(1)), u8(63)))),
  overflow: topBit(dst),
}));

defineShift('SAR', 7, (dst, count) => ({
  result: sar(dst, count),
  carry: lowBit(sar(dst, and(sub(count, u8(1)), u8(63)))),
  overflow: constant(1, 0),
}));
