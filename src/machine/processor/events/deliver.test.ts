import { describe, expect, it } from 'vitest';
import { CS, DS, RSP, SS } from '../../engine/layout.ts';
import { DB, DE, DF, GP, JUMPED, NO_ERROR, NP, PF, SS_FAULT, TS, UD } from '../../outcome.ts';
import { FLAG_AC, FLAG_IF, FLAG_NT, FLAG_RF, FLAG_TF, SHUTDOWN } from '../../processor.ts';
import { GDT, IST1, Lab, SEL, STACK0, STACK3, TSS } from '../testing/lab.ts';
import { deliverDebugTrap, deliverEvent, deliverFault } from './deliver.ts';
import { EVENT, type Event, exception, externalInterrupt } from './event.ts';

const HANDLER = 0x8400n;
const NESTED = 0x8800n;
const DOUBLE = 0x8c00n;
const INTERRUPT = 14;
const TRAP = 15;
const NON_CANONICAL = 0x0000_8000_0000_0000n;
const VECTOR = 0x40;

const codeOf = (lab: Lab): number => (lab.mode === 'long' || lab.mode === 'compat' ? SEL.code64 : SEL.code32);

/** A lab with handlers for #DF, #TS, #NP, #SS, #GP and #PF, and VECTOR as given. */
function withHandlers(lab: Lab): Lab {
  for (const vector of [TS, NP, SS_FAULT, GP, PF])
    lab.idt(vector, { selector: codeOf(lab), offset: NESTED, type: INTERRUPT });
  lab.idt(DF, { selector: codeOf(lab), offset: DOUBLE, type: INTERRUPT });
  lab.idt(VECTOR, { selector: codeOf(lab), offset: HANDLER, type: INTERRUPT });
  return lab;
}

describe('delivery in 64-bit mode', () => {
  it('from level 3: RSP0, five words pushed, SS null, IF TF NT RF cleared', () => {
    const lab = withHandlers(new Lab('long', 3));
    const { p } = lab;
    p.rflags = 2 | FLAG_IF | FLAG_TF | FLAG_NT | FLAG_RF | FLAG_AC | 0x41;
    expect(deliverEvent(p, externalInterrupt(VECTOR))).toBe(JUMPED);
    expect(p.rip).toBe(HANDLER);
    expect(p.cpl).toBe(0);
    expect(p.segments[SS]!.selector).toBe(0);
    expect(p.segments[CS]!.selector).toBe(SEL.code64);
    expect(p.gpr(RSP)).toBe(BigInt(STACK0 - 40));
    expect(lab.stack(8, 5)).toEqual([0x8000n, 0x33n, 0x5_4343n, BigInt(STACK3), 0x23n]);
    expect(p.rflags).toBe(2 | FLAG_AC | 0x41);
  });

  it('aligns the stack to 16 bytes without a change of level, and keeps SS', () => {
    const lab = withHandlers(new Lab('long'));
    lab.p.setGpr(RSP, 0xfff7n);
    deliverEvent(lab.p, externalInterrupt(VECTOR));
    expect(lab.p.gpr(RSP)).toBe(0xfff0n - 40n);
    expect(lab.stack(8, 5)).toEqual([0x8000n, 0x28n, 2n, 0xfff7n, 0x10n]);
    expect(lab.p.segments[SS]!.selector).toBe(SEL.data);
  });

  it('an IST entry is used at level 0 too', () => {
    const lab = withHandlers(new Lab('long'));
    lab.idt(VECTOR, { selector: SEL.code64, offset: HANDLER, type: TRAP, ist: 1 });
    lab.p.rflags = 2 | FLAG_IF;
    deliverEvent(lab.p, externalInterrupt(VECTOR));
    expect(lab.p.gpr(RSP)).toBe(BigInt(IST1 - 40));
    expect(lab.p.rflags).toBe(2 | FLAG_IF);
  });

  it('interrupts compatibility mode with a 64-bit frame', () => {
    const lab = withHandlers(new Lab('compat', 3));
    deliverEvent(lab.p, externalInterrupt(VECTOR));
    expect(lab.p.mode64).toBe(true);
    expect(lab.stack(8, 5)).toEqual([0x8000n, 0x1bn, 2n, BigInt(STACK3), 0x23n]);
  });

  it('an exception pushes its error code, RF in the image, and CR2 holds the address of a #PF', () => {
    const lab = withHandlers(new Lab('long'));
    lab.p.raise(PF, 6, 0xdead000n);
    expect(deliverFault(lab.p)).toBe(JUMPED);
    expect(lab.stack(8, 4)).toEqual([6n, 0x8000n, 0x28n, BigInt(2 | FLAG_RF)]);
    expect(lab.p.cr2).toBe(0xdead000n);
  });

  it('a handler at a conforming segment of level 0 runs at level 3', () => {
    const lab = withHandlers(new Lab('long', 3));
    lab.gdt(SEL.free, { type: 0x1f, long: true });
    lab.idt(VECTOR, { selector: SEL.free, offset: HANDLER, type: INTERRUPT });
    deliverEvent(lab.p, externalInterrupt(VECTOR));
    expect(lab.p.cpl).toBe(3);
    expect(lab.p.segments[CS]!.selector).toBe(SEL.free | 3);
  });
});

