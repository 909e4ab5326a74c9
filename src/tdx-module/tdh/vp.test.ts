import { beforeEach, describe, expect, it } from 'vitest';
import { writeMsr } from '../../machine/msr/msr.ts';
import { F } from '../../machine/vtx/field-slots.ts';
import { PT } from '../objects/pamt.ts';
import { LIFECYCLE } from '../objects/tdr.ts';
import { NO_LP, type Tdvps, VCPU_STATE } from '../objects/tdvps.ts';
import { TestPlatform, type TestTd } from './test-td.ts';

const ADDCX = 4;
const CREATE = 10;
const FLUSH = 18;
const INIT = 22;
const RD = 26;
const WR = 43;
const SUCCESS = 'TDX_SUCCESS';

/** Identifiers of fields. */
const PEND_NMI = 0x2020_0000_0000_000bn;
const VCPU_INDEX = 0xa020_0002_0000_0002n;
const VCPU_STATE_DETAILS = 0x9120_0003_0000_0100n;
const RAX = 0x1020_0003_0000_0000n;
const SHARED_EPTP = 0x0024_0003_0000_203cn;
const NOTIFICATION_VECTOR = 0x0024_0001_0000_0002n;
const DESCRIPTOR = 0x0024_0003_0000_2016n;
const PIN = 0x0024_0002_0000_4000n;
const ALL = 0xffff_ffff_ffff_ffffn;

let platform: TestPlatform;
let td: TestTd;
beforeEach(() => {
  platform = new TestPlatform(2);
  td = platform.td({ maxVcpus: 2 });
});

/** A virtual processor with all its pages. */
function created(): number {
  const tdvpr = platform.page();
  expect(td.call(CREATE, { rcx: tdvpr }).name).toBe(SUCCESS);
  for (let i = 0; i < 5; i++) expect(platform.call(ADDCX, { rcx: platform.page(), rdx: tdvpr }).name).toBe(SUCCESS);
  return tdvpr;
}
function initialised(rdx = 0n): number {
  const tdvpr = created();
  expect(platform.call(INIT, { rcx: tdvpr, rdx }).name).toBe(SUCCESS);
  return tdvpr;
}
const vpOf = (tdvpr: number): Tdvps => platform.module.tdvpsAt(tdvpr);

describe('TDH.VP.CREATE and ADDCX', () => {
  it('give a virtual processor its six pages', () => {
    const children = td.children;
    const tdvpr = created();
    expect(td.pamt(tdvpr)).toEqual({ pageType: PT.TDVPR, owner: td.pa, size: 0 });
    expect(td.children).toBe(children + 6);
    const vp = vpOf(tdvpr);
    expect(vp.num('NUM_TDVPS_PAGES')).toBe(6);
    expect(vp.associatedLp).toBe(NO_LP);
    for (const page of vp.pages.slice(1)) expect(td.pamt(page).pageType).toBe(PT.TDCX);
    expect(platform.call(ADDCX, { rcx: platform.page(), rdx: tdvpr }).name).toBe('TDX_TDCX_NUM_INCORRECT');
  });

  it('not once it is initialised', () => {
    const tdvpr = initialised();
    expect(platform.call(ADDCX, { rcx: platform.page(), rdx: tdvpr }).name).toBe('TDX_VCPU_STATE_INCORRECT 0x2');
  });

  it('take no page that somebody has', () => {
    expect(td.call(CREATE, { rcx: td.tdcs.pages[1]! }).name).toBe('TDX_PAGE_METADATA_INCORRECT 0x1');
    const tdvpr = created();
    expect(platform.call(ADDCX, { rcx: tdvpr, rdx: tdvpr }).name).toBe('TDX_TDCX_NUM_INCORRECT');
    expect(td.call(CREATE, { rcx: tdvpr }).name).toBe('TDX_PAGE_METADATA_INCORRECT 0x1');
  });
});

