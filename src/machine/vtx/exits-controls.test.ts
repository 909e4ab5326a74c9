import { describe, expect, test } from 'vitest';
import { RAX, RBX, RCX, RDX } from '../engine/layout.ts';
import { CR0_TS } from '../processor.ts';
import { PRIMARY, SECONDARY } from './controls.ts';
import { REASON } from './reasons.ts';
import { CODE, change, FREE_PAGE, get, guest, run, set } from './test-guest.ts';
import type { Vtx } from './vtx.ts';

describe('control registers', () => {
  const TS = BigInt(CR0_TS);
  test('MOV to CR0: a host-owned bit that differs from the shadow exits, others are written', () => {
    // mov cr0, rbx; hlt
    const v = guest('0f 22 c3 f4', PRIMARY.HLT);
    set(v, 'CR0_MASK', TS);
    set(v, 'CR0_READ_SHADOW', 0);
    v.p.setGpr(RBX, 0x8005_003bn);
    expect(run(v)).toMatchObject({ reason: REASON.CR_ACCESS, qualification: 0x300n });
    v.p.setGpr(RBX, 0x8005_0033n);
    expect(run(v)).toMatchObject({ reason: REASON.HLT });
    expect(get(v, 'GUEST_CR0')).toBe(0x8005_0033n);
  });
  test('MOV to CR0 keeps the host-owned bits', () => {
    const v = guest('0f 22 c3 f4', PRIMARY.HLT);
    set(v, 'CR0_MASK', TS);
    set(v, 'CR0_READ_SHADOW', TS);
    set(v, 'GUEST_CR0', 0x8005_0033);
    v.p.setGpr(RBX, 0x8005_003bn);
    expect(run(v).reason).toBe(REASON.HLT);
    expect(get(v, 'GUEST_CR0') & TS).toBe(0n);
  });
  test('MOV from CR0 and CR4 give the shadow of host-owned bits', () => {
    // mov rbx, cr0; mov rcx, cr4; hlt
    const v = guest('0f 20 c3 0f 20 e1 f4', PRIMARY.HLT);
    set(v, 'CR0_MASK', TS);
    set(v, 'CR0_READ_SHADOW', TS);
    set(v, 'CR4_MASK', 0x2000);
    set(v, 'CR4_READ_SHADOW', 0);
    expect(run(v).reason).toBe(REASON.HLT);
    expect(v.p.gpr(RBX) & TS).toBe(TS);
    expect(v.p.gpr(RCX) & 0x2000n).toBe(0n);
  });
  test('MOV to CR4: VMXE is the host’s', () => {
    const v = guest('0f 22 e3', PRIMARY.HLT);
    set(v, 'CR4_MASK', 0x2000);
    set(v, 'CR4_READ_SHADOW', 0);
    v.p.setGpr(RBX, 0x2020n);
    expect(run(v)).toMatchObject({ reason: REASON.CR_ACCESS, qualification: 0x304n });
  });
  test('MOV to CR3 of a target value does not exit', () => {
    const v = guest('0f 22 db f4', PRIMARY.HLT | PRIMARY.CR3_LOAD);
    set(v, 'CR3_TARGET_COUNT', 2);
    set(v, 'CR3_TARGET_1', 0x1_0000);
    v.p.setGpr(RBX, 0x1_0000n);
    expect(run(v).reason).toBe(REASON.HLT);
  });
  test('CLTS: exits, does nothing, or clears TS', () => {
    const clts = (mask: number, shadow: number): [number, bigint, bigint] => {
      const v = guest('0f 06 f4', PRIMARY.HLT);
      set(v, 'CR0_MASK', mask);
      set(v, 'CR0_READ_SHADOW', shadow);
      change(v, 'GUEST_CR0', CR0_TS);
      const { reason, qualification } = run(v);
      return [reason, qualification, get(v, 'GUEST_CR0') & TS];
    };
    expect(clts(CR0_TS, CR0_TS)).toEqual([REASON.CR_ACCESS, 0x20n, TS]);
    expect(clts(CR0_TS, 0)).toEqual([REASON.HLT, 0n, TS]);
    expect(clts(0, 0)).toEqual([REASON.HLT, 0n, 0n]);
  });
  test('LMSW: source and form are in the qualification', () => {
    const register_ = guest('0f 01 f3'); // lmsw bx
    set(register_, 'CR0_MASK', TS);
    register_.p.setGpr(RBX, 0xabc9n);
    expect(run(register_)).toMatchObject({ reason: REASON.CR_ACCESS, qualification: 0xabc9_0030n });
    const memory_ = guest('0f 01 30'); // lmsw [rax]
    set(memory_, 'CR0_MASK', TS);
    memory_.p.machine.memory.write16(FREE_PAGE, 9);
    expect(run(memory_)).toMatchObject({ reason: REASON.CR_ACCESS, qualification: 0x9_0070n });
    expect(get(memory_, 'GUEST_LINEAR_ADDRESS')).toBe(BigInt(FREE_PAGE));
  });
});

