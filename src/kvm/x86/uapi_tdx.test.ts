import { expect, test } from 'vitest';
import { kvm_tdx_capabilities, kvm_tdx_cmd, kvm_tdx_init_mem_region, kvm_tdx_init_vm } from './uapi_tdx.ts';

test.each([
  [kvm_tdx_cmd, { id: 0, flags: 4, data: 8, hwError: 16 }],
  [
    kvm_tdx_capabilities,
    {
      supportedAttrs: 0,
      supportedXfam: 8,
      kernelTdvmcallinfo1R11: 16,
      userTdvmcallinfo1R11: 24,
      kernelTdvmcallinfo1R12: 32,
      userTdvmcallinfo1R12: 40,
    },
  ],
  [kvm_tdx_init_vm, { attributes: 0, xfam: 8, mrconfigid: 16, mrowner: 64, mrownerconfig: 112, reserved: 160 }],
  [kvm_tdx_init_mem_region, { sourceAddr: 0, gpa: 8, nrPages: 16 }],
])('$name lies in memory as the compiler lays it out', (struct, offsets) => {
  for (const [name, offset] of Object.entries(offsets)) expect(struct.offsetOf(name), name).toBe(offset);
});

test('sizes before the CPUID that follows: 24, 2048, 256, 24', () => {
  const sizes = [kvm_tdx_cmd, kvm_tdx_capabilities, kvm_tdx_init_vm, kvm_tdx_init_mem_region].map(({ size }) => size);
  expect(sizes).toEqual([24, 2048, 256, 24]);
});