describe('TDH.VP.INIT', () => {
  it('gives the initial state of a TD virtual processor', () => {
    const first = vpOf(initialised(0xabcd_1234_5678n));
    const second = vpOf(initialised());
    expect([first.index, second.index]).toEqual([0, 1]);
    expect([first.state, second.state]).toEqual([VCPU_STATE.READY, VCPU_STATE.READY]);
    expect(first.get('RCX')).toBe(0xabcd_1234_5678n);
    expect(first.get('R8')).toBe(0xabcd_1234_5678n);
    expect(first.get('RBX')).toBe(48n);
    expect([first.get('RSI'), second.get('RSI')]).toEqual([0n, 1n]);
    expect(first.get('XCR0')).toBe(1n);
    const { vmcs } = first;
    expect(vmcs.get64(F.GUEST_RIP)).toBe(0xffff_fff0n);
    expect(vmcs.get64(F.GUEST_RFLAGS)).toBe(2n);
    expect(vmcs.get64(F.GUEST_CR0)).toBe(0x21n);
    expect(vmcs.get64(F.GUEST_CR4)).toBe(0x2040n);
    expect(vmcs.get64(F.GUEST_EFER)).toBe(0x901n);
    expect(vmcs.low(F.GUEST_CS_ACCESS_RIGHTS)).toBe(0xc09b);
  });

  it('associates it with the calling logical processor', () => {
    const tdvpr = created();
    expect(platform.call(INIT, { rcx: tdvpr, cpu: 1 }).name).toBe(SUCCESS);
    expect(vpOf(tdvpr).associatedLp).toBe(1);
    expect(td.tdcs.num('NUM_ASSOC_VCPUS')).toBe(1);
    expect(td.tdcs.num('NUM_VCPUS')).toBe(1);
  });

  it('needs all pages, and happens once', () => {
    const tdvpr = platform.page();
    td.call(CREATE, { rcx: tdvpr });
    expect(platform.call(INIT, { rcx: tdvpr }).name).toBe('TDX_TDCX_NUM_INCORRECT');
    expect(platform.call(INIT, { rcx: initialised() }).name).toBe('TDX_VCPU_STATE_INCORRECT 0x2');
  });

  it('no more than MAX_VCPUS', () => {
    initialised();
    initialised();
    expect(platform.call(INIT, { rcx: created() }).name).toBe('TDX_MAX_VCPUS_EXCEEDED');
    expect(td.tdcs.num('NUM_VCPUS')).toBe(2);
  });

  it('version 1: an x2APIC id of 32 bits that no other has', () => {
    const first = created();
    const second = created();
    expect(platform.call(INIT, { rcx: first, r8: 1n << 32n, version: 1 }).name).toBe('TDX_OPERAND_INVALID 0x8');
    expect(platform.call(INIT, { rcx: first, r8: 7, version: 1 }).name).toBe(SUCCESS);
    expect(platform.call(INIT, { rcx: second, r8: 7, version: 1 }).name).toBe('TDX_X2APIC_ID_NOT_UNIQUE 0x7');
    expect(td.tdcs.num('TOPOLOGY_ENUM_CONFIGURED')).toBe(1);
    expect(platform.call(INIT, { rcx: second, version: 0 }).name).toBe(SUCCESS);
    expect(td.tdcs.num('TOPOLOGY_ENUM_CONFIGURED')).toBe(0);
  });

  it('version 1 after version 0: that one has the x2APIC id 0', () => {
    initialised();
    expect(platform.call(INIT, { rcx: created(), r8: 0, version: 1 }).name).toBe('TDX_X2APIC_ID_NOT_UNIQUE');
  });

  it('with IA32_TSC_ADJUST as the module saw it', () => {
    writeMsr(platform.machine.processors[0]!, 0x3b, 5n);
    expect(platform.call(INIT, { rcx: created() }).name).toBe('TDX_INCONSISTENT_MSR 0x3b');
  });
});

