import { describe, expect, test } from 'vitest';
import { EINVAL, EOPNOTSUPP } from '../../host/errno.ts';
import { kvmCheckRequest } from '../virt/kvm_host.ts';
import { kvmCpuGetInterrupt } from './irq.ts';
import { kvmSetGsiRouting, kvmSignalMsi } from './irq_comm.ts';
import {
  KVM_MP_STATE_INIT_RECEIVED,
  KVM_MP_STATE_RUNNABLE,
  KVM_MP_STATE_UNINITIALIZED,
  KVM_REQ_IOAPIC_EOI_EXIT,
  KVM_REQ_NMI,
} from './kvm_host.ts';
import {
  kvmApicAcceptIrq,
  kvmApicAfterSetCpuid,
  kvmApicGetState,
  kvmApicHasInterrupt,
  kvmApicSetBase,
  kvmApicSetState,
  kvmCreateLapic,
  kvmFreeLapic,
  kvmGetApicBase,
  kvmGetLapicTscdeadlineMsr,
  kvmLapicGetCr8,
  kvmLapicMmioRead,
  kvmLapicMmioWrite,
  kvmLapicReset,
  kvmLapicSetTpr,
  kvmSetLapicTscdeadlineMsr,
  kvmX2apicMsrRead,
  kvmX2apicMsrWrite,
} from './lapic.ts';
import { kvmApicAcceptEvents, kvmApicHasPendingInitOrSipi } from './lapic_events.ts';
import { IrqLab } from './testing/irq_lab.ts';

const ICR = 0x300;
const ICR_HIGH = 0x310;
const LVT_TIMER = 0x320;
const INIT = 0x4500;
const STARTUP = 0x4600;
const TSC_DEADLINE_MODE = 2 << 17;
const PERIODIC = 1 << 17;

describe('IA32_APIC_BASE', () => {
  const ENABLED = 0xfee0_0900n;
  test('the boot vCPU’s APIC is enabled with the BSP bit, another one’s without', () => {
    const { vcpus } = new IrqLab(2);
    expect(vcpus.map(kvmGetApicBase)).toEqual([ENABLED, 0xfee0_0800n]);
  });
  test.each([
    ['a reserved bit', ENABLED | 1n],
    ['beyond MAXPHYADDR', ENABLED | (1n << 52n)],
    ['x2APIC while disabled', 0xfee0_0500n],
  ])('%s → #GP', (_, value) => {
    const [vcpu] = new IrqLab().vcpus;
    expect(kvmApicSetBase(vcpu!, value, false)).toBe(1);
    expect(kvmGetApicBase(vcpu!)).toBe(ENABLED);
  });
  test('the guest leaves x2APIC mode only to disabled; the host goes where it likes', () => {
    const [vcpu] = new IrqLab().vcpus;
    expect(kvmApicSetBase(vcpu!, ENABLED | 0x400n, false)).toBe(0);
    expect(kvmApicSetBase(vcpu!, ENABLED, false)).toBe(1);
    expect(kvmApicSetBase(vcpu!, ENABLED, true)).toBe(0);
    expect(vcpu!.arch.apic!.mode).toBe('xapic');
    expect(kvmApicSetBase(vcpu!, 0xfee0_0100n, false)).toBe(0);
    expect(kvmApicSetBase(vcpu!, ENABLED | 0x400n, false)).toBe(1);
    expect(kvmApicSetBase(vcpu!, ENABLED | 0x400n, true)).toBe(0);
    expect(vcpu!.arch.apic!.mode).toBe('x2apic');
  });
  test('x2APIC mode needs the CPUID feature', () => {
    const [vcpu] = new IrqLab().vcpus;
    vcpu!.arch.cpuidEntries = [];
    kvmApicAfterSetCpuid(vcpu!);
    expect(kvmApicSetBase(vcpu!, ENABLED | 0x400n, false)).toBe(1);
  });
  test('without an in-kernel APIC the same values are refused', () => {
    const [vcpu] = new IrqLab(1, 'none').vcpus;
    expect(kvmApicSetBase(vcpu!, 0xfee0_0500n, false)).toBe(1);
    expect(kvmApicSetBase(vcpu!, 0xfee0_0100n, false)).toBe(0);
    expect(kvmGetApicBase(vcpu!)).toBe(0xfee0_0100n);
  });
});

