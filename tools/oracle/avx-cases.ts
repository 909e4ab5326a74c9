/** AVX floating point, FMA and F16C under test: the rows of the instruction tables, with the operands that they like. */
import { encode, type OperandValue } from '../../src/machine/isa/assembler/encode.ts';
import '../../src/machine/isa/index.ts';
import { type Row, rows } from '../../src/machine/isa/row.ts';
import { type Frame, FX } from './frame.ts';
import { blank, type LaneType, mxcsr, vector } from './sse-cases.ts';
import type { Values } from './values.ts';

export interface AvxCase {
  readonly name: string;
  readonly row: Row;
  readonly lanes: LaneType | 'f16';
  readonly operandSize: 32 | 64;
}

const FLOATING =
  /^V(ADD|SUB|MUL|DIV|MIN|MAX|SQRT|CMP|U?COMI|HADD|HSUB|DP|ROUND|RCP|RSQRT|CVT|FN?M(ADD|SUB)|AES|PCLMUL|PCMP[EI]STR)/;

/** The type of the source's lanes. */
function lanesOf(mnemonic: string): LaneType | 'f16' {
  if (/^V(AES|PCLMUL)/.test(mnemonic)) return 'byte';
  if (/^VPCMP/.test(mnemonic)) return 'text';
  const conversion = /^VCVTT?(PS|PD|SS|SD|DQ|SI|PH)2/.exec(mnemonic)?.[1];
  const type = conversion ?? mnemonic.slice(-2);
  return ({ PS: 'f32', SS: 'f32', PD: 'f64', SD: 'f64', DQ: 'i32', SI: 'i64', PH: 'f16' } as const)[type] ?? 'byte';
}

/** By name: seeds go by their places. */
export const avxCases: readonly AvxCase[] = rows
  .filter(({ operation }) => operation.unit === 'avx' && FLOATING.test(operation.mnemonic))
  .flatMap((row) => {
    const lanes = lanesOf(row.operation.mnemonic);
    const sizes = row.operands.some(({ size }) => size === 'y') ? ([32, 64] as const) : ([32] as const);
    return sizes.map((operandSize) => ({
      name: `${row.operation.mnemonic} ${row.text}${operandSize === 64 ? ' W1' : ''}`,
      row,
      lanes,
      operandSize,
    }));
  })
  .sort((a, b) => (a.name < b.name ? -1 : 1));

const RCX = 1;
const RDI = 7;
const AT_RDI: OperandValue = {
  kind: 'memory',
  memory: { base: RDI, index: -1, scale: 0, disp: 0, ripRelative: false, segment: 3 },
};
/** Registers by operand letter; a letter that is not here may be memory. */
const REGISTERS: Readonly<Record<string, number>> = { V: 1, H: 2, W: 3, U: 3, G: RCX, E: 0 };

function halves(values: Values): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < 8; i++) view.setUint16(i * 2, Number(values.float(5, 10)), true);
  return bytes;
}

/** A random frame: YMM1 to YMM3 and memory hold lanes of the source's type. */
export function avxFrame(values: Values, { row, lanes, operandSize }: AvxCase): Frame {
  const frame = blank();
  const fromMemory = row.form !== 'reg' && values.chance(4);
  const operands = row.operands.map(({ letter }): OperandValue => {
    if (letter === 'I') return { kind: 'immediate', value: BigInt(values.u32() & 0xff) };
    if (letter === 'M' || ('WE'.includes(letter) && fromMemory)) return AT_RDI;
    return { kind: 'register', register: REGISTERS[letter]! };
  });
  frame.code = encode({ row, mode: 64, operandSize, addressSize: 64, operands });
  frame.fxView.setUint32(FX.mxcsr, mxcsr(values), true);
  const random = (): Uint8Array => (lanes === 'f16' ? halves(values) : vector(values, lanes));
  for (const n of [1, 2, 3]) {
    frame.fx.set(random(), FX.xmm + n * 16);
    frame.ymm.set(random(), n * 16);
  }
  // Related operands: equal ones, negated ones, neighbours.
  if (values.chance(6)) {
    const copy = frame.fx.slice(FX.xmm + 32, FX.xmm + 48);
    if (values.chance(2)) copy[values.below(16)]! ^= 1 << values.below(8);
    if (values.chance(2)) copy[lanes === 'f32' ? 3 : 7]! ^= 0x80;
    frame.fx.set(copy, FX.xmm + 48);
  }
  frame.memory.set(frame.fx.subarray(FX.xmm + 48, FX.xmm + 64));
  frame.memory.set(frame.ymm.subarray(48, 64), 16);
  for (const n of [0, 1, 2]) frame.setGpr(n, values.integer(64));
  if (lanes === 'text') {
    // Lengths near those of the operands, and flags to be overwritten.
    if (!values.chance(4)) frame.setGpr(0, BigInt(values.below(40) - 20));
    if (!values.chance(4)) frame.setGpr(2, BigInt(values.below(40) - 20));
  }
  return frame;
}
