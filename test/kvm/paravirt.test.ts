/** The paravirtual interface: CPUID leaves, clock, hypercalls. */
import { describe, expect, test } from 'vitest';
import { kvmGetTimeScale } from '../../src/kvm/x86/pvclock.ts';
import { GuestLab, imm32 } from './guest-lab.ts';
import { ok } from './lab.ts';

const HLT = 0xf4;
const VMCALL = [0x0f, 0x01, 0xc1];
const SYSTEM_TIME = 0x4b56_4d01;
const WALL_CLOCK = 0x4b56_4d00;

test('the signature leaf says KVM and how many leaves there are', async () => {
  const lab = new GuestLab();
  lab.load(0xb8, ...imm32(0x4000_0000), 0x0f, 0xa2, HLT);
  await lab.run();
  const { rax, rbx, rcx, rdx } = ok(lab.vcpu.getRegs());
  expect(rax).toBe(0x4000_0001n);
  const text = [rbx, rcx, rdx].map((reg) =>
    String.fromCharCode(...[0n, 8n, 16n, 24n].map((s) => Number((reg >> s) & 255n))),
  );
  expect(text.join('')).toBe('KVMKVMKVM\0\0\0');
});

describe('clock', () => {
  test.each([1_000_000, 2_500_000, 100_000, 3_999_999])('scale of a TSC at %i kHz', (khz) => {
    const { multiplier, shift } = kvmGetTimeScale(khz);
    expect(multiplier).toBeLessThan(2 ** 32);
    const ticks = khz * 1000;
    const ns = (ticks * 2 ** shift * multiplier) / 2 ** 32;
    expect(Math.abs(ns - 1e9)).toBeLessThan(2);
  });

  test('the page follows the MSR: even version, stable TSC, time since the VM began', async () => {
    const lab = new GuestLab();
    const start = lab.host.timers.now();
    expect(lab.vcpu.setMsrs([{ index: SYSTEM_TIME, data: 0x3001n }])).toBe(1);
    lab.load(0x90, 0x90, HLT);
    await lab.run();
    const page = new DataView(lab.vm.mm.read(lab.memory + 0x3000, 32)!.buffer);
    expect(page.getUint32(0, true) % 2).toBe(0);
    expect(page.getUint32(0, true)).toBeGreaterThan(0);
    expect(page.getUint8(29) & 1).toBe(1);
    // TSC ticks and nanoseconds are the same here.
    expect(page.getInt8(28)).toBe(1);
    expect(page.getUint32(24, true)).toBe(0x8000_0000);
    expect(Number(page.getBigUint64(16, true))).toBeGreaterThanOrEqual(0);
    expect(Number(page.getBigUint64(16, true))).toBeLessThanOrEqual(lab.host.timers.now() - start + 1);
    expect(Number(lab.vm.getClock().clock)).toBe(lab.host.timers.now() - start);
  });

  test('KVM_SET_CLOCK moves it', async () => {
    const lab = new GuestLab();
    lab.vcpu.setMsrs([{ index: SYSTEM_TIME, data: 0x3001n }]);
    lab.vm.setClock(5_000_000_000n);
    lab.load(HLT);
    await lab.run();
    const page = new DataView(lab.vm.mm.read(lab.memory + 0x3000, 32)!.buffer);
    expect(page.getBigUint64(16, true)).toBe(5_000_000_000n);
  });

  test('wall time at the VM’s start', () => {
    const lab = new GuestLab();
    lab.host.epochNs = 1_700_000_000n * 1_000_000_000n;
    lab.vcpu.setMsrs([{ index: WALL_CLOCK, data: 0x3000n }]);
    const page = new DataView(lab.vm.mm.read(lab.memory + 0x3000, 12)!.buffer);
    expect(page.getUint32(0, true) % 2).toBe(0);
    expect(page.getUint32(4, true)).toBe(1_700_000_000);
  });

  test('a clock page where no memory is harms nothing', async () => {
    const lab = new GuestLab();
    lab.vcpu.setMsrs([{ index: SYSTEM_TIME, data: 0xffff_ffff_0001n }]);
    lab.load(HLT);
    expect((await lab.run()).kind).toBe('hlt');
  });
});

describe('hypercalls', () => {
  const call = async (lab: GuestLab, nr: number, regs: object = {}): Promise<bigint> => {
    lab.load(...VMCALL, HLT);
    lab.start({ rax: BigInt(nr), ...regs });
    await lab.run();
    return BigInt.asIntN(32, ok(lab.vcpu.getRegs()).rax);
  };

  test('an unknown one is −ENOSYS of KVM', async () => {
    expect(await call(new GuestLab(), 999)).toBe(-1000n);
  });

  test('yield and poll succeed', async () => {
    const lab = new GuestLab();
    expect(await call(lab, 11)).toBe(0n);
    expect(await call(lab, 1)).toBe(0n);
  });

  test('an IPI reaches the APIC that the bitmap names', async () => {
    const lab = new GuestLab({ irqchip: true }).tables({ 64: 0x3000 });
    // APIC on: spurious-interrupt register.
    const lapic = lab.vcpu.getLapic() as Uint8Array;
    new DataView(lapic.buffer).setUint32(0xf0, 0x1ff, true);
    lab.vcpu.setLapic(lapic);
    lab.put(0x3000, 0xe6, 0x80, HLT);
    // vmcall; sti; nop; jmp .
    lab.load(...VMCALL, 0xfb, 0x90, 0xeb, 0xfe);
    lab.start({ rax: 10n, rbx: 1n, rcx: 0n, rdx: 0n, rsi: 0x40n });
    const exit = await lab.vcpu.run();
    expect(typeof exit === 'number' ? exit : exit.kind).toBe('io');
    expect(ok(lab.vcpu.getRegs()).rax).toBe(1n);
  });

  test('MAP_GPA_RANGE goes to user space where that asked for it, whose answer the guest gets', async () => {
    const lab = new GuestLab();
    expect(await call(lab, 12, { rbx: 0x1000n, rcx: 1n })).toBe(-1000n);
    expect(lab.vm.enableCap(201, [1n << 12n])).toBe(0);
    lab.load(...VMCALL, HLT);
    lab.start({ rax: 12n, rbx: 0x1000n, rcx: 2n, rdx: 0x10n });
    const exit = await lab.vcpu.run();
    if (typeof exit === 'number' || exit.kind !== 'hypercall') throw new Error('no hypercall exit');
    expect([exit.nr, ...exit.args.slice(0, 3)]).toEqual([12n, 0x1000n, 2n, 0x10n]);
    exit.ret = 7n;
    await lab.run();
    expect(ok(lab.vcpu.getRegs()).rax).toBe(7n);
  });
});

test('supported CPUID hides what guests may not have and offers what KVM brings', () => {
  const lab = new GuestLab();
  const leaf = (fn: number) => lab.kvm.getSupportedCpuid().find((entry) => entry.function === fn)!;
  const ecx = leaf(1).ecx;
  const bit = (n: number): boolean => (ecx & (1 << n)) !== 0;
  // VMX and MONITOR hidden; x2APIC, TSC deadline and the hypervisor bit there; OSXSAVE follows CR4.
  expect([bit(5), bit(3), bit(21), bit(24), bit(31), bit(27)]).toEqual([false, false, true, true, true, false]);
  expect(leaf(0).eax).toBeGreaterThanOrEqual(0x15);
  expect(leaf(0x8000_0000).eax).toBe(0x8000_0008);
});
