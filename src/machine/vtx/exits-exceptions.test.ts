import { describe, expect, test } from 'vitest';
import { RBX } from '../engine/layout.ts';
import { PRIMARY, SECONDARY } from './controls.ts';
import { REASON } from './reasons.ts';
import { CODE, change, EPT_ENTRY, FREE_PAGE, get, guest, MAPPED, run, set } from './test-guest.ts';
import type { Vtx } from './vtx.ts';

describe('exceptions', () => {
  const exception = (hex: string, bitmap: number): Vtx => {
    const v = guest(hex, PRIMARY.HLT);
    set(v, 'EXCEPTION_BITMAP', bitmap);
    return v;
  };
  test('UD2: fault, RF as it would be pushed', () => {
    const v = exception('0f 0b', 1 << 6);
    expect(run(v)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI, rip: CODE });
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0306n);
    expect(get(v, 'GUEST_RFLAGS')).toBe(0x1_0002n);
  });
  test('INT3: software exception with its length', () => {
    const v = exception('cc', 1 << 3);
    expect(run(v)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI, rip: CODE, length: 1 });
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0603n);
  });
  test('#GP with its error code', () => {
    const v = exception('66 b8 24 00 8e d8', 1 << 13); // mov ax, 0x24; mov ds, ax: a null LDT
    run(v);
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0b0dn);
    expect(get(v, 'EXIT_INTERRUPTION_ERROR_CODE')).toBe(0x24n);
  });
  test('#PF: the address is the qualification, CR2 stays', () => {
    const v = exception('48 8b 03', 1 << 14); // mov rax, [rbx]
    v.p.setGpr(RBX, 0x4000_0123n);
    v.p.cr2 = 0x77n;
    expect(run(v)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI, qualification: 0x4000_0123n });
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0b0en);
    expect(v.p.cr2).toBe(0x77n);
  });
  test('#PF: mask and match select by error code, and invert with the bitmap bit', () => {
    const exits = (bitmap: number, mask: number, match: number): boolean => {
      const v = exception('48 89 03', bitmap | (1 << 8)); // a write: error code 2
      v.p.setGpr(RBX, 0x4000_0000n);
      set(v, 'PAGE_FAULT_MASK', mask);
      set(v, 'PAGE_FAULT_MATCH', match);
      set(v, 'GUEST_IDTR_LIMIT', 0);
      run(v);
      return (get(v, 'EXIT_INTERRUPTION_INFO') & 0xffn) === 14n;
    };
    const PF = 1 << 14;
    expect(exits(PF, 0, 0)).toBe(true);
    expect(exits(PF, 2, 2)).toBe(true);
    expect(exits(PF, 2, 0)).toBe(false);
    expect(exits(0, 2, 0)).toBe(true);
    expect(exits(0, 0, 0)).toBe(false);
  });
  test('no gate for anything: triple fault', () => {
    const v = exception('0f 0b', 0);
    set(v, 'GUEST_IDTR_LIMIT', 0);
    expect(run(v)).toMatchObject({ reason: REASON.TRIPLE_FAULT, rip: CODE });
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0n);
  });
  test('a fault that arises in delivery exits with the first event as IDT-vectoring information', () => {
    const v = exception('0f 0b', 1 << 13);
    set(v, 'GUEST_IDTR_LIMIT', 0);
    run(v);
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0b0dn);
    expect(get(v, 'EXIT_INTERRUPTION_ERROR_CODE')).toBe(6n * 8n + 2n + 1n);
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0x8000_0306n);
  });
  test('INT n itself does not exit; its delivery’s fault does, with type 4 and the length', () => {
    const v = exception('cd 80', 1 << 13);
    set(v, 'GUEST_IDTR_LIMIT', 0);
    expect(run(v)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI, rip: CODE, length: 2 });
    expect(get(v, 'EXIT_INTERRUPTION_ERROR_CODE')).toBe(0x80n * 8n + 2n);
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0x8000_0480n);
  });
  test('a double fault that exits is not beside the event that led to it', () => {
    const v = exception('48 8b 03', 1 << 8); // #PF, and no gate: #GP in delivery, so #DF
    v.p.setGpr(RBX, 0x4000_0000n);
    set(v, 'GUEST_IDTR_LIMIT', 0);
    run(v);
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0b08n);
    expect(get(v, 'EXIT_INTERRUPTION_ERROR_CODE')).toBe(0n);
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0n);
  });
  test('single step: #DB with BS, DR6 stays', () => {
    const v = exception('90 90', 1 << 1);
    set(v, 'GUEST_RFLAGS', 0x102);
    v.p.dr6 = 0xffff_0ff0;
    expect(run(v)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI, qualification: 0x4000n, rip: CODE + 1 });
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0301n);
    expect(v.p.dr6).toBe(0xffff_0ff0);
  });
});

