import { describe, expect, test } from 'vitest';
import { CR4_LA57, EFER_LMA } from '../processor.ts';
import { ENTRY_CONTROL, EXIT_CONTROL } from './controls.ts';
import { enter } from './entry.ts';
import type { FieldName } from './field-slots.ts';
import { VM_FAIL_VALID, VM_SUCCEED } from './operation.ts';
import { change, failure, set, validVmcs } from './test-guest.ts';
import type { Vtx } from './vtx.ts';

type Break = (v: Vtx) => void;

const NON_CANONICAL = 0x100_0000_0000_0000n;
/** With linear addresses of 57 bits only. */
const CANONICAL_57 = 0x8000_0000_0000n;

const expectFailure = (break_: Break): void => {
  const v = validVmcs();
  break_(v);
  expect(enter(v, true, true)).toBe(VM_FAIL_VALID);
  expect(failure(v)).toBe(8);
};
const expectSuccess = (prepare: Break): void => {
  const v = validVmcs();
  prepare(v);
  expect(enter(v, true, true)).toBe(VM_SUCCEED);
};

describe('control registers and MSRs', () => {
  test.each<[string, Break]>([
    ['CR0.PE clear', (v) => change(v, 'HOST_CR0', 0, 1)],
    ['CR0.NE clear', (v) => change(v, 'HOST_CR0', 0, 0x20)],
    ['CR0.PG clear', (v) => change(v, 'HOST_CR0', 0, 0x8000_0000)],
    ['CR0 above 32 bits', (v) => set(v, 'HOST_CR0', 0x1_8005_0033n)],
    ['CR4.VMXE clear', (v) => change(v, 'HOST_CR4', 0, 0x2000)],
    ['an unknown CR4 bit', (v) => change(v, 'HOST_CR4', 0x8000)],
    ['CR4 above 32 bits', (v) => set(v, 'HOST_CR4', 0x1_0000_2020n)],
    ['CR3 beyond the width', (v) => set(v, 'HOST_CR3', 1n << 52n)],
    ['CR3 bit 63', (v) => set(v, 'HOST_CR3', 1n << 63n)],
    ['SYSENTER_ESP', (v) => set(v, 'HOST_SYSENTER_ESP', NON_CANONICAL)],
    ['SYSENTER_EIP', (v) => set(v, 'HOST_SYSENTER_EIP', NON_CANONICAL)],
  ])('%s', (_name, break_) => {
    expectFailure(break_);
  });

  test.each([0x02n, 0x03n, 0x08n, 0x0200_0000_0000_0000n, 0xff00n])('PAT %i', (pat) => {
    expectFailure((v) => {
      change(v, 'EXIT_CONTROLS', EXIT_CONTROL.LOAD_PAT);
      set(v, 'HOST_PAT', pat);
    });
    expectSuccess((v) => set(v, 'HOST_PAT', pat));
  });
  test('a PAT of all legal types', () => {
    expectSuccess((v) => {
      change(v, 'EXIT_CONTROLS', EXIT_CONTROL.LOAD_PAT);
      set(v, 'HOST_PAT', 0x0007_0605_0401_0006n);
    });
  });
  test.each<[string, bigint]>([
    ['a reserved bit', 0xd02n],
    ['bit 32', 0x1_0000_0d01n],
    ['LMA clear', 0x101n],
    ['LME clear', 0x401n],
  ])('EFER with %s', (_name, efer) => {
    expectFailure((v) => {
      change(v, 'EXIT_CONTROLS', EXIT_CONTROL.LOAD_EFER);
      set(v, 'HOST_EFER', efer);
    });
    expectSuccess((v) => set(v, 'HOST_EFER', efer));
  });
});

