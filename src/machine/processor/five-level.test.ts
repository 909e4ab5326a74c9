/** 5-level paging: which addresses are canonical, and for whom. */
import { describe, expect, it, test } from 'vitest';
import { FS, RAX, RBX, RCX, RSP } from '../engine/layout.ts';
import { flushTlb, tlbContextChanged } from '../mmu/tlb.ts';
import { writeMsr } from '../msr/msr.ts';
import { DONE, GP, PF, SS_FAULT } from '../outcome.ts';
import { CR4_FSGSBASE, CR4_LA57, CR4_PCIDE } from '../processor.ts';
import { runProcessor, STOP } from '../run.ts';
import { writeCr4 } from '../system/control-registers.ts';
import { CODE, DATA, Lab, SEL, STACK0, TSS } from './testing/lab.ts';

/** Canonical with 57 bits only. Everything of the lab is mapped a second time from here on. */
const HIGH = 0x1_0000_0000_0000n;
/** Canonical with neither width. */
const BEYOND = 0x100_0000_0000_0000n;
const PML5 = 0x28000;
const HANDLER = 0xa000;

/** A lab in 64-bit mode with paging of five levels, or of four. */
function lab(levels: 4 | 5): Lab {
  const l = new Lab('long');
  const { memory } = l.machine;
  if (levels === 5) {
    memory.write64(PML5, l.p.cr3 | 7n);
    memory.write64(PML5 + 8, l.p.cr3 | 7n);
    l.p.cr3 = BigInt(PML5);
    l.p.cr4 |= CR4_LA57;
    flushTlb(l.p, { global: true });
    tlbContextChanged(l.p);
  }
  for (const vector of [GP, SS_FAULT, PF]) {
    l.idt(vector, { selector: SEL.code64, offset: BigInt(HANDLER + vector * 16), type: 14 });
    // mov bl, vector; pop rax (the error code); pop rcx (RIP); hlt
    put(l, HANDLER + vector * 16, `b3 0${vector.toString(16)} 58 59 f4`);
  }
  return l;
}

const put = (l: Lab, at: number, hex: string): void =>
  l.machine.memory.writeBytes(
    at,
    Uint8Array.from(hex.split(' '), (byte) => Number.parseInt(byte, 16)),
  );

/** Runs code at CODE until HLT. Gives the vector of the fault (0: none), and RCX, the RIP of it. */
function run(l: Lab, code: string): { vector: number; rip: bigint } {
  put(l, CODE, code);
  l.p.setGpr(RBX, 0n);
  expect(runProcessor(l.p, l.machine.clock.now() + 10_000)).toBe(STOP.idle);
  return { vector: l.p.gpr32(RBX), rip: l.p.gpr(RCX) };
}

