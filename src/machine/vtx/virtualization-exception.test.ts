import { describe, expect, test } from 'vitest';
import { RAX } from '../engine/layout.ts';
import { SECONDARY } from './controls.ts';
import { REASON } from './reasons.ts';
import { apicGuest, HANDLERS, VE_AREA } from './test-apic.ts';
import { CODE, change, EPT_ENTRY, get, MAPPED, run, set } from './test-guest.ts';
import type { Vtx } from './vtx.ts';

const VE = 20;
const SUPPRESS = 1n << 63n;
const GPA = MAPPED + 0x123;

/** A guest that reads where EPT maps nothing; the entry there is `entry`. */
function veGuest(entry = 0n, code = '8b 00 0f a2'): Vtx {
  const v = apicGuest(code, SECONDARY.EPT_VIOLATION_VE);
  set(v, 'VE_INFORMATION_ADDRESS', VE_AREA);
  set(v, 'EPTP_INDEX', 0x123);
  v.p.machine.memory.write64(EPT_ENTRY + 8, entry);
  v.p.setGpr(RAX, BigInt(GPA));
  return v;
}

describe('EPT-violation #VE', () => {
  test('a violation becomes vector 20, without an error code', () => {
    const v = veGuest();
    expect(run(v)).toMatchObject({ reason: REASON.CPUID, rip: HANDLERS + 16 * VE });
    const { memory } = v.p.machine;
    // Return address first: a fault, no error code.
    expect(Number(memory.read64(Number(get(v, 'GUEST_RSP'))))).toBe(CODE);
  });
  test('the information area: reason, busy, qualification, linear and physical address, EPTP index', () => {
    const v = veGuest();
    run(v);
    const { memory } = v.p.machine;
    expect(memory.read32(VE_AREA)).toBe(48);
    expect(memory.read32(VE_AREA + 4)).toBe(0xffff_ffff);
    expect(memory.read64(VE_AREA + 8) & 0x1ffn).toBe(0x181n);
    expect(memory.read64(VE_AREA + 16)).toBe(BigInt(GPA));
    expect(memory.read64(VE_AREA + 24)).toBe(BigInt(GPA));
    expect(memory.read16(VE_AREA + 32)).toBe(0x123);
  });
  test('entry bit 63 suppresses it, in an entry that is not present', () => {
    expect(run(veGuest(SUPPRESS))).toMatchObject({ reason: REASON.EPT_VIOLATION, rip: CODE });
  });
  test('and in the entry that maps the page, by whose rights the access fails', () => {
    const readOnly = 0xb1n;
    const write = '89 00 0f a2';
    expect(run(veGuest(readOnly, write)).rip).toBe(HANDLERS + 16 * VE);
    expect(run(veGuest(readOnly | SUPPRESS, write)).reason).toBe(REASON.EPT_VIOLATION);
  });
  test('bit 63 of an entry that refers to another table does not count', () => {
    const v = veGuest();
    const { memory } = v.p.machine;
    memory.write64(0x1_3000, memory.read64(0x1_3000) | SUPPRESS);
    expect(run(v).rip).toBe(HANDLERS + 16 * VE);
  });
  test('a misconfiguration always exits', () => {
    expect(run(veGuest(2n)).reason).toBe(REASON.EPT_MISCONFIGURATION);
  });
  test('while the area is in use the violation exits', () => {
    const v = veGuest();
    v.p.machine.memory.write32(VE_AREA + 4, 1);
    expect(run(v)).toMatchObject({ reason: REASON.EPT_VIOLATION, rip: CODE });
    expect(v.p.machine.memory.read32(VE_AREA)).toBe(0);
  });
  test('during event delivery the violation exits', () => {
    const v = veGuest();
    set(v, 'GUEST_RSP', MAPPED + 0x800);
    set(v, 'GUEST_RFLAGS', 0x202);
    set(v, 'ENTRY_INTERRUPTION_INFO', 0x8000_0030);
    expect(run(v).reason).toBe(REASON.EPT_VIOLATION);
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0x8000_0030n);
  });
  test('without the control the violation exits', () => {
    const v = veGuest();
    change(v, 'SECONDARY_CONTROLS', 0, SECONDARY.EPT_VIOLATION_VE);
    expect(run(v).reason).toBe(REASON.EPT_VIOLATION);
  });
  test('the exception bitmap makes it exit, with the area filled', () => {
    const v = veGuest();
    set(v, 'EXCEPTION_BITMAP', 1 << VE);
    expect(run(v)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI, rip: CODE });
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0314n);
    expect(v.p.machine.memory.read32(VE_AREA)).toBe(48);
  });
  test('a guest page-table walk is converted as well', () => {
    const v = veGuest();
    set(v, 'GUEST_CR3', MAPPED);
    set(v, 'EXCEPTION_BITMAP', 1 << VE);
    expect(run(v).reason).toBe(REASON.EXCEPTION_OR_NMI);
    const { memory } = v.p.machine;
    expect(memory.read64(VE_AREA + 24)).toBe(BigInt(MAPPED));
    expect(memory.read64(VE_AREA + 16)).toBe(BigInt(CODE));
  });
  test('delivered through a handler that page-faults it is a double fault', () => {
    const v = veGuest();
    set(v, 'GUEST_IDTR_BASE', 0x4000_0000);
    set(v, 'EXCEPTION_BITMAP', 1 << 8);
    run(v);
    expect(get(v, 'EXIT_INTERRUPTION_INFO') & 0xffn).toBe(8n);
  });
});