describe('INT n', () => {
  it('pushes the address of the next instruction and no error code', () => {
    const lab = withHandlers(new Lab('long'));
    expect(lab.run('cd 40').outcome).toBe(JUMPED);
    expect(lab.stack(8, 2)).toEqual([0x8002n, 0x28n]);
  });

  it('at level 3 needs a gate of DPL 3: else #GP(vector * 8 + 2) at the instruction', () => {
    const lab = withHandlers(new Lab('long', 3));
    lab.run('cd 40');
    expect(lab.p.rip).toBe(NESTED);
    expect(lab.stack(8, 2)).toEqual([BigInt(VECTOR * 8 + 2), 0x8000n]);
  });

  it('INT1 needs no DPL, and its faults have EXT set', () => {
    const lab = withHandlers(new Lab('long', 3));
    lab.idt(DB, { selector: SEL.code64, offset: HANDLER, type: INTERRUPT });
    lab.run('f1');
    expect(lab.p.rip).toBe(HANDLER);
    expect(lab.p.dr6).toBe(0xffff0ff0);
    const other = withHandlers(new Lab('long', 3));
    other.idt(DB, { selector: SEL.code64, offset: HANDLER, type: INTERRUPT, present: false });
    other.run('f1');
    expect(other.stack(8, 1)).toEqual([BigInt(DB * 8 + 3)]);
  });

  it('INT3 and INTO check DPL, INTO only acts with OF', () => {
    const lab = withHandlers(new Lab('protected', 3));
    expect(lab.run('ce').outcome).toBe(0);
    lab.p.rflags |= 0x800;
    lab.run('ce');
    expect(lab.p.rip).toBe(NESTED);
    expect(lab.stack(4, 1)).toEqual([BigInt(4 * 8 + 2)]);
  });
});