describe('register page', () => {
  test('moves with the base; elsewhere → −EOPNOTSUPP', () => {
    const [vcpu] = new IrqLab().vcpus;
    const data = new Uint8Array(4);
    expect(kvmLapicMmioRead(vcpu!, 0xfee0_0030, 4, data)).toBe(0);
    expect(data[0]).toBe(0x14);
    kvmApicSetBase(vcpu!, 0xd000_0900n, false);
    expect(kvmLapicMmioRead(vcpu!, 0xfee0_0030, 4, data)).toBe(-EOPNOTSUPP);
    expect(kvmLapicMmioWrite(vcpu!, 0xd000_00f0, 4, Uint8Array.of(0xff, 1, 0, 0))).toBe(0);
    expect(vcpu!.arch.apic!.softwareEnabled).toBe(true);
  });
  test('in x2APIC mode it reads all ones, or is nobody’s where the quirk is off', () => {
    const lab = new IrqLab();
    const [vcpu] = lab.vcpus;
    lab.enterX2apic(0);
    const data = new Uint8Array(4);
    expect(kvmLapicMmioRead(vcpu!, 0xfee0_0030, 4, data)).toBe(0);
    expect([...data]).toEqual([255, 255, 255, 255]);
    lab.vm.arch.disabledQuirks = 4n;
    expect(kvmLapicMmioRead(vcpu!, 0xfee0_0030, 4, data)).toBe(-EOPNOTSUPP);
  });
  test('CR8 is the upper half of the task priority', () => {
    const lab = new IrqLab();
    kvmLapicSetTpr(lab.vcpus[0]!, 9);
    expect(lab.apicRead(0, 0x80)).toBe(0x90);
    lab.apicWrite(0, 0x80, 0x5f);
    expect(kvmLapicGetCr8(lab.vcpus[0]!)).toBe(5);
  });
  test('x2APIC MSRs in xAPIC mode → #GP', () => {
    const [vcpu] = new IrqLab().vcpus;
    expect(kvmX2apicMsrRead(vcpu!, 0x802)).toBeUndefined();
    expect(kvmX2apicMsrWrite(vcpu!, 0x80b, 0n)).toBe(false);
  });
  test('x2APIC identifier and logical identifier follow from the vCPU’s id', () => {
    const lab = new IrqLab(18);
    lab.enterX2apic(17);
    expect(kvmX2apicMsrRead(lab.vcpus[17]!, 0x802)).toBe(17n);
    expect(kvmX2apicMsrRead(lab.vcpus[17]!, 0x80d)).toBe(0x1_0002n);
  });
  test('only the boot vCPU’s LINT0 lets the PIC through after reset, unless the quirk is off', () => {
    const lab = new IrqLab(2);
    expect([lab.apicRead(0, 0x350), lab.apicRead(1, 0x350)]).toEqual([0x700, 0x1_0000]);
    lab.vm.arch.disabledQuirks = 1n;
    kvmLapicReset(lab.vcpus[0]!, false);
    expect(lab.apicRead(0, 0x350)).toBe(0x1_0000);
  });
});

