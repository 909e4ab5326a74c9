/** What user space may not do to a VM whose state is protected, by the flags that say so; nothing here needs a TD. */
import { describe, expect, test } from 'vitest';
import type { Vcpu } from '../../src/kvm/index.ts';
import { EventFd } from '../../src/kvm/virt/eventfd.ts';
import { GuestLab } from './guest-lab.ts';
import { ok } from './lab.ts';

const EINVAL = 22;
const ENOTTY = 25;
const EEXIST = 17;
const ENXIO = 6;
const SW_PROTECTED = 1;
const SPLIT_IRQCHIP = 121;
const APIC_BUS_CYCLES_NS = 237;
const READONLY_MEM = 81;
const MAX_VCPUS = 66;
const MAX_VCPU_ID = 128;
const RESAMPLE = 2;

/** A VM with local APICs in the kernel and one vCPU, whose state nobody protects yet. */
class ProtectedLab extends GuestLab {
  constructor() {
    super({ type: SW_PROTECTED, split: true });
  }
  protect(): this {
    this.vm.kvm.arch.hasProtectedState = true;
    const { arch } = this.vcpu.vcpu;
    arch.guestStateProtected = true;
    arch.guestFpuConfidential = true;
    arch.guestApicProtected = true;
    arch.guestTscProtected = true;
    return this;
  }
}

const REFUSED: readonly [name: string, call: (vcpu: Vcpu, own: Own) => unknown][] = [
  ['KVM_GET_REGS', (vcpu) => vcpu.getRegs()],
  ['KVM_SET_REGS', (vcpu, own) => vcpu.setRegs(own.regs)],
  ['KVM_GET_SREGS', (vcpu) => vcpu.getSregs()],
  ['KVM_SET_SREGS', (vcpu, own) => vcpu.setSregs(own.sregs)],
  ['KVM_GET_FPU', (vcpu) => vcpu.getFpu()],
  ['KVM_SET_FPU', (vcpu, own) => vcpu.setFpu(own.fpu)],
  ['KVM_GET_XSAVE', (vcpu) => vcpu.getXsave()],
  ['KVM_SET_XSAVE', (vcpu, own) => vcpu.setXsave(own.xsave)],
  ['KVM_GET_XCRS', (vcpu) => vcpu.getXcrs()],
  ['KVM_SET_XCRS', (vcpu) => vcpu.setXcrs([{ xcr: 0, value: 1n }])],
  ['KVM_GET_DEBUGREGS', (vcpu) => vcpu.getDebugregs()],
  ['KVM_SET_DEBUGREGS', (vcpu, own) => vcpu.setDebugregs(own.debugregs)],
  ['KVM_SET_GUEST_DEBUG', (vcpu) => vcpu.setGuestDebug({ control: 0, debugreg: [0n, 0n, 0n, 0n, 0n, 0n, 0n, 0n] })],
  ['KVM_GET_LAPIC', (vcpu) => vcpu.getLapic()],
  ['KVM_SET_LAPIC', (vcpu, own) => vcpu.setLapic(own.lapic)],
  ['KVM_SET_TSC_KHZ', (vcpu) => vcpu.setTscKhz(2_000_000)],
];
type Own = ReturnType<typeof stateOf>;
const stateOf = (vcpu: Vcpu) => ({
  regs: ok(vcpu.getRegs()),
  sregs: ok(vcpu.getSregs()),
  fpu: ok(vcpu.getFpu()),
  xsave: ok(vcpu.getXsave()),
  debugregs: ok(vcpu.getDebugregs()),
  lapic: ok(vcpu.getLapic()),
});

