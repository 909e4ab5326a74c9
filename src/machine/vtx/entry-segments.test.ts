import { describe, test } from 'vitest';
import type { FieldName } from './field-slots.ts';
import {
  type Break,
  expectFailure,
  expectSuccess,
  legacy,
  NON_CANONICAL,
  realMode,
  SEGMENTS,
  unrestricted,
  v86,
} from './test-entry.ts';
import { change, set } from './test-guest.ts';

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
