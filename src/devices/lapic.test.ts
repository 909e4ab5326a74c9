import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ApicBus } from './apic-bus.ts';
import { BROADCAST, DeliveryMode } from './interrupt-message.ts';
import type { LocalApic } from './lapic.ts';
import { APIC } from './lapic-registers.ts';
import { MASKED, makeApic, SVR_ON, X2APIC, XAPIC } from './test-lapic.ts';

describe('power-on', () => {
  test('registers have their values and every local interrupt is masked', () => {
    const apic = makeApic({ id: 5 });
    apic.apic.reset();
    expect(apic.read(APIC.ID)).toBe(0x0500_0000);
    expect(apic.read(APIC.VERSION)).toBe(0x0106_0014);
    expect(apic.read(APIC.DFR)).toBe(0xffff_ffff);
    expect(apic.read(APIC.SVR)).toBe(0xff);
    expect(apic.read(APIC.LVT_TIMER)).toBe(MASKED);
    expect(apic.read(APIC.LVT_CMCI)).toBe(MASKED);
    expect(apic.apic.softwareEnabled).toBe(false);
    expect(apic.apic.readApicBase()).toBe(XAPIC);
  });

  test('without CMCI and directed EOI the version says so and the entry is not there', () => {
    const { read, write } = makeApic({ cmci: false, directedEoi: false });
    expect(read(APIC.VERSION)).toBe(0x0005_0014);
    expect(read(APIC.LVT_CMCI)).toBe(0);
    write(APIC.SVR, 0x11ff);
    expect(read(APIC.SVR)).toBe(SVR_ON);
  });
});

describe('priority', () => {
  test('the highest request is taken, and blocks its own class and lower ones', () => {
    const { apic, log, fixed, write } = makeApic();
    fixed(0x41);
    fixed(0x52);
    expect(apic.pendingVector).toBe(0x52);
    expect(apic.acknowledge()).toBe(0x52);
    expect(apic.ppr).toBe(0x50);
    fixed(0x5f);
    expect(apic.pendingVector).toBe(-1);
    fixed(0x60);
    expect(apic.acknowledge()).toBe(0x60);
    write(APIC.EOI, 0);
    write(APIC.EOI, 0);
    expect(apic.acknowledge()).toBe(0x5f);
    write(APIC.EOI, 0);
    expect(apic.acknowledge()).toBe(0x41);
    expect(log.filter((line) => line.startsWith('eoi'))).toEqual(['eoi 96 false', 'eoi 82 false', 'eoi 95 false']);
  });

  test('the task priority holds its class and lower ones back', () => {
    const { apic, fixed, write, read } = makeApic();
    write(APIC.TPR, 0x45);
    expect(read(APIC.PPR)).toBe(0x45);
    fixed(0x4f);
    expect(apic.pendingVector).toBe(-1);
    apic.setTpr(0x30);
    expect(apic.pendingVector).toBe(0x4f);
    apic.setTpr(0xf0);
    expect(apic.acknowledge()).toBe(0xff); // the spurious vector
    expect(apic.hasIrr(0x4f)).toBe(true);
    expect(apic.highestIsr).toBe(-1);
  });

  test('the caches equal the bits after any sequence', () => {
    const step = fc.record({ kind: fc.nat(3), n: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { apic, fixed, write } = makeApic();
        const irr = new Set<number>();
        const isr: number[] = [];
        let tpr = 0;
        for (const { kind, n } of steps) {
          if (kind === 0 && n >= 16) {
            fixed(n);
            irr.add(n);
          } else if (kind === 1) {
            write(APIC.TPR, n);
            tpr = n;
          } else if (kind === 2) {
            write(APIC.EOI, 0);
            isr.pop();
          } else if (apic.pendingVector >= 0) {
            const vector = apic.acknowledge();
            irr.delete(vector);
            isr.push(vector);
          }
          const service = isr.at(-1) ?? 0;
          const ppr = (tpr & 0xf0) >= (service & 0xf0) ? tpr : service & 0xf0;
          const best = Math.max(-1, ...irr);
          expect(apic.ppr).toBe(ppr);
          expect(apic.highestIrr).toBe(best);
          expect(apic.highestIsr).toBe(isr.at(-1) ?? -1);
          expect(apic.pendingVector).toBe(best >> 4 > ppr >> 4 ? best : -1);
        }
      }),
    );
  });
});

