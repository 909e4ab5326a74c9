/** What a TD asks of KVM by TDG.VP.VMCALL, and what becomes of it: in the kernel, in user space, or refused. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { VcpuExit } from '../../src/kvm/virt/kvm_run.ts';
import { SHARED, SHARED_BIT, TdLab } from './td-lab.ts';

const SUCCESS = 0n;
const RETRY = 1n;
const INVALID_OPERAND = 1n << 63n;
const ALIGN_ERROR = (1n << 63n) | 2n;
const SUBFUNC_UNSUPPORTED = (1n << 63n) | 3n;
const MMIO = 0x1000_0000n;

let td: TdLab;
beforeEach(async () => {
  td = new TdLab();
  await td.ready();
});
afterEach(() => td.close());

/** Collects exits, and answers them by kind. */
function serving(seen: string[], answer: (exit: VcpuExit) => void = () => {}): (exit: VcpuExit | number) => void {
  return (exit) => {
    if (typeof exit === 'number') {
      seen.push(`errno ${exit}`);
      return;
    }
    seen.push(exit.kind);
    answer(exit);
  };
}

describe('port I/O', () => {
  test.each([1n, 2n, 4n])('OUT and IN of %d bytes go to user space, the result in R11', async (size) => {
    const seen: string[] = [];
    const mask = (1n << (8n * size)) - 1n;
    const out = await td.vmcall(30n, [size, 1n, 0x3f8n, 0x1122_3344n], (exit) => {
      if (typeof exit === 'number' || exit.kind !== 'io') throw new Error('no I/O');
      const bytes = Array.from(exit.data.subarray(0, exit.size), (b) => b.toString(16)).join(' ');
      seen.push(`${exit.direction} ${exit.port.toString(16)} ${exit.size}: ${bytes}`);
    });
    expect(out[10]).toBe(SUCCESS);
    expect(seen).toEqual([`out 3f8 ${size}: ${['44', '33', '22', '11'].slice(0, Number(size)).join(' ')}`]);
    const answered = await td.vmcall(30n, [size, 0n, 0x3f8n, 0n], (exit) => {
      if (typeof exit !== 'number' && exit.kind === 'io') exit.data.set([0x78, 0x56, 0x34, 0x12]);
    });
    expect([answered[10], answered[11]]).toEqual([SUCCESS, 0x1234_5678n & mask]);
  });
  test.each([
    ['size 3', [3n, 0n, 0x80n, 0n]],
    ['size 8', [8n, 0n, 0x80n, 0n]],
    ['direction 2', [1n, 2n, 0x80n, 0n]],
  ])('%s is an invalid operand', async (_name, args) => {
    expect((await td.vmcall(30n, args))[10]).toBe(INVALID_OPERAND);
  });
});

describe('MMIO', () => {
  test.each([1n, 2n, 4n, 8n])('accesses of %d bytes exit without the shared bit', async (size) => {
    const seen: string[] = [];
    const write = await td.vmcall(48n, [size, 1n, MMIO | SHARED_BIT, 0x1122_3344_5566_7788n], (exit) => {
      if (typeof exit === 'number' || exit.kind !== 'mmio') throw new Error('no MMIO');
      seen.push(`${exit.isWrite} ${exit.physAddr.toString(16)} ${exit.len} ${exit.data[0]?.toString(16)}`);
    });
    expect(write[10]).toBe(SUCCESS);
    const read = await td.vmcall(48n, [size, 0n, MMIO | SHARED_BIT, 0n], (exit) => {
      if (typeof exit !== 'number' && exit.kind === 'mmio') exit.data.set([1, 2, 3, 4, 5, 6, 7, 8]);
    });
    expect(read[11]).toBe(0x0807_0605_0403_0201n & ((1n << (8n * size)) - 1n));
    expect(seen).toEqual([`true ${MMIO.toString(16)} ${size} 88`]);
  });
  test.each([
    ['a private address', [4n, 0n, MMIO, 0n]],
    ['size 16', [16n, 0n, MMIO | SHARED_BIT, 0n]],
    ['direction 5', [4n, 5n, MMIO | SHARED_BIT, 0n]],
  ])('%s is an invalid operand', async (_name, args) => {
    expect((await td.vmcall(48n, args))[10]).toBe(INVALID_OPERAND);
  });
  test('a device in the kernel answers without an exit', async () => {
    const seen: number[] = [];
    td.vm.kvm.buses[0]!.register(Number(MMIO), 8, {
      read: (_address, length, data) => {
        data.fill(0x5a, 0, length);
        return 0;
      },
      write: (address) => {
        seen.push(address);
        return 0;
      },
    });
    expect((await td.vmcall(48n, [4n, 0n, MMIO | SHARED_BIT, 0n]))[11]).toBe(0x5a5a_5a5an);
    await td.vmcall(48n, [4n, 1n, MMIO | SHARED_BIT, 1n]);
    expect(seen).toEqual([Number(MMIO)]);
  });
});

