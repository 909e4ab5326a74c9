/** The CVT family and ROUNDPS in full. @sdm "CVTDQ2PD" to "CVTTSS2SI", "ROUNDPD" */
import { FSW } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { MF, type Outcome } from '../outcome.ts';
import { readOperand, writeGpr } from '../processor/operands.ts';
import type { Processor } from '../processor.ts';
import { convert, fromInteger, roundToIntegral, toInteger } from '../softfloat/convert.ts';
import { type Environment, type Rounding, TRUNCATE } from '../softfloat/environment.ts';
import { F32, F64, type Format, pack } from '../softfloat/float.ts';
import { operand } from '../softfloat/operands.ts';
import { implementBoth, type LaneWidth, lastSource, readLanes, touchMmx, twoOperands, writeLanes } from './lanes.ts';
import { environmentOf, finish } from './mxcsr.ts';

/** Exception summary of the x87 status word. */
const FSW_ES = 0x80;

type Convert = (env: Environment, value: bigint) => bigint;

const toInt =
  (format: Format, bits: number, rounding?: Rounding): Convert =>
  (env, value) =>
    toInteger(env, operand(env, format, value), bits, rounding);
const fromInt =
  (format: Format, bits: number): Convert =>
  (env, value) =>
    pack(format, fromInteger(env, format, BigInt.asIntN(bits, value)));
const between =
  (from: Format, to: Format): Convert =>
  (env, value) =>
    pack(to, convert(env, to, operand(env, from, value)));

/** MMX operands: pending x87 exceptions first, and then the x87 registers become MMX's. */
function mmxReady(p: Processor, insn: Insn): boolean {
  return !insn.operands.some((o) => o.file === 'mmx') || (p.read16(FSW) & FSW_ES) === 0;
}

/**
 * dst lanes of `to` bits from `count` source lanes of `from` bits; `clear` zero lanes follow.
 * An MMX register among the operands is a use of MMX.
 */
function lanes(mnemonic: string, from: LaneWidth, to: LaneWidth, count: number, one: Convert, clear: number = 0): void {
  const define = /2PI|PI2/.test(mnemonic) ? implement : implementBoth;
  define(mnemonic, (p, insn) => {
    if (!mmxReady(p, insn)) return p.raise(MF);
    const source = readLanes(p, insn, lastSource(insn), from);
    if (source === undefined) return p.outcome;
    const env = environmentOf(p);
    const whole = insn.operands.some((o) => o.width === 256) ? count * 2 : count;
    const result = source.slice(0, whole).map((value) => one(env, value));
    for (let i = 0; i < clear && insn.row.vex < 0; i++) result.push(0n);
    // The change to MMX happens even if the conversion faults.
    if (insn.operands.some((o) => o.file === 'mmx')) touchMmx(p);
    return finish(p, env, () => void writeLanes(p, insn, 0, to, result));
  });
}
lanes('CVTPI2PS', 32, 32, 2, fromInt(F32, 32));
lanes('CVTPI2PD', 32, 64, 2, fromInt(F64, 32));
lanes('CVTPS2PI', 32, 32, 2, toInt(F32, 32));
lanes('CVTPD2PI', 64, 32, 2, toInt(F64, 32));
lanes('CVTTPS2PI', 32, 32, 2, toInt(F32, 32, TRUNCATE));
lanes('CVTTPD2PI', 64, 32, 2, toInt(F64, 32, TRUNCATE));
lanes('CVTPS2PD', 32, 64, 2, between(F32, F64));
lanes('CVTPD2PS', 64, 32, 2, between(F64, F32), 2);
lanes('CVTSS2SD', 32, 64, 1, between(F32, F64));
lanes('CVTSD2SS', 64, 32, 1, between(F64, F32));
lanes('CVTDQ2PS', 32, 32, 4, fromInt(F32, 32));
lanes('CVTDQ2PD', 32, 64, 2, fromInt(F64, 32));
lanes('CVTPS2DQ', 32, 32, 4, toInt(F32, 32));
lanes('CVTTPS2DQ', 32, 32, 4, toInt(F32, 32, TRUNCATE));
lanes('CVTPD2DQ', 64, 32, 2, toInt(F64, 32), 2);
lanes('CVTTPD2DQ', 64, 32, 2, toInt(F64, 32, TRUNCATE), 2);

for (const [suffix, format, bits] of [
  ['SS', F32, 32],
  ['SD', F64, 64],
] as const) {
  implementBoth(`CVTSI2${suffix}`, (p, insn) => {
    const source = lastSource(insn);
    const value = readOperand(p, insn, source);
    if (value === undefined) return p.outcome;
    const env = environmentOf(p);
    const result = fromInt(format, insn.operands[source]!.width)(env, value);
    return finish(p, env, () => void writeLanes(p, insn, 0, bits, [result]));
  });
  const toGpr = (mnemonic: string, rounding?: Rounding): void =>
    implementBoth(mnemonic, (p, insn) => {
      const source = readLanes(p, insn, 1, bits);
      if (source === undefined) return p.outcome;
      const { register, width } = insn.operands[0]!;
      const env = environmentOf(p);
      const result = toInt(format, width, rounding)(env, source[0]!);
      return finish(p, env, () => void writeGpr(p, register, width, result));
    });
  toGpr(`CVT${suffix}2SI`);
  toGpr(`CVTT${suffix}2SI`, TRUNCATE);
}

/** Immediate bits: 1:0 rounding, 2 use MXCSR's, 3 no precision exception. Denormals raise nothing. */
function rounding(p: Processor, insn: Insn, format: Format, bits: 32 | 64): Outcome {
  return twoOperands(p, insn, bits, (_, b) => {
    const env = environmentOf(p);
    const imm = Number(insn.immediate);
    const mode = imm & 4 ? env.rounding : ((imm & 3) as Rounding);
    const result = b.map((value) =>
      pack(format, roundToIntegral(env, operand(env, format, value), mode, (imm & 8) !== 0)),
    );
    return finish(p, env, () => void writeLanes(p, insn, 0, bits, result));
  });
}
for (const suffix of ['PS', 'SS']) implementBoth(`ROUND${suffix}`, (p, insn) => rounding(p, insn, F32, 32));
for (const suffix of ['PD', 'SD']) implementBoth(`ROUND${suffix}`, (p, insn) => rounding(p, insn, F64, 64));
