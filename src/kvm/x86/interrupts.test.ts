/** Interrupts end to end: guests that run, controllers in the kernel. */
import { describe, expect, test } from 'vitest';
import { EAGAIN } from '../../host/errno.ts';
import type { Vcpu } from '../api.ts';
import { KVM_MP_STATE_RUNNABLE } from './kvm_host.ts';
import { bytesOf, CODE, GuestLab, ok } from './testing/guest_lab.ts';

const STI_HLT_FOREVER = 'fb f4 eb fc';
const END_PIC = 'b0 20 e6 20';
/** wrmsr 80Bh, 0 */
const END_X2APIC = 'b9 0b 08 00 00 31 c0 31 d2 0f 30';
/** mov dword [FEE000B0h], 0 */
const END_XAPIC = 'bf b0 00 e0 fe c7 07 00 00 00 00';

const dword = (n: number): string =>
  [0, 8, 16, 24].map((shift) => ((n >>> shift) & 0xff).toString(16).padStart(2, '0')).join('');
const wrmsr = (index: number, low: number, high = 0): string =>
  `b9 ${dword(index)} b8 ${dword(low)} ba ${dword(high)} 0f 30`;
const store = (address: number, value: number): string => `bf ${dword(address)} c7 07 ${dword(value)}`;
const ioapic = (pin: number, low: number): string =>
  store(0xfec0_0000, 0x11 + 2 * pin) +
  store(0xfec0_0010, 0) +
  store(0xfec0_0000, 0x10 + 2 * pin) +
  store(0xfec0_0010, low);
const ENTER_X2APIC = wrmsr(0x1b, 0xfee0_0d00) + wrmsr(0x80f, 0x1ff);

/** Runs one vCPU until it has written to a port; what it wrote, with the port. */
async function nextOut(vcpu: Vcpu, lab: GuestLab): Promise<string> {
  for (;;) {
    const exit = await vcpu.run();
    if (exit === -EAGAIN) continue;
    if (typeof exit === 'number') return `errno ${exit}`;
    return lab.serve(exit);
  }
}

/** Interrupts do the same whoever delivers them. */
const SETTINGS = [true, false];

describe.each(SETTINGS)('a halted vCPU wakes, enable_apicv %s', (enableApicv) => {
  test('for the PIT through the PIC, once a period', async () => {
    const out = (port: number, value: number): string => `b0 ${dword(value).slice(0, 2)} e6 ${dword(port).slice(0, 2)}`;
    const pic = [
      [0x20, 0x11],
      [0x21, 0x30],
      [0x21, 4],
      [0x21, 1],
      [0x21, 0xfe],
    ] as const;
    const pit = [
      [0x43, 0x34],
      [0x40, 0xa9],
      [0x40, 4],
    ] as const;
    const code = [...pic, ...pit].map(([port, value]) => out(port, value)).join('') + STI_HLT_FOREVER;
    const lab = new GuestLab(code, { irqchip: true, enableApicv });
    lab.vm.createPit2({ flags: 1 });
    lab.interrupts([0x30], END_PIC);
    const times: number[] = [];
    for (let i = 0; i < 4; i++) {
      expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 30');
      times.push(lab.host.timers.now());
    }
    for (let i = 1; i < 4; i++) expect(times[i]! - times[i - 1]!).toBeCloseTo(999_800, -3);
    expect(lab.vcpu.vcpu.stat.halt_exits).toBeGreaterThan(2);
  });

  test('for its TSC deadline', async () => {
    // rdtsc; add eax, 1000000; mov ecx, 6E0h; wrmsr
    const code = `${ENTER_X2APIC}${wrmsr(0x832, 0x4_0040)} 0f 31 05 ${dword(1_000_000)} b9 ${dword(0x6e0)} 0f 30`;
    const lab = new GuestLab(code + STI_HLT_FOREVER, { irqchip: true, enableApicv });
    lab.interrupts([0x40], END_X2APIC);
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 40');
    expect(lab.host.timers.now()).toBeGreaterThan(1_000_000);
    expect(lab.host.timers.now()).toBeLessThan(1_010_000);
  });

  test('for its periodic timer in xAPIC mode', async () => {
    const timer = store(0xfee0_0320, 0x2_0041) + store(0xfee0_03e0, 0xb) + store(0xfee0_0380, 500_000);
    const lab = new GuestLab(store(0xfee0_00f0, 0x1ff) + timer + STI_HLT_FOREVER, { irqchip: true, enableApicv });
    lab.interrupts([0x41], END_XAPIC);
    const start = lab.host.timers.now();
    for (let i = 0; i < 3; i++) expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 41');
    expect(lab.host.timers.now() - start).toBeGreaterThan(1_500_000);
    expect(lab.host.timers.now() - start).toBeLessThan(1_510_000);
  });

  test('for an IPI of another vCPU', async () => {
    const lab = new GuestLab(`${ENTER_X2APIC} b0 01 e6 81 ${STI_HLT_FOREVER}`, {
      irqchip: true,
      vcpus: 2,
      enableApicv,
    });
    lab.interrupts([0x50], END_X2APIC);
    const [boot, other] = lab.vcpus;
    lab.write(CODE + 0x800, bytesOf(`${wrmsr(0x1b, 0xfee0_0c00)}${wrmsr(0x830, 0x4050, 0)} b0 02 e6 82 f4`));
    lab.enterLongMode(other!);
    other!.setRegs({ ...ok(other!.getRegs()), rip: BigInt(CODE + 0x800), rflags: 2n });
    other!.setMpState(KVM_MP_STATE_RUNNABLE);
    expect(await nextOut(boot!, lab)).toBe('out 81/1 01');
    const waiting = nextOut(boot!, lab);
    expect(await nextOut(other!, lab)).toBe('out 82/1 02');
    expect(await waiting).toBe('out 80/1 50');
  });
});

