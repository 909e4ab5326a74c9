import { describe, expect, test } from 'vitest';
import { CR0_PE, CR0_PG, CR0_TS, CR4_PGE, CR4_VMXE } from '../processor.ts';
import { PRIMARY, SECONDARY } from '../vtx/controls.ts';
import { NON_ROOT } from '../vtx/operation.ts';
import { REASON } from '../vtx/reasons.ts';
import { TestProcessor } from './test-processor.ts';

const BITMAP = 0x20000;

/** In non-root operation with these controls, 64-bit mode. */
function guest(primary = 0, secondary = 0): TestProcessor {
  const t = new TestProcessor().longMode();
  const { p } = t;
  p.cr4 |= CR4_VMXE;
  p.vtx.operation = NON_ROOT;
  p.vtx.primary = primary;
  p.vtx.secondary = secondary;
  p.vtx.msrBitmap = BITMAP;
  t.changed();
  return t;
}
const exit = (reason: number): string => `exit ${reason}`;

describe('instructions that exit by a control', () => {
  test.each<[string, string, number, number, number]>([
    ['CPUID, always', '0f a2', 0, 0, REASON.CPUID],
    ['INVD, always', '0f 08', 0, 0, REASON.INVD],
    ['XSETBV, always', '0f 01 d1', 0, 0, REASON.XSETBV],
    ['WBINVD', '0f 09', 0, SECONDARY.WBINVD, REASON.WBINVD],
    ['INVLPG', '0f 01 38', PRIMARY.INVLPG, 0, REASON.INVLPG],
    ['INVPCID', '66 0f 38 82 01', PRIMARY.INVLPG, SECONDARY.INVPCID, REASON.INVPCID],
    ['RDTSC', '0f 31', PRIMARY.RDTSC, 0, REASON.RDTSC],
    ['RDTSCP', '0f 01 f9', PRIMARY.RDTSC, SECONDARY.RDTSCP, REASON.RDTSCP],
    ['RDPMC', '0f 33', PRIMARY.RDPMC, 0, REASON.RDPMC],
    ['MONITOR', '0f 01 c8', PRIMARY.MONITOR, 0, REASON.MONITOR],
    ['MWAIT', '0f 01 c9', PRIMARY.MWAIT, 0, REASON.MWAIT],
    ['PAUSE', 'f3 90', PRIMARY.PAUSE, 0, REASON.PAUSE],
    ['RDRAND', '0f c7 f0', 0, SECONDARY.RDRAND, REASON.RDRAND],
    ['RDSEED', '0f c7 f8', 0, SECONDARY.RDSEED, REASON.RDSEED],
    ['MOV to CR8', '44 0f 22 c0', PRIMARY.CR8_LOAD, 0, REASON.CR_ACCESS],
    ['MOV from CR8', '44 0f 20 c0', PRIMARY.CR8_STORE, 0, REASON.CR_ACCESS],
    ['MOV from CR3', '0f 20 d8', PRIMARY.CR3_STORE, 0, REASON.CR_ACCESS],
    ['MOV DR', '0f 21 c0', PRIMARY.MOV_DR, 0, REASON.MOV_DR],
    ['IN', 'ec', PRIMARY.UNCONDITIONAL_IO, 0, REASON.IO],
    ['RDMSR without bitmaps', '0f 32', 0, 0, REASON.RDMSR],
    ['WRMSR without bitmaps', '0f 30', 0, 0, REASON.WRMSR],
  ])('%s', (_name, code, primary, secondary, reason) => {
    expect(guest(primary, secondary).outcome(code)).toBe(exit(reason));
  });

  test('a fault by privilege comes before the exit', () => {
    for (const code of ['0f 08', '0f 32', '0f 01 d1', '0f 20 d8', '0f 33']) {
      expect(
        guest(PRIMARY.RDPMC | PRIMARY.CR3_STORE)
          .cpl(3)
          .outcome(code),
        code,
      ).toBe('#13(0)');
    }
  });
  test('MOV DR exits before its privilege check', () => {
    expect(guest(PRIMARY.MOV_DR).cpl(3).outcome('0f 21 c0')).toBe(exit(REASON.MOV_DR));
  });
  test('the port bitmap of the TSS comes before the exit', () => {
    const t = guest(PRIMARY.UNCONDITIONAL_IO).cpl(3);
    t.p.tr.limit = 0x66;
    expect(t.outcome('ec')).toBe('#13(0)');
  });
});

describe('instructions that the host must enable', () => {
  test.each([
    ['RDTSCP', '0f 01 f9'],
    ['RDPID', 'f3 0f c7 fb'],
    ['INVPCID', '66 0f 38 82 01'],
    ['XSAVES', '0f c7 29'],
    ['XRSTORS', '0f c7 19'],
  ])('%s is undefined without its control', (_name, code) => expect(guest().outcome(code)).toBe('#6'));
});

