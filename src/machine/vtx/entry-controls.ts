/**
 * Checks of VM entry on the control fields; a failure is VMfailValid(7).
 * @sdm "Checks on VMX Controls"
 */

import { pushesErrorCode } from '../processor/events/event.ts';
import { CR0_PE } from '../processor.ts';
import { CR3_TARGETS, controlsAllowed, MSR_LIST_MAX } from './capabilities.ts';
import { EXIT_CONTROL, PIN, PRIMARY, SECONDARY, TERTIARY } from './controls.ts';
import { eptPointerValid } from './ept-pointer.ts';
import { F } from './field-slots.ts';
import { EVENT, INFO_ERROR_CODE, INFO_VALID } from './reasons.ts';
import { tdControlsValid } from './td-controls.ts';
import { isMsrList, isPageAddress, isPhysical } from './value-checks.ts';
import type { Vmcs } from './vmcs.ts';
import type { Vtx } from './vtx.ts';
import type { VtxState } from './vtx-state.ts';

/** The secondary controls in force. */
export const secondaryOf = (vmcs: Vmcs): number =>
  vmcs.low(F.PRIMARY_CONTROLS) & PRIMARY.SECONDARY ? vmcs.low(F.SECONDARY_CONTROLS) : 0;

/** The tertiary controls in force in an ordinary VMCS; a TD's are looked at with its other fields. */
export const tertiaryOf = ({ tdGuest }: VtxState, vmcs: Vmcs): number =>
  !tdGuest && vmcs.low(F.PRIMARY_CONTROLS) & PRIMARY.TERTIARY ? vmcs.low(F.TERTIARY_CONTROLS) : 0;

function tertiaryAllowed(v: Vtx, vmcs: Vmcs): boolean {
  const tertiary = tertiaryOf(v, vmcs);
  if ((tertiary & ~v.capabilities.tertiary) !== 0) return false;
  return v.tdGuest || !(vmcs.low(F.PRIMARY_CONTROLS) & PRIMARY.TERTIARY) || vmcs.high(F.TERTIARY_CONTROLS) === 0;
}

function wordsAllowed(v: Vtx, vmcs: Vmcs): boolean {
  const c = v.capabilities;
  return (
    controlsAllowed(vmcs.low(F.PIN_CONTROLS), c.pin) &&
    controlsAllowed(vmcs.low(F.PRIMARY_CONTROLS), c.primary) &&
    tertiaryAllowed(v, vmcs) &&
    controlsAllowed(secondaryOf(vmcs), c.secondary) &&
    controlsAllowed(vmcs.low(F.EXIT_CONTROLS), c.exit) &&
    controlsAllowed(vmcs.low(F.ENTRY_CONTROLS), c.entry)
  );
}

function pinValid(vmcs: Vmcs, primary: number): boolean {
  const pin = vmcs.low(F.PIN_CONTROLS);
  if (pin & PIN.VIRTUAL_NMIS && !(pin & PIN.NMI_EXITING)) return false;
  if (primary & PRIMARY.NMI_WINDOW && !(pin & PIN.VIRTUAL_NMIS)) return false;
  return !(vmcs.low(F.EXIT_CONTROLS) & EXIT_CONTROL.SAVE_PREEMPTION_TIMER) || (pin & PIN.PREEMPTION_TIMER) !== 0;
}

/** Controls that work on the virtual-APIC page. */
const NEEDS_TPR_SHADOW: number =
  SECONDARY.VIRTUALIZE_X2APIC | SECONDARY.APIC_REGISTER_VIRTUALIZATION | SECONDARY.VIRTUAL_INTERRUPT_DELIVERY;

