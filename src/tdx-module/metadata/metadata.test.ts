import { describe, expect, test } from 'vitest';
import { F } from '../../machine/vtx/field-slots.ts';
import type { Vmcs } from '../../machine/vtx/vmcs.ts';
import { BUFFER, OUTSIDE, RAM, TestHost } from '../testing/test-host.ts';
import { contextOf, elementSizeOf, type Field } from './field.ts';
import { type Party, readMask } from './metadata-table.ts';
import { elementOf, readElement, writeElement } from './read-element.ts';
import { SYS_FIELDS } from './sys-fields.ts';
import { TD_VMCS_FIELDS } from './td-vmcs-fields.ts';
import { TDCS_FIELDS } from './tdcs-fields.ts';
import { TDR_FIELDS } from './tdr-fields.ts';
import { TDVPS_FIELDS } from './tdvps-fields.ts';
import { NO_DESCRIPTOR, NO_VECTOR } from './vmcs-rules.ts';
import { VpContext } from './vp-context.ts';

const ADDCX = 1;
const MNG_KEY_CONFIG = 8;
const MNG_CREATE = 9;
const MNG_RD = 11;
const MNG_WR = 13;
const MNG_INIT = 21;
const SYS_INFO = 32;
const SYS_RD = 34;
const SYS_RDALL = 37;
const ALL = 0xffff_ffff_ffff_ffffn;

/** An initialised TD. */
function initialized(attributes = 1n << 28n): { host: TestHost; tdr: number } {
  const host = new TestHost().ready();
  const tdr = host.page();
  host.expect(MNG_CREATE, { rcx: tdr, rdx: 33 });
  host.expect(MNG_KEY_CONFIG, { rcx: tdr });
  for (let i = 0; i < 6; i++) host.expect(ADDCX, { rcx: host.page(), rdx: tdr });
  host.tdParams(BUFFER, { 0: attributes });
  host.expect(MNG_INIT, { rcx: tdr, rdx: BUFFER });
  return { host, tdr };
}

describe('The tables', () => {
  const tables: readonly (readonly [string, Readonly<Record<string, Field>>, number])[] = [
    ['SYS', SYS_FIELDS, 0],
    ['TDR', TDR_FIELDS, 1],
    ['TDCS', TDCS_FIELDS, 1],
    ['TDVPS', TDVPS_FIELDS, 2],
    ['TD VMCS', TD_VMCS_FIELDS, 2],
  ];

  test.each(tables)(
    '%s: identifiers name the right context and size, and no two fields overlap',
    (_name, fields, context) => {
      const used = new Map<string, string>();
      for (const field of Object.values(fields)) {
        expect([field.name, contextOf(field.id)]).toEqual([field.name, context]);
        expect(elementSizeOf(field.id)).toBe(field.size);
        for (let i = 0; i < field.count; i++) {
          const key = `${field.classCode} ${field.code + i}`;
          expect([field.name, used.get(key)]).toEqual([field.name, undefined]);
          used.set(key, field.name);
        }
      }
    },
  );

  test.each([
    ['TDR', TDR_FIELDS, 1],
    ['TDCS', TDCS_FIELDS, 9],
    ['TDVPS', TDVPS_FIELDS, 15],
  ] as const)('%s: stored fields lie apart and within its pages', (_name, fields, pages) => {
    // Their values are computed; the appendix gives them somebody else's place.
    const computed = new Set(['VIRTUAL_TSC', 'NUM_CPUID_VALUES']);
    const ranges = Object.values(fields as Readonly<Record<string, Field>>)
      .filter(({ name }) => !computed.has(name))
      .map(({ name, offset, size, count }) => ({ name, from: offset, to: offset + size * count }))
      .sort((a, b) => a.from - b.from);
    ranges.forEach((range, i) => {
      const before = ranges[i - 1];
      if (before !== undefined) expect(`${before.name} ${before.to <= range.from}`).toBe(`${before.name} true`);
      expect(range.to).toBeLessThanOrEqual(pages * 4096);
    });
  });
});

