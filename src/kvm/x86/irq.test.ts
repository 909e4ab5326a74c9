import { describe, expect, test } from 'vitest';
import { EBUSY, EEXIST, EINVAL, ENOENT, ENXIO, EOPNOTSUPP } from '../../host/errno.ts';
import { KVM_PIO_BUS } from '../virt/kvm_host.ts';
import {
  kvmCpuGetInterrupt,
  kvmCpuHasInjectableIntr,
  kvmDestroyIrqchip,
  kvmVmIoctlCreateIrqchip,
  kvmVmIoctlCreatePit2,
  kvmVmIoctlEnableSplitIrqchip,
  kvmVmIoctlGetIrqchip,
  kvmVmIoctlGetPit2,
  kvmVmIoctlIrqLine,
  kvmVmIoctlReinjectControl,
  kvmVmIoctlSetBootCpuId,
  kvmVmIoctlSetIrqchip,
  kvmVmIoctlSetPit2,
} from './irq.ts';
import { kvmSetGsiRouting } from './irq_comm.ts';
import { IrqLab } from './testing/irq_lab.ts';

const LEVEL = 0x8000;
const MASKED = 0x1_0000;

describe('making interrupt controllers', () => {
  test('a second irqchip → −EEXIST, after a vCPU → −EINVAL', () => {
    const lab = new IrqLab();
    expect(kvmVmIoctlCreateIrqchip(lab.vm)).toBe(-EEXIST);
    expect(kvmVmIoctlCreateIrqchip(new IrqLab(1, 'none').vm)).toBe(-EINVAL);
    expect(kvmVmIoctlEnableSplitIrqchip(lab.vm, 24)).toBe(-EEXIST);
  });
  test('more reserved pins than there may be routes → −EINVAL', () => {
    expect(kvmVmIoctlEnableSplitIrqchip(new IrqLab(0, 'none').vm, 4097)).toBe(-EINVAL);
  });
  test('a PIT needs a PIC (−ENOENT) and is there once (−EEXIST)', () => {
    expect(kvmVmIoctlCreatePit2(new IrqLab(0, 'split').vm, 0)).toBe(-ENOENT);
    const { vm } = new IrqLab();
    expect(kvmVmIoctlCreatePit2(vm, 0)).toBe(0);
    expect(kvmVmIoctlCreatePit2(vm, 0)).toBe(-EEXIST);
  });
  test('the boot CPU is chosen before there are vCPUs', () => {
    expect(kvmVmIoctlSetBootCpuId(new IrqLab().vm, 0)).toBe(-EBUSY);
    expect(kvmVmIoctlSetBootCpuId(new IrqLab(0).vm, 3)).toBe(0);
  });
  test('a line without controllers → −ENXIO', () => {
    expect(kvmVmIoctlIrqLine(new IrqLab(1, 'none').vm, 4, 1)).toBe(-ENXIO);
  });
});

describe('the PIC', () => {
  test('a line reaches the boot vCPU through LINT0 as after reset', () => {
    const lab = new IrqLab(2);
    lab.initPic();
    expect(kvmVmIoctlIrqLine(lab.vm, 4, 1)).toBe(1);
    expect([lab.asked(0), lab.asked(1)]).toEqual([true, false]);
    expect([lab.pending(0), lab.pending(1)]).toEqual([true, false]);
    expect(kvmCpuGetInterrupt(lab.vcpus[0]!)).toBe(0x34);
    expect(lab.pending(0)).toBe(false);
  });
  test('a masked LINT0 keeps it away', () => {
    const lab = new IrqLab();
    lab.initPic();
    kvmVmIoctlIrqLine(lab.vm, 4, 1);
    lab.enableApic();
    lab.apicWrite(0, 0x350, 0x1_0700);
    expect(lab.pending()).toBe(false);
    lab.apicWrite(0, 0x350, 0x700);
    expect(lab.pending()).toBe(true);
  });
  test('the slave’s line comes by the cascade', () => {
    const lab = new IrqLab();
    lab.initPic();
    kvmVmIoctlIrqLine(lab.vm, 12, 1);
    expect(kvmCpuGetInterrupt(lab.vcpus[0]!)).toBe(0x3c);
  });
  test('comes before the local APIC', () => {
    const lab = new IrqLab();
    lab.initPic();
    lab.enableApic();
    lab.vcpus[0]!.arch.apic!.accept(0, 0xf0, false);
    kvmVmIoctlIrqLine(lab.vm, 1, 1);
    expect(kvmCpuGetInterrupt(lab.vcpus[0]!)).toBe(0x31);
    expect(kvmCpuGetInterrupt(lab.vcpus[0]!)).toBe(0xf0);
    expect(kvmCpuGetInterrupt(lab.vcpus[0]!)).toBe(-1);
  });
  test('a level stays asked until its line falls', () => {
    const lab = new IrqLab();
    lab.initPic();
    lab.out(0x4d0, 0x20);
    expect(lab.in(0x4d0)).toBe(0x20);
    kvmVmIoctlIrqLine(lab.vm, 5, 1);
    expect(kvmCpuGetInterrupt(lab.vcpus[0]!)).toBe(0x35);
    lab.out(0x20, 0x20);
    expect(lab.pending()).toBe(true);
    kvmVmIoctlIrqLine(lab.vm, 5, 0);
    expect(lab.pending()).toBe(false);
  });
});

