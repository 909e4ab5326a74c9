import { describe, expect, test } from 'vitest';
import {
  AR_L,
  CR0_CD,
  CR0_EM,
  CR0_MP,
  CR0_NW,
  CR0_PE,
  CR0_PG,
  CR0_TS,
  CR4_DE,
  CR4_PAE,
  CR4_PCIDE,
  CR4_PGE,
  CR4_UMIP,
  EFER_LMA,
  EFER_LME,
  EFER_NXE,
  EFER_SCE,
} from '../processor.ts';
import { writeCr0, writeCr3, writeCr4, writeEfer } from './control-registers.ts';
import { TestProcessor } from './test-processor.ts';

const GP = '#13(0)';

describe('MOV to CR0', () => {
  const write = (t: TestProcessor, value: bigint) => t.describe(writeCr0(t.p, value));

  test.each<[string, bigint, string]>([
    ['bits 63:32 fault', (1n << 32n) | BigInt(CR0_PE), GP],
    ['PG without PE faults', BigInt(CR0_PG), GP],
    ['NW without CD faults', BigInt(CR0_PE | CR0_NW), GP],
    ['NW with CD is legal', BigInt(CR0_PE | CR0_NW | CR0_CD), 'done'],
    ['reserved bits below 32 are ignored', BigInt(CR0_PE | 0x80), 'done'],
  ])('%s', (_name, value, outcome) => {
    const t = new TestProcessor().protectedMode();
    const before = t.p.cr0;
    expect(write(t, value)).toBe(outcome);
    if (outcome !== 'done') expect(t.p.cr0).toBe(before);
    else expect(t.p.cr0 & 0x80).toBe(0);
  });

  test('ET always reads as one', () => {
    const t = new TestProcessor().protectedMode();
    expect(write(t, BigInt(CR0_PE))).toBe('done');
    expect(t.p.cr0).toBe(0x11);
  });

  test('setting PG with LME activates IA-32e mode, clearing it in compatibility mode leaves it', () => {
    const t = new TestProcessor().longMode();
    const { p } = t;
    p.cr0 = CR0_PE;
    p.efer = EFER_LME;
    p.segments[1]!.attributes &= ~AR_L;
    t.changed();
    expect(write(t, BigInt(CR0_PE) | 0x80000000n)).toBe('done');
    expect(p.efer & EFER_LMA).toBe(EFER_LMA);
    expect(p.longMode).toBe(true);
    expect(write(t, BigInt(CR0_PE))).toBe('done');
    expect(p.efer & EFER_LMA).toBe(0);
  });

  test.each<[string, (t: TestProcessor) => void]>([
    ['without CR4.PAE', (t) => (t.p.cr4 &= ~CR4_PAE)],
    ['with CS.L set', (t) => (t.p.segments[1]!.attributes |= AR_L)],
    ['with a 16-bit TSS', (t) => (t.p.tr.attributes = 0x83)],
  ])('setting PG with LME faults %s', (_name, spoil) => {
    const t = new TestProcessor().longMode();
    t.p.cr0 = CR0_PE;
    t.p.efer = EFER_LME;
    t.p.segments[1]!.attributes &= ~AR_L;
    spoil(t);
    t.changed();
    expect(write(t, BigInt(CR0_PE) | 0x80000000n)).toBe(GP);
    expect(t.p.efer).toBe(EFER_LME);
  });

  test('clearing PG faults in 64-bit mode, and with PCIDs', () => {
    const t = new TestProcessor().longMode();
    expect(write(t, BigInt(CR0_PE))).toBe(GP);
    t.p.segments[1]!.attributes &= ~AR_L;
    t.p.cr4 |= CR4_PCIDE;
    t.changed();
    expect(write(t, BigInt(CR0_PE))).toBe(GP);
  });

  test('PAE paging loads four PDPTEs, and reserved bits in them fault', () => {
    const t = new TestProcessor().protectedMode();
    const { p, machine } = t;
    p.cr4 |= CR4_PAE;
    p.cr3 = 0x5000n;
    machine.memory.write64(0x5000, 0x6001n);
    machine.memory.write64(0x5018, 0x7002n | 1n);
    expect(write(t, BigInt(CR0_PE) | 0x80000000n)).toBe(GP);
    expect(p.cr0 & CR0_PG).toBe(0);
    machine.memory.write64(0x5018, 0x7001n);
    expect(write(t, BigInt(CR0_PE) | 0x80000000n)).toBe('done');
    expect(p.pdpte).toEqual([0x6001n, 0n, 0n, 0x7001n]);
  });
});

describe('MOV to CR3', () => {
  test('bits beyond the physical address width fault', () => {
    const t = new TestProcessor().longMode();
    expect(t.describe(writeCr3(t.p, 1n << 52n))).toBe(GP);
    expect(t.describe(writeCr3(t.p, 1n << 63n))).toBe(GP);
  });
  test('with PCIDs bit 63 is legal and not stored', () => {
    const t = new TestProcessor().longMode();
    t.p.cr4 |= CR4_PCIDE;
    expect(t.describe(writeCr3(t.p, (1n << 63n) | 0x100005n))).toBe('done');
    expect(t.p.cr3).toBe(0x100005n);
  });
});