describe('TDH.SYS.RD', () => {
  const read = (host: TestHost, id: bigint): bigint => host.expect(SYS_RD, { rdx: id }).r8;

  test('fields that upstream reads', () => {
    const host = new TestHost().initialize();
    expect(read(host, 0x0800000100000004n)).toBe(1n);
    expect(read(host, 0x0800000100000003n)).toBe(5n);
    expect(read(host, 0x0800000100000005n)).toBeGreaterThanOrEqual(6n);
    const features = read(host, 0x0a00000300000008n);
    for (const bit of [16n, 18n, 20n]) expect((features >> bit) & 1n).toBe(1n);
    expect(read(host, 0x9100000100000008n)).toBe(64n);
    expect(read(host, 0x9100000100000009n)).toBe(16n);
    for (const size of [0x10n, 0x11n, 0x12n]) expect(read(host, 0x9100000100000000n | size)).toBe(16n);
    expect(read(host, 0x9800000100000000n)).toBe(4096n);
    expect(read(host, 0x9800000100000100n)).toBe(6n * 4096n);
    expect(read(host, 0x9800000100000200n)).toBe(6n * 4096n);
    expect(read(host, 0x1900000300000000n)).toBe((1n << 28n) | 1n);
    expect(read(host, 0x1900000300000001n)).toBe(0n);
    expect(read(host, 0x1900000300000002n) & 3n).toBe(3n);
    expect(read(host, 0x1900000300000003n)).toBe(3n);
    expect(read(host, 0x9900000100000008n)).toBe(576n);
    // Places for CMRs, and for CPUID leaves: those that are not used are 0 and all ones.
    expect(read(host, 0x9000000100000000n)).toBe(32n);
    expect(read(host, 0x9000000300000080n)).toBe(0n);
    expect(read(host, 0x9000000300000100n)).toBe(BigInt(RAM));
    const leaves = Number(read(host, 0x9900000100000004n));
    expect(leaves).toBeGreaterThan(0);
    for (let i = 0; i < leaves; i++) expect(read(host, 0x9900000300000400n + BigInt(i))).not.toBe(ALL);
    expect(read(host, 0x9900000300000400n + BigInt(leaves))).toBe(ALL);
  });

  test('an old module lacks NO_RBP_MOD', () => {
    const host = new TestHost();
    host.module.hooks.missingFeatures = 1n << 18n;
    host.initialize();
    expect(read(host, 0x0a00000300000008n) & (1n << 18n)).toBe(0n);
    expect(read(host, 0x9900000300000006n) & 4n).toBe(0n);
  });

  test('gives the next identifier; all ones ask for the first and mean the end', () => {
    const host = new TestHost().initialize();
    const first = host.call(SYS_RD, { rdx: ALL });
    expect(first).toMatchObject({ name: 'TDX_METADATA_FIRST_FIELD_ID_IN_CONTEXT', r8: 0n });
    const seen = new Set<bigint>();
    for (let id = first.rdx; id !== ALL; id = host.expect(SYS_RD, { rdx: id }).rdx) {
      expect(seen.has(id)).toBe(false);
      seen.add(id);
    }
    const elements = Object.values(SYS_FIELDS)
      .filter(({ access }) => readMask(access, 'host') !== 0n)
      .reduce((sum, { count }) => sum + count, 0);
    expect(seen.size).toBe(elements);
  });

  test('the next identifier has the bits of the asked one that do not matter', () => {
    const host = new TestHost().initialize();
    // Within a field; the context is the module's own.
    const CMR_BASE = 0x9000000300000080n;
    expect(host.expect(SYS_RD, { rdx: CMR_BASE }).rdx).toBe(CMR_BASE + 1n);
    expect(host.expect(SYS_RD, { rdx: 0x1024000200000080n }).rdx).toBe(0x1004000200000081n);
  });

  test('errors set RDX to all ones and R8 to 0', () => {
    const host = new TestHost(2);
    host.expect(33);
    host.expect(35);
    const refused = { rdx: ALL, r8: 0n };
    expect(host.call(SYS_RD, { cpu: 1, rdx: ALL })).toMatchObject({ name: 'TDX_SYS_LP_INIT_NOT_DONE', ...refused });
    const incorrect = { name: 'TDX_METADATA_FIELD_ID_INCORRECT', ...refused };
    for (const id of [
      0x0800000100000044n, // no such code
      0x0b00000100000004n, // no such class
      0x0800000100000004n | (1n << 34n), // more than one element
      0x0800000100000004n | (1n << 38n), // more than one field
      0x0800000100000004n | (1n << 24n), // reserved
      0x4800000100000004n, // reserved
    ])
      expect(host.call(SYS_RD, { rdx: id })).toMatchObject(incorrect);
  });

  test('context, size and the non-architectural bit do not matter', () => {
    const host = new TestHost().initialize();
    expect(read(host, 0x8824000200000004n)).toBe(1n);
  });
});