describe('TDH.VP.FLUSH', () => {
  it('on the logical processor that has it', () => {
    const tdvpr = initialised();
    expect(platform.call(FLUSH, { rcx: tdvpr, cpu: 1 }).name).toBe('TDX_VCPU_NOT_ASSOCIATED');
    expect(platform.call(FLUSH, { rcx: tdvpr }).name).toBe(SUCCESS);
    expect(vpOf(tdvpr).associatedLp).toBe(NO_LP);
    expect(td.tdcs.num('NUM_ASSOC_VCPUS')).toBe(0);
    expect(platform.call(FLUSH, { rcx: tdvpr }).name).toBe('TDX_VCPU_NOT_ASSOCIATED');
  });

  it('keeps the VMCS in the TD, for the next one', () => {
    const tdvpr = initialised();
    platform.call(WR, { rcx: tdvpr, rdx: SHARED_EPTP, r8: 0x12_3000, r9: ALL });
    platform.call(FLUSH, { rcx: tdvpr });
    expect(platform.call(RD, { rcx: tdvpr, rdx: SHARED_EPTP, cpu: 1 })).toMatchObject({
      name: SUCCESS,
      r8: 0x12_3000n,
    });
    expect(vpOf(tdvpr).associatedLp).toBe(1);
    expect(platform.call(RD, { rcx: tdvpr, rdx: SHARED_EPTP, cpu: 0 }).name).toBe('TDX_VCPU_ASSOCIATED');
  });

  it('also of a dead TD; not of one whose key is gone', () => {
    const tdvpr = initialised();
    td.tdr.setFatal();
    expect(platform.call(RD, { rcx: tdvpr, rdx: VCPU_INDEX }).name).toBe('TDX_TD_FATAL');
    expect(platform.call(FLUSH, { rcx: tdvpr }).name).toBe(SUCCESS);
    td.tdr.set('LIFECYCLE_STATE', LIFECYCLE.BLOCKED);
    expect(platform.call(FLUSH, { rcx: tdvpr }).name).toBe('TDX_TD_KEYS_NOT_CONFIGURED');
  });
});

