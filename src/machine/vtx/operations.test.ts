import { describe, expect, test } from 'vitest';
import { BLOCKED_BY_MOV_SS, CR0_PG, CR4_VMXE } from '../processor.ts';
import { FAULTED, ROOT, VM_FAIL_INVALID, VM_FAIL_VALID, VM_SUCCEED } from './operation.ts';
import {
  failure,
  get,
  hostProcessor,
  OTHER_REGION,
  rootVtx,
  set,
  VMCS_REGION,
  VMXON_REGION,
  validVmcs,
} from './test-guest.ts';

const UNDEFINED = FAULTED | 6;
const PROTECTION = FAULTED | 13;

describe('VMXON', () => {
  test('enters root operation', () => {
    const { vtx } = hostProcessor();
    expect(vtx.vmxon(VMXON_REGION)).toBe(VM_SUCCEED);
    expect(vtx.operation).toBe(ROOT);
    expect(vtx.vmptrst()).toBe(0xffff_ffff_ffff_ffffn);
  });
  test('#UD with CR4.VMXE clear', () => {
    const p = hostProcessor();
    p.cr4 &= ~CR4_VMXE;
    expect(p.vtx.vmxon(VMXON_REGION)).toBe(UNDEFINED);
  });
  test('#GP with a fixed CR0 bit wrong', () => {
    const p = hostProcessor();
    p.cr0 = (p.cr0 & ~CR0_PG) >>> 0;
    expect(p.vtx.vmxon(VMXON_REGION)).toBe(PROTECTION);
  });
  test.each([0n, 1n, 4n])('#GP with IA32_FEATURE_CONTROL = %i', (value) => {
    const p = hostProcessor();
    p.msrs.set(0x3a, value);
    expect(p.vtx.vmxon(VMXON_REGION)).toBe(PROTECTION);
  });
  test.each([0x1008, 2 ** 52])('VMfailInvalid for the address %i', (address) => {
    expect(hostProcessor().vtx.vmxon(address)).toBe(VM_FAIL_INVALID);
  });
  test('VMfailInvalid for another revision, or bit 31', () => {
    const p = hostProcessor();
    p.machine.memory.write32(0x5000, 1);
    expect(p.vtx.vmxon(0x5000)).toBe(VM_FAIL_INVALID);
    p.machine.memory.write32(0x5000, (p.machine.memory.read32(VMXON_REGION) | 0x8000_0000) >>> 0);
    expect(p.vtx.vmxon(0x5000)).toBe(VM_FAIL_INVALID);
  });
  test('in root operation: VMfail(15)', () => {
    const v = rootVtx();
    expect(v.vmxon(VMXON_REGION)).toBe(VM_FAIL_INVALID);
    v.vmptrld(VMCS_REGION);
    expect(v.vmxon(VMXON_REGION)).toBe(VM_FAIL_VALID);
    expect(failure(v)).toBe(15);
  });
});

describe('outside VMX operation', () => {
  test('every instruction but VMXON is #UD', () => {
    const { vtx } = hostProcessor();
    expect(vtx.vmxoff()).toBe(UNDEFINED);
    expect(vtx.vmclear(VMCS_REGION)).toBe(UNDEFINED);
    expect(vtx.vmptrld(VMCS_REGION)).toBe(UNDEFINED);
    expect(vtx.vmwrite(0x6800, 0n)).toBe(UNDEFINED);
    expect(vtx.vmlaunch()).toBe(UNDEFINED);
    expect(vtx.vmresume()).toBe(UNDEFINED);
    expect(vtx.invept(2, 0n)).toBe(UNDEFINED);
    expect(vtx.invvpid(2, 0)).toBe(UNDEFINED);
    expect(vtx.vmread(0x6800)).toBeUndefined();
    expect(vtx.vmreadResult).toBe(UNDEFINED);
  });
});

