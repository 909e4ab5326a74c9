import { expect, test } from 'vitest';
import type { KvmTdxCapabilities } from '../../kvm/x86/uapi_tdx.ts';
import type { CpuidEntry } from '../kvm-api.ts';
import { tdConfigCpuid, tdVcpuCpuid } from './cpuid.ts';

const entry = (leaf: number, registers: Partial<CpuidEntry> = {}): CpuidEntry => ({
  function: leaf,
  index: 0,
  flags: 0,
  eax: 0,
  ebx: 0,
  ecx: 0,
  edx: 0,
  ...registers,
});

test('a vCPU offers no paravirtual clock, steal time or asynchronous page fault', () => {
  const [features] = tdVcpuCpuid([entry(0x40000001, { eax: 0xffff_ffff })]);
  expect(features!.eax & 0b0101_1111_1001).toBe(0);
  expect(features!.eax).toBe((1 << 1) | (1 << 12));
});

test('of each configurable leaf the VMM gives the bits that may be chosen, and no other leaf', () => {
  const cpuid = { nent: 2, entries: [entry(7, { ebx: 0xf0 }), entry(0x80000008, { eax: 0xff00ff })] };
  const wanted = [entry(1, { eax: 1 }), entry(7, { ebx: 0x3c }), entry(0x80000008, { eax: 0x34 })];
  expect(tdConfigCpuid(wanted, { cpuid } as unknown as KvmTdxCapabilities)).toEqual([
    entry(7, { ebx: 0x30 }),
    entry(0x80000008, { eax: 0x300034 }),
  ]);
});
