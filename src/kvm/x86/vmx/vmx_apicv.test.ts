/** APIC virtualization in VMs: what no longer exits, what still does, and what keeps a VM from it. */
import { describe, expect, test } from 'vitest';
import { Timer } from '../../../devices/clock.ts';
import { EAGAIN } from '../../../host/errno.ts';
import { SECONDARY } from '../../../machine/vtx/controls.ts';
import { Kvm, type Vcpu } from '../../api.ts';
import { APICV_INHIBIT_REASON, kvmApicvActivated } from '../apicv.ts';
import { KVM_GUESTDBG_BLOCKIRQ, KVM_GUESTDBG_ENABLE } from '../guest_debug.ts';
import { KVM_MP_STATE_RUNNABLE, type X86Vcpu } from '../kvm_host.ts';
import { bytesOf, CODE, GuestLab, type GuestOptions, ok } from '../testing/guest_lab.ts';
import { controlsGet, toVmx } from './vcpu_vmx.ts';
import { SECONDARY_VM_EXEC_CONTROL } from './vmcs.ts';

const RDMSR = 31;
const WRMSR = 32;
const INTERRUPT_WINDOW = 7;
const EXTERNAL_INTERRUPT = 1;
const APIC_ACCESS = 44;
const EOI_INDUCED = 45;
const APIC_WRITE = 56;
const EPT_MISCONFIG = 49;

const STI_HLT_FOREVER = 'fb f4 eb fc';
const HLT = 'f4';
const dword = (n: number): string =>
  [0, 8, 16, 24].map((shift) => ((n >>> shift) & 0xff).toString(16).padStart(2, '0')).join('');
const wrmsr = (index: number, low: number, high = 0): string =>
  `b9 ${dword(index)} b8 ${dword(low)} ba ${dword(high)} 0f 30`;
const rdmsr = (index: number): string => `b9 ${dword(index)} 0f 32`;
const store = (address: number, value: number): string => `bf ${dword(address)} c7 07 ${dword(value)}`;
/** mov eax, [address]; out port, eax */
const show = (address: number, port: string): string => `bf ${dword(address)} 8b 07 e7 ${port}`;
const out = (port: string): string => `e6 ${port}`;
const END_X2APIC = wrmsr(0x80b, 0);
const ENTER_X2APIC = wrmsr(0x1b, 0xfee0_0d00) + wrmsr(0x80f, 0x1ff);
const MASK_LINT0 = wrmsr(0x835, 0x1_0000);
const SELF_IPI = (vector: number): string => wrmsr(0x83f, vector);
const ioapic = (pin: number, low: number): string =>
  store(0xfec0_0000, 0x11 + 2 * pin) +
  store(0xfec0_0010, 0) +
  store(0xfec0_0000, 0x10 + 2 * pin) +
  store(0xfec0_0010, low);

async function nextOut(vcpu: Vcpu, lab: GuestLab): Promise<string> {
  for (;;) {
    const exit = await vcpu.run();
    if (exit === -EAGAIN) continue;
    if (typeof exit === 'number') return `errno ${exit}`;
    return lab.serve(exit);
  }
}
const x86 = (lab: GuestLab): X86Vcpu => lab.vcpu.vcpu as X86Vcpu;
const exits = (lab: GuestLab, reason: number): number => lab.vcpu.vcpu.exitCounts[reason]!;
const active = (lab: GuestLab): boolean => x86(lab).arch.apic!.apicvActive;
const secondary = (lab: GuestLab): number => controlsGet(toVmx(x86(lab)), SECONDARY_VM_EXEC_CONTROL);
const labWith = (code: string, options: GuestOptions = {}): GuestLab => {
  const lab = new GuestLab(code, { irqchip: true, ...options });
  lab.interrupts([0x40, 0x41, 0x50], END_X2APIC);
  return lab;
};

