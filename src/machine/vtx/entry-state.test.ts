import { describe, expect, test } from 'vitest';
import { PIN } from './controls.ts';
import { enter } from './entry.ts';
import { NON_ROOT } from './operation.ts';
import { type Break, expectFailure, expectSuccess, legacy, unrestricted } from './test-entry.ts';
import { change, FREE_PAGE, OTHER_REGION, set, VMCS_REGION, validVmcs } from './test-guest.ts';
import type { Vtx } from './vtx.ts';

describe('non-register state', () => {
  const withInjection = (v: Vtx, info: number): void => {
    set(v, 'GUEST_RFLAGS', 0x202);
    set(v, 'ENTRY_INTERRUPTION_INFO', (0x8000_0000 | info) >>> 0);
  };
  const activity = (v: Vtx, state: number, info?: number): void => {
    set(v, 'GUEST_ACTIVITY', state);
    if (info !== undefined) withInjection(v, info);
  };
  test.each<[string, Break]>([
    ['activity state 4', (v) => activity(v, 4)],
    [
      'HLT at SS.DPL 3',
      (v) => {
        for (const name of ['CS', 'SS', 'DS', 'ES', 'FS', 'GS'] as const)
          change(v, `GUEST_${name}_ACCESS_RIGHTS`, 0x60);
        for (const name of ['CS', 'SS'] as const) change(v, `GUEST_${name}_SELECTOR`, 3);
        activity(v, 1);
      },
    ],
    [
      'HLT with STI blocking',
      (v) => {
        activity(v, 1);
        set(v, 'GUEST_RFLAGS', 0x202);
        set(v, 'GUEST_INTERRUPTIBILITY', 1);
      },
    ],
    ['#GP into HLT', (v) => activity(v, 1, 0xb0d)],
    ['INT n into HLT', (v) => activity(v, 1, 0x480)],
    ['an interrupt into shutdown', (v) => activity(v, 2, 0x020)],
    ['#DB into shutdown', (v) => activity(v, 2, 0x301)],
    ['an NMI into wait-for-SIPI', (v) => activity(v, 3, 0x202)],
    ['interruptibility bit 5', (v) => set(v, 'GUEST_INTERRUPTIBILITY', 0x20)],
    ['SMI blocking', (v) => set(v, 'GUEST_INTERRUPTIBILITY', 4)],
    ['enclave interruption', (v) => set(v, 'GUEST_INTERRUPTIBILITY', 0x10)],
    [
      'blocking by STI and by MOV SS',
      (v) => {
        set(v, 'GUEST_RFLAGS', 0x202);
        set(v, 'GUEST_INTERRUPTIBILITY', 3);
      },
    ],
    ['STI blocking with IF clear', (v) => set(v, 'GUEST_INTERRUPTIBILITY', 1)],
    [
      'an interrupt with STI blocking',
      (v) => {
        withInjection(v, 0x020);
        set(v, 'GUEST_INTERRUPTIBILITY', 1);
      },
    ],
    [
      'an interrupt with MOV SS blocking',
      (v) => {
        withInjection(v, 0x020);
        set(v, 'GUEST_INTERRUPTIBILITY', 2);
      },
    ],
    [
      'an NMI with MOV SS blocking',
      (v) => {
        withInjection(v, 0x202);
        set(v, 'GUEST_INTERRUPTIBILITY', 2);
      },
    ],
    [
      'a virtual NMI with virtual-NMI blocking',
      (v) => {
        change(v, 'PIN_CONTROLS', PIN.NMI_EXITING | PIN.VIRTUAL_NMIS);
        withInjection(v, 0x202);
        set(v, 'GUEST_INTERRUPTIBILITY', 8);
      },
    ],
    ['pending debug exceptions: bit 4', (v) => set(v, 'GUEST_PENDING_DEBUG', 0x10)],
    ['pending debug exceptions: bit 13', (v) => set(v, 'GUEST_PENDING_DEBUG', 0x2000)],
    ['pending debug exceptions: bit 63', (v) => set(v, 'GUEST_PENDING_DEBUG', 1n << 63n)],
    ['pending debug exceptions: RTM', (v) => set(v, 'GUEST_PENDING_DEBUG', 0x1_1000)],
    [
      'MOV SS blocking and TF without BS',
      (v) => {
        set(v, 'GUEST_RFLAGS', 0x102);
        set(v, 'GUEST_INTERRUPTIBILITY', 2);
      },
    ],
    [
      'MOV SS blocking and BS without TF',
      (v) => {
        set(v, 'GUEST_PENDING_DEBUG', 0x4000);
        set(v, 'GUEST_INTERRUPTIBILITY', 2);
      },
    ],
    [
      'HLT and TF without BS',
      (v) => {
        set(v, 'GUEST_RFLAGS', 0x102);
        activity(v, 1);
      },
    ],
    [
      'MOV SS blocking and BS with TF and BTF',
      (v) => {
        set(v, 'GUEST_RFLAGS', 0x102);
        set(v, 'GUEST_DEBUGCTL', 2);
        set(v, 'GUEST_PENDING_DEBUG', 0x4000);
        set(v, 'GUEST_INTERRUPTIBILITY', 2);
      },
    ],
  ])('%s', (_name, break_) => {
    expectFailure(break_);
  });
  test.each<[string, Break]>([
    ['HLT', (v) => activity(v, 1)],
    ['shutdown', (v) => activity(v, 2)],
    ['wait-for-SIPI', (v) => activity(v, 3)],
    [
      'MOV SS blocking, TF and BS',
      (v) => {
        set(v, 'GUEST_RFLAGS', 0x102);
        set(v, 'GUEST_PENDING_DEBUG', 0x4000);
        set(v, 'GUEST_INTERRUPTIBILITY', 2);
      },
    ],
    ['NMI blocking', (v) => set(v, 'GUEST_INTERRUPTIBILITY', 8)],
  ])('legal: %s', (_name, prepare) => {
    expectSuccess(prepare);
  });
});

