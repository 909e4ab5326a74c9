import { describe, expect, test } from 'vitest';
import { RAX, RCX, RDX } from '../engine/layout.ts';
import { PRIMARY, SECONDARY } from './controls.ts';
import { REASON } from './reasons.ts';
import {
  APICV,
  apicGuest,
  HANDLERS,
  hasVector,
  requestVirtual,
  serviceVirtual,
  setVector,
  setVirtualRegister,
  status,
  virtualRegister,
} from './test-apic.ts';
import { CODE, get, run, set } from './test-guest.ts';
import { VAPIC } from './virtual-apic.ts';
import type { Vtx } from './vtx.ts';

const CPUID = '0f a2';
const handler = (vector: number): number => HANDLERS + 16 * vector;
const open = (v: Vtx): Vtx => {
  set(v, 'GUEST_RFLAGS', 0x202);
  return v;
};

describe('evaluation of pending virtual interrupts', () => {
  test.each([
    ['RVI of a higher class than VPPR is recognized', 0x41, 0x3f, true],
    ['RVI of the same class is not', 0x4f, 0x40, false],
    ['RVI of a lower class is not', 0x31, 0x40, false],
  ])('%s', (_name, rvi, vtpr, delivered) => {
    const v = open(apicGuest(CPUID, APICV));
    setVirtualRegister(v, VAPIC.TPR, vtpr);
    requestVirtual(v, rvi);
    expect(run(v).rip).toBe(delivered ? handler(rvi) : CODE);
  });
  test('at VM entry VPPR is computed: the higher of VTPR and SVI by class', () => {
    const low = apicGuest(CPUID, APICV);
    setVirtualRegister(low, VAPIC.TPR, 0x35);
    serviceVirtual(low, 0x51);
    run(low);
    expect(virtualRegister(low, VAPIC.PPR)).toBe(0x50);
    const high = apicGuest(CPUID, APICV);
    setVirtualRegister(high, VAPIC.TPR, 0x55);
    serviceVirtual(high, 0x51);
    run(high);
    expect(virtualRegister(high, VAPIC.PPR)).toBe(0x55);
  });
  test('with interrupt-window exiting nothing is recognized: the window exits', () => {
    const v = open(apicGuest(CPUID, APICV, PRIMARY.INTERRUPT_WINDOW));
    requestVirtual(v, 0x41);
    expect(run(v).reason).toBe(REASON.INTERRUPT_WINDOW);
    expect(status(v)).toEqual({ rvi: 0x41, svi: 0 });
  });
  test('VIRR without RVI is nothing', () => {
    const v = open(apicGuest(CPUID, APICV));
    setVector(v, VAPIC.IRR, 0x41);
    expect(run(v).rip).toBe(CODE);
  });
});

