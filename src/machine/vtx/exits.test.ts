import { describe, expect, test } from 'vitest';
import { DeliveryMode } from '../../devices/interrupt-message.ts';
import { RAX, RBX, RCX, RDI, RDX, RSI } from '../engine/layout.ts';
import { CR0_TS } from '../processor.ts';
import { EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from './controls.ts';
import { REASON } from './reasons.ts';
import { CODE, change, EPT_ENTRY, FREE_PAGE, get, guestWith, MAPPED, run, set } from './test-guest.ts';
import type { Vtx } from './vtx.ts';

const bytes = (hex: string): number[] => hex.split(' ').map((byte) => Number.parseInt(byte, 16));

/** A guest that runs these bytes, with more controls on; RAX to RDI hold distinct addresses. */
function guest(hex: string, primary = 0, secondary = 0): Vtx {
  const v = guestWith(bytes(hex));
  change(v, 'PRIMARY_CONTROLS', primary);
  change(v, 'SECONDARY_CONTROLS', secondary);
  const { p } = v;
  p.setGpr(RAX, BigInt(FREE_PAGE));
  p.setGpr(RCX, 0x10n);
  p.setGpr(RDX, 0x3f8n);
  p.setGpr(RBX, 0x5555n);
  p.setGpr(RSI, BigInt(FREE_PAGE + 0x100));
  p.setGpr(RDI, BigInt(FREE_PAGE + 0x200));
  return v;
}

const NO_INDEX = 1 << 22;
const NO_BASE = 1 << 27;
/** Memory operand [base] of 64-bit addressing in DS. */
const memory = (base: number): number => (2 << 7) | (3 << 15) | NO_INDEX | (base << 23);
const register = (n: number): number => (n << 3) | (1 << 10);
const second = (n: number): number => (n << 28) >>> 0;

describe('instructions that exit: reason, qualification, length, information; RIP stays', () => {
  const EXPECTED: [string, string, number, number, Partial<ReturnType<typeof run>>][] = [
    ['CPUID', '0f a2', 0, 0, { reason: REASON.CPUID }],
    ['HLT', 'f4', PRIMARY.HLT, 0, { reason: REASON.HLT }],
    ['INVD', '0f 08', 0, 0, { reason: REASON.INVD }],
    ['INVLPG', '0f 01 38', PRIMARY.INVLPG, 0, { reason: REASON.INVLPG, qualification: BigInt(FREE_PAGE) }],
    ['RDPMC', '0f 33', PRIMARY.RDPMC, 0, { reason: REASON.RDPMC }],
    ['RDTSC', '0f 31', PRIMARY.RDTSC, 0, { reason: REASON.RDTSC }],
    ['RDTSCP', '0f 01 f9', PRIMARY.RDTSC, SECONDARY.RDTSCP, { reason: REASON.RDTSCP }],
    ['VMCALL', '0f 01 c1', 0, 0, { reason: REASON.VMCALL }],
    ['VMLAUNCH', '0f 01 c2', 0, 0, { reason: REASON.VMLAUNCH }],
    ['VMRESUME', '0f 01 c3', 0, 0, { reason: REASON.VMRESUME }],
    ['VMXOFF', '0f 01 c4', 0, 0, { reason: REASON.VMXOFF }],
    [
      'VMCLEAR [rax+8]',
      '66 0f c7 70 08',
      0,
      0,
      { reason: REASON.VMCLEAR, qualification: 8n, information: memory(RAX) },
    ],
    ['VMPTRLD [rax]', '0f c7 30', 0, 0, { reason: REASON.VMPTRLD, qualification: 0n, information: memory(RAX) }],
    [
      'VMPTRST [rax-1]',
      '0f c7 78 ff',
      0,
      0,
      { reason: REASON.VMPTRST, qualification: 2n ** 64n - 1n, information: memory(RAX) },
    ],
    [
      'VMXON [rip+16]',
      'f3 0f c7 35 10 00 00 00',
      0,
      0,
      {
        reason: REASON.VMXON,
        qualification: BigInt(CODE + 8 + 16),
        information: (memory(0) & ~(15 << 23)) | NO_BASE,
      },
    ],
    ['VMREAD rbx, rax', '0f 78 c3', 0, 0, { reason: REASON.VMREAD, information: register(RBX) | second(RAX) }],
    [
      'VMREAD [rax+rcx*4+4], rsi',
      '0f 78 74 88 04',
      0,
      0,
      {
        reason: REASON.VMREAD,
        qualification: 4n,
        information: ((memory(RAX) & ~NO_INDEX) | 2 | (RCX << 18) | second(RSI)) >>> 0,
      },
    ],
    ['VMWRITE rbx, r9', '41 0f 79 d9', 0, 0, { reason: REASON.VMWRITE, information: register(9) | second(RBX) }],
    ['INVEPT rcx, [rax]', '66 0f 38 80 08', 0, 0, { reason: REASON.INVEPT, information: memory(RAX) | second(RCX) }],
    [
      'INVVPID r10, [rax]',
      '66 44 0f 38 81 10',
      0,
      0,
      { reason: REASON.INVVPID, information: (memory(RAX) | second(10)) >>> 0 },
    ],
    [
      'INVPCID rcx, [rax]',
      '66 0f 38 82 08',
      PRIMARY.INVLPG,
      SECONDARY.INVPCID,
      { reason: REASON.INVPCID, information: memory(RAX) | second(RCX) },
    ],
    ['MOV cr3, rbx', '0f 22 db', PRIMARY.CR3_LOAD, 0, { reason: REASON.CR_ACCESS, qualification: 0x303n }],
    ['MOV rsi, cr3', '0f 20 de', PRIMARY.CR3_STORE, 0, { reason: REASON.CR_ACCESS, qualification: 0x613n }],
    ['MOV cr8, r9', '45 0f 22 c1', PRIMARY.CR8_LOAD, 0, { reason: REASON.CR_ACCESS, qualification: 0x908n }],
    ['MOV rax, cr8', '44 0f 20 c0', PRIMARY.CR8_STORE, 0, { reason: REASON.CR_ACCESS, qualification: 0x18n }],
    ['MOV dr7, rbx', '0f 23 fb', PRIMARY.MOV_DR, 0, { reason: REASON.MOV_DR, qualification: 0x307n }],
    ['MOV rcx, dr6', '0f 21 f1', PRIMARY.MOV_DR, 0, { reason: REASON.MOV_DR, qualification: 0x116n }],
    ['IN al, 0x60', 'e4 60', PRIMARY.UNCONDITIONAL_IO, 0, { reason: REASON.IO, qualification: 0x60_0048n }],
    ['OUT dx, eax', 'ef', PRIMARY.UNCONDITIONAL_IO, 0, { reason: REASON.IO, qualification: 0x3f8_0003n }],
    ['OUT dx, ax', '66 ef', PRIMARY.UNCONDITIONAL_IO, 0, { reason: REASON.IO, qualification: 0x3f8_0001n }],
    ['INSB', '6c', PRIMARY.UNCONDITIONAL_IO, 0, { reason: REASON.IO, qualification: 0x3f8_0018n, information: 2 << 7 }],
    [
      'REP OUTSB',
      'f3 6e',
      PRIMARY.UNCONDITIONAL_IO,
      0,
      {
        reason: REASON.IO,
        qualification: 0x3f8_0030n,
        information: (2 << 7) | (3 << 15),
      },
    ],
    ['RDMSR', '0f 32', 0, 0, { reason: REASON.RDMSR }],
    ['WRMSR', '0f 30', 0, 0, { reason: REASON.WRMSR }],
    ['MONITOR', '0f 01 c8', PRIMARY.MONITOR, 0, { reason: REASON.MONITOR }],
    ['MWAIT', '0f 01 c9', PRIMARY.MWAIT, 0, { reason: REASON.MWAIT, qualification: 0n }],
    ['PAUSE', 'f3 90', PRIMARY.PAUSE, 0, { reason: REASON.PAUSE }],
    ['SGDT [rax]', '0f 01 00', 0, SECONDARY.DESCRIPTOR_TABLE, { reason: REASON.GDTR_IDTR }],
    ['LIDT [rax]', '0f 01 18', 0, SECONDARY.DESCRIPTOR_TABLE, { reason: REASON.GDTR_IDTR }],
    ['SLDT ecx', '0f 00 c1', 0, SECONDARY.DESCRIPTOR_TABLE, { reason: REASON.LDTR_TR, information: register(RCX) }],
    [
      'LTR [rax]',
      '0f 00 18',
      0,
      SECONDARY.DESCRIPTOR_TABLE,
      { reason: REASON.LDTR_TR, information: (memory(RAX) | (3 << 28)) >>> 0 },
    ],
    ['WBINVD', '0f 09', 0, SECONDARY.WBINVD, { reason: REASON.WBINVD }],
    ['RDRAND ecx', '0f c7 f1', 0, SECONDARY.RDRAND, { reason: REASON.RDRAND, information: (RCX << 3) | (1 << 11) }],
    ['RDSEED rbx', '48 0f c7 fb', 0, SECONDARY.RDSEED, { reason: REASON.RDSEED, information: (RBX << 3) | (2 << 11) }],
  ];
  test.each(EXPECTED)('%s', (_name, hex, primary, secondary, expected) => {
    const v = guest(hex, primary, secondary);
    expect(run(v)).toMatchObject({ length: bytes(hex).length, rip: CODE, ...expected });
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0n);
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0n);
  });

  test('which descriptor-table instruction it was', () => {
    const identity = (hex: string): number => (run(guest(hex, 0, SECONDARY.DESCRIPTOR_TABLE)).information >>> 28) & 3;
    expect(['0f 01 00', '0f 01 08', '0f 01 10', '0f 01 18'].map(identity)).toEqual([0, 1, 2, 3]);
    expect(['0f 00 c0', '0f 00 c8', '0f 00 d0', '0f 00 d8'].map(identity)).toEqual([0, 1, 2, 3]);
  });

  test('INS and OUTS report the linear address of their memory side', () => {
    const ins = guest('6c', PRIMARY.UNCONDITIONAL_IO);
    run(ins);
    expect(get(ins, 'GUEST_LINEAR_ADDRESS')).toBe(BigInt(FREE_PAGE + 0x200));
    const outs = guest('6e', PRIMARY.UNCONDITIONAL_IO);
    run(outs);
    expect(get(outs, 'GUEST_LINEAR_ADDRESS')).toBe(BigInt(FREE_PAGE + 0x100));
  });

  test('RF is saved clear although it was set', () => {
    const v = guest('0f a2');
    set(v, 'GUEST_RFLAGS', 0x1_0002);
    run(v);
    expect(get(v, 'GUEST_RFLAGS')).toBe(2n);
  });

  test('in ring 3: VMX instructions exit before the CPL is looked at, HLT does not', () => {
    const user = (hex: string, primary = 0): number => {
      const v = guest(hex, primary);
      for (const name of ['CS', 'SS', 'DS', 'ES', 'FS', 'GS'] as const) change(v, `GUEST_${name}_ACCESS_RIGHTS`, 0x60);
      set(v, 'EXCEPTION_BITMAP', 1 << 13);
      return run(v).reason;
    };
    expect(user('0f 01 c4')).toBe(REASON.VMXOFF);
    expect(user('0f 01 c1')).toBe(REASON.VMCALL);
    expect(user('0f 20 c0', PRIMARY.MOV_DR)).toBe(REASON.EXCEPTION_OR_NMI);
    expect(user('f4', PRIMARY.HLT)).toBe(REASON.EXCEPTION_OR_NMI);
  });

  test('with CR0.PE clear the VMX instructions are undefined, VMCALL exits', () => {
    const real = (hex: string): number => {
      const v = guest(hex);
      change(v, 'ENTRY_CONTROLS', 0, 0x200);
      set(v, 'GUEST_CR0', 0x30);
      set(v, 'GUEST_CR4', 0x2000);
      set(v, 'GUEST_CS_ACCESS_RIGHTS', 0xc09b);
      set(v, 'EXCEPTION_BITMAP', 1 << 6);
      return run(v).reason;
    };
    expect(real('0f 01 c4')).toBe(REASON.EXCEPTION_OR_NMI);
    expect(real('0f 01 c1')).toBe(REASON.VMCALL);
  });

  test('what secondary controls do not enable is undefined', () => {
    const vector = (hex: string): bigint => {
      const v = guest(hex);
      set(v, 'EXCEPTION_BITMAP', 1 << 6);
      expect(run(v).reason).toBe(REASON.EXCEPTION_OR_NMI);
      return get(v, 'EXIT_INTERRUPTION_INFO');
    };
    const UD = 0x8000_0306n;
    expect(vector('0f 01 f9')).toBe(UD); // RDTSCP
    expect(vector('66 0f 38 82 08')).toBe(UD); // INVPCID
    expect(vector('0f 01 d4')).toBe(UD); // VMFUNC
  });
});

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

