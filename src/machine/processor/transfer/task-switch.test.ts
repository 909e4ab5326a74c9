import { describe, expect, it } from 'vitest';
import { CS, DS, SS } from '../../engine/layout.ts';
import { FAULT, GP, JUMPED, NO_ERROR, NP, PF, TS } from '../../outcome.ts';
import { CR0_TS, FLAG_NT } from '../../processor.ts';
import { deliverEvent } from '../events/deliver.ts';
import { EVENT } from '../events/event.ts';
import { CODE, GDT, Lab, SEL, STACK0, TSS } from '../testing/lab.ts';

const NEW = 0xb000;
const EIP = 0x1234;
const ESP = STACK0 - 0x800;

const hex = (value: number, size: number): string =>
  Array.from({ length: size }, (_, i) => ((value >>> (i * 8)) & 0xff).toString(16).padStart(2, '0')).join(' ');
const JMP = `ea ${hex(0, 4)} ${hex(SEL.free, 2)}`;
const CALL = `9a ${hex(0, 4)} ${hex(SEL.free, 2)}`;
const IRET = 'cf';

interface Fields {
  cs?: number;
  ss?: number;
  ds?: number;
  ldt?: number;
  eflags?: number;
  trap?: number;
}

/** A 32-bit lab whose running task has a TSS at TSS, with another task's at NEW. */
function lab(fields: Fields = {}, descriptor: object = {}): Lab {
  const l = new Lab('protected');
  const { cs = SEL.code32, ss = SEL.data, ds = SEL.data, ldt = 0, eflags = 0x202, trap = 0 } = fields;
  const { memory } = l.machine;
  l.gdt(SEL.free, { type: 0x09, base: NEW, limit: 0x67, big: false, ...descriptor });
  memory.write32(NEW + 0x20, EIP);
  memory.write32(NEW + 0x24, eflags);
  for (let n = 0; n < 8; n++) memory.write32(NEW + 0x28 + n * 4, n === 4 ? ESP : 0x100 + n);
  [ds, cs, ss, ds, 0, 0].forEach((selector, n) => void memory.write16(NEW + 0x48 + n * 4, selector));
  memory.write16(NEW + 0x60, ldt);
  memory.write16(NEW + 0x64, trap);
  for (let n = 0; n < 8; n++) if (n !== 4) l.p.setGpr(n, BigInt(0x200 + n));
  return l;
}
const isBusy = (l: Lab, selector: number): boolean => (l.machine.memory.read8(GDT + selector + 5) & 2) !== 0;
const image = (l: Lab, offset: number): number => l.machine.memory.read32(TSS + offset);

