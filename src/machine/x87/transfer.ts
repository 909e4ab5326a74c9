/** x87 loads, stores, exchanges, conditional moves and constants. @sdm "FLD", "FST/FSTP", "FILD", "FIST/FISTP", "FISTTP", "FXCH", "FCMOVcc", "FLD1…" */
import type { Insn } from '../isa/insn.ts';
import { DONE, type Outcome } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import { convert, toInteger } from '../softfloat/convert.ts';
import { DE, DOWN, type Environment, OE, PE, PRE_COMPUTATION, TRUNCATE, UE, UP } from '../softfloat/environment.ts';
import { F32, F64, F80, pack } from '../softfloat/float.ts';
import { canStore, isMemory, loadBits, loadFloat, loadInteger, stackIndex, storeBits } from './operands.ts';
import { inUse, pop, push, read, readRaw, setInUse, writeRaw } from './registers.ts';
import { DEFAULT_NAN_RAW, environmentOf, recordPointers, settle, waiting } from './status.ts';

/** Pushes what `value` gives; on a full stack the default NaN. An unmasked denormal exception does not keep it from that. */
export function load(p: Processor, insn: Insn, value: (env: Environment) => bigint, empty = false): Outcome {
  const env = environmentOf(p);
  const overflow = inUse(p, -1);
  const raw = overflow || empty ? DEFAULT_NAN_RAW : value(env);
  env.roundedUp = false;
  const stack = empty ? 'underflow' : overflow ? 'overflow' : '';
  if (settle(p, insn, env, stack) || (env.unmasked & PRE_COMPUTATION) === DE) push(p, raw);
  return DONE;
}

waiting('FLD', (p, insn) => {
  if (!isMemory(insn)) {
    const i = stackIndex(insn);
    const raw = readRaw(p, i);
    return load(p, insn, () => raw, !inUse(p, i));
  }
  if (insn.operands[0]!.width === 80) {
    const bits = loadBits(p, insn);
    return bits === undefined ? p.outcome : load(p, insn, () => bits);
  }
  const source = loadFloat(p, insn);
  return source === undefined ? p.outcome : load(p, insn, (env) => pack(F80, convert(env, F80, source)));
});
waiting('FILD', (p, insn) => {
  const source = loadInteger(p, insn);
  return source === undefined ? p.outcome : load(p, insn, () => pack(F80, source));
});

/**
 * Stores what `value` makes of ST(0), then pops if `popping`. An exception that forbids the result leaves memory and stack;
 * so do unmasked overflow and underflow, which have no place for a scaled result. Denormals raise nothing.
 */
export function store(
  p: Processor,
  insn: Insn,
  indefinite: bigint,
  value: (env: Environment) => bigint,
  popping: boolean,
): Outcome {
  const env = environmentOf(p);
  const full = inUse(p, 0);
  const bits = full ? value(env) : indefinite;
  const writable = canStore(p, insn);
  if (writable !== DONE) return writable;
  if (env.unmasked & (OE | UE)) {
    env.flags &= ~PE;
    env.roundedUp = false;
  }
  const stored = settle(p, insn, env, full ? '' : 'underflow') && (env.unmasked & (OE | UE)) === 0;
  if (!stored) return DONE;
  const outcome = storeBits(p, insn, bits);
  if (outcome === DONE && popping) pop(p);
  return outcome;
}

/** FST ST(i): any bits. */
function storeRegister(p: Processor, insn: Insn, popping: boolean): Outcome {
  const full = inUse(p, 0);
  if (settle(p, insn, environmentOf(p), full ? '' : 'underflow')) {
    writeRaw(p, stackIndex(insn), full ? readRaw(p, 0) : DEFAULT_NAN_RAW);
    if (popping) pop(p);
  }
  return DONE;
}

const INDEFINITE = { 32: 0xffc0_0000n, 64: 0xfff8_0000_0000_0000n, 80: DEFAULT_NAN_RAW } as const;

