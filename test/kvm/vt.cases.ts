/**
 * What every operation of the table does for a VM and for a TD. Where both are alike there is one case for both; where they
 * are not, what each does is said. The type demands a case for every operation.
 */
import { expect } from 'vitest';
import type { KvmSegment } from '../../src/kvm/x86/kvm_host.ts';
import type { KvmExitInfo, KvmX86Ops } from '../../src/kvm/x86/kvm_x86_ops.ts';
import { ops, type Subject } from './vt-subject.ts';

const EIO = 5;
const EINVAL = 22;
const ENOTTY = 25;
const CS = 1;
const GUEST_CR0 = 'vmwrite 6800';
const RIP = 16;
const EXREG_CR3 = 19;
const X2APIC_BASE = 0xfee0_0d00n;

/** A case: one function for both backends, or one for each. */
export type OpCase = ((s: Subject) => void | Promise<void>) | { readonly vm: Check; readonly td: Check };
type Check = (s: Subject) => void | Promise<void>;

// ---- ways to say it

/** Both backends: the call gives this, and touches neither VMCS nor module. */
const gives =
  (call: (s: Subject) => unknown, expected: unknown): OpCase =>
  (s) => {
    const { result, vmx, seam } = s.watch(() => call(s));
    expect(result).toEqual(expected);
    expect([...vmx, ...seam]).toEqual([]);
  };

/** The VM's effect is in its VMCS; a TD ignores the call: no instruction, no SEAMCALL, and this result. */
const ignoredByTd = (call: (s: Subject) => unknown, vm: (s: Subject) => void, tdResult?: unknown): OpCase => ({
  vm,
  td: (s) => {
    const { result, vmx, seam } = s.watch(() => call(s));
    expect(result).toEqual(tdResult);
    expect([...vmx, ...seam]).toEqual([]);
  },
});

/** The call executes these VMX instructions, among others. */
const executes =
  (call: (s: Subject) => unknown, ...instructions: string[]): Check =>
  (s) => {
    const { vmx } = s.watch(() => call(s));
    expect(vmx).toEqual(expect.arrayContaining(instructions));
  };

/** The call gives this for a VM. */
const yields =
  (call: (s: Subject) => unknown, expected: unknown): Check =>
  (s) => {
    expect(call(s)).toEqual(expected);
  };

/** Nothing to compare: the life of VMs, which the tests of load and of TDs' lives are about. */
const seenElsewhere: OpCase = (s) => {
  expect(s.vm.kvm.created).toBe(true);
};

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
const info = (): KvmExitInfo => ({ reason: 0, info1: 0n, info2: 0, intrInfo: 0, errorCode: 0 });

