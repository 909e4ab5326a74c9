/** CMPPS and COMISS in full. @sdm "CMPPD", "COMISD", "UCOMISD" */
import { FLAG_CF, FLAG_PF, FLAG_ZF, STATUS_FLAGS } from '../processor.ts';
import { compare, EQUAL, GREATER, LESS, type Relation, UNORDERED } from '../softfloat/compare.ts';
import { F32, F64 } from '../softfloat/float.ts';
import { operand } from '../softfloat/operands.ts';
import { implementBoth, twoOperands, writeLanes } from './lanes.ts';
import { environmentOf, finish } from './mxcsr.ts';

/**
 * Whether a predicate holds. 0 to 3: EQ, LT, LE, UNORD; 4 to 7 are their negations. 8 to 15 answer the other way with NaNs,
 * and 16 to 31 raise the exceptions of the other half.
 */
function holds(predicate: number, relation: Relation): boolean {
  if (predicate & 8 && relation === UNORDERED)
    return (predicate & 3) === 3 ? (predicate & 4) !== 0 : (predicate & 4) === 0;
  const basic =
    (predicate & 3) === 0
      ? relation === EQUAL
      : (predicate & 3) === 1
        ? relation === LESS
        : (predicate & 3) === 2
          ? relation === LESS || relation === EQUAL
          : relation === UNORDERED;
  return basic !== (predicate & 4) > 0;
}
/** EQ, UNORD and their negations accept quiet NaNs; LT and LE do not. */
const isQuiet = (predicate: number): boolean =>
  ((predicate & 3) === 0 || (predicate & 3) === 3) === ((predicate & 16) === 0);

for (const [suffix, format, bits] of [
  ['PS', F32, 32],
  ['SS', F32, 32],
  ['PD', F64, 64],
  ['SD', F64, 64],
] as const) {
  const ones = (1n << BigInt(bits)) - 1n;
  implementBoth(`CMP${suffix}`, (p, insn) =>
    twoOperands(p, insn, bits, (a, b) => {
      const env = environmentOf(p);
      const predicate = Number(insn.immediate) & (insn.row.vex >= 0 ? 31 : 7);
      const result = b.map((y, i) => {
        const relation = compare(env, operand(env, format, a[i]!), operand(env, format, y), isQuiet(predicate));
        return holds(predicate, relation) ? ones : 0n;
      });
      return finish(p, env, () => void writeLanes(p, insn, 0, bits, result));
    }),
  );
}

/** ZF, PF and CF of a comparison. */
export function flagsOfRelation(relation: Relation): number {
  switch (relation) {
    case GREATER:
      return 0;
    case LESS:
      return FLAG_CF;
    case EQUAL:
      return FLAG_ZF;
    default:
      return FLAG_ZF | FLAG_PF | FLAG_CF;
  }
}

for (const [mnemonic, format, bits, quiet] of [
  ['COMISS', F32, 32, false],
  ['COMISD', F64, 64, false],
  ['UCOMISS', F32, 32, true],
  ['UCOMISD', F64, 64, true],
] as const) {
  implementBoth(mnemonic, (p, insn) =>
    twoOperands(p, insn, bits, ([a], [b]) => {
      const env = environmentOf(p);
      const relation = compare(env, operand(env, format, a!), operand(env, format, b!), quiet);
      return finish(p, env, () => {
        p.rflags = (p.rflags & ~STATUS_FLAGS) | flagsOfRelation(relation);
        return undefined;
      });
    }),
  );
}
