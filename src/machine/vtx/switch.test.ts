import { describe, expect, test } from 'vitest';
import { CS, DS, FS, GS, LSTAR, SS, STAR } from '../engine/layout.ts';
import { ACTIVE, AR_UNUSABLE, EFER_LMA, EFER_LME, HLT, plainSegment, plainTable, SHUTDOWN } from '../processor.ts';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from './controls.ts';
import { enter } from './entry.ts';
import { NON_ROOT, ROOT, VM_SUCCEED } from './operation.ts';
import { REASON } from './reasons.ts';
import { change, FREE_PAGE, get, HOST_RIP, HOST_RSP, set, VMCS_REGION, validVmcs } from './test-guest.ts';
import type { Vtx } from './vtx.ts';

const EFER = 0xc000_0080;

/** Enters without running. */
function entered(prepare: (v: Vtx) => void = () => {}): Vtx {
  const v = validVmcs();
  prepare(v);
  expect(enter(v, true, true)).toBe(VM_SUCCEED);
  expect(v.operation).toBe(NON_ROOT);
  return v;
}

/** An exit as by an external interrupt. */
function leave(v: Vtx): void {
  v.externalInterruptExit(-1);
  v.takeVmExit();
}

describe('entry loads the guest-state area', () => {
  test('control registers, with the host’s CD and NW', () => {
    const v = entered((w) => {
      set(w, 'GUEST_CR0', 0xe005_0033);
      set(w, 'GUEST_CR3', 0x1_2345_6000n);
      set(w, 'GUEST_CR4', 0x2620);
    });
    expect(v.p.cr0).toBe(0x8005_0033);
    expect(v.p.cr3).toBe(0x1_2345_6000n);
    expect(v.p.cr4).toBe(0x2620);
  });
  test('segments, descriptor tables, RSP, RIP, RFLAGS, SYSENTER MSRs', () => {
    const { p } = entered((v) => {
      set(v, 'GUEST_CS_SELECTOR', 0x33);
      set(v, 'GUEST_SS_SELECTOR', 0x2b);
      for (const name of ['CS', 'SS', 'DS', 'ES', 'FS', 'GS'] as const) change(v, `GUEST_${name}_ACCESS_RIGHTS`, 0x60);
      set(v, 'GUEST_FS_BASE', 0x7fff_1234_5678n);
      set(v, 'GUEST_GS_BASE', 0xffff_8000_0000_0000n);
      set(v, 'GUEST_GDTR_BASE', 0xffff_8000_0000_1000n);
      set(v, 'GUEST_GDTR_LIMIT', 0x7f);
      set(v, 'GUEST_IDTR_BASE', 0x1000);
      set(v, 'GUEST_TR_BASE', 0x2000);
      set(v, 'GUEST_RFLAGS', 0x246);
      set(v, 'GUEST_SYSENTER_CS', 0x10);
      set(v, 'GUEST_SYSENTER_ESP', 0x1111n);
      set(v, 'GUEST_SYSENTER_EIP', 0x2222n);
    });
    expect(p.segments[CS]).toEqual({ selector: 0x33, base: 0n, limit: 0xffff_ffff, attributes: 0xa0fb });
    expect(p.segments[FS]!.base).toBe(0x7fff_1234_5678n);
    expect(p.segments[GS]!.base).toBe(0xffff_8000_0000_0000n);
    expect(p.cpl).toBe(3);
    expect(plainTable(p.gdtr)).toEqual({ base: 0xffff_8000_0000_1000n, limit: 0x7f });
    expect(plainTable(p.idtr)).toEqual({ base: 0x1000n, limit: 0xffff });
    expect(plainSegment(p.tr)).toEqual({ selector: 0x40, base: 0x2000n, limit: 0x67, attributes: 0x8b });
    expect(p.ldtr.attributes).toBe(AR_UNUSABLE);
    expect([p.rip, p.gpr(4), p.rflags]).toEqual([0x1000n, 0x9000n, 0x246]);
    expect([0x174, 0x175, 0x176].map((index) => p.msrs.get(index))).toEqual([0x10n, 0x1111n, 0x2222n]);
  });
  test('an unusable SS keeps DPL and becomes 32 bits wide', () => {
    const { p } = entered((v) => {
      set(v, 'GUEST_SS_ACCESS_RIGHTS', AR_UNUSABLE);
      set(v, 'GUEST_SS_BASE', 0x1234n);
    });
    expect(p.segments[SS]).toMatchObject({ base: 0x1230n, attributes: AR_UNUSABLE | 0x4000 });
    expect(p.cpl).toBe(0);
  });
  test('EFER: LMA and LME follow the entry control, or the field is loaded', () => {
    const compatible = entered((v) => {
      change(v, 'ENTRY_CONTROLS', 0, ENTRY_CONTROL.IA32E_GUEST);
      set(v, 'GUEST_CS_ACCESS_RIGHTS', 0xc09b);
      set(v, 'GUEST_CR4', 0x2000);
    });
    expect(compatible.p.efer & (EFER_LMA | EFER_LME)).toBe(0);
    const loaded = entered((v) => {
      change(v, 'ENTRY_CONTROLS', ENTRY_CONTROL.LOAD_EFER);
      set(v, 'GUEST_EFER', EFER_LMA | EFER_LME);
    });
    expect(loaded.p.efer).toBe(EFER_LMA | EFER_LME);
  });
  test('DR7, DEBUGCTL and PAT under their controls', () => {
    const load = (entry: number): Vtx =>
      entered((v) => {
        v.p.dr7 = 0x401;
        change(v, 'ENTRY_CONTROLS', entry);
        set(v, 'GUEST_DR7', 0xffff_ffff);
        set(v, 'GUEST_DEBUGCTL', 2);
        set(v, 'GUEST_PAT', 0x0606n);
      });
    const on = load(ENTRY_CONTROL.LOAD_DEBUG | ENTRY_CONTROL.LOAD_PAT).p;
    expect(on.dr7).toBe(0xffff_2fff);
    expect([on.msrs.get(0x1d9), on.msrs.get(0x277)]).toEqual([2n, 0x0606n]);
    const off = load(0).p;
    expect(off.dr7).toBe(0x401);
    expect([off.msrs.get(0x1d9), off.msrs.get(0x277)]).toEqual([0n, 0x0007_0406_0007_0406n]);
  });
  test('activity, blocking, pending debug exceptions', () => {
    const { p } = entered((v) => {
      set(v, 'GUEST_RFLAGS', 0x202);
      set(v, 'GUEST_INTERRUPTIBILITY', 9);
      set(v, 'GUEST_PENDING_DEBUG', 0x1003);
    });
    expect([p.activity, p.interruptShadow, p.nmiBlocked, p.pendingDebug]).toEqual([ACTIVE, 1, true, 3]);
    expect(entered((v) => set(v, 'GUEST_PENDING_DEBUG', 3)).p.pendingDebug).toBe(0);
    expect(entered((v) => set(v, 'GUEST_ACTIVITY', 1)).p.activity).toBe(HLT);
  });
  test('with virtual NMIs bit 3 blocks virtual NMIs only', () => {
    const v = entered((w) => {
      change(w, 'PIN_CONTROLS', PIN.NMI_EXITING | PIN.VIRTUAL_NMIS);
      set(w, 'GUEST_INTERRUPTIBILITY', 8);
    });
    expect([v.p.nmiBlocked, v.virtualNmiBlocked]).toEqual([false, true]);
    leave(v);
    expect(get(v, 'GUEST_INTERRUPTIBILITY')).toBe(8n);
  });
  test('pending debug exceptions are lost in shutdown and with a hardware exception', () => {
    expect(
      entered((v) => {
        set(v, 'GUEST_ACTIVITY', 2);
        set(v, 'GUEST_PENDING_DEBUG', 0x4000);
      }).p.pendingDebug,
    ).toBe(0);
  });
});

