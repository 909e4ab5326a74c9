/** Registers and events that user space gets and sets, and exits that carry them. */
import { describe, expect, test } from 'vitest';
import { CODE, GuestLab, imm32, STACK } from './guest-lab.ts';
import { ok } from './lab.ts';

const EINVAL = 22;
const EINTR = 4;
const HLT = 0xf4;

describe('get and set', () => {
  test('general registers', () => {
    const { vcpu } = new GuestLab();
    const regs = ok(vcpu.getRegs());
    Object.keys(regs).forEach((name, i) => {
      regs[name as keyof typeof regs] = BigInt(i + 1) << 40n;
    });
    regs.rflags = 0x246n;
    expect(vcpu.setRegs(regs)).toBe(0);
    expect(ok(vcpu.getRegs())).toEqual(regs);
  });

  test('special registers come back as they were set', () => {
    const { vcpu } = new GuestLab();
    const sregs = ok(vcpu.getSregs());
    sregs.fs.base = 0x1234_5000n;
    sregs.gdt = { base: 0x7000n, limit: 0x3f };
    sregs.idt = { base: 0x7800n, limit: 0x7ff };
    sregs.cr2 = 0xdead_0000n;
    sregs.cr8 = 3n;
    expect(vcpu.setSregs(sregs)).toBe(0);
    expect(ok(vcpu.getSregs())).toEqual(sregs);
  });

  test.each([
    ['CR0.PG without PE', { cr0: 0x8000_0010n }],
    ['CR0.NW without CD', { cr0: 0x2000_0011n }],
    ['a CR4 bit that CPUID does not offer', { cr4: 1n << 30n }],
    ['CR4.VMXE: no nesting', { cr4: 0x2000n }],
    ['LMA without LME and paging', { efer: 0x400n }],
    ['high half of CR0', { cr0: 1n << 32n }],
    ['high half of EFER', { efer: 1n << 40n }],
  ])('KVM_SET_SREGS refuses %s', (_name, change) => {
    const { vcpu } = new GuestLab();
    const sregs = ok(vcpu.getSregs());
    expect(vcpu.setSregs({ ...sregs, ...change })).toBe(-EINVAL);
    expect(ok(vcpu.getSregs())).toEqual(sregs);
  });

  test('MSRs: set and get, and where the list stops', () => {
    const { vcpu } = new GuestLab();
    expect(
      vcpu.setMsrs([
        { index: 0xc000_0082, data: 0xffff_8000_0000_1000n },
        { index: 0x277, data: 0x0606_0606_0606_0606n },
        { index: 0xdead_beef, data: 1n },
        { index: 0xc000_0081, data: 1n },
      ]),
    ).toBe(2);
    expect(vcpu.getMsrs([0xc000_0082, 0x277, 0xc000_0081, 0xdead_beef, 0x10])).toEqual([
      { index: 0xc000_0082, data: 0xffff_8000_0000_1000n },
      { index: 0x277, data: 0x0606_0606_0606_0606n },
      { index: 0xc000_0081, data: 0n },
    ]);
    expect(vcpu.setMsrs([{ index: 0xc000_0082, data: 1n << 63n }])).toBe(0);
    expect(vcpu.setMsrs([{ index: 0x277, data: 2n }])).toBe(0);
  });

  test('every MSR of the index list can be read', () => {
    const lab = new GuestLab({ irqchip: true });
    const list = lab.kvm.getMsrIndexList();
    expect(lab.vcpu.getMsrs(list).map((entry) => entry.index)).toEqual(list);
  });

  test('x87 and SSE state, through KVM_SET_FPU, the guest, and KVM_GET_XSAVE', async () => {
    const lab = new GuestLab();
    const sregs = ok(lab.vcpu.getSregs());
    lab.vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | 0x600n });
    const fpu = ok(lab.vcpu.getFpu());
    fpu.xmm.set([1, 2, 3, 4], 16);
    fpu.mxcsr = 0x1f80;
    expect(lab.vcpu.setFpu(fpu)).toBe(0);
    // movd %xmm1, %eax; movd %eax, %xmm0; hlt
    lab.load(0x66, 0x0f, 0x7e, 0xc8, 0x66, 0x0f, 0x6e, 0xc0, HLT);
    await lab.run();
    expect(ok(lab.vcpu.getRegs()).rax).toBe(0x04030201n);
    const area = ok(lab.vcpu.getXsave());
    expect([...area.subarray(160, 164)]).toEqual([1, 2, 3, 4]);
    expect(lab.vcpu.setXsave(area)).toBe(0);
    expect(ok(lab.vcpu.getXsave())).toEqual(area);
  });

  test('two vCPUs on one CPU keep their registers apart', async () => {
    const lab = new GuestLab({ ram: 0x20000 });
    const other = lab.vm.createVcpu(1);
    if (typeof other === 'number') throw new Error(`${other}`);
    other.setCpuid2(lab.kvm.getSupportedCpuid());
    other.setSregs({ ...ok(lab.vcpu.getSregs()), apicBase: ok(other.getSregs()).apicBase });
    other.setRegs({ ...ok(lab.vcpu.getRegs()), rip: BigInt(CODE) });
    for (const vcpu of [lab.vcpu, other]) {
      const sregs = ok(vcpu.getSregs());
      vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | 0x600n });
    }
    // movd %eax, %xmm0; hlt; movd %xmm0, %ebx; hlt
    lab.load(0x66, 0x0f, 0x6e, 0xc0, HLT, 0x66, 0x0f, 0x7e, 0xc3, HLT);
    lab.vcpu.setRegs({ ...ok(lab.vcpu.getRegs()), rax: 0x11n });
    other.setRegs({ ...ok(other.getRegs()), rax: 0x22n });
    await lab.run();
    await other.run();
    await lab.run();
    await other.run();
    expect([ok(lab.vcpu.getRegs()).rbx, ok(other.getRegs()).rbx]).toEqual([0x11n, 0x22n]);
  });
});