describe('in x2APIC mode', () => {
  test('self-IPI, delivery, EOI, TPR and reads of registers do not exit', async () => {
    const code = `${ENTER_X2APIC} b0 01 ${out('81')} fb ${SELF_IPI(0x40)} 90 ${rdmsr(0x802)}${rdmsr(0x808)} 31 c0 44 0f 22 c0 b0 02 ${out('82')} ${HLT}`;
    const lab = labWith(code);
    expect(await nextOut(lab.vcpu, lab)).toBe('out 81/1 01');
    const before = [RDMSR, WRMSR, INTERRUPT_WINDOW].map((reason) => exits(lab, reason));
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 40');
    expect(await nextOut(lab.vcpu, lab)).toBe('out 82/1 02');
    expect([RDMSR, WRMSR, INTERRUPT_WINDOW].map((reason) => exits(lab, reason))).toEqual(before);
    expect(active(lab)).toBe(true);
    expect(secondary(lab) & SECONDARY.VIRTUALIZE_X2APIC).toBe(SECONDARY.VIRTUALIZE_X2APIC);
    expect(secondary(lab) & SECONDARY.VIRTUALIZE_APIC_ACCESSES).toBe(0);
  });

  test('by the module parameter they do', async () => {
    const lab = labWith(`${ENTER_X2APIC} fb ${SELF_IPI(0x40)} 90 b0 02 ${out('82')} ${HLT}`, { enableApicv: false });
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 40');
    expect(await nextOut(lab.vcpu, lab)).toBe('out 82/1 02');
    expect(exits(lab, WRMSR)).toBe(4);
    expect(active(lab)).toBe(false);
    expect(x86(lab).kvm.arch.apicvInhibitReasons).toBe(1 << APICV_INHIBIT_REASON.disabled);
  });

  test('an ICR that is no plain IPI and the timer’s count exit; a register that cannot be read is #GP', async () => {
    const code = `${ENTER_X2APIC}${wrmsr(0x830, 0x4_0040)}${rdmsr(0x839)} b0 02 ${out('82')}${rdmsr(0x80b)} ${HLT}`;
    const lab = labWith(code);
    await nextOut(lab.vcpu, lab);
    expect(exits(lab, WRMSR)).toBe(2);
    expect(exits(lab, APIC_WRITE)).toBe(1);
    expect(exits(lab, RDMSR)).toBe(1);
    lab.interrupts([13]);
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 0d');
    expect(exits(lab, RDMSR)).toBe(2);
  });

  test('the ICR reads back whole', async () => {
    const code = `${ENTER_X2APIC}${wrmsr(0x830, 0x4040, 7)}${rdmsr(0x830)} e7 81 89 d0 e7 82 ${HLT}`;
    const lab = labWith(code);
    expect(await nextOut(lab.vcpu, lab)).toBe('out 81/4 40400000');
    expect(await nextOut(lab.vcpu, lab)).toBe('out 82/4 07000000');
    expect(exits(lab, RDMSR)).toBe(0);
  });
});