describe('IPIs', () => {
  test('fixed to one vCPU asks only that one', () => {
    const lab = new IrqLab(3);
    for (let id = 0; id < 3; id++) lab.enableApic(id);
    for (let id = 0; id < 3; id++) lab.asked(id);
    lab.apicWrite(0, ICR_HIGH, 2 << 24);
    lab.apicWrite(0, ICR, 0x40fd);
    expect(lab.vcpus.map(kvmApicHasInterrupt)).toEqual([-1, -1, 0xfd]);
    expect([lab.asked(1), lab.asked(2)]).toEqual([false, true]);
  });
  test('all excluding self', () => {
    const lab = new IrqLab(3);
    for (let id = 0; id < 3; id++) lab.enableApic(id);
    lab.apicWrite(1, ICR, 0xc_40fb);
    expect(lab.vcpus.map(kvmApicHasInterrupt)).toEqual([0xfb, -1, 0xfb]);
  });
  test('x2APIC: a 32-bit destination in one write; broadcast reaches all', () => {
    const lab = new IrqLab(3);
    for (let id = 0; id < 3; id++) {
      lab.enableApic(id);
      lab.enterX2apic(id);
    }
    kvmX2apicMsrWrite(lab.vcpus[0]!, 0x830, (1n << 32n) | 0xf1n);
    expect(lab.vcpus.map(kvmApicHasInterrupt)).toEqual([-1, 0xf1, -1]);
    kvmX2apicMsrWrite(lab.vcpus[0]!, 0x830, (0xffff_ffffn << 32n) | 0xf2n);
    expect(lab.vcpus.map(kvmApicHasInterrupt)).toEqual([0xf2, 0xf2, 0xf2]);
  });
  test('NMI is counted and requested', () => {
    const lab = new IrqLab(2);
    lab.apicWrite(0, ICR_HIGH, 1 << 24);
    lab.apicWrite(0, ICR, 0x4400);
    expect(lab.vcpus[1]!.arch.nmiQueued).toBe(1);
    expect(kvmCheckRequest(KVM_REQ_NMI, lab.vcpus[1]!)).toBe(true);
  });
  test('lowest priority: the vector picks one of the receivers, always the same', () => {
    const lab = new IrqLab(2);
    for (let id = 0; id < 2; id++) lab.enableApic(id);
    const msi = { addressLo: 0xfeef_f000, addressHi: 0, data: 0x131 };
    expect(kvmSignalMsi(lab.vm, msi)).toBe(1);
    expect(lab.vcpus.map(kvmApicHasInterrupt)).toEqual([-1, 0x31]);
    expect(kvmCpuGetInterrupt(lab.vcpus[1]!)).toBe(0x31);
    kvmSignalMsi(lab.vm, msi);
    expect(lab.vcpus[1]!.arch.apic!.hasIrr(0x31)).toBe(true);
  });
  test('a message for nobody is −1; flags → −EINVAL', () => {
    const lab = new IrqLab();
    expect(kvmSignalMsi(lab.vm, { addressLo: 0xfee0_7000, addressHi: 0, data: 0x31 })).toBe(-1);
    expect(kvmSignalMsi(lab.vm, { addressLo: 0xfee0_0000, addressHi: 0, data: 0x31, flags: 1 })).toBe(-EINVAL);
  });
  test('32-bit destinations of MSIs where user space chose that format', () => {
    const lab = new IrqLab(1);
    lab.enableApic();
    lab.vm.arch.x2apicFormat = true;
    expect(kvmSignalMsi(lab.vm, { addressLo: 0xfee0_0000, addressHi: 0x100, data: 0x31 })).toBe(-1);
    expect(kvmSignalMsi(lab.vm, { addressLo: 0xfee0_0000, addressHi: 1, data: 0x31 })).toBe(-1);
    expect(kvmSignalMsi(lab.vm, { addressLo: 0xfee0_0000, addressHi: 0, data: 0x31 })).toBe(1);
  });
  test('SMI and ExtINT messages are not for these APICs', () => {
    const [vcpu] = new IrqLab().vcpus;
    expect([2, 7].map((mode) => kvmApicAcceptIrq(vcpu!, mode, 0, false))).toEqual([false, false]);
  });
});