describe('acceptance', () => {
  test('NMI, SMI, INIT and SIPI pass even when software has not enabled the APIC', () => {
    const { apic, log, write } = makeApic();
    write(APIC.SVR, 0xff);
    expect(apic.accept(DeliveryMode.fixed, 0x40, false)).toBe(false);
    for (const mode of [DeliveryMode.nmi, DeliveryMode.smi, DeliveryMode.init]) {
      expect(apic.accept(mode, 0, false)).toBe(true);
    }
    apic.accept(DeliveryMode.startup, 0x9a, false);
    expect(log).toEqual(['nmi', 'smi', 'init', 'startup 154']);
    expect(apic.accept(DeliveryMode.init, 0, true, false)).toBe(false);
    expect(apic.accept(3, 0x40, false)).toBe(false);
  });

  test('an illegal vector sets the error status, which is seen after a write', () => {
    const { fixed, write, read } = makeApic();
    expect(fixed(15)).toBe(false);
    expect(read(APIC.ESR)).toBe(0);
    write(APIC.ESR, 0);
    expect(read(APIC.ESR)).toBe(0x40);
    write(APIC.ESR, 0);
    expect(read(APIC.ESR)).toBe(0);
  });

  test('the first error interrupts, the next only after the status was written', () => {
    const { apic, write, read } = makeApic();
    write(APIC.LVT_ERROR, 0xfe);
    read(0x40);
    expect(apic.acknowledge()).toBe(0xfe);
    write(APIC.EOI, 0);
    write(APIC.ICR, 0x0f);
    expect(apic.pendingVector).toBe(-1);
    write(APIC.ESR, 0);
    expect(read(APIC.ESR)).toBe(0xa0);
    write(0x3f0, 0x40);
    expect(apic.pendingVector).toBe(0xfe);
  });
});

describe('EOI broadcast', () => {
  test('a level-triggered vector is broadcast unless software suppresses it', () => {
    const { apic, log, fixed, write } = makeApic();
    for (const svr of [SVR_ON, SVR_ON | 0x1000]) {
      write(APIC.SVR, svr);
      fixed(0x61, true);
      apic.acknowledge();
      write(APIC.EOI, 0);
    }
    fixed(0x61, false);
    apic.acknowledge();
    apic.eoi();
    expect(log.filter((line) => line.startsWith('eoi'))).toEqual(['eoi 97 true', 'eoi 97 false', 'eoi 97 false']);
  });
});

describe('IA32_APIC_BASE', () => {
  test.each([
    ['xAPIC to x2APIC', [X2APIC], true, 'x2apic'],
    ['xAPIC to disabled', [0xfee0_0100n], true, 'disabled'],
    ['disabled to xAPIC', [0xfee0_0100n, XAPIC], true, 'xapic'],
    ['disabled to x2APIC', [0xfee0_0100n, X2APIC], false, 'disabled'],
    ['x2APIC to xAPIC', [X2APIC, XAPIC], false, 'x2apic'],
    ['x2APIC to disabled', [X2APIC, 0xfee0_0100n], true, 'disabled'],
    ['EXTD without EN', [0xfee0_0500n], false, 'xapic'],
    ['a reserved bit', [XAPIC | 1n], false, 'xapic'],
    ['an address beyond the physical width', [XAPIC | (1n << 40n)], false, 'xapic'],
  ] as const)('%s', (_name, values, legal, mode) => {
    const { apic } = makeApic({ physicalAddressBits: 40 });
    const last = values.map((value) => apic.writeApicBase(value)).at(-1);
    expect([last, apic.mode]).toEqual([legal, mode]);
  });

  test('x2APIC is reserved where it does not exist and stays where it is locked', () => {
    expect(makeApic({ x2apic: false }).apic.writeApicBase(X2APIC)).toBe(false);
    const { apic } = makeApic({ x2apicLocked: true });
    expect(apic.writeApicBase(X2APIC)).toBe(true);
    expect(apic.writeApicBase(0xfee0_0100n)).toBe(false);
    expect(apic.mode).toBe('x2apic');
  });

  test('switching off forgets requests; an INIT keeps mode and identifier', () => {
    const { apic, fixed } = makeApic({ id: 3 });
    fixed(0x50);
    apic.writeApicBase(0xfee0_0100n);
    expect(apic.pendingVector).toBe(-1);
    apic.writeApicBase(XAPIC);
    expect(apic.highestIrr).toBe(-1);
    apic.writeApicBase(X2APIC);
    apic.writeMsr(0x80f, 0x1ffn);
    apic.initReset();
    expect([apic.mode, apic.apicId, apic.softwareEnabled]).toEqual(['x2apic', 3, false]);
    expect(apic.readMsr(0x80d)).toBe(8n);
  });
});

