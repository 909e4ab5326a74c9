/** Events in VMX non-root operation: what exits, and what the exit tells. */
import { describe, expect, it } from 'vitest';
import { RSP } from '../../engine/layout.ts';
import { DB, DE, DF, DONE, GP, JUMPED, NMI, NP, PF, UD, VMEXIT } from '../../outcome.ts';
import { FLAG_IF, FLAG_RF, HLT, WAIT_SIPI } from '../../processor.ts';
import { PIN, PRIMARY, SECONDARY } from '../../vtx/controls.ts';
import { NON_ROOT } from '../../vtx/operation.ts';
import { REASON } from '../../vtx/reasons.ts';
import { Lab, SEL, TSS } from '../testing/lab.ts';
import { deliverDebugTrap, deliverEvent, deliverFault } from './deliver.ts';
import { exception, externalInterrupt } from './event.ts';
import { pollEvents } from './poll.ts';

const VALID = 0x8000_0000;
const ERROR = 0x800;
const HARDWARE = 3 << 8;

/** A guest in 64-bit mode that exits for these exceptions. */
function guest(...vectors: number[]): Lab {
  const lab = new Lab('long');
  lab.p.vtx.operation = NON_ROOT;
  lab.p.vtx.exceptionBitmap = vectors.reduce((bits, vector) => bits | (1 << vector), 0);
  return lab;
}
const exitOf = (lab: Lab) => lab.p.vtx.exit;

describe('exceptions', () => {
  it('in the bitmap exit before CR2 and the stack change, with RF as it would be pushed', () => {
    const lab = guest(PF);
    const before = lab.snapshot() as { rflags: number };
    lab.p.raise(PF, 2, 0xabc000n);
    expect(deliverFault(lab.p)).toBe(VMEXIT);
    expect(exitOf(lab)).toMatchObject({
      reason: REASON.EXCEPTION_OR_NMI,
      qualification: 0xabc000n,
      interruptionErrorCode: 2,
      idtVectoringInfo: 0,
    });
    expect(exitOf(lab).interruptionInfo).toBe((VALID | ERROR | HARDWARE | PF) >>> 0);
    before.rflags |= FLAG_RF;
    expect(lab.snapshot()).toEqual(before);
  });

  it('outside the bitmap are delivered', () => {
    const lab = guest(PF);
    lab.idt(GP, { selector: SEL.code64, offset: 0xa000n, type: 14 });
    lab.p.raise(GP, 0);
    expect(deliverFault(lab.p)).toBe(JUMPED);
    expect(lab.p.rip).toBe(0xa000n);
  });

  it('INT3 exits with type 6 and its length, INT1 with type 5', () => {
    const lab = guest(3, DB);
    expect(lab.run('cc').outcome).toBe(VMEXIT);
    expect(exitOf(lab).interruptionInfo).toBe((VALID | (6 << 8) | 3) >>> 0);
    expect(exitOf(lab).instructionLength).toBe(1);
    expect(lab.run('f1').outcome).toBe(VMEXIT);
    expect(exitOf(lab).interruptionInfo).toBe((VALID | (5 << 8) | DB) >>> 0);
  });

  it('INT n of an intercepted vector does not exit', () => {
    const lab = guest(GP);
    lab.idt(GP, { selector: SEL.code64, offset: 0xa000n, type: 14 });
    expect(lab.run('cd 0d').outcome).toBe(JUMPED);
  });

  it('a debug trap exits with its bits as qualification and leaves DR6', () => {
    const lab = guest(DB);
    expect(deliverDebugTrap(lab.p, 0x4001)).toBe(VMEXIT);
    expect(exitOf(lab).qualification).toBe(0x4001n);
    expect(lab.p.dr6).toBe(0xffff0ff0);
  });
});

describe('faults during delivery', () => {
  it('exit with the event in the IDT-vectoring information', () => {
    const lab = guest(NP);
    lab.idt(0x51, { selector: SEL.code64, offset: 0xa000n, type: 14, present: false });
    expect(deliverEvent(lab.p, externalInterrupt(0x51))).toBe(VMEXIT);
    expect(exitOf(lab).interruptionInfo).toBe((VALID | ERROR | HARDWARE | NP) >>> 0);
    expect(exitOf(lab).interruptionErrorCode).toBe(0x51 * 8 + 3);
    expect(exitOf(lab).idtVectoringInfo).toBe((VALID | 0x51) >>> 0);
  });

  it('behind INT n report type 4 and the length', () => {
    const lab = guest(GP);
    const before = lab.snapshot();
    expect(lab.run('cd 51').outcome).toBe(VMEXIT);
    expect(exitOf(lab).idtVectoringInfo).toBe((VALID | (4 << 8) | 0x51) >>> 0);
    expect(exitOf(lab).instructionLength).toBe(2);
    expect(lab.snapshot()).toEqual(before);
  });

  it('that make a double fault exit as #DF without IDT-vectoring information', () => {
    const lab = guest(DF);
    lab.idt(DE, { selector: SEL.code64, offset: 0xa000n, type: 14, present: false });
    expect(deliverEvent(lab.p, exception(DE))).toBe(VMEXIT);
    expect(exitOf(lab).interruptionInfo).toBe((VALID | ERROR | HARDWARE | DF) >>> 0);
    expect(exitOf(lab).idtVectoringInfo).toBe(0);
  });

  it('the first fault is asked before it becomes #DF', () => {
    const lab = guest(DF, NP);
    lab.idt(DE, { selector: SEL.code64, offset: 0xa000n, type: 14, present: false });
    deliverEvent(lab.p, exception(DE));
    expect(exitOf(lab).interruptionInfo & 0xff).toBe(NP);
    expect(exitOf(lab).idtVectoringInfo).toBe((VALID | HARDWARE | DE) >>> 0);
  });

  it('a triple fault exits with reason 2 and no IDT-vectoring information', () => {
    const lab = guest();
    lab.p.idtr.limit = 0;
    lab.p.raise(UD);
    expect(deliverFault(lab.p)).toBe(VMEXIT);
    expect(exitOf(lab)).toMatchObject({ reason: REASON.TRIPLE_FAULT, idtVectoringInfo: 0 });
  });
});

