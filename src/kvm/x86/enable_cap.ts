/** KVM_ENABLE_CAP on a VM. @upstream arch/x86/kvm/x86.c kvm_vm_ioctl_enable_cap() */
import { EINVAL, ENXIO, type Errno } from '../../host/errno.ts';
import { KVM_MAX_VCPU_IDS } from '../virt/vcpu.ts';
import { KVM_CAP } from './caps.ts';
import { kvmVmIoctlEnableSplitIrqchip } from './irq.ts';
import type { X86Vm } from './kvm_host.ts';

const VALID_QUIRKS = 0x7ffn;
const VALID_X2APIC_API = 3n;
const VALID_DISABLE_EXITS = 15n;
const VALID_MSR_REASONS = 7n;
const VALID_HYPERCALLS: bigint = 1n << 12n;
/** KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, KVM_DIRTY_LOG_INITIALLY_SET */
const MANUAL_PROTECT_ENABLE = 1n;
/** The longest timer, in ns, must fit in 64 bits: a count of 32 bits divided by 128. */
const MAX_APIC_BUS_CYCLE_NS: bigint = 0xffff_ffff_ffff_ffffn / (0xffff_ffffn * 128n);
const VALID_MANUAL_PROTECT = 3n;

/** −EINVAL for a capability that cannot be enabled or an argument that it does not take. */
export function kvmVmIoctlEnableCap(kvm: X86Vm, cap: number, args: readonly bigint[]): Errno {
  const value = args[0] ?? 0n;
  const { arch } = kvm;
  switch (cap) {
    case KVM_CAP.DISABLE_QUIRKS:
      if (value & ~VALID_QUIRKS) return -EINVAL;
      arch.disabledQuirks |= value;
      return 0;
    case KVM_CAP.SPLIT_IRQCHIP:
      return kvmVmIoctlEnableSplitIrqchip(kvm, Number(value));
    case KVM_CAP.X2APIC_API:
      if (value & ~VALID_X2APIC_API) return -EINVAL;
      if (value & 1n) arch.x2apicFormat = true;
      if (value & 2n) arch.x2apicBroadcastQuirkDisabled = true;
      return 0;
    case KVM_CAP.X86_DISABLE_EXITS:
      // The controls of a vCPU are computed when it is created.
      if (value & ~VALID_DISABLE_EXITS || kvm.vcpus.length > 0) return -EINVAL;
      if (value & 1n) arch.mwaitInGuest = true;
      if (value & 2n) arch.hltInGuest = true;
      if (value & 4n) arch.pauseInGuest = true;
      if (value & 8n) arch.cstateInGuest = true;
      return 0;
    case KVM_CAP.EXCEPTION_PAYLOAD:
      arch.exceptionPayloadEnabled = value !== 0n;
      return 0;
    case KVM_CAP.X86_TRIPLE_FAULT_EVENT:
      arch.tripleFaultEvent = value !== 0n;
      return 0;
    case KVM_CAP.X86_USER_SPACE_MSR:
      if (value & ~VALID_MSR_REASONS) return -EINVAL;
      arch.userSpaceMsrMask = Number(value);
      return 0;
    case KVM_CAP.EXIT_HYPERCALL:
      if (value & ~VALID_HYPERCALLS) return -EINVAL;
      arch.hypercallExitEnabled = value;
      return 0;
    case KVM_CAP.MANUAL_DIRTY_LOG_PROTECT2:
      // "Initially set" means nothing by itself.
      if (value & ~VALID_MANUAL_PROTECT || (value & 2n && !(value & MANUAL_PROTECT_ENABLE))) return -EINVAL;
      kvm.manualDirtyLogProtect = Number(value);
      return 0;
    case KVM_CAP.MAX_VCPU_ID:
      return setMaxVcpuIds(kvm, value);
    case KVM_CAP.X86_APIC_BUS_CYCLES_NS:
      if (value === 0n || value > MAX_APIC_BUS_CYCLE_NS) return -EINVAL;
      if (arch.irqchipMode === 'none') return -ENXIO;
      if (kvm.vcpus.length > 0) return -EINVAL;
      arch.apicBusCycleNs = Number(value);
      return 0;
    default:
      return -EINVAL;
  }
}

/** The limit is set once, before a vCPU is made, and not below the boot vCPU's id. */
function setMaxVcpuIds(kvm: X86Vm, value: bigint): Errno {
  const { arch } = kvm;
  if (value > BigInt(KVM_MAX_VCPU_IDS) || BigInt(arch.bspVcpuId) > value) return -EINVAL;
  const limit = Number(value);
  if (arch.maxVcpuIds !== 0 && arch.maxVcpuIds !== limit) return -EINVAL;
  arch.maxVcpuIds = limit;
  return 0;
}
