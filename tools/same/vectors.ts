/** The cases of the instruction vectors, each executed by a region and by the interpreter. */

import type { Case } from '../../test/oracle/case.ts';
import { describeCase, digest } from '../../test/oracle/compare.ts';
import { Emulated } from '../../test/oracle/emulated.ts';
import { casesOf, vectorRows } from '../../test/oracle/vectors.ts';

/** What came of it. */
export interface VectorResult {
  readonly cases: number;
  /** Entries of regions: not every instruction can be in one. */
  readonly entries: number;
  /** The first case that ended otherwise, or null. */
  readonly difference: string | null;
}

/** Translates the instruction at a case's RIP before it is executed. */
function translate({ machine, p }: Emulated, { rip }: Case): void {
  const { engine, memory } = machine;
  const offset = rip % 4096;
  const table = engine.codePage(rip - offset, p.codeMode);
  engine.pages.decodeAt(rip - offset, p.codeMode, offset);
  engine.translator!.hot(memory.view.getUint32(table + offset * 4, true));
}

/** @param perRow cases of each encoding */
export function compareVectors(mode: 32 | 64, perRow: number, salt = ''): VectorResult {
  const plain = new Emulated({ translator: 'off' });
  const translated = new Emulated({ translator: 'on', translatorThreshold: 0xffff });
  const translator = translated.machine.engine.translator!;
  translator.batch = 1;
  translator.counting = true;
  const entries = (): number => translated.machine.engine.statistics().translated!.entries;
  const done = { cases: 0 };
  for (const row of vectorRows(mode)) {
    for (const made of casesOf(row, mode, perRow, salt)) {
      done.cases++;
      const expected = digest(plain.run(made.case), made.case);
      const got = digest(
        translated.run(made.case, () => translate(translated, made.case)),
        made.case,
      );
      if (got !== expected) {
        return { ...done, entries: entries(), difference: describeCase(made.case, made.insn) };
      }
    }
  }
  return { ...done, entries: entries(), difference: null };
}