describe('CPUID, MSRs, HLT, hypercalls', () => {
  test('CPUID comes from what user space set', async () => {
    const leaf = td.vcpu.getCpuid2().find((entry) => entry.function === 0x16)!;
    const regs = await td.vmcall(10n, [0x16n, 0n]);
    expect(regs.slice(12)).toEqual([leaf.eax, leaf.ebx, leaf.ecx, leaf.edx].map((word) => BigInt(word)));
  });
  test('MSRs of the list are KVM’s', async () => {
    expect((await td.vmcall(32n, [0x1a0n, 0x1234n]))[10]).toBe(SUCCESS);
    const read = await td.vmcall(31n, [0x1a0n]);
    expect([read[10], read[11]]).toEqual([SUCCESS, 0x1234n]);
    expect(td.vcpu.getMsrs([0x1a0])).toEqual([{ index: 0x1a0, data: 0x1234n }]);
    // IA32_FEATURE_CONTROL is locked without VMX.
    expect((await td.vmcall(31n, [0x3an]))[11]).toBe(1n);
    expect((await td.vmcall(31n, [0x1bn]))[11]).toBe(0xfee0_0d00n);
  });
  test('others, and writes to fixed ones, are invalid operands', async () => {
    for (const index of [0x10n, 0x174n, 0xc000_0081n, 0x4000_0000n, 0x808n, 0x80bn, 0x820n])
      expect((await td.vmcall(31n, [index]))[10], index.toString(16)).toBe(INVALID_OPERAND);
    for (const index of [0x1bn, 0x3an, 0xc000_0080n])
      expect((await td.vmcall(32n, [index, 0n]))[10], index.toString(16)).toBe(INVALID_OPERAND);
    expect(td.vcpu.setMsrs([{ index: 0x174, data: 0n }])).toBe(0);
    expect(td.vcpu.getMsrs([0xc000_0081])).toEqual([]);
  });
  test('HLT waits for an interrupt, which is posted', async () => {
    // x2APIC: software enable, then a self-IPI by the timer: a deadline in the past.
    await td.vmcall(32n, [0x80fn, 0x1ffn]);
    await td.vmcall(32n, [0x832n, 0x40000n | 0x40n]);
    const { host } = td.lab;
    const now = host.timers.now();
    const tsc = BigInt(now) + td.vcpu.vcpu.arch.tscOffset;
    await td.vmcall(32n, [0x6e0n, tsc + 5_000_000n]);
    const regs = await td.vmcall(12n, [0n]);
    expect(regs[10]).toBe(SUCCESS);
    expect(host.timers.now() - now).toBeGreaterThanOrEqual(5_000_000);
    expect(td.vcpu.vcpu.stat.halt_exits).toBe(1);
  });
  test('a TD that halts with interrupts blocked is woken by user space alone', async () => {
    td.command({ 10: 0n, 11: 12n, 12: 1n });
    const running = td.vcpu.run();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(td.vcpu.vcpu.arch.mpState).toBe(3);
    td.vcpu.kick();
    expect(await running).toBe(-4);
    td.vcpu.setMpState(0);
    await td.ready();
    expect(td.result()[10]).toBe(SUCCESS);
  });
  test('a hypercall of KVM’s convention', async () => {
    expect((await td.call({ 10: 9999n }))[10]).toBe(BigInt.asUintN(64, -1000n));
    expect((await td.call({ 10: 1n }))[10]).toBe(0n);
  });
});