describe('EPT', () => {
  test('a read beyond what is mapped', () => {
    const v = guest('48 8b 03'); // mov rax, [rbx]
    v.p.setGpr(RBX, BigInt(MAPPED + 0x123));
    expect(run(v)).toMatchObject({ reason: REASON.EPT_VIOLATION, rip: CODE });
    expect(get(v, 'EXIT_QUALIFICATION') & 0x1ffn).toBe(0x181n);
    expect(get(v, 'GUEST_PHYSICAL_ADDRESS')).toBe(BigInt(MAPPED + 0x123));
    expect(get(v, 'GUEST_LINEAR_ADDRESS')).toBe(BigInt(MAPPED + 0x123));
    expect(get(v, 'GUEST_RFLAGS')).toBe(0x1_0002n);
  });
  test('a write without the right; after the right is given it goes through', () => {
    const v = guest('48 89 03 f4', PRIMARY.HLT); // mov [rbx], rax; hlt
    v.p.setGpr(RBX, BigInt(FREE_PAGE));
    v.p.machine.memory.write64(EPT_ENTRY, 0xb5n);
    expect(run(v).reason).toBe(REASON.EPT_VIOLATION);
    expect(get(v, 'EXIT_QUALIFICATION') & 0x1ffn).toBe(0x1aan);
    v.p.machine.memory.write64(EPT_ENTRY, 0xb7n);
    expect(run(v).reason).toBe(REASON.HLT);
    expect(v.p.machine.memory.read64(FREE_PAGE)).toBe(BigInt(FREE_PAGE));
  });
  test('write without read is a misconfiguration', () => {
    const v = guest('90');
    v.p.machine.memory.write64(EPT_ENTRY, 0xb6n);
    expect(run(v).reason).toBe(REASON.EPT_MISCONFIGURATION);
    expect(get(v, 'GUEST_PHYSICAL_ADDRESS')).not.toBe(0n);
  });
  test('a violation while an event is delivered carries the event', () => {
    const v = guest('cd 20'); // int 0x20
    set(v, 'GUEST_IDTR_BASE', MAPPED);
    expect(run(v)).toMatchObject({ reason: REASON.EPT_VIOLATION, rip: CODE, length: 2 });
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0x8000_0420n);
  });
  test('PML: a page is logged when it becomes dirty, and a full log exits before anything is set', () => {
    const LOG = 0x9000;
    const v = guest('48 89 03 f4', PRIMARY.HLT, SECONDARY.PML);
    change(v, 'EPT_POINTER', 0x40);
    set(v, 'PML_ADDRESS', LOG);
    set(v, 'PML_INDEX', 0xffff);
    expect(run(v).reason).toBe(REASON.PML_FULL);
    set(v, 'PML_INDEX', 511);
    expect(run(v).reason).toBe(REASON.HLT);
    const index = Number(get(v, 'PML_INDEX'));
    expect(index).toBeLessThan(511);
    const logged = Array.from({ length: 511 - index }, (_, i) => v.p.machine.memory.read64(LOG + 8 * (511 - i)));
    expect(logged.some((gpa) => gpa < BigInt(MAPPED) && gpa % 4096n === 0n)).toBe(true);
  });
});