describe('TDH.SYS.RDALL and TDH.SYS.INFO', () => {
  const NON_ARCH = 1n << 63n;

  test('a list holds every field, in sequences', () => {
    const host = new TestHost().initialize();
    let id = ALL;
    const values = new Map<bigint, bigint>();
    do {
      id = host.expect(SYS_RDALL, { rdx: BUFFER, r8: id }).r8;
      const end = BUFFER + host.memory.read16(BUFFER);
      let at = BUFFER + 8;
      for (let sequence = host.memory.read16(BUFFER + 2); sequence > 0; sequence--, at += 0) {
        const header = host.memory.read64(at);
        at += 8;
        const elements = Number((header >> 34n) & 0xfn) + 1;
        const fields = Number((header >> 38n) & 0x1ffn) + 1;
        // Fields of one sequence may differ in bit 63, of which it tells the first one's.
        const base = header & ~((0xfn << 34n) | (0x1ffn << 38n)) & ~NON_ARCH;
        for (let i = 0; i < elements * fields; i++, at += 8) values.set(base + BigInt(i), host.memory.read64(at));
      }
      expect(at).toBe(end);
    } while (id !== ALL);
    for (let field = host.call(SYS_RD, { rdx: ALL }).rdx; field !== ALL; ) {
      const { rdx, r8 } = host.expect(SYS_RD, { rdx: field });
      expect([field, values.get(field & ~NON_ARCH)]).toEqual([field, r8]);
      field = rdx;
    }
  });

  test('RDALL: errors', () => {
    const host = new TestHost(2);
    host.expect(33);
    host.expect(35);
    expect(host.status(SYS_RDALL, { cpu: 1 })).toBe('TDX_SYS_LP_INIT_NOT_DONE');
    expect(host.call(SYS_RDALL, { rdx: 8 })).toMatchObject({ name: 'TDX_OPERAND_INVALID 0x2', r8: ALL });
    expect(host.status(SYS_RDALL, { rdx: BUFFER, r8: 99 })).toBe('TDX_METADATA_FIELD_ID_INCORRECT');
    expect(host.status(SYS_RDALL, { rdx: BUFFER, r8: 0x9900000300000501n })).toBe('TDX_METADATA_FIELD_ID_INCORRECT');
    expect(host.status(SYS_RDALL, { rdx: BUFFER, r8: 0x0800000200000003n })).toBe('TDX_METADATA_FIELD_ID_INCORRECT');
    expect(host.status(SYS_RDALL, { rdx: BUFFER, r8: 0x4824000101000003n })).toBe('TDX_SUCCESS');
  });

  test('RDALL writes no more of the page than the list', () => {
    const host = new TestHost().initialize();
    host.memory.write64(BUFFER + 4088, 7n);
    let id = ALL;
    do id = host.expect(SYS_RDALL, { rdx: BUFFER, r8: id }).r8;
    while (id !== ALL);
    expect(host.memory.read16(BUFFER)).toBeLessThan(4088);
    expect(host.memory.read64(BUFFER + 4088)).not.toBe(0n);
  });

  test('INFO writes TDSYSINFO_STRUCT and the CMRs', () => {
    const host = new TestHost().initialize();
    const call = { rcx: BUFFER, rdx: 1024, r8: BUFFER + 1024, r9: 32 };
    expect(host.call(SYS_INFO, call)).toMatchObject({ name: 'TDX_SUCCESS', rdx: 1024n, r9: 32n });
    expect([host.memory.read32(BUFFER + 4), host.memory.read8(BUFFER + 18)]).toEqual([0x8086, 1]);
    expect([host.memory.read16(BUFFER + 32), host.memory.read16(BUFFER + 34)]).toEqual([64, 16]);
    expect(host.memory.read16(BUFFER + 48)).toBe(6 * 4096);
    expect(host.memory.read64(BUFFER + 1024 + 8)).toBe(BigInt(RAM));
    expect(host.memory.read64(BUFFER + 1024 + 24)).toBe(0n);
    expect(host.status(SYS_INFO, { ...call, r8: 8 })).toBe('TDX_OPERAND_INVALID 0x8');
    expect(host.memory.read64(BUFFER)).toBe(0n);
    expect(host.status(SYS_INFO, { ...call, rcx: BUFFER + 8 })).toBe('TDX_OPERAND_INVALID 0x1');
    expect(host.status(SYS_INFO, { ...call, rdx: 1023 })).toBe('TDX_OPERAND_INVALID 0x2');
    expect(host.status(SYS_INFO, { ...call, r8: BUFFER + 16 })).toBe('TDX_OPERAND_INVALID 0x8');
    expect(host.call(SYS_INFO, { ...call, r9: 31 })).toMatchObject({
      name: 'TDX_OPERAND_INVALID 0x9',
      rdx: 0n,
      r9: 0n,
    });
  });
});