describe('MapGPA', () => {
  const GPA = 0x20_0000n * 8n;
  test('goes to user space in pieces of 2 MiB, address without shared bit', async () => {
    const seen: string[] = [];
    const regs = await td.vmcall(0x10001n, [GPA | SHARED_BIT, 0x50_0000n], (exit) => {
      if (typeof exit === 'number' || exit.kind !== 'hypercall') throw new Error('no hypercall');
      seen.push(
        `${exit.nr} ${exit.args
          .slice(0, 3)
          .map((arg) => arg.toString(16))
          .join(' ')} ${exit.flags} ${exit.ret}`,
      );
    });
    expect(regs[10]).toBe(SUCCESS);
    expect(seen).toEqual(['12 1000000 200 0 1 0', '12 1200000 200 0 1 0', '12 1400000 100 0 1 0']);
  });
  test('to private: attribute "encrypted"', async () => {
    const attributes: bigint[] = [];
    await td.vmcall(0x10001n, [GPA, 0x1000n], (exit) => {
      if (typeof exit !== 'number' && exit.kind === 'hypercall') attributes.push(exit.args[2]!);
    });
    expect(attributes).toEqual([0x10n]);
  });
  test('what user space refuses is an invalid operand, with the address that failed', async () => {
    let count = 0;
    const regs = await td.vmcall(0x10001n, [GPA | SHARED_BIT, 0x40_0000n], (exit) => {
      if (typeof exit !== 'number' && exit.kind === 'hypercall' && ++count === 2) exit.ret = 22n;
    });
    expect([regs[10], regs[11]]).toEqual([INVALID_OPERAND, (GPA + 0x20_0000n) | SHARED_BIT]);
  });
  test('an interrupt in between: RETRY, with the next address', async () => {
    await td.vmcall(32n, [0x80fn, 0x1ffn]);
    const regs = await td.vmcall(0x10001n, [GPA | SHARED_BIT, 0x40_0000n], () => {
      td.vm.signalMsi({ addressLo: 0xfee0_0000, addressHi: 0, data: 0x41 });
    });
    expect([regs[10], regs[11]]).toEqual([RETRY, (GPA + 0x20_0000n) | SHARED_BIT]);
  });
  test.each([
    ['size 0', [GPA, 0n], INVALID_OPERAND],
    ['wrap', [GPA, 0xffff_ffff_ffff_f000n], INVALID_OPERAND],
    ['beyond the width', [1n << 53n, 0x1000n], INVALID_OPERAND],
    ['across the shared bit', [SHARED_BIT - 0x1000n, 0x2000n], INVALID_OPERAND],
    ['address in a page', [GPA + 8n, 0x1000n], ALIGN_ERROR],
    ['size in a page', [GPA, 0x1800n], ALIGN_ERROR],
  ])('%s is refused in the kernel', async (_name, args, status) => {
    const regs = await td.vmcall(0x10001n, args);
    expect([regs[10], regs[11]]).toEqual([status, args[0]]);
  });
  test('without KVM_CAP_EXIT_HYPERCALL it does not exist', async () => {
    td.vm.enableCap(201, [0n]);
    expect((await td.vmcall(0x10001n, [GPA, 0x1000n]))[10]).toBe(SUBFUNC_UNSUPPORTED);
  });
});