describe('exceptions', () => {
  const exception = (hex: string, bitmap: number): Vtx => {
    const v = guest(hex, PRIMARY.HLT);
    set(v, 'EXCEPTION_BITMAP', bitmap);
    return v;
  };
  test('UD2: fault, RF as it would be pushed', () => {
    const v = exception('0f 0b', 1 << 6);
    expect(run(v)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI, rip: CODE });
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0306n);
    expect(get(v, 'GUEST_RFLAGS')).toBe(0x1_0002n);
  });
  test('INT3: software exception with its length', () => {
    const v = exception('cc', 1 << 3);
    expect(run(v)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI, rip: CODE, length: 1 });
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0603n);
  });
  test('#GP with its error code', () => {
    const v = exception('66 b8 24 00 8e d8', 1 << 13); // mov ax, 0x24; mov ds, ax: a null LDT
    run(v);
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0b0dn);
    expect(get(v, 'EXIT_INTERRUPTION_ERROR_CODE')).toBe(0x24n);
  });
  test('#PF: the address is the qualification, CR2 stays', () => {
    const v = exception('48 8b 03', 1 << 14); // mov rax, [rbx]
    v.p.setGpr(RBX, 0x4000_0123n);
    v.p.cr2 = 0x77n;
    expect(run(v)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI, qualification: 0x4000_0123n });
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0b0en);
    expect(v.p.cr2).toBe(0x77n);
  });
  test('#PF: mask and match select by error code, and invert with the bitmap bit', () => {
    const exits = (bitmap: number, mask: number, match: number): boolean => {
      const v = exception('48 89 03', bitmap | (1 << 8)); // a write: error code 2
      v.p.setGpr(RBX, 0x4000_0000n);
      set(v, 'PAGE_FAULT_MASK', mask);
      set(v, 'PAGE_FAULT_MATCH', match);
      set(v, 'GUEST_IDTR_LIMIT', 0);
      run(v);
      return (get(v, 'EXIT_INTERRUPTION_INFO') & 0xffn) === 14n;
    };
    const PF = 1 << 14;
    expect(exits(PF, 0, 0)).toBe(true);
    expect(exits(PF, 2, 2)).toBe(true);
    expect(exits(PF, 2, 0)).toBe(false);
    expect(exits(0, 2, 0)).toBe(true);
    expect(exits(0, 0, 0)).toBe(false);
  });
  test('no gate for anything: triple fault', () => {
    const v = exception('0f 0b', 0);
    set(v, 'GUEST_IDTR_LIMIT', 0);
    expect(run(v)).toMatchObject({ reason: REASON.TRIPLE_FAULT, rip: CODE });
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0n);
  });
  test('a fault that arises in delivery exits with the first event as IDT-vectoring information', () => {
    const v = exception('0f 0b', 1 << 13);
    set(v, 'GUEST_IDTR_LIMIT', 0);
    run(v);
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0b0dn);
    expect(get(v, 'EXIT_INTERRUPTION_ERROR_CODE')).toBe(6n * 8n + 2n + 1n);
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0x8000_0306n);
  });
  test('INT n itself does not exit; its delivery’s fault does, with type 4 and the length', () => {
    const v = exception('cd 80', 1 << 13);
    set(v, 'GUEST_IDTR_LIMIT', 0);
    expect(run(v)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI, rip: CODE, length: 2 });
    expect(get(v, 'EXIT_INTERRUPTION_ERROR_CODE')).toBe(0x80n * 8n + 2n);
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0x8000_0480n);
  });
  test('a double fault that exits is not beside the event that led to it', () => {
    const v = exception('48 8b 03', 1 << 8); // #PF, and no gate: #GP in delivery, so #DF
    v.p.setGpr(RBX, 0x4000_0000n);
    set(v, 'GUEST_IDTR_LIMIT', 0);
    run(v);
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0b08n);
    expect(get(v, 'EXIT_INTERRUPTION_ERROR_CODE')).toBe(0n);
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0n);
  });
  test('single step: #DB with BS, DR6 stays', () => {
    const v = exception('90 90', 1 << 1);
    set(v, 'GUEST_RFLAGS', 0x102);
    v.p.dr6 = 0xffff_0ff0;
    expect(run(v)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI, qualification: 0x4000n, rip: CODE + 1 });
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0301n);
    expect(v.p.dr6).toBe(0xffff_0ff0);
  });
});