describe('INIT and SIPI', () => {
  const start = (): IrqLab => {
    const lab = new IrqLab(2);
    lab.vcpus[1]!.arch.mpState = KVM_MP_STATE_UNINITIALIZED;
    return lab;
  };
  const send = (lab: IrqLab, command: number): void => {
    lab.apicWrite(0, ICR_HIGH, 1 << 24);
    lab.apicWrite(0, ICR, command);
  };

  test('INIT resets the vCPU and lets it wait; the SIPI starts it at its page', () => {
    const lab = start();
    const [, ap] = lab.vcpus;
    send(lab, INIT);
    expect(kvmApicHasPendingInitOrSipi(ap!)).toBe(true);
    kvmApicAcceptEvents(ap!);
    expect(ap!.arch.mpState).toBe(KVM_MP_STATE_INIT_RECEIVED);
    send(lab, STARTUP | 0x9a);
    kvmApicAcceptEvents(ap!);
    expect(ap!.arch.mpState).toBe(KVM_MP_STATE_RUNNABLE);
    expect(lab.calls).toEqual(['init 1', 'sipi 1 9a']);
  });
  test('INIT and SIPI before the vCPU looks are both taken, in order', () => {
    const lab = start();
    send(lab, INIT);
    send(lab, STARTUP | 8);
    kvmApicAcceptEvents(lab.vcpus[1]!);
    expect(lab.calls).toEqual(['init 1', 'sipi 1 8']);
  });
  test('a second SIPI, and one without INIT, is lost', () => {
    const lab = start();
    send(lab, STARTUP | 8);
    kvmApicAcceptEvents(lab.vcpus[1]!);
    expect(lab.vcpus[1]!.arch.mpState).toBe(KVM_MP_STATE_UNINITIALIZED);
    send(lab, INIT);
    send(lab, STARTUP | 8);
    kvmApicAcceptEvents(lab.vcpus[1]!);
    send(lab, STARTUP | 9);
    kvmApicAcceptEvents(lab.vcpus[1]!);
    expect(lab.calls).toEqual(['init 1', 'sipi 1 8']);
  });
  test('an INIT cancels a SIPI that came before it', () => {
    const lab = start();
    send(lab, STARTUP | 8);
    send(lab, INIT);
    kvmApicAcceptEvents(lab.vcpus[1]!);
    expect(lab.calls).toEqual(['init 1']);
  });
  test('the de-assertion of INIT does nothing', () => {
    const lab = start();
    send(lab, 0x8500);
    expect(kvmApicHasPendingInitOrSipi(lab.vcpus[1]!)).toBe(false);
  });
  test('the boot vCPU runs on after INIT', () => {
    const lab = start();
    lab.apicWrite(1, ICR_HIGH, 0);
    lab.apicWrite(1, ICR, INIT);
    kvmApicAcceptEvents(lab.vcpus[0]!);
    expect(lab.vcpus[0]!.arch.mpState).toBe(KVM_MP_STATE_RUNNABLE);
  });
  test('while blocked, INIT stays and SIPI is lost', () => {
    const lab = start();
    lab.blockInit(true);
    send(lab, INIT);
    send(lab, STARTUP | 8);
    kvmApicAcceptEvents(lab.vcpus[1]!);
    expect(lab.calls).toEqual([]);
    lab.blockInit(false);
    kvmApicAcceptEvents(lab.vcpus[1]!);
    expect(lab.calls).toEqual(['init 1']);
  });
  test('INIT keeps x2APIC mode and identifier', () => {
    const lab = start();
    lab.enterX2apic(1);
    kvmLapicReset(lab.vcpus[1]!, true);
    expect(kvmX2apicMsrRead(lab.vcpus[1]!, 0x802)).toBe(1n);
  });
});