describe('VMCLEAR and VMPTRLD', () => {
  test.each([
    ['vmclear', 0x2004, 2],
    ['vmclear', 2 ** 52, 2],
    ['vmclear', VMXON_REGION, 3],
    ['vmptrld', 0x2004, 9],
    ['vmptrld', 2 ** 52, 9],
    ['vmptrld', VMXON_REGION, 10],
    ['vmptrld', 0x7000, 11],
  ] as const)('%s of %i fails with %i', (name, address, error) => {
    const v = validVmcs();
    expect(v[name](address)).toBe(VM_FAIL_VALID);
    expect(failure(v)).toBe(error);
  });
  test('VMPTRLD fails with 11 for a shadow VMCS', () => {
    const v = validVmcs();
    const { memory } = v.p.machine;
    memory.write32(OTHER_REGION, (memory.read32(VMCS_REGION) | 0x8000_0000) >>> 0);
    expect(v.vmptrld(OTHER_REGION)).toBe(VM_FAIL_VALID);
    expect(failure(v)).toBe(11);
  });
  test('VMCLEAR of the current VMCS leaves none current', () => {
    const v = validVmcs();
    expect(v.vmclear(VMCS_REGION)).toBe(VM_SUCCEED);
    expect(v.vmptrst()).toBe(0xffff_ffff_ffff_ffffn);
    expect(v.vmwrite(0x6800, 0n)).toBe(VM_FAIL_INVALID);
  });
  test('after VMCLEAR the region holds everything, and another processor can load a copy of it', () => {
    const v = validVmcs();
    set(v, 'GUEST_RIP', 0x1234_5678_9abc_def0n);
    v.vmclear(VMCS_REGION);
    const region = v.p.machine.memory.readBytes(VMCS_REGION, 4096);
    const other = rootVtx();
    other.p.machine.memory.writeBytes(VMCS_REGION, region);
    other.vmptrld(VMCS_REGION);
    expect(get(other, 'GUEST_RIP')).toBe(0x1234_5678_9abc_def0n);
  });
  test('two VMCSs keep their own fields', () => {
    const v = validVmcs();
    set(v, 'GUEST_RSP', 1n);
    v.vmclear(OTHER_REGION);
    v.vmptrld(OTHER_REGION);
    set(v, 'GUEST_RSP', 2n);
    v.vmptrld(VMCS_REGION);
    expect(v.vmptrst()).toBe(BigInt(VMCS_REGION));
    expect(get(v, 'GUEST_RSP')).toBe(1n);
  });
  test('a failure without a current VMCS is VMfailInvalid', () => {
    expect(rootVtx().vmptrld(VMXON_REGION)).toBe(VM_FAIL_INVALID);
  });
  test('VMXOFF leaves VMX operation and keeps what was in the VMCS', () => {
    const v = validVmcs();
    set(v, 'GUEST_RSP', 77n);
    expect(v.vmxoff()).toBe(VM_SUCCEED);
    expect(v.inVmx).toBe(false);
    v.vmxon(VMXON_REGION);
    v.vmptrld(VMCS_REGION);
    expect(get(v, 'GUEST_RSP')).toBe(77n);
  });
});

describe('VMREAD and VMWRITE', () => {
  test.each([
    ['16-bit', 0x0800, 0x1_2345n, 0x2345n],
    ['32-bit', 0x4802, 0x1_8765_4321n, 0x8765_4321n],
    ['64-bit', 0x2010, 0xfedc_ba98_7654_3210n, 0xfedc_ba98_7654_3210n],
    ['natural', 0x681c, -1n, 0xffff_ffff_ffff_ffffn],
  ])('a %s field takes its width', (_name, field, value, expected) => {
    const v = validVmcs();
    expect(v.vmwrite(field, value)).toBe(VM_SUCCEED);
    expect(v.vmread(field)).toBe(expected);
  });
  test('the high half of a 64-bit field has its own encoding', () => {
    const v = validVmcs();
    v.vmwrite(0x2010, 0x1111_1111_2222_2222n);
    v.vmwrite(0x2011, 0x3333_3333);
    expect(v.vmread(0x2010)).toBe(0x3333_3333_2222_2222n);
    expect(v.vmread(0x2011)).toBe(0x3333_3333n);
  });
  test.each([0x4801, 0x681d, 0x0801, 0x7ffe, 0x1000, 0x8000, 0x2040, 0x2044])(
    'encoding %i is unsupported: 12',
    (field) => {
      const v = validVmcs();
      expect(v.vmread(field)).toBeUndefined();
      expect(v.vmreadResult).toBe(VM_FAIL_VALID);
      expect(failure(v)).toBe(12);
      expect(v.vmwrite(field, 0n)).toBe(VM_FAIL_VALID);
      expect(failure(v)).toBe(12);
    },
  );
  test('exit-information fields are writable', () => {
    const v = validVmcs();
    expect(v.vmwrite(0x4402, 5)).toBe(VM_SUCCEED);
    expect(v.vmread(0x4402)).toBe(5n);
  });
  test('VMfailInvalid without a current VMCS', () => {
    const v = rootVtx();
    expect(v.vmread(0x6800)).toBeUndefined();
    expect(v.vmreadResult).toBe(VM_FAIL_INVALID);
  });
});

