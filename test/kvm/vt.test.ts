/** Every operation of the table, for a VM and for a TD. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { TdxHostLab } from './td-lab.ts';
import { CASES } from './vt.cases.ts';
import { ops, Subject, subjectHost } from './vt-subject.ts';

test('there is a case for every operation, and no other', () => {
  expect(Object.keys(CASES).sort()).toEqual(Object.keys(ops).sort());
});

for (const kind of ['vm', 'td'] as const) {
  describe(kind === 'vm' ? 'a VM' : 'a TD', () => {
    let lab: TdxHostLab;
    let subject: Subject;
    beforeEach(() => {
      lab ??= subjectHost();
      subject = new Subject(lab, kind);
    });
    afterEach(() => subject.close());

    test.each(Object.entries(CASES))('%s', async (_name, entry) => {
      await (typeof entry === 'function' ? entry : entry[kind])(subject);
    });
  });
}