describe('virtual-interrupt delivery', () => {
  test('VISR, SVI, VPPR, VIRR and RVI', () => {
    const v = open(apicGuest(CPUID, APICV));
    setVector(v, VAPIC.IRR, 0x33);
    requestVirtual(v, 0x64);
    expect(run(v)).toMatchObject({ reason: REASON.CPUID, rip: handler(0x64) });
    expect(status(v)).toEqual({ rvi: 0x33, svi: 0x64 });
    expect(hasVector(v, VAPIC.ISR, 0x64)).toBe(true);
    expect(hasVector(v, VAPIC.IRR, 0x64)).toBe(false);
    expect(virtualRegister(v, VAPIC.PPR)).toBe(0x60);
  });
  test('waits for RFLAGS.IF, and for the end of the STI shadow', () => {
    const v = apicGuest('90 fb 90 0f a2', APICV); // nop; sti; nop; cpuid
    requestVirtual(v, 0x41);
    expect(run(v).rip).toBe(handler(0x41));
    expect(Number(v.p.machine.memory.read64(Number(get(v, 'GUEST_RSP'))))).toBe(CODE + 3);
  });
  test('POPF that sets IF lets it in', () => {
    const v = apicGuest('9c 81 0c 24 00 02 00 00 9d 90 0f a2', APICV); // pushf; or dword [rsp], 200h; popf; nop; cpuid
    requestVirtual(v, 0x41);
    expect(run(v).rip).toBe(handler(0x41));
    expect(Number(v.p.machine.memory.read64(Number(get(v, 'GUEST_RSP'))))).toBe(CODE + 9);
  });
  test('IRET that sets IF lets it in at once', () => {
    // push ss; push rsp; push 202h; push cs; push target; iretq; target: nop; cpuid
    const v = apicGuest('6a 18 54 68 02 02 00 00 6a 10 68 11 50 00 00 48 cf 90 0f a2', APICV);
    v.p.machine.memory.write64(0x2_6000 + 0x18, 0x00cf_9300_0000_ffffn);
    set(v, 'GUEST_RFLAGS', 2);
    requestVirtual(v, 0x41);
    expect(run(v)).toMatchObject({ reason: REASON.CPUID, rip: handler(0x41) });
    expect(Number(v.p.machine.memory.read64(Number(get(v, 'GUEST_RSP'))))).toBe(CODE + 17);
  });
  test('wakes a guest that halts', () => {
    const v = open(apicGuest(CPUID, APICV));
    set(v, 'GUEST_ACTIVITY', 1);
    requestVirtual(v, 0x41);
    expect(run(v).rip).toBe(handler(0x41));
  });
  test('an exit during delivery tells of an external interrupt', () => {
    const v = open(apicGuest(CPUID, APICV));
    requestVirtual(v, 0x41);
    set(v, 'GUEST_IDTR_BASE', 0x4000_0000);
    set(v, 'EXCEPTION_BITMAP', 1 << 14);
    expect(run(v).reason).toBe(REASON.EXCEPTION_OR_NMI);
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0x8000_0041n);
    expect(status(v)).toEqual({ rvi: 0, svi: 0x41 });
  });
  test('comes after an injected event, on top of it', () => {
    const v = open(apicGuest(CPUID, APICV));
    requestVirtual(v, 0x41);
    set(v, 'ENTRY_INTERRUPTION_INFO', 0x8000_0030);
    // The handler of the injected interrupt runs with IF clear: the virtual one waits.
    expect(run(v).rip).toBe(handler(0x30));
    expect(status(v)).toEqual({ rvi: 0x41, svi: 0 });
  });
  test('an external interrupt comes after it, at the first instruction of the handler', () => {
    const v = open(apicGuest(CPUID, APICV));
    requestVirtual(v, 0x41);
    v.p.apic.writeMsr(0x80f, 0x1ffn);
    v.p.apic.setRegister(0xf0, 0x1ff);
    v.p.apic.accept(0, 0xec, false);
    expect(run(v)).toMatchObject({ reason: REASON.EXTERNAL_INTERRUPT, rip: handler(0x41) });
    v.p.apic.eoi();
  });
  test('RVI and SVI stay as they are without the control', () => {
    const v = open(apicGuest(CPUID, SECONDARY.VIRTUALIZE_X2APIC));
    requestVirtual(v, 0x41);
    expect(run(v).rip).toBe(CODE);
    expect(status(v)).toEqual({ rvi: 0x41, svi: 0 });
  });
});

