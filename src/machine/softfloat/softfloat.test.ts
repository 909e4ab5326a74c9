import { describe, expect, test } from 'vitest';
import { add, divide, integerRoot, multiply, squareRoot, subtract } from './arithmetic.ts';
import { compare, EQUAL, GREATER, LESS, UNORDERED } from './compare.ts';
import { convert, fromInteger, roundToIntegral, toInteger } from './convert.ts';
import { arcTangent, cosine, exponentialMinus1, ln2, log2OfRatio, pi, sine } from './elementary.ts';
import { DE, DOWN, Environment, IE, NEAREST, OE, PE, type Rounding, TRUNCATE, UE, UP, ZE } from './environment.ts';
import { DEFAULT_NAN, F32, F64, F80, type Float, type Format, pack, unpack } from './float.ts';

const view = new DataView(new ArrayBuffer(8));
const bitsOf = (x: number): bigint => {
  view.setFloat64(0, x);
  return view.getBigUint64(0);
};
const numberOf = (bits: bigint): number => {
  view.setBigUint64(0, bits);
  return view.getFloat64(0);
};
const float = (x: number): Float => unpack(F64, bitsOf(x));
const number = (f: Float): number => numberOf(pack(F64, f));
const masked = (rounding: Rounding = NEAREST): Environment => new Environment(rounding, 63);

/** Numbers of all sizes, reproducible. */
function* samples(count: number): Generator<[number, number]> {
  let state = 12345n;
  const next = (): bigint => (state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffff_ffff_ffff_ffffn);
  for (let i = 0; i < count; i++) {
    const a = numberOf(next()),
      b = i & 1 ? a * (1 + Number(next() >> 52n) / 4096) : numberOf(next());
    if (Number.isFinite(a) && Number.isFinite(b)) yield [a, b];
  }
}

describe('arithmetic rounded to nearest is JavaScript’s', () => {
  const operations: [
    string,
    (e: Environment, f: Format, a: Float, b: Float) => Float,
    (a: number, b: number) => number,
  ][] = [
    ['add', add, (a, b) => a + b],
    ['subtract', subtract, (a, b) => a - b],
    ['multiply', multiply, (a, b) => a * b],
    ['divide', divide, (a, b) => a / b],
    ['squareRoot', (e, f, a) => squareRoot(e, f, { ...a, sign: 0 }), (a) => Math.sqrt(Math.abs(a))],
  ];
  test.each(operations)('%s', (_, op, expected) => {
    for (const [a, b] of samples(500)) expect(number(op(masked(), F64, float(a), float(b)))).toBe(expected(a, b));
  });

  test('narrowing to single precision', () => {
    for (const [a] of samples(500)) expect(number(convert(masked(), F32, float(a)))).toBe(Math.fround(a));
  });
});

describe('rounding modes', () => {
  test('one third lies between its neighbours', () => {
    const third = (rounding: Rounding, sign: 1 | -1): number =>
      number(divide(masked(rounding), F64, float(sign), float(3)));
    const below = numberOf(0x3fd5555555555555n),
      above = numberOf(0x3fd5555555555556n);
    expect([NEAREST, DOWN, UP, TRUNCATE].map((mode) => third(mode as Rounding, 1))).toEqual([
      below,
      below,
      above,
      below,
    ]);
    expect([NEAREST, DOWN, UP, TRUNCATE].map((mode) => third(mode as Rounding, -1))).toEqual([
      -below,
      -above,
      -below,
      -below,
    ]);
  });

  test('half of an integer goes to the even one', () => {
    for (const [x, even] of [
      [0.5, 0],
      [1.5, 2],
      [2.5, 2],
      [-3.5, -4],
    ] as const)
      expect(number(roundToIntegral(masked(), float(x), NEAREST))).toBe(even);
  });

  test('precision control rounds to fewer bits', () => {
    const env = new Environment(NEAREST, 63, true, 24);
    expect(number(divide(env, F80, float(1), float(3)))).toBe(Math.fround(1 / 3));
  });
});

describe('exceptions', () => {
  const flagsOf = (run: (env: Environment) => unknown, masks = 63): number => {
    const env = new Environment(NEAREST, masks);
    run(env);
    return env.flags;
  };
  const huge = float(Number.MAX_VALUE),
    tiny = float(Number.MIN_VALUE),
    inf = float(Infinity);

  test('each is raised by what it is for', () => {
    expect(flagsOf((e) => subtract(e, F64, inf, inf))).toBe(IE);
    expect(flagsOf((e) => divide(e, F64, float(1), float(0)))).toBe(ZE);
    expect(flagsOf((e) => add(e, F64, tiny, tiny))).toBe(DE);
    expect(flagsOf((e) => multiply(e, F64, huge, huge))).toBe(OE | PE);
    expect(flagsOf((e) => multiply(e, F64, float(2 ** -600), float(2 ** -600)))).toBe(UE | PE);
    expect(flagsOf((e) => add(e, F64, float(1), float(2 ** -60)))).toBe(PE);
    expect(flagsOf((e) => add(e, F64, float(1), float(2)))).toBe(0);
  });

  test('masked underflow needs a loss of accuracy, unmasked underflow does not', () => {
    const half = (e: Environment): Float => divide(e, F64, float(2 ** -1022), float(2));
    expect(flagsOf(half)).toBe(0);
    expect(flagsOf(half, 63 & ~UE)).toBe(UE);
  });

  test('flush to zero takes the place of denormal results', () => {
    const env = new Environment(NEAREST, 63, false, 0, true);
    expect(number(divide(env, F64, float(-(2 ** -1022)), float(2)))).toBe(-0);
    expect(env.flags).toBe(UE | PE);
  });

  test('an x87 overflow that is not masked gives the result with a smaller exponent', () => {
    const env = new Environment(NEAREST, 63 & ~OE, true, 64);
    const largest = unpack(F80, 0x7ffe_8000_0000_0000_0000n);
    expect(multiply(env, F80, largest, largest).exponent).toBe(2 * 16383 - 24576);
    expect(env.unmasked).toBe(OE);
  });
});