describe.each(SETTINGS)('INIT and SIPI, enable_apicv %s', (enableApicv) => {
  test('start a second vCPU in real mode at the vector’s page', async () => {
    const code =
      store(0xfee0_0310, 1 << 24) + store(0xfee0_0300, 0x4500) + store(0xfee0_0300, 0x4609) + STI_HLT_FOREVER;
    const lab = new GuestLab(code, { irqchip: true, vcpus: 2, enableApicv });
    // mov ax, cs; out 80h, ax; hlt
    lab.write(0x9000, bytesOf('8c c8 e7 80 f4'));
    const [boot, other] = lab.vcpus;
    const started = nextOut(other!, lab);
    const halted = nextOut(boot!, lab);
    expect(await started).toBe('out 80/2 0009');
    boot!.stop();
    expect(await halted).toMatch(/^errno/);
  });
});

describe.each(SETTINGS)('lines of user space, enable_apicv %s', (enableApicv) => {
  test('a level through the IOAPIC interrupts until user space lets go', async () => {
    const lab = new GuestLab(ENTER_X2APIC + ioapic(20, 0x804a) + STI_HLT_FOREVER, { irqchip: true, enableApicv });
    lab.interrupts([0x4a], END_X2APIC);
    expect(lab.vm.irqLine({ irq: 20, level: 1 })).toBe(-1);
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 4a');
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 4a');
    lab.vm.irqLine({ irq: 20, level: 0 });
    const next = nextOut(lab.vcpu, lab);
    lab.vcpu.stop();
    expect(await next).toMatch(/^errno/);
  });

  test('a message with a priority below CR8 waits until CR8 falls', async () => {
    // mov cr8, rax (15); sti; out 81h, al; mov cr8, 0; out 82h, al; hlt
    const code = `${ENTER_X2APIC} b8 0f 00 00 00 44 0f 22 c0 fb e6 81 31 c0 44 0f 22 c0 e6 82 f4`;
    const lab = new GuestLab(code, { irqchip: true, enableApicv });
    lab.interrupts([0x4b], END_X2APIC);
    expect(await nextOut(lab.vcpu, lab)).toBe('out 81/1 0f');
    expect(lab.vm.signalMsi({ addressLo: 0xfee0_0000, addressHi: 0, data: 0x4b })).toBe(1);
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 4b');
    expect(await nextOut(lab.vcpu, lab)).toBe('out 82/1 00');
  });

  test('split: the end of a level-triggered message exits to user space', async () => {
    const lab = new GuestLab(ENTER_X2APIC + STI_HLT_FOREVER, { irqchip: 'split', enableApicv });
    lab.interrupts([0x4c], END_X2APIC);
    const route = { gsi: 5, type: 2, addressLo: 0xfee0_0000, addressHi: 0, data: 0xc04c } as const;
    expect(lab.vm.setGsiRouting([route])).toBe(0);
    const first = nextOut(lab.vcpu, lab);
    await Promise.resolve();
    lab.vm.irqLine({ irq: 5, level: 1 });
    expect(await first).toBe('out 80/1 4c');
    expect(await nextOut(lab.vcpu, lab)).toBe('eoi 4c');
  });
});
