/** For tests of the checks on guest state: guests of several modes, and what entry makes of them. */
import { expect } from 'vitest';
import { ENTRY_CONTROL, PRIMARY, SECONDARY } from './controls.ts';
import { enter } from './entry.ts';
import { NON_ROOT, ROOT, VM_SUCCEED } from './operation.ts';
import { change, FREE_PAGE, get, HOST_RIP, set, validVmcs } from './test-guest.ts';
import type { Vtx } from './vtx.ts';

/** Changes a valid VMCS. */
export type Break = (v: Vtx) => void;

/** Not with linear addresses of 57 bits either. */
export const NON_CANONICAL = 0x100_0000_0000_0000n;
export const VIRTUAL_8086 = 0x2_0002;

/** Entry fails with reason 33 and loads the host. */
export const expectFailure = (break_: Break, qualification = 0n): void => {
  const v = validVmcs();
  break_(v);
  expect(enter(v, true, true)).toBe(VM_SUCCEED);
  expect(v.operation).toBe(ROOT);
  expect(get(v, 'EXIT_REASON')).toBe(0x8000_0021n);
  expect(get(v, 'EXIT_QUALIFICATION')).toBe(qualification);
  expect(v.p.rip).toBe(HOST_RIP);
  expect(v.current!.launched).toBe(false);
};
export const expectSuccess = (prepare: Break): void => {
  const v = validVmcs();
  prepare(v);
  expect(enter(v, true, true)).toBe(VM_SUCCEED);
  expect(v.operation).toBe(NON_ROOT);
};

/** Unrestricted guest under EPT. */
export const unrestricted = (v: Vtx): void => {
  change(v, 'PRIMARY_CONTROLS', PRIMARY.SECONDARY);
  set(v, 'SECONDARY_CONTROLS', SECONDARY.EPT | SECONDARY.UNRESTRICTED_GUEST);
  set(v, 'EPT_POINTER', FREE_PAGE | 0x1e);
};
/** 32-bit protected mode without paging extensions. */
export const legacy = (v: Vtx): void => {
  change(v, 'ENTRY_CONTROLS', 0, ENTRY_CONTROL.IA32E_GUEST);
  set(v, 'GUEST_CS_ACCESS_RIGHTS', 0xc09b);
  set(v, 'GUEST_CR4', 0x2000);
};
export const realMode = (v: Vtx): void => {
  unrestricted(v);
  legacy(v);
  set(v, 'GUEST_CR0', 0x30);
};
export const SEGMENTS: readonly ['ES', 'CS', 'SS', 'DS', 'FS', 'GS'] = ['ES', 'CS', 'SS', 'DS', 'FS', 'GS'];
export const v86 = (v: Vtx): void => {
  legacy(v);
  set(v, 'GUEST_RFLAGS', VIRTUAL_8086);
  for (const name of SEGMENTS) {
    set(v, `GUEST_${name}_SELECTOR`, 0x1234);
    set(v, `GUEST_${name}_BASE`, 0x1_2340);
    set(v, `GUEST_${name}_LIMIT`, 0xffff);
    set(v, `GUEST_${name}_ACCESS_RIGHTS`, 0xf3);
  }
};