describe('in xAPIC mode', () => {
  const ENABLE = store(0xfee0_00f0, 0x1ff);
  test('TPR, EOI and reads are virtualized: no MMIO exits', async () => {
    const code = `${ENABLE} b0 01 ${out('81')} fb ${store(0xfee0_0300, 0x4_0040)} 90 ${show(0xfee0_0020, '82')}${store(0xfee0_0080, 0x20)}${show(0xfee0_0080, '83')} ${HLT}`;
    const lab = labWith(code);
    lab.interrupts([0x40], store(0xfee0_00b0, 0));
    expect(await nextOut(lab.vcpu, lab)).toBe('out 81/1 01');
    const before = [APIC_WRITE, APIC_ACCESS, EPT_MISCONFIG].map((reason) => exits(lab, reason));
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 40');
    expect(await nextOut(lab.vcpu, lab)).toBe('out 82/4 00000000');
    expect(await nextOut(lab.vcpu, lab)).toBe('out 83/4 20000000');
    expect([APIC_WRITE, APIC_ACCESS, EPT_MISCONFIG].map((reason) => exits(lab, reason))).toEqual(before);
    expect(secondary(lab) & SECONDARY.VIRTUALIZE_APIC_ACCESSES).toBe(SECONDARY.VIRTUALIZE_APIC_ACCESSES);
  });

  test('the spurious vector and the timer’s registers exit after the write', async () => {
    const timer = store(0xfee0_0320, 0x2_0041) + store(0xfee0_03e0, 0xb) + store(0xfee0_0380, 500_000);
    const lab = labWith(ENABLE + timer + STI_HLT_FOREVER);
    lab.interrupts([0x41], store(0xfee0_00b0, 0));
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 41');
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 41');
    expect(exits(lab, APIC_WRITE)).toBe(4);
    expect(exits(lab, APIC_ACCESS)).toBe(0);
  });

  test('the timer’s count is emulated: it runs', async () => {
    const timer = store(0xfee0_0320, 0x1_0041) + store(0xfee0_03e0, 0xb) + store(0xfee0_0380, 500_000);
    const lab = labWith(`${ENABLE}${timer}${show(0xfee0_0390, '81')} ${HLT}`);
    const seen = await nextOut(lab.vcpu, lab);
    const count = Number.parseInt(seen.slice(9).match(/../g)!.reverse().join(''), 16);
    expect(count).toBeGreaterThan(499_000);
    expect(count).toBeLessThan(500_000);
    expect(exits(lab, APIC_ACCESS)).toBe(1);
  });

  test('going to x2APIC mode and back through "disabled"', async () => {
    const disable = wrmsr(0x1b, 0xfee0_0100);
    const enable = wrmsr(0x1b, 0xfee0_0900);
    const mark = (n: string): string => `b0 ${n} ${out('81')}`;
    const lab = labWith(
      `${ENABLE}${mark('01')}${ENTER_X2APIC}${mark('02')}${disable}${mark('03')}${enable}${ENABLE}${mark('04')}${HLT}`,
    );
    const both = SECONDARY.VIRTUALIZE_X2APIC | SECONDARY.VIRTUALIZE_APIC_ACCESSES;
    const seen: [string, number, boolean][] = [];
    for (let i = 0; i < 4; i++) seen.push([await nextOut(lab.vcpu, lab), secondary(lab) & both, active(lab)]);
    expect(seen).toEqual([
      ['out 81/1 01', SECONDARY.VIRTUALIZE_APIC_ACCESSES, true],
      ['out 81/1 02', SECONDARY.VIRTUALIZE_X2APIC, true],
      ['out 81/1 03', 0, false],
      ['out 81/1 04', SECONDARY.VIRTUALIZE_APIC_ACCESSES, true],
    ]);
  });

  test('pages of APICs, descriptors and the APIC-access page go back with the VM', () => {
    const first = labWith(HLT);
    const { host, vm } = first;
    const kvm = ok(Kvm.open(host));
    const before = host.pages.freePages;
    for (let i = 0; i < 3; i++) {
      const other = ok(kvm.createVm());
      other.createIrqchip();
      for (let id = 0; id < 4; id++) ok(other.createVcpu(id));
      expect(host.pages.freePages).toBeLessThan(before);
      other.close();
      expect(host.pages.freePages).toBe(before);
    }
    vm.close();
  });
});

