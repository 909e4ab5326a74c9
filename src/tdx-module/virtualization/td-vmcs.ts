/**
 * The VMCS of a virtual processor as TDH.VP.INIT leaves it: the controls that make VMX non-root operation a TD's, and the
 * state in which every virtual processor starts: 32-bit protected mode without paging, at the reset vector.
 *
 * @tdx "ABI Reference: VCPU State", TD VMCS; "TD VCPU", Initial State
 */
import type { Processor } from '../../machine/processor.ts';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN, PRIMARY, SECONDARY, TERTIARY } from '../../machine/vtx/controls.ts';
import { F, type FieldName } from '../../machine/vtx/field-slots.ts';
import { NO_DESCRIPTOR, NO_LOG, NO_VECTOR } from '../metadata/vmcs-rules.ts';
import { MSR_BITMAP_PAGE, type Tdcs } from '../objects/tdcs.ts';
import { type Tdvps, VAPIC_PAGE } from '../objects/tdvps.ts';
import { crMasks } from './control-registers.ts';
import { hasVirtualFeature, viewOf } from './td-view.ts';

/** TDCS page of zeros. */
const ZERO_PAGE = 4;
const MACHINE_CHECK_BIT = 1 << 18;

const PIN_CONTROLS: number = PIN.EXTERNAL_INTERRUPT_EXITING | PIN.NMI_EXITING | PIN.VIRTUAL_NMIS;
const PRIMARY_CONTROLS: number =
  PRIMARY.TSC_OFFSETTING |
  PRIMARY.HLT |
  PRIMARY.TERTIARY |
  PRIMARY.TPR_SHADOW |
  PRIMARY.UNCONDITIONAL_IO |
  PRIMARY.MSR_BITMAPS |
  PRIMARY.SECONDARY;
const SECONDARY_CONTROLS: number =
  SECONDARY.EPT |
  SECONDARY.RDTSCP |
  SECONDARY.VIRTUALIZE_X2APIC |
  SECONDARY.VPID |
  SECONDARY.WBINVD |
  SECONDARY.UNRESTRICTED_GUEST |
  SECONDARY.APIC_REGISTER_VIRTUALIZATION |
  SECONDARY.VIRTUAL_INTERRUPT_DELIVERY |
  SECONDARY.INVPCID |
  SECONDARY.EPT_VIOLATION_VE |
  SECONDARY.XSAVES |
  SECONDARY.TSC_SCALING;
const EXIT_CONTROLS: number =
  EXIT_CONTROL.SAVE_DEBUG |
  EXIT_CONTROL.HOST_64 |
  EXIT_CONTROL.ACKNOWLEDGE_INTERRUPT |
  EXIT_CONTROL.SAVE_PAT |
  EXIT_CONTROL.LOAD_PAT |
  EXIT_CONTROL.SAVE_EFER |
  EXIT_CONTROL.LOAD_EFER;
const ENTRY_CONTROLS: number = ENTRY_CONTROL.LOAD_DEBUG | ENTRY_CONTROL.LOAD_PAT | ENTRY_CONTROL.LOAD_EFER;

/** Controls that the processor must offer for TDs, by their capability MSRs. */
export const TD_VMCS_CONTROLS: readonly (readonly [capabilityMsr: number, controls: number])[] = [
  [0x48d, PIN_CONTROLS | PIN.POSTED_INTERRUPTS],
  [0x48e, PRIMARY_CONTROLS],
  [0x48b, SECONDARY_CONTROLS],
  [0x48f, EXIT_CONTROLS],
  [0x490, ENTRY_CONTROLS],
];

/** EFER of a TD: SCE, LME, NXE; LMA follows paging. */
export const INITIAL_EFER = 0x901;
const FLAT = 0xffff_ffff;
const CODE = 0xc09b;
const DATA = 0xc093;
const UNUSABLE_LDT = 0x1_0082;
const BUSY_TSS = 0x8b;
const TABLE_LIMIT = 0xffff;

