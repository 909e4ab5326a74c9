/**
 * How MMX and SSE integer instructions share one description: the operation works on 128 bits; the MMX form widens its
 * 64-bit operands and keeps the low half.
 * @sdm the pages of PADDB and its kin, which list the MMX and the XMM forms together
 */
import { FTAG, FTOP } from '../../engine/layout.ts';
import type { Cpu } from '../cpu.ts';
import { constant, type Expr } from '../expr.ts';
import { define, type Traits } from '../row.ts';
import { lane, splat, type V } from '../vector.ts';
import { vexBinary, vexUnary } from './avx-lanes.ts';

/** Every MMX instruction but EMMS makes all x87 registers valid and resets TOP. */
export function touchMmx(cpu: Cpu): void {
  cpu.setState(FTOP, constant(8, 0));
  cpu.setState(FTAG, constant(8, 0xff));
}

/** An MMX or XMM operand as a vector; MMX values stand in both halves. */
export function readLanes(cpu: Cpu, index: number): V {
  return cpu.width(index) === (128 as number) ? cpu.readVector(index) : splat(cpu.read(index) as Expr<64>);
}
/** Writes a vector result to an MMX or XMM destination. */
export function writeLanes(cpu: Cpu, index: number, value: V): void {
  if (cpu.width(index) === (128 as number)) {
    cpu.writeVector(index, value);
    return;
  }
  const low = cpu.code.let(lane(value, 64, 0));
  cpu.write(index, low);
  touchMmx(cpu);
}

export const sse = (feature: string, traits: Traits = {}): Traits => ({ unit: 'sse', feature, ...traits });
export const mmx = (traits: Traits = {}): Traits => ({ unit: 'mmx', feature: 'mmx', ...traits });

/**
 * dst = op(dst, src) on both register files, `0F xx Pq,Qq` and `66 0F xx Vdq,Wdq`, and the VEX forms of the latter.
 * @param unary op ignores dst; the VEX forms have two operands
 */
export function bothFiles(
  mnemonic: string,
  opcode: string,
  feature: string,
  op: (dst: V, src: V) => V,
  map = '0F',
  unary = false,
): void {
  const body = (cpu: Cpu): void => {
    const dst = readLanes(cpu, 0),
      src = readLanes(cpu, 1);
    writeLanes(cpu, 0, op(dst, src));
  };
  define(mnemonic, mmx({ feature: feature === 'sse2' ? 'mmx' : feature }), `NP ${map} ${opcode} Pq,Qq`, body);
  define(mnemonic, sse(feature), `66 ${map} ${opcode} Vdq,Wdq`, body);
  const encoding = `66 ${map} ${opcode}`;
  if (unary) vexUnary(`V${mnemonic}`, encoding, (a) => op(a, a));
  else vexBinary(`V${mnemonic}`, encoding, op);
}

/** dst = op(dst, src) on XMM only, and the VEX forms. */
export function xmmOnly(mnemonic: string, encoding: string, feature: string, op: (dst: V, src: V) => V): void {
  define(mnemonic, sse(feature), `${encoding} Vdq,Wdq`, (cpu) => {
    const dst = cpu.readVector(0),
      src = cpu.readVector(1);
    cpu.writeVector(0, op(dst, src));
  });
  vexBinary(`V${mnemonic}`, encoding, op);
}