describe('calls for user space', () => {
  test('GetQuote: shared buffers only, unsupported unless user space says otherwise', async () => {
    const seen: string[] = [];
    const none = await td.vmcall(0x10002n, [BigInt(SHARED) | SHARED_BIT, 0x1000n], serving(seen));
    expect(none[10]).toBe(SUBFUNC_UNSUPPORTED);
    expect(seen).toEqual(['tdx']);
    const answered = await td.vmcall(0x10002n, [BigInt(SHARED) | SHARED_BIT, 0x1000n], (exit) => {
      if (typeof exit === 'number' || exit.kind !== 'tdx') throw new Error('no TDX exit');
      expect(exit.nr).toBe(0x10002);
      expect([exit.getQuote.gpa, exit.getQuote.size]).toEqual([SHARED, 0x1000n]);
      exit.getQuote.ret = 0n;
    });
    expect(answered[10]).toBe(SUCCESS);
    expect((await td.vmcall(0x10002n, [BigInt(SHARED), 0x1000n]))[10]).toBe(INVALID_OPERAND);
  });
  test('GetTdVmCallInfo: 0 is KVM’s, 1 user space’s, more there is not', async () => {
    expect((await td.vmcall(0x10000n, [0n])).slice(10, 15)).toEqual([0n, 0n, 0n, 0n, 0n]);
    const regs = await td.vmcall(0x10000n, [1n], (exit) => {
      if (typeof exit === 'number' || exit.kind !== 'tdx') throw new Error('no TDX exit');
      expect(exit.getTdVmCallInfo).toMatchObject({ ret: 0n, leaf: 1n });
      Object.assign(exit.getTdVmCallInfo, { r11: 3n, r12: 4n, r13: 5n, r14: 6n });
    });
    expect(regs.slice(10, 15)).toEqual([0n, 3n, 4n, 5n, 6n]);
    expect((await td.vmcall(0x10000n, [2n]))[10]).toBe(INVALID_OPERAND);
  });
  test('SetupEventNotifyInterrupt: vectors 32 to 255', async () => {
    for (const vector of [0n, 31n, 256n]) expect((await td.vmcall(0x10004n, [vector]))[10]).toBe(INVALID_OPERAND);
    const regs = await td.vmcall(0x10004n, [0x50n], (exit) => {
      if (typeof exit === 'number' || exit.kind !== 'tdx') throw new Error('no TDX exit');
      expect(exit.setupEventNotify).toEqual({ ret: SUBFUNC_UNSUPPORTED, vector: 0x50n });
      exit.setupEventNotify.ret = 0n;
    });
    expect(regs[10]).toBe(SUCCESS);
  });
  test('ReportFatalError: a system event with sixteen registers', async () => {
    td.command({ 10: 0n, 11: 0x10003n, 12: 0x0baa_aaad_0000_0000n, 13: 0n, 14: 0x1122n, 3: 0x33n });
    const exit = await td.vcpu.run();
    if (typeof exit === 'number' || exit.kind !== 'system-event') throw new Error('no system event');
    expect([exit.type, exit.ndata]).toEqual([7, 16]);
    expect([exit.data[3], exit.data[4], exit.data[5], exit.data[11]]).toEqual([0x33n, 0n, 0n, 0x10003n]);
    expect([exit.data[12], exit.data[13], exit.data[14]]).toEqual([0x0baa_aaad_0000_0000n, 0n, 0x1122n]);
    expect(exit.data[0]! & 0xffffn).toBe(77n);
  });
  test.each([0x10005n, 0x10006n, 54n, 65n, 36n, 0xdead_beefn])('leaf %s is unsupported', async (leaf) => {
    expect((await td.vmcall(leaf, [0n]))[10]).toBe(SUBFUNC_UNSUPPORTED);
  });
});

test('a TD that cannot go on (triple fault) shuts down', async () => {
  const lost = new TdLab({ code: 'bits 64\norg 0x10000\nlidt [rel nothing]\nud2\nnothing: dw 0\ndq 0\n' });
  const exit = await lost.vcpu.run();
  expect(exit).toMatchObject({ kind: 'shutdown' });
  lost.close();
});
