/** Cases of events and APIC virtualization. */
import { expect } from 'vitest';

import { ops } from './vt-subject.ts';
import { type Cases, executes, gives, ignoredByTd, yields } from './vt-ways.ts';

const CS = 1;

type Keys =
  | 'setInterruptShadow'
  | 'getInterruptShadow'
  | 'patchHypercall'
  | 'injectIrq'
  | 'injectNmi'
  | 'injectException'
  | 'cancelInjection'
  | 'interruptAllowed'
  | 'nmiAllowed'
  | 'getNmiMask'
  | 'setNmiMask'
  | 'enableNmiWindow'
  | 'enableIrqWindow'
  | 'updateCr8Intercept'
  | 'deliverInterrupt'
  | 'protectedApicHasInterrupt'
  | 'apicInitSignalBlocked'
  | 'requiredApicvInhibits'
  | 'setVirtualApicMode'
  | 'setApicAccessPageAddr'
  | 'refreshApicvExecCtrl'
  | 'loadEoiExitmap'
  | 'hwapicIsrUpdate'
  | 'syncPirToIrr'
  | 'apicvPreStateRestore'
  | 'vcpuDeliverSipiVector';

export const EVENT_CASES: Cases<Keys> = {
  // ---- events
  setInterruptShadow: ignoredByTd(
    (s) => ops.setInterruptShadow(s.vcpu, 1),
    (s) => {
      ops.setInterruptShadow(s.vcpu, 1);
      expect(ops.getInterruptShadow(s.vcpu)).toBe(1);
    },
  ),
  getInterruptShadow: ignoredByTd(
    (s) => ops.getInterruptShadow(s.vcpu),
    yields((s) => ops.getInterruptShadow(s.vcpu), 0),
    0,
  ),
  patchHypercall: gives((s) => ops.patchHypercall(s.vcpu), Uint8Array.of(0x0f, 0x01, 0xc1)),
  injectIrq: ignoredByTd(
    (s) => ops.injectIrq(s.vcpu, false),
    executes((s) => ops.injectIrq(s.vcpu, false), 'vmwrite 4016'),
  ),
  injectNmi: {
    vm: executes((s) => ops.injectNmi(s.vcpu), 'vmwrite 4016'),
    td: (s) => {
      s.vcpu.arch.nmiInjected = true;
      s.vcpu.arch.nmiPending = 1;
      const { vmx, seam } = s.watch(() => ops.injectNmi(s.vcpu));
      expect([vmx, seam]).toEqual([[], ['VP_WR']]);
      expect([s.vcpu.arch.nmiInjected, s.vcpu.arch.nmiPending]).toEqual([false, 0]);
    },
  },
  injectException: ignoredByTd(
    (s) => ops.injectException(s.vcpu),
    executes((s) => ops.injectException(s.vcpu), 'vmwrite 4016'),
  ),
  cancelInjection: ignoredByTd(
    (s) => ops.cancelInjection(s.vcpu),
    executes((s) => ops.cancelInjection(s.vcpu), 'vmwrite 4016'),
  ),
  interruptAllowed: {
    vm: (s) => {
      expect(ops.interruptAllowed(s.vcpu)).toBe(false);
      ops.setRflags(s.vcpu, 0x202);
      expect(ops.interruptAllowed(s.vcpu)).toBe(true);
    },
    td: (s) => {
      expect(ops.interruptAllowed(s.vcpu)).toBe(true);
      const { vt } = s.vcpu;
      vt.exitReason = 12;
      expect(ops.interruptAllowed(s.vcpu)).toBe(true);
      (vt as unknown as { regs: BigUint64Array }).regs[12] = 1n;
      expect(ops.interruptAllowed(s.vcpu)).toBe(false);
    },
  },
  nmiAllowed: (s) => {
    expect(ops.nmiAllowed(s.vcpu)).toBe(true);
  },
  getNmiMask: (s) => {
    expect(ops.getNmiMask(s.vcpu)).toBe(false);
  },
  setNmiMask: {
    vm: (s) => {
      ops.setNmiMask(s.vcpu, true);
      expect([ops.getNmiMask(s.vcpu), ops.nmiAllowed(s.vcpu)]).toEqual([true, false]);
    },
    td: (s) => {
      ops.setNmiMask(s.vcpu, true);
      expect([ops.getNmiMask(s.vcpu), ops.nmiAllowed(s.vcpu)]).toEqual([false, true]);
    },
  },
  enableNmiWindow: ignoredByTd(
    (s) => ops.enableNmiWindow(s.vcpu),
    executes((s) => ops.enableNmiWindow(s.vcpu), 'vmwrite 4002'),
  ),
  enableIrqWindow: ignoredByTd(
    (s) => ops.enableIrqWindow(s.vcpu),
    executes((s) => ops.enableIrqWindow(s.vcpu), 'vmwrite 4002'),
  ),
  updateCr8Intercept: ignoredByTd(
    (s) => ops.updateCr8Intercept(s.vcpu, 0, -1),
    (s) => expect(s.watch(() => ops.updateCr8Intercept(s.vcpu, 0, -1)).seam).toEqual([]),
  ),
  deliverInterrupt: (s) => {
    // With APIC virtualization both are posted to.
    const { vmx, seam } = s.watch(() => ops.deliverInterrupt(s.vcpu, 0, 0, 0x51));
    expect([...vmx, ...seam]).toEqual([]);
    const desc = s.vcpu.vt.piDesc!;
    expect(desc.pir(2)).toBe(1 << 17);
    expect(desc.control & 1).toBe(1);
  },
  protectedApicHasInterrupt: {
    vm: yields((s) => ops.protectedApicHasInterrupt?.(s.vcpu), false),
    td: (s) => {
      expect(ops.protectedApicHasInterrupt?.(s.vcpu)).toBe(false);
      // Halted with interrupts enabled: the module is asked.
      s.vcpu.vt.exitReason = 12;
      expect(s.watch(() => ops.protectedApicHasInterrupt?.(s.vcpu))).toMatchObject({ result: false, seam: ['VP_RD'] });
      ops.deliverInterrupt(s.vcpu, 0, 0, 0x51);
      expect(s.watch(() => ops.protectedApicHasInterrupt?.(s.vcpu))).toMatchObject({ result: true, seam: [] });
    },
  },
  apicInitSignalBlocked: {
    vm: yields((s) => ops.apicInitSignalBlocked(s.vcpu), false),
    td: yields((s) => ops.apicInitSignalBlocked(s.vcpu), true),
  },

  // ---- APIC virtualization
  requiredApicvInhibits: (s) => {
    expect(ops.requiredApicvInhibits).not.toBe(0);
    expect(s.kvm.arch.apicvInhibitReasons).toBe(0);
  },
  setVirtualApicMode: ignoredByTd(
    (s) => ops.setVirtualApicMode(s.vcpu),
    (s) => expect(s.watch(() => ops.setVirtualApicMode(s.vcpu)).seam).toEqual([]),
  ),
  setApicAccessPageAddr: ignoredByTd(
    (s) => ops.setApicAccessPageAddr(s.vcpu),
    (s) => expect(s.watch(() => ops.setApicAccessPageAddr(s.vcpu)).seam).toEqual([]),
  ),
  refreshApicvExecCtrl: {
    vm: (s) => expect(s.watch(() => ops.refreshApicvExecCtrl(s.vcpu)).seam).toEqual([]),
    td: (s) => {
      ops.refreshApicvExecCtrl(s.vcpu);
      expect(s.kvm.vmBugged).toBe(false);
      // A TD cannot do without it.
      s.vcpu.arch.apic!.apicvActive = false;
      ops.refreshApicvExecCtrl(s.vcpu);
      expect(s.kvm.vmBugged).toBe(true);
    },
  },
  loadEoiExitmap: ignoredByTd(
    (s) => ops.loadEoiExitmap(s.vcpu, new Uint32Array(8)),
    executes((s) => ops.loadEoiExitmap(s.vcpu, new Uint32Array(8).fill(1)), 'vmwrite 201c'),
  ),
  hwapicIsrUpdate: ignoredByTd(
    (s) => ops.hwapicIsrUpdate(s.vcpu, 0x51),
    executes((s) => ops.hwapicIsrUpdate(s.vcpu, 0x51), 'vmwrite 810'),
  ),
  syncPirToIrr: {
    vm: (s) => {
      ops.deliverInterrupt(s.vcpu, 0, 0, 0x51);
      expect(ops.syncPirToIrr(s.vcpu)).toBe(0x51);
      expect(s.vcpu.vt.piDesc!.pir(2)).toBe(0);
    },
    td: (s) => {
      ops.deliverInterrupt(s.vcpu, 0, 0, 0x51);
      expect(ops.syncPirToIrr(s.vcpu)).toBe(-1);
      expect(s.vcpu.vt.piDesc!.pir(2)).toBe(1 << 17);
    },
  },
  apicvPreStateRestore: (s) => {
    ops.deliverInterrupt(s.vcpu, 0, 0, 0x51);
    ops.apicvPreStateRestore(s.vcpu);
    expect([s.vcpu.vt.piDesc!.pir(2), s.vcpu.vt.piDesc!.control & 1]).toEqual([0, 0]);
  },
  vcpuDeliverSipiVector: {
    vm: (s) => {
      ops.vcpuDeliverSipiVector(s.vcpu, 0x9a);
      expect(ops.getSegment(s.vcpu, CS)).toMatchObject({ selector: 0x9a00, base: 0x9a000n });
    },
    // Never reached: INIT is blocked.
    td: (s) => expect(ops.apicInitSignalBlocked(s.vcpu)).toBe(true),
  },
};