describe('exit saves the guest and loads the host', () => {
  test('what the guest changed is in the VMCS', () => {
    const v = entered();
    const { p } = v;
    p.cr0 |= 8;
    p.cr3 = 0x7000n;
    p.cr4 |= 0x80;
    Object.assign(p.segments[DS]!, { selector: 0x23, base: 0x77n, limit: 0xfffff, attributes: 0x40f3 });
    Object.assign(p.segments[GS]!, { selector: 0, base: 0x7fff_0000_0000n, limit: 5, attributes: AR_UNUSABLE });
    p.gdtr.base = 0x8888n;
    p.idtr.limit = 0xfff;
    p.rip = 0x1234n;
    p.setGpr(4, 0x4321n);
    p.rflags = 0x287;
    p.interruptShadow = 1;
    p.msrs.set(0x175, 0x99n);
    leave(v);
    expect(get(v, 'EXIT_REASON')).toBe(BigInt(REASON.EXTERNAL_INTERRUPT));
    expect(get(v, 'GUEST_CR0')).toBe(0x8005_003bn);
    expect(get(v, 'GUEST_CR3')).toBe(0x7000n);
    expect(get(v, 'GUEST_CR4')).toBe(0x20a0n);
    expect(get(v, 'GUEST_DS_SELECTOR')).toBe(0x23n);
    expect(get(v, 'GUEST_DS_BASE')).toBe(0x77n);
    expect(get(v, 'GUEST_DS_LIMIT')).toBe(0xf_ffffn);
    expect(get(v, 'GUEST_DS_ACCESS_RIGHTS')).toBe(0x40f3n);
    expect(get(v, 'GUEST_GS_BASE')).toBe(0x7fff_0000_0000n);
    expect(get(v, 'GUEST_GS_ACCESS_RIGHTS')).toBe(BigInt(AR_UNUSABLE));
    expect(get(v, 'GUEST_GDTR_BASE')).toBe(0x8888n);
    expect(get(v, 'GUEST_IDTR_LIMIT')).toBe(0xfffn);
    expect(get(v, 'GUEST_RIP')).toBe(0x1234n);
    expect(get(v, 'GUEST_RSP')).toBe(0x4321n);
    expect(get(v, 'GUEST_RFLAGS')).toBe(0x287n);
    expect(get(v, 'GUEST_INTERRUPTIBILITY')).toBe(1n);
    expect(get(v, 'GUEST_SYSENTER_ESP')).toBe(0x99n);
  });
  test('the host state', () => {
    const v = entered((w) => set(w, 'HOST_SYSENTER_EIP', 0xffff_8000_0000_0aaan));
    v.p.dr7 = 0x455;
    v.p.msrs.set(0x1d9, 2n);
    leave(v);
    const { p } = v;
    expect([v.operation, p.rip, p.gpr(4), p.rflags, p.cpl]).toEqual([ROOT, HOST_RIP, HOST_RSP, 2, 0]);
    expect([p.cr0, p.cr3, p.cr4]).toEqual([0x8005_0033, 0x1_0000n, 0x2020]);
    expect(p.efer & (EFER_LMA | EFER_LME)).toBe(EFER_LMA | EFER_LME);
    expect(p.segments[CS]).toEqual({ selector: 0x10, base: 0n, limit: 0xffff_ffff, attributes: 0xa09b });
    expect(p.segments[SS]).toEqual({ selector: 0x18, base: 0n, limit: 0xffff_ffff, attributes: 0xc093 });
    expect(p.segments[DS]).toMatchObject({ selector: 0, attributes: AR_UNUSABLE });
    expect(p.segments[FS]!.base).toBe(0x1111_0000n);
    expect(p.segments[GS]!.base).toBe(0xffff_8880_0000_0000n);
    expect(plainSegment(p.tr)).toEqual({ selector: 0x40, base: 0xffff_fe00_0000_3000n, limit: 0x67, attributes: 0x8b });
    expect(p.ldtr).toMatchObject({ selector: 0, attributes: AR_UNUSABLE });
    expect(plainTable(p.gdtr)).toEqual({ base: 0xffff_fe00_0000_1000n, limit: 0xffff });
    expect(plainTable(p.idtr)).toEqual({ base: 0xffff_fe00_0000_0000n, limit: 0xffff });
    expect([p.dr7, p.msrs.get(0x1d9), p.msrs.get(0x176)]).toEqual([0x400, 0n, 0xffff_8000_0000_0aaan]);
    expect([p.activity, p.interruptShadow, p.pendingDebug]).toEqual([ACTIVE, 0, 0]);
  });
  test('under controls: EFER, PAT, DR7 and DEBUGCTL', () => {
    const v = entered((w) => {
      change(
        w,
        'EXIT_CONTROLS',
        EXIT_CONTROL.SAVE_EFER |
          EXIT_CONTROL.LOAD_EFER |
          EXIT_CONTROL.SAVE_PAT |
          EXIT_CONTROL.LOAD_PAT |
          EXIT_CONTROL.SAVE_DEBUG,
      );
      set(w, 'HOST_EFER', EFER_LMA | EFER_LME);
      set(w, 'HOST_PAT', 0x0505n);
    });
    const { p } = v;
    p.dr7 = 0x401;
    p.msrs.set(0x1d9, 2n);
    p.msrs.set(0x277, 0x0404n);
    const guestEfer = p.efer;
    leave(v);
    expect([get(v, 'GUEST_EFER'), get(v, 'GUEST_PAT'), get(v, 'GUEST_DR7'), get(v, 'GUEST_DEBUGCTL')]).toEqual([
      BigInt(guestEfer),
      0x0404n,
      0x401n,
      2n,
    ]);
    expect([p.efer, p.msrs.get(0x277)]).toEqual([EFER_LMA | EFER_LME, 0x0505n]);
  });
  test('the entry control "IA-32e mode guest" follows EFER.LMA, and the valid bit of the injection is cleared', () => {
    const v = entered();
    v.p.efer &= ~EFER_LMA;
    leave(v);
    expect(get(v, 'ENTRY_CONTROLS') & BigInt(ENTRY_CONTROL.IA32E_GUEST)).toBe(0n);
  });
  test('PDPTE registers are saved under EPT with PAE paging', () => {
    const v = entered((w) => {
      change(w, 'PRIMARY_CONTROLS', PRIMARY.SECONDARY);
      set(w, 'SECONDARY_CONTROLS', SECONDARY.EPT);
      set(w, 'EPT_POINTER', FREE_PAGE | 0x1e);
      change(w, 'ENTRY_CONTROLS', 0, ENTRY_CONTROL.IA32E_GUEST);
      set(w, 'GUEST_CS_ACCESS_RIGHTS', 0xc09b);
      set(w, 'GUEST_PDPTE1', 0x5001n);
    });
    expect(v.p.pdpte[1]).toBe(0x5001n);
    v.p.pdpte[2] = 0x6001n;
    leave(v);
    expect([get(v, 'GUEST_PDPTE1'), get(v, 'GUEST_PDPTE2')]).toEqual([0x5001n, 0x6001n]);
  });
  test('controls are off in root operation', () => {
    const v = entered((w) => {
      change(w, 'PRIMARY_CONTROLS', PRIMARY.HLT);
      set(w, 'EXCEPTION_BITMAP', 0xffff_ffff);
      set(w, 'CR0_MASK', 0xffff_ffff);
    });
    expect([v.primary & PRIMARY.HLT, v.exceptionBitmap]).toEqual([PRIMARY.HLT, 0xffff_ffff]);
    leave(v);
    expect([v.pin, v.primary, v.secondary, v.exceptionBitmap, v.cr0Mask, v.cr4Mask, v.vpid, v.eptp && v.ept]).toEqual([
      0,
      0,
      0,
      0,
      0,
      0,
      0,
      0n,
    ]);
  });
});

