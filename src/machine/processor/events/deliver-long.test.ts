import { expect, test } from 'vitest';
import { Random } from '../../../util/random.ts';
import { loadLinear, storeLinear } from '../../mmu/access.ts';
import { flushTlb } from '../../mmu/tlb.ts';
import { NO_ERROR } from '../../outcome.ts';
import { GDT, IDT, IST1, Lab, SEL, STACK0, STACK3, TSS } from '../testing/lab.ts';
import { deliverEvent } from './deliver.ts';
import { EVENT } from './event.ts';

const VECTORS = [3, 8, 13, 14, 0x51];
const ODD_OFFSETS = [0x8000_0000_0000n, 0xffff_8000_0000_0000n];

test('delivery through TLB entries and by walks come to the same, whatever gate, handler and stack (seed 1)', () => {
  const random = new Random(1);
  const pick = <T>(of: readonly T[]): T => of[random.below(of.length)]!;
  const seldom = (): boolean => random.below(6) === 0;
  let delivered = 0;
  for (let round = 0; round < 80; round++) {
    const vector = pick(VECTORS);
    const cpl = pick([0, 3] as const);
    const gate = {
      selector: seldom() ? pick([SEL.code32, SEL.data, SEL.code64User, 0, 0x7f8]) : SEL.code64,
      offset: seldom() ? pick(ODD_OFFSETS) : 0x8100n,
      type: seldom() ? pick([5, 6, 12]) : pick([14, 15]),
      present: !seldom(),
      dpl: pick([0, 3]),
      ist: seldom() ? 1 : 0,
    };
    const rsp = (cpl === 0 ? STACK0 : STACK3) - (seldom() ? pick([0xfe8, 0x1000 - 40, 0x8001]) : random.below(64));
    const flags = 2 | (random.below(0x10000) & 0x4dd5 & (seldom() ? -1 : ~0x4100));
    const event = {
      vector,
      type: pick([EVENT.exception, EVENT.external, EVENT.software, EVENT.softwareException]),
      errorCode: random.below(2) === 0 ? NO_ERROR : random.below(0x10000),
      instructionLength: 2,
    };
    const outcomes = [false, true].map((warm) => {
      const l = new Lab('long', cpl);
      const { p } = l;
      for (const other of VECTORS) l.idt(other, { selector: SEL.code64, offset: 0x8200n, type: 14 });
      l.idt(vector, gate);
      p.setGpr(4, BigInt(rsp));
      p.rip = 0x8765n;
      p.rflags = flags;
      flushTlb(p, { global: true });
      if (warm) {
        for (const at of [GDT, IDT, IDT + vector * 16, TSS]) loadLinear(p, BigInt(at), 1, true);
        for (const at of [rsp - 64, rsp - 1, STACK0 - 64, IST1 - 64]) storeLinear(p, BigInt(at), 1, 0n, true);
      }
      const outcome = deliverEvent(p, event);
      const stacks = [STACK0, IST1].map((top) => l.machine.memory.readBytes(top - 0x1100, 0x1100));
      return { outcome, state: l.snapshot(), cpl: p.cpl, activity: p.activity, stacks };
    });
    expect(outcomes[1], `round ${round}`).toEqual(outcomes[0]);
    if (outcomes[0]!.cpl === 0 && outcomes[0]!.activity === 0) delivered++;
  }
  expect(delivered).toBeGreaterThan(30);
});
