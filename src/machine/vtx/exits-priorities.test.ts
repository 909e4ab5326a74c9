import { describe, expect, test } from 'vitest';
import { RAX, RBX, RCX, RDX } from '../engine/layout.ts';
import { ENTRY_CONTROL, PIN, PRIMARY, SECONDARY } from './controls.ts';
import { REASON } from './reasons.ts';
import { CODE, change, EPT_ENTRY, FREE_PAGE, get, guest, MAPPED, run, set } from './test-guest.ts';
import type { Vtx } from './vtx.ts';

const GP = 13;
const UD = 6;

/** Ring 3, with all exceptions intercepted. */
function user(hex: string, primary = 0, secondary = 0): Vtx {
  const v = guest(hex, primary, secondary);
  for (const name of ['CS', 'SS', 'DS', 'ES', 'FS', 'GS'] as const) change(v, `GUEST_${name}_ACCESS_RIGHTS`, 0x60);
  set(v, 'EXCEPTION_BITMAP', 0xffff_ffff);
  return v;
}
const vector = (v: Vtx): number => Number(get(v, 'EXIT_INTERRUPTION_INFO') & 0xffn);

describe('faults and exits of one instruction', () => {
  test.each([
    ['INVLPG', '0f 01 38', PRIMARY.INVLPG, 0],
    ['MOV from CR3', '0f 20 d8', PRIMARY.CR3_STORE, 0],
    ['RDMSR', '0f 32', 0, 0],
    ['HLT', 'f4', PRIMARY.HLT, 0],
    ['INVD', '0f 08', 0, 0],
    ['WBINVD', '0f 09', 0, SECONDARY.WBINVD],
    ['LGDT', '0f 01 10', 0, SECONDARY.DESCRIPTOR_TABLE],
    ['IN without IOPL', 'ec', PRIMARY.UNCONDITIONAL_IO, 0],
  ])('in ring 3 %s faults with #GP and does not exit', (_name, hex, primary, secondary) => {
    const v = user(hex, primary, secondary);
    expect(run(v).reason).toBe(REASON.EXCEPTION_OR_NMI);
    expect(vector(v)).toBe(GP);
  });
  test.each([
    ['CPUID', '0f a2', 0, 0, REASON.CPUID],
    ['PAUSE', 'f3 90', PRIMARY.PAUSE, 0, REASON.PAUSE],
    ['MOV DR', '0f 21 c0', PRIMARY.MOV_DR, 0, REASON.MOV_DR],
    ['RDTSC', '0f 31', PRIMARY.RDTSC, 0, REASON.RDTSC],
    ['RDRAND', '0f c7 f1', 0, SECONDARY.RDRAND, REASON.RDRAND],
    ['VMXON', 'f3 0f c7 30', 0, 0, REASON.VMXON],
  ])('in ring 3 %s exits', (_name, hex, primary, secondary, reason) => {
    expect(run(user(hex, primary, secondary)).reason).toBe(reason);
  });
  test('XSETBV without CR4.OSXSAVE is undefined, and does not exit', () => {
    const v = guest('0f 01 d1');
    set(v, 'EXCEPTION_BITMAP', 1 << UD);
    run(v);
    expect(vector(v)).toBe(UD);
  });
  test('a value that would fault exits: reserved CR0 bits, an unknown MSR, XSETBV', () => {
    const cr0 = guest('0f 22 c3');
    set(cr0, 'CR0_MASK', 0x8000_0000);
    set(cr0, 'CR0_READ_SHADOW', 0x8000_0000);
    cr0.p.setGpr(RBX, 0x1n);
    expect(run(cr0).reason).toBe(REASON.CR_ACCESS);
    const msr = guest('0f 32');
    msr.p.setGpr(RCX, 0x1234_5678n);
    expect(run(msr).reason).toBe(REASON.RDMSR);
    const xcr = guest('0f 01 d1');
    change(xcr, 'GUEST_CR4', 0x4_0000);
    xcr.p.setGpr(RCX, 77n);
    expect(run(xcr)).toMatchObject({ reason: REASON.XSETBV, length: 3 });
  });
  test('LMSW from memory that is not there: the fault comes first', () => {
    const v = guest('0f 01 30');
    set(v, 'CR0_MASK', 0xf);
    set(v, 'EXCEPTION_BITMAP', 1 << 14);
    v.p.setGpr(RAX, 0x4000_0000n);
    run(v);
    expect(vector(v)).toBe(14);
  });
});