describe('JMP to a TSS', () => {
  it('saves the running task, loads the other, and moves the busy flag', () => {
    const l = lab();
    l.p.rflags = 0x246;
    expect(l.run(JMP).outcome).toBe(JUMPED);
    expect(image(l, 0x20)).toBe(CODE + 7);
    expect(image(l, 0x24)).toBe(0x246);
    expect([0, 1, 2, 3, 5, 6, 7].map((n) => image(l, 0x28 + n * 4))).toEqual(
      [0, 1, 2, 3, 5, 6, 7].map((n) => 0x200 + n),
    );
    expect(image(l, 0x38)).toBe(STACK0);
    expect([image(l, 0x4c), image(l, 0x50)]).toEqual([SEL.code32, SEL.data]);
    const { p } = l;
    expect(p.rip).toBe(BigInt(EIP));
    expect(p.gpr(4)).toBe(BigInt(ESP));
    expect(p.gpr(7)).toBe(0x107n);
    expect(p.rflags).toBe(0x202);
    expect(p.cr0 & CR0_TS).toBe(CR0_TS);
    expect(p.tr).toMatchObject({ selector: SEL.free, base: BigInt(NEW), attributes: 0x8b });
    expect([isBusy(l, SEL.tss), isBusy(l, SEL.free)]).toEqual([false, true]);
    expect(p.segments[SS]).toMatchObject({ selector: SEL.data, limit: 0xffff_ffff });
  });

  it('a busy TSS, one that is absent, and one that is too small are refused with nothing changed', () => {
    for (const [descriptor, vector] of [
      [{ type: 0x0b }, GP],
      [{ present: false }, NP],
      [{ limit: 0x66 }, TS],
    ] as const) {
      const l = lab({}, descriptor);
      const before = l.snapshot();
      expect(l.run(JMP)).toEqual({ outcome: FAULT, vector, errorCode: SEL.free });
      expect(l.snapshot()).toEqual(before);
    }
  });

  it('clears the local breakpoints and, with T set, traps in the new task', () => {
    const l = lab({ trap: 1 });
    l.p.dr7 = 0x455;
    l.run(JMP);
    expect(l.p.dr7 & 0xff).toBe(0);
    expect(l.p.pendingDebug).toBe(0x8000);
  });

  it('to a task in virtual-8086 mode runs it at level 3 with flat paragraphs', () => {
    const l = lab({ eflags: 0x2_0202, cs: 0x100, ss: 0x200 });
    l.run(JMP);
    expect(l.p.cpl).toBe(3);
    expect(l.p.segments[CS]).toMatchObject({ selector: 0x100, base: 0x1000n });
  });

  it.each([
    ['a null CS', { cs: 0 }, 0],
    ['a data segment in CS', { cs: SEL.data }, SEL.data],
    ['an SS of another level', { ss: SEL.dataUser }, SEL.dataUser & ~3],
    ['an LDT that is none', { ldt: SEL.data }, SEL.data],
  ])('%s is #TS in the new task', (_, fields, errorCode) => {
    const l = lab(fields);
    expect(l.run(JMP)).toEqual({ outcome: FAULT, vector: TS, errorCode });
    expect(l.p.rip).toBe(BigInt(EIP));
    expect(l.p.tr.selector).toBe(SEL.free);
  });
});

describe('CALL to a TSS and IRET back', () => {
  it('links the tasks; NT is set meanwhile; registers come back', () => {
    const l = lab();
    expect(l.run(CALL).outcome).toBe(JUMPED);
    expect(l.machine.memory.read16(NEW)).toBe(SEL.tss);
    expect(l.p.flagsRest & FLAG_NT).toBe(FLAG_NT);
    expect([isBusy(l, SEL.tss), isBusy(l, SEL.free)]).toEqual([true, true]);
    l.p.setGpr(1, 0x77n);
    l.p.rip = BigInt(CODE);
    expect(l.run(IRET).outcome).toBe(JUMPED);
    expect(l.p.rip).toBe(BigInt(CODE + 7));
    expect(l.p.gpr(1)).toBe(0x201n);
    expect(l.p.tr.selector).toBe(SEL.tss);
    expect([isBusy(l, SEL.tss), isBusy(l, SEL.free)]).toEqual([true, false]);
    expect(l.machine.memory.read32(NEW + 0x24) & FLAG_NT).toBe(0);
    expect(l.machine.memory.read32(NEW + 0x2c)).toBe(0x77);
  });
});

describe('a task gate in the IDT', () => {
  it('saves the interrupted task and pushes the error code on the stack of the handler', () => {
    const l = lab();
    l.idt(PF, { selector: SEL.free, offset: 0n, type: 5 });
    l.p.rip = 0x8765n;
    expect(deliverEvent(l.p, { vector: PF, type: EVENT.exception, errorCode: 6, instructionLength: 0 })).toBe(JUMPED);
    expect(image(l, 0x20)).toBe(0x8765);
    expect(l.p.gpr(4)).toBe(BigInt(ESP - 4));
    expect(l.stack(4, 1)).toEqual([6n]);
    expect(l.p.flagsRest & FLAG_NT).toBe(FLAG_NT);
    expect(l.p.segments[DS]).toMatchObject({ selector: SEL.data });
  });

  it('without an error code pushes nothing', () => {
    const l = lab();
    l.idt(0x51, { selector: SEL.free, offset: 0n, type: 5 });
    deliverEvent(l.p, { vector: 0x51, type: EVENT.external, errorCode: NO_ERROR, instructionLength: 0 });
    expect(l.p.gpr(4)).toBe(BigInt(ESP));
  });
});
