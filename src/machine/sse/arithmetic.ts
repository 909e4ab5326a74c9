/** ADDPS to DPPD in full: what the fast paths of isa/tables/sse-float.ts leave. @sdm "ADDPD", "HADDPS", "DPPS" … */
import { add, divide, multiply, squareRoot, subtract } from '../softfloat/arithmetic.ts';
import { extreme } from '../softfloat/compare.ts';
import type { Environment } from '../softfloat/environment.ts';
import { F32, F64, type Float, type Format, pack } from '../softfloat/float.ts';
import { operand } from '../softfloat/operands.ts';
import { implementBoth, twoOperands, writeLanes } from './lanes.ts';
import { environmentOf, finish } from './mxcsr.ts';

type Binary = (env: Environment, format: Format, a: Float, b: Float) => Float;
type LaneFormat = Format & { readonly bits: 32 | 64 };
const S = F32 as LaneFormat;
const D = F64 as LaneFormat;
/** The four forms of most instructions. */
const FORMS: readonly (readonly [string, LaneFormat])[] = [
  ['PS', S],
  ['PD', D],
  ['SS', S],
  ['SD', D],
];

const encoded =
  (op: Binary) =>
  (env: Environment, format: Format, a: bigint, b: bigint): bigint =>
    pack(format, op(env, format, operand(env, format, a), operand(env, format, b)));

/** dst[i] = op(dst[i], src[i]). */
function lanewise(mnemonic: string, op: Binary): void {
  const apply = encoded(op);
  for (const [suffix, format] of FORMS) {
    implementBoth(mnemonic + suffix, (p, insn) =>
      twoOperands(p, insn, format.bits, (a, b) => {
        const env = environmentOf(p);
        const result = b.map((y, i) => apply(env, format, a[i]!, y));
        return finish(p, env, () => void writeLanes(p, insn, 0, format.bits, result));
      }),
    );
  }
}
lanewise('ADD', add);
lanewise('SUB', subtract);
lanewise('MUL', multiply);
lanewise('DIV', divide);
lanewise('MIN', (env, _, a, b) => extreme(env, a, b, -1));
lanewise('MAX', (env, _, a, b) => extreme(env, a, b, 1));
lanewise('SQRT', (env, format, _, b) => squareRoot(env, format, b));

/** dst = combine(dst, src) over each 128 bits. */
function vectorwise(
  mnemonic: string,
  format: LaneFormat,
  combine: (env: Environment, a: readonly bigint[], b: readonly bigint[]) => bigint[],
): void {
  const count = 128 / format.bits;
  implementBoth(mnemonic, (p, insn) =>
    twoOperands(p, insn, format.bits, (a, b) => {
      const env = environmentOf(p);
      const result: bigint[] = [];
      for (let at = 0; at < a.length; at += count)
        result.push(...combine(env, a.slice(at, at + count), b.slice(at, at + count)));
      return finish(p, env, () => void writeLanes(p, insn, 0, format.bits, result));
    }),
  );
}
for (const [suffix, format] of FORMS.slice(0, 2)) {
  const plus = encoded(add),
    minus = encoded(subtract);
  vectorwise(`ADDSUB${suffix}`, format, (env, a, b) => a.map((x, i) => (i & 1 ? plus : minus)(env, format, x, b[i]!)));
  const horizontal = (mnemonic: string, op: typeof plus): void =>
    vectorwise(mnemonic, format, (env, a, b) => {
      const pairs: bigint[] = [];
      for (const v of [a, b]) for (let i = 0; i < v.length; i += 2) pairs.push(op(env, format, v[i]!, v[i + 1]!));
      return pairs;
    });
  horizontal(`HADD${suffix}`, plus);
  horizontal(`HSUB${suffix}`, minus);
}

/**
 * Dot products: the products that immediate bits 7:4 choose, summed pairwise; the sum goes where bits 3:0 say.
 * Exceptions of each step are those of the steps before and its own; an unmasked one ends the instruction at its step.
 * Each lane of the result adds in its own order, as the processor does; that shows when NaNs meet.
 */
for (const [mnemonic, format] of [
  ['DPPS', S],
  ['DPPD', D],
] as const) {
  const times = encoded(multiply),
    plus = encoded(add);
  const inHalf = 128 / format.bits - 1;
  implementBoth(mnemonic, (p, insn) =>
    twoOperands(p, insn, format.bits, (a, b) => {
      const env = environmentOf(p);
      const imm = Number(insn.immediate) & 0xff;
      const products: readonly bigint[] = a.map((x, i) =>
        (imm >> (4 + (i & inHalf))) & 1 ? times(env, format, x, b[i]!) : 0n,
      );
      const state = { sums: products, kept: 0 };
      const sum = (first: number, second: number): void => {
        if (env.unmasked !== 0) return;
        state.kept |= env.flags;
        env.flags = 0;
        const terms = state.sums;
        state.sums = terms.map((_, i) => plus(env, format, terms[i ^ first]!, terms[i ^ second]!));
      };
      if (format === S) sum(1, 0);
      sum(0, format === S ? 2 : 1);
      const result = a.map((_, i) => ((imm >> (i & inHalf)) & 1 ? state.sums[i]! : 0n));
      return finish(p, env, () => void writeLanes(p, insn, 0, format.bits, result), state.kept);
    }),
  );
}