describe('NaNs', () => {
  const quiet = (sign: bigint, payload: bigint): Float => unpack(F64, (sign << 63n) | (0x7ff8n << 48n) | payload);
  const signalling = unpack(F64, 0x7ff0_0000_0000_0005n);

  test('SSE takes the first, x87 the quiet one, then the larger significand', () => {
    const sse = masked(),
      x87 = new Environment(NEAREST, 63, true, 64);
    expect(add(sse, F64, quiet(0n, 1n), quiet(1n, 2n))).toEqual(quiet(0n, 1n));
    expect(add(x87, F80, quiet(0n, 1n), quiet(1n, 2n))).toEqual(quiet(1n, 2n));
    expect(pack(F64, add(sse, F64, signalling, quiet(0n, 1n)))).toBe(0x7ff8_0000_0000_0005n);
    expect(add(x87, F80, signalling, quiet(0n, 1n))).toEqual(quiet(0n, 1n));
    expect([sse.flags, x87.flags]).toEqual([IE, IE]);
  });

  test('invalid operations give the default one', () => {
    expect(squareRoot(masked(), F64, float(-1))).toEqual(DEFAULT_NAN);
    expect(pack(F32, DEFAULT_NAN)).toBe(0xffc0_0000n);
  });

  test('quiet comparison complains of signalling ones only', () => {
    for (const [a, how, flags] of [
      [quiet(0n, 0n), true, 0],
      [quiet(0n, 0n), false, IE],
      [signalling, true, IE],
    ] as const) {
      const env = masked();
      expect(compare(env, a, float(1), how)).toBe(UNORDERED);
      expect(env.flags).toBe(flags);
    }
  });
});

test('comparison follows the numbers, and zeros are equal', () => {
  expect(compare(masked(), float(-0), float(0), true)).toBe(EQUAL);
  for (const [a, b] of samples(300))
    expect(compare(masked(), float(a), float(b), true)).toBe(a < b ? LESS : a > b ? GREATER : EQUAL);
});

describe('integers', () => {
  test('what does not fit is the indefinite integer', () => {
    for (const x of [2 ** 31, -(2 ** 31) - 1, Infinity, Number.NaN]) {
      const env = masked();
      expect(toInteger(env, float(x), 32)).toBe(-(2n ** 31n));
      expect(env.flags).toBe(IE);
    }
    expect(toInteger(masked(), float(-(2 ** 31) - 0.5), 32)).toBe(-(2n ** 31n));
  });

  test('they come back from a format that holds them', () => {
    for (const value of [0n, 1n, -1n, (1n << 62n) + 1n, -(1n << 63n)]) {
      const env = masked();
      expect(toInteger(env, fromInteger(env, F80, value), 64)).toBe(value);
      expect(env.flags).toBe(0);
    }
  });
});

test('encodings survive unpacking, unsupported ones apart', () => {
  for (const bits of [0n, 1n, 0x7ffe_ffff_ffff_ffff_ffffn, 0xffff_8000_0000_0000_0000n, 0x7fff_a000_0000_0000_0001n])
    expect(pack(F80, unpack(F80, bits))).toBe(bits);
  // A pseudo-denormal is the number that it looks like.
  expect(pack(F80, unpack(F80, 0x0000_8000_0000_0000_0000n))).toBe(0x0001_8000_0000_0000_0000n);
});

describe('elementary functions', () => {
  const bits = 80;
  const fixed = (x: number): bigint => BigInt(Math.round(x * 2 ** 50)) << BigInt(bits - 50);
  const value = (v: bigint): number => Number(v) / 2 ** bits;

  test('agree with Math to its accuracy', () => {
    for (const x of [0.01, 0.3, 0.7, -0.5]) {
      expect(value(sine(fixed(x), bits))).toBeCloseTo(Math.sin(x), 14);
      expect(value(cosine(fixed(x), bits))).toBeCloseTo(Math.cos(x), 14);
      expect(value(exponentialMinus1(fixed(x), bits))).toBeCloseTo(Math.expm1(x), 14);
      expect(value(log2OfRatio(fixed(x), fixed(x + 2), bits))).toBeCloseTo(Math.log2(1 + x), 13);
    }
    for (const x of [0.001, 0.4, 1]) expect(value(arcTangent(fixed(x), bits))).toBeCloseTo(Math.atan(x), 14);
    expect(value(pi(bits))).toBeCloseTo(Math.PI, 15);
    expect(value(ln2(bits))).toBeCloseTo(Math.LN2, 15);
  });

  test('integer roots are exact', () => {
    for (const n of [0n, 1n, 2n, 3n, 4n, 10n ** 40n, 10n ** 40n - 1n, (1n << 300n) + 5n]) {
      const root = integerRoot(n);
      expect(root * root <= n && (root + 1n) * (root + 1n) > n).toBe(true);
    }
  });
});
