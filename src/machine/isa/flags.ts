/**
 * Lazy flags. An instruction records a *recipe*: a kind and two values from which every status flag can be computed.
 *
 *   kind   a        b        meaning
 *   ADD    sum      source   CF = sum < source
 *   SUB    minuend  source   the comparison itself; CMP needs no subtraction
 *   INC    result   old CF   DEC likewise
 *   RES    result   CF, AF and OF at their RFLAGS positions; ZF SF PF from the result
 *   WORD   all six flags at their RFLAGS positions
 *
 * The kind stored beside them also carries the width: kind * 4 + log2(width / 8).
 */
import {
  and,
  type Bits,
  bit,
  constant,
  constantValue,
  type Expr,
  eq,
  isNegative,
  isZero,
  leS,
  leU,
  ltS,
  ltU,
  ne,
  negate,
  or,
  popcount,
  shl,
  sub,
  truncate,
  u32,
  u64,
  type Width,
  xor,
  zeroExtend,
} from './expr.ts';

export const KIND = { RES: 0, ADD: 1, SUB: 2, INC: 3, DEC: 4, WORD: 5 } as const;
export type Kind = (typeof KIND)[keyof typeof KIND];
export const KIND_COUNT = 24;
export const kindCode = (kind: Kind, width: Width): number => kind * 4 + { 8: 0, 16: 1, 32: 2, 64: 3 }[width];

export const CF = 0x1,
  PF = 0x4,
  AF = 0x10,
  ZF = 0x40,
  SF = 0x80,
  OF = 0x800;
export const STATUS: number = CF | PF | AF | ZF | SF | OF;

/** Values are `width` bits wide, except b of RES and INC/DEC and a of WORD, which are 32. */
export interface Recipe {
  readonly kind: Kind;
  readonly width: Width;
  readonly a: Expr<Width>;
  readonly b: Expr<Width>;
}

export const flagsOfAdd = <W extends Width>(sum: Expr<W>, src: Expr<W>): Recipe => ({
  kind: KIND.ADD,
  width: sum.width,
  a: sum,
  b: src,
});
export const flagsOfSub = <W extends Width>(dst: Expr<W>, src: Expr<W>): Recipe => ({
  kind: KIND.SUB,
  width: dst.width,
  a: dst,
  b: src,
});
export const flagsOfResult = <W extends Width>(result: Expr<W>, carries: Expr<32> = u32(0)): Recipe => ({
  kind: KIND.RES,
  width: result.width,
  a: result,
  b: carries,
});
export const flagsOfInc = <W extends Width>(result: Expr<W>, oldCarry: Expr<1>): Recipe => ({
  kind: KIND.INC,
  width: result.width,
  a: result,
  b: zeroExtend(oldCarry, 32),
});
export const flagsOfDec = <W extends Width>(result: Expr<W>, oldCarry: Expr<1>): Recipe => ({
  kind: KIND.DEC,
  width: result.width,
  a: result,
  b: zeroExtend(oldCarry, 32),
});
/** ZF and SF of a result beside carries; PF clear, which is what processors do where PF is undefined. */
export const flagsWithoutParity = (value: Expr<Width>, carries: Expr<32> = u32(0)): Recipe =>
  flagsFromWord([at(isNegative(value), SF), at(isZero(value), ZF), carries].reduce(or));
export const flagsFromWord = (word: Expr<32>): Recipe => ({ kind: KIND.WORD, width: 32, a: word, b: u32(0) });

/** CF and OF set alike, for the multiplications. */
export const carryAndOverflow = (both: Expr<1>): Expr<32> => or(zeroExtend(both, 32), at(both, OF));
export const at = (flag: Expr<1>, position: number): Expr<32> => shl(zeroExtend(flag, 32), u32(Math.log2(position)));
const test = (word: Expr<Width>, flag: number): Expr<1> =>
  ne(and(word, constant(word.width, flag)), constant(word.width, 0));

const result = (r: Recipe): Expr<Width> => (r.kind === KIND.SUB ? sub(r.a, r.b) : r.a);
const signBit = (w: Width): number | bigint => (w === 64 ? -(1n << 63n) : 2 ** (w - 1));
const maxSigned = (w: Width): number | bigint => (w === 64 ? (1n << 63n) - 1n : 2 ** (w - 1) - 1);

export function carry(r: Recipe): Expr<1> {
  switch (r.kind) {
    case KIND.ADD:
    case KIND.SUB:
      return ltU(r.a, r.b);
    case KIND.WORD:
      return test(r.a, CF);
    default:
      return constantValue(r.b) === 0 ? bit(false) : test(r.b, CF);
  }
}

