/**
 * What this VT-x implements, and the capability MSRs that tell it: computed from tables of the implemented control bits.
 *
 * @sdm "VMX Capability Reporting Facility"
 */

import { cr4Defined } from '../cpuid/cr4-bits.ts';
import { CR0_PE, CR0_PG } from '../processor.ts';
import { PROFILES, type Profile, type ProfileName } from '../profiles.ts';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN, PRIMARY, SECONDARY, TERTIARY } from './controls.ts';
import { FIELDS, type Field, highestIndex } from './fields.ts';
import { VMCS_BYTES } from './vmcs.ts';

/** Software writes this to the first word of VMXON and VMCS regions. */
export const VMCS_REVISION = 0x53565401;
/** The preemption timer counts once per 2^5 TSC ticks. */
export const TIMER_SHIFT = 5;
export const CR3_TARGETS = 4;
/** Recommended maximum of an MSR list; longer ones fail VM entry. */
export const MSR_LIST_MAX = 512;

const bitsOf = (controls: Readonly<Record<string, number>>, ...without: number[]): number =>
  (Object.values(controls).reduce((all, bit) => all | bit, 0) & ~without.reduce((all, bit) => all | bit, 0)) >>> 0;
const bitList = (...bits: number[]): number => bits.reduce((all, bit) => all | (1 << bit), 0) >>> 0;

/** Bits that are always 1 in the legacy capability MSRs; `free` may be 0 by the TRUE MSRs. */
interface ControlWord {
  readonly implemented: number;
  readonly default1: number;
  readonly free: number;
}

const PIN_WORD: ControlWord = {
  implemented: bitsOf(PIN),
  default1: bitList(1, 2, 4),
  free: 0,
};
const PRIMARY_WORD: ControlWord = {
  implemented: bitsOf(PRIMARY),
  default1: bitList(1, 4, 5, 6, 8, 13, 14, 15, 16, 26),
  free: PRIMARY.CR3_LOAD | PRIMARY.CR3_STORE,
};
const EXIT_WORD: ControlWord = {
  implemented: bitsOf(EXIT_CONTROL),
  default1: bitList(0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 14, 16, 17),
  free: EXIT_CONTROL.SAVE_DEBUG,
};
const ENTRY_WORD: ControlWord = {
  implemented: bitsOf(ENTRY_CONTROL, ENTRY_CONTROL.ENTRY_TO_SMM, ENTRY_CONTROL.DEACTIVATE_DUAL_MONITOR),
  default1: bitList(0, 1, 2, 3, 4, 5, 6, 7, 8, 12),
  free: ENTRY_CONTROL.LOAD_DEBUG,
};
const SECONDARY_IMPLEMENTED: number =
  SECONDARY.VIRTUALIZE_APIC_ACCESSES |
  SECONDARY.EPT |
  SECONDARY.DESCRIPTOR_TABLE |
  SECONDARY.RDTSCP |
  SECONDARY.VIRTUALIZE_X2APIC |
  SECONDARY.VPID |
  SECONDARY.WBINVD |
  SECONDARY.UNRESTRICTED_GUEST |
  SECONDARY.APIC_REGISTER_VIRTUALIZATION |
  SECONDARY.VIRTUAL_INTERRUPT_DELIVERY |
  SECONDARY.PAUSE_LOOP |
  SECONDARY.RDRAND |
  SECONDARY.INVPCID |
  SECONDARY.VM_FUNCTIONS |
  SECONDARY.RDSEED |
  SECONDARY.PML |
  SECONDARY.EPT_VIOLATION_VE |
  SECONDARY.XSAVES |
  SECONDARY.TSC_SCALING;
/** Of an ordinary VMCS: what a TD's may have beside them is the module's business. */
const TERTIARY_IMPLEMENTED: number = TERTIARY.IPI_VIRTUALIZATION;
/** VM function 0: EPTP switching. */
const VM_FUNCTIONS = 1;

/** A control word's bits that must be 1 and that may be 1. */
export interface AllowedControls {
  readonly mustBeOne: number;
  readonly mayBeOne: number;
}

/** Whether a control word is one that the capability allows. */
export const controlsAllowed = (value: number, { mustBeOne, mayBeOne }: AllowedControls): boolean =>
  (~value & mustBeOne) === 0 && (value & ~mayBeOne) === 0;

const allowed = ({ implemented, default1, free }: ControlWord): AllowedControls => ({
  mustBeOne: (default1 & ~free) >>> 0,
  mayBeOne: (default1 | implemented) >>> 0,
});
const msrOf = (mustBeOne: number, mayBeOne: number): bigint => (BigInt(mayBeOne) << 32n) | BigInt(mustBeOne);

// Misc: timer rate; exits store EFER.LMA (5); HLT, shutdown, wait-for-SIPI (6 to 8); CR3 targets; VMWRITE to all fields
// (29); injection with instruction length 0 (30).
const MISC = BigInt((TIMER_SHIFT | 0x1e0 | (CR3_TARGETS << 16) | bitList(29, 30)) >>> 0);
/** Execute-only, 4 levels, UC, WB, 2M, 1G, INVEPT single and all, A/D, advanced violation information, INVVPID of all types. */
const EPT_VPID_CAP = 0x0000_0f01_0673_4141n;
// Region size, write-back memory (6), instruction information for INS and OUTS (54), TRUE MSRs (55).
const BASIC = BigInt(VMCS_REVISION) | (BigInt(Math.ceil(VMCS_BYTES / 1024) * 1024) << 32n) | (0xd8n << 48n);

