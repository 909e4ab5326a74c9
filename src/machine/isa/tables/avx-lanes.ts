/**
 * How VEX-encoded vector instructions are described: an operation on 128 bits, applied to one half or to both.
 *
 * Most are SSE instructions with a destination of their own, under the same opcode, so simd-lanes.ts defines them along with these.
 * @sdm "Intel Advanced Vector Extensions (Intel AVX)", "VEX Encoding Support"
 */
import type { Cpu } from '../cpu.ts';
import type { Expr, Width } from '../expr.ts';
import { define, type Traits } from '../row.ts';
import { type V, vZero, withLane } from '../vector.ts';

export const avx = (feature: string, traits: Traits = {}): Traits => ({ unit: 'avx', feature, dst: 'w', ...traits });

/** `66 0F FC` with VEX.L0 or L1, and what follows, between prefix and map. */
export const vex = (encoding: string, l: string): string => encoding.replace(/^(\w+) /, `$1 VEX.${l} `);

/** Integer operations on 256 bits came with AVX2, and so did some instructions as a whole. */
const ALL_AVX2 = /^VP(BLENDD|S[RL]LV|SRAV|BROADCAST|MASKMOV)/;
const ALL_AVX = /^VP(TEST|ERMIL)/;
const features = (mnemonic: string): readonly [of128: string, of256: string] => {
  if (ALL_AVX2.test(mnemonic)) return ['avx2', 'avx2'];
  return ['avx', mnemonic.startsWith('VP') && !ALL_AVX.test(mnemonic) ? 'avx2' : 'avx'];
};

/**
 * An instruction in both widths. `operands` are in the notation of the rows with `x` for dq or qq, as in `Vx,Hx,Wx`.
 * @param encoding prefix, map, opcode and extension, without VEX
 */
export function bothWidths(
  mnemonic: string,
  encoding: string,
  operands: string,
  semantics: (cpu: Cpu) => void,
  traits: Traits = {},
): void {
  const [of128, of256] = features(mnemonic);
  const line = (l: string, size: string): string => `${vex(encoding, l)} ${operands.replaceAll('x', size)}`;
  define(mnemonic, avx(of128, traits), line('L0', 'dq'), semantics);
  define(mnemonic, avx(of256, traits), line('L1', 'qq'), semantics);
}

/** dst = op(first source, second source), half by half. */
export function vexBinary(mnemonic: string, encoding: string, op: (a: V, b: V, cpu: Cpu) => V): void {
  bothWidths(mnemonic, encoding, 'Vx,Hx,Wx', (cpu) => {
    const a = cpu.readHalves(1),
      b = cpu.readHalves(2);
    // Both halves before the first is written: a second one may still leave to TypeScript.
    cpu.writeHalves(
      0,
      a.map((half, i) => op(half, b[i]!, cpu)),
    );
  });
}

/** dst = op(source), half by half. */
export function vexUnary(mnemonic: string, encoding: string, op: (a: V, cpu: Cpu) => V): void {
  bothWidths(mnemonic, encoding, 'Vx,Wx', (cpu) =>
    cpu.writeHalves(
      0,
      cpu.readHalves(1).map((half) => op(half, cpu)),
    ),
  );
}

/** dst = op(first source, second source, immediate), half by half. */
export function vexImmediate(
  mnemonic: string,
  encoding: string,
  op: (a: V, b: V, immediate: Expr<8>, half: number, cpu: Cpu) => V,
): void {
  bothWidths(mnemonic, encoding, 'Vx,Hx,Wx,Ib', (cpu) => {
    const a = cpu.readHalves(1),
      b = cpu.readHalves(2);
    const immediate = cpu.code.let(cpu.read(3) as Expr<8>);
    cpu.writeHalves(
      0,
      a.map((half, i) => op(half, b[i]!, immediate, i, cpu)),
    );
  });
}

/** dst = op(source, immediate), half by half. */
export function vexUnaryImmediate(
  mnemonic: string,
  encoding: string,
  op: (a: V, immediate: Expr<8>, half: number, cpu: Cpu) => V,
): void {
  bothWidths(mnemonic, encoding, 'Vx,Wx,Ib', (cpu) => {
    const a = cpu.readHalves(1);
    const immediate = cpu.code.let(cpu.read(2) as Expr<8>);
    cpu.writeHalves(
      0,
      a.map((half, i) => op(half, immediate, i, cpu)),
    );
  });
}

/** Writes a scalar result: the bits above it come from operand 1. */
export const writeScalar = (cpu: Cpu, value: Expr<Width>): void =>
  cpu.writeHalves(0, [withLane(cpu.readHalves(1)[0]!, 0, value)]);
/** A scalar into the bottom of a cleared register. */
export const writeZeroing = (cpu: Cpu, value: Expr<Width>): void => cpu.writeHalves(0, [withLane(vZero(), 0, value)]);
