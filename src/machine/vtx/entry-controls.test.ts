import { describe, expect, test } from 'vitest';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from './controls.ts';
import { enter } from './entry.ts';
import type { FieldName } from './field-slots.ts';
import { NON_ROOT, VM_FAIL_VALID, VM_SUCCEED } from './operation.ts';
import { change, FREE_PAGE, failure, set, validVmcs } from './test-guest.ts';
import type { Vtx } from './vtx.ts';

const UNALIGNED = FREE_PAGE + 8;
const TOO_HIGH = 1n << 52n;
const EPTP = FREE_PAGE | 0x1e;

const secondary = (v: Vtx, bits: number): void => {
  change(v, 'PRIMARY_CONTROLS', PRIMARY.SECONDARY);
  set(v, 'SECONDARY_CONTROLS', bits);
};
const ept = (v: Vtx, bits = 0): void => {
  secondary(v, SECONDARY.EPT | bits);
  set(v, 'EPT_POINTER', EPTP);
};
const inject = (v: Vtx, info: number): void => set(v, 'ENTRY_INTERRUPTION_INFO', (0x8000_0000 | info) >>> 0);

type Break = (v: Vtx) => void;

const expectFailure = (break_: Break): void => {
  const v = validVmcs();
  break_(v);
  expect(enter(v, true, true)).toBe(VM_FAIL_VALID);
  expect(failure(v)).toBe(7);
  expect(v.current!.launched).toBe(false);
};
const expectSuccess = (prepare: Break): void => {
  const v = validVmcs();
  prepare(v);
  expect(enter(v, true, true)).toBe(VM_SUCCEED);
  expect(v.operation).toBe(NON_ROOT);
};

test('the valid VMCS enters', () => {
  expectSuccess(() => {});
});

describe('control words', () => {
  test.each<[string, Break]>([
    ['a pin control that must be 1 is 0', (v) => change(v, 'PIN_CONTROLS', 0, 0x10)],
    ['a pin control that must be 0 is 1', (v) => change(v, 'PIN_CONTROLS', 0x100)],
    ['a primary control that must be 1 is 0', (v) => change(v, 'PRIMARY_CONTROLS', 0, 2)],
    ['a primary control that must be 0 is 1', (v) => change(v, 'PRIMARY_CONTROLS', 1)],
    [
      'a tertiary control that must be 0 is 1',
      (v) => {
        change(v, 'PRIMARY_CONTROLS', PRIMARY.TERTIARY);
        set(v, 'TERTIARY_CONTROLS', 0x20);
      },
    ],
    [
      'a tertiary control above bit 31',
      (v) => {
        change(v, 'PRIMARY_CONTROLS', PRIMARY.TERTIARY);
        set(v, 'TERTIARY_CONTROLS', 1n << 32n);
      },
    ],
    ['a secondary control that must be 0 is 1', (v) => secondary(v, SECONDARY.VMCS_SHADOWING)],
    ['an exit control that must be 1 is 0', (v) => change(v, 'EXIT_CONTROLS', 0, 1)],
    ['an exit control that must be 0 is 1', (v) => change(v, 'EXIT_CONTROLS', 0x1000)],
    ['an entry control that must be 1 is 0', (v) => change(v, 'ENTRY_CONTROLS', 0, 1)],
    ['entry to SMM outside SMM', (v) => change(v, 'ENTRY_CONTROLS', ENTRY_CONTROL.ENTRY_TO_SMM)],
    [
      'deactivate dual-monitor treatment outside SMM',
      (v) => change(v, 'ENTRY_CONTROLS', ENTRY_CONTROL.DEACTIVATE_DUAL_MONITOR),
    ],
  ])('%s', (_name, break_) => {
    expectFailure(break_);
  });
  test('secondary controls that are not activated are not checked', () => {
    expectSuccess((v) => set(v, 'SECONDARY_CONTROLS', 0xffff_ffff));
  });
});