describe('the IOAPIC', () => {
  test('an edge is one message; a line that is high already is coalesced', () => {
    const lab = new IrqLab();
    lab.enableApic();
    expect(kvmVmIoctlIrqLine(lab.vm, 21, 1)).toBe(-1);
    lab.ioapicEntry(21, 0x55);
    kvmVmIoctlIrqLine(lab.vm, 21, 0);
    expect(kvmVmIoctlIrqLine(lab.vm, 21, 1)).toBe(1);
    expect(kvmVmIoctlIrqLine(lab.vm, 21, 1)).toBe(0);
    expect(lab.vcpus[0]!.arch.apic!.hasIrr(0x55)).toBe(true);
  });
  test('a level interrupts again after the EOI while its line is high', () => {
    const lab = new IrqLab();
    lab.enableApic();
    lab.ioapicEntry(20, 0x51 | LEVEL);
    kvmVmIoctlIrqLine(lab.vm, 20, 1);
    expect(kvmCpuGetInterrupt(lab.vcpus[0]!)).toBe(0x51);
    expect(lab.pending()).toBe(false);
    lab.apicWrite(0, 0xb0, 0);
    expect(kvmCpuGetInterrupt(lab.vcpus[0]!)).toBe(0x51);
    kvmVmIoctlIrqLine(lab.vm, 20, 0);
    lab.apicWrite(0, 0xb0, 0);
    expect(lab.pending()).toBe(false);
    expect(lab.vm.arch.vioapic!.entry(20) & 0x4000n).toBe(0n);
  });
  test('goes to the vCPU that its destination names', () => {
    const lab = new IrqLab(3);
    for (let id = 0; id < 3; id++) lab.enableApic(id);
    lab.ioapicEntry(16, 0x41, 2);
    kvmVmIoctlIrqLine(lab.vm, 16, 1);
    expect(lab.vcpus.map((_, id) => lab.pending(id))).toEqual([false, false, true]);
  });
  test('a line that two sources hold falls when both let go', () => {
    const lab = new IrqLab();
    const { vioapic } = lab.vm.arch;
    vioapic!.setIrq(3, 0, 1);
    vioapic!.setIrq(3, 1, 1);
    vioapic!.setIrq(3, 0, 0);
    expect(vioapic!.model.state.irr & 8).toBe(8);
    vioapic!.setIrq(3, 1, 0);
    expect(vioapic!.model.state.irr & 8).toBe(0);
  });
  test('a masked pin takes nothing', () => {
    const lab = new IrqLab();
    lab.enableApic();
    lab.ioapicEntry(20, 0x51 | MASKED);
    expect(kvmVmIoctlIrqLine(lab.vm, 20, 1)).toBe(-1);
    expect(lab.pending()).toBe(false);
  });
});

describe('without an in-kernel local APIC', () => {
  test('what user space queued by KVM_INTERRUPT is the interrupt', () => {
    const lab = new IrqLab(1, 'none');
    const [vcpu] = lab.vcpus;
    expect(kvmCpuHasInjectableIntr(vcpu!)).toBe(false);
    Object.assign(vcpu!.arch.interrupt, { injected: true, nr: 0x77 });
    expect(kvmCpuGetInterrupt(vcpu!)).toBe(0x77);
  });
  test('split: the vector of user space’s PIC is taken once', () => {
    const lab = new IrqLab(1, 'split');
    const [vcpu] = lab.vcpus;
    vcpu!.arch.pendingExternalVector = 0x66;
    expect(kvmCpuGetInterrupt(vcpu!)).toBe(0x66);
    expect(kvmCpuGetInterrupt(vcpu!)).toBe(-1);
  });
});

