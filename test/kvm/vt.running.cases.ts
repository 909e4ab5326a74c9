/** Cases of translation, running, time, and the rest. */
import { expect } from 'vitest';
import type { KvmExitInfo } from '../../src/kvm/x86/kvm_x86_ops.ts';
import { ops } from './vt-subject.ts';
import { type Cases, executes, gives, ignoredByTd, yields } from './vt-ways.ts';

const EIO = 5;
const EINVAL = 22;
const ENOTTY = 25;

const info = (): KvmExitInfo => ({ reason: 0, info1: 0n, info2: 0, intrInfo: 0, errorCode: 0 });

type Keys =
  | 'flushTlbAll'
  | 'flushTlbCurrent'
  | 'flushTlbGva'
  | 'flushTlbGuest'
  | 'getMtMask'
  | 'loadMmuPgd'
  | 'linkExternalSpt'
  | 'setExternalSpte'
  | 'removeExternalSpte'
  | 'freeExternalSpt'
  | 'gmemMaxMappingLevel'
  | 'vcpuPreRun'
  | 'vcpuRun'
  | 'handleExit'
  | 'handleExitIrqoff'
  | 'skipEmulatedInstruction'
  | 'getExitInfo'
  | 'writeTscOffset'
  | 'writeTscMultiplier'
  | 'setHvTimer'
  | 'cancelHvTimer'
  | 'setTssAddr'
  | 'setIdentityMapAddr'
  | 'setupMce'
  | 'checkEmulateInstruction'
  | 'updateCpuDirtyLogging'
  | 'completeEmulatedMsr'
  | 'recalcIntercepts'
  | 'memEncIoctl'
  | 'vcpuMemEncIoctl';