describe('state of a protected vCPU', () => {
  test.each(REFUSED)('%s: −EINVAL', (_name, call) => {
    const lab = new ProtectedLab();
    const own = stateOf(lab.vcpu);
    expect(call(lab.vcpu, own)).not.toBe(-EINVAL);
    lab.protect();
    expect(call(lab.vcpu, own)).toBe(-EINVAL);
  });

  test('a VM that protects nothing hides nothing, whatever its vCPUs say', () => {
    const lab = new ProtectedLab();
    lab.vcpu.vcpu.arch.guestStateProtected = true;
    expect(lab.vcpu.getRegs()).not.toBe(-EINVAL);
  });

  test('a vCPU that its VM lets look into (a debug TD’s) is open', () => {
    const lab = new ProtectedLab().protect();
    lab.vcpu.vcpu.arch.guestStateProtected = false;
    expect(lab.vcpu.getRegs()).not.toBe(-EINVAL);
    expect(lab.vcpu.getFpu()).toBe(-EINVAL);
  });

  test('what is no secret stays: run state, CPUID, events, TSC frequency', () => {
    const { vcpu } = new ProtectedLab().protect();
    expect(vcpu.getMpState()).toBe(0);
    expect(vcpu.setMpState(3)).toBe(0);
    expect(vcpu.getCpuid2().length).toBeGreaterThan(0);
    expect(vcpu.getVcpuEvents().nmi.pending).toBe(false);
    expect(vcpu.getTscKhz()).toBe(1_000_000);
  });

  test('whether an interrupt waits in a protected APIC is the backend’s word, not the register page’s', () => {
    const lab = new ProtectedLab();
    const { vcpu } = lab.vcpu;
    const { arch_hooks } = lab.vm.kvm;
    lab.vcpu.setMpState(3);
    expect(arch_hooks.kvmArchVcpuRunnable(vcpu)).toBe(false);
    vcpu.arch.apic!.writeApicBase(vcpu.arch.apic!.readApicBase() | 0x800n);
    vcpu.arch.apic!.mmioWrite(0xf0, 4, 0x1ff);
    expect(lab.vm.signalMsi({ addressLo: 0xfee0_0000, addressHi: 0, data: 0x41 })).toBe(1);
    lab.vcpu.setMpState(3);
    lab.vcpu.setRegs({ ...ok(lab.vcpu.getRegs()), rflags: 0x202n });
    expect(arch_hooks.kvmArchVcpuRunnable(vcpu)).toBe(true);
    vcpu.arch.guestApicProtected = true;
    expect(arch_hooks.kvmArchVcpuRunnable(vcpu)).toBe(false);
  });
});

describe('a VM with protected state', () => {
  test('has no read-only slots', () => {
    const lab = new ProtectedLab();
    const slot = { ...lab.slot(2), slot: 1, guestPhysAddr: 0x10_0000 };
    expect([lab.vm.checkExtension(READONLY_MEM), lab.vm.setUserMemoryRegion(slot)]).toEqual([1, 0]);
    lab.protect();
    expect(lab.vm.checkExtension(READONLY_MEM)).toBe(0);
    expect(lab.vm.setUserMemoryRegion({ ...slot, slot: 2, guestPhysAddr: 0x20_0000 })).toBe(-EINVAL);
  });

  test('with protected EOIs it has no in-kernel IOAPIC: −ENOTTY, after −EEXIST and before −EINVAL', () => {
    const lab = new ProtectedLab();
    lab.vm.kvm.arch.hasProtectedEoi = true;
    expect(lab.vm.createIrqchip()).toBe(-EEXIST);
    const bare = new GuestLab({ type: SW_PROTECTED });
    expect(bare.vm.createIrqchip()).toBe(-EINVAL);
    bare.vm.kvm.arch.hasProtectedEoi = true;
    expect(bare.vm.createIrqchip()).toBe(-ENOTTY);
  });

  test('a split irqchip resamples nothing, and raises messages', () => {
    const lab = new ProtectedLab();
    const fd = new EventFd();
    expect(lab.vm.irqfd({ fd, gsi: 24, flags: RESAMPLE, resamplefd: new EventFd() })).toBe(-EINVAL);
    expect(lab.vm.irqfd({ fd, gsi: 24 })).toBe(0);
    expect(lab.vm.setGsiRouting([{ gsi: 24, type: 2, addressLo: 0xfee0_0000, addressHi: 0, data: 0x51 }])).toBe(0);
    const { apic } = lab.vcpu.vcpu.arch;
    apic!.mmioWrite(0xf0, 4, 0x1ff);
    fd.signal();
    // Bit 51h of the IRR.
    const irr = new DataView(ok(lab.vcpu.getLapic()).buffer).getUint32(0x200 + 16 * (0x51 >> 5), true);
    expect(irr).toBe(1 << (0x51 & 31));
  });
});

