import { describe, expect, test } from 'vitest';
import { RAX, RBX, RCX, RDX } from '../engine/layout.ts';
import { CR4_VMXE, FLAG_CF, FLAG_ZF, type Processor, STATUS_FLAGS } from '../processor.ts';
import { runProcessor, STOP } from '../run.ts';
import { ROOT } from './operation.ts';
import { REASON } from './reasons.ts';
import { bytes, CODE, FREE_PAGE, failure, get, guestWith, set, VMCS_REGION, VMXON_REGION } from './test-guest.ts';
import type { Vtx } from './vtx.ts';

const HOST_CODE = 0x6000;
const EXIT_CODE = 0x6800;

/** Executes machine code as bare root software in ring 0 until its HLT. */
function execute(p: Processor, hex: string, at: number = HOST_CODE): void {
  const { memory, clock } = p.machine;
  memory.writeBytes(at, Uint8Array.from(bytes(`${hex} f4`)));
  p.rip = BigInt(at);
  p.setGpr(4, 0x9000n);
  p.rflags = 2;
  p.activity = 0;
  p.vtx.publishedSegments = null;
  Object.assign(p.segments[1]!, { limit: 0xffff_ffff });
  for (const n of [0, 2, 3, 4, 5]) Object.assign(p.segments[n]!, { limit: 0xffff_ffff, attributes: 0xc093 });
  p.cpl = 0;
  p.syncSegments();
  expect(runProcessor(p, clock.now() + 1000)).toBe(STOP.idle);
}

const flags = (p: Processor): number => p.rflags & STATUS_FLAGS;

describe('VMX instructions as executed code', () => {
  test('VMXON, VMCLEAR, VMPTRLD, VMPTRST, VMXOFF succeed with all status flags clear', () => {
    const v = guestWith([0x90]);
    const { p } = v;
    v.vmxoff();
    p.machine.memory.write64(FREE_PAGE, BigInt(VMXON_REGION));
    p.machine.memory.write64(FREE_PAGE + 8, BigInt(VMCS_REGION));
    p.setGpr(RAX, BigInt(FREE_PAGE));
    // stc; vmxon [rax]; vmclear [rax+8]; vmptrld [rax+8]; vmptrst [rax+16]
    execute(p, 'f9 f3 0f c7 30 66 0f c7 70 08 0f c7 70 08 0f c7 78 10');
    expect(v.operation).toBe(ROOT);
    expect(flags(p)).toBe(0);
    expect(p.machine.memory.read64(FREE_PAGE + 16)).toBe(BigInt(VMCS_REGION));
    execute(p, '0f 01 c4');
    expect(v.inVmx).toBe(false);
  });
  test('VMfailInvalid sets CF, VMfailValid sets ZF and the error number', () => {
    const v = guestWith([0x90]);
    const { p } = v;
    p.setGpr(RAX, BigInt(FREE_PAGE));
    p.machine.memory.write64(FREE_PAGE, 0x1234n);
    execute(p, '0f c7 30');
    expect(flags(p)).toBe(FLAG_ZF);
    expect(failure(v)).toBe(9);
    v.vmclear(VMCS_REGION);
    execute(p, '0f c7 30');
    expect(flags(p)).toBe(FLAG_CF);
  });
  test('VMREAD and VMWRITE between registers and memory', () => {
    const v = guestWith([0x90]);
    const { p } = v;
    set(v, 'GUEST_RSP', 0x1122_3344_5566_7788n);
    p.setGpr(RDX, 0x681cn);
    p.setGpr(RAX, BigInt(FREE_PAGE));
    execute(p, '0f 78 10 0f 78 d3'); // vmread [rax], rdx; vmread rbx, rdx
    expect(p.machine.memory.read64(FREE_PAGE)).toBe(0x1122_3344_5566_7788n);
    expect(p.gpr(RBX)).toBe(0x1122_3344_5566_7788n);
    p.machine.memory.write64(FREE_PAGE, 0x99n);
    execute(p, '0f 79 10'); // vmwrite rdx, [rax]
    expect(get(v, 'GUEST_RSP')).toBe(0x99n);
    p.setGpr(RDX, 0x1_0000_681cn);
    execute(p, '0f 79 d3'); // an encoding of more than 32 bits
    expect(failure(v)).toBe(12);
  });
  test('INVEPT and INVVPID', () => {
    const v = guestWith([0x90]);
    const { p } = v;
    p.setGpr(RAX, BigInt(FREE_PAGE));
    p.setGpr(RCX, 2n);
    execute(p, '66 0f 38 80 08 66 0f 38 81 08');
    expect(flags(p)).toBe(0);
    p.setGpr(RCX, 7n);
    execute(p, '66 0f 38 80 08');
    expect([flags(p), failure(v)]).toEqual([FLAG_ZF, 28]);
  });
  test('VMCALL in root operation fails with 1', () => {
    const v = guestWith([0x90]);
    execute(v.p, '0f 01 c1');
    expect([flags(v.p), failure(v)]).toEqual([FLAG_ZF, 1]);
  });
});

describe('a hypervisor of machine code', () => {
  const launcher = (code: string): Vtx => {
    const v = guestWith(bytes(code));
    set(v, 'HOST_RIP', EXIT_CODE);
    set(v, 'HOST_RSP', 0x9000);
    // At the exit: mov edx, 0x4402; vmread rbx, rdx; hlt
    v.p.machine.memory.writeBytes(EXIT_CODE, Uint8Array.from(bytes('ba 02 44 00 00 0f 78 d3 f4')));
    return v;
  };
  test('VMLAUNCH runs the guest, the exit goes on at HOST_RIP', () => {
    const v = launcher('b8 07 00 00 00 0f a2'); // mov eax, 7; cpuid
    execute(v.p, '0f 01 c2');
    expect(v.operation).toBe(ROOT);
    expect(v.p.gpr(RBX)).toBe(BigInt(REASON.CPUID));
    expect(v.p.gpr(RAX)).toBe(7n);
    expect(get(v, 'GUEST_RIP')).toBe(BigInt(CODE + 5));
    set(v, 'GUEST_RIP', CODE);
    v.p.setGpr(RBX, 0n);
    execute(v.p, '0f 01 c3');
    expect(v.p.gpr(RBX)).toBe(BigInt(REASON.CPUID));
  });
  test('an entry that fails late goes on at HOST_RIP', () => {
    const v = launcher('90');
    set(v, 'GUEST_RFLAGS', 0);
    execute(v.p, '0f 01 c2');
    expect(v.p.gpr(RBX)).toBe(0x8000_0021n);
  });
  test('an entry that fails early goes on behind VMLAUNCH', () => {
    const v = launcher('90');
    set(v, 'HOST_CR4', CR4_VMXE);
    v.p.setGpr(RBX, 0n);
    execute(v.p, '0f 01 c2');
    expect(v.p.gpr(RBX)).toBe(0n);
    expect([flags(v.p), failure(v)]).toEqual([FLAG_ZF, 8]);
  });
});