for (const [mnemonic, popping] of [
  ['FST', false],
  ['FSTP', true],
] as const) {
  waiting(mnemonic, (p, insn) => {
    if (!isMemory(insn)) return storeRegister(p, insn, popping);
    const width = insn.operands[0]!.width as 32 | 64 | 80;
    if (width === 80) return store(p, insn, INDEFINITE[80], () => readRaw(p, 0), popping);
    const format = width === 32 ? F32 : F64;
    const value = (env: Environment): bigint => {
      const result = convert(env, format, read(p, 0));
      env.flags &= ~DE;
      return pack(format, result);
    };
    return store(p, insn, INDEFINITE[width], value, popping);
  });
}

/** Undocumented: FSTP to a register that does not complain of an empty source. */
waiting('FSTPNCE', (p, insn) => {
  settle(p, insn, environmentOf(p));
  if (inUse(p, 0)) writeRaw(p, stackIndex(insn), readRaw(p, 0));
  pop(p);
  return DONE;
});

function integerStore(mnemonic: string, popping: boolean, truncating: boolean): void {
  waiting(mnemonic, (p, insn) => {
    const { width } = insn.operands[0]!;
    const value = (env: Environment): bigint => toInteger(env, read(p, 0), width, truncating ? TRUNCATE : env.rounding);
    return store(p, insn, 1n << BigInt(width - 1), value, popping);
  });
}
integerStore('FIST', false, false);
integerStore('FISTP', true, false);
integerStore('FISTTP', true, true);

waiting('FXCH', (p, insn) => {
  const i = stackIndex(insn);
  const full = inUse(p, 0) && inUse(p, i);
  const first = inUse(p, 0) ? readRaw(p, 0) : DEFAULT_NAN_RAW;
  const other = inUse(p, i) ? readRaw(p, i) : DEFAULT_NAN_RAW;
  if (settle(p, insn, environmentOf(p), full ? '' : 'underflow')) {
    writeRaw(p, 0, other);
    writeRaw(p, i, first);
  }
  return DONE;
});

/** Conditions by ModRM.reg of DA; DB has the negations. */
for (const [mnemonic, condition] of [
  ['FCMOVB', (flags: number) => (flags & 1) !== 0],
  ['FCMOVE', (flags: number) => (flags & 0x40) !== 0],
  ['FCMOVBE', (flags: number) => (flags & 0x41) !== 0],
  ['FCMOVU', (flags: number) => (flags & 4) !== 0],
] as const) {
  for (const negated of [false, true])
    waiting(negated ? mnemonic.replace('FCMOV', 'FCMOVN') : mnemonic, (p, insn) => {
      const i = stackIndex(insn);
      const full = inUse(p, 0) && inUse(p, i);
      const raw = full ? readRaw(p, i) : DEFAULT_NAN_RAW;
      const moves = !full || condition(p.rflags) !== negated;
      // C1 stays unless the stack is to blame.
      if (full) recordPointers(p, insn, false);
      const goesOn = full || settle(p, insn, environmentOf(p), 'underflow');
      if (goesOn && moves) writeRaw(p, 0, raw);
      return DONE;
    });
}

/** Constants of 64 bits, rounded to nearest: [mnemonic, exponent, significand, whether that is above the true value]. */
for (const [mnemonic, raw, above] of [
  ['FLD1', 0x3fff_8000_0000_0000_0000n, null],
  ['FLDL2T', 0x4000_d49a_784b_cd1b_8afen, false],
  ['FLDL2E', 0x3fff_b8aa_3b29_5c17_f0bcn, true],
  ['FLDPI', 0x4000_c90f_daa2_2168_c235n, true],
  ['FLDLG2', 0x3ffd_9a20_9a84_fbcf_f799n, true],
  ['FLDLN2', 0x3ffe_b172_17f7_d1cf_79acn, true],
  ['FLDZ', 0n, null],
] as const) {
  waiting(mnemonic, (p, insn) =>
    load(p, insn, ({ rounding }) => {
      if (above === true && (rounding === DOWN || rounding === TRUNCATE)) return raw - 1n;
      return above === false && rounding === UP ? raw + 1n : raw;
    }),
  );
}

waiting('FFREE', (p, insn) => {
  settle(p, insn, environmentOf(p));
  setInUse(p, stackIndex(insn), false);
  return DONE;
});
waiting('FFREEP', (p, insn) => {
  settle(p, insn, environmentOf(p));
  setInUse(p, stackIndex(insn), false);
  pop(p);
  return DONE;
});