describe('bitmaps', () => {
  const io = (hex: string, port: number): number => {
    const v = guest(`${hex} f4`, PRIMARY.HLT | PRIMARY.IO_BITMAPS);
    set(v, 'IO_BITMAP_A', FREE_PAGE);
    set(v, 'IO_BITMAP_B', FREE_PAGE + 0x1000);
    const { memory: ram } = v.p.machine;
    ram.write8(FREE_PAGE + (0x3f9 >> 3), 1 << (0x3f9 & 7));
    ram.write8(FREE_PAGE + 0x1000, 1);
    v.p.setGpr(RDX, BigInt(port));
    return run(v).reason;
  };
  test('I/O: any of the ports touched, both bitmaps, the end of the port space', () => {
    expect(io('ec', 0x3f8)).toBe(REASON.HLT);
    expect(io('66 ed', 0x3f8)).toBe(REASON.IO);
    expect(io('ec', 0x3f9)).toBe(REASON.IO);
    expect(io('ec', 0x8000)).toBe(REASON.IO);
    expect(io('66 ed', 0x7fff)).toBe(REASON.IO);
    expect(io('ed', 0xfffd)).toBe(REASON.IO);
    expect(io('ed', 0xfffc)).toBe(REASON.HLT);
  });
  const msr = (hex: string, index: number, bit?: number): number => {
    const v = guest(`${hex} f4`, PRIMARY.HLT | PRIMARY.MSR_BITMAPS);
    set(v, 'MSR_BITMAP', FREE_PAGE);
    if (bit !== undefined) v.p.machine.memory.write8(FREE_PAGE + (bit >> 3), 1 << (bit & 7));
    v.p.setGpr(RCX, BigInt(index));
    v.p.setGpr(RAX, 0n);
    v.p.setGpr(RDX, 0n);
    return run(v).reason;
  };
  const READ = '0f 32';
  const WRITE = '0f 30';
  test('MSRs: low and high ranges, reads and writes; what no bitmap covers exits', () => {
    expect(msr(READ, 0x174)).toBe(REASON.HLT);
    expect(msr(READ, 0x174, 0x174)).toBe(REASON.RDMSR);
    expect(msr(READ, 0xc000_0102, 0x400 * 8 + 0x102)).toBe(REASON.RDMSR);
    expect(msr(WRITE, 0x174)).toBe(REASON.HLT);
    expect(msr(WRITE, 0x174, 0x800 * 8 + 0x174)).toBe(REASON.WRMSR);
    expect(msr(WRITE, 0xc000_0102, 0xc00 * 8 + 0x102)).toBe(REASON.WRMSR);
    expect(msr(READ, 0x2000)).toBe(REASON.RDMSR);
    expect(msr(READ, 0xc000_2000)).toBe(REASON.RDMSR);
    expect(msr(WRITE, 0x4000_0000)).toBe(REASON.WRMSR);
  });
});

describe('TPR shadow', () => {
  const shadowed = (hex: string): Vtx => {
    const v = guest(hex, PRIMARY.TPR_SHADOW | PRIMARY.HLT);
    set(v, 'VIRTUAL_APIC_ADDRESS', FREE_PAGE);
    v.p.machine.memory.write32(FREE_PAGE + 0x80, 0x55);
    return v;
  };
  test('MOV from and to CR8 use the virtual-APIC page', () => {
    const v = shadowed('44 0f 20 c3 44 0f 22 c1 f4'); // mov rbx, cr8; mov cr8, rcx; hlt
    v.p.setGpr(RCX, 7n);
    expect(run(v).reason).toBe(REASON.HLT);
    expect(v.p.gpr(RBX)).toBe(5n);
    expect(v.p.machine.memory.read32(FREE_PAGE + 0x80)).toBe(0x70);
  });
  test('a value below the threshold exits after the instruction', () => {
    const v = shadowed('44 0f 22 c1 f4'); // mov cr8, rcx; hlt
    set(v, 'TPR_THRESHOLD', 4);
    v.p.setGpr(RCX, 3n);
    expect(run(v)).toMatchObject({ reason: REASON.TPR_BELOW_THRESHOLD, rip: CODE + 4 });
    expect(v.p.machine.memory.read32(FREE_PAGE + 0x80)).toBe(0x30);
  });
});