describe('pin and primary controls', () => {
  test.each<[string, Break]>([
    ['five CR3 targets', (v) => set(v, 'CR3_TARGET_COUNT', 5)],
    ['virtual NMIs without NMI exiting', (v) => change(v, 'PIN_CONTROLS', PIN.VIRTUAL_NMIS)],
    ['NMI window without virtual NMIs', (v) => change(v, 'PRIMARY_CONTROLS', PRIMARY.NMI_WINDOW)],
    [
      'save the preemption timer without activating it',
      (v) => change(v, 'EXIT_CONTROLS', EXIT_CONTROL.SAVE_PREEMPTION_TIMER),
    ],
  ])('%s', (_name, break_) => {
    expectFailure(break_);
  });

  test.each<[FieldName, number]>([
    ['IO_BITMAP_A', PRIMARY.IO_BITMAPS],
    ['IO_BITMAP_B', PRIMARY.IO_BITMAPS],
    ['MSR_BITMAP', PRIMARY.MSR_BITMAPS],
    ['VIRTUAL_APIC_ADDRESS', PRIMARY.TPR_SHADOW],
  ])('%s: alignment, physical-address width', (field, control) => {
    const on = (v: Vtx): void => change(v, 'PRIMARY_CONTROLS', control);
    for (const bad of [UNALIGNED, TOO_HIGH]) {
      expectFailure((v) => {
        on(v);
        set(v, field, bad);
      });
    }
    expectSuccess((v) => {
      on(v);
      set(v, field, FREE_PAGE);
    });
    expectSuccess((v) => set(v, field, UNALIGNED));
  });

  const shadow = (v: Vtx, threshold: number, vtpr: number): void => {
    change(v, 'PRIMARY_CONTROLS', PRIMARY.TPR_SHADOW);
    set(v, 'VIRTUAL_APIC_ADDRESS', FREE_PAGE);
    set(v, 'TPR_THRESHOLD', threshold);
    v.p.machine.memory.write8(FREE_PAGE + 0x80, vtpr);
  };
  test('TPR threshold bits 31:4', () => {
    expectFailure((v) => shadow(v, 0x10, 0xff));
  });
  test('TPR threshold above VTPR bits 7:4', () => {
    expectFailure((v) => shadow(v, 5, 0x4f));
    expectSuccess((v) => shadow(v, 5, 0x50));
  });
  test('the virtual TPR is looked at in each entry', () => {
    const v = validVmcs();
    shadow(v, 5, 0x50);
    expect(enter(v, true, true)).toBe(VM_SUCCEED);
    v.externalInterruptExit(-1);
    v.takeVmExit();
    v.p.machine.memory.write8(FREE_PAGE + 0x80, 0x40);
    expect(enter(v, false, true)).toBe(VM_FAIL_VALID);
    expect(failure(v)).toBe(7);
  });
});