describe('states', () => {
  test('KVM_GET_IRQCHIP and KVM_SET_IRQCHIP round-trip every chip', () => {
    const lab = new IrqLab();
    lab.initPic();
    lab.enableApic();
    lab.out(0x21, 0xfb);
    lab.ioapicEntry(20, 0x51 | LEVEL, 3);
    kvmVmIoctlIrqLine(lab.vm, 20, 1);
    const other = new IrqLab();
    for (const chip of [0, 1, 2]) {
      const state = kvmVmIoctlGetIrqchip(lab.vm, chip) as Uint8Array;
      expect(state).toHaveLength(512);
      expect(kvmVmIoctlSetIrqchip(other.vm, chip, state)).toBe(0);
      expect(kvmVmIoctlGetIrqchip(other.vm, chip)).toEqual(state);
    }
  });
  test('struct kvm_pic_state has the vector base at byte 5 and the mask at byte 2', () => {
    const lab = new IrqLab();
    lab.initPic();
    lab.out(0xa1, 0x5a);
    const state = kvmVmIoctlGetIrqchip(lab.vm, 1) as Uint8Array;
    expect([state[5], state[2], state[15]]).toEqual([0x38, 0x5a, 0xde]);
  });
  test('struct kvm_ioapic_state has the base at 0 and the redirection table from 24 on', () => {
    const lab = new IrqLab();
    lab.ioapicEntry(1, 0x31, 7);
    const view = new DataView((kvmVmIoctlGetIrqchip(lab.vm, 2) as Uint8Array).buffer);
    expect(view.getBigUint64(0, true)).toBe(0xfec0_0000n);
    expect(view.getBigUint64(24 + 8, true)).toBe(0x0700_0000_0000_0031n);
  });
  test('a level that is high in a restored IOAPIC interrupts', () => {
    const lab = new IrqLab();
    lab.ioapicEntry(20, 0x51 | LEVEL);
    kvmVmIoctlIrqLine(lab.vm, 20, 1);
    const state = kvmVmIoctlGetIrqchip(lab.vm, 2) as Uint8Array;
    const other = new IrqLab();
    other.enableApic();
    kvmVmIoctlSetIrqchip(other.vm, 2, state);
    expect(kvmCpuGetInterrupt(other.vcpus[0]!)).toBe(0x51);
  });
  test('a chip that is not there → −EINVAL, no irqchip → −ENXIO', () => {
    expect(kvmVmIoctlGetIrqchip(new IrqLab().vm, 3)).toBe(-EINVAL);
    expect(kvmVmIoctlGetIrqchip(new IrqLab(1, 'split').vm, 0)).toBe(-ENXIO);
  });
});