describe('x2APIC registers', () => {
  function makeX2apic(id = 0x123) {
    const made = makeApic({ id });
    made.apic.writeApicBase(X2APIC);
    made.log.length = 0;
    return made;
  }

  test('identifier is 32 bits and the logical one follows from it', () => {
    const { apic } = makeX2apic();
    expect(apic.readMsr(0x802)).toBe(0x123n);
    expect(apic.readMsr(0x80d)).toBe(0x12_0008n);
  });

  test.each([
    ['identifier is read-only', 0x802, 1n],
    ['logical destination is read-only', 0x80d, 1n],
    ['EOI takes only 0', 0x80b, 1n],
    ['error status takes only 0', 0x828, 1n],
    ['reserved bits', 0x808, 0x100n],
    ['upper half', 0x80f, 1n << 32n],
    ['destination format does not exist', 0x80e, 0xffff_ffffn],
    ['ICR high does not exist', 0x831, 0n],
    ['in-service is read-only', 0x810, 0n],
    ['current count is read-only', 0x839, 0n],
    ['beyond the page', 0x840, 0n],
  ] as const)('writing: %s', (_name, msr, value) => {
    expect(makeX2apic().apic.writeMsr(msr, value)).toBe(false);
  });

  test('write-only and absent registers fault when read, all of them in xAPIC mode', () => {
    const { apic } = makeX2apic();
    for (const msr of [0x80b, 0x83f, 0x80e, 0x809, 0x80c, 0x831, 0x800, 0x8ff]) {
      expect(apic.readMsr(msr)).toBeUndefined();
    }
    expect(makeApic().apic.readMsr(0x802)).toBeUndefined();
    expect(makeApic().apic.writeMsr(0x808, 0n)).toBe(false);
    expect(apic.mmioRead(APIC.ID, 4)).toBe(0xffff_ffff);
  });

  test('the ICR is one 64-bit register, status bits may be written', () => {
    const { apic, log } = makeX2apic();
    expect(apic.writeMsr(0x830, (0x456n << 32n) | 0x1840n)).toBe(true);
    expect(apic.readMsr(0x830)).toBe((0x456n << 32n) | 0x840n);
    expect(log).toEqual(['ipi 0 64 to 1110 0']);
  });

  test('a self IPI interrupts the sender', () => {
    const { apic } = makeX2apic();
    apic.writeMsr(0x83f, 0x77n);
    expect(apic.pendingVector).toBe(0x77);
    apic.acknowledge();
    expect(apic.writeMsr(0x80b, 0n)).toBe(true);
    expect(apic.highestIsr).toBe(-1);
  });
});

describe('xAPIC page', () => {
  test('narrow reads give bytes, reads across a register’s end nothing', () => {
    const { apic } = makeApic({ id: 5 });
    expect(apic.mmioRead(0x23, 1)).toBe(5);
    expect(apic.mmioRead(0x22, 2)).toBe(0x500);
    expect(apic.mmioRead(0x22, 4)).toBe(0);
    expect(apic.mmioRead(APIC.EOI, 4)).toBe(0);
  });

  test('writes keep to the bits that exist', () => {
    const { write, read } = makeApic();
    const all = 0xffff_ffff;
    for (const [offset, kept] of [
      [APIC.TPR, 0xff],
      [APIC.LDR, 0xff00_0000],
      [APIC.DFR, all],
      [APIC.LVT_THERMAL, 0x1_07ff],
      [APIC.LVT_LINT1, 0x1_a7ff],
      [APIC.LVT_ERROR, 0x1_00ff],
      [APIC.LVT_TIMER, 0x7_00ff],
      [APIC.TIMER_DIVIDE, 0x0b],
    ] as const) {
      write(offset, all);
      expect(read(offset)).toBe(kept);
    }
    write(APIC.VERSION, 0);
    expect(read(APIC.VERSION)).toBe(0x0106_0014);
  });

  test('switching off in the SVR masks the local vector table for good', () => {
    const { write, read } = makeApic();
    write(APIC.LVT_LINT1, 0x400);
    write(APIC.SVR, 0xff);
    expect(read(APIC.LVT_LINT1)).toBe(0x1_0400);
    write(APIC.LVT_LINT1, 0x400);
    expect(read(APIC.LVT_LINT1)).toBe(0x1_0400);
    write(APIC.SVR, SVR_ON);
    expect(read(APIC.LVT_LINT1)).toBe(0x1_0400);
  });
});

