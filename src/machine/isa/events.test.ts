/** Events, returns and system calls as generated code makes them where everything is at hand, against the general way. */
import { describe, expect, test, vi } from 'vitest';
import { Random } from '../../util/random.ts';
import { CPL, DIRECTION, FMASK, LSTAR, RSP, SLOW_FLAGS, STAR, TLB_BASE } from '../engine/layout.ts';
import { loadLinear, storeLinear } from '../mmu/access.ts';
import { flushTlb } from '../mmu/tlb.ts';
import { EMPTY_BANK } from '../mmu/tlb-banks.ts';
import { DONE, NO_ERROR } from '../outcome.ts';
import { deliverEvent } from '../processor/events/deliver.ts';
import { EVENT } from '../processor/events/event.ts';
import { privilegeChanged, setCpl } from '../processor/rip.ts';
import { CODE, GDT, IDT, IST1, Lab, SEL, STACK0, STACK3, TSS } from '../processor/testing/lab.ts';
import { CR4_SMAP } from '../processor.ts';
import { runProcessor } from '../run.ts';
import { writeCr4 } from '../system/control-registers.ts';

/** As text bytes are compared at once. */
const latin1 = new TextDecoder('latin1');

const VECTORS = [3, 6, 8, 13, 14, 0x51];
const HANDLER = 0xa000;
const ODD_RIPS = [0xffff_8000_0000_0000n, 0x8000_0000_0000n, 0x7fff_ffff_ffffn];
/** Bits of RFLAGS that a frame changes seldom: TF, NT, IOPL, RF, AC, VM, ID, VIP. */
const ODD_FLAGS = [0x100, 0x4000, 0x3000, 0x10000, 0x40000, 0x20000, 0x200000, 0x100000];

class Chance {
  readonly random: Random;
  constructor(seed: number) {
    this.random = new Random(seed);
  }
  pick<T>(of: readonly T[]): T {
    return of[this.random.below(of.length)]!;
  }
  seldom(): boolean {
    return this.random.below(6) === 0;
  }
  flags(): number {
    return 2 | (this.random.below(0x10000) & 0xed5) | (this.seldom() ? this.pick(ODD_FLAGS) : 0);
  }
  rip(): bigint {
    return this.seldom() ? this.pick(ODD_RIPS) : BigInt(HANDLER + this.random.below(64));
  }
}

/** A lab with gates for everything. With SMAP the pages below 2 MiB are the kernel's, so level 3 does not get far. */
function lab(cpl: 0 | 3, smap: boolean): Lab {
  const l = new Lab('long', cpl);
  // NOPs, and a jump to itself.
  l.machine.memory.writeBytes(HANDLER, new Uint8Array(0x100).fill(0x90));
  l.machine.memory.writeBytes(HANDLER + 0x100, Uint8Array.of(0xeb, 0xfe));
  for (const vector of VECTORS) l.idt(vector, { selector: SEL.code64, offset: BigInt(HANDLER), type: 14 });
  if (smap) expect(writeCr4(l.p, BigInt(l.p.cr4 | CR4_SMAP))).toBe(DONE);
  return l;
}

/** Brings TLB entries for tables and stacks, at the levels that have them, and keeps the banks of both. */
function warm(l: Lab, stacks: readonly number[]): void {
  const { p } = l;
  const { cpl } = p;
  for (const level of [3, 0]) {
    setCpl(p, level);
    for (const at of stacks) storeLinear(p, BigInt(at), 1, loadLinear(p, BigInt(at), 1) ?? 0n);
  }
  for (const at of [GDT, IDT, IDT + 0x510, TSS]) loadLinear(p, BigInt(at), 1, true);
  for (const at of stacks) storeLinear(p, BigInt(at), 1, loadLinear(p, BigInt(at), 1, true) ?? 0n, true);
  setCpl(p, cpl);
}

/** Everything that must not depend on the way. */
function stateOf(l: Lab): unknown {
  const { p } = l;
  const words = [CPL, DIRECTION, SLOW_FLAGS].map((at) => p.read32(at));
  const bank = p.read32(TLB_BASE);
  return {
    state: l.snapshot(),
    words,
    class: p.mmu.class,
    bankIsOfClass: bank === EMPTY_BANK || bank === p.mmu.context.banks[p.mmu.class],
    nmi: p.nmiBlocked,
    debug: p.pendingDebug,
    time: l.machine.clock.now(),
    stacks: [STACK0, STACK3, IST1].map((top) => latin1.decode(l.machine.memory.readBytes(top - 0x1100, 0x1100))),
  };
}

