/**
 * RDMSR and WRMSR in a TD that the MSR bitmap intercepts.
 *
 * @tdx "CPU Virtualization (Non-Root Mode Operation)", MSR Handling
 */
import { RAX, RCX, RDX } from '../../machine/engine/layout.ts';
import { EFER_LMA, EFER_SCE, FLAG_TF } from '../../machine/processor.ts';
import { F } from '../../machine/vtx/field-slots.ts';
import { REASON } from '../../machine/vtx/reasons.ts';
import { ATTRIBUTES, TD_CTLS } from '../objects/tdcs.ts';
import { xssAllowed } from '../virtualization/control-registers.ts';
import { msrAction } from '../virtualization/msr-table.ts';
import { hasVirtualFeature, x2apicIdOf } from '../virtualization/td-view.ts';
import type { Guest } from './guest.ts';
import { injectVe } from './inject-ve.ts';

const IA32_MKTME_KEYID_PARTITIONING = 0x87;
const IA32_XAPIC_DISABLE_STATUS = 0xbd;
const IA32_ARCH_CAPABILITIES = 0x10a;
const IA32_MISC_ENABLE = 0x1a0;
const IA32_DEBUGCTL = 0x1d9;
const IA32_PLATFORM_DCA_CAP = 0x1f8;
const IA32_CPU_DCA_CAP = 0x1f9;
const IA32_DCA_0_CAP = 0x1fa;
const IA32_PERF_CAPABILITIES = 0x345;
const IA32_TSC_DEADLINE = 0x6e0;
const IA32_X2APIC_APICID = 0x802;
const IA32_XSS = 0xda0;
const IA32_EFER = 0xc000_0080;

/** The CPUID feature that brings an MSR of action `gp-or-ve`; the others are memory encryption's. */
const FEATURE_OF: ReadonlyMap<number, string> = new Map([
  [IA32_MKTME_KEYID_PARTITIONING, 'pconfig'],
  [IA32_PLATFORM_DCA_CAP, 'dca'],
  [IA32_CPU_DCA_CAP, 'dca'],
  [IA32_DCA_0_CAP, 'dca'],
  [IA32_TSC_DEADLINE, 'tsc_deadline_timer'],
]);
const ENCRYPTION = 'tme';

/** What an emulated access comes to: done (for reads, with a value), #GP(0) or #VE. */
type Emulated = bigint | 'gp' | 've';

/** IA32_MISC_ENABLE bit 7: performance monitoring; 11 and 12: branch trace store and PEBS are unavailable. */
const MISC_PERFMON = 1n << 7n;
const MISC_UNAVAILABLE = 3n << 11n;

function readSpecial(guest: Guest, index: number): Emulated {
  const { module, p, vmcs, view, tdcs, tdvps } = guest;
  switch (index) {
    case IA32_XAPIC_DISABLE_STATUS:
      return 1n;
    case IA32_ARCH_CAPABILITIES:
      return hasVirtualFeature(view, 'arch_capabilities') ? tdcs.get('VIRTUAL_IA32_ARCH_CAPABILITIES') : 'gp';
    case IA32_MISC_ENABLE:
      return (module.platform.msr(p, index) & ~MISC_PERFMON) | MISC_UNAVAILABLE;
    case IA32_DEBUGCTL:
      return vmcs.get64(F.GUEST_DEBUGCTL);
    case IA32_PERF_CAPABILITIES:
      return hasVirtualFeature(view, 'pdcm') ? 0n : 'gp';
    case IA32_X2APIC_APICID:
      return view.tdCtls & TD_CTLS.ENUM_TOPOLOGY ? BigInt(x2apicIdOf(tdvps)) : 've';
    default:
      // The MSRs of VMX: a TD has none.
      return 've';
  }
}

const DEBUGCTL = {
  BTF: 1n << 1n,
  TR: 1n << 6n,
  BTS: 1n << 7n,
  UNCORE_PMI: 1n << 13n,
  FREEZE_SMM: 1n << 14n,
  RTM: 1n << 15n,
};
const DEBUGCTL_RESERVED: bigint = ~0xffc7n;
const PENDING_BS = 0x4000n;