export const CR0_FIXED0 = 0x8000_0021;
export const CR4_FIXED0 = 0x2000;

/** The VT-x capabilities of one processor model. */
export class VmxCapabilities {
  readonly pin: AllowedControls = allowed(PIN_WORD);
  readonly primary: AllowedControls = allowed(PRIMARY_WORD);
  readonly secondary: AllowedControls = { mustBeOne: 0, mayBeOne: SECONDARY_IMPLEMENTED };
  readonly tertiary: number = TERTIARY_IMPLEMENTED;
  readonly exit: AllowedControls = allowed(EXIT_WORD);
  readonly entry: AllowedControls = allowed(ENTRY_WORD);
  readonly vmFunctions: number = VM_FUNCTIONS;
  readonly cr4Fixed1: number;
  /** Shift that leaves only illegal bits of a physical address's high half. */
  readonly addressShift: number;
  readonly physicalAddressBits: number;
  readonly linearAddressBits: number;
  /** Fields that exist here. */
  readonly fields: readonly Field[];
  /** Slot of each existing field by encoding >> 1, or -1. */
  readonly slotOf: Int16Array = new Int16Array(0x4000).fill(-1);
  readonly msrs: ReadonlyMap<number, bigint>;

  /** @param seam the processors have SEAM mode */
  constructor(profile: Profile, seam = false) {
    this.cr4Fixed1 = cr4Defined(profile.features);
    this.physicalAddressBits = profile.physicalAddressBits;
    this.linearAddressBits = profile.linearAddressBits;
    this.addressShift = profile.physicalAddressBits - 32;
    this.fields = FIELDS.filter(({ needs }) => needs.length === 0 || needs.some((need) => this.#provides(need)));
    for (const { encoding, slot } of this.fields) this.slotOf[encoding >> 1] = slot;
    this.msrs = new Map<number, bigint>([
      [0x480, BASIC],
      [0x481, msrOf(PIN_WORD.default1, this.pin.mayBeOne)],
      [0x482, msrOf(PRIMARY_WORD.default1, this.primary.mayBeOne)],
      [0x483, msrOf(EXIT_WORD.default1, this.exit.mayBeOne)],
      [0x484, msrOf(ENTRY_WORD.default1, this.entry.mayBeOne)],
      [0x485, MISC],
      [0x486, BigInt(CR0_FIXED0)],
      [0x487, 0xffff_ffffn],
      [0x488, BigInt(CR4_FIXED0)],
      [0x489, BigInt(this.cr4Fixed1)],
      [0x48a, BigInt(highestIndex(this.fields) << 1)],
      [0x48b, msrOf(0, this.secondary.mayBeOne)],
      [0x48c, EPT_VPID_CAP],
      [0x48d, msrOf(this.pin.mustBeOne, this.pin.mayBeOne)],
      [0x48e, msrOf(this.primary.mustBeOne, this.primary.mayBeOne)],
      [0x48f, msrOf(this.exit.mustBeOne, this.exit.mayBeOne)],
      [0x490, msrOf(this.entry.mustBeOne, this.entry.mayBeOne)],
      [0x491, BigInt(VM_FUNCTIONS)],
      [0x492, BigInt(TERTIARY_IMPLEMENTED | (seam ? TERTIARY.GPAW : 0))],
    ]);
  }

  /** Whether `value` satisfies the fixed bits of CR0; an unrestricted guest is free in PE and PG. */
  cr0Allowed(value: number, unrestricted: boolean): boolean {
    const fixed = unrestricted ? CR0_FIXED0 & ~(CR0_PE | CR0_PG) : CR0_FIXED0;
    return (~value & fixed) === 0;
  }
  cr4Allowed(value: number): boolean {
    return (~value & CR4_FIXED0) === 0 && (value & ~this.cr4Fixed1) === 0;
  }

  #provides(need: string): boolean {
    const [, word, bit] = /^(exit2\.|[a-z]+)(\d*)$/.exec(need)!;
    const mask = 1 << Number(bit);
    switch (word) {
      case 'pin':
        return (this.pin.mayBeOne & mask) !== 0;
      case 'pri':
        return (this.primary.mayBeOne & mask) !== 0;
      case 'sec':
        return (this.secondary.mayBeOne & mask) !== 0;
      case 'exit':
        return (this.exit.mayBeOne & mask) !== 0;
      case 'entry':
        return (this.entry.mayBeOne & mask) !== 0;
      case 'vmfunc':
        return (VM_FUNCTIONS & mask) !== 0;
      case 'ter':
        return (this.tertiary & mask) !== 0;
      default: // secondary exit controls and SEAM are not offered
        return false;
    }
  }
}

const capabilities: ReadonlyMap<ProfileName, VmxCapabilities> = new Map(
  (Object.keys(PROFILES) as ProfileName[]).map((name) => [
    name,
    new VmxCapabilities(PROFILES[name], name === 'tdx-host'),
  ]),
);

/** The capabilities of a profile's processors. */
export const vmxCapabilities = (profile: ProfileName): VmxCapabilities => capabilities.get(profile)!;

/** A capability MSR (0x480 to 0x492); undefined for an index that is none. All are read-only. */
export const readVmxMsr = (profile: ProfileName, index: number): bigint | undefined =>
  vmxCapabilities(profile).msrs.get(index);