describe('posting', () => {
  test('to a guest that runs: it gets the interrupt without an exit', async () => {
    // sti; nop; jmp back
    const lab = labWith(`${ENTER_X2APIC} b0 01 ${out('81')} fb 90 eb fd`);
    expect(await nextOut(lab.vcpu, lab)).toBe('out 81/1 01');
    const { clock } = lab.host.machine;
    clock.setTimer(
      new Timer(() => {
        lab.vm.signalMsi({ addressLo: 0xfee0_0000, addressHi: 0, data: 0x40 });
      }),
      clock.now() + 5000,
    );
    const before = exits(lab, EXTERNAL_INTERRUPT);
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 40');
    expect(exits(lab, EXTERNAL_INTERRUPT)).toBe(before);
    expect(lab.host.timers.now()).toBeLessThan(20_000);
  });

  test('to a vCPU that is not running: it is there at the next entry', async () => {
    const lab = labWith(`${ENTER_X2APIC} b0 01 ${out('81')} fb 90 b0 02 ${out('82')} ${HLT}`);
    await nextOut(lab.vcpu, lab);
    expect(lab.vm.signalMsi({ addressLo: 0xfee0_0000, addressHi: 0, data: 0x41 })).toBe(1);
    expect(lab.vm.signalMsi({ addressLo: 0xfee0_0000, addressHi: 0, data: 0x50 })).toBe(1);
    // Posted, and seen by KVM_GET_LAPIC.
    const state = new DataView(ok(lab.vcpu.getLapic()).buffer);
    expect(state.getUint32(0x220, true)).toBe((1 << 0x01) | (1 << 0x10));
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 50');
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 41');
    expect(await nextOut(lab.vcpu, lab)).toBe('out 82/1 02');
  });

  test('KVM_SET_LAPIC brings requests and what is in service', async () => {
    const lab = labWith(
      `${ENTER_X2APIC} b0 01 ${out('81')} fb 90 b0 02 ${out('82')} ${END_X2APIC} 90 b0 03 ${out('83')} ${HLT}`,
    );
    await nextOut(lab.vcpu, lab);
    const state = ok(lab.vcpu.getLapic());
    const view = new DataView(state.buffer);
    // 41h requested while 50h is in service.
    view.setUint32(0x220, 1 << 1, true);
    view.setUint32(0x120, 1 << 16, true);
    expect(lab.vcpu.setLapic(state)).toBe(0);
    expect(await nextOut(lab.vcpu, lab)).toBe('out 82/1 02');
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 41');
    expect(await nextOut(lab.vcpu, lab)).toBe('out 83/1 03');
  });
});

describe('interrupts between vCPUs', () => {
  /** The other vCPU, in 64-bit mode and running `code`. */
  const start = (lab: GuestLab, code: string): Vcpu => {
    const other = lab.vcpus[1]!;
    lab.write(CODE + 0x800, bytesOf(code));
    lab.enterLongMode(other);
    other.setRegs({ ...ok(other.getRegs()), rip: BigInt(CODE + 0x800), rflags: 2n });
    other.setMpState(KVM_MP_STATE_RUNNABLE);
    return other;
  };
  const MODES = [
    ['x2APIC', ENTER_X2APIC, wrmsr(0x1b, 0xfee0_0c00) + wrmsr(0x80f, 0x1ff), wrmsr(0x830, 0x4050, 0), END_X2APIC],
    [
      'xAPIC',
      store(0xfee0_00f0, 0x1ff),
      store(0xfee0_00f0, 0x1ff),
      store(0xfee0_0310, 0) + store(0xfee0_0300, 0x4050),
      store(0xfee0_00b0, 0),
    ],
  ] as const;

  test.each(MODES)('%s: a halted vCPU is woken without an exit of the sender for the ICR', async (...mode) => {
    const [, enable, enableOther, send, end] = mode;
    const lab = labWith(`${enable} b0 01 ${out('81')} ${STI_HLT_FOREVER}`, { vcpus: 2 });
    lab.interrupts([0x50], end);
    const other = start(lab, `${enableOther} b0 02 ${out('82')} ${send} b0 03 ${out('83')} ${HLT}`);
    expect(await nextOut(lab.vcpu, lab)).toBe('out 81/1 01');
    const waiting = nextOut(lab.vcpu, lab);
    expect(await nextOut(other, lab)).toBe('out 82/1 02');
    const before = [WRMSR, APIC_WRITE].map((reason) => other.vcpu.exitCounts[reason]);
    expect(await nextOut(other, lab)).toBe('out 83/1 03');
    expect([WRMSR, APIC_WRITE].map((reason) => other.vcpu.exitCounts[reason])).toEqual(before);
    expect(await waiting).toBe('out 80/1 50');
  });

  test.each([1, 2])(
    'a halted vCPU is woken on %i host processors, one that is out takes it when it comes',
    async (processors) => {
      const lab = labWith(`${ENTER_X2APIC} b0 01 ${out('81')} fb ${HLT} b0 04 ${out('84')} fa 90 fb 90 ${HLT}`, {
        vcpus: 2,
        processors,
      });
      const send = wrmsr(0x830, 0x4050, 0);
      const other = start(
        lab,
        `${wrmsr(0x1b, 0xfee0_0c00)}${wrmsr(0x80f, 0x1ff)} b0 02 ${out('82')} ${send} b0 03 ${out('83')} ${send} b0 05 ${out('85')} ${HLT}`,
      );
      expect(await nextOut(lab.vcpu, lab)).toBe('out 81/1 01');
      const waiting = nextOut(lab.vcpu, lab);
      expect(await nextOut(other, lab)).toBe('out 82/1 02');
      const sent = nextOut(other, lab);
      expect(await waiting).toBe('out 80/1 50');
      expect(await sent).toBe('out 83/1 03');
      expect(await nextOut(lab.vcpu, lab)).toBe('out 84/1 04');
      // It is out, in user space's hands, when the second one is sent.
      expect(await nextOut(other, lab)).toBe('out 85/1 05');
      expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 50');
    },
  );

  test('by the module parameter they exit', async () => {
    const lab = labWith(`${ENTER_X2APIC}${wrmsr(0x830, 0x4050, 0)} fb 90 ${HLT}`, { enableIpiv: false });
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 50');
    expect(exits(lab, WRMSR)).toBe(3);
    expect(x86(lab).kvm.arch.pidTable).toBe(-1);
  });

  test('to several, or to a vCPU that does not exist: KVM does it', async () => {
    const all = labWith(`${ENTER_X2APIC}${wrmsr(0x830, 0x8_4050)}${wrmsr(0x830, 0x4050, 77)} fb 90 ${HLT}`);
    expect(await nextOut(all.vcpu, all)).toBe('out 80/1 50');
    expect(exits(all, APIC_WRITE)).toBe(2);
  });
});