describe('run', () => {
  test('immediateExit completes a pending exit and runs nothing', async () => {
    const lab = new GuestLab();
    // in $0x10, %al; inc %ecx; hlt
    lab.load(0xe4, 0x10, 0x41, HLT);
    const exit = await lab.vcpu.run();
    if (typeof exit === 'number' || exit.kind !== 'io') throw new Error('no I/O exit');
    expect([exit.direction, exit.port, exit.size, exit.count]).toEqual(['in', 0x10, 1, 1]);
    exit.data[0] = 0x5a;
    lab.vcpu.kvmRun.immediateExit = true;
    expect(await lab.vcpu.run()).toBe(-EINTR);
    expect(ok(lab.vcpu.getRegs())).toMatchObject({ rax: 0x5an, rip: BigInt(CODE + 2), rcx: 0n });
    lab.vcpu.kvmRun.immediateExit = false;
    await lab.run();
    expect(ok(lab.vcpu.getRegs()).rcx).toBe(1n);
  });

  test('a kick ends a guest that would spin for ever', async () => {
    const lab = new GuestLab();
    lab.load(0xeb, 0xfe);
    let kicked = false;
    lab.host.platform.turn(() => {
      kicked = true;
      lab.vcpu.kick();
    });
    expect(await lab.vcpu.run()).toBe(-EINTR);
    expect(kicked).toBe(true);
    expect(ok(lab.vcpu.getRegs()).rip).toBe(BigInt(CODE));
  });

  test('a triple fault is a shutdown exit', async () => {
    const lab = new GuestLab();
    const sregs = ok(lab.vcpu.getSregs());
    lab.vcpu.setSregs({ ...sregs, idt: { base: 0n, limit: 0 } });
    // ud2
    lab.load(0x0f, 0x0b);
    expect((await lab.run()).kind).toBe('shutdown');
  });

  test('string I/O comes as one exit with all its data', async () => {
    const lab = new GuestLab();
    lab.vm.mm.write(lab.memory + 0x3000, Uint8Array.from([65, 66, 67, 68]));
    // rep outsb; rep insb afterwards
    lab.load(0xf3, 0x6e, HLT);
    lab.start({ rsi: 0x3000n, rcx: 4n, rdx: 0x3f8n });
    const bytes: number[] = [];
    await lab.run((exit) => {
      if (exit.kind === 'io') bytes.push(...exit.data.subarray(0, exit.size * exit.count));
    });
    expect(bytes).toEqual([65, 66, 67, 68]);
    expect(ok(lab.vcpu.getRegs())).toMatchObject({ rcx: 0n, rsi: 0x3004n });
  });

  test('an MSR that does not exist raises #GP in the guest', async () => {
    const lab = new GuestLab();
    const idt = 0x4000;
    // Gate 13 to 0x2000, where a HLT is.
    lab.vm.mm.write(lab.memory + idt + 13 * 8, Uint8Array.of(0, 0x20, 8, 0, 0, 0x8e, 0, 0));
    lab.vm.mm.write(lab.memory + 0x2000, Uint8Array.of(HLT));
    // GDT: null, flat code, flat data.
    lab.vm.mm.write(
      lab.memory + 0x5000,
      Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0x9b, 0xcf, 0, 255, 255, 0, 0, 0, 0x93, 0xcf, 0),
    );
    const sregs = ok(lab.vcpu.getSregs());
    lab.vcpu.setSregs({ ...sregs, idt: { base: BigInt(idt), limit: 0x7ff }, gdt: { base: 0x5000n, limit: 0x17 } });
    // mov $0xdead, %ecx; rdmsr
    lab.load(0xb9, ...imm32(0xdead), 0x0f, 0x32, HLT);
    await lab.run();
    expect(ok(lab.vcpu.getRegs()).rip).toBe(0x2001n);
    // Error code, RIP of the RDMSR.
    expect([lab.read32(STACK - 16), lab.read32(STACK - 12)]).toEqual([0, CODE + 5]);
  });

  test('an MSR can be left to user space', async () => {
    const lab = new GuestLab();
    expect(lab.vm.enableCap(188, [1n])).toBe(0);
    // mov $0xdead, %ecx; rdmsr; wrmsr; hlt
    lab.load(0xb9, ...imm32(0xdead), 0x0f, 0x32, 0x0f, 0x30, HLT);
    const first = await lab.vcpu.run();
    if (typeof first === 'number' || first.kind !== 'rdmsr') throw new Error('no MSR exit');
    expect(first.index).toBe(0xdead);
    first.data = 0x1_0000_0002n;
    const second = await lab.vcpu.run();
    if (typeof second === 'number' || second.kind !== 'wrmsr') throw new Error('no MSR exit');
    expect(second.data).toBe(0x1_0000_0002n);
    await lab.run();
  });
});

