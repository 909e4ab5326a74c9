/** Random histories of a VM with private memory, against a model that knows only what is private and what was touched. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EBUSY, EFAULT } from '../../../host/errno.ts';
import { PAGE_SIZE } from '../../../util/address.ts';
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from '../../virt/guest_memfd.ts';
import { kvmSetMemoryRegion2 } from '../../virt/memslots.ts';
import { BASE_GFN, MirrorLab, SLOT_PAGES } from '../testing/mirror_lab.ts';
import { isShadowPresentPte, spteAddress } from './spte.ts';

/** Frames that steps are about, on both sides of a table's end. */
const FIRST = 505;
const FRAMES = 16;

type Step =
  | { kind: 'private' | 'shared'; frame: number; busy: number }
  | { kind: 'convert'; frame: number; count: number; toPrivate: boolean }
  | { kind: 'hole'; frame: number; count: number }
  | { kind: 'slot' };

const frame = fc.integer({ min: 0, max: FRAMES - 1 });
const count = fc.integer({ min: 1, max: 6 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constantFrom('private', 'shared'), frame, busy: fc.integer({ min: 0, max: 5 }) }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('convert'), frame, count, toPrivate: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('hole'), frame, count }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('slot') }) },
) as fc.Arbitrary<Step>;

/** What must be true of each frame: how it is mapped, and whether it is private. */
class Model {
  readonly isPrivate: boolean[] = new Array<boolean>(FRAMES).fill(false);
  readonly mapped: boolean[] = new Array<boolean>(FRAMES).fill(false);

  each(first: number, number: number, change: (frame: number) => void): void {
    for (let i = first; i < Math.min(FRAMES, first + number); i++) change(i);
  }
}

function run(lab: MirrorLab, model: Model, one: Step): void {
  switch (one.kind) {
    case 'private':
    case 'shared': {
      const wanted = one.kind === 'private';
      let left = one.busy === 0 ? Number.POSITIVE_INFINITY : one.busy;
      lab.sept.answer = () => (--left <= 0 ? -EBUSY : 0);
      const result = wanted ? lab.faultPrivate(FIRST + one.frame) : lab.faultShared(FIRST + one.frame);
      expect(result).toBe(model.isPrivate[one.frame] === wanted ? 1 : -EFAULT);
      if (result === 1 && (!wanted || left > 0)) model.mapped[one.frame] = true;
      return;
    }
    case 'convert':
      expect(lab.convert(FIRST + one.frame, Math.min(one.count, FRAMES - one.frame), one.toPrivate)).toBe(0);
      model.each(one.frame, one.count, (i) => {
        // Where the whole range is as asked already, nothing is taken away; else every mapping of the other kind.
        if (model.isPrivate[i] !== one.toPrivate) model.mapped[i] = false;
        model.isPrivate[i] = one.toPrivate;
      });
      return;
    case 'hole': {
      const length = Math.min(one.count, FRAMES - one.frame) * PAGE_SIZE;
      lab.file.fallocate(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, (FIRST + one.frame) * PAGE_SIZE, length);
      model.each(one.frame, one.count, (i) => {
        if (model.isPrivate[i]) model.mapped[i] = false;
      });
      return;
    }
    case 'slot':
      expect(kvmSetMemoryRegion2(lab.vm, { ...lab.slot(), memorySize: 0 })).toBe(0);
      expect(kvmSetMemoryRegion2(lab.vm, lab.slot())).toBe(0);
      model.mapped.fill(false);
  }
}

function check(lab: MirrorLab, model: Model): void {
  const { tdpMmu, mirrorMmu } = lab.vm.arch;
  let privatePages = 0;
  for (let i = 0; i < FRAMES; i++) {
    const gfn = BASE_GFN + FIRST + i;
    const leaf = lab.sept.leaves.get(gfn);
    const mirror = mirrorMmu!.lookup(gfn);
    const inMirror = mirror !== null && isShadowPresentPte(mirror.spte);
    const direct = tdpMmu.lookup(gfn);
    const inDirect = direct !== null && isShadowPresentPte(direct.spte);
    const privateMapping = model.isPrivate[i]! && model.mapped[i]!;
    expect([i, leaf !== undefined, inMirror, inDirect]).toEqual([
      i,
      privateMapping,
      privateMapping,
      !model.isPrivate[i] && model.mapped[i]!,
    ]);
    if (leaf === undefined) continue;
    privatePages++;
    expect(leaf).toBe(spteAddress(mirror!.spte));
    expect(leaf).toBe(lab.file.residentPage(FIRST + i));
  }
  expect(lab.sept.leaves.size).toBe(privatePages);
  // Every table of the mirror but its root has one page behind it.
  expect(lab.sept.tables.size).toBe(Math.max(0, mirrorMmu!.tables - 1));
}

test('mirror, real tables, direct tables and attributes always agree, and everything comes back', () => {
  expect(FIRST + FRAMES).toBeLessThan(SLOT_PAGES);
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 40 }), (steps) => {
      const lab = new MirrorLab();
      const before = lab.host.pages.freePages;
      const model = new Model();
      for (const one of steps) {
        run(lab, model, one);
        check(lab, model);
      }
      lab.sept.answer = () => 0;
      lab.close();
      expect(lab.sept.leaves.size + lab.sept.tables.size).toBe(0);
      expect(lab.host.pages.freePages).toBeGreaterThanOrEqual(before);
      expect(lab.vm.vmBugged).toBe(false);
    }),
    { numRuns: 60, seed: 4 },
  );
});