describe('APIC virtualization', () => {
  const APICV =
    SECONDARY.VIRTUALIZE_X2APIC | SECONDARY.APIC_REGISTER_VIRTUALIZATION | SECONDARY.VIRTUAL_INTERRUPT_DELIVERY;
  /** Everything on, and valid. */
  const apicv = (v: Vtx, bits: number = APICV): void => {
    secondary(v, bits);
    change(v, 'PRIMARY_CONTROLS', PRIMARY.TPR_SHADOW);
    set(v, 'VIRTUAL_APIC_ADDRESS', FREE_PAGE);
    set(v, 'APIC_ACCESS_ADDRESS', FREE_PAGE + 0x1000);
    change(v, 'PIN_CONTROLS', PIN.EXTERNAL_INTERRUPT_EXITING | PIN.POSTED_INTERRUPTS);
    change(v, 'EXIT_CONTROLS', EXIT_CONTROL.ACKNOWLEDGE_INTERRUPT);
    set(v, 'POSTED_INTERRUPT_NOTIFICATION_VECTOR', 0xf2);
    set(v, 'POSTED_INTERRUPT_DESCRIPTOR_ADDRESS', FREE_PAGE + 0x2040);
  };
  test('everything on is valid, and the APIC-access page instead of x2APIC mode', () => {
    expectSuccess(apicv);
    expectSuccess((v) => apicv(v, (APICV & ~SECONDARY.VIRTUALIZE_X2APIC) | SECONDARY.VIRTUALIZE_APIC_ACCESSES));
  });
  test.each([
    ['virtualize x2APIC mode', SECONDARY.VIRTUALIZE_X2APIC],
    ['APIC-register virtualization', SECONDARY.APIC_REGISTER_VIRTUALIZATION],
    ['virtual-interrupt delivery', SECONDARY.VIRTUAL_INTERRUPT_DELIVERY],
  ])('%s needs the TPR shadow', (_name, bit) => {
    expectFailure((v) => {
      secondary(v, bit);
      change(v, 'PIN_CONTROLS', PIN.EXTERNAL_INTERRUPT_EXITING);
    });
  });
  test.each<[string, Break]>([
    ['x2APIC mode together with the APIC-access page', (v) => apicv(v, APICV | SECONDARY.VIRTUALIZE_APIC_ACCESSES)],
    [
      'virtual-interrupt delivery without external-interrupt exiting',
      (v) => {
        apicv(v);
        change(v, 'PIN_CONTROLS', 0, PIN.EXTERNAL_INTERRUPT_EXITING | PIN.POSTED_INTERRUPTS);
      },
    ],
    [
      'posted interrupts without virtual-interrupt delivery',
      (v) => apicv(v, APICV & ~SECONDARY.VIRTUAL_INTERRUPT_DELIVERY),
    ],
    [
      'posted interrupts without acknowledging on exit',
      (v) => {
        apicv(v);
        change(v, 'EXIT_CONTROLS', 0, EXIT_CONTROL.ACKNOWLEDGE_INTERRUPT);
      },
    ],
    [
      'a notification vector above FFh',
      (v) => {
        apicv(v);
        set(v, 'POSTED_INTERRUPT_NOTIFICATION_VECTOR', 0x1f2);
      },
    ],
    [
      'a descriptor that is not aligned to 64 bytes',
      (v) => {
        apicv(v);
        set(v, 'POSTED_INTERRUPT_DESCRIPTOR_ADDRESS', FREE_PAGE + 0x20);
      },
    ],
    [
      'a descriptor beyond the physical-address width',
      (v) => {
        apicv(v);
        set(v, 'POSTED_INTERRUPT_DESCRIPTOR_ADDRESS', TOO_HIGH);
      },
    ],
  ])('%s', (_name, break_) => {
    expectFailure(break_);
  });
  test('the APIC-access address: alignment, physical-address width', () => {
    for (const bad of [UNALIGNED, TOO_HIGH]) {
      expectFailure((v) => {
        secondary(v, SECONDARY.VIRTUALIZE_APIC_ACCESSES);
        set(v, 'APIC_ACCESS_ADDRESS', bad);
      });
    }
    expectSuccess((v) => secondary(v, SECONDARY.VIRTUALIZE_APIC_ACCESSES));
  });
  test('with virtual-interrupt delivery the TPR threshold is not checked', () => {
    expectSuccess((v) => {
      apicv(v);
      set(v, 'TPR_THRESHOLD', 0x1f);
    });
  });
  test('with virtualized APIC accesses a TPR below its threshold does not stop the entry, reserved bits do', () => {
    const accesses = (v: Vtx, threshold: number): void => {
      secondary(v, SECONDARY.VIRTUALIZE_APIC_ACCESSES);
      change(v, 'PRIMARY_CONTROLS', PRIMARY.TPR_SHADOW);
      set(v, 'VIRTUAL_APIC_ADDRESS', FREE_PAGE);
      set(v, 'TPR_THRESHOLD', threshold);
    };
    expectSuccess((v) => accesses(v, 5));
    expectFailure((v) => accesses(v, 0x15));
  });
  const ipis = (v: Vtx): void => {
    apicv(v);
    change(v, 'PRIMARY_CONTROLS', PRIMARY.TERTIARY);
    set(v, 'TERTIARY_CONTROLS', 0x10);
    set(v, 'PID_POINTER_TABLE', FREE_PAGE + 8);
    set(v, 'LAST_PID_POINTER_INDEX', 0xffff);
  };
  test('IPI virtualization: the TPR shadow, the table’s alignment and physical-address width, to its last entry', () => {
    expectSuccess(ipis);
    expectFailure((v) => {
      ipis(v);
      set(v, 'SECONDARY_CONTROLS', 0);
      change(v, 'PIN_CONTROLS', 0, PIN.POSTED_INTERRUPTS);
      change(v, 'PRIMARY_CONTROLS', 0, PRIMARY.TPR_SHADOW);
    });
    for (const bad of [FREE_PAGE + 4, TOO_HIGH, TOO_HIGH - 8n]) {
      expectFailure((v) => {
        ipis(v);
        set(v, 'PID_POINTER_TABLE', bad);
      });
    }
    expectSuccess((v) => {
      ipis(v);
      set(v, 'PID_POINTER_TABLE', TOO_HIGH - 16n);
      set(v, 'LAST_PID_POINTER_INDEX', 1);
    });
  });
  test('virtualization exceptions: the information address', () => {
    for (const bad of [UNALIGNED, TOO_HIGH]) {
      expectFailure((v) => {
        ept(v, SECONDARY.EPT_VIOLATION_VE);
        set(v, 'VE_INFORMATION_ADDRESS', bad);
      });
    }
    expectSuccess((v) => ept(v, SECONDARY.EPT_VIOLATION_VE));
  });
});