function writeDebugctl(guest: Guest, value: bigint): Emulated {
  const { vmcs, view } = guest;
  const old = vmcs.get64(F.GUEST_DEBUGCTL);
  if (BigInt.asUintN(64, value & DEBUGCTL_RESERVED)) return 'gp';
  if (value & DEBUGCTL.TR && !(value & DEBUGCTL.BTS)) return 've';
  if (value & DEBUGCTL.FREEZE_SMM && !(view.attributes & ATTRIBUTES.PERFMON)) return 'gp';
  if (value & DEBUGCTL.RTM && !hasVirtualFeature(view, 'rtm')) return 'gp';
  const next = (value & ~DEBUGCTL.UNCORE_PMI) | (old & DEBUGCTL.UNCORE_PMI);
  // Bits that this processor lacks are #GP there.
  if (next & ~DEBUGCTL_OF_MACHINE) return 'gp';

  // all checks passed
  guest.write(F.GUEST_DEBUGCTL, next);
  if (vmcs.low(F.GUEST_RFLAGS) & FLAG_TF && (next ^ old) & DEBUGCTL.BTF) {
    const pending = vmcs.get64(F.GUEST_PENDING_DEBUG) & ~PENDING_BS;
    guest.write(F.GUEST_PENDING_DEBUG, old & DEBUGCTL.BTF ? pending | PENDING_BS : pending);
  }
  return 0n;
}
/** LBR and BTF: the bits of IA32_DEBUGCTL that the machine has. */
const DEBUGCTL_OF_MACHINE = 3n;

/** A TD may change SCE; LMA is ignored. */
function writeEfer(guest: Guest, value: bigint): Emulated {
  const old = guest.vmcs.get64(F.GUEST_EFER);
  const next = (value & ~BigInt(EFER_LMA)) | (old & BigInt(EFER_LMA));
  if ((next ^ old) & ~BigInt(EFER_SCE)) return 've';
  guest.write(F.GUEST_EFER, next);
  return 0n;
}

function writeSpecial(guest: Guest, index: number, value: bigint): Emulated {
  switch (index) {
    case IA32_DEBUGCTL:
      return writeDebugctl(guest, value);
    case IA32_EFER:
      return writeEfer(guest, value);
    case IA32_XSS:
      if (!xssAllowed(value, guest.view.xfam)) return 'gp';
      guest.p.xss = value;
      return 0n;
    default:
      return 've';
  }
}

function access(guest: Guest, index: number, write: boolean, value: bigint): Emulated {
  const { view } = guest;
  const action = msrAction(view, index, write);
  switch (action) {
    case 'gp':
    case 've':
      break;
    case 'gp-or-ve':
      return hasVirtualFeature(view, FEATURE_OF.get(index) ?? ENCRYPTION) ? 've' : 'gp';
    case 'special':
      return write ? writeSpecial(guest, index, value) : readSpecial(guest, index);
    case 'native':
      // The bitmap lets it through.
      return 'gp';
    default:
  }
  // Not in the table, but virtualized once the TD asked for its topology.
  if (index === IA32_X2APIC_APICID && !write) return readSpecial(guest, index);
  return action;
}

/** Handles the exit of RDMSR or WRMSR. */
export function msrExit(guest: Guest): void {
  const { p } = guest;
  const index = p.gpr32(RCX);
  const write = guest.reason === REASON.WRMSR;
  const value = (BigInt(p.gpr32(RDX)) << 32n) | BigInt(p.gpr32(RAX));
  const result = access(guest, index, write, value);
  if (result === 've') return injectVe(guest);
  if (result === 'gp') return guest.injectGp();
  if (!write) {
    p.setGpr32(RAX, Number(result & 0xffff_ffffn));
    p.setGpr32(RDX, Number(result >> 32n));
  }
  guest.advance();
}