describe('instructions', () => {
  it.each([
    ['HLT', 'f4', 'primary', PRIMARY.HLT, REASON.HLT, 1],
    ['LGDT', '0f 01 10', 'secondary', SECONDARY.DESCRIPTOR_TABLE, REASON.GDTR_IDTR, 3],
    ['SLDT', '0f 00 c0', 'secondary', SECONDARY.DESCRIPTOR_TABLE, REASON.LDTR_TR, 3],
  ] as const)('%s exits under its control only', (_, code, word, bit, reason, length) => {
    const lab = guest();
    expect(lab.run(code).outcome).not.toBe(VMEXIT);
    const other = guest();
    other.p.vtx[word] = bit;
    expect(other.run(code).outcome).toBe(VMEXIT);
    expect(exitOf(other)).toMatchObject({ reason, instructionLength: length });
  });

  it('a task switch exits after its checks, with source and selector', () => {
    const lab = new Lab('protected');
    lab.p.vtx.operation = NON_ROOT;
    lab.gdt(SEL.free, { type: 0x09, base: TSS, limit: 0x67, big: false });
    expect(lab.run(`ea 00 00 00 00 ${SEL.free.toString(16)} 00`).outcome).toBe(VMEXIT);
    expect(exitOf(lab)).toMatchObject({ reason: REASON.TASK_SWITCH, qualification: BigInt(SEL.free) | (2n << 30n) });
    lab.gdt(SEL.free, { type: 0x0b, base: TSS, limit: 0x67, big: false });
    expect(lab.run(`ea 00 00 00 00 ${SEL.free.toString(16)} 00`).vector).toBe(GP);
  });

  it('IRET leaves NMI blocking alone with NMI exiting and no virtual NMIs', () => {
    const lab = guest();
    lab.p.vtx.pin = PIN.NMI_EXITING;
    lab.p.nmiBlocked = true;
    lab.push(8, SEL.data, lab.p.gpr(RSP), 2, SEL.code64, 0x8100);
    expect(lab.run('48 cf').outcome).toBe(JUMPED);
    expect(lab.p.nmiBlocked).toBe(true);
  });
});

describe('boundaries', () => {
  function interrupted(pin: number): Lab {
    const lab = guest();
    lab.p.apic.mmioWrite(0xf0, 4, 0x1ff);
    lab.p.apic.accept(0, 0x51, false);
    lab.idt(0x51, { selector: SEL.code64, offset: 0xa000n, type: 14 });
    lab.p.vtx.pin = pin;
    return lab;
  }

  it('an external interrupt exits whatever IF says, if it is to exit at all', () => {
    const lab = interrupted(PIN.EXTERNAL_INTERRUPT_EXITING);
    expect(pollEvents(lab.p)).toBe(VMEXIT);
    expect(exitOf(lab).reason).toBe(REASON.EXTERNAL_INTERRUPT);
    expect(lab.p.apic.hasIrr(0x51)).toBe(true);
    const other = interrupted(0);
    expect(pollEvents(other.p)).toBe(DONE);
    other.p.rflags |= FLAG_IF;
    expect(pollEvents(other.p)).toBe(JUMPED);
  });

  it('INIT exits before everything, an NMI before an interrupt', () => {
    const lab = interrupted(PIN.EXTERNAL_INTERRUPT_EXITING | PIN.NMI_EXITING);
    lab.p.nmiPending = true;
    lab.p.initPending = true;
    pollEvents(lab.p);
    expect(exitOf(lab).reason).toBe(REASON.INIT);
    pollEvents(lab.p);
    expect(exitOf(lab)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI });
    expect(exitOf(lab).interruptionInfo).toBe((VALID | (NMI << 8) | NMI) >>> 0);
  });

  it('an interrupt window opens with IF, from HLT too', () => {
    const lab = guest();
    lab.p.vtx.primary = PRIMARY.INTERRUPT_WINDOW;
    expect(pollEvents(lab.p)).toBe(DONE);
    lab.p.rflags |= FLAG_IF;
    lab.p.activity = HLT;
    expect(pollEvents(lab.p)).toBe(VMEXIT);
    expect(exitOf(lab).reason).toBe(REASON.INTERRUPT_WINDOW);
  });

  it('a SIPI exits in wait-for-SIPI, where nothing else does', () => {
    const lab = interrupted(PIN.EXTERNAL_INTERRUPT_EXITING);
    lab.p.activity = WAIT_SIPI;
    expect(pollEvents(lab.p)).toBe(DONE);
    lab.p.sipiPending = 0x12;
    expect(pollEvents(lab.p)).toBe(VMEXIT);
    expect(exitOf(lab)).toMatchObject({ reason: REASON.SIPI, qualification: 0x12n });
  });
});