describe('the timer on the host’s clock', () => {
  test('one-shot: initial count times divisor, at 1 ns a cycle', () => {
    const lab = new IrqLab();
    lab.enableApic();
    lab.apicWrite(0, LVT_TIMER, 0xec);
    lab.apicWrite(0, 0x3e0, 3); // by 16
    lab.apicWrite(0, 0x380, 1000);
    lab.advance(15_999);
    expect(lab.pending()).toBe(false);
    expect(lab.apicRead(0, 0x390)).toBe(1);
    lab.advance(1);
    expect(kvmCpuGetInterrupt(lab.vcpus[0]!)).toBe(0xec);
    lab.advance(1_000_000);
    lab.apicWrite(0, 0xb0, 0);
    expect(lab.pending()).toBe(false);
  });
  test('at the bus frequency that user space chose', () => {
    const lab = new IrqLab(0);
    lab.vm.arch.apicBusCycleNs = 40;
    lab.addVcpu();
    lab.enableApic();
    lab.apicWrite(0, LVT_TIMER, 0xec);
    lab.apicWrite(0, 0x3e0, 0xb); // by 1
    lab.apicWrite(0, 0x380, 100);
    lab.advance(3999);
    expect(lab.pending()).toBe(false);
    lab.advance(1);
    expect(lab.pending()).toBe(true);
  });
  test('periodic: no faster than 200 µs', () => {
    const lab = new IrqLab();
    lab.enableApic();
    lab.apicWrite(0, LVT_TIMER, 0xec | PERIODIC);
    lab.apicWrite(0, 0x3e0, 0xb); // by 1
    lab.apicWrite(0, 0x380, 10);
    let taken = 0;
    for (let i = 0; i < 100; i++) {
      lab.advance(10_000);
      if (!lab.pending()) continue;
      taken++;
      kvmCpuGetInterrupt(lab.vcpus[0]!);
      lab.apicWrite(0, 0xb0, 0);
    }
    expect(taken).toBe(5);
  });
  test('TSC deadline: at the guest’s TSC, which has its own offset and rate', () => {
    const lab = new IrqLab();
    const [vcpu] = lab.vcpus;
    lab.enableApic();
    lab.apicWrite(0, LVT_TIMER, 0xec | TSC_DEADLINE_MODE);
    vcpu!.arch.tscOffset = 5000n;
    vcpu!.arch.tscScalingRatio = 2n << 48n;
    kvmSetLapicTscdeadlineMsr(vcpu!, 25_000n);
    expect(kvmGetLapicTscdeadlineMsr(vcpu!)).toBe(25_000n);
    lab.advance(9_999);
    expect(lab.pending()).toBe(false);
    lab.advance(1);
    expect(lab.pending()).toBe(true);
    expect(kvmGetLapicTscdeadlineMsr(vcpu!)).toBe(0n);
  });
  test('a deadline that has passed expires at once; 0 disarms', () => {
    const lab = new IrqLab();
    const [vcpu] = lab.vcpus;
    lab.enableApic();
    lab.advance(1000);
    lab.apicWrite(0, LVT_TIMER, 0xec | TSC_DEADLINE_MODE);
    kvmSetLapicTscdeadlineMsr(vcpu!, 2000n);
    kvmSetLapicTscdeadlineMsr(vcpu!, 0n);
    lab.advance(5000);
    expect(lab.pending()).toBe(false);
    kvmSetLapicTscdeadlineMsr(vcpu!, 500n);
    expect(lab.pending()).toBe(true);
  });
  test('in another mode the deadline reads 0 and writes are ignored', () => {
    const [vcpu] = new IrqLab().vcpus;
    kvmSetLapicTscdeadlineMsr(vcpu!, 500n);
    expect(kvmGetLapicTscdeadlineMsr(vcpu!)).toBe(0n);
  });
  test('without the CPUID feature deadline mode cannot be chosen', () => {
    const lab = new IrqLab();
    lab.vcpus[0]!.arch.cpuidEntries = [];
    kvmApicAfterSetCpuid(lab.vcpus[0]!);
    lab.enableApic();
    lab.apicWrite(0, LVT_TIMER, 0xec | TSC_DEADLINE_MODE);
    expect(lab.apicRead(0, LVT_TIMER)).toBe(0xec);
  });
  test('a freed APIC leaves no timer behind', () => {
    const lab = new IrqLab();
    lab.enableApic();
    lab.apicWrite(0, LVT_TIMER, 0xec);
    lab.apicWrite(0, 0x380, 1000);
    kvmFreeLapic(lab.vcpus[0]!);
    expect(lab.host.timers.nextDeadline).toBe(Number.POSITIVE_INFINITY);
    expect(kvmApicHasInterrupt(lab.vcpus[0]!)).toBe(-1);
  });
});