describe('segments', () => {
  test.each<FieldName>([
    'HOST_ES_SELECTOR',
    'HOST_CS_SELECTOR',
    'HOST_SS_SELECTOR',
    'HOST_DS_SELECTOR',
    'HOST_FS_SELECTOR',
    'HOST_GS_SELECTOR',
    'HOST_TR_SELECTOR',
  ])('%s: RPL and TI are 0', (field) => {
    for (const bad of [0x11, 0x12, 0x14]) expectFailure((v) => set(v, field, bad));
  });
  test.each<FieldName>(['HOST_CS_SELECTOR', 'HOST_TR_SELECTOR'])('%s is not null', (field) => {
    expectFailure((v) => set(v, field, 0));
  });
  test('a null SS is legal for a 64-bit host', () => {
    expectSuccess((v) => set(v, 'HOST_SS_SELECTOR', 0));
  });
  test.each<FieldName>(['HOST_FS_BASE', 'HOST_GS_BASE', 'HOST_GDTR_BASE', 'HOST_IDTR_BASE', 'HOST_TR_BASE'])(
    '%s is canonical',
    (field) => {
      expectFailure((v) => set(v, field, NON_CANONICAL));
      expectFailure((v) => set(v, field, 0x7fff_8000_0000_0000n));
      expectSuccess((v) => set(v, field, CANONICAL_57));
    },
  );
});

describe('address-space size', () => {
  test('a 64-bit host needs the 64-bit host control, PAE and a canonical RIP', () => {
    expectFailure((v) => change(v, 'EXIT_CONTROLS', 0, EXIT_CONTROL.HOST_64));
    expectFailure((v) => change(v, 'HOST_CR4', 0, 0x20));
    expectFailure((v) => set(v, 'HOST_RIP', NON_CANONICAL));
  });
  test('CR4.LA57 of the host decides how wide its RIP may be', () => {
    expectFailure((v) => set(v, 'HOST_RIP', CANONICAL_57));
    expectSuccess((v) => {
      change(v, 'HOST_CR4', CR4_LA57);
      set(v, 'HOST_RIP', CANONICAL_57);
    });
    expectFailure((v) => {
      change(v, 'HOST_CR4', CR4_LA57);
      set(v, 'HOST_RIP', NON_CANONICAL);
    });
  });

  const legacy = (v: Vtx): void => {
    v.p.efer &= ~EFER_LMA;
    change(v, 'EXIT_CONTROLS', 0, EXIT_CONTROL.HOST_64);
    change(v, 'ENTRY_CONTROLS', 0, ENTRY_CONTROL.IA32E_GUEST);
    change(v, 'GUEST_CS_ACCESS_RIGHTS', 0xc000, 0x2000);
    set(v, 'HOST_RIP', 0x1000);
    set(v, 'GUEST_CR4', 0x2000);
  };
  test('a host without long mode', () => {
    expectSuccess(legacy);
  });
  test.each<[string, Break]>([
    ['a 64-bit host control', (v) => change(v, 'EXIT_CONTROLS', EXIT_CONTROL.HOST_64)],
    ['a 64-bit guest', (v) => change(v, 'ENTRY_CONTROLS', ENTRY_CONTROL.IA32E_GUEST)],
    ['PCIDE', (v) => change(v, 'HOST_CR4', 0x2_0000)],
    ['RIP above 4 GiB', (v) => set(v, 'HOST_RIP', 1n << 32n)],
    ['a null SS', (v) => set(v, 'HOST_SS_SELECTOR', 0)],
  ])('a host without long mode may not have %s', (_name, break_) => {
    expectFailure((v) => {
      legacy(v);
      break_(v);
    });
  });
  test('a change of EFER.LMA makes the checks necessary again', () => {
    const v = validVmcs();
    expect(enter(v, true, true)).toBe(VM_SUCCEED);
    v.externalInterruptExit(-1);
    v.takeVmExit();
    v.p.efer &= ~EFER_LMA;
    expect(enter(v, false, true)).toBe(VM_FAIL_VALID);
    expect(failure(v)).toBe(8);
  });
});