describe('MSR lists', () => {
  const list = (v: Vtx, entries: readonly (readonly [number, bigint, number?])[]): void =>
    entries.forEach(([index, value, reserved], i) => {
      const { memory } = v.p.machine;
      memory.write32(FREE_PAGE + 16 * i, index);
      memory.write32(FREE_PAGE + 16 * i + 4, reserved ?? 0);
      memory.write64(FREE_PAGE + 16 * i + 8, value);
    });
  const onEntry = (v: Vtx, entries: readonly (readonly [number, bigint, number?])[]): void => {
    list(v, entries);
    set(v, 'ENTRY_MSR_LOAD_ADDRESS', FREE_PAGE);
    set(v, 'ENTRY_MSR_LOAD_COUNT', entries.length);
  };
  test('entry loads in order', () => {
    const { p } = entered((v) =>
      onEntry(v, [
        [0xc000_0082, 0x1000n],
        [0xc000_0082, 0x2000n],
      ]),
    );
    expect(p.read64(LSTAR)).toBe(0x2000n);
  });
  test.each<[string, readonly [number, bigint, number?]]>([
    ['FS base', [0xc000_0100, 0n]],
    ['GS base', [0xc000_0101, 0n]],
    ['an x2APIC register', [0x808, 0n]],
    ['reserved bits', [0xc000_0082, 0n, 1]],
    ['an unknown MSR', [0x1234_5678, 0n]],
    ['a value that WRMSR refuses', [0xc000_0082, 0x100_0000_0000_0000n]],
    ['a change of EFER.LME with paging', [EFER, 0n]],
  ])('entry fails with reason 34 and the position: %s', (_name, bad) => {
    const v = validVmcs();
    onEntry(v, [[0xc000_0082, 0x1000n], bad]);
    expect(enter(v, true, true)).toBe(VM_SUCCEED);
    expect(v.operation).toBe(ROOT);
    expect([get(v, 'EXIT_REASON'), get(v, 'EXIT_QUALIFICATION')]).toEqual([0x8000_0022n, 2n]);
    expect(v.p.rip).toBe(HOST_RIP);
    expect(v.current!.launched).toBe(false);
  });
  test('a failed entry writes no other exit information and no guest state', () => {
    const v = validVmcs();
    set(v, 'EXIT_INSTRUCTION_LENGTH', 77);
    set(v, 'ENTRY_INTERRUPTION_INFO', 0x8000_0202);
    set(v, 'GUEST_RSP', 5n);
    onEntry(v, [[0x808, 0n]]);
    enter(v, true, true);
    expect([get(v, 'EXIT_INSTRUCTION_LENGTH'), get(v, 'ENTRY_INTERRUPTION_INFO'), get(v, 'GUEST_RSP')]).toEqual([
      77n,
      0x8000_0202n,
      5n,
    ]);
  });
  test('exit stores and loads', () => {
    const v = entered((w) => {
      list(w, [
        [0xc000_0082, 0n],
        [0xc000_0081, 0x1234n],
      ]);
      set(w, 'EXIT_MSR_STORE_ADDRESS', FREE_PAGE);
      set(w, 'EXIT_MSR_STORE_COUNT', 1);
      set(w, 'EXIT_MSR_LOAD_ADDRESS', FREE_PAGE + 16);
      set(w, 'EXIT_MSR_LOAD_COUNT', 1);
    });
    v.p.write64(LSTAR, 0x5555n);
    leave(v);
    expect(v.p.machine.memory.read64(FREE_PAGE + 8)).toBe(0x5555n);
    expect(v.p.read64(STAR)).toBe(0x1234n);
  });
  const abortOf = (prepare: (v: Vtx) => void, change_: (v: Vtx) => void = () => {}): number => {
    const v = entered(prepare);
    change_(v);
    leave(v);
    expect(v.p.activity).toBe(SHUTDOWN);
    return v.p.machine.memory.read32(VMCS_REGION + 4);
  };
  test('VMX aborts: 1 store, 4 load', () => {
    const bad = (v: Vtx): void => list(v, [[0x1234_5678, 0n]]);
    expect(
      abortOf((v) => {
        bad(v);
        set(v, 'EXIT_MSR_STORE_ADDRESS', FREE_PAGE);
        set(v, 'EXIT_MSR_STORE_COUNT', 1);
      }),
    ).toBe(1);
    expect(
      abortOf((v) => {
        bad(v);
        set(v, 'EXIT_MSR_LOAD_ADDRESS', FREE_PAGE);
        set(v, 'EXIT_MSR_LOAD_COUNT', 1);
      }),
    ).toBe(4);
  });
  const legacyHost = (v: Vtx): void => {
    v.p.efer &= ~EFER_LMA;
    change(v, 'EXIT_CONTROLS', 0, EXIT_CONTROL.HOST_64);
    change(v, 'ENTRY_CONTROLS', 0, ENTRY_CONTROL.IA32E_GUEST);
    set(v, 'GUEST_CS_ACCESS_RIGHTS', 0xc09b);
    set(v, 'GUEST_CR4', 0x2000);
    set(v, 'HOST_RIP', 0x1000);
  };
  test('VMX abort 6: a guest that went to long mode under a 32-bit host', () => {
    expect(
      abortOf(legacyHost, (v) => {
        v.p.efer |= EFER_LMA | EFER_LME;
      }),
    ).toBe(6);
  });
  test('VMX abort 2: PDPTEs of a PAE host', () => {
    expect(
      abortOf(legacyHost, (v) => {
        v.p.machine.memory.write64(0x1_0000, 0x1e7n);
      }),
    ).toBe(2);
  });
});
