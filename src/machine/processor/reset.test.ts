import { describe, expect, it } from 'vitest';
import { CS, FCW, FTAG, LSTAR, MXCSR, RAX, RDX } from '../engine/layout.ts';
import { Machine } from '../machine.ts';
import { ACTIVE, FLAG_IF, WAIT_SIPI } from '../processor.ts';
import { init, reset, startup } from './reset.ts';
import { Lab } from './testing/lab.ts';

/** A processor that has been at work. */
function used() {
  const { p } = new Lab('long', 3);
  p.setGpr(RAX, 0x1234n);
  p.rflags = 2 | FLAG_IF;
  p.write64(LSTAR, 0x5555n);
  p.xmm(3).fill(7);
  p.write16(FCW, 0x37f);
  p.cr0 = (p.cr0 | 0x4000_0000) >>> 0;
  p.dr[1] = 0x77n;
  p.xcr0 = 3n;
  p.nmiBlocked = true;
  p.interruptShadow = 1;
  return p;
}

describe('RESET', () => {
  it('gives the state of the table', () => {
    const p = used();
    reset(p);
    expect(p.cr0).toBe(0x6000_0010);
    expect([p.cr2, p.cr3, p.cr4, p.efer, p.xcr0]).toEqual([0n, 0n, 0, 0, 1n]);
    expect([p.rip, p.rflags, p.cpl]).toEqual([0xfff0n, 2, 0]);
    expect(p.segments[CS]).toEqual({ selector: 0xf000, base: 0xffff_0000n, limit: 0xffff, attributes: 0x9b });
    for (const n of [0, 2, 3, 4, 5]) {
      const { selector, base, limit, attributes } = p.segments[n]!;
      expect([selector, base, limit, attributes]).toEqual([0, 0n, 0xffff, 0x93]);
    }
    expect([p.dr6, p.dr7, p.dr[1]]).toEqual([0xffff0ff0, 0x400, 0n]);
    expect([p.gdtr.base, p.gdtr.limit]).toEqual([0n, 0xffff]);
    expect(p.gpr(RAX)).toBe(0n);
    expect(p.gpr(RDX)).toBe(0xa06f3n);
    expect([p.read32(MXCSR), p.read16(FCW), p.read8(FTAG)]).toEqual([0x1f80, 0x40, 0xff]);
    expect(p.xmm(3)[0]).toBe(0);
    expect(p.read64(LSTAR)).toBe(0n);
    expect(p.nmiBlocked).toBe(false);
    expect(p.activity).toBe(ACTIVE);
  });

  it('leaves processors other than the bootstrap processor waiting for a SIPI', () => {
    const machine = new Machine({ processors: 2, ramSize: 1 << 20, profile: 'pc' });
    for (const p of machine.processors) {
      machine.activate(p);
      reset(p);
    }
    expect(machine.processors.map((p) => p.activity)).toEqual([ACTIVE, WAIT_SIPI]);
  });
});

describe('INIT', () => {
  it('keeps CD, NW, x87, SSE, MSRs and XCR0', () => {
    const p = used();
    init(p);
    expect(p.cr0).toBe(0x4000_0010);
    expect(p.read16(FCW)).toBe(0x37f);
    expect(p.xmm(3)[0]).toBe(7);
    expect(p.read64(LSTAR)).toBe(0x5555n);
    expect(p.xcr0).toBe(3n);
    expect([p.rip, p.cr4, p.efer, p.interruptShadow]).toEqual([0xfff0n, 0, 0, 0]);
    expect(p.mode64).toBe(false);
  });
});

it('a SIPI starts at vector * 4096', () => {
  const p = used();
  init(p);
  startup(p, 0x08);
  expect([p.rip, p.segments[CS]!.selector, p.segments[CS]!.base]).toEqual([0n, 0x800, 0x8000n]);
});