describe('TDH.MNG.RD and TDH.MNG.WR', () => {
  const HP_LOCK_TIMEOUT = 0x9110000300000011n;

  test('read what the host may see of a production TD', () => {
    const { host, tdr } = initialized();
    const read = (id: bigint): unknown => {
      const { name, r8 } = host.call(MNG_RD, { rcx: tdr, rdx: id });
      return name === 'TDX_SUCCESS' ? r8 : name;
    };
    expect(read(0x1110000300000000n)).toBe(1n << 28n);
    expect(read(0x8110000100000001n)).toBe(33n);
    expect(read(0x9010000200000004n)).toBe(1n);
    expect(read(0x911000010000000en)).toBeGreaterThan(0n);
    expect(read(HP_LOCK_TIMEOUT)).toBe(1_000_000n);
    expect(read(0x1310000300000040n)).toBe('TDX_METADATA_FIELD_NOT_READABLE'); // RTMR
    expect(read(0x2010000300000000n)).toBe('TDX_METADATA_FIELD_NOT_READABLE'); // MSR bitmap
    expect(read(0x1110000300000017n)).toBe('TDX_METADATA_FIELD_NOT_READABLE'); // TD_CTLS
    expect(read(0x2510000300000000n)).toBe('TDX_METADATA_FIELD_ID_INCORRECT'); // no L2 VM
    expect(read(0x3f10000300000000n)).toBe('TDX_METADATA_FIELD_ID_INCORRECT');
  });

  test('CPUID values are named by leaf', () => {
    const { host, tdr } = initialized();
    const leaf = (code: number): unknown => {
      const { name, r8 } = host.call(MNG_RD, { rcx: tdr, rdx: 0x9410000300000000n | BigInt(code) });
      return name === 'TDX_SUCCESS' ? r8 : name;
    };
    expect(leaf((0x21 << 9) | 0)).toBe(0x6574_6e49_0000_0000n);
    expect(leaf((0x21 << 9) | 1)).toBe(0x5844_546c_2020_2020n);
    expect((leaf((0 << 9) | 0x100) as bigint) >> 32n).toBe(0x756e6547n);
    expect((leaf(0x1_0000 | (8 << 9) | 0x100) as bigint) & 0xffn).toBe(52n);
    expect(leaf((0 << 9) | (5 << 1))).toBe(leaf((0 << 9) | 0x100));
    expect(leaf(0x60 << 9)).toBe('TDX_METADATA_FIELD_ID_INCORRECT');
    const next = host.expect(MNG_RD, { rcx: tdr, rdx: 0x9410000300000001n, version: 1 }).rdx;
    expect(next & 0xff_ffffn).toBe((1n << 9n) | 0x1fen);
    expect(leaf((6 << 9) | 0x100)).toBe('TDX_METADATA_FIELD_NOT_READABLE');
    expect(leaf(0x2_0000)).toBe('TDX_METADATA_FIELD_ID_INCORRECT');
  });

  test('the width of addresses and the x2APIC ids', () => {
    const { host, tdr } = initialized();
    const { tdcs } = host.module.tdrAt(tdr);
    tdcs.set('X2APIC_IDS', 0x55, 2);
    expect(host.expect(MNG_RD, { rcx: tdr, rdx: 0x9110000000000018n }).r8).toBe(52n);
    expect(host.expect(MNG_RD, { rcx: tdr, rdx: 0x9c10000200000002n }).r8).toBe(0x55n);
    expect(host.status(MNG_WR, { rcx: tdr, rdx: 0x9c10000200000002n, r9: ALL })).toBe(
      'TDX_METADATA_FIELD_NOT_WRITABLE',
    );
  });

  test('a version that is not there is refused after the state of the module', () => {
    const { host, tdr } = initialized();
    const refused = { name: 'TDX_OPERAND_INVALID', rdx: ALL, r8: 0n };
    expect(host.call(MNG_RD, { rcx: tdr, version: 2 })).toMatchObject(refused);
    expect(new TestHost().status(MNG_RD, { version: 2 })).toBe('TDX_SYS_NOT_READY');
  });

  test('version 1 goes through all readable fields', () => {
    const { host, tdr } = initialized();
    const { name, rdx } = host.call(MNG_RD, { rcx: tdr, rdx: ALL, version: 1 });
    expect(name).toBe('TDX_METADATA_FIRST_FIELD_ID_IN_CONTEXT');
    let count = 0;
    for (let id = rdx; id !== ALL; count++) {
      id = host.expect(MNG_RD, { rcx: tdr, rdx: id, version: 1 }).rdx;
    }
    expect(count).toBeGreaterThan(50);
    expect(host.call(MNG_RD, { rcx: tdr, rdx: 0x8010000000000001n }).rdx).toBe(0x8010000000000001n);
  });

  test('the host of a debug TD sees more', () => {
    const { host, tdr } = initialized(1n);
    expect(host.status(MNG_RD, { rcx: tdr, rdx: 0x1310000300000040n })).toBe('TDX_SUCCESS');
    expect(host.status(MNG_RD, { rcx: tdr, rdx: 0x1110000300000017n })).toBe('TDX_SUCCESS');
    // NOTIFY_ENABLES: bit 0 may be written, others may not be asked for with another value.
    const id = 0x9110000300000010n;
    expect(host.call(MNG_WR, { rcx: tdr, rdx: id, r8: 1, r9: 1 })).toMatchObject({ name: 'TDX_SUCCESS', r8: 0n });
    expect(host.call(MNG_RD, { rcx: tdr, rdx: id }).r8).toBe(1n);
    expect(host.status(MNG_WR, { rcx: tdr, rdx: id, r8: 3, r9: 3 })).toBe('TDX_METADATA_FIELD_VALUE_NOT_VALID');
    expect(host.status(MNG_WR, { rcx: tdr, rdx: id, r8: 2, r9: 2 })).toBe('TDX_METADATA_FIELD_NOT_WRITABLE');
  });

  test('write what the host may write, within limits', () => {
    const { host, tdr } = initialized();
    const write = (id: bigint, r8: bigint | number, r9: bigint = ALL) =>
      host.call(MNG_WR, { rcx: tdr, rdx: id, r8, r9 });
    expect(write(HP_LOCK_TIMEOUT, 20_000)).toMatchObject({ name: 'TDX_SUCCESS', r8: 1_000_000n });
    expect(host.call(MNG_RD, { rcx: tdr, rdx: HP_LOCK_TIMEOUT }).r8).toBe(20_000n);
    expect(write(HP_LOCK_TIMEOUT, 9_999).name).toBe('TDX_METADATA_FIELD_VALUE_NOT_VALID');
    expect(write(HP_LOCK_TIMEOUT, 100_000_001).name).toBe('TDX_METADATA_FIELD_VALUE_NOT_VALID');
    expect(write(0x1110000300000000n, 1)).toMatchObject({ name: 'TDX_METADATA_FIELD_NOT_WRITABLE', r8: 0n });
    expect(write(HP_LOCK_TIMEOUT, 20_000, 0xffff_ffffn).name).toBe('TDX_METADATA_WR_MASK_NOT_VALID');
    expect(write(HP_LOCK_TIMEOUT, 20_000, 0n).name).toBe('TDX_METADATA_FIELD_NOT_WRITABLE');
    expect(write(0x3f10000300000000n, 0).name).toBe('TDX_METADATA_FIELD_ID_INCORRECT');
    expect(write(HP_LOCK_TIMEOUT | (1n << 34n), 20_000).name).toBe('TDX_METADATA_FIELD_ID_INCORRECT');
  });

  test.each([MNG_RD, MNG_WR])('leaf %i: TDR and state are checked in order', (leaf) => {
    const { host, tdr } = initialized();
    const td = host.module.tdrAt(tdr);
    const held = (kind: string, id: number): string => {
      host.module.hooks.lockHeld = (k, i) => k === kind && i === id;
      const name = host.status(leaf, { rcx: tdr });
      delete host.module.hooks.lockHeld;
      return name;
    };
    expect(host.status(leaf, { rcx: 1 })).toBe('TDX_OPERAND_INVALID 0x1');
    expect(host.status(leaf, { rcx: OUTSIDE })).toBe('TDX_OPERAND_ADDR_RANGE_ERROR 0x1');
    expect(held('pamt4k', tdr)).toBe('TDX_OPERAND_BUSY 0x1');
    expect(host.status(leaf, { rcx: host.page() })).toBe('TDX_PAGE_METADATA_INCORRECT 0x1');
    expect(held('op_state', tdr)).toBe('TDX_OPERAND_BUSY 0xac');
    td.tdcs.set('OP_STATE', 0);
    expect(host.status(leaf, { rcx: tdr })).toBe('TDX_OP_STATE_INCORRECT');
    td.set('NUM_TDCX', 5);
    expect(host.status(leaf, { rcx: tdr })).toBe('TDX_TDCS_NOT_ALLOCATED');
    td.set('LIFECYCLE_STATE', 2);
    expect(host.status(leaf, { rcx: tdr })).toBe('TDX_TD_KEYS_NOT_CONFIGURED');
    td.setFatal();
    expect(host.status(leaf, { rcx: tdr })).toBe('TDX_TD_FATAL');
  });
});