describe('EPT', () => {
  test('a read beyond what is mapped', () => {
    const v = guest('48 8b 03'); // mov rax, [rbx]
    v.p.setGpr(RBX, BigInt(MAPPED + 0x123));
    expect(run(v)).toMatchObject({ reason: REASON.EPT_VIOLATION, rip: CODE });
    expect(get(v, 'EXIT_QUALIFICATION') & 0x1ffn).toBe(0x181n);
    expect(get(v, 'GUEST_PHYSICAL_ADDRESS')).toBe(BigInt(MAPPED + 0x123));
    expect(get(v, 'GUEST_LINEAR_ADDRESS')).toBe(BigInt(MAPPED + 0x123));
    expect(get(v, 'GUEST_RFLAGS')).toBe(0x1_0002n);
  });
  test('a write without the right; after the right is given it goes through', () => {
    const v = guest('48 89 03 f4', PRIMARY.HLT); // mov [rbx], rax; hlt
    v.p.setGpr(RBX, BigInt(FREE_PAGE));
    v.p.machine.memory.write64(EPT_ENTRY, 0xb5n);
    expect(run(v).reason).toBe(REASON.EPT_VIOLATION);
    expect(get(v, 'EXIT_QUALIFICATION') & 0x1ffn).toBe(0x1aan);
    v.p.machine.memory.write64(EPT_ENTRY, 0xb7n);
    expect(run(v).reason).toBe(REASON.HLT);
    expect(v.p.machine.memory.read64(FREE_PAGE)).toBe(BigInt(FREE_PAGE));
  });
  test('write without read is a misconfiguration', () => {
    const v = guest('90');
    v.p.machine.memory.write64(EPT_ENTRY, 0xb6n);
    expect(run(v).reason).toBe(REASON.EPT_MISCONFIGURATION);
    expect(get(v, 'GUEST_PHYSICAL_ADDRESS')).not.toBe(0n);
  });
  test('a violation while an event is delivered carries the event', () => {
    const v = guest('cd 20'); // int 0x20
    set(v, 'GUEST_IDTR_BASE', MAPPED);
    expect(run(v)).toMatchObject({ reason: REASON.EPT_VIOLATION, rip: CODE, length: 2 });
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0x8000_0420n);
  });
  test('PML: a page is logged when it becomes dirty, and a full log exits before anything is set', () => {
    const LOG = 0x9000;
    const v = guest('48 89 03 f4', PRIMARY.HLT, SECONDARY.PML);
    change(v, 'EPT_POINTER', 0x40);
    set(v, 'PML_ADDRESS', LOG);
    set(v, 'PML_INDEX', 0xffff);
    expect(run(v).reason).toBe(REASON.PML_FULL);
    set(v, 'PML_INDEX', 511);
    expect(run(v).reason).toBe(REASON.HLT);
    const index = Number(get(v, 'PML_INDEX'));
    expect(index).toBeLessThan(511);
    const logged = Array.from({ length: 511 - index }, (_, i) => v.p.machine.memory.read64(LOG + 8 * (511 - i)));
    expect(logged.some((gpa) => gpa < BigInt(MAPPED) && gpa % 4096n === 0n)).toBe(true);
  });
});

