import { describe, expect, test } from 'vitest';
import { FS, GS } from '../engine/layout.ts';
import { TestProcessor } from '../system/test-processor.ts';
import { readTsc } from '../system/time.ts';
import { MSRS, readMsr, resetMsrs, writeMsr } from './msr.ts';

const fresh = (): TestProcessor => {
  const t = new TestProcessor().longMode();
  resetMsrs(t.p);
  return t;
};
const CANONICAL = 0xffff_8000_1234_5678n;
const NOT_CANONICAL = 0x0100_0000_0000_0000n;

describe('every MSR of the table', () => {
  const t = fresh();
  test.each(MSRS.filter(({ initial }) => initial !== undefined).map((row) => [row.name, row] as const))(
    '%s reads its initial value',
    (_name, { index, initial }) => expect(readMsr(t.p, index)).toBe(initial),
  );
});

describe('writes that fault change nothing', () => {
  test.each<[string, number, bigint]>([
    ['IA32_EFER reserved bit', 0xc0000080, 2n],
    ['IA32_LSTAR not canonical', 0xc0000082, NOT_CANONICAL],
    ['IA32_FS_BASE not canonical', 0xc0000100, NOT_CANONICAL],
    ['IA32_KERNEL_GS_BASE not canonical', 0xc0000102, NOT_CANONICAL],
    ['IA32_SYSENTER_EIP not canonical', 0x176, NOT_CANONICAL],
    ['IA32_FMASK upper half', 0xc0000084, 1n << 32n],
    ['IA32_TSC_AUX upper half', 0xc0000103, 1n << 32n],
    ['IA32_PAT type 2', 0x277, 0x0007_0406_0007_0402n],
    ['IA32_MTRR_DEF_TYPE type 7', 0x2ff, 0xc07n],
    ['IA32_MTRR_DEF_TYPE reserved bit 12', 0x2ff, 0x1c06n],
    ['IA32_MTRR_PHYSBASE0 reserved bit 8', 0x200, 0x106n],
    ['IA32_MTRR_PHYSBASE0 beyond 52 bits', 0x200, (1n << 52n) | 6n],
    ['IA32_MTRR_PHYSMASK0 reserved bit 0', 0x201, 1n],
    ['IA32_MTRR_FIX64K type 3', 0x250, 3n],
    ['IA32_MTRRCAP is read-only', 0xfe, 0x50an],
    ['IA32_FEATURE_CONTROL is locked', 0x3a, 5n],
    ['IA32_XSS with no supported component', 0xda0, 1n],
    ['IA32_SPEC_CTRL reserved bit', 0x48, 8n],
    ['IA32_MC0_STATUS takes only 0', 0x401, 1n],
    ['IA32_DEBUGCTL reserved bit', 0x1d9, 4n],
    ['IA32_ARCH_CAPABILITIES is read-only', 0x10a, 0n],
    ['a VMX capability is read-only', 0x480, 0n],
    ['an unknown MSR', 0x12345, 0n],
    ['an x2APIC register in xAPIC mode', 0x808, 0n],
  ])('%s', (_name, index, value) => {
    const { p } = fresh();
    const before = readMsr(p, index);
    expect(writeMsr(p, index, value)).toBe(false);
    expect(readMsr(p, index)).toBe(before);
  });
});

