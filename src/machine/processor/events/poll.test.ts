import { describe, expect, it } from 'vitest';
import { CS, RDX } from '../../engine/layout.ts';
import { DB, DONE, JUMPED, NMI } from '../../outcome.ts';
import {
  ACTIVE,
  BLOCKED_BY_MOV_SS,
  BLOCKED_BY_STI,
  FLAG_IF,
  FLAG_RF,
  FLAG_TF,
  HLT,
  SHUTDOWN,
  WAIT_SIPI,
} from '../../processor.ts';
import { Lab, SEL } from '../testing/lab.ts';
import { pollEvents } from './poll.ts';
import { beginStep, endStep, stepNeeded } from './step.ts';

const VECTOR = 0x51;
const at = (vector: number): bigint => BigInt(0x8000 + vector * 0x10);

/** A lab in 64-bit mode with an enabled local APIC and handlers at `at(vector)`. */
function lab(): Lab {
  const made = new Lab('long');
  for (const vector of [DB, NMI, VECTOR, VECTOR + 0x20]) {
    made.idt(vector, { selector: SEL.code64, offset: at(vector), type: 14 });
  }
  made.p.apic.mmioWrite(0xf0, 4, 0x1ff);
  made.p.rflags = 2 | FLAG_IF;
  return made;
}
const interrupt = (l: Lab, vector = VECTOR): boolean => l.p.apic.accept(0, vector, false);

describe('interrupts', () => {
  it('are delivered with IF set, acknowledged at the local APIC', () => {
    const l = lab();
    interrupt(l);
    expect(l.p.eventsPending).toBe(true);
    expect(pollEvents(l.p)).toBe(JUMPED);
    expect(l.p.rip).toBe(at(VECTOR));
    expect(l.p.apic.hasIsr(VECTOR)).toBe(true);
    expect(l.p.rflags & FLAG_IF).toBe(0);
  });

  it.each([
    ['IF clear', (l: Lab) => void (l.p.rflags = 2)],
    ['the STI shadow', (l: Lab) => void (l.p.interruptShadow = BLOCKED_BY_STI)],
    ['the MOV SS shadow', (l: Lab) => void (l.p.interruptShadow = BLOCKED_BY_MOV_SS)],
    ['shutdown', (l: Lab) => void (l.p.activity = SHUTDOWN)],
  ])('wait for the end of %s', (_, block) => {
    const l = lab();
    interrupt(l);
    block(l);
    expect(pollEvents(l.p)).toBe(DONE);
    expect(l.p.apic.hasIrr(VECTOR)).toBe(true);
  });

  it('wake a halted processor', () => {
    const l = lab();
    l.p.activity = HLT;
    expect(pollEvents(l.p)).toBe(DONE);
    interrupt(l);
    pollEvents(l.p);
    expect(l.p.activity).toBe(ACTIVE);
  });

  it('a more important one nests at once behind a trap gate', () => {
    const l = lab();
    l.idt(VECTOR, { selector: SEL.code64, offset: at(VECTOR), type: 15 });
    interrupt(l);
    pollEvents(l.p);
    interrupt(l, VECTOR + 0x20);
    pollEvents(l.p);
    expect(l.p.rip).toBe(at(VECTOR + 0x20));
    expect(l.stack(8, 1)).toEqual([at(VECTOR)]);
  });
});

describe('NMI', () => {
  it('ignores IF, blocks further NMIs until IRET, and comes before interrupts', () => {
    const l = lab();
    interrupt(l);
    l.p.nmiPending = true;
    pollEvents(l.p);
    expect(l.p.rip).toBe(at(NMI));
    expect(l.p.nmiBlocked).toBe(true);
    l.p.nmiPending = true;
    expect(pollEvents(l.p)).toBe(DONE);
    l.run('48 cf');
    expect(pollEvents(l.p)).toBe(JUMPED);
    expect(l.stack(8, 1)).toEqual([0x8000n]);
  });

  it('waits for the end of the MOV SS shadow and wakes from shutdown', () => {
    const l = lab();
    l.p.nmiPending = true;
    l.p.interruptShadow = BLOCKED_BY_MOV_SS;
    expect(pollEvents(l.p)).toBe(DONE);
    l.p.interruptShadow = 0;
    l.p.activity = SHUTDOWN;
    expect(pollEvents(l.p)).toBe(JUMPED);
    expect(l.p.activity).toBe(ACTIVE);
  });
});

