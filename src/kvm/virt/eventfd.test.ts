import { describe, expect, test } from 'vitest';
import { EBUSY, EEXIST, EINVAL, ENOENT, EOPNOTSUPP } from '../../host/errno.ts';
import { kvmCpuGetInterrupt, kvmVmIoctlIrqfd } from '../x86/irq.ts';
import { IrqLab } from '../x86/testing/irq_lab.ts';
import {
  EventFd,
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  KVM_IOEVENTFD_FLAG_DEASSIGN,
  KVM_IOEVENTFD_FLAG_PIO,
  KVM_IRQFD_FLAG_DEASSIGN,
  KVM_IRQFD_FLAG_RESAMPLE,
  kvmIoeventfd,
} from './eventfd.ts';
import { KVM_FAST_MMIO_BUS, KVM_MMIO_BUS, KVM_PIO_BUS } from './kvm_host.ts';

const LEVEL = 0x8000;

describe('irqfd', () => {
  const start = (low: number): IrqLab => {
    const lab = new IrqLab();
    lab.enableApic();
    lab.ioapicEntry(17, low);
    return lab;
  };

  test('a signal is one edge', () => {
    const lab = start(0x51);
    const fd = new EventFd();
    expect(kvmVmIoctlIrqfd(lab.vm, { fd, gsi: 17 })).toBe(0);
    fd.signal();
    expect(kvmCpuGetInterrupt(lab.vcpus[0]!)).toBe(0x51);
    expect(lab.vm.arch.vioapic!.model.state.irr & (1 << 17)).toBe(0);
    expect(fd.read()).toBe(0);
  });
  test('what was signalled before counts', () => {
    const lab = start(0x51);
    const fd = new EventFd();
    fd.signal(3);
    kvmVmIoctlIrqfd(lab.vm, { fd, gsi: 17 });
    expect(lab.pending()).toBe(true);
  });
  test('the same eventfd twice → −EBUSY, an unknown flag → −EINVAL', () => {
    const lab = start(0x51);
    const fd = new EventFd();
    kvmVmIoctlIrqfd(lab.vm, { fd, gsi: 17 });
    expect(kvmVmIoctlIrqfd(lab.vm, { fd, gsi: 18 })).toBe(-EBUSY);
    expect(kvmVmIoctlIrqfd(lab.vm, { fd: new EventFd(), gsi: 17, flags: 4 })).toBe(-EINVAL);
  });
  test('deassigned, it does nothing', () => {
    const lab = start(0x51);
    const fd = new EventFd();
    kvmVmIoctlIrqfd(lab.vm, { fd, gsi: 17 });
    expect(kvmVmIoctlIrqfd(lab.vm, { fd, gsi: 17, flags: KVM_IRQFD_FLAG_DEASSIGN })).toBe(0);
    fd.signal();
    expect(lab.pending()).toBe(false);
    expect(kvmVmIoctlIrqfd(lab.vm, { fd, gsi: 17 })).toBe(0);
  });
  test('resampling: the line is high until the EOI, which signals the resamplefd', () => {
    const lab = start(0x51 | LEVEL);
    const fd = new EventFd();
    const resamplefd = new EventFd();
    const flags = KVM_IRQFD_FLAG_RESAMPLE;
    expect(kvmVmIoctlIrqfd(lab.vm, { fd, gsi: 17, flags })).toBe(-EINVAL);
    expect(kvmVmIoctlIrqfd(lab.vm, { fd, gsi: 17, flags, resamplefd })).toBe(0);
    fd.signal();
    expect(kvmCpuGetInterrupt(lab.vcpus[0]!)).toBe(0x51);
    expect(lab.vm.arch.vioapic!.model.state.irr & (1 << 17)).toBe(1 << 17);
    expect(resamplefd.read()).toBe(0);
    lab.apicWrite(0, 0xb0, 0);
    expect(resamplefd.read()).toBe(1);
    expect(lab.pending()).toBe(false);
  });
  test('a device that still wants service raises the line again from its resamplefd', () => {
    const lab = start(0x51 | LEVEL);
    const fd = new EventFd();
    const resamplefd = new EventFd();
    kvmVmIoctlIrqfd(lab.vm, { fd, gsi: 17, flags: KVM_IRQFD_FLAG_RESAMPLE, resamplefd });
    resamplefd.wait(() => fd.signal());
    fd.signal();
    kvmCpuGetInterrupt(lab.vcpus[0]!);
    lab.apicWrite(0, 0xb0, 0);
    expect(kvmCpuGetInterrupt(lab.vcpus[0]!)).toBe(0x51);
  });
  test('resampling without in-kernel controllers → −EINVAL', () => {
    const { vm } = new IrqLab(1, 'split');
    const flags = KVM_IRQFD_FLAG_RESAMPLE;
    expect(kvmVmIoctlIrqfd(vm, { fd: new EventFd(), gsi: 1, flags, resamplefd: new EventFd() })).toBe(-EINVAL);
    expect(kvmVmIoctlIrqfd(new IrqLab(1, 'none').vm, { fd: new EventFd(), gsi: 1 })).toBe(-EINVAL);
  });
  test('the end of the VM lets go of the eventfd', () => {
    const lab = start(0x51);
    const fd = new EventFd();
    kvmVmIoctlIrqfd(lab.vm, { fd, gsi: 17 });
    for (const hook of lab.vm.onDestroy) hook();
    fd.signal();
    expect(lab.pending()).toBe(false);
    expect(fd.read()).toBe(1);
  });
});