describe('Metadata of a virtual processor', () => {
  /** A virtual processor with pages of its own and an empty VMCS. */
  function virtualProcessor(): { context: VpContext; vmcs: Vmcs; set: (name: 'PEND_NMI', value: number) => void } {
    const { host, tdr } = initialized();
    const td = host.module.tdrAt(tdr);
    const tdvps = host.module.addTdvps(td, host.page());
    for (let i = 1; i < 6; i++) tdvps.pages.push(host.page());
    for (const page of tdvps.pages) host.memory.keyed.take(page, td.hkid);
    return { context: new VpContext(tdvps), vmcs: tdvps.vmcs, set: (name, value) => tdvps.set(name, value) };
  }
  const access = (context: VpContext, id: bigint, party: Party) => {
    const element = elementOf(context, id);
    return typeof element === 'bigint' ? { error: element } : readElement(context, element, party);
  };
  const write = (context: VpContext, id: bigint, value: bigint, mask = ALL, party: Party = 'host'): string => {
    const element = elementOf(context, id);
    if (typeof element === 'bigint') return 'no field';
    const result = writeElement(context, element, value, mask, party);
    return 'error' in result ? (result.error >> 32n).toString(16) : `was ${result.value}`;
  };
  const VECTOR = 0x0024000100000002n;
  const DESCRIPTOR = 0x0024000300002016n;
  const SHARED_EPTP = 0x002400030000203cn;
  const PIN = 0x0024000200004000n;
  const NOT_VALID = 'c0000c03';

  test('what upstream writes: notification vector, descriptor, then posted interrupts; shared EPT; NMI', () => {
    const { context, vmcs } = virtualProcessor();
    vmcs.setLow(F.POSTED_INTERRUPT_NOTIFICATION_VECTOR, NO_VECTOR);
    vmcs.set64(F.POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, NO_DESCRIPTOR);
    expect(write(context, PIN, 0x80n, 0x80n)).toBe('c0000730');
    expect(write(context, VECTOR, 0xf2n)).toBe(`was ${NO_VECTOR}`);
    expect(write(context, PIN, 0x80n, 0x80n)).toBe('c0000730');
    expect(write(context, VECTOR, 0x100n)).toBe(NOT_VALID);
    expect(write(context, DESCRIPTOR, 0x12_3440n)).toBe(`was ${NO_DESCRIPTOR}`);
    expect(write(context, DESCRIPTOR, 0x12_3448n)).toBe(NOT_VALID);
    expect(write(context, DESCRIPTOR, 40n << 46n)).toBe(NOT_VALID);
    expect(write(context, DESCRIPTOR, 1n << 52n)).toBe(NOT_VALID);
    expect(write(context, PIN, 0x80n, 0x80n)).toBe('was 0');
    expect(write(context, PIN, 0x1n, 0x1n)).toBe('c0000c01');
    expect(write(context, SHARED_EPTP, 0x4000n)).toBe('was 0');
    expect(write(context, SHARED_EPTP, 33n << 46n)).toBe(NOT_VALID);
    expect(write(context, 0x202000000000000bn, 1n)).toBe('was 0');
    // Any value of its byte.
    expect(write(context, 0x202000000000000bn, 2n)).toBe('was 1');
    expect(vmcs.u64.some((value) => value !== 0n)).toBe(true);
  });

  test('guest state is for debuggers', () => {
    const { context } = virtualProcessor();
    const RIP = 0x002400030000681en;
    expect(access(context, RIP, 'host')).toEqual({ error: 0xc0000c02_00000000n });
    expect(access(context, RIP, 'debug')).toEqual({ value: 0n });
    expect(write(context, RIP, 5n)).toBe('c0000c01');
    expect(write(context, RIP, 5n, ALL, 'debug')).toBe('was 0');
    expect(access(context, 0x1020000300000000n, 'host')).toEqual({ error: 0xc0000c02_00000000n });
    expect(access(context, 0x1020000300000000n, 'debug')).toEqual({ value: 0n });
    expect(access(context, 0x2420000000000000n, 'debug')).toEqual({ error: 0xc0000c00_00000000n });
    expect(write(context, 0x1220000300000040n, 1n, ALL, 'debug')).toBe('c0000c01');
    expect(write(context, 0x1220000300000048n, 1n, ALL, 'debug')).toBe('was 0');
  });

  test('a debugger sets control registers as the TD could', () => {
    const { context, vmcs } = virtualProcessor();
    const [CR0, CR3, CR4, EFER] = [0x6800n, 0x6802n, 0x6804n, 0x2806n].map((code) => 0x0024000300000000n | code) as [
      bigint,
      bigint,
      bigint,
      bigint,
    ];
    const debug = (id: bigint, value: bigint): string => write(context, id, value, ALL, 'debug');
    vmcs.set64(F.CR0_MASK, 0x21n);
    vmcs.set64(F.CR0_READ_SHADOW, 0x21n);
    vmcs.set64(F.GUEST_CR0, 0x21n);
    expect(debug(EFER, 0xd01n)).toBe('was 0');
    expect(vmcs.get64(F.GUEST_EFER)).toBe(0x901n);
    expect(debug(CR0, 0x8000_0020n)).toBe(NOT_VALID);
    expect(debug(CR0, 0x8000_0021n)).toBe('was 33');
    expect(vmcs.get64(F.GUEST_EFER)).toBe(0xd01n);
    vmcs.set64(F.CR4_MASK, 0x6040n);
    vmcs.set64(F.CR4_READ_SHADOW, 0x40n);
    vmcs.set64(F.GUEST_CR4, 0x2040n);
    expect(debug(CR4, 0x2020n)).toBe(NOT_VALID);
    expect(debug(CR4, 0x20n)).toBe(`was ${0x2040}`);
    expect([vmcs.get64(F.GUEST_CR4), vmcs.get64(F.CR4_READ_SHADOW)]).toEqual([0x2060n, 0n]);
    expect(debug(CR3, 0x12_3000n)).toBe('was 0');
    for (const cr3 of [0x12_3001n, 1n << 47n, 1n << 63n]) expect(debug(CR3, cr3)).toBe(NOT_VALID);
  });

  test('identifiers go from the VMCS on to the TDVPS', () => {
    const { context } = virtualProcessor();
    const seen: bigint[] = [];
    for (let id = context.next(undefined, 'host'); id !== ALL; ) {
      seen.push(id);
      const element = elementOf(context, id);
      if (typeof element === 'bigint') throw new Error('the next identifier names nothing');
      id = context.next(element, 'host');
    }
    expect(seen[0]).toBe(VECTOR);
    expect(seen).toContain(0x9120000300000100n);
    expect(new Set(seen).size).toBe(seen.length);
  });
});
