import { expect, test } from 'vitest';
import { Random } from '../../../util/random.ts';
import { flushTlb } from '../../mmu/tlb.ts';
import { Lab, SEL, STACK0 } from '../testing/lab.ts';

const IRETQ = '48 cf';
const SELECTORS = [SEL.code64, SEL.data, SEL.code32, SEL.code64User, SEL.dataUser, 0];
const RIPS = [0x8000n, 0xffff_8000_0000_0000n, 0x8000_0000_0000n, 0x7fff_ffff_ffffn];
/** Status flags, IF, DF; with one of the others now and then. */
const FLAGS = [0, 0, 0, 0x100, 0x4000, 0x3000, 0x10000, 0x40000, 0x20000, 0x200000, 0x100000];

test('IRETQ through TLB entries and by walks come to the same, whatever the frame (seed 1)', () => {
  const random = new Random(1);
  const pick = <T>(of: readonly T[]): T => of[random.below(of.length)]!;
  let returned = 0;
  for (let round = 0; round < 80; round++) {
    const same = random.below(3) > 0;
    const nullStack = random.below(2) > 0;
    const user = random.below(3) === 0;
    const flags = 2 | (random.below(0x10000) & 0xed5) | pick(FLAGS);
    const before = 2 | (random.below(0x10000) & 0xed5) | (random.below(4) === 0 ? pick(FLAGS) & ~0x120100 : 0);
    const frame = [
      pick(RIPS),
      user ? SEL.code64User : same ? SEL.code64 : pick(SELECTORS),
      flags,
      STACK0 - 0x100,
      user ? SEL.dataUser : same ? (nullStack ? 0 : SEL.data) : pick(SELECTORS),
    ];
    const outcomes = [false, true].map((warm) => {
      const l = new Lab('long');
      l.p.setGpr(0, BigInt(SEL.data));
      l.p.setGpr(4, BigInt(STACK0));
      l.p.rflags = before;
      l.p.rip = 0x8000n;
      l.p.nmiBlocked = true;
      l.push(8, ...frame.toReversed());
      flushTlb(l.p, { global: true });
      // Pushing and popping brings entries for the stack, loading a segment those for the GDT.
      if (warm) for (const hex of ['50', '58', '8e d8']) l.run(hex);
      if (nullStack) Object.assign(l.p.segments[2]!, { selector: 0, base: 0n, limit: 0, attributes: 0x10000 });
      // Some of the segments a program may keep, and some it may not.
      if (user && same) for (const n of [0, 3, 4, 5]) Object.assign(l.p.segments[n]!, { attributes: 0x10000 });
      l.p.syncSegments();
      l.p.rip = 0x8000n;
      const result = l.run(IRETQ);
      const state = l.snapshot();
      return { result, state, shadow: l.p.interruptShadow, nmi: l.p.nmiBlocked, cpl: l.p.cpl };
    });
    expect(outcomes[1], `round ${round}: ${frame.join()}`).toEqual(outcomes[0]);
    if (outcomes[0]!.result.vector < 0) returned++;
  }
  expect(returned).toBeGreaterThan(10);
});