describe('VMLAUNCH and VMRESUME', () => {
  test('VMfailInvalid without a current VMCS', () => {
    expect(rootVtx().vmlaunch()).toBe(VM_FAIL_INVALID);
  });
  test('VMRESUME of a clear VMCS fails with 5', () => {
    const v = validVmcs();
    expect(v.vmresume()).toBe(VM_FAIL_VALID);
    expect(failure(v)).toBe(5);
  });
  test('VMLAUNCH of a launched VMCS fails with 4', () => {
    const v = validVmcs();
    v.current!.launched = true;
    expect(v.vmlaunch()).toBe(VM_FAIL_VALID);
    expect(failure(v)).toBe(4);
  });
  test('MOV SS blocking fails with 26', () => {
    const v = validVmcs();
    v.p.interruptShadow = BLOCKED_BY_MOV_SS;
    expect(v.vmlaunch()).toBe(VM_FAIL_VALID);
    expect(failure(v)).toBe(26);
  });
  test('VMCLEAR makes the launch state clear, also of a VMCS that is not loaded', () => {
    const v = validVmcs();
    v.current!.launched = true;
    v.vmclear(VMCS_REGION);
    v.vmptrld(VMCS_REGION);
    expect(v.current!.launched).toBe(false);
    v.current!.launched = true;
    v.vmxoff();
    v.vmxon(VMXON_REGION);
    v.vmclear(VMCS_REGION);
    v.vmptrld(VMCS_REGION);
    expect(v.current!.launched).toBe(false);
  });
});

describe('INVEPT and INVVPID', () => {
  const EPTP = 0x9000n | 0x1en;
  test.each([
    [1, EPTP],
    [2, 0n],
  ])('INVEPT type %i succeeds', (type, eptp) => {
    expect(validVmcs().invept(type, eptp)).toBe(VM_SUCCEED);
  });
  test.each([
    [0, EPTP],
    [3, EPTP],
    [1, 0x9000n | 0x1fn],
    [1, 0x9000n | 0x16n],
    [1, 0x9000n | 0x9en],
    [1, 1n << 52n],
  ])('INVEPT type %i of EPTP %i fails with 28', (type, eptp) => {
    const v = validVmcs();
    expect(v.invept(type, eptp)).toBe(VM_FAIL_VALID);
    expect(failure(v)).toBe(28);
  });
  test.each([
    [0, 5, 0xffff_8000_0000_0000n],
    [0, 5, 0x8000_0000_0000n],
    [1, 5, 0n],
    [2, 0, 0n],
    [3, 5, 0n],
  ])('INVVPID type %i succeeds', (type, vpid, linear) => {
    expect(validVmcs().invvpid(type, vpid, linear)).toBe(VM_SUCCEED);
  });
  test.each([
    [4, 5, 0n],
    [0, 0, 0n],
    [1, 0, 0n],
    [3, 0, 0n],
    [1, 0x1_0005, 0n],
    [0, 5, 0x100_0000_0000_0000n],
  ])('INVVPID type %i of VPID %i, address %i, fails with 28', (type, vpid, linear) => {
    const v = validVmcs();
    expect(v.invvpid(type, vpid, linear)).toBe(VM_FAIL_VALID);
    expect(failure(v)).toBe(28);
  });
});