export function overflow(r: Recipe): Expr<1> {
  switch (r.kind) {
    case KIND.ADD: {
      const dst = sub(r.a, r.b);
      return isNegative(and(xor(r.a, dst), xor(r.a, r.b)));
    }
    case KIND.SUB:
      return isNegative(and(xor(r.a, r.b), xor(r.a, sub(r.a, r.b))));
    case KIND.INC:
      return eq(r.a, constant(r.width, signBit(r.width)));
    case KIND.DEC:
      return eq(r.a, constant(r.width, maxSigned(r.width)));
    case KIND.WORD:
      return test(r.a, OF);
    default:
      return constantValue(r.b) === 0 ? bit(false) : test(r.b, OF);
  }
}

export function auxiliaryCarry(r: Recipe): Expr<1> {
  switch (r.kind) {
    case KIND.ADD:
    case KIND.SUB:
      return test(xor(xor(r.a, r.b), sub(r.a, r.b)), AF);
    case KIND.INC:
      return isZero(and(r.a, constant(r.width, 15)));
    case KIND.DEC:
      return eq(and(r.a, constant(r.width, 15)), constant(r.width, 15));
    case KIND.WORD:
      return test(r.a, AF);
    default:
      return constantValue(r.b) === 0 ? bit(false) : test(r.b, AF);
  }
}

const zero = (r: Recipe): Expr<1> =>
  r.kind === KIND.WORD ? test(r.a, ZF) : r.kind === KIND.SUB ? eq(r.a, r.b) : isZero(r.a);
const sign = (r: Recipe): Expr<1> => (r.kind === KIND.WORD ? test(r.a, SF) : isNegative(result(r)));
const parity = (r: Recipe): Expr<1> =>
  r.kind === KIND.WORD ? test(r.a, PF) : isZero(and(popcount(zeroExtend(truncate(result(r), 8), 32)), u32(1)));

/** Evaluates an even condition code (0, 2, … 14: O, B, E, BE, S, P, L, LE) on a known recipe; odd ones negate. */
export function evaluate(r: Recipe, code: number): Expr<1> {
  const compare = r.kind === KIND.SUB;
  const noOverflow = r.kind === KIND.RES && constantValue(r.b) === 0;
  switch (code) {
    case 0:
      return overflow(r);
    case 2:
      return carry(r);
    case 4:
      return zero(r);
    case 6:
      return compare ? leU(r.a, r.b) : or(carry(r), zero(r));
    case 8:
      return sign(r);
    case 10:
      return parity(r);
    case 12:
      return compare ? ltS(r.a, r.b) : noOverflow ? sign(r) : ne(sign(r), overflow(r));
    default:
      return compare
        ? leS(r.a, r.b)
        : noOverflow
          ? leS(r.a, constant(r.width, 0))
          : or(zero(r), ne(sign(r), overflow(r)));
  }
}
export const conditionOn = (r: Recipe, code: number): Expr<1> =>
  code & 1 ? negate(evaluate(r, code & 14)) : evaluate(r, code);

/** All status flags at their RFLAGS positions. */
export const statusWord = (r: Recipe): Expr<32> =>
  r.kind === KIND.WORD
    ? (r.a as Expr<32>)
    : [
        at(overflow(r), OF),
        at(sign(r), SF),
        at(zero(r), ZF),
        at(auxiliaryCarry(r), AF),
        at(parity(r), PF),
        at(carry(r), CF),
      ].reduce(or);

/** A recipe over the stored 64-bit values, for a kind that is known. */
export function storedRecipe(code: number, a: Expr<64>, b: Expr<64>): Recipe {
  const kind = (code >> 2) as Kind;
  const width = ([8, 16, 32, 64] as const)[code & 3]!;
  const twoWide = kind === KIND.ADD || kind === KIND.SUB;
  return { kind, width, a: truncate(a, kind === KIND.WORD ? 32 : width), b: truncate(b, twoWide ? width : 32) };
}
export const storedA = (r: Recipe): Expr<64> => zeroExtend(r.a as Expr<Bits>, 64);
export const storedB = (r: Recipe): Expr<64> => (constantValue(r.b) === 0 ? u64(0) : zeroExtend(r.b as Expr<Bits>, 64));

/** The stored kind of a recipe made by flagsFromWord. */
export const flagsFromWordKind: number = kindCode(KIND.WORD, 32);