describe('debug traps', () => {
  it('come before NMIs and interrupts', () => {
    const l = lab();
    interrupt(l);
    l.p.nmiPending = true;
    l.p.pendingDebug = 0x4000;
    pollEvents(l.p);
    // The NMI interrupts the handler of the trap at its first instruction.
    expect(l.p.rip).toBe(at(NMI));
    expect(l.stack(8, 1)).toEqual([at(DB)]);
    expect(l.p.dr6).toBe(0xffff4ff0);
  });

  it('are held back in the MOV SS shadow', () => {
    const l = lab();
    l.p.pendingDebug = 1;
    l.p.interruptShadow = BLOCKED_BY_MOV_SS;
    expect(pollEvents(l.p)).toBe(DONE);
    expect(l.p.pendingDebug).toBe(1);
  });
});

describe('INIT and SIPI', () => {
  it('INIT outside VMX operation initialises; the bootstrap processor goes on at the reset vector', () => {
    const l = lab();
    l.p.initPending = true;
    expect(pollEvents(l.p)).toBe(JUMPED);
    expect(l.p.rip).toBe(0xfff0n);
    expect(l.p.activity).toBe(ACTIVE);
  });

  it('INIT stays pending in VMX root operation', () => {
    const l = lab();
    l.p.vtx.operation = 1;
    l.p.initPending = true;
    expect(pollEvents(l.p)).toBe(DONE);
    expect(l.p.initPending).toBe(true);
  });

  it('a SIPI starts a waiting processor at its page and is lost elsewhere', () => {
    const l = lab();
    l.p.sipiPending = 0x9a;
    expect(pollEvents(l.p)).toBe(DONE);
    expect(l.p.sipiPending).toBe(-1);
    l.p.apic.writeApicBase(l.p.apic.readApicBase() & ~0x100n);
    l.p.initPending = true;
    pollEvents(l.p);
    expect(l.p.activity).toBe(WAIT_SIPI);
    interrupt(l);
    l.p.nmiPending = true;
    expect(pollEvents(l.p)).toBe(DONE);
    l.p.nmiPending = false;
    l.p.sipiPending = 0x9a;
    expect(pollEvents(l.p)).toBe(JUMPED);
    expect(l.p.rip).toBe(0n);
    expect(l.p.segments[CS]).toMatchObject({ selector: 0x9a00, base: 0x9a000n });
    expect(l.p.gpr(RDX)).not.toBe(0n);
  });
});

describe('single steps', () => {
  it('are needed with TF, a shadow or an instruction breakpoint; RF is just used up', () => {
    const { p } = lab();
    expect(stepNeeded(p)).toBe(false);
    p.rflags |= FLAG_TF;
    expect(stepNeeded(p)).toBe(true);
    p.rflags = 2 | FLAG_RF;
    expect(stepNeeded(p)).toBe(false);
    expect(p.rflags).toBe(2);
    p.interruptShadow = BLOCKED_BY_STI;
    expect(stepNeeded(p)).toBe(true);
    p.interruptShadow = 0;
    p.dr7 = 0x401 | (1 << 16);
    expect(stepNeeded(p)).toBe(false);
    p.dr7 = 0x401;
    expect(stepNeeded(p)).toBe(true);
  });

  it('TF traps after the instruction that began with it set, not after the one that sets it', () => {
    const { p } = lab();
    let token = beginStep(p);
    p.rflags |= FLAG_TF;
    endStep(p, token);
    expect(p.pendingDebug).toBe(0);
    token = beginStep(p);
    endStep(p, token);
    expect(p.pendingDebug).toBe(0x4000);
  });

  it('an instruction breakpoint faults before the instruction, unless RF is set, which one instruction uses up', () => {
    const { p } = lab();
    p.dr[2] = 0x8000n;
    p.dr7 = 0x410;
    expect(beginStep(p)).toBe(-1);
    expect(p.fault).toMatchObject({ vector: DB, debug: 4 });
    p.rflags |= FLAG_RF;
    expect(beginStep(p)).toBeGreaterThanOrEqual(0);
    expect(p.rflags & FLAG_RF).toBe(0);
    expect(beginStep(p)).toBe(-1);
  });

  it('an instruction breakpoint is ignored behind MOV SS', () => {
    const { p } = lab();
    p.dr[0] = 0x8000n;
    p.dr7 = 0x401;
    p.interruptShadow = BLOCKED_BY_MOV_SS;
    expect(beginStep(p)).toBeGreaterThanOrEqual(0);
  });

  it('a shadow ends with the instruction that it covers', () => {
    const l = lab();
    l.p.rflags = 2;
    let token = beginStep(l.p);
    l.run('fb');
    endStep(l.p, token);
    expect(l.p.interruptShadow).toBe(BLOCKED_BY_STI);
    token = beginStep(l.p);
    endStep(l.p, token);
    expect(l.p.interruptShadow).toBe(0);
  });
});
