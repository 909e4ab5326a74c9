import { describe, expect, test } from 'vitest';
import { ENTRY_CONTROL, PIN, PRIMARY, SECONDARY } from './controls.ts';
import { enter } from './entry.ts';
import type { FieldName } from './field-slots.ts';
import { NON_ROOT, ROOT, VM_SUCCEED } from './operation.ts';
import { change, FREE_PAGE, get, HOST_RIP, OTHER_REGION, set, VMCS_REGION, validVmcs } from './test-guest.ts';
import type { Vtx } from './vtx.ts';

type Break = (v: Vtx) => void;

const NON_CANONICAL = 0x8000_0000_0000n;
const VIRTUAL_8086 = 0x2_0002;

const expectFailure = (break_: Break, qualification = 0n): void => {
  const v = validVmcs();
  break_(v);
  expect(enter(v, true, true)).toBe(VM_SUCCEED);
  expect(v.operation).toBe(ROOT);
  expect(get(v, 'EXIT_REASON')).toBe(0x8000_0021n);
  expect(get(v, 'EXIT_QUALIFICATION')).toBe(qualification);
  expect(v.p.rip).toBe(HOST_RIP);
  expect(v.current!.launched).toBe(false);
};
const expectSuccess = (prepare: Break): void => {
  const v = validVmcs();
  prepare(v);
  expect(enter(v, true, true)).toBe(VM_SUCCEED);
  expect(v.operation).toBe(NON_ROOT);
};

/** Unrestricted guest under EPT. */
const unrestricted = (v: Vtx): void => {
  change(v, 'PRIMARY_CONTROLS', PRIMARY.SECONDARY);
  set(v, 'SECONDARY_CONTROLS', SECONDARY.EPT | SECONDARY.UNRESTRICTED_GUEST);
  set(v, 'EPT_POINTER', FREE_PAGE | 0x1e);
};
/** 32-bit protected mode without paging extensions. */
const legacy = (v: Vtx): void => {
  change(v, 'ENTRY_CONTROLS', 0, ENTRY_CONTROL.IA32E_GUEST);
  set(v, 'GUEST_CS_ACCESS_RIGHTS', 0xc09b);
  set(v, 'GUEST_CR4', 0x2000);
};
const realMode = (v: Vtx): void => {
  unrestricted(v);
  legacy(v);
  set(v, 'GUEST_CR0', 0x30);
};
const SEGMENTS = ['ES', 'CS', 'SS', 'DS', 'FS', 'GS'] as const;
const v86 = (v: Vtx): void => {
  legacy(v);
  set(v, 'GUEST_RFLAGS', VIRTUAL_8086);
  for (const name of SEGMENTS) {
    set(v, `GUEST_${name}_SELECTOR`, 0x1234);
    set(v, `GUEST_${name}_BASE`, 0x1_2340);
    set(v, `GUEST_${name}_LIMIT`, 0xffff);
    set(v, `GUEST_${name}_ACCESS_RIGHTS`, 0xf3);
  }
};

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

