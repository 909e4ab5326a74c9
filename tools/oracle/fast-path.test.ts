import { describe, expect, test } from 'vitest';
import { type AvxCase, avxCases, avxFrame } from './avx-cases.ts';
import { EmulatedProcessor } from './emulated.ts';
import { FX } from './frame.ts';
import { blank, type SseCase, sseCases } from './sse-cases.ts';
import { Values } from './values.ts';

const emulated = new EmulatedProcessor();
/** All TypeScript's, whatever the operands. */
const NO_FAST_PATH = /^(DPP|R(CP|SQRT)|SHA|AES|PCLMUL|PCMP)|PI/;
const fast = sseCases.filter(({ name }) => !NO_FAST_PATH.test(name));

/** How often an instruction on these lanes was left to TypeScript. */
function assists(instruction: SseCase, mxcsr: number, a: number, b: number): number {
  const frame = blank();
  frame.code = [...instruction.opcode, instruction.fromGpr ? 0xc8 : 0xca, ...(instruction.immediate ? [0] : [])];
  const view = frame.fxView;
  view.setUint32(FX.mxcsr, mxcsr, true);
  for (const [at, value] of [
    [FX.xmm + 16, a],
    [FX.xmm + 32, b],
  ] as const) {
    for (let i = 0; i < 16; i += instruction.lanes === 'f32' ? 4 : 8) {
      if (instruction.lanes === 'f32') view.setFloat32(at + i, value, true);
      else if (instruction.lanes === 'f64') view.setFloat64(at + i, value, true);
      else view.setBigInt64(at + i, BigInt(Math.round(b)), true);
    }
  }
  frame.setGpr(0, BigInt(Math.round(b)));
  const before = emulated.assists;
  emulated.run(frame);
  return emulated.assists - before;
}

test.each(fast.map((c) => [c.name, c] as const))('%s on ordinary numbers stays in generated code', (_, instruction) => {
  expect(assists(instruction, 0x1fa0, Math.PI, 1234.56789)).toBe(0);
});

test.each(fast.map((c) => [c.name, c] as const))(
  '%s with an exact result does, too, before any inexact one',
  (_, instruction) => {
    expect(assists(instruction, 0x1f80, 64, 16)).toBe(0);
  },
);

test.each(fast.map((c) => [c.name, c] as const))('%s does not mind FTZ, DAZ and other masks', (_, instruction) => {
  expect(assists(instruction, 0x9060, 2.75, 1234.56789)).toBe(0);
});

test('the first inexact result is TypeScript’s', () => {
  const divide = fast.find(({ name }) => name === 'DIVSD')!;
  expect(assists(divide, 0x1f80, 1, 3)).toBe(1);
});

describe('AVX and FMA', () => {
  const NEVER = /^V(DP|R(CP|SQRT)|AES|PCLMUL|PCMP|CVTP[HS]2P[HS])/;
  const cases = avxCases.filter(({ name, lanes }) => !NEVER.test(name) && lanes !== 'text');

  /** How often an instruction on ordinary numbers in all lanes was left to TypeScript. */
  function left(test: AvxCase, mxcsr: number): number {
    const frame = avxFrame(new Values(1), test);
    frame.fxView.setUint32(FX.mxcsr, mxcsr, true);
    const fill = (bytes: Uint8Array, value: number): void => {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      for (let i = 0; i < bytes.length; i += test.lanes === 'f32' ? 4 : 8) {
        if (test.lanes === 'f32') view.setFloat32(i, value, true);
        else if (test.lanes === 'f64') view.setFloat64(i, value, true);
        else view.setBigInt64(i, BigInt(Math.round(value)), true);
      }
    };
    fill(frame.fx.subarray(FX.xmm, FX.xmm + 256), 1234.56789);
    fill(frame.ymm, 2.5);
    fill(frame.memory, 1234.56789);
    frame.setGpr(0, 1234n);
    const before = emulated.assists;
    emulated.run(frame);
    return emulated.assists - before;
  }
  test.each(cases.map((c) => [c.name, c] as const))(
    '%s on ordinary numbers stays in generated code',
    (_, instruction) => {
      expect(left(instruction, 0x1fa0)).toBe(0);
    },
  );
});