describe('control registers', () => {
  test('MOV to CR0 exits where a host-owned bit differs from the shadow', () => {
    const t = guest();
    t.p.vtx.cr0Mask = CR0_TS;
    t.p.setGpr(0, BigInt((t.p.cr0 | CR0_TS) >>> 0));
    expect(t.outcome('0f 22 c0')).toBe(exit(REASON.CR_ACCESS));
    t.p.vtx.cr0Shadow = CR0_TS;
    expect(t.outcome('0f 22 c0')).toBe('done');
    expect(t.p.cr0 & CR0_TS).toBe(0);
    expect(t.outcome('0f 20 c1')).toBe('done');
    expect(t.p.gpr(1) & BigInt(CR0_TS)).toBe(BigInt(CR0_TS));
  });
  test('bits that VMX fixes fault, unless the guest is unrestricted', () => {
    const t = guest();
    t.p.segments[1]!.attributes &= ~0x2000;
    t.changed();
    t.p.setGpr(0, BigInt((t.p.cr0 & ~CR0_PG) >>> 0));
    t.p.vtx.operation = NON_ROOT;
    const code = '0f 22 c0';
    expect(t.outcome(code)).toBe('#13(0)');
    t.p.vtx.secondary = SECONDARY.UNRESTRICTED_GUEST;
    expect(t.outcome(code)).toBe('done');
    expect(t.p.cr0 & (CR0_PG | CR0_PE)).toBe(CR0_PE);
  });
  test('MOV to CR4: VMXE must stay; host-owned bits come from the shadow', () => {
    const t = guest();
    t.p.setGpr(0, BigInt(t.p.cr4 & ~CR4_VMXE));
    expect(t.outcome('0f 22 e0')).toBe('#13(0)');
    t.p.vtx.cr4Mask = CR4_VMXE;
    t.p.vtx.cr4Shadow = 0;
    t.p.setGpr(0, BigInt((t.p.cr4 & ~CR4_VMXE) | CR4_PGE));
    expect(t.outcome('0f 22 e0')).toBe('done');
    expect(t.p.cr4 & (CR4_VMXE | CR4_PGE)).toBe(CR4_VMXE | CR4_PGE);
    t.outcome('0f 20 e1');
    expect(t.p.gpr(1) & BigInt(CR4_VMXE)).toBe(0n);
  });
  test('CLTS with a host-owned TS exits if the shadow has it set, else does nothing', () => {
    const t = guest();
    t.p.cr0 |= CR0_TS;
    t.p.vtx.cr0Mask = CR0_TS;
    expect(t.outcome('0f 06')).toBe('done');
    expect(t.p.cr0 & CR0_TS).toBe(CR0_TS);
    t.p.vtx.cr0Shadow = CR0_TS;
    expect(t.outcome('0f 06')).toBe(exit(REASON.CR_ACCESS));
  });
  test('MOV to CR2 never exits', () => {
    const t = guest(PRIMARY.CR8_LOAD);
    t.p.setGpr(0, 0x1234n);
    expect(t.outcome('0f 22 d0')).toBe('done');
    expect(t.p.cr2).toBe(0x1234n);
  });
  test('CR8 is the virtual APIC page with a TPR shadow', () => {
    const t = guest(PRIMARY.TPR_SHADOW);
    t.p.vtx.virtualApicPage = 0x30000;
    t.p.setGpr(0, 9n);
    expect(t.outcome('44 0f 22 c0')).toBe('done');
    expect(t.machine.memory.read32(0x30080)).toBe(0x90);
    expect(t.p.apic.tpr).toBe(0);
    expect(t.outcome('44 0f 20 c1')).toBe('done');
    expect(t.p.gpr(1)).toBe(9n);
  });
});

describe('MSRs and time', () => {
  test('a clear bit in the bitmap lets the MSR through, in either range', () => {
    const t = guest(PRIMARY.MSR_BITMAPS);
    t.machine.memory.write8(BITMAP + 0xc00 + (0x82 >> 3), 4);
    for (const index of [0x174n, 0xc000_0082n]) {
      t.p.setGpr(1, index);
      expect(t.outcome('0f 32')).toBe('done');
    }
    expect(t.outcome('0f 30')).toBe(exit(REASON.WRMSR));
    t.p.setGpr(1, 0x4000_0000n);
    expect(t.outcome('0f 32')).toBe(exit(REASON.RDMSR));
  });
  test('RDTSC and RDMSR of the TSC give the offset value', () => {
    const t = guest(PRIMARY.TSC_OFFSETTING | PRIMARY.MSR_BITMAPS);
    t.p.vtx.tscOffset = 1000n;
    t.machine.clock.retire(5);
    expect(t.outcome('0f 31')).toBe('done');
    expect(t.p.gpr(0)).toBe(1005n);
    t.p.setGpr(1, 0x10n);
    expect(t.outcome('0f 32')).toBe('done');
    expect(t.p.gpr(0)).toBe(1005n);
  });
  test('scaling multiplies before the offset is added', () => {
    const t = guest(PRIMARY.TSC_OFFSETTING, SECONDARY.TSC_SCALING);
    t.p.vtx.tscOffset = 1n;
    t.p.vtx.tscMultiplier = 3n << 47n;
    t.machine.clock.retire(100);
    t.outcome('0f 31');
    expect(t.p.gpr(0)).toBe(151n);
  });
});