describe('TSC and PAUSE', () => {
  test('offset and scaling', () => {
    const v = guest('0f 31 f4', PRIMARY.HLT | PRIMARY.TSC_OFFSETTING, SECONDARY.TSC_SCALING); // rdtsc; hlt
    set(v, 'TSC_OFFSET', 0x1_0000_0000n);
    set(v, 'TSC_MULTIPLIER', 3n << 48n);
    v.p.tscOffset = 1_000_000n - BigInt(v.p.machine.clock.now());
    expect(run(v).reason).toBe(REASON.HLT);
    expect(v.p.gpr(RDX)).toBe(1n);
    expect(Number(v.p.gpr(RAX))).toBeGreaterThanOrEqual(3_000_000);
    expect(Number(v.p.gpr(RAX))).toBeLessThan(3_000_100);
  });
  test('offset without scaling', () => {
    const v = guest('0f 31 f4', PRIMARY.HLT | PRIMARY.TSC_OFFSETTING);
    set(v, 'TSC_OFFSET', 0x5_0000_0000n);
    v.p.tscOffset = -BigInt(v.p.machine.clock.now());
    expect(run(v).reason).toBe(REASON.HLT);
    expect(v.p.gpr(RDX)).toBe(5n);
    expect(Number(v.p.gpr(RAX))).toBeLessThan(100);
  });
  test('PAUSE-loop exiting: a loop that spins longer than the window', () => {
    const v = guest('f3 90 eb fc', 0, SECONDARY.PAUSE_LOOP); // pause; jmp
    set(v, 'PLE_GAP', 128);
    set(v, 'PLE_WINDOW', 1000);
    const before = v.p.machine.clock.now();
    expect(run(v).reason).toBe(REASON.PAUSE);
    expect(v.p.machine.clock.now() - before).toBeGreaterThan(1000);
  });
  /** A loop of PAUSE and `instructions` in all, 400 times, then HLT. */
  const spin = (instructions: number, gap: number, window: number, primary = 0): Vtx => {
    const nops = '90 '.repeat(instructions - 3);
    const back = (256 - 4 - (instructions - 3) - 2).toString(16).padStart(2, '0');
    const v = guest(`b9 90 01 00 00 f3 90 ${nops}ff c9 75 ${back} f4`, PRIMARY.HLT | primary, SECONDARY.PAUSE_LOOP);
    set(v, 'PLE_GAP', gap);
    set(v, 'PLE_WINDOW', window);
    return v;
  };
  test.each<[string, number, number, number, number]>([
    ['PAUSEs that are further apart than the gap are no loop', 20, 19, 100, REASON.HLT],
    ['as far apart as the gap is near enough', 20, 20, 100, REASON.PAUSE],
    ['a loop that ends within the window', 10, 128, 400 * 10, REASON.HLT],
    ['a loop that is longer', 10, 128, 399 * 10 - 1, REASON.PAUSE],
  ])('PAUSE-loop exiting: %s', (_name, instructions, gap, window, reason) => {
    expect(run(spin(instructions, gap, window)).reason).toBe(reason);
  });
  test('PAUSE-loop exiting: each entry begins anew', () => {
    const v = spin(10, 128, 1000);
    expect(run(v).reason).toBe(REASON.PAUSE);
    const before = v.p.machine.clock.now();
    expect(run(v).reason).toBe(REASON.PAUSE);
    expect(v.p.machine.clock.now() - before).toBeGreaterThan(1000);
  });
  test('PAUSE exiting goes before it', () => {
    const v = spin(10, 1, 0xffff_ffff, PRIMARY.PAUSE);
    expect(run(v)).toMatchObject({ reason: REASON.PAUSE, rip: CODE + 5 });
  });
  test('PAUSE-loop exiting is for level 0 only', () => {
    const v = spin(10, 128, 100);
    v.p.machine.memory.write8(CODE + 5 + 2 + 7 + 4, 0xcc); // INT3 instead of HLT
    for (const name of ['CS', 'SS', 'DS', 'ES'] as const) {
      set(v, `GUEST_${name}_SELECTOR`, name === 'CS' ? 0x13 : 0x1b);
      change(v, `GUEST_${name}_ACCESS_RIGHTS`, 0x60);
    }
    set(v, 'EXCEPTION_BITMAP', 1 << 3);
    expect(run(v).reason).toBe(REASON.EXCEPTION_OR_NMI);
  });
});

describe('VM functions', () => {
  const switching = (index: number, eptp: bigint): Vtx => {
    const v = guest('0f 01 d4 f4', PRIMARY.HLT, SECONDARY.VM_FUNCTIONS); // vmfunc; hlt
    set(v, 'VM_FUNCTION_CONTROLS', 1);
    set(v, 'EPTP_LIST_ADDRESS', FREE_PAGE);
    v.p.machine.memory.write64(FREE_PAGE + 8, eptp);
    v.p.setGpr(RAX, 0n);
    v.p.setGpr(RCX, BigInt(index));
    return v;
  };
  test('EPTP switching', () => {
    const v = switching(1, 0x1_201en);
    const eptp = get(v, 'EPT_POINTER');
    v.p.machine.memory.write64(FREE_PAGE + 8, eptp | 0x40n);
    expect(run(v).reason).toBe(REASON.HLT);
    expect(get(v, 'EPT_POINTER')).toBe(eptp | 0x40n);
  });
  test('an index or an entry that is invalid exits', () => {
    expect(run(switching(512, 0x1_201en)).reason).toBe(REASON.VMFUNC);
    expect(run(switching(1, 0x1_2001n)).reason).toBe(REASON.VMFUNC);
  });
});