describe('the PIT', () => {
  /** Counter 0 in mode 2 with a period of 1193 ticks, about 1 ms. */
  const start = (lab: IrqLab): void => {
    kvmVmIoctlCreatePit2(lab.vm, 1);
    lab.initPic();
    lab.out(0x43, 0x34);
    lab.out(0x40, 1193 & 0xff);
    lab.out(0x40, 1193 >> 8);
  };
  const takeAndEnd = (lab: IrqLab): number => {
    const vector = kvmCpuGetInterrupt(lab.vcpus[0]!);
    lab.out(0x20, 0x20);
    return vector;
  };

  test('pulses interrupt 0 once a period', () => {
    const lab = new IrqLab();
    start(lab);
    lab.advance(500_000);
    expect(lab.pending()).toBe(false);
    lab.advance(600_000);
    expect(takeAndEnd(lab)).toBe(0x30);
    expect(lab.pending()).toBe(false);
    lab.advance(1_000_000);
    expect(lab.pending()).toBe(true);
  });
  test('ticks that the guest missed come one by one as it ends them', () => {
    const lab = new IrqLab();
    start(lab);
    lab.advance(3_500_000);
    let ticks = 0;
    while (lab.pending()) {
      takeAndEnd(lab);
      ticks++;
    }
    expect(ticks).toBe(3);
  });
  test('without reinjection they are lost', () => {
    const lab = new IrqLab();
    start(lab);
    expect(kvmVmIoctlReinjectControl(lab.vm, false)).toBe(0);
    lab.advance(3_500_000);
    takeAndEnd(lab);
    expect(lab.pending()).toBe(false);
  });
  test('ticks while the pin was masked are forgotten', () => {
    const lab = new IrqLab();
    start(lab);
    lab.out(0x21, 1);
    lab.advance(5_500_000);
    lab.out(0x21, 0);
    let ticks = 0;
    while (lab.pending()) {
      takeAndEnd(lab);
      ticks++;
    }
    // The edge that the PIC has latched is one.
    expect(ticks).toBe(1);
  });
  test('port 61h shows counter 2’s output when its gate is open', () => {
    const lab = new IrqLab();
    start(lab);
    lab.out(0x61, 1);
    lab.out(0x43, 0xb0);
    lab.out(0x42, 0xff);
    lab.out(0x42, 0);
    expect(lab.in(0x61) & 0x20).toBe(0);
    lab.advance(300_000);
    expect(lab.in(0x61) & 0x20).toBe(0x20);
  });
  test('KVM_GET_PIT2 and KVM_SET_PIT2 keep mode, count and access', () => {
    const lab = new IrqLab();
    start(lab);
    const state = kvmVmIoctlGetPit2(lab.vm) as Uint8Array;
    const view = new DataView(state.buffer);
    expect(state).toHaveLength(112);
    expect([view.getUint32(0, true), view.getUint8(12), view.getUint8(13), view.getUint8(15)]).toEqual([1193, 3, 2, 1]);
    const other = new IrqLab();
    kvmVmIoctlCreatePit2(other.vm, 1);
    other.initPic();
    expect(kvmVmIoctlSetPit2(other.vm, state)).toBe(0);
    other.advance(1_100_000);
    expect(takeAndEnd(other)).toBe(0x30);
  });
  test('goes with the VM: no port and no timer stays', () => {
    const lab = new IrqLab();
    start(lab);
    const bus = lab.vm.buses[KVM_PIO_BUS]!;
    expect(bus.read(0x40, 1, new Uint8Array(1), null)).toBe(0);
    kvmDestroyIrqchip(lab.vm);
    for (const port of [0x20, 0xa0, 0x40, 0x61]) {
      expect(bus.read(port, 1, new Uint8Array(1), null)).toBe(-EOPNOTSUPP);
    }
    expect(lab.host.timers.nextDeadline).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('GSI routing', () => {
  test('a GSI may lead to both controllers but to one pin of each', () => {
    const { vm } = new IrqLab();
    const chip = (irqchip: number, pin: number) => ({ gsi: 0, type: 1 as const, irqchip, pin });
    expect(kvmSetGsiRouting(vm, [chip(0, 0), chip(2, 2)])).toBe(0);
    expect(kvmSetGsiRouting(vm, [chip(2, 0), chip(2, 2)])).toBe(-EINVAL);
    expect(kvmSetGsiRouting(vm, [chip(0, 8)])).toBe(-EINVAL);
    expect(kvmSetGsiRouting(vm, [chip(2, 24)])).toBe(-EINVAL);
    expect(
      kvmSetGsiRouting(vm, [chip(2, 0), { gsi: 0, type: 2, addressLo: 0xfee0_0000, addressHi: 0, data: 0x40 }]),
    ).toBe(-EINVAL);
  });
  test('a route to another pin takes effect', () => {
    const lab = new IrqLab();
    lab.enableApic();
    lab.ioapicEntry(2, 0x42);
    kvmSetGsiRouting(lab.vm, [{ gsi: 0, type: 1, irqchip: 2, pin: 2 }]);
    kvmVmIoctlIrqLine(lab.vm, 0, 1);
    expect(kvmCpuGetInterrupt(lab.vcpus[0]!)).toBe(0x42);
  });
  test('a message route delivers on assertion only', () => {
    const lab = new IrqLab(2);
    lab.enableApic(1);
    kvmSetGsiRouting(lab.vm, [{ gsi: 30, type: 2, addressLo: 0xfee0_1000, addressHi: 0, data: 0x61 }]);
    expect(kvmVmIoctlIrqLine(lab.vm, 30, 1)).toBe(1);
    expect(kvmVmIoctlIrqLine(lab.vm, 30, 0)).toBe(-1);
    expect(kvmCpuGetInterrupt(lab.vcpus[1]!)).toBe(0x61);
  });
  test('pins of a split irqchip are user space’s (−EINVAL)', () => {
    const { vm } = new IrqLab(1, 'split');
    expect(kvmSetGsiRouting(vm, [{ gsi: 0, type: 1, irqchip: 2, pin: 0 }])).toBe(-EINVAL);
  });
});