describe('ends of interrupts that must be heard', () => {
  test('level-triggered through the IOAPIC: an exit each, and the line interrupts again', async () => {
    const lab = labWith(ENTER_X2APIC + ioapic(20, 0x8040) + STI_HLT_FOREVER);
    lab.vm.irqLine({ irq: 20, level: 1 });
    for (let i = 0; i < 3; i++) expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 40');
    expect(exits(lab, EOI_INDUCED)).toBe(2);
  });

  test('edge-triggered: none', async () => {
    const lab = labWith(`${ENTER_X2APIC}${ioapic(20, 0x40)} fb 90 b0 02 ${out('82')} ${HLT}`);
    const first = nextOut(lab.vcpu, lab);
    expect(await first).toBe('out 82/1 02');
    lab.vm.irqLine({ irq: 20, level: 1 });
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 40');
    lab.vm.irqLine({ irq: 20, level: 0 });
    lab.vm.irqLine({ irq: 20, level: 1 });
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 40');
    expect(exits(lab, EOI_INDUCED)).toBe(0);
  });

  test('the interval timer in reinject mode: it does not keep this backend from APIC virtualization', async () => {
    const port = (n: number, value: number): string => `b0 ${dword(value).slice(0, 2)} e6 ${dword(n).slice(0, 2)}`;
    const pit = port(0x43, 0x34) + port(0x40, 0xa9) + port(0x40, 4);
    const lab = labWith(ENTER_X2APIC + MASK_LINT0 + ioapic(0, 0x40) + pit + STI_HLT_FOREVER);
    lab.vm.createPit2({ flags: 0 });
    for (let i = 0; i < 3; i++) expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 40');
    expect(active(lab)).toBe(true);
    expect(exits(lab, EOI_INDUCED)).toBe(2);
  });

  test('without reinjection nobody waits for the timer’s', async () => {
    const port = (n: number, value: number): string => `b0 ${dword(value).slice(0, 2)} e6 ${dword(n).slice(0, 2)}`;
    const pit = port(0x43, 0x34) + port(0x40, 0xa9) + port(0x40, 4);
    const lab = labWith(ENTER_X2APIC + MASK_LINT0 + ioapic(0, 0x40) + pit + STI_HLT_FOREVER);
    lab.vm.createPit2({ flags: 0 });
    lab.vm.reinjectControl(false);
    for (let i = 0; i < 3; i++) expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 40');
    expect(exits(lab, EOI_INDUCED)).toBe(0);
  });
});