/** Executes an instruction and what follows to the next jump, a fault there included; tells whether TypeScript had to. */
function execute(l: Lab, hex: string): boolean {
  const { p, machine } = l;
  const insn = l.decode(hex);
  p.rip = BigInt(CODE);
  const { assists } = machine.engine.counters;
  runProcessor(p, machine.clock.now() + 2);
  return assists.has(insn.row.operation.mnemonic);
}

interface Case {
  readonly hex: string;
  readonly cpl: 0 | 3;
  readonly smap: boolean;
  readonly stacks: readonly number[];
  prepare(l: Lab): void;
}

/** Runs a case both ways; whether generated code did it. */
function bothWays({ hex, cpl, smap, stacks, prepare }: Case, what: string): boolean {
  let quick = false;
  const [general, direct] = [false, true].map((isWarm) => {
    const l = lab(cpl, smap);
    prepare(l);
    flushTlb(l.p, { global: true });
    if (isWarm) warm(l, stacks);
    quick = !execute(l, hex);
    if (!isWarm) expect(quick, `${what}: TLB entries came from nowhere`).toBe(false);
    return stateOf(l);
  });
  expect(direct, what).toEqual(general);
  expect((general as { bankIsOfClass: boolean }).bankIsOfClass).toBe(true);
  return quick;
}