describe('faults of the gate, with the event external', () => {
  type Change = (lab: Lab) => void;
  const gates: [string, Change, number, number][] = [
    ['vector beyond the IDT limit → #GP(IDT)', (l) => (l.p.idtr.limit = VECTOR * 16 + 14), GP, VECTOR * 8 + 3],
    [
      'not a gate → #GP(IDT)',
      (l) => l.idt(VECTOR, { selector: SEL.code64, offset: HANDLER, type: 12 }),
      GP,
      VECTOR * 8 + 3,
    ],
    [
      'a 16-bit gate → #GP(IDT)',
      (l) => l.idt(VECTOR, { selector: SEL.code64, offset: HANDLER, type: 6 }),
      GP,
      VECTOR * 8 + 3,
    ],
    ['a task gate → #GP(IDT)', (l) => l.idt(VECTOR, { selector: SEL.tss, offset: 0n, type: 5 }), GP, VECTOR * 8 + 3],
    [
      'gate not present → #NP(IDT)',
      (l) => l.idt(VECTOR, { selector: SEL.code64, offset: HANDLER, type: 14, present: false }),
      NP,
      VECTOR * 8 + 3,
    ],
    ['null selector → #GP(EXT)', (l) => l.idt(VECTOR, { selector: 0, offset: HANDLER, type: 14 }), GP, 1],
    [
      'selector beyond the GDT → #GP(selector)',
      (l) => l.idt(VECTOR, { selector: 0x400, offset: HANDLER, type: 14 }),
      GP,
      0x401,
    ],
    [
      'selector names data → #GP(selector)',
      (l) => l.idt(VECTOR, { selector: SEL.data, offset: HANDLER, type: 14 }),
      GP,
      0x11,
    ],
    [
      '32-bit code → #GP(selector)',
      (l) => l.idt(VECTOR, { selector: SEL.code32, offset: HANDLER, type: 14 }),
      GP,
      0x09,
    ],
    [
      'code less privileged → #GP(selector)',
      (l) => l.idt(VECTOR, { selector: SEL.code64User, offset: HANDLER, type: 14 }),
      GP,
      0x31,
    ],
    [
      'code not present → #NP(selector)',
      (l) => l.gdt(SEL.free, { type: 0x1b, long: true, present: false }),
      NP,
      SEL.free | 1,
    ],
    [
      'offset not canonical → #GP(EXT)',
      (l) => l.idt(VECTOR, { selector: SEL.code64, offset: NON_CANONICAL, type: 14 }),
      GP,
      1,
    ],
    ['stack not canonical → #SS(EXT)', (l) => l.machine.memory.write64(TSS + 0x24, NON_CANONICAL), SS_FAULT, 1],
    ['IST beyond the TSS limit → #TS(TR)', (l) => (l.p.tr.limit = 0x2a), TS, SEL.tss | 1],
  ];
  it.each(gates)('%s', (name, change, vector, errorCode) => {
    const lab = withHandlers(new Lab('long'));
    if (name.startsWith('code not present')) lab.idt(VECTOR, { selector: SEL.free, offset: HANDLER, type: INTERRUPT });
    if (name.startsWith('stack') || name.startsWith('IST'))
      lab.idt(VECTOR, { selector: SEL.code64, offset: HANDLER, type: INTERRUPT, ist: 1 });
    change(lab);
    expect(deliverEvent(lab.p, externalInterrupt(VECTOR))).toBe(JUMPED);
    expect(lab.p.rip).toBe(NESTED);
    expect(lab.p.fault.vector).toBe(vector);
    expect(lab.stack(8, 2)).toEqual([BigInt(errorCode), 0x8000n]);
  });
});