describe('EPT qualifications', () => {
  test('an instruction fetch', () => {
    const v = guest('90');
    set(v, 'GUEST_RIP', MAPPED + 0x10);
    expect(run(v)).toMatchObject({ reason: REASON.EPT_VIOLATION, rip: MAPPED + 0x10 });
    expect(get(v, 'EXIT_QUALIFICATION') & 0x1ffn).toBe(0x184n);
    expect(get(v, 'GUEST_LINEAR_ADDRESS')).toBe(BigInt(MAPPED + 0x10));
  });
  test('a guest paging structure: bit 8 is clear, the linear address is the one being translated', () => {
    const v = guest('90');
    set(v, 'GUEST_CR3', MAPPED);
    expect(run(v).reason).toBe(REASON.EPT_VIOLATION);
    expect(get(v, 'EXIT_QUALIFICATION') & 0x181n).toBe(0x081n);
    expect(get(v, 'GUEST_PHYSICAL_ADDRESS')).toBe(BigInt(MAPPED));
    expect(get(v, 'GUEST_LINEAR_ADDRESS')).toBe(BigInt(CODE));
  });
  test('with accessed and dirty flags a walk counts as read and write', () => {
    const v = guest('90');
    change(v, 'EPT_POINTER', 0x40);
    v.p.machine.memory.write64(EPT_ENTRY, 0xb5n);
    expect(run(v).reason).toBe(REASON.EPT_VIOLATION);
    expect(get(v, 'EXIT_QUALIFICATION') & 0x1ffn).toBe(0x0abn);
  });
});

describe('task switches', () => {
  const GDT = FREE_PAGE + 0x800;
  const TSS = FREE_PAGE + 0xc00;
  /** A 32-bit guest with a TSS descriptor at selector 0x20. */
  const legacy = (hex: string): Vtx => {
    const v = guest(hex);
    change(v, 'ENTRY_CONTROLS', 0, ENTRY_CONTROL.IA32E_GUEST);
    set(v, 'GUEST_CR0', 0x31);
    set(v, 'GUEST_CR4', 0x2000);
    set(v, 'GUEST_CS_ACCESS_RIGHTS', 0xc09b);
    v.p.machine.memory.write64(GDT + 0x20, 0x0000_8900_0000_0067n | (BigInt(TSS) << 16n));
    set(v, 'GUEST_GDTR_BASE', GDT);
    return v;
  };
  test('far JMP to a TSS', () => {
    const v = legacy('ea 00 00 00 00 20 00'); // jmp 0x20:0
    expect(run(v)).toMatchObject({ reason: REASON.TASK_SWITCH, qualification: 0x8000_0020n, length: 7, rip: CODE });
  });
  test('far CALL to a TSS', () => {
    const v = legacy('9a 00 00 00 00 20 00');
    expect(run(v)).toMatchObject({ reason: REASON.TASK_SWITCH, qualification: 0x20n, length: 7, rip: CODE });
  });
  test('a task gate in the IDT, by INT n: the length and the event', () => {
    const v = legacy('cd 20');
    v.p.machine.memory.write64(FREE_PAGE + 8 * 0x20, 0x0000_e500_0020_0000n);
    set(v, 'GUEST_IDTR_BASE', FREE_PAGE);
    expect(run(v)).toMatchObject({ reason: REASON.TASK_SWITCH, qualification: 0xc000_0020n, length: 2, rip: CODE });
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0x8000_0420n);
  });
});

describe('order at a boundary', () => {
  test('the preemption timer comes before an NMI, an NMI before the interrupt window', () => {
    const all = (timer: boolean, nmi: boolean): number => {
      const v = guest('90', PRIMARY.INTERRUPT_WINDOW);
      change(v, 'PIN_CONTROLS', PIN.NMI_EXITING | (timer ? PIN.PREEMPTION_TIMER : 0));
      set(v, 'GUEST_RFLAGS', 0x202);
      v.p.nmiPending = nmi;
      return run(v).reason;
    };
    expect(all(true, true)).toBe(REASON.PREEMPTION_TIMER);
    expect(all(false, true)).toBe(REASON.EXCEPTION_OR_NMI);
    expect(all(false, false)).toBe(REASON.INTERRUPT_WINDOW);
  });
  test('a pending debug trap comes before the preemption timer', () => {
    const v = guest('90');
    change(v, 'PIN_CONTROLS', PIN.PREEMPTION_TIMER);
    set(v, 'EXCEPTION_BITMAP', 2);
    set(v, 'GUEST_PENDING_DEBUG', 0x4000);
    expect(run(v).reason).toBe(REASON.EXCEPTION_OR_NMI);
  });
  test('an NMI that does not exit is delivered before the interrupt window is looked at', () => {
    const v = guest('90', PRIMARY.INTERRUPT_WINDOW);
    set(v, 'GUEST_RFLAGS', 0x202);
    set(v, 'GUEST_IDTR_LIMIT', 0);
    v.p.nmiPending = true;
    expect(run(v).reason).toBe(REASON.TRIPLE_FAULT);
  });
  test('MOV SS blocking holds an NMI back for one instruction', () => {
    const v = guest('8e d2 90 90'); // mov ss, edx; nop; nop
    change(v, 'PIN_CONTROLS', PIN.NMI_EXITING);
    v.p.setGpr(RDX, 0n);
    set(v, 'GUEST_INTERRUPTIBILITY', 2);
    set(v, 'GUEST_RIP', CODE + 2);
    v.p.nmiPending = true;
    expect(run(v)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI, rip: CODE + 3 });
  });
  test('an exit within an STI shadow shows the shadow', () => {
    const v = guest('fb 0f a2'); // sti; cpuid
    expect(run(v).reason).toBe(REASON.CPUID);
    expect(get(v, 'GUEST_INTERRUPTIBILITY')).toBe(1n);
  });
});
