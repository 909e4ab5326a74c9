/** What is compared with the real processor: suites of tests, each an instruction with its frames by seed. */
import { avxCases, avxFrame } from './avx-cases.ts';
import type { Frame } from './frame.ts';
import { sseCases, sseFrame } from './sse-cases.ts';
import { Values } from './values.ts';
import { isTranscendental, x87Cases, x87Frame } from './x87-cases.ts';

export interface InstructionTest {
  readonly name: string;
  /** Results may differ in the last place of x87 registers. */
  readonly approximate: boolean;
  frames(seed: number, count: number): Frame[];
}

function seeded(name: string, index: number, approximate: boolean, frame: (values: Values) => Frame): InstructionTest {
  const frames = (seed: number, count: number): Frame[] => {
    const values = new Values(seed * 0x10001 + index);
    return Array.from({ length: count }, () => frame(values));
  };
  return { name, approximate, frames };
}

export const suites: Readonly<Record<'sse' | 'x87' | 'avx', readonly InstructionTest[]>> = {
  sse: sseCases.map((test, i) => seeded(test.name, i, false, (values) => sseFrame(values, test))),
  avx: avxCases.map((test, i) => seeded(test.name, i, false, (values) => avxFrame(values, test))),
  x87: x87Cases.map((test, i) => seeded(test.name, i, isTranscendental(test), (values) => x87Frame(values, test))),
};

/** Differences between what the emulated processor did and what it should have done. */
export const differences = (test: InstructionTest, actual: Frame, expected: Frame): string[] =>
  (test.approximate ? actual.tolerating(expected) : actual).differences(expected);

/** Frames of each instruction in the recorded vectors, and their seed. */
export const RECORDED = { sse: 80, x87: 40, avx: 40 } as const;
export const RECORDED_SEED = 1;