describe('local interrupts', () => {
  test('LINT0 as ExtINT lets the external controller through while unmasked', () => {
    const { apic, log, write } = makeApic();
    apic.setLint(0, true);
    expect([apic.acceptsExtInt(), log]).toEqual([false, []]);
    write(APIC.LVT_LINT0, 0x700);
    expect(apic.acceptsExtInt()).toBe(true);
    apic.setLint(0, false);
    apic.setLint(0, true);
    write(APIC.LVT_LINT0, 0x1_0700);
    expect(log).toEqual(['extint true', 'extint false', 'extint true', 'extint false']);
  });

  test('LINT1 as NMI fires on the rising edge; without an APIC the pins are INTR and NMI', () => {
    const { apic, log, write } = makeApic();
    write(APIC.LVT_LINT1, 0x400);
    apic.setLint(1, true);
    apic.setLint(1, true);
    expect(log).toEqual(['nmi']);
    apic.setLint(1, false);
    apic.writeApicBase(0xfee0_0100n);
    apic.setLint(1, true);
    apic.setLint(0, true);
    expect(log).toEqual(['nmi', 'nmi', 'extint true']);
    expect(apic.acceptsExtInt()).toBe(true);
  });

  test('a level on LINT0 interrupts again after EOI until it is taken away', () => {
    const { apic, write, read } = makeApic();
    write(APIC.LVT_LINT0, 0x8061);
    apic.setLint(0, true);
    expect(read(APIC.LVT_LINT0)).toBe(0xc061);
    expect(apic.acknowledge()).toBe(0x61);
    write(APIC.EOI, 0);
    expect(apic.acknowledge()).toBe(0x61);
    apic.setLint(0, false);
    write(APIC.EOI, 0);
    expect([apic.pendingVector, read(APIC.LVT_LINT0)]).toEqual([-1, 0x8061]);
  });

  test('a performance interrupt masks itself', () => {
    const { apic, log, write, read } = makeApic();
    write(APIC.LVT_PERFORMANCE, 0x400);
    expect(apic.raiseLocal(APIC.LVT_PERFORMANCE)).toBe(true);
    expect(apic.raiseLocal(APIC.LVT_PERFORMANCE)).toBe(false);
    expect([log, read(APIC.LVT_PERFORMANCE)]).toEqual([['nmi'], 0x1_0400]);
  });
});

describe('destinations', () => {
  test('physical', () => {
    const { apic } = makeApic({ id: 0x123 });
    expect(apic.matches(0x23, false)).toBe(true);
    expect(apic.matches(0x123, false)).toBe(true);
    expect(apic.matches(0x24, false)).toBe(false);
    expect(apic.matches(BROADCAST, false)).toBe(true);
    apic.writeApicBase(X2APIC);
    expect([apic.matches(0x23, false), apic.matches(0x123, false)]).toEqual([false, true]);
    apic.writeApicBase(0xfee0_0100n);
    expect(apic.matches(BROADCAST, false)).toBe(false);
  });

  test('logical flat, logical cluster and x2APIC cluster', () => {
    const { apic, write } = makeApic({ id: 0x25 });
    write(APIC.LDR, 0x2400_0000);
    expect([0x04, 0x20, 0x28, 0x10].map((d) => apic.matches(d, true))).toEqual([true, true, true, false]);
    write(APIC.DFR, 0);
    expect([0x24, 0x2f, 0x28, 0x34, 0x124].map((d) => apic.matches(d, true))).toEqual([
      true,
      true,
      false,
      false,
      false,
    ]);
    apic.writeApicBase(X2APIC);
    expect([0x2_0020, 0x2_ffff, 0x2_0010, 0x3_0020].map((d) => apic.matches(d, true))).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });
});

