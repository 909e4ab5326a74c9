import { describe, expect, test } from 'vitest';
import { Machine } from '../../machine/machine.ts';
import { ATTRIBUTES } from '../objects/tdcs.ts';
import { afterLmsw, crMasks, writeCr0, writeCr4, xcr0Allowed, xssAllowed } from './control-registers.ts';

const { processors } = new Machine({ processors: 1, ramSize: 1 << 20, profile: 'tdx-host' });
const p = processors[0]!;
const plain = { attributes: 0n, xfam: 3n };
const MCE = 0x40n;
const VMXE = 0x2000n;

describe('masks', () => {
  const { cr0Mask, cr0Shadow, cr4Mask, cr4Shadow } = crMasks(p, plain);

  test('CR0: PE, NE, NW, CD and reserved bits are the module’s, PG the TD’s', () => {
    expect(cr0Mask & 0xffff_ffffn).toBe(0x7ffa_ffe1n);
    expect(cr0Mask >> 32n).toBe(0xffff_ffffn);
    expect(cr0Shadow & 0x21n).toBe(0x21n);
  });

  test('CR4: MCE reads as 1, VMXE as 0; unknown bits are the module’s', () => {
    expect(cr4Mask & 0x6040n).toBe(0x6040n);
    expect(cr4Mask & 0x20n).toBe(0n);
    expect(cr4Mask >> 32n).toBe(0xffff_ffffn);
    expect(cr4Shadow).toBe(MCE);
  });

  test('CR4 bits of features that the TD lacks are the module’s', () => {
    expect(cr4Mask & ((1n << 22n) | (1n << 23n) | (1n << 24n) | (1n << 25n))).toBe(
      (1n << 22n) | (1n << 23n) | (1n << 24n) | (1n << 25n),
    );
  });
});

describe('MOV to CR0', () => {
  const cr0 = 0x8000_0031n;
  const write = (value: bigint): unknown => writeCr0(p, value, cr0, MCE | VMXE);

  test('natively invalid values are #GP', () => {
    expect(write(0x8000_0011n)).toEqual({ kind: 'gp' }); // NE
    expect(write(0x8000_0030n)).toEqual({ kind: 'gp' }); // PG without PE
    expect(write(cr0 | (1n << 40n))).toEqual({ kind: 'gp' });
    expect(writeCr0(p, cr0, cr0, 1n << 23n)).toEqual({ kind: 'gp' }); // CET without WP
  });

  test('what a TD may not have is #VE', () => {
    expect(write(0x30n)).toEqual({ kind: 've' }); // PE
    expect(write(cr0 | 0x4000_0000n)).toEqual({ kind: 've' });
    expect(write(cr0 | 0x2000_0000n)).toEqual({ kind: 've' });
  });

  test('reserved bits are ignored', () => {
    expect(write(cr0 | 0x1_0000n | 0x80n)).toEqual({ kind: 'value', value: cr0 | 0x1_0000n });
  });
});

describe('MOV to CR4', () => {
  const write = (value: bigint, cr0 = 0x31n, config = plain): unknown => writeCr4(p, value, cr0, config);

  test('unknown bits and features that the TD lacks are #GP', () => {
    expect(write(MCE | (1n << 31n))).toEqual({ kind: 'gp' });
    expect(write(MCE | (1n << 24n))).toEqual({ kind: 'gp' });
    expect(write(MCE | (1n << 19n), 0x31n, { ...plain, attributes: ATTRIBUTES.KL })).toEqual({ kind: 'gp' });
  });

  test('clearing MCE and setting VMXE are #VE', () => {
    expect(write(0x20n)).toEqual({ kind: 've' });
    expect(write(MCE | VMXE)).toEqual({ kind: 've' });
  });
});

test('LMSW changes MP, EM and TS only', () => {
  expect(afterLmsw(0x8000_0031n, 0xffff)).toBe(0x8000_003fn);
  expect(afterLmsw(0x8000_003fn, 0)).toBe(0x8000_0031n);
});

test('XCR0 has x87, and nothing beyond XFAM', () => {
  expect([1n, 3n, 2n, 7n, 0n].map((value) => xcr0Allowed(value, 3n))).toEqual([true, true, false, false, false]);
});

test('IA32_XSS has nothing that the processor or XFAM lacks', () => {
  expect([xssAllowed(0n, 3n), xssAllowed(0x100n, 0x103n)]).toEqual([true, false]);
});