/** The guest-state area; what is not here is 0. */
const GUEST_STATE: Partial<Record<FieldName, number | bigint>> = {
  GUEST_CR0: 0x21,
  GUEST_CR4: 0x2040,
  GUEST_EFER: INITIAL_EFER,
  GUEST_PAT: 0x0007_0406_0007_0406n,
  GUEST_DR7: 0x400,
  GUEST_RIP: 0xffff_fff0,
  GUEST_RFLAGS: 2,
  GUEST_PERF_GLOBAL_CTRL: 0xff,
  GUEST_CS_LIMIT: FLAT,
  GUEST_CS_ACCESS_RIGHTS: CODE,
  GUEST_DS_LIMIT: FLAT,
  GUEST_DS_ACCESS_RIGHTS: DATA,
  GUEST_ES_LIMIT: FLAT,
  GUEST_ES_ACCESS_RIGHTS: DATA,
  GUEST_SS_LIMIT: FLAT,
  GUEST_SS_ACCESS_RIGHTS: DATA,
  GUEST_FS_LIMIT: FLAT,
  GUEST_FS_ACCESS_RIGHTS: DATA,
  GUEST_GS_LIMIT: FLAT,
  GUEST_GS_ACCESS_RIGHTS: DATA,
  GUEST_LDTR_ACCESS_RIGHTS: UNUSABLE_LDT,
  GUEST_TR_LIMIT: TABLE_LIMIT,
  GUEST_TR_ACCESS_RIGHTS: BUSY_TSS,
  GUEST_GDTR_LIMIT: TABLE_LIMIT,
  VMCS_LINK_POINTER: 0xffff_ffff_ffff_ffffn,
};

/** Fills the VMCS of an initialised virtual processor. The host area is the machine's, at each entry. */
export function initTdVmcs(tdcs: Tdcs, tdvps: Tdvps, p: Processor): void {
  const { vmcs } = tdvps;
  const { capabilities } = p.vtx;
  const set = (name: FieldName, value: number | bigint): void => vmcs.set64(F[name], BigInt.asUintN(64, BigInt(value)));
  vmcs.u64.fill(0n);
  for (const [name, value] of Object.entries(GUEST_STATE)) set(name as FieldName, value);

  const view = viewOf(tdcs);
  const monitor = hasVirtualFeature(view, 'monitor') ? 0 : PRIMARY.MONITOR | PRIMARY.MWAIT;
  set('PIN_CONTROLS', capabilities.pin.mustBeOne | PIN_CONTROLS);
  set('PRIMARY_CONTROLS', (capabilities.primary.mustBeOne | PRIMARY_CONTROLS | PRIMARY.RDPMC | monitor) >>> 0);
  set('SECONDARY_CONTROLS', SECONDARY_CONTROLS);
  set('TERTIARY_CONTROLS', tdcs.gpaw === 52 ? TERTIARY.GPAW : 0);
  set('EXIT_CONTROLS', capabilities.exit.mustBeOne | EXIT_CONTROLS);
  set('ENTRY_CONTROLS', capabilities.entry.mustBeOne | ENTRY_CONTROLS);
  set('EXCEPTION_BITMAP', MACHINE_CHECK_BIT);

  const masks = crMasks(p, view);
  set('CR0_MASK', masks.cr0Mask);
  set('CR0_READ_SHADOW', masks.cr0Shadow);
  set('CR4_MASK', masks.cr4Mask);
  set('CR4_READ_SHADOW', masks.cr4Shadow);

  set('MSR_BITMAP', tdcs.pages[MSR_BITMAP_PAGE]!);
  set('VIRTUAL_APIC_ADDRESS', tdvps.pages[VAPIC_PAGE]!);
  set('VE_INFORMATION_ADDRESS', tdvps.pages[0]!);
  // Not given yet.
  set('POSTED_INTERRUPT_NOTIFICATION_VECTOR', NO_VECTOR);
  set('POSTED_INTERRUPT_DESCRIPTOR_ADDRESS', NO_DESCRIPTOR);
  set('PML_ADDRESS', NO_LOG);
  // Until the host gives one, every shared address has no translation.
  set('SHARED_EPT_POINTER', tdcs.pages[ZERO_PAGE]!);
  set('EPT_POINTER', tdcs.get('EPTP'));
  set('TD_HKID', tdcs.hkid);
  // A TLB tag of its own: virtual processors of one TD may run on one processor in turn.
  set('VPID', tdvps.index + 1);
  set('TSC_OFFSET', tdcs.get('TSC_OFFSET'));
  set('TSC_MULTIPLIER', tdcs.get('TSC_MULTIPLIER'));
  for (let slot = 0; slot < vmcs.u64.length; slot++) vmcs.touch(slot);
}