/** Every operation. */
export const CASES: Readonly<Record<keyof KvmX86Ops, OpCase>> = {
  name: gives(() => ops.name, 'kvm_intel'),

  // ---- CPUs
  checkProcessorCompatibility: (s) => {
    for (const cpu of s.lab.host.cpus.possible) expect(ops.checkProcessorCompatibility(cpu)).toBe(0);
  },
  enableVirtualizationCpu: (s) => {
    // A CPU that is on already is somebody else's.
    expect(ops.enableVirtualizationCpu(s.lab.host.cpu)).toBe(-16);
  },
  disableVirtualizationCpu: {
    vm: async (s) => {
      await s.run();
      const { vmx } = s.watch(() => s.lab.host.power.suspend());
      expect(vmx.filter((name) => name === 'vmclear' || name === 'vmxoff')).toEqual(['vmclear', 'vmxoff']);
      s.lab.host.power.resume();
    },
    td: async (s) => {
      await s.run();
      const { seam, vmx } = s.watch(() => s.lab.host.power.suspend());
      expect(seam).toEqual(['VP_FLUSH']);
      expect(vmx).toEqual(['vmxoff']);
      s.lab.host.power.resume();
    },
  },
  emergencyDisableVirtualizationCpu: {
    vm: executes((s) => ops.emergencyDisableVirtualizationCpu(s.lab.host.cpu), 'vmclear'),
    // A TD's VMCS is the module's: nothing of it is on KVM's list.
    td: (s) => {
      const { vmx, seam } = s.watch(() => ops.emergencyDisableVirtualizationCpu(s.lab.host.cpu));
      expect([...vmx, ...seam]).toEqual([]);
    },
  },
  hardwareUnsetup: seenElsewhere,
  rebooting: seenElsewhere,
  postHardwareEnableSetup: seenElsewhere,

  // ---- life
  hasEmulatedMsr: {
    vm: (s) => {
      expect([0x1b, 0x6e0, 0x480, 0x9e].map((msr) => ops.hasEmulatedMsr(s.kvm, msr))).toEqual([
        true,
        true,
        false,
        false,
      ]);
      expect(ops.hasEmulatedMsr(null, 0x6e0)).toBe(true);
    },
    td: (s) => {
      const allowed = [0x1b, 0x6e0, 0x1a0, 0x830, 0x277, 0x17a];
      const others = [0x10, 0x174, 0x808, 0x80b, 0x825, 0xc000_0081, 0x480];
      expect(allowed.map((msr) => ops.hasEmulatedMsr(s.kvm, msr))).toEqual(allowed.map(() => true));
      expect(others.map((msr) => ops.hasEmulatedMsr(s.kvm, msr))).toEqual(others.map(() => false));
    },
  },
  vmInit: {
    vm: (s) => {
      const { arch, maxVcpus } = s.kvm;
      expect([arch.hasProtectedState, arch.hasProtectedEoi, arch.hasPrivateMem, maxVcpus]).toEqual([
        false,
        false,
        false,
        1024,
      ]);
    },
    td: (s) => {
      const { arch, maxVcpus } = s.kvm;
      expect([arch.hasProtectedState, arch.hasProtectedEoi, arch.hasPrivateMem, maxVcpus]).toEqual([
        true,
        true,
        true,
        2,
      ]);
      expect(arch.shadowMmioValue).toBe(0n);
      expect(arch.gfnDirectBits).toBe(2 ** 35);
    },
  },
  vmPreDestroy: {
    vm: (s) => {
      const { seam } = s.watch(() => ops.vmPreDestroy(s.kvm));
      expect(seam).toEqual([]);
    },
    td: (s) => {
      for (const file of s.td!.files) file.close();
      const { seam } = s.watch(() => ops.vmPreDestroy(s.kvm));
      expect(seam.at(-1)).toBe('MNG_KEY_FREEID');
      expect(s.lab.host.tdx.keyIds.inUse).toBe(0);
    },
  },
  vmDestroy: seenElsewhere,
  vcpuPrecreate: gives((s) => ops.vcpuPrecreate(s.kvm), 0),
  vcpuCreate: {
    vm: (s) => {
      const { arch } = s.vcpu;
      expect([arch.guestStateProtected, arch.guestApicProtected, arch.guestTscProtected]).toEqual([
        false,
        false,
        false,
      ]);
    },
    td: (s) => {
      const { arch } = s.vcpu;
      expect([arch.guestStateProtected, arch.guestApicProtected, arch.guestTscProtected]).toEqual([true, true, true]);
      expect(arch.efer).toBe(0xd01);
    },
  },
  vcpuFree: seenElsewhere,
  vcpuReset: ignoredByTd(
    (s) => ops.vcpuReset(s.vcpu, false),
    executes((s) => ops.vcpuReset(s.vcpu, false), 'vmwrite 6808', 'vmwrite 4826'),
  ),
  vcpuAfterSetCpuid: ignoredByTd(
    (s) => ops.vcpuAfterSetCpuid(s.vcpu),
    (s) => expect(s.watch(() => ops.vcpuAfterSetCpuid(s.vcpu)).seam).toEqual([]),
  ),
  vcpuLoad: {
    vm: (s) => {
      const { cpus } = s.lab.host;
      const { vmx } = s.watch(() => {
        cpus.setCurrent(cpus.possible[1]!);
        ops.vcpuLoad(s.vcpu, cpus.possible[1]!);
        cpus.setCurrent(cpus.possible[0]!);
      });
      expect(vmx).toEqual(['vmclear']);
    },
    td: async (s) => {
      await s.run();
      const { cpus } = s.lab.host;
      const { seam, vmx } = s.watch(() => {
        cpus.setCurrent(cpus.possible[1]!);
        ops.vcpuLoad(s.vcpu, cpus.possible[1]!);
        cpus.setCurrent(cpus.possible[0]!);
      });
      expect([vmx, seam]).toEqual([[], ['VP_FLUSH']]);
    },
  },
  vcpuPut: gives((s) => ops.vcpuPut(s.vcpu), undefined),
  prepareSwitchToGuest: ignoredByTd(
    (s) => ops.prepareSwitchToGuest(s.vcpu),
    (s) => {
      ops.prepareSwitchToGuest(s.vcpu);
      expect(s.vcpu.vt.guestStateLoaded).toBe(true);
    },
  ),

  // ---- registers
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