describe('secondary controls', () => {
  test.each<[string, Break]>([
    ['VPID 0', (v) => secondary(v, SECONDARY.VPID)],
    ['unrestricted guest without EPT', (v) => secondary(v, SECONDARY.UNRESTRICTED_GUEST)],
    ['PML without EPT', (v) => secondary(v, SECONDARY.PML)],
    ['TSC multiplier 0', (v) => secondary(v, SECONDARY.TSC_SCALING)],
    [
      'an unknown VM function',
      (v) => {
        secondary(v, SECONDARY.VM_FUNCTIONS);
        set(v, 'VM_FUNCTION_CONTROLS', 2);
      },
    ],
    [
      'an unknown VM function above bit 31',
      (v) => {
        secondary(v, SECONDARY.VM_FUNCTIONS);
        set(v, 'VM_FUNCTION_CONTROLS', 1n << 40n);
      },
    ],
    [
      'EPTP switching without EPT',
      (v) => {
        secondary(v, SECONDARY.VM_FUNCTIONS);
        set(v, 'VM_FUNCTION_CONTROLS', 1);
      },
    ],
  ])('%s', (_name, break_) => {
    expectFailure(break_);
  });

  test.each<[string, number | bigint]>([
    ['memory type 1', FREE_PAGE | 0x19],
    ['memory type 7', FREE_PAGE | 0x1f],
    ['five levels', FREE_PAGE | 0x26],
    ['three levels', FREE_PAGE | 0x16],
    ['bit 7', EPTP | 0x80],
    ['bit 11', EPTP | 0x800],
    ['an address beyond the width', TOO_HIGH | BigInt(0x1e)],
  ])('EPTP with %s', (_name, eptp) => {
    expectFailure((v) => {
      ept(v);
      set(v, 'EPT_POINTER', eptp);
    });
  });
  test.each<[string, number]>([
    ['write-back', EPTP],
    ['uncacheable', FREE_PAGE | 0x18],
    ['accessed and dirty flags', EPTP | 0x40],
  ])('EPTP with %s is valid', (_name, eptp) => {
    expectSuccess((v) => {
      ept(v);
      set(v, 'EPT_POINTER', eptp);
    });
  });
  test.each([UNALIGNED, TOO_HIGH])('PML address %i', (address) => {
    expectFailure((v) => {
      ept(v, SECONDARY.PML);
      set(v, 'PML_ADDRESS', address);
    });
  });
  test.each([UNALIGNED, TOO_HIGH])('EPTP list address %i', (address) => {
    expectFailure((v) => {
      ept(v, SECONDARY.VM_FUNCTIONS);
      set(v, 'VM_FUNCTION_CONTROLS', 1);
      set(v, 'EPTP_LIST_ADDRESS', address);
    });
  });
  test('everything together', () => {
    expectSuccess((v) => {
      ept(
        v,
        SECONDARY.VPID | SECONDARY.UNRESTRICTED_GUEST | SECONDARY.PML | SECONDARY.TSC_SCALING | SECONDARY.VM_FUNCTIONS,
      );
      set(v, 'VPID', 1);
      set(v, 'PML_ADDRESS', FREE_PAGE);
      set(v, 'TSC_MULTIPLIER', 1n << 48n);
    });
  });
});