describe('inhibits', () => {
  test('the PIC’s interrupts are injected, through the window, beside posted ones', async () => {
    const port = (n: number, value: number): string => `b0 ${dword(value).slice(0, 2)} e6 ${dword(n).slice(0, 2)}`;
    const pic = [
      [0x20, 0x11],
      [0x21, 0x30],
      [0x21, 4],
      [0x21, 1],
      [0x21, 0],
    ] as const;
    const code = pic.map(([n, value]) => port(n, value)).join('');
    const lab = labWith(`${code}${ENTER_X2APIC} b0 01 ${out('81')} 90 fb 90 90 b0 02 ${out('82')} ${HLT}`);
    lab.interrupts([0x33, 0x40]);
    await nextOut(lab.vcpu, lab);
    lab.vm.irqLine({ irq: 3, level: 1 });
    lab.vm.signalMsi({ addressLo: 0xfee0_0000, addressHi: 0, data: 0x40 });
    const seen = [await nextOut(lab.vcpu, lab), await nextOut(lab.vcpu, lab), await nextOut(lab.vcpu, lab)];
    expect(seen.sort()).toEqual(['out 80/1 33', 'out 80/1 40', 'out 82/1 02']);
    expect(exits(lab, INTERRUPT_WINDOW)).toBeGreaterThan(0);
    expect(active(lab)).toBe(true);
  });

  test('a debugger that holds interrupts back; what was posted waits for it', async () => {
    const lab = labWith(`${ENTER_X2APIC} b0 01 ${out('81')} fb 90 b0 02 ${out('82')} b0 03 ${out('83')} ${HLT}`);
    await nextOut(lab.vcpu, lab);
    lab.vm.signalMsi({ addressLo: 0xfee0_0000, addressHi: 0, data: 0x40 });
    const debugreg = new Array<bigint>(8).fill(0n);
    lab.vcpu.setGuestDebug({ control: KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_BLOCKIRQ, debugreg });
    expect(await nextOut(lab.vcpu, lab)).toBe('out 82/1 02');
    expect(active(lab)).toBe(false);
    lab.vcpu.setGuestDebug({ control: 0, debugreg });
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 40');
    expect(active(lab)).toBe(true);
    expect(await nextOut(lab.vcpu, lab)).toBe('out 83/1 03');
  });

  test.each([
    ['another APIC base', wrmsr(0x1b, 0xfed0_0900), APICV_INHIBIT_REASON.apicBaseModified],
    ['another xAPIC identifier', store(0xfee0_0020, 0x0500_0000), APICV_INHIBIT_REASON.apicIdModified],
  ])('%s, for good', async (_name, change, reason) => {
    const lab = labWith(`${store(0xfee0_00f0, 0x1ff)}${change} b0 01 ${out('81')} ${HLT}`);
    expect(await nextOut(lab.vcpu, lab)).toBe('out 81/1 01');
    expect(x86(lab).kvm.arch.apicvInhibitReasons).toBe(1 << reason);
    expect(active(lab)).toBe(false);
  });

  test('then accesses to the APIC page are emulated, and interrupts come all the same', async () => {
    const lab = labWith(
      `${store(0xfee0_00f0, 0x1ff)}${store(0xfee0_0020, 0x0500_0000)} fb ${store(0xfee0_0300, 0x4_0040)} 90 ${show(0xfee0_0020, '82')} ${HLT}`,
    );
    lab.interrupts([0x40], store(0xfee0_00b0, 0));
    expect(await nextOut(lab.vcpu, lab)).toBe('out 80/1 40');
    expect(await nextOut(lab.vcpu, lab)).toBe('out 82/4 00000005');
  });

  test('without local APICs in the kernel', () => {
    const lab = new GuestLab(HLT);
    expect(x86(lab).kvm.arch.apicvInhibitReasons).toBe(1 << APICV_INHIBIT_REASON.absent);
    expect(kvmApicvActivated(labWith(HLT).vcpu.vcpu.kvm as X86Vcpu['kvm'])).toBe(true);
  });
});
