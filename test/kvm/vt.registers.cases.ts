/** Cases of operations on registers. */
import { expect } from 'vitest';
import type { KvmSegment } from '../../src/kvm/x86/kvm_host.ts';
import { ops } from './vt-subject.ts';
import { type Cases, executes, gives, ignoredByTd, yields } from './vt-ways.ts';

const CS = 1;
const GUEST_CR0 = 'vmwrite 6800';
const RIP = 16;
const EXREG_CR3 = 19;
const X2APIC_BASE = 0xfee0_0d00n;

const segment: KvmSegment = {
  base: 0x1000n,
  limit: 0xffff,
  selector: 8,
  type: 3,
  present: 1,
  dpl: 0,
  db: 0,
  s: 1,
  l: 0,
  g: 0,
  avl: 0,
  unusable: 0,
};
const hidden: KvmSegment = Object.fromEntries(
  Object.keys(segment).map((key) => [key, key === 'base' ? 0n : 0]),
) as unknown as KvmSegment;
const noTable = { base: 0n, limit: 0 };
const table = { base: 0x2000n, limit: 0x7f };

type Keys =
  | 'updateExceptionBitmap'
  | 'getFeatureMsr'
  | 'getMsr'
  | 'setMsr'
  | 'getSegmentBase'
  | 'getSegment'
  | 'setSegment'
  | 'getCpl'
  | 'getCsDbLBits'
  | 'isValidCr0'
  | 'isValidCr4'
  | 'setCr0'
  | 'setCr4'
  | 'setEfer'
  | 'getIdt'
  | 'setIdt'
  | 'getGdt'
  | 'setGdt'
  | 'setDr7'
  | 'syncDirtyDebugRegs'
  | 'cacheReg'
  | 'getRflags'
  | 'setRflags'
  | 'getIfFlag';

