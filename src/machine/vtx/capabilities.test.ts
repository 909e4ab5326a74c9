import { expect, test } from 'vitest';
import { CR0_PE, CR0_PG } from '../processor.ts';
import { controlsAllowed, readVmxMsr, vmxCapabilities } from './capabilities.ts';

const msr = (index: number): bigint => readVmxMsr('pc', index)!;
const low = (index: number): number => Number(msr(index) & 0xffff_ffffn);
const high = (index: number): number => Number(msr(index) >> 32n);

test.each([0x481, 0x482, 0x483, 0x484, 0x48b, 0x48d, 0x48e, 0x48f, 0x490])(
  'MSR %i: what must be 1 may be 1',
  (index) => {
    expect(low(index) & ~high(index)).toBe(0);
  },
);

test.each([
  [0x481, 0x16],
  [0x482, 0x0401_e172],
  [0x483, 0x0003_6dff],
  [0x484, 0x0000_11ff],
  [0x48d, 0x16],
  [0x48e, 0x0400_6172],
  [0x48f, 0x0003_6dfb],
  [0x490, 0x0000_11fb],
])('MSR %i has the default-1 class %i', (index, bits) => {
  expect(low(index)).toBe(bits);
});

test('each TRUE MSR allows more zeros and the same ones as its legacy MSR', () => {
  for (const [legacy, real] of [
    [0x481, 0x48d],
    [0x482, 0x48e],
    [0x483, 0x48f],
    [0x484, 0x490],
  ] as const) {
    expect(high(legacy)).toBe(high(real));
    expect(low(real) & ~low(legacy)).toBe(0);
  }
});

test('IA32_VMX_MISC: unrestricted guest demands that exits store EFER.LMA', () => {
  expect(high(0x48b) & 0x80).toBe(0x80);
  expect(low(0x485) & 0x20).toBe(0x20);
});

test('IA32_VMX_VMCS_ENUM tells the highest index: that of the PID-pointer table', () => {
  expect(low(0x48a)).toBe(0x42);
});

test('an index that is no capability MSR is undefined', () => {
  expect(readVmxMsr('pc', 0x493)).toBeUndefined();
});

test('IA32_VMX_PROCBASED_CTLS3: IPI virtualization, and with SEAM the width of TD addresses', () => {
  expect(msr(0x492)).toBe(0x10n);
  expect(readVmxMsr('tdx-host', 0x492)).toBe(0x30n);
});

test('controls: a missing default-1 bit and an unknown bit are refused', () => {
  const { pin } = vmxCapabilities('pc');
  expect(controlsAllowed(0x16, pin)).toBe(true);
  expect(controlsAllowed(0x12, pin)).toBe(false);
  expect(controlsAllowed(0x96, pin)).toBe(true);
  expect(controlsAllowed(0x116, pin)).toBe(false);
});

test('CR0: PE and PG are free for an unrestricted guest only', () => {
  const c = vmxCapabilities('pc');
  expect(c.cr0Allowed(0x20, false)).toBe(false);
  expect(c.cr0Allowed(0x20, true)).toBe(true);
  expect(c.cr0Allowed(CR0_PE | CR0_PG, true)).toBe(false);
});
