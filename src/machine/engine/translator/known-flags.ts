/**
 * What is known of the lazy flags where a block begins, from what all blocks before it end with.
 *
 * Kind and values of flags that only an exit would want would else travel round every loop in locals. But behind `cmp rax, 5` they
 * can be had from RAX at any time.
 */
import {
  ALIAS,
  type Bits,
  CONST,
  type Expr,
  OP_ADD_64,
  OP_AND_32,
  OP_AND_64,
  OP_SUB_32,
  OP_SUB_64,
  OP_WRAP,
  STATE,
} from '../../isa/expr.ts';
import { kindCode, type Recipe } from '../../isa/flags.ts';
import type { Loops } from './loops.ts';
import type { Block, Region } from './region.ts';

/** A register plus a constant; register -1 for a constant alone. Bits above the width of the operation say nothing. */
export interface FlagValue {
  readonly register: number;
  readonly plus: number;
}

/** A recipe of known kind; null for a value that only its local has. */
export interface KnownFlags {
  readonly kind: number;
  readonly a: FlagValue | null;
  readonly b: FlagValue | null;
}

/** Flags at the begin of a block. */
export interface EntryFlags extends KnownFlags {
  /** They are those in memory if control has come to the loop from outside. */
  readonly firstInMemory: boolean;
}

/** A register as an instruction leaves it: the last value written, by register. */
export type Written = ReadonlyMap<number, Expr>;

/** What an instruction that wrote `written` leaves of a recipe. */
export function afterInsn(recipe: Recipe, written: Written): KnownFlags {
  return {
    kind: kindCode(recipe.kind, recipe.width),
    a: flagValue(recipe.a, written),
    b: flagValue(recipe.b, written),
  };
}

function flagValue(value: Expr, written: Written): FlagValue | null {
  if (value.op === CONST) return typeof value.imm === 'number' ? { register: -1, plus: value.imm } : null;
  const { width } = value;
  const e = uncut(value, width);
  for (const [register, result] of written) {
    if (result.width >= width && uncut(result, width) === e) return { register, plus: 0 };
  }
  if (e.op !== STATE || (e.imm as number) < 0) return null;
  const register = e.imm as number;
  const result = written.get(register);
  if (result === undefined) return { register, plus: 0 };
  // The register has moved on by a constant.
  const { op, a, b } = uncut(result, width);
  const moved = op === OP_ADD_64 || op === OP_SUB_64 || op === OP_SUB_32;
  if (!moved || result.width < width || uncut(a!, width) !== e) return null;
  if (b!.op !== CONST || typeof b!.imm !== 'number') return null;
  return { register, plus: op === OP_ADD_64 ? -b!.imm : b!.imm };
}

/** Without what cuts a value, but not below `width` bits; `test r, r` is a value of r. */
function uncut(value: Expr, width: Bits): Expr {
  let e = value;
  for (;;) {
    const { op, a, b } = e;
    if (op === ALIAS ? a!.width >= width : op === OP_WRAP) e = a!;
    else if ((op === OP_AND_32 || op === OP_AND_64) && (cuts(e, width) || same(a!, b!, width))) e = a!;
    else return e;
  }
}

const cuts = ({ width, b }: Expr, least: Bits): boolean =>
  width >= least && b!.op === CONST && b!.imm === (width === 8 ? 0xff : width === 16 ? 0xffff : null);

function same(a: Expr, b: Expr, width: Bits): boolean {
  const x = uncut(a, width);
  return x.op === STATE && (x.imm as number) >= 0 && x.imm === registerState(uncut(b, width));
}

const registerState = (e: Expr): number | bigint => (e.op === STATE ? e.imm : -1);

/** What is known at the begin of each block that needs its flags. */
export function flagsAtEntries(region: Region, loops: Loops): Map<Block, EntryFlags> {
  const entries = new Map<Block, EntryFlags>();
  if (!region.reducible) return entries;
  const ends = new Map(region.order.map((block) => [block, flagsAtEnd(block)]));
  for (const block of region.order) {
    if (!needsFlags(block)) continue;
    const fromOutside = block === region.entry;
    const all = fromOutside ? null : meet(block.predecessors, ends);
    if (all !== null) {
      entries.set(block, { ...all, firstInMemory: false });
      continue;
    }
    const inner = loops.at(block).at(-1);
    const around = inner === undefined ? null : meet(inner.latches, ends);
    if (around !== null) entries.set(block, { ...around, firstInMemory: true });
  }
  return entries;
}

/** Whether something in a block, or behind it, may want the flags that it begins with. */
export function needsFlags({ steps }: Block): boolean {
  for (const { effects } of steps) {
    if (effects.exits || effects.readsFlags) return true;
    if (effects.writesFlags === 'always') return false;
  }
  return true;
}

function flagsAtEnd({ steps }: Block): KnownFlags | null {
  let written = 0;
  for (const { effects } of steps.toReversed()) {
    if (effects.writesFlags === 'no') {
      written |= effects.writes;
      continue;
    }
    if (effects.writesFlags === 'maybe' || effects.flags === null) return null;
    const kept = (value: FlagValue | null): FlagValue | null =>
      value !== null && value.register >= 0 && written & (1 << value.register) ? null : value;
    const { kind, a, b } = effects.flags;
    return { kind, a: kept(a), b: kept(b) };
  }
  return null;
}

function meet(blocks: readonly Block[], ends: ReadonlyMap<Block, KnownFlags | null>): KnownFlags | null {
  const [first, ...others] = blocks.map((block) => ends.get(block)!);
  let met = first ?? null;
  for (const other of others) {
    if (met === null || other === null || met.kind !== other.kind) return null;
    met = { kind: met.kind, a: common(met.a, other.a), b: common(met.b, other.b) };
  }
  return met;
}

const common = (x: FlagValue | null, y: FlagValue | null): FlagValue | null =>
  x !== null && y !== null && x.register === y.register && x.plus === y.plus ? x : null;