export const REGISTER_CASES: Cases<Keys> = {
  updateExceptionBitmap: ignoredByTd(
    (s) => ops.updateExceptionBitmap(s.vcpu),
    executes((s) => ops.updateExceptionBitmap(s.vcpu), 'vmwrite 4004'),
  ),
  getFeatureMsr: gives(() => ops.getFeatureMsr(0x480), undefined),
  getMsr: {
    vm: (s) => {
      expect(ops.getMsr(s.vcpu, 0x174)).toBe(0n);
      expect(ops.getMsr(s.vcpu, 0x3a)).toBe(0n);
    },
    td: (s) => {
      expect(ops.getMsr(s.vcpu, 0x174)).toBeUndefined();
      // Locked, without VMX.
      expect(ops.getMsr(s.vcpu, 0x3a)).toBe(1n);
      expect(ops.getMsr(s.vcpu, 0x1b)).toBe(X2APIC_BASE);
    },
  },
  setMsr: {
    vm: (s) => {
      expect(ops.setMsr(s.vcpu, 0x174, 8n, true)).toBe(true);
      expect(ops.getMsr(s.vcpu, 0x174)).toBe(8n);
    },
    td: (s) => {
      expect(ops.setMsr(s.vcpu, 0x174, 8n, true)).toBe(false);
      expect(ops.setMsr(s.vcpu, 0x1b, X2APIC_BASE, true)).toBe(false);
      expect(ops.setMsr(s.vcpu, 0x1a0, 1n, false)).toBe(true);
    },
  },
  getSegmentBase: ignoredByTd(
    (s) => ops.getSegmentBase(s.vcpu, CS),
    yields((s) => ops.getSegmentBase(s.vcpu, CS), 0xffff_0000n),
    0n,
  ),
  getSegment: ignoredByTd(
    (s) => ops.getSegment(s.vcpu, CS),
    (s) => expect(ops.getSegment(s.vcpu, CS)).toMatchObject({ selector: 0xf000, base: 0xffff_0000n }),
    hidden,
  ),
  setSegment: ignoredByTd(
    (s) => ops.setSegment(s.vcpu, 3, segment),
    (s) => {
      ops.setSegment(s.vcpu, 3, segment);
      expect(ops.getSegment(s.vcpu, 3)).toMatchObject({ base: 0x1000n, selector: 8 });
    },
  ),
  getCpl: gives((s) => ops.getCpl(s.vcpu), 0),
  getCsDbLBits: (s) => {
    expect(ops.getCsDbLBits(s.vcpu)).toBe(0);
  },
  isValidCr0: {
    vm: yields((s) => ops.isValidCr0(s.vcpu, 0x8000_0001), true),
    td: yields((s) => ops.isValidCr0(s.vcpu, 0xdead_beef), true),
  },
  isValidCr4: {
    vm: yields((s) => ops.isValidCr4(s.vcpu, 0x2000), false),
    td: yields((s) => ops.isValidCr4(s.vcpu, 0x2000), true),
  },
  setCr0: ignoredByTd(
    (s) => ops.setCr0(s.vcpu, 0x11),
    executes((s) => ops.setCr0(s.vcpu, 0x11), GUEST_CR0),
  ),
  setCr4: ignoredByTd(
    (s) => ops.setCr4(s.vcpu, 0x20),
    executes((s) => ops.setCr4(s.vcpu, 0x20), 'vmwrite 6804'),
  ),
  setEfer: ignoredByTd(
    (s) => ops.setEfer(s.vcpu, 0x100),
    (s) => {
      expect(ops.setEfer(s.vcpu, 0x100)).toBe(0);
      expect(s.vcpu.arch.efer).toBe(0x100);
    },
    0,
  ),
  getIdt: ignoredByTd(
    (s) => ops.getIdt(s.vcpu),
    yields((s) => ops.getIdt(s.vcpu), { base: 0n, limit: 0xffff }),
    noTable,
  ),
  setIdt: ignoredByTd(
    (s) => ops.setIdt(s.vcpu, table),
    (s) => {
      ops.setIdt(s.vcpu, table);
      expect(ops.getIdt(s.vcpu)).toEqual(table);
    },
  ),
  getGdt: ignoredByTd(
    (s) => ops.getGdt(s.vcpu),
    yields((s) => ops.getGdt(s.vcpu), { base: 0n, limit: 0xffff }),
    noTable,
  ),
  setGdt: ignoredByTd(
    (s) => ops.setGdt(s.vcpu, table),
    (s) => {
      ops.setGdt(s.vcpu, table);
      expect(ops.getGdt(s.vcpu)).toEqual(table);
    },
  ),
  setDr7: ignoredByTd(
    (s) => ops.setDr7(s.vcpu, 0x401n),
    executes((s) => ops.setDr7(s.vcpu, 0x401n), 'vmwrite 681a'),
  ),
  syncDirtyDebugRegs: ignoredByTd(
    (s) => ops.syncDirtyDebugRegs(s.vcpu),
    executes((s) => ops.syncDirtyDebugRegs(s.vcpu), 'vmread 681a'),
  ),
  cacheReg: ignoredByTd(
    (s) => ops.cacheReg(s.vcpu, RIP),
    executes((s) => ops.cacheReg(s.vcpu, EXREG_CR3), 'vmread 6802'),
  ),
  getRflags: ignoredByTd(
    (s) => ops.getRflags(s.vcpu),
    yields((s) => ops.getRflags(s.vcpu), 2),
    0,
  ),
  setRflags: ignoredByTd(
    (s) => ops.setRflags(s.vcpu, 0x202),
    executes((s) => ops.setRflags(s.vcpu, 0x202), 'vmwrite 6820'),
  ),
  getIfFlag: ignoredByTd(
    (s) => ops.getIfFlag(s.vcpu),
    (s) => {
      ops.setRflags(s.vcpu, 0x202);
      expect(ops.getIfFlag(s.vcpu)).toBe(true);
    },
    false,
  ),
};