describe('values come back', () => {
  test.each<[string, number, bigint]>([
    ['IA32_STAR', 0xc0000081, 0x0023_0010_dead_beefn],
    ['IA32_LSTAR', 0xc0000082, CANONICAL],
    ['IA32_KERNEL_GS_BASE', 0xc0000102, CANONICAL],
    ['IA32_TSC_AUX', 0xc0000103, 0x1005n],
    ['IA32_PAT', 0x277, 0x0407_0501_0007_0406n],
    ['IA32_MTRR_PHYSBASE9', 0x212, 0x8000_0006n],
    ['IA32_SPEC_CTRL', 0x48, 7n],
    ['IA32_SYSENTER_ESP', 0x175, CANONICAL],
  ])('%s', (_name, index, value) => {
    const { p } = fresh();
    expect(writeMsr(p, index, value)).toBe(true);
    expect(readMsr(p, index)).toBe(value);
  });

  test('FS and GS bases are those of the segment registers', () => {
    const { p } = fresh();
    expect(writeMsr(p, 0xc0000100, CANONICAL)).toBe(true);
    expect(writeMsr(p, 0xc0000101, 8n)).toBe(true);
    expect(p.segments[FS]!.base).toBe(CANONICAL);
    expect(p.segments[GS]!.base).toBe(8n);
  });
});

describe('TSC', () => {
  test('WRMSR sets it, IA32_TSC_ADJUST keeps the difference', () => {
    const { p, machine } = fresh();
    machine.clock.retire(1000);
    expect(readMsr(p, 0x10)).toBe(1000n);
    expect(writeMsr(p, 0x10, 400n)).toBe(true);
    expect(readTsc(p)).toBe(400n);
    expect(readMsr(p, 0x3b)).toBe(BigInt.asUintN(64, -600n));
    machine.clock.retire(5);
    expect(readMsr(p, 0x10)).toBe(405n);
  });

  test('WRMSR of IA32_TSC_ADJUST moves the TSC by the difference', () => {
    const { p } = fresh();
    expect(writeMsr(p, 0x3b, 100n)).toBe(true);
    expect(writeMsr(p, 0x3b, 30n)).toBe(true);
    expect(readTsc(p)).toBe(30n);
  });
});

describe('the instructions', () => {
  test('WRMSR takes EDX:EAX, RDMSR gives it and clears the upper halves', () => {
    const t = fresh();
    t.p.setGpr(1, 0xdead_0000_c000_0081n);
    t.p.setGpr(0, 0xffff_ffff_1111_2222n);
    t.p.setGpr(2, 0xffff_ffff_3333_4444n);
    expect(t.outcome('0f 30')).toBe('done');
    expect(t.outcome('0f 32')).toBe('done');
    expect([t.p.gpr(0), t.p.gpr(2)]).toEqual([0x1111_2222n, 0x3333_4444n]);
  });
  test('an unknown MSR, or CPL 3, is #GP(0)', () => {
    const t = fresh();
    t.p.setGpr(1, 0x1234_5678n);
    expect(t.outcome('0f 32')).toBe('#13(0)');
    expect(t.outcome('0f 30')).toBe('#13(0)');
    t.p.setGpr(1, 0x10n);
    expect(t.cpl(3).outcome('0f 32')).toBe('#13(0)');
  });
});

describe('the local APIC behind MSRs', () => {
  test('x2APIC registers exist in x2APIC mode', () => {
    const { p } = fresh();
    expect(readMsr(p, 0x802)).toBeUndefined();
    expect(writeMsr(p, 0x1b, 0xfee00d00n)).toBe(true);
    expect(readMsr(p, 0x802)).toBe(0n);
    expect(writeMsr(p, 0x808, 0x20n)).toBe(true);
    expect(p.apic.tpr).toBe(0x20);
  });
  test('the deadline timer sets a vector pending when the TSC reaches it', () => {
    const { p, machine } = fresh();
    writeMsr(p, 0x1b, 0xfee00d00n);
    writeMsr(p, 0x80f, 0x1ffn);
    writeMsr(p, 0x832, 0x40000n | 0x50n);
    writeMsr(p, 0x6e0, 500n);
    machine.clock.retire(499);
    machine.clock.runTimers();
    expect(p.apic.interruptPending).toBe(false);
    machine.clock.retire(1);
    machine.clock.runTimers();
    expect(p.eventsPending).toBe(true);
    expect(p.apic.takeInterrupt()).toBe(0x50);
  });
});