describe('MSR lists', () => {
  const lists: [FieldName, FieldName][] = [
    ['EXIT_MSR_STORE_COUNT', 'EXIT_MSR_STORE_ADDRESS'],
    ['EXIT_MSR_LOAD_COUNT', 'EXIT_MSR_LOAD_ADDRESS'],
    ['ENTRY_MSR_LOAD_COUNT', 'ENTRY_MSR_LOAD_ADDRESS'],
  ];
  test.each(lists)('%s: alignment, width, end of the list, length', (count, address) => {
    const list = (v: Vtx, n: number, at: number | bigint): void => {
      set(v, count, n);
      set(v, address, at);
    };
    expectFailure((v) => list(v, 1, UNALIGNED));
    expectFailure((v) => list(v, 1, TOO_HIGH));
    expectFailure((v) => list(v, 2, TOO_HIGH - 16n));
    expectFailure((v) => list(v, 513, FREE_PAGE));
    expectSuccess((v) => list(v, 0, UNALIGNED));
  });
});

describe('event injection', () => {
  test.each<[string, Break]>([
    ['type 1', (v) => inject(v, 0x100)],
    ['an NMI with another vector', (v) => inject(v, 0x203)],
    ['a hardware exception with vector 32', (v) => inject(v, 0x320)],
    ['type 7 with a vector', (v) => inject(v, 0x701)],
    ['#GP without error code', (v) => inject(v, 0x30d)],
    ['#UD with error code', (v) => inject(v, 0xb06)],
    ['an interrupt with error code', (v) => inject(v, 0x820)],
    ['a reserved bit', (v) => inject(v, 0x1306)],
    [
      'error code bits 31:16',
      (v) => {
        inject(v, 0xb0d);
        set(v, 'ENTRY_EXCEPTION_ERROR_CODE', 0x1_0000);
      },
    ],
    [
      'INT n of 16 bytes',
      (v) => {
        inject(v, 0x480);
        set(v, 'ENTRY_INSTRUCTION_LENGTH', 16);
      },
    ],
    [
      'INT3 of 16 bytes',
      (v) => {
        inject(v, 0x603);
        set(v, 'ENTRY_INSTRUCTION_LENGTH', 16);
      },
    ],
    [
      'an error code into real mode',
      (v) => {
        ept(v, SECONDARY.UNRESTRICTED_GUEST);
        change(v, 'ENTRY_CONTROLS', 0, ENTRY_CONTROL.IA32E_GUEST);
        change(v, 'GUEST_CR0', 0, 0x8000_0001);
        inject(v, 0xb0d);
      },
    ],
  ])('%s', (_name, break_) => {
    expectFailure(break_);
  });
  test('what is not valid (bit 31) is not checked', () => {
    expectSuccess((v) => set(v, 'ENTRY_INTERRUPTION_INFO', 0x7fff_ffff));
  });
});