describe('delivery in protected mode', () => {
  it('an inner level takes SS:ESP from the TSS and pushes five doublewords', () => {
    const lab = withHandlers(new Lab('protected', 3));
    deliverEvent(lab.p, exception(GP, 0x1234));
    expect(lab.stack(4, 6)).toEqual([0x1234n, 0x8000n, 0x1bn, 2n, BigInt(STACK3), 0x23n]);
    expect(lab.p.segments[SS]!.selector).toBe(SEL.data);
    expect(lab.p.segments[DS]!.selector).toBe(SEL.dataUser);
  });

  it('the same level pushes three', () => {
    const lab = withHandlers(new Lab('protected'));
    deliverEvent(lab.p, externalInterrupt(VECTOR));
    expect(lab.p.gpr(RSP)).toBe(BigInt(STACK0 - 12));
  });

  it('a 16-bit gate pushes words and uses 16 bits of the offset', () => {
    const lab = withHandlers(new Lab('protected'));
    lab.idt(VECTOR, { selector: SEL.code32, offset: 0x1_8400n, type: 6 });
    deliverEvent(lab.p, externalInterrupt(VECTOR));
    expect(lab.p.rip).toBe(HANDLER);
    expect(lab.stack(2, 3)).toEqual([0x8000n, 8n, 2n]);
  });

  const stacks: [string, number, number, number][] = [
    ['a null SS in the TSS → #TS(EXT)', 0, TS, 1],
    ['SS of another RPL → #TS(selector)', SEL.data | 1, TS, SEL.data | 1],
    ['SS not writable → #TS(selector)', SEL.code32, TS, SEL.code32 | 1],
    ['SS not present → #SS(selector)', SEL.free, SS_FAULT, SEL.free | 1],
    ['SS with too small a limit → #SS(selector)', SEL.free + 8, SS_FAULT, (SEL.free + 8) | 1],
  ];
  it.each(stacks)('%s', (_, selector, vector, errorCode) => {
    const lab = withHandlers(new Lab('protected', 3));
    lab.gdt(SEL.free, { type: 0x13, present: false });
    lab.gdt(SEL.free + 8, { type: 0x13, limit: 0xfff });
    lab.tss(BigInt(STACK0), selector);
    // The nested fault needs a stack: its handler is conforming and stays at level 3.
    lab.gdt(SEL.free + 16, { type: 0x1f });
    for (const v of [TS, SS_FAULT]) lab.idt(v, { selector: SEL.free + 16, offset: NESTED, type: INTERRUPT });
    deliverEvent(lab.p, externalInterrupt(VECTOR));
    expect(lab.p.fault.vector).toBe(vector);
    expect(lab.p.rip).toBe(NESTED);
    expect(lab.stack(4, 1)).toEqual([BigInt(errorCode)]);
  });

  it('from virtual-8086 mode nine doublewords are pushed and the data segments become null', () => {
    const lab = withHandlers(new Lab('protected'));
    lab.push(4, 0x500, 0x400, 0x300, 0x200, 0x100, 0xff0, 0x2_3202, 0x800, 0x10);
    lab.run('cf');
    deliverEvent(lab.p, externalInterrupt(VECTOR));
    const { p } = lab;
    expect(p.v86).toBe(false);
    expect(lab.stack(4, 9)).toEqual([0x10n, 0x800n, 0x2_3202n, 0xff0n, 0x100n, 0x200n, 0x300n, 0x400n, 0x500n]);
    expect(p.segments[DS]!.selector).toBe(0);
    expect(p.segments[CS]!.selector).toBe(SEL.code32);
  });
});

describe('delivery in real mode', () => {
  it('pushes FLAGS, CS and IP, no error code, and reads offset and segment from the vector table', () => {
    const lab = new Lab('real');
    lab.machine.memory.write32(GP * 4, 0x0900_0010);
    lab.p.rflags = 2 | FLAG_IF;
    lab.p.raise(GP, 0);
    expect(deliverFault(lab.p)).toBe(JUMPED);
    expect(lab.p.rip).toBe(0x10n);
    expect(lab.p.segments[CS]!.base).toBe(0x9000n);
    expect(lab.stack(2, 3)).toEqual([0x8000n, 0n, 2n | BigInt(FLAG_IF)]);
    expect(lab.p.rflags).toBe(2);
  });

  it('a vector beyond the limit → #GP, then #DF, then shutdown', () => {
    const lab = new Lab('real');
    lab.p.idtr.limit = 0;
    deliverEvent(lab.p, externalInterrupt(VECTOR));
    expect(lab.p.activity).toBe(SHUTDOWN);
  });
});

