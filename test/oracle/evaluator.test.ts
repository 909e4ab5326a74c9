import { expect, test } from 'vitest';
import { hashData, type Result } from './case.ts';
import { describeCase } from './compare.ts';
import { Emulated } from './emulated.ts';
import { evaluateCase } from './evaluator.ts';
import { casesOf, vectorRows } from './vectors.ts';

const PER_ROW = 2;
const COMPLETE = 3;
const RF = 0x10000;

/** What the evaluation left in the machine that the interpreter's result says otherwise. */
function disagreement({ p, data }: Emulated, r: Result): string {
  const found: string[] = [];
  for (let n = 0; n < 16; n++) if (p.gpr(n) !== r.gpr[n]) found.push(`r${n} ${p.gpr(n).toString(16)}`);
  if (((p.rflags ^ r.flags) & ~RF) !== 0) found.push(`flags ${p.rflags.toString(16)}`);
  // The interpreter has executed the INT3 behind the instruction, too.
  if (p.rip + 1n !== r.rip) found.push(`rip ${p.rip.toString(16)}`);
  if (hashData(data) !== r.hash) found.push('memory');
  for (let n = 0; n < 16; n++)
    if (Buffer.compare(p.xmm(n), r.xmm.subarray(n * 16, n * 16 + 16)) !== 0) found.push(`xmm${n}`);
  for (let n = 0; n < 8; n++)
    if (Buffer.compare(p.fpr(n), r.fpr.subarray(n * 16, n * 16 + 10)) !== 0) found.push(`fpr${n}`);
  return found.join(', ');
}

test.each([64, 32] as const)('%s-bit code: the evaluator does what generated code does', (mode) => {
  const interpreted = new Emulated();
  const evaluated = new Emulated();
  const wrong: string[] = [];
  let compared = 0;
  for (const row of vectorRows(mode)) {
    for (const made of casesOf(row, mode, PER_ROW, 'evaluator')) {
      const result = interpreted.run(made.case);
      const { evaluation } = evaluateCase(evaluated, made.case);
      if (evaluation.kind !== 'done') continue;
      // A transfer to where no code can be is complete for the evaluator.
      if (result.trap !== COMPLETE) continue;
      compared++;
      const difference = disagreement(evaluated, result);
      if (difference !== '') wrong.push(`${difference}\n  ${describeCase(made.case, made.insn)}`);
    }
  }
  expect(wrong).toEqual([]);
  expect(compared).toBeGreaterThan(600);
});
