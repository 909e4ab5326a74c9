import { describe, test } from 'vitest';
import { ENTRY_CONTROL } from './controls.ts';
import {
  type Break,
  expectFailure,
  expectSuccess,
  legacy,
  NON_CANONICAL,
  realMode,
  unrestricted,
  VIRTUAL_8086,
  v86,
} from './test-entry.ts';
import { change, set } from './test-guest.ts';

describe('control registers, DR7 and MSRs', () => {
  test.each<[string, Break]>([
    ['CR0.NE clear', (v) => change(v, 'GUEST_CR0', 0, 0x20)],
    [
      'CR0.PG clear without unrestricted guest',
      (v) => {
        legacy(v);
        change(v, 'GUEST_CR0', 0, 0x8000_0000);
      },
    ],
    [
      'CR0.PE clear without unrestricted guest',
      (v) => {
        legacy(v);
        change(v, 'GUEST_CR0', 0, 0x8000_0001);
      },
    ],
    ['CR0 above 32 bits', (v) => set(v, 'GUEST_CR0', 0x1_8005_0033n)],
    [
      'PG without PE in an unrestricted guest',
      (v) => {
        realMode(v);
        set(v, 'GUEST_CR0', 0x8000_0030);
      },
    ],
    ['CR4.VMXE clear', (v) => change(v, 'GUEST_CR4', 0, 0x2000)],
    ['an unknown CR4 bit', (v) => change(v, 'GUEST_CR4', 0x8000)],
    ['CR4 above 32 bits', (v) => set(v, 'GUEST_CR4', 0x1_0000_2020n)],
    [
      'IA-32e mode without paging',
      (v) => {
        unrestricted(v);
        change(v, 'GUEST_CR0', 0, 0x8000_0000);
      },
    ],
    ['IA-32e mode without PAE', (v) => change(v, 'GUEST_CR4', 0, 0x20)],
    [
      'PCIDE outside IA-32e mode',
      (v) => {
        legacy(v);
        change(v, 'GUEST_CR4', 0x2_0000);
      },
    ],
    ['CR3 beyond the width', (v) => set(v, 'GUEST_CR3', 1n << 52n)],
    ['CR3 bit 63', (v) => set(v, 'GUEST_CR3', 1n << 63n)],
    [
      'DR7 above 32 bits',
      (v) => {
        change(v, 'ENTRY_CONTROLS', ENTRY_CONTROL.LOAD_DEBUG);
        set(v, 'GUEST_DR7', 1n << 32n);
      },
    ],
    [
      'a reserved DEBUGCTL bit',
      (v) => {
        change(v, 'ENTRY_CONTROLS', ENTRY_CONTROL.LOAD_DEBUG);
        set(v, 'GUEST_DEBUGCTL', 0x20);
      },
    ],
    ['SYSENTER_ESP', (v) => set(v, 'GUEST_SYSENTER_ESP', NON_CANONICAL)],
    ['SYSENTER_EIP', (v) => set(v, 'GUEST_SYSENTER_EIP', NON_CANONICAL)],
    [
      'a PAT byte of 2',
      (v) => {
        change(v, 'ENTRY_CONTROLS', ENTRY_CONTROL.LOAD_PAT);
        set(v, 'GUEST_PAT', 0x0200n);
      },
    ],
    [
      'an EFER reserved bit',
      (v) => {
        change(v, 'ENTRY_CONTROLS', ENTRY_CONTROL.LOAD_EFER);
        set(v, 'GUEST_EFER', 0x502);
      },
    ],
    [
      'EFER.LMA that is not the entry control',
      (v) => {
        change(v, 'ENTRY_CONTROLS', ENTRY_CONTROL.LOAD_EFER);
        set(v, 'GUEST_EFER', 0x100);
      },
    ],
    [
      'EFER.LME that is not LMA with paging',
      (v) => {
        change(v, 'ENTRY_CONTROLS', ENTRY_CONTROL.LOAD_EFER);
        set(v, 'GUEST_EFER', 0x400);
      },
    ],
  ])('%s', (_name, break_) => {
    expectFailure(break_);
  });
  test('values under controls that are off are not checked', () => {
    expectSuccess((v) => {
      set(v, 'GUEST_PAT', 0x02n);
      set(v, 'GUEST_EFER', 0xffff_ffffn);
      set(v, 'GUEST_DEBUGCTL', 0x20);
      set(v, 'GUEST_DR7', 1n << 32n);
    });
  });
});

describe('descriptor tables, RIP, RFLAGS', () => {
  test.each<[string, Break]>([
    ['GDTR base', (v) => set(v, 'GUEST_GDTR_BASE', NON_CANONICAL)],
    ['IDTR base', (v) => set(v, 'GUEST_IDTR_BASE', NON_CANONICAL)],
    ['GDTR limit', (v) => set(v, 'GUEST_GDTR_LIMIT', 0x1_0000)],
    ['IDTR limit', (v) => set(v, 'GUEST_IDTR_LIMIT', 0x1_0000)],
    ['RIP beyond the linear width', (v) => set(v, 'GUEST_RIP', 1n << 57n)],
    [
      'RIP above 4 GiB outside 64-bit mode',
      (v) => {
        legacy(v);
        set(v, 'GUEST_RIP', 1n << 32n);
      },
    ],
    [
      'RIP above 4 GiB in compatibility mode',
      (v) => {
        set(v, 'GUEST_CS_ACCESS_RIGHTS', 0xc09b);
        set(v, 'GUEST_RIP', 1n << 32n);
      },
    ],
    ['RFLAGS bit 1 clear', (v) => set(v, 'GUEST_RFLAGS', 0)],
    ['RFLAGS bit 3', (v) => set(v, 'GUEST_RFLAGS', 0xa)],
    ['RFLAGS bit 5', (v) => set(v, 'GUEST_RFLAGS', 0x22)],
    ['RFLAGS bit 15', (v) => set(v, 'GUEST_RFLAGS', 0x8002)],
    ['RFLAGS bit 22', (v) => set(v, 'GUEST_RFLAGS', 0x40_0002)],
    ['RFLAGS bit 63', (v) => set(v, 'GUEST_RFLAGS', (1n << 63n) | 2n)],
    ['RFLAGS.VM in IA-32e mode', (v) => set(v, 'GUEST_RFLAGS', VIRTUAL_8086)],
    [
      'RFLAGS.VM in real mode',
      (v) => {
        realMode(v);
        v86(v);
      },
    ],
    ['an interrupt injected with IF clear', (v) => set(v, 'ENTRY_INTERRUPTION_INFO', 0x8000_0020)],
  ])('%s', (_name, break_) => {
    expectFailure(break_);
  });
  test('RIP need not be canonical: the bit below the linear width may differ', () => {
    expectSuccess((v) => set(v, 'GUEST_RIP', NON_CANONICAL));
  });
});