describe('end of interrupt with a split irqchip', () => {
  const level = { gsi: 4, type: 2, addressLo: 0xfee0_0000, addressHi: 0, data: 0xc051 } as const;
  const end = (vector: number, levelTriggered: boolean): boolean => {
    const lab = new IrqLab(1, 'split');
    const [vcpu] = lab.vcpus;
    lab.enableApic();
    kvmSetGsiRouting(lab.vm, [level, { ...level, gsi: 30, data: 0xc061 }]);
    kvmApicAcceptIrq(vcpu!, 0, vector, levelTriggered);
    kvmCpuGetInterrupt(vcpu!);
    lab.apicWrite(0, 0xb0, 0);
    return kvmCheckRequest(KVM_REQ_IOAPIC_EOI_EXIT, vcpu!) && vcpu!.arch.pendingIoapicEoi === vector;
  };
  test('a level-triggered vector of a reserved pin exits to user space', () => expect(end(0x51, true)).toBe(true));
  test('an edge does not', () => expect(end(0x51, false)).toBe(false));
  test('a vector of a route beyond the reserved pins does not', () => {
    const lab = new IrqLab(0, 'none');
    expect(lab.vcpus).toEqual([]);
    expect(end(0x71, true)).toBe(false);
  });
});

describe('KVM_GET_LAPIC and KVM_SET_LAPIC', () => {
  test('round-trip 1 KiB with requests and a running timer', () => {
    const lab = new IrqLab();
    lab.enableApic();
    lab.apicWrite(0, LVT_TIMER, 0xec);
    lab.apicWrite(0, 0x3e0, 0xb);
    lab.apicWrite(0, 0x380, 10_000);
    kvmApicAcceptIrq(lab.vcpus[0]!, 0, 0x41, false);
    lab.advance(4000);
    const state = kvmApicGetState(lab.vcpus[0]!);
    expect(state).toHaveLength(1024);
    const other = new IrqLab();
    expect(kvmApicSetState(other.vcpus[0]!, state)).toBe(0);
    expect(kvmApicGetState(other.vcpus[0]!)).toEqual(state);
    expect(kvmCpuGetInterrupt(other.vcpus[0]!)).toBe(0x41);
    other.advance(5999);
    expect(other.pending()).toBe(false);
    other.advance(1);
    expect(other.pending()).toBe(true);
  });
  test('in x2APIC mode the identifier is in bits 31:24 unless user space chose the 32-bit format', () => {
    const lab = new IrqLab(4);
    const vcpu = lab.vcpus[3]!;
    lab.enterX2apic(3);
    const id = (): number => new DataView(kvmApicGetState(vcpu).buffer).getUint32(0x20, true);
    expect(id()).toBe(0x0300_0000);
    lab.vm.arch.x2apicFormat = true;
    expect(id()).toBe(3);
    const state = kvmApicGetState(vcpu);
    expect(kvmApicSetState(vcpu, state)).toBe(0);
    new DataView(state.buffer).setUint32(0x20, 5, true);
    expect(kvmApicSetState(vcpu, state)).toBe(-EINVAL);
  });
  test('a wrong size → −EINVAL', () => {
    const [vcpu] = new IrqLab().vcpus;
    expect(kvmApicSetState(vcpu!, new Uint8Array(1023))).toBe(-EINVAL);
    expect(kvmApicSetState(new IrqLab(1, 'none').vcpus[0]!, new Uint8Array(1024))).toBe(-EINVAL);
  });
  test('a change of CPUID keeps what the APIC holds', () => {
    const lab = new IrqLab();
    const [vcpu] = lab.vcpus;
    lab.enableApic();
    kvmApicAcceptIrq(vcpu!, 0, 0x41, false);
    vcpu!.arch.cpuidEntries = [];
    kvmApicAfterSetCpuid(vcpu!);
    expect(kvmApicHasInterrupt(vcpu!)).toBe(0x41);
    expect(kvmCreateLapic(vcpu!)).toBe(0);
    expect(kvmApicHasInterrupt(vcpu!)).toBe(-1);
  });
});