describe('ioeventfd', () => {
  const write = (lab: IrqLab, bus: number, address: number, ...bytes: number[]): number =>
    lab.vm.buses[bus]!.write(address, bytes.length, Uint8Array.from(bytes), lab.vcpus[0]);

  test('a write of its length signals; others are not its', () => {
    const lab = new IrqLab();
    const fd = new EventFd();
    expect(kvmIoeventfd(lab.vm, { fd, addr: 0x500, len: 2, flags: KVM_IOEVENTFD_FLAG_PIO })).toBe(0);
    expect(write(lab, KVM_PIO_BUS, 0x500, 1, 0)).toBe(0);
    expect(write(lab, KVM_PIO_BUS, 0x500, 1)).toBe(-EOPNOTSUPP);
    expect(write(lab, KVM_PIO_BUS, 0x501, 1)).toBe(-EOPNOTSUPP);
    expect(fd.read()).toBe(1);
  });
  test('several with a datum each share an address', () => {
    const lab = new IrqLab();
    const fds = [new EventFd(), new EventFd()];
    fds.forEach((fd, i) => {
      const flags = KVM_IOEVENTFD_FLAG_DATAMATCH;
      expect(kvmIoeventfd(lab.vm, { fd, addr: 0xd000_0000, len: 4, flags, datamatch: BigInt(i) })).toBe(0);
    });
    expect(write(lab, KVM_MMIO_BUS, 0xd000_0000, 1, 0, 0, 0)).toBe(0);
    expect(write(lab, KVM_MMIO_BUS, 0xd000_0000, 7, 0, 0, 0)).toBe(-EOPNOTSUPP);
    expect(fds.map((fd) => fd.read())).toEqual([0, 1]);
  });
  test('length 0 takes any length and is on the fast bus, too', () => {
    const lab = new IrqLab();
    const fd = new EventFd();
    expect(kvmIoeventfd(lab.vm, { fd, addr: 0xd000_0000, len: 0 })).toBe(0);
    expect(write(lab, KVM_MMIO_BUS, 0xd000_0000, 1, 2)).toBe(0);
    expect(write(lab, KVM_FAST_MMIO_BUS, 0xd000_0000)).toBe(0);
    expect(fd.read()).toBe(2);
  });
  test.each([
    ['length 3', { len: 3 }],
    ['an unknown flag', { flags: 8 }],
    ['a datum without length', { len: 0, flags: KVM_IOEVENTFD_FLAG_DATAMATCH }],
    ['a negative address', { addr: -1 }],
  ])('%s → −EINVAL', (_, part) => {
    const { vm } = new IrqLab();
    expect(kvmIoeventfd(vm, { fd: new EventFd(), addr: 0x500, len: 1, ...part })).toBe(-EINVAL);
  });
  test('two that a write could mean → −EEXIST', () => {
    const { vm } = new IrqLab();
    expect(kvmIoeventfd(vm, { fd: new EventFd(), addr: 0x500, len: 1 })).toBe(0);
    expect(kvmIoeventfd(vm, { fd: new EventFd(), addr: 0x500, len: 1 })).toBe(-EEXIST);
    expect(kvmIoeventfd(vm, { fd: new EventFd(), addr: 0x500, len: 0 })).toBe(-EEXIST);
    expect(kvmIoeventfd(vm, { fd: new EventFd(), addr: 0x500, len: 2 })).toBe(0);
  });
  test('deassigning needs the same description (−ENOENT)', () => {
    const lab = new IrqLab();
    const fd = new EventFd();
    const flags = KVM_IOEVENTFD_FLAG_DEASSIGN;
    kvmIoeventfd(lab.vm, { fd, addr: 0x500, len: 1 });
    expect(kvmIoeventfd(lab.vm, { fd, addr: 0x500, len: 2, flags })).toBe(-ENOENT);
    expect(kvmIoeventfd(lab.vm, { fd, addr: 0x500, len: 1, flags })).toBe(0);
    expect(write(lab, KVM_MMIO_BUS, 0x500, 1)).toBe(-EOPNOTSUPP);
  });
});