function primaryValid(v: Vtx, vmcs: Vmcs, primary: number): boolean {
  if (vmcs.low(F.CR3_TARGET_COUNT) > CR3_TARGETS) return false;
  if (
    primary & PRIMARY.IO_BITMAPS &&
    !(isPageAddress(v, vmcs, F.IO_BITMAP_A) && isPageAddress(v, vmcs, F.IO_BITMAP_B))
  ) {
    return false;
  }
  if (primary & PRIMARY.MSR_BITMAPS && !isPageAddress(v, vmcs, F.MSR_BITMAP)) return false;
  const ipis = (tertiaryOf(v, vmcs) & TERTIARY.IPI_VIRTUALIZATION) !== 0;
  if (!(primary & PRIMARY.TPR_SHADOW)) return (secondaryOf(vmcs) & NEEDS_TPR_SHADOW) === 0 && !ipis;
  if (ipis && !pidTableValid(v, vmcs)) return false;
  if (!isPageAddress(v, vmcs, F.VIRTUAL_APIC_ADDRESS)) return false;
  return (secondaryOf(vmcs) & SECONDARY.VIRTUAL_INTERRUPT_DELIVERY) !== 0 || vmcs.low(F.TPR_THRESHOLD) <= 15;
}

/** The whole PID-pointer table within the physical-address width. */
function pidTableValid(v: Vtx, vmcs: Vmcs): boolean {
  const table = F.PID_POINTER_TABLE;
  if (vmcs.low(table) & 7 || !isPhysical(v, vmcs, table)) return false;
  return vmcs.address(table) + vmcs.low(F.LAST_PID_POINTER_INDEX) * 8 < 2 ** (32 + v.addressShift);
}

/** APIC virtualization, and the notification of posted interrupts. */
function apicValid(v: Vtx, vmcs: Vmcs, secondary: number): boolean {
  const pin = vmcs.low(F.PIN_CONTROLS);
  const delivery = (secondary & SECONDARY.VIRTUAL_INTERRUPT_DELIVERY) !== 0;
  if (secondary & SECONDARY.VIRTUALIZE_APIC_ACCESSES) {
    if (secondary & SECONDARY.VIRTUALIZE_X2APIC || !isPageAddress(v, vmcs, F.APIC_ACCESS_ADDRESS)) return false;
  }
  if (delivery && !(pin & PIN.EXTERNAL_INTERRUPT_EXITING)) return false;
  if (!(pin & PIN.POSTED_INTERRUPTS)) return true;
  if (!delivery || !(vmcs.low(F.EXIT_CONTROLS) & EXIT_CONTROL.ACKNOWLEDGE_INTERRUPT)) return false;
  if (vmcs.low(F.POSTED_INTERRUPT_NOTIFICATION_VECTOR) > 0xff) return false;
  const descriptor = F.POSTED_INTERRUPT_DESCRIPTOR_ADDRESS;
  return (vmcs.low(descriptor) & 63) === 0 && isPhysical(v, vmcs, descriptor);
}

function eptValid(v: Vtx, vmcs: Vmcs, secondary: number): boolean {
  const switching = secondary & SECONDARY.VM_FUNCTIONS ? vmcs.low(F.VM_FUNCTION_CONTROLS) & 1 : 0;
  if (!(secondary & SECONDARY.EPT)) {
    return !(secondary & (SECONDARY.PML | SECONDARY.UNRESTRICTED_GUEST)) && switching === 0;
  }
  if (!eptPointerValid(v, vmcs.get64(F.EPT_POINTER))) return false;
  if (secondary & SECONDARY.PML && !isPageAddress(v, vmcs, F.PML_ADDRESS)) return false;
  return switching === 0 || isPageAddress(v, vmcs, F.EPTP_LIST_ADDRESS);
}

function secondaryValid(v: Vtx, vmcs: Vmcs, secondary: number): boolean {
  if (secondary & SECONDARY.VPID && vmcs.low(F.VPID) === 0) return false;
  if (secondary & SECONDARY.VM_FUNCTIONS) {
    const unknown = vmcs.low(F.VM_FUNCTION_CONTROLS) & ~v.capabilities.vmFunctions;
    if (unknown !== 0 || vmcs.high(F.VM_FUNCTION_CONTROLS) !== 0) return false;
  }
  if (secondary & SECONDARY.TSC_SCALING && vmcs.get64(F.TSC_MULTIPLIER) === 0n) return false;
  if (secondary & SECONDARY.EPT_VIOLATION_VE && !isPageAddress(v, vmcs, F.VE_INFORMATION_ADDRESS)) return false;
  return apicValid(v, vmcs, secondary) && eptValid(v, vmcs, secondary);
}