describe('TPR virtualization', () => {
  const MOV_CR8 = '44 0f 22 c0 0f a2'; // mov cr8, rax; cpuid
  test('a lower CR8 lets a virtual interrupt in', () => {
    const v = open(apicGuest(MOV_CR8, APICV));
    setVirtualRegister(v, VAPIC.TPR, 0x50);
    requestVirtual(v, 0x41);
    v.p.setGpr(RAX, 3n);
    expect(run(v).rip).toBe(handler(0x41));
    expect(virtualRegister(v, VAPIC.TPR)).toBe(0x30);
  });
  test('a higher one holds it back', () => {
    const v = apicGuest('44 0f 22 c0 fb 90 0f a2', APICV);
    requestVirtual(v, 0x41);
    v.p.setGpr(RAX, 4n);
    expect(run(v).rip).toBe(CODE + 6);
    expect(status(v)).toEqual({ rvi: 0x41, svi: 0 });
    expect(virtualRegister(v, VAPIC.PPR)).toBe(0x40);
  });
  test('the TPR threshold counts only without virtual-interrupt delivery', () => {
    const without = apicGuest(MOV_CR8, SECONDARY.VIRTUALIZE_X2APIC);
    setVirtualRegister(without, VAPIC.TPR, 0x50);
    set(without, 'TPR_THRESHOLD', 4);
    without.p.setGpr(RAX, 3n);
    expect(run(without)).toMatchObject({ reason: REASON.TPR_BELOW_THRESHOLD, rip: CODE + 4 });
    const with_ = apicGuest(MOV_CR8, APICV);
    set(with_, 'TPR_THRESHOLD', 4);
    with_.p.setGpr(RAX, 3n);
    expect(run(with_).reason).toBe(REASON.CPUID);
  });
  test('after VM entry with virtualized APIC accesses a TPR below the threshold exits at once', () => {
    const v = apicGuest(CPUID, SECONDARY.VIRTUALIZE_APIC_ACCESSES);
    setVirtualRegister(v, VAPIC.TPR, 0x30);
    set(v, 'TPR_THRESHOLD', 4);
    expect(run(v)).toMatchObject({ reason: REASON.TPR_BELOW_THRESHOLD, rip: CODE });
    setVirtualRegister(v, VAPIC.TPR, 0x40);
    expect(run(v).reason).toBe(REASON.CPUID);
  });
});

describe('EOI virtualization', () => {
  /** WRMSR 80Bh ← 0; CPUID. */
  const eoiGuest = (): Vtx => {
    const v = apicGuest('0f 30 0f a2', APICV);
    v.p.setGpr(RCX, 0x80bn);
    v.p.setGpr(RAX, 0n);
    v.p.setGpr(RDX, 0n);
    return v;
  };
  test('the vector in service ends and the next lower one is SVI', () => {
    const v = eoiGuest();
    setVector(v, VAPIC.ISR, 0x31);
    serviceVirtual(v, 0x82);
    expect(run(v).reason).toBe(REASON.CPUID);
    expect(status(v)).toEqual({ rvi: 0, svi: 0x31 });
    expect(hasVector(v, VAPIC.ISR, 0x82)).toBe(false);
    expect(virtualRegister(v, VAPIC.PPR)).toBe(0x30);
  });
  test('it lets in what was held back', () => {
    const v = open(eoiGuest());
    requestVirtual(v, 0x41);
    serviceVirtual(v, 0x82);
    expect(run(v).rip).toBe(handler(0x41));
    expect(status(v)).toEqual({ rvi: 0, svi: 0x41 });
  });
  test.each([0x11, 0x3f, 0x40, 0x82, 0xc5, 0xff])('the EOI-exit bitmap makes vector %i exit, as a trap', (vector) => {
    const v = open(eoiGuest());
    const fields = ['EOI_EXIT_BITMAP_0', 'EOI_EXIT_BITMAP_1', 'EOI_EXIT_BITMAP_2', 'EOI_EXIT_BITMAP_3'] as const;
    set(v, fields[vector >> 6]!, 1n << BigInt(vector & 63));
    serviceVirtual(v, vector);
    requestVirtual(v, 0x10);
    expect(run(v)).toMatchObject({ reason: REASON.VIRTUALIZED_EOI, qualification: BigInt(vector), rip: CODE + 2 });
    expect(status(v).svi).toBe(0);
  });
  test('the other vectors do not exit', () => {
    const v = eoiGuest();
    set(v, 'EOI_EXIT_BITMAP_2', ~(1n << 2n) & 0xffff_ffff_ffff_ffffn);
    serviceVirtual(v, 0x82);
    expect(run(v).reason).toBe(REASON.CPUID);
  });
  test('nothing in service: vector 0 ends', () => {
    const v = eoiGuest();
    set(v, 'EOI_EXIT_BITMAP_0', 1);
    expect(run(v)).toMatchObject({ reason: REASON.VIRTUALIZED_EOI, qualification: 0n });
  });
});