describe('segment registers', () => {
  test.each<[string, Break]>([
    ['TR with TI', (v) => set(v, 'GUEST_TR_SELECTOR', 0x44)],
    [
      'a usable LDTR with TI',
      (v) => {
        set(v, 'GUEST_LDTR_ACCESS_RIGHTS', 0x82);
        set(v, 'GUEST_LDTR_SELECTOR', 4);
      },
    ],
    [
      'SS.RPL that is not CS.RPL',
      (v) => {
        set(v, 'GUEST_CS_SELECTOR', 0x13);
      },
    ],
    ['TR base not canonical', (v) => set(v, 'GUEST_TR_BASE', NON_CANONICAL)],
    ['FS base not canonical', (v) => set(v, 'GUEST_FS_BASE', NON_CANONICAL)],
    ['GS base not canonical', (v) => set(v, 'GUEST_GS_BASE', NON_CANONICAL)],
    [
      'LDTR base not canonical',
      (v) => {
        set(v, 'GUEST_LDTR_ACCESS_RIGHTS', 0x82);
        set(v, 'GUEST_LDTR_BASE', NON_CANONICAL);
      },
    ],
    ['CS base above 4 GiB', (v) => set(v, 'GUEST_CS_BASE', 1n << 32n)],
    ['SS base above 4 GiB', (v) => set(v, 'GUEST_SS_BASE', 1n << 32n)],
    ['DS base above 4 GiB', (v) => set(v, 'GUEST_DS_BASE', 1n << 32n)],
    ['ES base above 4 GiB', (v) => set(v, 'GUEST_ES_BASE', 1n << 32n)],
    ['CS of type data', (v) => set(v, 'GUEST_CS_ACCESS_RIGHTS', 0xa093)],
    ['CS not accessed', (v) => set(v, 'GUEST_CS_ACCESS_RIGHTS', 0xa09a)],
    ['CS.S clear', (v) => change(v, 'GUEST_CS_ACCESS_RIGHTS', 0, 0x10)],
    ['CS.P clear', (v) => change(v, 'GUEST_CS_ACCESS_RIGHTS', 0, 0x80)],
    ['CS.DPL above SS.DPL', (v) => change(v, 'GUEST_CS_ACCESS_RIGHTS', 0x60)],
    ['conforming CS with DPL above SS.DPL', (v) => set(v, 'GUEST_CS_ACCESS_RIGHTS', 0xa0ff)],
    ['CS reserved bits 11:8', (v) => change(v, 'GUEST_CS_ACCESS_RIGHTS', 0x100)],
    ['CS reserved bits 31:17', (v) => change(v, 'GUEST_CS_ACCESS_RIGHTS', 0x2_0000)],
    ['CS.L and CS.D', (v) => change(v, 'GUEST_CS_ACCESS_RIGHTS', 0x4000)],
    ['CS.G set with limit bits 11:0 not all 1', (v) => set(v, 'GUEST_CS_LIMIT', 0xffff_fffe)],
    [
      'CS.G clear with limit bits 31:20',
      (v) => {
        change(v, 'GUEST_CS_ACCESS_RIGHTS', 0, 0x8000);
        set(v, 'GUEST_CS_LIMIT', 0x10_0000);
      },
    ],
    ['SS of type code', (v) => set(v, 'GUEST_SS_ACCESS_RIGHTS', 0xc09b)],
    ['SS read-only', (v) => set(v, 'GUEST_SS_ACCESS_RIGHTS', 0xc091)],
    [
      'SS.DPL that is not SS.RPL',
      (v) => {
        change(v, 'GUEST_SS_ACCESS_RIGHTS', 0x60);
        change(v, 'GUEST_CS_ACCESS_RIGHTS', 0x60);
      },
    ],
    ['SS.DPL of an unusable SS', (v) => set(v, 'GUEST_SS_ACCESS_RIGHTS', 0x1_0060)],
    ['SS.S clear', (v) => change(v, 'GUEST_SS_ACCESS_RIGHTS', 0, 0x10)],
    ['SS.P clear', (v) => change(v, 'GUEST_SS_ACCESS_RIGHTS', 0, 0x80)],
    ['SS.G', (v) => set(v, 'GUEST_SS_LIMIT', 0xffff_0000)],
    ['DS not accessed', (v) => set(v, 'GUEST_DS_ACCESS_RIGHTS', 0xc092)],
    ['DS of execute-only code', (v) => set(v, 'GUEST_DS_ACCESS_RIGHTS', 0xc099)],
    ['DS.DPL below RPL', (v) => set(v, 'GUEST_DS_SELECTOR', 0x1b)],
    ['DS.S clear', (v) => change(v, 'GUEST_DS_ACCESS_RIGHTS', 0, 0x10)],
    ['ES.P clear', (v) => change(v, 'GUEST_ES_ACCESS_RIGHTS', 0, 0x80)],
    ['FS reserved bits', (v) => change(v, 'GUEST_FS_ACCESS_RIGHTS', 0x800)],
    ['GS.G', (v) => set(v, 'GUEST_GS_LIMIT', 0x1000)],
    ['TR unusable', (v) => change(v, 'GUEST_TR_ACCESS_RIGHTS', 0x1_0000)],
    ['TR available', (v) => set(v, 'GUEST_TR_ACCESS_RIGHTS', 0x89)],
    ['TR of 16 bits in IA-32e mode', (v) => set(v, 'GUEST_TR_ACCESS_RIGHTS', 0x83)],
    ['TR.S', (v) => change(v, 'GUEST_TR_ACCESS_RIGHTS', 0x10)],
    ['TR.P', (v) => change(v, 'GUEST_TR_ACCESS_RIGHTS', 0, 0x80)],
    ['TR reserved', (v) => change(v, 'GUEST_TR_ACCESS_RIGHTS', 0x200)],
    ['TR.G', (v) => set(v, 'GUEST_TR_LIMIT', 0x10_0000)],
    ['LDTR of another type', (v) => set(v, 'GUEST_LDTR_ACCESS_RIGHTS', 0x83)],
    ['LDTR.S', (v) => set(v, 'GUEST_LDTR_ACCESS_RIGHTS', 0x92)],
    ['LDTR.P', (v) => set(v, 'GUEST_LDTR_ACCESS_RIGHTS', 0x02)],
    [
      'LDTR.G',
      (v) => {
        set(v, 'GUEST_LDTR_ACCESS_RIGHTS', 0x82);
        set(v, 'GUEST_LDTR_LIMIT', 0x10_0000);
      },
    ],
    ['CS of type 3 without unrestricted guest', (v) => set(v, 'GUEST_CS_ACCESS_RIGHTS', 0x93)],
    [
      'CS of type 3 with DPL 3',
      (v) => {
        realMode(v);
        set(v, 'GUEST_CS_ACCESS_RIGHTS', 0xf3);
      },
    ],
    [
      'SS.DPL 3 in real mode',
      (v) => {
        realMode(v);
        change(v, 'GUEST_SS_ACCESS_RIGHTS', 0x60);
        change(v, 'GUEST_CS_ACCESS_RIGHTS', 0x60);
      },
    ],
  ])('%s', (_name, break_) => {
    expectFailure(break_);
  });

  test.each<[string, Break]>([
    [
      'unusable data segments with anything in them',
      (v) => {
        for (const name of ['DS', 'ES', 'FS', 'GS'] as const) {
          set(v, `GUEST_${name}_ACCESS_RIGHTS`, 0x1_0fff);
          set(v, `GUEST_${name}_LIMIT`, 0x1234_5678);
        }
        set(v, 'GUEST_DS_BASE', 1n << 40n);
      },
    ],
    [
      'a 16-bit busy TSS outside IA-32e mode',
      (v) => {
        legacy(v);
        set(v, 'GUEST_TR_ACCESS_RIGHTS', 0x83);
      },
    ],
    [
      'real mode with CS of type 3',
      (v) => {
        realMode(v);
        set(v, 'GUEST_CS_ACCESS_RIGHTS', 0x93);
        set(v, 'GUEST_CS_LIMIT', 0xffff);
      },
    ],
    [
      'RPLs that do not fit in an unrestricted guest',
      (v) => {
        unrestricted(v);
        set(v, 'GUEST_DS_SELECTOR', 0x1b);
        set(v, 'GUEST_SS_SELECTOR', 0x1b);
      },
    ],
    ['virtual-8086 mode', v86],
  ])('legal: %s', (_name, prepare) => {
    expectSuccess(prepare);
  });

  test.each(SEGMENTS)('virtual-8086 mode fixes base, limit and rights of %s', (name) => {
    for (const [field, value] of [
      ['BASE', 0x1_2341],
      ['LIMIT', 0xfffe],
      ['ACCESS_RIGHTS', 0x93],
    ] as const) {
      expectFailure((v) => {
        v86(v);
        set(v, `GUEST_${name}_${field}` as FieldName, value);
      });
    }
  });
});

describe('descriptor tables, RIP, RFLAGS', () => {
  test.each<[string, Break]>([
    ['GDTR base', (v) => set(v, 'GUEST_GDTR_BASE', NON_CANONICAL)],
    ['IDTR base', (v) => set(v, 'GUEST_IDTR_BASE', NON_CANONICAL)],
    ['GDTR limit', (v) => set(v, 'GUEST_GDTR_LIMIT', 0x1_0000)],
    ['IDTR limit', (v) => set(v, 'GUEST_IDTR_LIMIT', 0x1_0000)],
    ['RIP beyond the linear width', (v) => set(v, 'GUEST_RIP', 1n << 48n)],
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
