/** Cases of operations on CPUs, VMs and vCPUs. */
import { expect } from 'vitest';

import { ops } from './vt-subject.ts';
import { type Cases, executes, gives, ignoredByTd, seenElsewhere } from './vt-ways.ts';

type Keys =
  | 'checkProcessorCompatibility'
  | 'enableVirtualizationCpu'
  | 'disableVirtualizationCpu'
  | 'emergencyDisableVirtualizationCpu'
  | 'hardwareUnsetup'
  | 'rebooting'
  | 'postHardwareEnableSetup'
  | 'hasEmulatedMsr'
  | 'vmInit'
  | 'vmPreDestroy'
  | 'vmDestroy'
  | 'vcpuPrecreate'
  | 'vcpuCreate'
  | 'vcpuFree'
  | 'vcpuReset'
  | 'vcpuAfterSetCpuid'
  | 'vcpuLoad'
  | 'vcpuPut'
  | 'prepareSwitchToGuest';

export const LIFE_CASES: Cases<Keys> = {
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
};