describe('events at boundaries', () => {
  const NOP_LOOP = '90 eb fd';
  test('external interrupt: the vector only with acknowledge-on-exit', () => {
    const external = (acknowledge: boolean): [number, bigint, boolean] => {
      const v = guest(NOP_LOOP);
      change(v, 'PIN_CONTROLS', PIN.EXTERNAL_INTERRUPT_EXITING);
      if (acknowledge) change(v, 'EXIT_CONTROLS', EXIT_CONTROL.ACKNOWLEDGE_INTERRUPT);
      pend(v, 0x41);
      return [run(v).reason, get(v, 'EXIT_INTERRUPTION_INFO'), v.p.apic.interruptPending];
    };
    expect(external(true)).toEqual([REASON.EXTERNAL_INTERRUPT, 0x8000_0041n, false]);
    expect(external(false)).toEqual([REASON.EXTERNAL_INTERRUPT, 0n, true]);
  });
  test('NMI: exits and leaves NMIs blocked in the host', () => {
    const v = guest(NOP_LOOP);
    change(v, 'PIN_CONTROLS', PIN.NMI_EXITING);
    v.p.nmiPending = true;
    expect(run(v).reason).toBe(REASON.EXCEPTION_OR_NMI);
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0202n);
    expect(v.p.nmiBlocked).toBe(true);
    expect(get(v, 'GUEST_INTERRUPTIBILITY')).toBe(0n);
  });
  test('interrupt window: after STI and one more instruction', () => {
    const v = guest('90 fb 90 90', PRIMARY.INTERRUPT_WINDOW); // nop; sti; nop; nop
    expect(run(v)).toMatchObject({ reason: REASON.INTERRUPT_WINDOW, rip: CODE + 3 });
    expect(get(v, 'GUEST_INTERRUPTIBILITY')).toBe(0n);
  });
  test('interrupt window that is open at entry exits at once, also from HLT', () => {
    const v = guest('90', PRIMARY.INTERRUPT_WINDOW);
    set(v, 'GUEST_RFLAGS', 0x202);
    set(v, 'GUEST_ACTIVITY', 1);
    expect(run(v)).toMatchObject({ reason: REASON.INTERRUPT_WINDOW, rip: CODE });
    expect(get(v, 'GUEST_ACTIVITY')).toBe(1n);
  });
  const virtualNmis = (v: Vtx): void => change(v, 'PIN_CONTROLS', PIN.NMI_EXITING | PIN.VIRTUAL_NMIS);
  test('NMI window: at once when open, after IRET when virtual NMIs are blocked', () => {
    const open = guest('90', PRIMARY.NMI_WINDOW);
    virtualNmis(open);
    expect(run(open)).toMatchObject({ reason: REASON.NMI_WINDOW, rip: CODE });

    const blocked = guest('48 cf', PRIMARY.NMI_WINDOW); // iretq
    virtualNmis(blocked);
    set(blocked, 'GUEST_INTERRUPTIBILITY', 8);
    makeGdt(blocked);
    const { memory: ram } = blocked.p.machine;
    for (const [i, value] of [CODE + 0x10, 0x10, 2, 0x9000, 0x18].entries())
      ram.write64(FREE_PAGE + 8 * i, BigInt(value));
    set(blocked, 'GUEST_RSP', FREE_PAGE);
    expect(run(blocked)).toMatchObject({ reason: REASON.NMI_WINDOW, rip: CODE + 0x10 });
    expect(get(blocked, 'GUEST_INTERRUPTIBILITY')).toBe(0n);
  });
  test('IRET that faults has unblocked NMIs: bit 12', () => {
    const v = guest('48 cf');
    virtualNmis(v);
    set(v, 'GUEST_INTERRUPTIBILITY', 8);
    set(v, 'GUEST_RSP', MAPPED);
    expect(run(v).reason).toBe(REASON.EPT_VIOLATION);
    expect(get(v, 'EXIT_QUALIFICATION') & 0x1000n).toBe(0x1000n);
    expect(get(v, 'GUEST_INTERRUPTIBILITY')).toBe(0n);
  });
  test('preemption timer: counts once in 32 TSC ticks; value 0 exits before any instruction', () => {
    const timer = (value: number): [number, number, bigint] => {
      const v = guest(NOP_LOOP);
      change(v, 'PIN_CONTROLS', PIN.PREEMPTION_TIMER);
      change(v, 'EXIT_CONTROLS', EXIT_CONTROL.SAVE_PREEMPTION_TIMER);
      set(v, 'PREEMPTION_TIMER_VALUE', value);
      const before = v.p.machine.clock.now();
      const { reason } = run(v);
      return [reason, v.p.machine.clock.now() - before, get(v, 'PREEMPTION_TIMER_VALUE')];
    };
    expect(timer(0)).toEqual([REASON.PREEMPTION_TIMER, 0, 0n]);
    const [reason, elapsed, left] = timer(10);
    expect(reason).toBe(REASON.PREEMPTION_TIMER);
    expect(elapsed).toBeGreaterThan(9 * 32);
    expect(elapsed).toBeLessThanOrEqual(10 * 32 + 2);
    expect(left).toBe(0n);
  });
  test('preemption timer: what is left is saved', () => {
    const v = guest('90 90 0f a2');
    change(v, 'PIN_CONTROLS', PIN.PREEMPTION_TIMER);
    change(v, 'EXIT_CONTROLS', EXIT_CONTROL.SAVE_PREEMPTION_TIMER);
    set(v, 'PREEMPTION_TIMER_VALUE', 1000);
    expect(run(v).reason).toBe(REASON.CPUID);
    expect(get(v, 'PREEMPTION_TIMER_VALUE')).toBeGreaterThanOrEqual(999n);
  });
  test('monitor trap flag: one instruction at a time', () => {
    const v = guest('90 90 48 ff c0', PRIMARY.MONITOR_TRAP_FLAG);
    expect(run(v)).toMatchObject({ reason: REASON.MONITOR_TRAP_FLAG, rip: CODE + 1 });
    expect(run(v)).toMatchObject({ reason: REASON.MONITOR_TRAP_FLAG, rip: CODE + 2 });
    expect(run(v)).toMatchObject({ reason: REASON.MONITOR_TRAP_FLAG, rip: CODE + 5 });
  });
  test('monitor trap flag by injection: before any instruction', () => {
    const v = guest('90');
    set(v, 'ENTRY_INTERRUPTION_INFO', 0x8000_0700);
    expect(run(v)).toMatchObject({ reason: REASON.MONITOR_TRAP_FLAG, rip: CODE });
    expect(get(v, 'ENTRY_INTERRUPTION_INFO')).toBe(0x700n);
  });
  test('INIT exits, and is used up', () => {
    const v = guest(NOP_LOOP);
    v.p.initPending = true;
    expect(run(v)).toMatchObject({ reason: REASON.INIT, rip: CODE });
    expect(v.p.initPending).toBe(false);
  });
  test('SIPI in wait-for-SIPI state', () => {
    const v = guest('90');
    set(v, 'GUEST_ACTIVITY', 3);
    v.p.sipiPending = 0x9a;
    expect(run(v)).toMatchObject({ reason: REASON.SIPI, qualification: 0x9an });
    expect(get(v, 'GUEST_ACTIVITY')).toBe(3n);
  });
});

/** A GDT whose entries 0x10 and 0x18 are the guest's code and stack. */
function makeGdt(v: Vtx): void {
  const { memory: ram } = v.p.machine;
  ram.write64(FREE_PAGE + 0x810, 0x00af_9b00_0000_ffffn);
  ram.write64(FREE_PAGE + 0x818, 0x00cf_9300_0000_ffffn);
  set(v, 'GUEST_GDTR_BASE', FREE_PAGE + 0x800);
}

/** Makes an interrupt pending at the processor's local APIC. */
function pend(v: Vtx, vector: number): void {
  const { apic } = v.p;
  apic.mmioWrite(0xf0, 4, 0x1ff);
  apic.accept(DeliveryMode.fixed, vector, false);
}

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
