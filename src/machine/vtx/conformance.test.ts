/** Cases of the conformance list (docs/vtx-coverage.md) that belong to no other file. */
import { describe, expect, test } from 'vitest';
import { RAX, RBX, RCX, RDX } from '../engine/layout.ts';
import { ENTRY_CONTROL, PRIMARY, SECONDARY } from './controls.ts';
import { REASON } from './reasons.ts';
import { type Break, expectFailure, legacy, VIRTUAL_8086, v86 } from './test-entry.ts';
import { CODE, change, FREE_PAGE, get, guest, run, set } from './test-guest.ts';

describe('guest state', () => {
  test.each<[string, Break]>([
    [
      'DEBUGCTL above 32 bits',
      (v) => {
        change(v, 'ENTRY_CONTROLS', ENTRY_CONTROL.LOAD_DEBUG);
        set(v, 'GUEST_DEBUGCTL', 1n << 32n);
      },
    ],
    [
      'virtual-8086 mode in IA-32e mode',
      (v) => {
        v86(v);
        change(v, 'ENTRY_CONTROLS', ENTRY_CONTROL.IA32E_GUEST);
        set(v, 'GUEST_CR4', 0x2020);
        set(v, 'GUEST_RFLAGS', VIRTUAL_8086);
      },
    ],
    [
      'virtual-8086 mode with a base above 4 GiB',
      (v) => {
        v86(v);
        set(v, 'GUEST_FS_BASE', 0x1_0001_2340n);
      },
    ],
    [
      'TR that is an available TSS, outside IA-32e mode',
      (v) => {
        legacy(v);
        set(v, 'GUEST_TR_ACCESS_RIGHTS', 0x89);
      },
    ],
    ['reserved bits of a usable LDTR', (v) => set(v, 'GUEST_LDTR_ACCESS_RIGHTS', 0x182)],
  ])('%s', (_name, break_) => {
    expectFailure(break_);
  });
});

describe('exit qualifications', () => {
  test('#DB by an access to a debug register under DR7.GD: BD', () => {
    const v = guest('0f 21 f1'); // mov rcx, dr6
    change(v, 'ENTRY_CONTROLS', ENTRY_CONTROL.LOAD_DEBUG);
    set(v, 'GUEST_DR7', 0x2400);
    set(v, 'EXCEPTION_BITMAP', 1 << 1);
    expect(run(v)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI, qualification: 0x2000n, rip: CODE });
  });
  test('MWAIT after MONITOR: armed', () => {
    const v = guest('0f 01 c8 0f 01 c9', PRIMARY.MWAIT); // monitor; mwait
    v.p.setGpr(RCX, 0n);
    v.p.setGpr(RDX, 0n);
    expect(run(v)).toMatchObject({ reason: REASON.MWAIT, qualification: 1n, rip: CODE + 3 });
  });
  test('task switch by IRET with NT set', () => {
    const v = guest('cf');
    const [gdt, tss] = [FREE_PAGE + 0x800, FREE_PAGE + 0xc00];
    change(v, 'ENTRY_CONTROLS', 0, ENTRY_CONTROL.IA32E_GUEST);
    set(v, 'GUEST_CR0', 0x31);
    set(v, 'GUEST_CR4', 0x2000);
    set(v, 'GUEST_CS_ACCESS_RIGHTS', 0xc09b);
    set(v, 'GUEST_RFLAGS', 0x4002);
    set(v, 'GUEST_GDTR_BASE', gdt);
    set(v, 'GUEST_TR_BASE', tss);
    v.p.machine.memory.write16(tss, 0x20);
    v.p.machine.memory.write64(gdt + 0x20, 0x0000_8b00_0000_0067n | (BigInt(tss) << 16n));
    expect(run(v)).toMatchObject({ reason: REASON.TASK_SWITCH, qualification: 0x4000_0020n, rip: CODE });
  });
});

describe('secondary controls', () => {
  test('XSAVES is undefined without its control, and executes with it', () => {
    const end = (control: number): number => {
      const v = guest('0f c7 2b f4', PRIMARY.HLT, control); // xsaves [rbx]; hlt
      change(v, 'GUEST_CR4', 0x4_0200);
      set(v, 'EXCEPTION_BITMAP', 1 << 6);
      v.p.setGpr(RBX, BigInt(FREE_PAGE));
      v.p.setGpr(RAX, 1n);
      v.p.setGpr(RDX, 0n);
      const { reason } = run(v);
      if (reason === REASON.EXCEPTION_OR_NMI) expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0306n);
      else expect(v.p.machine.memory.read64(FREE_PAGE + 520)).toBe((1n << 63n) | 1n);
      return reason;
    };
    expect(end(0)).toBe(REASON.EXCEPTION_OR_NMI);
    expect(end(SECONDARY.XSAVES)).toBe(REASON.HLT);
  });
});