describe('capabilities of one VM', () => {
  test('the number of vCPUs is the VM’s own', () => {
    const lab = new GuestLab();
    expect(lab.vm.checkExtension(MAX_VCPUS)).toBe(1024);
    lab.vm.kvm.maxVcpus = 2;
    expect(lab.vm.checkExtension(MAX_VCPUS)).toBe(2);
    expect(lab.kvm.checkExtension(MAX_VCPUS)).toBe(1024);
    ok(lab.vm.createVcpu(1));
    expect(lab.vm.createVcpu(2)).toBe(-EINVAL);
  });

  test('KVM_CAP_X86_APIC_BUS_CYCLES_NS: with local APICs, before vCPUs, and so that timers fit in 64 bits', () => {
    const lab = new GuestLab();
    const enable = (vm: GuestLab['vm'], ns: bigint): number => vm.enableCap(APIC_BUS_CYCLES_NS, [ns]);
    expect(lab.kvm.checkExtension(APIC_BUS_CYCLES_NS)).toBe(1);
    expect(enable(lab.vm, 40n)).toBe(-ENXIO);
    const vm = ok(lab.kvm.createVm());
    expect(vm.enableCap(SPLIT_IRQCHIP, [24n])).toBe(0);
    expect(enable(vm, 0n)).toBe(-EINVAL);
    expect(enable(vm, 1n << 32n)).toBe(-EINVAL);
    expect(enable(vm, 40n)).toBe(0);
    ok(vm.createVcpu(0));
    expect(enable(vm, 40n)).toBe(-EINVAL);
    vm.close();
  });

  test('KVM_CAP_SPLIT_IRQCHIP: too many pins −EINVAL, twice or late −EEXIST', () => {
    const kvm = new GuestLab().kvm;
    const vm = ok(kvm.createVm());
    expect(vm.enableCap(SPLIT_IRQCHIP, [4097n])).toBe(-EINVAL);
    expect(vm.enableCap(SPLIT_IRQCHIP, [24n])).toBe(0);
    expect(vm.enableCap(SPLIT_IRQCHIP, [24n])).toBe(-EEXIST);
    expect(vm.createIrqchip()).toBe(-EEXIST);
    const late = ok(kvm.createVm());
    ok(late.createVcpu(0));
    expect(late.enableCap(SPLIT_IRQCHIP, [24n])).toBe(-EEXIST);
  });

  test('KVM_CAP_MAX_VCPU_ID: set once, for ids of vCPUs and of the boot vCPU', () => {
    const { kvm } = new GuestLab();
    const most = kvm.checkExtension(MAX_VCPU_ID);
    const vm = ok(kvm.createVm());
    const limit = (ids: number): number => vm.enableCap(MAX_VCPU_ID, [BigInt(ids)]);
    expect(vm.setBootCpuId(most + 1)).toBe(-EINVAL);
    expect(vm.setBootCpuId(12)).toBe(0);
    expect([limit(most + 1), limit(10)]).toEqual([-EINVAL, -EINVAL]);
    expect(vm.setBootCpuId(0)).toBe(0);
    expect([limit(10), limit(10), limit(11)]).toEqual([0, 0, -EINVAL]);
    expect(vm.setBootCpuId(11)).toBe(-EINVAL);
    expect(vm.createVcpu(10)).toBe(-EINVAL);
    ok(vm.createVcpu(9));
    const late = ok(kvm.createVm());
    ok(late.createVcpu(0));
    expect(late.enableCap(MAX_VCPU_ID, [10n])).toBe(-EINVAL);
    expect(late.enableCap(MAX_VCPU_ID, [BigInt(most)])).toBe(0);
  });

  test('KVM_SET_TSC_KHZ on a VM: what its vCPUs begin with, before there are any', () => {
    const { kvm } = new GuestLab();
    const vm = ok(kvm.createVm());
    expect(vm.setTscKhz(-1)).toBe(-EINVAL);
    expect(vm.setTscKhz(1_000_000_000)).toBe(-EINVAL);
    expect(vm.setTscKhz(2_500_000)).toBe(0);
    const vcpu = ok(vm.createVcpu(0));
    expect([vm.getTscKhz(), vcpu.getTscKhz()]).toEqual([2_500_000, 2_500_000]);
    expect(vm.setTscKhz(0)).toBe(-EINVAL);
    const other = ok(kvm.createVm());
    other.setTscKhz(5);
    expect(other.setTscKhz(0)).toBe(0);
    expect(other.getTscKhz()).toBe(1_000_000);
  });
});

test('KVM_MEMORY_ENCRYPT_OP of a VM that is no TD: −ENOTTY on the VM, −EINVAL on the vCPU', () => {
  const lab = new GuestLab();
  expect(lab.vm.memoryEncryptOp({ id: 4, data: 0n })).toBe(-ENOTTY);
  expect(lab.vcpu.memoryEncryptOp({ id: 2, data: 0n })).toBe(-EINVAL);
});