describe('events', () => {
  test('an interrupt that user space injects is taken, and an open window is told', async () => {
    const lab = new GuestLab();
    lab.vm.mm.write(lab.memory + 0x4000 + 0x21 * 8, Uint8Array.of(0, 0x20, 8, 0, 0, 0x8e, 0, 0));
    lab.vm.mm.write(lab.memory + 0x2000, Uint8Array.of(0x41, HLT));
    lab.vm.mm.write(
      lab.memory + 0x5000,
      Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0x9b, 0xcf, 0, 255, 255, 0, 0, 0, 0x93, 0xcf, 0),
    );
    const sregs = ok(lab.vcpu.getSregs());
    lab.vcpu.setSregs({ ...sregs, idt: { base: 0x4000n, limit: 0x7ff }, gdt: { base: 0x5000n, limit: 0x17 } });
    // nop; sti; nop; jmp .
    lab.load(0x90, 0xfb, 0x90, 0xeb, 0xfe);
    lab.vcpu.kvmRun.requestInterruptWindow = true;
    const window = await lab.vcpu.run();
    expect(typeof window === 'number' ? window : window.kind).toBe('irq-window-open');
    lab.vcpu.kvmRun.requestInterruptWindow = false;
    expect(lab.vcpu.kvmRun.readyForInterruptInjection).toBe(true);
    expect(lab.vcpu.interrupt(0x21)).toBe(0);
    await lab.run();
    expect(ok(lab.vcpu.getRegs()).rcx).toBe(1n);
  });

  test('KVM_SET_VCPU_EVENTS checks its flags and vectors', () => {
    const { vcpu } = new GuestLab();
    const events = vcpu.getVcpuEvents();
    expect(vcpu.setVcpuEvents(events)).toBe(0);
    expect(vcpu.setVcpuEvents({ ...events, flags: 0x1000 })).toBe(-EINVAL);
    expect(vcpu.setVcpuEvents({ ...events, flags: events.flags | 0x10 })).toBe(-EINVAL);
    const exception = { ...events.exception, injected: true, nr: 32 };
    expect(vcpu.setVcpuEvents({ ...events, exception })).toBe(-EINVAL);
  });

  test('single steps for a debugger', async () => {
    const lab = new GuestLab();
    lab.load(0x41, 0x41, HLT);
    expect(lab.vcpu.setGuestDebug({ control: 3, debugreg: [] })).toBe(0);
    const pcs: bigint[] = [];
    for (let i = 0; i < 2; i++) {
      const exit = await lab.vcpu.run();
      if (typeof exit === 'number' || exit.kind !== 'debug') throw new Error('no debug exit');
      pcs.push(exit.pc);
    }
    expect(pcs).toEqual([BigInt(CODE + 1), BigInt(CODE + 2)]);
    lab.vcpu.setGuestDebug({ control: 0, debugreg: [] });
    expect((await lab.run()).kind).toBe('hlt');
    expect(ok(lab.vcpu.getRegs()).rcx).toBe(2n);
  });
});

describe('closing a VM', () => {
  test('ends a KVM_RUN that waits, with −EIO', async () => {
    const lab = new GuestLab({ irqchip: true }).load(HLT);
    const run = lab.vcpu.run();
    await new Promise<void>((resolve) => lab.host.platform.turn(resolve));
    lab.vm.close();
    expect(await run).toBe(-5);
    expect(await lab.vcpu.run()).toBe(-5);
    expect(lab.vm.createIrqchip()).toBe(-9);
    expect(lab.vcpu.setRegs({} as never)).toBe(-5);
    expect(() => lab.vcpu.getRegs()).toThrow('closed');
  });
});

test('a kick takes a halted vCPU out of KVM_RUN and leaves it halted', async () => {
  const lab = new GuestLab({ irqchip: true }).load(HLT, 0x41, 0xe6, 0x80);
  const run = lab.vcpu.run();
  await new Promise<void>((resolve) => lab.host.platform.turn(resolve));
  lab.vcpu.kick();
  expect(await run).toBe(-EINTR);
  expect(lab.vcpu.getMpState()).toBe(3);
  // User space may let it go on.
  expect(lab.vcpu.setMpState(0)).toBe(0);
  const exit = await lab.vcpu.run();
  expect(typeof exit === 'number' ? exit : exit.kind).toBe('io');
  expect(ok(lab.vcpu.getRegs()).rcx).toBe(1n);
});