describe('VMCS link pointer: qualification 4', () => {
  test.each<[string, Break]>([
    ['alignment', (v) => set(v, 'VMCS_LINK_POINTER', OTHER_REGION + 8)],
    ['physical-address width', (v) => set(v, 'VMCS_LINK_POINTER', 1n << 52n)],
    ['revision', (v) => set(v, 'VMCS_LINK_POINTER', 0x7000)],
    [
      'shadow VMCS without VMCS shadowing',
      (v) => {
        const { memory } = v.p.machine;
        memory.write32(OTHER_REGION, (memory.read32(OTHER_REGION) | 0x8000_0000) >>> 0);
        set(v, 'VMCS_LINK_POINTER', OTHER_REGION);
      },
    ],
    ['the current VMCS', (v) => set(v, 'VMCS_LINK_POINTER', VMCS_REGION)],
  ])('%s', (_name, break_) => {
    expectFailure(break_, 4n);
  });
  test('another VMCS is legal', () => {
    expectSuccess((v) => set(v, 'VMCS_LINK_POINTER', OTHER_REGION));
  });
});

describe('PDPTEs: qualification 2', () => {
  const pae = (v: Vtx): void => {
    legacy(v);
    change(v, 'GUEST_CR4', 0x20);
    set(v, 'GUEST_CR3', FREE_PAGE + 0x20);
  };
  test.each([0x3n, 0x5n, 0x21n, 0x41n, 0x81n, 0x101n, (1n << 52n) | 1n, (1n << 63n) | 1n])('%i in memory', (entry) => {
    expectFailure((v) => {
      pae(v);
      v.p.machine.memory.write64(FREE_PAGE + 0x20 + 16, entry);
    }, 2n);
  });
  test.each([0x3n, (1n << 52n) | 1n])('%i in the VMCS, with EPT', (entry) => {
    expectFailure((v) => {
      pae(v);
      unrestricted(v);
      set(v, 'GUEST_PDPTE3', entry);
    }, 2n);
  });
  test('an entry that is not present may be anything, and valid ones are loaded', () => {
    const v = validVmcs();
    pae(v);
    v.p.machine.memory.write64(FREE_PAGE + 0x20, 0x5001n);
    v.p.machine.memory.write64(FREE_PAGE + 0x28, 0xffff_ffff_ffff_fffen);
    enter(v, true, true);
    expect(v.operation).toBe(NON_ROOT);
    expect(v.p.pdpte).toEqual([0x5001n, 0xffff_ffff_ffff_fffen, 0n, 0n]);
  });
});