describe('virtualized x2APIC mode', () => {
  const READ = '0f 32 0f a2';
  const WRITE = '0f 30 0f a2';
  const msr = (hex: string, index: number, value = 0n, secondary = APICV): Vtx => {
    const v = open(apicGuest(hex, secondary));
    v.p.setGpr(RCX, BigInt(index));
    v.p.setGpr(RAX, value & 0xffff_ffffn);
    v.p.setGpr(RDX, value >> 32n);
    set(v, 'EXCEPTION_BITMAP', 1 << 13);
    return v;
  };
  test('RDMSR 808h reads VTPR, 8 bytes', () => {
    const v = msr(READ, 0x808, 0n, SECONDARY.VIRTUALIZE_X2APIC);
    setVirtualRegister(v, VAPIC.TPR, 0x77);
    setVirtualRegister(v, VAPIC.TPR + 4, 0x1234);
    run(v);
    expect(v.p.gpr(RAX)).toBe(0x77n);
    expect(v.p.gpr(RDX)).toBe(0x1234n);
  });
  test('with APIC-register virtualization every index reads the page', () => {
    for (const index of [0x800, 0x802, 0x830, 0x8ff]) {
      const v = msr(READ, index);
      setVirtualRegister(v, (index & 0xff) << 4, 0xabcd);
      run(v);
      expect(v.p.gpr(RAX)).toBe(0xabcdn);
    }
  });
  test('without it the other indices are the real APIC (here: not in x2APIC mode)', () => {
    const v = msr(READ, 0x802, 0n, SECONDARY.VIRTUALIZE_X2APIC);
    expect(run(v).reason).toBe(REASON.EXCEPTION_OR_NMI);
  });
  test('the MSR bitmap comes first', () => {
    const v = msr(READ, 0x808);
    v.p.machine.memory.write8(0x2_9000 + 0x808 / 8, 1);
    expect(run(v).reason).toBe(REASON.RDMSR);
  });
  test('WRMSR 808h is TPR virtualization', () => {
    const v = msr(WRITE, 0x808, 0x20n);
    setVirtualRegister(v, VAPIC.TPR, 0x50);
    requestVirtual(v, 0x41);
    expect(run(v).rip).toBe(handler(0x41));
  });
  test.each([
    ['TPR above FFh', 0x808, 0x100n],
    ['TPR in EDX', 0x808, 1n << 32n],
    ['EOI that is not 0', 0x80b, 1n],
    ['self-IPI above FFh', 0x83f, 0x141n],
    ['self-IPI in EDX', 0x83f, 0x1_0000_0041n],
  ])('#GP for %s', (_name, index, value) => {
    const v = msr(WRITE, index, value);
    expect(run(v)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI, rip: CODE });
    expect(virtualRegister(v, (index & 0xff) << 4)).toBe(0);
  });
  test('WRMSR 83Fh is self-IPI virtualization', () => {
    const v = msr(WRITE, 0x83f, 0x41n);
    expect(run(v).rip).toBe(handler(0x41));
    expect(virtualRegister(v, VAPIC.SELF_IPI)).toBe(0x41);
    expect(status(v)).toEqual({ rvi: 0, svi: 0x41 });
  });
  test('a self-IPI below RVI leaves RVI as it is', () => {
    const v = msr(WRITE, 0x83f, 0x41n);
    setVirtualRegister(v, VAPIC.TPR, 0xf0);
    requestVirtual(v, 0x51);
    run(v);
    expect(status(v)).toEqual({ rvi: 0x51, svi: 0 });
    expect(hasVector(v, VAPIC.IRR, 0x41)).toBe(true);
  });
  test('a self-IPI of vector 0 to 15 is an APIC-write exit', () => {
    const v = msr(WRITE, 0x83f, 0xfn);
    expect(run(v)).toMatchObject({ reason: REASON.APIC_WRITE, qualification: 0x3f0n, rip: CODE + 2 });
  });
  test('EOI and self-IPI without virtual-interrupt delivery are the real APIC', () => {
    const v = msr(WRITE, 0x80b, 0n, SECONDARY.VIRTUALIZE_X2APIC);
    expect(run(v).reason).toBe(REASON.EXCEPTION_OR_NMI);
  });
});