describe('double faults', () => {
  /** The first event's gate is not present: the second is #NP. */
  const cases: [string, Event, bigint][] = [
    ['benign, then contributory → the second', exception(UD), NESTED],
    ['contributory, then contributory → #DF', exception(DE), DOUBLE],
    ['#PF, then contributory → #DF', exception(PF, 0), DOUBLE],
    ['an external interrupt, then contributory → the second', externalInterrupt(VECTOR), NESTED],
    [
      'INT 0 is benign although #DE is contributory',
      { vector: DE, type: EVENT.software, errorCode: NO_ERROR, instructionLength: 2 },
      NESTED,
    ],
  ];
  it.each(cases)('%s', (_, event, rip) => {
    const lab = withHandlers(new Lab('long'));
    lab.idt(event.vector, { selector: SEL.code64, offset: HANDLER, type: INTERRUPT, present: false });
    deliverEvent(lab.p, event);
    expect(lab.p.rip).toBe(rip);
    if (rip === DOUBLE) expect(lab.stack(8, 1)).toEqual([0n]);
  });

  /** The stack of IST1 lies in an unmapped page, so that the push is a #PF. */
  const faults: [string, Event, bigint][] = [
    ['contributory, then #PF → #PF', exception(GP, 0), NESTED],
    ['#PF, then #PF → #DF', exception(PF, 0), DOUBLE],
    ['benign, then #PF → #PF', exception(UD), NESTED],
  ];
  it.each(faults)('%s', (_, event, rip) => {
    const lab = withHandlers(new Lab('long'));
    lab.idt(PF, { selector: SEL.code64, offset: NESTED, type: INTERRUPT });
    lab.machine.memory.write64(TSS + 0x24, 0x4000_0000n);
    lab.idt(event.vector, { selector: SEL.code64, offset: HANDLER, type: INTERRUPT, ist: 1 });
    deliverEvent(lab.p, event);
    expect(lab.p.rip).toBe(rip);
    expect(lab.p.cr2).toBe(0x4000_0000n - 8n);
  });

  it('a fault while #DF is delivered → shutdown', () => {
    const lab = withHandlers(new Lab('long'));
    lab.idt(DF, { selector: 0, offset: DOUBLE, type: INTERRUPT });
    lab.idt(DE, { selector: 0, offset: HANDLER, type: INTERRUPT });
    const before = lab.p.rip;
    deliverEvent(lab.p, exception(DE));
    expect(lab.p.activity).toBe(SHUTDOWN);
    expect(lab.p.rip).toBe(before);
  });

  it('the EXT bit of a fault behind a software interrupt is clear, of one behind an exception set', () => {
    const lab = withHandlers(new Lab('long'));
    lab.idt(VECTOR, { selector: SEL.free, offset: HANDLER, type: INTERRUPT });
    lab.run('cd 40');
    expect(lab.stack(8, 1)).toEqual([BigInt(SEL.free)]);
    const other = withHandlers(new Lab('long'));
    other.idt(UD, { selector: SEL.free, offset: HANDLER, type: INTERRUPT });
    other.p.raise(UD);
    deliverFault(other.p);
    expect(other.stack(8, 1)).toEqual([BigInt(SEL.free | 1)]);
  });
});

describe('#DB', () => {
  it('sets its bits in DR6, replaces B0 to B3, keeps BS, and clears GD in DR7', () => {
    const lab = withHandlers(new Lab('long'));
    lab.idt(DB, { selector: SEL.code64, offset: HANDLER, type: INTERRUPT });
    lab.p.dr6 = 0xffff4ff3;
    lab.p.dr7 = 0x2400;
    deliverDebugTrap(lab.p, 4);
    expect(lab.p.dr6).toBe(0xffff4ff4);
    expect(lab.p.dr7).toBe(0x400);
    expect(lab.stack(8, 3)[2]).toBe(2n);
  });

  it('as an instruction breakpoint pushes RF clear', () => {
    const lab = withHandlers(new Lab('long'));
    lab.idt(DB, { selector: SEL.code64, offset: HANDLER, type: INTERRUPT });
    lab.p.raise(DB);
    lab.p.fault.debug = 1;
    deliverFault(lab.p);
    expect(lab.stack(8, 3)[2]).toBe(2n);
  });
});

it('the accessed bit of the handler segment is set in memory', () => {
  const lab = withHandlers(new Lab('long'));
  lab.gdt(SEL.code64, { type: 0x1a, long: true });
  deliverEvent(lab.p, externalInterrupt(VECTOR));
  expect(lab.machine.memory.read8(GDT + SEL.code64 + 5) & 1).toBe(1);
});