describe('TDH.VP.RD and WR', () => {
  it('an NMI can be made pending', () => {
    const tdvpr = initialised();
    expect(platform.call(WR, { rcx: tdvpr, rdx: PEND_NMI, r8: 1, r9: 1 })).toMatchObject({ name: SUCCESS, r8: 0n });
    expect(platform.call(RD, { rcx: tdvpr, rdx: PEND_NMI })).toMatchObject({ name: SUCCESS, r8: 1n });
  });

  it('registers are for debug TDs only', () => {
    const tdvpr = initialised();
    expect(platform.call(RD, { rcx: tdvpr, rdx: RAX }).name).toBe('TDX_METADATA_FIELD_NOT_READABLE');
    expect(platform.call(WR, { rcx: tdvpr, rdx: RAX, r8: 1, r9: ALL }).name).toBe('TDX_METADATA_FIELD_NOT_WRITABLE');
    td.tdcs.set('ATTRIBUTES', 1n);
    expect(platform.call(WR, { rcx: tdvpr, rdx: RAX, r8: 77, r9: ALL }).name).toBe(SUCCESS);
    expect(platform.call(RD, { rcx: tdvpr, rdx: RAX }).r8).toBe(77n);
  });

  it('posted interrupts: vector, descriptor, then the control', () => {
    const tdvpr = initialised();
    // A vector of 0 counts as set, so the descriptor is what is missing then.
    const control = { rcx: tdvpr, rdx: PIN, r8: 0x80, r9: 0x80 };
    expect(platform.call(WR, control).name).toBe('TDX_TD_VMCS_FIELD_NOT_INITIALIZED 0x2');
    expect(platform.call(WR, { rcx: tdvpr, rdx: NOTIFICATION_VECTOR, r8: 0, r9: ALL }).name).toBe(SUCCESS);
    expect(platform.call(WR, control).name).toBe('TDX_TD_VMCS_FIELD_NOT_INITIALIZED 0x2016');
    expect(platform.call(WR, { rcx: tdvpr, rdx: NOTIFICATION_VECTOR, r8: 0x100, r9: ALL }).name).toBe(
      'TDX_METADATA_FIELD_VALUE_NOT_VALID',
    );
    expect(platform.call(WR, { rcx: tdvpr, rdx: NOTIFICATION_VECTOR, r8: 0xf2, r9: ALL }).name).toBe(SUCCESS);
    expect(platform.call(WR, { rcx: tdvpr, rdx: DESCRIPTOR, r8: 33n << 46n, r9: ALL }).name).toBe(
      'TDX_METADATA_FIELD_VALUE_NOT_VALID',
    );
    expect(platform.call(WR, { rcx: tdvpr, rdx: DESCRIPTOR, r8: 0x5_0040, r9: ALL }).name).toBe(SUCCESS);
    expect(platform.call(WR, { rcx: tdvpr, rdx: PIN, r8: 0x80, r9: 0x80 }).name).toBe(SUCCESS);
    expect(platform.call(RD, { rcx: tdvpr, rdx: PIN }).r8).toBe(0x80n);
    expect(vpOf(tdvpr).vmcs.low(F.PIN_CONTROLS) & 0x80).toBe(0x80);
    expect(platform.call(WR, { rcx: tdvpr, rdx: PIN, r8: 0, r9: 1 }).name).toBe('TDX_METADATA_FIELD_NOT_WRITABLE');
  });

  it('whether the virtual APIC has an interrupt', () => {
    const tdvpr = initialised();
    expect(platform.call(RD, { rcx: tdvpr, rdx: VCPU_STATE_DETAILS }).r8).toBe(0n);
    vpOf(tdvpr).vmcs.setLow(F.GUEST_INTERRUPT_STATUS, 0x41);
    expect(platform.call(RD, { rcx: tdvpr, rdx: VCPU_STATE_DETAILS }).r8).toBe(1n);
  });

  it('version 1 tells the next field, and the first one', () => {
    const tdvpr = initialised();
    const first = platform.call(RD, { rcx: tdvpr, rdx: ALL, version: 1 });
    expect(first.name).toBe('TDX_METADATA_FIRST_FIELD_ID_IN_CONTEXT');
    const ids = [first.rdx];
    for (let id = first.rdx; id !== ALL; ) {
      const { name, rdx } = platform.call(RD, { rcx: tdvpr, rdx: id, version: 1 });
      expect(name).toBe(SUCCESS);
      id = rdx;
      ids.push(id);
    }
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids).toContain(PEND_NMI);
  });

  it('needs an initialised virtual processor', () => {
    const tdvpr = created();
    expect(platform.call(RD, { rcx: tdvpr, rdx: VCPU_INDEX }).name).toBe('TDX_VCPU_STATE_INCORRECT');
    vpOf(tdvpr).set('VCPU_STATE', VCPU_STATE.DISABLED);
    expect(platform.call(WR, { rcx: tdvpr, rdx: PEND_NMI, r8: 1, r9: 1 }).name).toBe('TDX_VCPU_STATE_INCORRECT');
    expect(platform.call(RD, { rcx: tdvpr, rdx: VCPU_INDEX }).name).toBe(SUCCESS);
  });

  it('malformed identifiers', () => {
    const tdvpr = initialised();
    for (const rdx of [VCPU_INDEX | (1n << 34n), 0x3f20_0000_0000_0000n, VCPU_INDEX | (1n << 55n)]) {
      expect(platform.call(RD, { rcx: tdvpr, rdx }).name).toBe('TDX_METADATA_FIELD_ID_INCORRECT');
    }
  });
});