describe.each([4, 5] as const)('with %i levels', (levels) => {
  const legal = levels === 5;
  const verdict = (vector: number): object => (legal ? { vector: 0 } : { vector, rip: BigInt(CODE) });

  it('memory is accessed', () => {
    const l = lab(levels);
    l.machine.memory.write64(DATA, 0x1234n);
    l.p.setGpr(RAX, HIGH + BigInt(DATA));
    expect(run(l, '48 8b 10 f4')).toMatchObject(verdict(GP)); // mov rdx, [rax]
    if (legal) expect(l.p.gpr(2)).toBe(0x1234n);
    const m = lab(levels);
    m.p.setGpr(5, HIGH + BigInt(DATA));
    // The fault is delivered on the stack that RSP names.
    expect(run(m, '48 8b 55 00 f4')).toMatchObject(verdict(SS_FAULT)); // mov rdx, [rbp]
  });

  test.each([
    ['jmp rax', 'ff e0'],
    ['call rax', 'ff d0'],
  ])('code is executed: %s', (_name, code) => {
    const l = lab(levels);
    l.p.setGpr(RAX, HIGH + BigInt(CODE + 0x100));
    put(l, CODE + 0x100, 'f4');
    expect(run(l, code)).toMatchObject(verdict(GP));
    if (legal) expect(l.p.rip).toBe(HIGH + BigInt(CODE + 0x101));
  });

  it('RET, far RET and IRET go there', () => {
    for (const code of ['c3', '48 cb', '48 cf']) {
      const l = lab(levels);
      put(l, CODE + 0x100, 'f4');
      l.push(8, SEL.data, STACK0, 2, SEL.code64, HIGH + BigInt(CODE + 0x100));
      expect(run(l, code), code).toMatchObject(verdict(GP));
    }
  });

  it('an address beyond 57 bits is never one', () => {
    for (const code of ['ff e0', '48 8b 10 f4']) {
      const l = lab(levels);
      l.p.setGpr(RAX, BEYOND);
      expect(run(l, code)).toEqual({ vector: GP, rip: BigInt(CODE) });
    }
  });

  it.each([
    ['a gate leads there', HIGH, 0n, GP],
    ['a stack of the TSS lies there', 0n, HIGH, SS_FAULT],
  ])('%s', (_name, code, stack, vector) => {
    const l = lab(levels);
    l.idt(0x40, { selector: SEL.code64, offset: code + BigInt(HANDLER + 0x800), type: 14, ist: 1 });
    l.machine.memory.write64(TSS + 0x24, stack + BigInt(STACK0 - 0x100));
    put(l, HANDLER + 0x800, 'f4');
    expect(run(l, 'cd 40 f4')).toMatchObject(verdict(vector));
    if (legal)
      expect([l.p.rip, l.p.gpr(RSP)]).toEqual([code + BigInt(HANDLER + 0x801), stack + BigInt(STACK0 - 0x128)]);
  });

  it('registers take 57 bits whatever the paging: MSRs, bases of segments and tables, INVPCID', () => {
    for (const msr of [0xc000_0082, 0xc000_0083, 0xc000_0100, 0xc000_0101, 0xc000_0102, 0x175, 0x176]) {
      const { p } = lab(levels);
      expect(writeMsr(p, msr, HIGH), msr.toString(16)).toBe(true);
      expect(writeMsr(p, msr, BEYOND), msr.toString(16)).toBe(false);
    }
    const l = lab(levels);
    const { p } = l;
    p.cr4 |= CR4_FSGSBASE | CR4_PCIDE;
    p.setGpr(RAX, HIGH);
    expect(l.run('f3 48 0f ae d0').outcome).toBe(DONE); // wrfsbase rax
    expect(p.segments[FS]!.base).toBe(HIGH);
    p.setGpr(RAX, BEYOND);
    expect(l.run('f3 48 0f ae d0').vector).toBe(GP);
    p.setGpr(RBX, BigInt(DATA));
    for (const [base, vector] of [
      [HIGH, -1],
      [BEYOND, GP],
    ] as const) {
      l.machine.memory.write64(DATA + 2, base);
      expect(l.run('0f 01 1b').vector).toBe(vector); // lidt [rbx]
      l.gdt(SEL.free, { type: 0x09, base: TSS, limit: 0x67, big: false });
      l.machine.memory.write64(0x1000 + SEL.free + 8, base >> 32n);
      p.setGpr(RAX, BigInt(SEL.free));
      expect(l.run('0f 00 d8').vector).toBe(vector); // ltr ax
      l.machine.memory.write64(DATA, 0n);
      l.machine.memory.write64(DATA + 8, base);
      p.setGpr(RCX, 0n);
      expect(l.run('66 0f 38 82 0b').vector).toBe(vector); // invpcid rcx, [rbx]
    }
  });

  it('an FS base beyond 48 bits counts when memory is accessed', () => {
    const l = lab(levels);
    l.p.segments[FS]!.base = HIGH;
    l.p.syncSegments();
    expect(run(l, `64 48 8b 14 25 00 90 00 00 f4`)).toMatchObject(verdict(GP)); // mov rdx, fs:[0x9000]
  });

  it('SYSCALL goes where LSTAR says; the fetch faults if that cannot be', () => {
    const l = lab(levels);
    l.machine.memory.write16(CODE + 0x100, 0xf4);
    writeMsr(l.p, 0xc000_0081, BigInt(SEL.code64) << 32n);
    writeMsr(l.p, 0xc000_0082, HIGH + BigInt(CODE + 0x100));
    const { vector, rip } = run(l, '0f 05');
    expect(vector).toBe(legal ? 0 : GP);
    if (!legal) expect(rip).toBe(HIGH + BigInt(CODE + 0x100));
  });
});

describe('CR4.LA57', () => {
  it('cannot change in IA-32e mode', () => {
    for (const levels of [4, 5] as const) {
      const { p } = lab(levels);
      const before = p.cr4;
      writeCr4(p, BigInt(before ^ CR4_LA57));
      expect([p.fault.vector, p.cr4]).toEqual([GP, before]);
    }
  });

  it('can outside, with and without paging', () => {
    const { p } = new Lab('protected');
    expect(writeCr4(p, BigInt(p.cr4 | CR4_LA57))).toBe(DONE);
    expect(p.cr4 & CR4_LA57).toBe(CR4_LA57);
    expect(writeCr4(p, BigInt(p.cr4 & ~CR4_LA57))).toBe(DONE);
  });
});