describe('inter-processor interrupts', () => {
  function makeFour() {
    const bus = new ApicBus();
    const made = [0, 1, 2, 3].map((id) => makeApic({ id }, bus));
    const pending = () => made.map(({ apic }) => apic.pendingVector);
    return { bus, made, pending };
  }

  test.each([
    ['self', 0x4_0040, [0x40, -1, -1, -1]],
    ['all including self', 0x8_0040, [0x40, 0x40, 0x40, 0x40]],
    ['all excluding self', 0xc_0040, [-1, 0x40, 0x40, 0x40]],
    ['physical 2', 0x0_0040, [-1, -1, 0x40, -1]],
  ] as const)('%s', (_name, icr, expected) => {
    const { made, pending } = makeFour();
    made[0]?.write(APIC.ICR_HIGH, 0x0200_0000);
    made[0]?.write(APIC.ICR, icr);
    expect(pending()).toEqual(expected);
  });

  test('INIT and SIPI reach the named processor, an INIT de-assertion nobody', () => {
    const { made } = makeFour();
    made[0]?.write(APIC.ICR_HIGH, 0x0300_0000);
    for (const icr of [0xc500, 0x8500, 0x0612]) made[0]?.write(APIC.ICR, icr);
    expect(made[3]?.log).toEqual(['init', 'startup 18']);
    expect(made[2]?.log).toEqual([]);
  });

  test('the delivery status is always idle', () => {
    const { made } = makeFour();
    made[0]?.write(APIC.ICR, 0x0500);
    expect(made[0]?.read(APIC.ICR)).toBe(0x0500);
  });

  test('a lowest-priority message goes to the least busy, equals take turns', () => {
    const { bus, made, pending } = makeFour();
    made[0]?.apic.setTpr(0x80);
    made[2]?.write(APIC.SVR, 0xff);
    const message = {
      destination: BROADCAST,
      logical: true,
      deliveryMode: DeliveryMode.lowestPriority,
      vector: 0x90,
      levelTriggered: false,
      asserted: true,
    };
    expect(bus.deliver(message)).toBe(true);
    expect(bus.deliver({ ...message, vector: 0x91 })).toBe(true);
    expect(pending()).toEqual([-1, 0x90, -1, 0x91]);
    bus.remove(made[1]?.apic as LocalApic);
    bus.remove(made[3]?.apic as LocalApic);
    expect(bus.deliver({ ...message, vector: 0x92 })).toBe(true);
    expect(pending()[0]).toBe(0x92);
    expect(bus.deliver({ ...message, destination: 9, logical: false })).toBe(false);
  });
});

describe('state', () => {
  test('a restored APIC has the same interrupts and timer', () => {
    const first = makeApic();
    first.write(APIC.LVT_TIMER, 0x2_0040);
    first.write(APIC.TIMER_INITIAL, 50);
    first.fixed(0x30);
    first.apic.acknowledge();
    first.fixed(0x55);
    first.clock.advance(30);
    const second = makeApic({ clock: first.clock });
    second.apic.restore(structuredClone(first.apic.state));
    expect(second.apic.pendingVector).toBe(0x55);
    expect(second.apic.highestIsr).toBe(0x30);
    expect(second.read(APIC.TIMER_CURRENT)).toBe(35);
    first.clock.advance(70);
    expect(second.apic.hasIrr(0x40)).toBe(true);
  });

  test('a register page with a running count goes on from there', () => {
    const first = makeApic();
    first.write(APIC.LVT_TIMER, 0x40);
    first.write(APIC.TIMER_INITIAL, 50);
    first.fixed(0x30);
    first.clock.advance(20);
    const image = first.apic.registerImage();
    expect(image[APIC.TIMER_CURRENT >> 2]).toBe(40);
    const second = makeApic();
    second.apic.loadRegisters(image);
    expect(second.apic.pendingVector).toBe(0x30);
    second.clock.advance(80);
    expect(second.apic.pendingVector).toBe(0x40);
  });

  test('setting a register directly keeps the caches right', () => {
    const { apic } = makeApic();
    apic.setRegister(APIC.IRR + 0x20, 1 << 3);
    expect(apic.pendingVector).toBe(0x43);
    apic.setRegister(APIC.TPR, 0x50);
    expect(apic.pendingVector).toBe(-1);
  });
});