describe('MOV to CR4', () => {
  const write = (t: TestProcessor, value: number | bigint) => t.describe(writeCr4(t.p, BigInt(value)));

  test('bits of features that are not offered fault', () => {
    const t = new TestProcessor().longMode();
    for (const bit of [12, 14, 15, 19, 23, 24, 25, 26, 31]) {
      expect(write(t, BigInt(t.p.cr4) | (1n << BigInt(bit))), `bit ${bit}`).toBe(GP);
    }
    expect(write(t, 1n << 32n)).toBe(GP);
  });
  test('PAE cannot be cleared in IA-32e mode', () => {
    const t = new TestProcessor().longMode();
    expect(write(t, t.p.cr4 & ~CR4_PAE)).toBe(GP);
  });
  test('PCIDE can be set only in IA-32e mode with PCID 0 in CR3', () => {
    const t = new TestProcessor().longMode();
    t.p.cr3 |= 1n;
    expect(write(t, t.p.cr4 | CR4_PCIDE)).toBe(GP);
    t.p.cr3 &= ~0xfffn;
    expect(write(t, t.p.cr4 | CR4_PCIDE)).toBe('done');
    const legacy = new TestProcessor().protectedMode();
    expect(write(legacy, legacy.p.cr4 | CR4_PCIDE)).toBe(GP);
  });
  test('PGE, DE and UMIP can be set', () => {
    const t = new TestProcessor().longMode();
    expect(write(t, t.p.cr4 | CR4_PGE | CR4_DE | CR4_UMIP)).toBe('done');
  });
});

describe('IA32_EFER', () => {
  test('LMA is read-only, reserved bits fault, LME cannot change under paging', () => {
    const t = new TestProcessor().longMode();
    expect(writeEfer(t.p, BigInt(EFER_LME | EFER_NXE | EFER_SCE))).toBe(true);
    expect(t.p.efer).toBe(EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE);
    expect(writeEfer(t.p, BigInt(EFER_LMA))).toBe(false);
    expect(writeEfer(t.p, 1n << 12n)).toBe(false);
    expect(writeEfer(t.p, 1n << 32n)).toBe(false);
  });
});

describe('the instructions', () => {
  test.each<[string, string, string]>([
    ['mov cr1, rax', '0f 22 c8', '#6'],
    ['mov cr5, rax', '0f 22 e8', '#6'],
    ['mov rax, cr7', '0f 20 f8', '#6'],
    ['mov rax, cr8', '44 0f 20 c0', 'done'],
    ['mov rax, cr9', '44 0f 20 c8', '#6'],
    ['mov rax, cr0', '0f 20 c0', 'done'],
    ['mov rax, cr3 with mod 0', '0f 20 18', 'done'],
  ])('%s: %s → %s', (_name, code, outcome) => {
    expect(new TestProcessor().longMode().outcome(code)).toBe(outcome);
  });

  test.each(['0f 20 c0', '0f 22 c0', '0f 06', '0f 01 f0'])('%s is #GP(0) at CPL 3', (code) => {
    expect(new TestProcessor().longMode().cpl(3).outcome(code)).toBe(GP);
  });

  test('CR8 is the upper half of the task priority, and bits 63:4 fault', () => {
    const t = new TestProcessor().longMode();
    t.p.setGpr(0, 9n);
    expect(t.outcome('44 0f 22 c0')).toBe('done');
    expect(t.p.apic.tpr).toBe(0x90);
    expect(t.outcome('44 0f 20 c1')).toBe('done');
    expect(t.p.gpr(1)).toBe(9n);
    t.p.setGpr(0, 16n);
    expect(t.outcome('44 0f 22 c0')).toBe(GP);
  });

  test('LMSW sets PE, MP, EM, TS and cannot clear PE', () => {
    const t = new TestProcessor().protectedMode();
    t.p.setGpr(0, BigInt(CR0_MP | CR0_EM | CR0_TS));
    expect(t.outcome('0f 01 f0')).toBe('done');
    expect(t.p.cr0 & 0xf).toBe(CR0_PE | CR0_MP | CR0_EM | CR0_TS);
    t.p.setGpr(0, 0n);
    expect(t.outcome('0f 01 f0')).toBe('done');
    expect(t.p.cr0 & 0xf).toBe(CR0_PE);
  });

  test('CLTS clears TS', () => {
    const t = new TestProcessor().longMode();
    t.p.cr0 |= CR0_TS;
    expect(t.outcome('0f 06')).toBe('done');
    expect(t.p.cr0 & CR0_TS).toBe(0);
  });

  test('SMSW: 16 bits to memory, the operand size to registers, forbidden to users by UMIP', () => {
    const t = new TestProcessor().longMode();
    t.machine.memory.write32(0x3000, 0xffff_ffff);
    t.p.setGpr(1, 0x3000n);
    expect(t.outcome('0f 01 21')).toBe('done');
    expect(t.machine.memory.read32(0x3000)).toBe(0xffff_0031);
    t.p.setGpr(0, ~0n & 0xffff_ffff_ffff_ffffn);
    expect(t.outcome('48 0f 01 e0')).toBe('done');
    expect(t.p.gpr(0)).toBe(0x8000_0031n);
    t.cpl(3);
    expect(t.outcome('0f 01 e0')).toBe('done');
    t.p.cr4 |= CR4_UMIP;
    expect(t.outcome('0f 01 e0')).toBe(GP);
  });
});