/** The checks whose result holds until a control field is written. */
export function controlsValid(v: Vtx, vmcs: Vmcs): boolean {
  if (!wordsAllowed(v, vmcs)) return false;
  const primary = vmcs.low(F.PRIMARY_CONTROLS);
  return (
    pinValid(vmcs, primary) &&
    primaryValid(v, vmcs, primary) &&
    secondaryValid(v, vmcs, secondaryOf(vmcs)) &&
    (!v.tdGuest || tdControlsValid(v, vmcs)) &&
    isMsrList(v, vmcs, F.EXIT_MSR_STORE_ADDRESS, F.EXIT_MSR_STORE_COUNT, MSR_LIST_MAX) &&
    isMsrList(v, vmcs, F.EXIT_MSR_LOAD_ADDRESS, F.EXIT_MSR_LOAD_COUNT, MSR_LIST_MAX) &&
    isMsrList(v, vmcs, F.ENTRY_MSR_LOAD_ADDRESS, F.ENTRY_MSR_LOAD_COUNT, MSR_LIST_MAX)
  );
}

/** With one of these a TPR below its threshold does not stop the entry. */
const THRESHOLD_UNCHECKED: number = SECONDARY.VIRTUAL_INTERRUPT_DELIVERY | SECONDARY.VIRTUALIZE_APIC_ACCESSES;
const VTPR = 0x80;

/** TPR threshold against the virtual TPR: it lies in memory and is checked each time. */
export function tprThresholdValid(v: Vtx, vmcs: Vmcs): boolean {
  if (!(vmcs.low(F.PRIMARY_CONTROLS) & PRIMARY.TPR_SHADOW) || secondaryOf(vmcs) & THRESHOLD_UNCHECKED) return true;
  const vtpr = v.memory.read8(vmcs.address(F.VIRTUAL_APIC_ADDRESS) + VTPR);
  return vmcs.low(F.TPR_THRESHOLD) <= vtpr >> 4;
}

const RESERVED_INFO = 0x7fff_f000;
const NMI_VECTOR = 2;
const MAX_INSTRUCTION_LENGTH = 15;
const ERROR_CODE_RESERVED = 0xffff_0000;

function vectorValid(type: number, vector: number): boolean {
  switch (type) {
    case 1:
      return false;
    case EVENT.NMI:
      return vector === NMI_VECTOR;
    case EVENT.HARDWARE_EXCEPTION:
      return vector <= 31;
    case EVENT.OTHER:
      return vector === 0;
    default:
      return true;
  }
}

/** The interruption-information field and what belongs to it. @sdm "VM-Entry Control Fields" under the checks */
export function injectionValid(vmcs: Vmcs): boolean {
  const info = vmcs.low(F.ENTRY_INTERRUPTION_INFO);
  if ((info & INFO_VALID) === 0) return true;
  const type = (info >>> 8) & 7;
  const vector = info & 0xff;
  if (info & RESERVED_INFO || !vectorValid(type, vector)) return false;
  const realMode = (secondaryOf(vmcs) & SECONDARY.UNRESTRICTED_GUEST) !== 0 && (vmcs.low(F.GUEST_CR0) & CR0_PE) === 0;
  const needsCode = type === EVENT.HARDWARE_EXCEPTION && !realMode && pushesErrorCode(vector);
  const hasCode = (info & INFO_ERROR_CODE) !== 0;
  if (hasCode !== needsCode) return false;
  if (hasCode && vmcs.low(F.ENTRY_EXCEPTION_ERROR_CODE) & ERROR_CODE_RESERVED) return false;
  const software = type >= EVENT.SOFTWARE_INTERRUPT && type <= EVENT.SOFTWARE_EXCEPTION;
  return !software || vmcs.low(F.ENTRY_INSTRUCTION_LENGTH) <= MAX_INSTRUCTION_LENGTH;
}
