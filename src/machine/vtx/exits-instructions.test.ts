import { describe, expect, test } from 'vitest';
import { RAX, RBX, RCX, RSI } from '../engine/layout.ts';
import { PRIMARY, SECONDARY } from './controls.ts';
import { REASON } from './reasons.ts';
import { bytes, CODE, change, FREE_PAGE, get, guest, run, set } from './test-guest.ts';

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