describe('in generated code and in TypeScript the same comes of', () => {
  test('IRETQ, whatever the frame (seed 1)', () => {
    const c = new Chance(1);
    let quick = 0;
    for (let round = 0; round < 60; round++) {
      const user = c.random.below(2) === 0;
      const odd = c.seldom();
      const selectors = [SEL.code64, SEL.data, SEL.code32, SEL.code64User, SEL.dataUser, 0, 0x7f8, 1, 3];
      const before = c.flags() & ~0x120100;
      const after = c.seldom() ? c.flags() : (before & ~0xed5) | (c.flags() & 0x10ed5);
      const cs = odd ? c.pick(selectors) : user ? SEL.code64User : SEL.code64;
      const ss = c.seldom() ? c.pick(selectors) : user ? SEL.dataUser : c.pick([0, SEL.data]);
      const frame = [c.rip(), cs, after, STACK0 - 0x100, ss];
      const kept = !c.seldom();
      const blocked = c.seldom();
      const top = STACK0 - (c.seldom() ? 0xff0 : c.random.below(64) * 8);
      const prepare = (l: Lab): void => {
        l.p.setGpr(RSP, BigInt(top));
        l.p.rflags = before;
        l.p.nmiBlocked = blocked;
        l.push(8, ...frame.toReversed());
        // Some of the segments a program may keep, and some it may not.
        if (user && kept) for (const n of [0, 3, 4, 5]) Object.assign(l.p.segments[n]!, { attributes: 0x10000 });
        l.p.syncSegments();
        privilegeChanged(l.p);
      };
      const stacks = [top - 1, top - 40, STACK3 - 8];
      if (bothWays({ hex: '48 cf', cpl: 0, smap: c.seldom(), stacks, prepare }, `round ${round}: ${frame}`)) quick++;
    }
    expect(quick).toBeGreaterThan(8);
  });

  test('SYSCALL and SYSRET, whatever the MSRs and flags (seed 2)', () => {
    const c = new Chance(2);
    const quick = { SYSCALL: 0, SYSRET: 0 };
    for (let round = 0; round < 60; round++) {
      const kind = c.pick(['SYSCALL', 'SYSRET'] as const);
      const selectors = [c.random.below(0x10000), c.random.below(0x10000)].map(BigInt) as [bigint, bigint];
      const cpl = c.seldom() ? (kind === 'SYSCALL' ? 0 : 3) : kind === 'SYSCALL' ? 3 : 0;
      const flags = c.flags() & ~0x120100;
      const image = c.flags();
      const mask = c.seldom() ? c.random.u32() : 0x47700;
      const [target, entry] = [c.rip(), c.rip()];
      const enabled = !c.seldom();
      const prepare = (l: Lab): void => {
        const { p } = l;
        if (!enabled) p.efer &= ~1;
        p.write64(STAR, (selectors[0] << 48n) | (selectors[1] << 32n));
        p.write64(LSTAR, entry);
        p.write64(FMASK, BigInt(mask >>> 0));
        p.setGpr(1, target);
        p.setGpr(11, BigInt(image));
        p.rflags = flags;
        privilegeChanged(p);
      };
      const hex = kind === 'SYSCALL' ? '0f 05' : c.seldom() ? '0f 07' : '48 0f 07';
      // Nothing here comes through a TLB entry but the code: what makes the general way is a bank that is not known.
      const stacks = [STACK0 - 8];
      if (bothWays({ hex, cpl, smap: c.seldom(), stacks, prepare }, `round ${round}`)) quick[kind]++;
    }
    expect(quick.SYSCALL).toBeGreaterThan(8);
    expect(quick.SYSRET).toBeGreaterThan(8);
  });

  test('INT n and INT3, whatever gate, handler and stack (seed 3)', () => {
    const c = new Chance(3);
    let quick = 0;
    for (let round = 0; round < 60; round++) {
      const { gate, cpl, rsp, flags } = delivery(c);
      const vector = c.pick([3, 0x51]);
      const prepare = (l: Lab): void => {
        l.idt(vector, gate);
        l.p.setGpr(RSP, BigInt(rsp));
        l.p.rflags = flags & ~0x100;
        privilegeChanged(l.p);
      };
      const hex = vector === 3 ? 'cc' : 'cd 51';
      const stacks = [rsp - 64, rsp - 1, STACK0 - 64, IST1 - 64];
      if (bothWays({ hex, cpl, smap: c.seldom(), stacks, prepare }, `round ${round}`)) quick++;
    }
    expect(quick).toBeGreaterThan(15);
  });

  test('faults and interrupts, whatever gate, handler and stack (seed 4)', () => {
    const c = new Chance(4);
    let quick = 0;
    for (let round = 0; round < 60; round++) {
      const { gate, cpl, rsp, flags } = delivery(c);
      const event = {
        vector: c.pick(VECTORS),
        type: c.pick([EVENT.exception, EVENT.external, EVENT.software, EVENT.softwareException]),
        errorCode: c.random.below(2) === 0 ? NO_ERROR : c.random.below(0x10000),
        instructionLength: 2,
      };
      const smap = c.seldom();
      const [general, direct] = [false, true].map((isWarm) => {
        const l = lab(cpl, smap);
        l.idt(event.vector, gate);
        l.p.setGpr(RSP, BigInt(rsp));
        l.p.rip = 0x8765n;
        l.p.rflags = flags;
        privilegeChanged(l.p);
        flushTlb(l.p, { global: true });
        if (isWarm) {
          warm(l, [rsp - 64, rsp - 1, STACK0 - 64, IST1 - 64]);
          for (const code of [3, 0] as const) enterOnce(l, code);
        }
        const deliver = vi.spyOn(l.machine.engine, 'deliver');
        const outcome = deliverEvent(l.p, event);
        const simple = deliver.mock.results[0]?.value === true;
        if (simple) quick++;
        if (!isWarm) expect(simple).toBe(false);
        return { outcome, ...(stateOf(l) as object), time: 0, cpl: l.p.cpl, activity: l.p.activity };
      });
      expect(direct, `round ${round}`).toEqual(general);
    }
    expect(quick).toBeGreaterThan(12);
  });
});

/** Runs a NOP at a level, so that its bank has code, and puts everything back. */
function enterOnce(l: Lab, cpl: 0 | 3): void {
  const { p } = l;
  const before = [p.cpl, p.rip, p.rflags] as const;
  l.decode('90');
  setCpl(p, cpl);
  p.rip = BigInt(CODE);
  p.rflags = 2;
  runProcessor(p, l.machine.clock.now() + 1);
  [, p.rip, p.rflags] = before;
  setCpl(p, before[0]);
}

function delivery(c: Chance) {
  const cpl = c.pick([0, 3] as const);
  return {
    cpl,
    gate: {
      selector: c.seldom() ? c.pick([SEL.code32, SEL.data, SEL.code64User, 0, 0x7f8]) : SEL.code64,
      offset: c.rip(),
      type: c.seldom() ? c.pick([5, 6, 12]) : c.pick([14, 15]),
      present: !c.seldom(),
      dpl: c.pick([0, 3]),
      ist: c.seldom() ? 1 : 0,
    },
    rsp: (cpl === 0 ? STACK0 : STACK3) - (c.seldom() ? c.pick([0xfe8, 0x1000 - 40, 0x8001]) : c.random.below(64)),
    flags: c.flags() & ~0x20000,
  };
}