export const RUNNING_CASES: Cases<Keys> = {
  // ---- translation
  flushTlbAll: executes((s) => ops.flushTlbAll(s.vcpu), 'invept'),
  flushTlbCurrent: {
    vm: (s) => {
      ops.loadMmuPgd(s.vcpu, s.kvm.arch.tdpMmu.root()!, 4);
      return executes(() => ops.flushTlbCurrent(s.vcpu), 'vmread 201a', 'invept')(s);
    },
    td: (s) => expect(s.watch(() => ops.flushTlbCurrent(s.vcpu))).toMatchObject({ vmx: ['invept'], seam: [] }),
  },
  flushTlbGva: ignoredByTd(
    (s) => ops.flushTlbGva(s.vcpu, 0x1000n),
    executes((s) => ops.flushTlbGva(s.vcpu, 0x1000n), 'invvpid'),
  ),
  flushTlbGuest: ignoredByTd(
    (s) => ops.flushTlbGuest(s.vcpu),
    executes((s) => ops.flushTlbGuest(s.vcpu), 'invvpid'),
  ),
  getMtMask: (s) => {
    // Write-back memory, whatever the guest's PAT; a TD's PAT counts, so IPAT is the VM's alone.
    expect(ops.getMtMask(s.vcpu, false) & 0x38).toBe(0x30);
    expect(ops.getMtMask(s.vcpu, true) & 0x38).toBe(0);
  },
  loadMmuPgd: {
    vm: executes((s) => ops.loadMmuPgd(s.vcpu, 0x1000, 4), 'vmwrite 201a'),
    td: (s) => {
      const root = s.kvm.arch.tdpMmu.root()!;
      expect(s.watch(() => ops.loadMmuPgd(s.vcpu, root, 4))).toMatchObject({ vmx: [], seam: ['VP_WR'] });
      expect(s.lab.seam.calls[0]).toMatchObject({ rdx: 0x203cn, r8: BigInt(root) });
      // The number of levels fixes where the shared bit is.
      ops.loadMmuPgd(s.vcpu, root, 5);
      expect(s.kvm.vmBugged).toBe(true);
    },
  },
  linkExternalSpt: {
    vm: yields((s) => ops.linkExternalSpt(s.kvm, 0, 2, 0), -EIO),
    td: (s) => {
      const page = s.lab.host.pages.alloc(6)!;
      // GPA 1 TiB: the root's entry for it is empty. The module's levels begin with 0.
      const { result, seam } = s.watch(() => ops.linkExternalSpt(s.kvm, 2 ** 28, 4, page));
      expect([result, seam]).toEqual([0, ['MEM_SEPT_ADD']]);
      expect(s.lab.seam.calls[0]!.rcx).toBe((1n << 40n) | 3n);
    },
  },
  setExternalSpte: {
    vm: yields((s) => ops.setExternalSpte(s.kvm, 0, 1, 7n), -EIO),
    td: (s) => {
      // A frame that was not added before the TD ran.
      const page = s.lab.host.pages.alloc(6)!;
      const { result, seam } = s.watch(() => ops.setExternalSpte(s.kvm, 0x80, 1, BigInt(page) | 7n));
      expect([result, seam]).toEqual([0, ['MEM_PAGE_AUG']]);
      expect(ops.setExternalSpte(s.kvm, 0x81, 2, 7n)).toBe(-EIO);
      expect(s.kvm.vmBugged).toBe(true);
    },
  },
  removeExternalSpte: {
    vm: (s) => expect(s.watch(() => ops.removeExternalSpte(s.kvm, 0, 1, 7n)).seam).toEqual([]),
    td: (s) => {
      const page = s.lab.host.pages.alloc(6)!;
      ops.setExternalSpte(s.kvm, 0x80, 1, BigInt(page) | 7n);
      const { seam } = s.watch(() => ops.removeExternalSpte(s.kvm, 0x80, 1, BigInt(page) | 7n));
      expect(seam).toEqual(['MEM_RANGE_BLOCK', 'MEM_TRACK', 'MEM_PAGE_REMOVE', 'PHYMEM_PAGE_WBINVD']);
    },
  },
  freeExternalSpt: {
    vm: yields((s) => ops.freeExternalSpt(s.kvm, 0, 1, 0), -EIO),
    // With the KeyID assigned no table comes back.
    td: (s) =>
      expect(s.watch(() => ops.freeExternalSpt(s.kvm, 0, 1, 0x1000))).toMatchObject({ result: -EIO, seam: [] }),
  },
  gmemMaxMappingLevel: {
    vm: (s) => expect([true, false].map((own) => ops.gmemMaxMappingLevel(s.kvm, 0, own))).toEqual([0, 0]),
    td: (s) => expect([true, false].map((own) => ops.gmemMaxMappingLevel(s.kvm, 0, own))).toEqual([1, 0]),
  },

  // ---- running
  vcpuPreRun: gives((s) => ops.vcpuPreRun(s.vcpu), 1),
  vcpuRun: {
    vm: async (s) => {
      await s.run();
      expect(s.vcpu.exitCounts[30]).toBe(1);
    },
    td: async (s) => {
      s.lab.seam.clear();
      await s.run();
      expect(s.lab.seam.calls.some(({ name }) => name === 'VP_ENTER')).toBe(true);
      expect(s.vcpu.exitCounts[30]).toBe(1);
    },
  },
  handleExit: async (s) => {
    await s.run();
    // What a fast path has dealt with needs nothing more.
    expect(ops.handleExit(s.vcpu, 2)).toBe(1);
    expect(s.vcpu.run.io).toMatchObject({ port: 0x80, direction: 'out' });
  },
  handleExitIrqoff: async (s) => {
    await s.run();
    const { vt, cpu } = s.vcpu;
    let handled = 0;
    s.lab.host.interrupts.setHandler(0x70, () => handled++);
    vt.exitReason = 1;
    vt.exitIntrInfo = 0x8000_0070 | 0;
    s.vcpu.arch.regsAvail = ~0;
    ops.handleExitIrqoff(s.vcpu);
    expect(handled).toBe(1);
    vt.exitReason = 0;
    vt.exitIntrInfo = 0x8000_0202 | 0;
    cpu!.processor.nmiBlocked = true;
    ops.handleExitIrqoff(s.vcpu);
    expect(cpu!.processor.nmiBlocked).toBe(false);
  },
  skipEmulatedInstruction: {
    vm: executes((s) => ops.skipEmulatedInstruction(s.vcpu), 'vmread 440c'),
    // Never reached: the guest moves on by itself.
    td: (s) => expect(s.isTd).toBe(true),
  },
  getExitInfo: async (s) => {
    await s.run();
    const seen = info();
    ops.getExitInfo(s.vcpu, seen);
    expect(seen).toMatchObject({ reason: 30, errorCode: 0 });
  },

  // ---- time
  writeTscOffset: ignoredByTd(
    (s) => ops.writeTscOffset(s.vcpu),
    executes((s) => ops.writeTscOffset(s.vcpu), 'vmwrite 2010'),
  ),
  writeTscMultiplier: ignoredByTd(
    (s) => ops.writeTscMultiplier(s.vcpu),
    executes((s) => ops.writeTscMultiplier(s.vcpu), 'vmwrite 2032'),
  ),
  setHvTimer: gives(() => ops.setHvTimer, null),
  cancelHvTimer: gives(() => ops.cancelHvTimer, null),

  // ---- the rest
  setTssAddr: gives((s) => ops.setTssAddr(s.kvm, 0xfffb_d000), 0),
  setIdentityMapAddr: gives((s) => ops.setIdentityMapAddr(s.kvm, 0xfffb_c000), 0),
  setupMce: gives((s) => ops.setupMce(s.vcpu), undefined),
  checkEmulateInstruction: {
    vm: yields((s) => ops.checkEmulateInstruction(s.vcpu), 0),
    td: yields((s) => ops.checkEmulateInstruction(s.vcpu), 3),
  },
  updateCpuDirtyLogging: gives((s) => ops.updateCpuDirtyLogging(s.vcpu), undefined),
  completeEmulatedMsr: {
    vm: (s) => {
      expect(ops.completeEmulatedMsr(s.vcpu, true)).toBe(1);
      expect(s.vcpu.arch.exception).toMatchObject({ pending: true, vector: 13 });
    },
    td: (s) => {
      const { vt, arch } = s.vcpu;
      const { regs } = vt as unknown as { regs: BigUint64Array };
      expect(ops.completeEmulatedMsr(s.vcpu, true)).toBe(1);
      expect(regs[10]).toBe(1n << 63n);
      expect(arch.exception.pending).toBe(false);
      vt.exitReason = 31;
      arch.regs[0] = 0x1111n;
      arch.regs[2] = 0x22n;
      regs[10] = 0n;
      expect(ops.completeEmulatedMsr(s.vcpu, false)).toBe(1);
      expect([regs[10], regs[11]]).toEqual([0n, 0x22_0000_1111n]);
    },
  },
  recalcIntercepts: ignoredByTd(
    (s) => ops.recalcIntercepts(s.vcpu),
    (s) => expect(s.watch(() => ops.recalcIntercepts(s.vcpu)).seam).toEqual([]),
  ),
  memEncIoctl: {
    vm: yields((s) => ops.memEncIoctl(s.kvm, { id: 4, data: 0n }), -ENOTTY),
    td: yields((s) => ops.memEncIoctl(s.kvm, { id: 4, data: 0n }), -EINVAL),
  },
  vcpuMemEncIoctl: gives((s) => ops.vcpuMemEncIoctl(s.vcpu, { id: 2, data: 0n }), -EINVAL),
};
