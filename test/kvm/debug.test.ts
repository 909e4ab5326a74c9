/** NMIs, breakpoints and single steps, as the guest itself sees them and as a debugger outside does. */
import { describe, expect, test } from 'vitest';
import { CODE, GuestLab, imm32, STACK } from './guest-lab.ts';
import { ok } from './lab.ts';

const HLT = 0xf4;
const HANDLER = 0x3000;
/** mov $value, %eax */
const eax = (value: number): number[] => [0xb8, ...imm32(value)];
const EAX_TO_DR0 = [0x0f, 0x23, 0xc0];
const EAX_TO_DR7 = [0x0f, 0x23, 0xf8];
const DR6_TO_EBX = [0x0f, 0x21, 0xf3];
const DR0_TO_ECX = [0x0f, 0x21, 0xc1];
/** mov %eax, address */
const store = (address: number): number[] => [0xa3, ...imm32(address)];

describe('the guest’s own breakpoints', () => {
  test('a data breakpoint traps after the write, with DR6', async () => {
    const lab = new GuestLab().tables({ 1: HANDLER });
    lab.put(HANDLER, ...DR6_TO_EBX, ...DR0_TO_ECX, HLT);
    // Break on 4-byte writes to 0x2000.
    lab.load(
      ...eax(0x2000),
      ...EAX_TO_DR0,
      ...eax(0xd0402),
      ...EAX_TO_DR7,
      ...store(0x2004),
      ...store(0x2000),
      0x90,
      HLT,
    );
    await lab.run();
    const regs = ok(lab.vcpu.getRegs());
    expect(regs.rip).toBe(BigInt(HANDLER + 7));
    expect(regs.rbx & 0xfn).toBe(1n);
    expect(regs.rcx).toBe(0x2000n);
    // The NOP is next.
    expect(lab.read32(STACK - 12)).toBe(CODE + 5 + 3 + 5 + 3 + 5 + 5);
    expect(ok(lab.vcpu.getDebugregs())).toMatchObject({ db: [0x2000n, 0n, 0n, 0n], dr7: 0xd0402n });
  });

  test('an instruction breakpoint faults before the instruction, and RF lets it pass', async () => {
    const lab = new GuestLab().tables({ 1: HANDLER });
    const target = CODE + 5 + 3 + 5 + 3 + 1;
    // inc %edx; set RF in the saved flags; iret
    lab.put(HANDLER, 0x42, 0x81, 0x4c, 0x24, 0x08, ...imm32(0x10000), 0xcf);
    lab.load(...eax(target), ...EAX_TO_DR0, ...eax(0x402), ...EAX_TO_DR7, 0x90, 0x41, HLT);
    await lab.run();
    expect(ok(lab.vcpu.getRegs())).toMatchObject({ rcx: 1n, rdx: 1n, rip: BigInt(target + 2) });
  });

  test('TF steps the guest, over instructions that exit too', async () => {
    const lab = new GuestLab().tables({ 1: HANDLER });
    // inc %edi; iret
    lab.put(HANDLER, 0x47, 0xcf);
    // pushf; orl $0x100, (%esp); popf; nop; cpuid; nop; pushf; andl $~0x100, (%esp); popf; hlt
    lab.load(
      0x9c,
      0x81,
      0x0c,
      0x24,
      ...imm32(0x100),
      0x9d,
      0x90,
      0x0f,
      0xa2,
      0x90,
      0x9c,
      0x81,
      0x24,
      0x24,
      ...imm32(~0x100),
      0x9d,
      HLT,
    );
    await lab.run();
    // nop, cpuid, nop, pushf, andl and the popf that ends it.
    expect(ok(lab.vcpu.getRegs()).rdi).toBe(6n);
  });

  test('INT1 is a trap behind the instruction', async () => {
    const lab = new GuestLab().tables({ 1: HANDLER });
    lab.put(HANDLER, HLT);
    lab.load(0xf1, 0x90, HLT);
    await lab.run();
    expect(lab.read32(STACK - 12)).toBe(CODE + 1);
  });
});

describe('NMI', () => {
  test('is delivered, blocks the next one until IRET, and that one comes then', async () => {
    const lab = new GuestLab({ irqchip: true }).tables({ 2: HANDLER });
    // inc %ecx; out %al, $0x80; iret
    lab.put(HANDLER, 0x41, 0xe6, 0x80, 0xcf);
    // 1: cmp $2, %ecx; jne 1b; out %al, $0x81; jmp .
    lab.load(0x83, 0xf9, 0x02, 0x75, 0xfb, 0xe6, 0x81, 0xeb, 0xfe);
    lab.vcpu.nmi();
    const ports: number[] = [];
    for (let i = 0; i < 3; i++) {
      const exit = await lab.vcpu.run();
      if (typeof exit === 'number' || exit.kind !== 'io') throw new Error('no I/O exit');
      ports.push(exit.port);
      if (i === 0) {
        // Inside the handler.
        expect(lab.vcpu.getVcpuEvents().nmi.masked).toBe(true);
        lab.vcpu.nmi();
      }
    }
    expect(ports).toEqual([0x80, 0x80, 0x81]);
    expect(lab.vcpu.getVcpuEvents().nmi).toEqual({ injected: false, pending: false, masked: false });
  });
});

describe('a debugger outside', () => {
  test('hardware breakpoints of its own, invisible to the guest', async () => {
    const lab = new GuestLab();
    lab.load(0x41, 0x41, ...DR0_TO_ECX, HLT);
    const debugreg = [BigInt(CODE + 1), 0n, 0n, 0n, 0n, 0n, 0n, 0x402n];
    expect(lab.vcpu.setGuestDebug({ control: 0x20001, debugreg })).toBe(0);
    const exit = await lab.vcpu.run();
    if (typeof exit === 'number' || exit.kind !== 'debug') throw new Error('no debug exit');
    expect([exit.exception, exit.pc, exit.dr6 & 0xfn]).toEqual([1, BigInt(CODE + 1), 1n]);
    lab.vcpu.setGuestDebug({ control: 0, debugreg: [] });
    await lab.run();
    expect(ok(lab.vcpu.getRegs()).rcx).toBe(0n);
  });

  test('software breakpoints: INT3 exits, and can be given to the guest', async () => {
    const lab = new GuestLab().tables({ 3: HANDLER });
    lab.put(HANDLER, HLT);
    lab.load(0xcc, 0x90, HLT);
    lab.vcpu.setGuestDebug({ control: 0x10001, debugreg: [] });
    const exit = await lab.vcpu.run();
    if (typeof exit === 'number' || exit.kind !== 'debug') throw new Error('no debug exit');
    expect([exit.exception, exit.pc]).toEqual([3, BigInt(CODE)]);
    // Without the debugger the guest gets it itself.
    lab.vcpu.setGuestDebug({ control: 0, debugreg: [] });
    await lab.run();
    expect(lab.read32(STACK - 12)).toBe(CODE + 1);
  });
});
