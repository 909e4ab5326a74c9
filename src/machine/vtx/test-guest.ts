/** For tests: a processor in VMX root operation with a current VMCS that passes every check of VM entry. */

import { RAX, RBX, RCX, RDI, RDX, RSI } from '../engine/layout.ts';
import { Machine } from '../machine.ts';
import { reset } from '../processor/reset.ts';
import { CR4_PAE, CR4_VMXE, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE, type Processor } from '../processor.ts';
import { VMCS_REVISION } from './capabilities.ts';
import { ENTRY_CONTROL, EXIT_CONTROL, PRIMARY, SECONDARY } from './controls.ts';
import { F, type FieldName } from './field-slots.ts';
import { encodingByName } from './fields.ts';
import { VM_SUCCEED } from './operation.ts';
import { Vtx } from './vtx.ts';

export const VMXON_REGION = 0x1000;
export const VMCS_REGION = 0x2000;
export const OTHER_REGION = 0x3000;
/** Pages for bitmaps, EPT and the like. */
export const FREE_PAGE = 0x8000;

const PIN_DEFAULT = 0x16;
const PRIMARY_DEFAULT = 0x0400_6172;
const EXIT_DEFAULT: number = 0x36dfb | EXIT_CONTROL.HOST_64;
const ENTRY_DEFAULT: number = 0x11fb | ENTRY_CONTROL.IA32E_GUEST;

export const HOST_RIP = 0xffff_8000_0000_1000n;
export const HOST_RSP = 0xffff_8000_0000_2000n;

/** A 64-bit host and a 64-bit guest with flat segments, no interception. */
const VALID: Partial<Record<FieldName, number | bigint>> = {
  PIN_CONTROLS: PIN_DEFAULT,
  PRIMARY_CONTROLS: PRIMARY_DEFAULT,
  EXIT_CONTROLS: EXIT_DEFAULT,
  ENTRY_CONTROLS: ENTRY_DEFAULT,
  VMCS_LINK_POINTER: 0xffff_ffff_ffff_ffffn,
  HOST_CR0: 0x8005_0033,
  HOST_CR3: 0x1_0000,
  HOST_CR4: CR4_PAE | CR4_VMXE,
  HOST_CS_SELECTOR: 0x10,
  HOST_SS_SELECTOR: 0x18,
  HOST_TR_SELECTOR: 0x40,
  HOST_FS_BASE: 0x1111_0000n,
  HOST_GS_BASE: 0xffff_8880_0000_0000n,
  HOST_TR_BASE: 0xffff_fe00_0000_3000n,
  HOST_GDTR_BASE: 0xffff_fe00_0000_1000n,
  HOST_IDTR_BASE: 0xffff_fe00_0000_0000n,
  HOST_SYSENTER_CS: 0x10,
  HOST_RIP,
  HOST_RSP,
  GUEST_CR0: 0x8005_0033,
  GUEST_CR3: 0x1_0000,
  GUEST_CR4: CR4_PAE | CR4_VMXE,
  GUEST_DR7: 0x400,
  GUEST_RFLAGS: 0x2,
  GUEST_RIP: 0x1000,
  GUEST_RSP: 0x9000,
  GUEST_CS_SELECTOR: 0x10,
  GUEST_SS_SELECTOR: 0x18,
  GUEST_DS_SELECTOR: 0x18,
  GUEST_ES_SELECTOR: 0x18,
  GUEST_TR_SELECTOR: 0x40,
  GUEST_CS_LIMIT: 0xffff_ffff,
  GUEST_SS_LIMIT: 0xffff_ffff,
  GUEST_DS_LIMIT: 0xffff_ffff,
  GUEST_ES_LIMIT: 0xffff_ffff,
  GUEST_FS_LIMIT: 0xffff_ffff,
  GUEST_GS_LIMIT: 0xffff_ffff,
  GUEST_TR_LIMIT: 0x67,
  GUEST_CS_ACCESS_RIGHTS: 0xa09b,
  GUEST_SS_ACCESS_RIGHTS: 0xc093,
  GUEST_DS_ACCESS_RIGHTS: 0xc093,
  GUEST_ES_ACCESS_RIGHTS: 0xc093,
  GUEST_FS_ACCESS_RIGHTS: 0xc093,
  GUEST_GS_ACCESS_RIGHTS: 0xc093,
  GUEST_TR_ACCESS_RIGHTS: 0x8b,
  GUEST_LDTR_ACCESS_RIGHTS: 0x1_0000,
  GUEST_IDTR_LIMIT: 0xffff,
  GUEST_GDTR_LIMIT: 0xffff,
};

let shared: Machine | null = null;

/**
 * A processor in 64-bit mode, outside VMX operation, with VMX enabled. It is the same machine each time, reset: what an
 * earlier call gave must not be used any more.
 */
export function hostProcessor(): Processor {
  shared ??= new Machine({ processors: 1, ramSize: 1 << 20, profile: 'pc' });
  const p = shared.processors[0]!;
  const { memory } = shared;
  shared.activate(p);
  p.vtx = new Vtx(p);
  memory.fill(0, 1 << 20);
  reset(p);
  p.cr0 = 0x8005_0033;
  p.cr3 = 0x1_0000n;
  p.cr4 = CR4_PAE | CR4_VMXE;
  p.efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
  p.segments[1]!.attributes = 0xa09b;
  p.msrs.set(0x3a, 5n);
  memory.write32(VMXON_REGION, VMCS_REVISION);
  memory.write32(VMCS_REGION, VMCS_REVISION);
  memory.write32(OTHER_REGION, VMCS_REVISION);
  return p;
}

/** VMXON has been executed; there is no current VMCS. */
export function rootVtx(): Vtx {
  const v = hostProcessor().vtx;
  if (v.vmxon(VMXON_REGION) !== VM_SUCCEED) throw new Error('VMXON failed');
  return v;
}

/** With the valid VMCS current and launch state clear. */
export function validVmcs(): Vtx {
  const v = rootVtx();
  v.vmclear(VMCS_REGION);
  v.vmptrld(VMCS_REGION);
  for (const [name, value] of Object.entries(VALID)) set(v, name as FieldName, value);
  return v;
}

/** VMWRITE by field name; a failure is an error. */
export function set(v: Vtx, name: FieldName, value: number | bigint): void {
  const result = v.vmwrite(encodingByName(name), value);
  if (result !== VM_SUCCEED) throw new Error(`VMWRITE ${name}: ${result}`);
}

/** VMREAD by field name. */
export function get(v: Vtx, name: FieldName): bigint {
  const value = v.vmread(encodingByName(name));
  if (value === undefined) throw new Error(`VMREAD ${name} failed`);
  return value;
}

/** Sets and clears bits of a field. */
export function change(v: Vtx, name: FieldName, set1: number, clear = 0): void {
  set(v, name, (BigInt.asUintN(64, get(v, name)) | BigInt(set1 >>> 0)) & ~BigInt(clear >>> 0));
}

/** Number of the last VMfailValid. */
export const failure = (v: Vtx): number => v.current!.low(F.INSTRUCTION_ERROR);

const PML4 = 0x1_0000;
const PDPT = 0x1_1000;
const EPT_PML4 = 0x1_2000;
const EPT_PDPT = 0x1_3000;
const EPT_DIRECTORY = 0x1_4000;
/** Where test code lies. */
export const CODE = 0x5000;
/** The guest's paging maps 1 GiB, EPT maps this much of it, one to one. */
export const MAPPED: number = 2 << 20;

/** The valid VMCS with a 64-bit guest that runs `code` on identity-mapped memory under EPT, in ring 0. */
export function guestWith(code: readonly number[]): Vtx {
  const v = validVmcs();
  const { memory } = v.p.machine;
  // Accessed and dirty flags are set, so that walks write nothing.
  memory.write64(PML4, BigInt(PDPT) | 0x27n);
  memory.write64(PDPT, 0xe7n);
  memory.write64(EPT_PML4, BigInt(EPT_PDPT) | 7n);
  memory.write64(EPT_PDPT, BigInt(EPT_DIRECTORY) | 7n);
  memory.write64(EPT_DIRECTORY, 0xb7n);
  memory.writeBytes(CODE, Uint8Array.from(code));
  change(v, 'PRIMARY_CONTROLS', PRIMARY.SECONDARY);
  set(v, 'SECONDARY_CONTROLS', SECONDARY.EPT | SECONDARY.UNRESTRICTED_GUEST);
  set(v, 'EPT_POINTER', EPT_PML4 | 0x1e);
  set(v, 'GUEST_RIP', CODE);
  return v;
}

/** Entries of EPT's page directory, for tests that take rights away. */
export const EPT_ENTRY: number = EPT_DIRECTORY;

/** VMLAUNCH or VMRESUME, and what the exit tells. */
export function run(v: Vtx): {
  reason: number;
  qualification: bigint;
  length: number;
  information: number;
  rip: number;
} {
  const result = v.current!.launched ? v.vmresume() : v.vmlaunch();
  if (result !== VM_SUCCEED) throw new Error(`VM entry failed: ${result}, error ${failure(v)}`);
  return {
    reason: Number(get(v, 'EXIT_REASON')),
    qualification: get(v, 'EXIT_QUALIFICATION'),
    length: Number(get(v, 'EXIT_INSTRUCTION_LENGTH')),
    information: Number(get(v, 'EXIT_INSTRUCTION_INFO')),
    rip: Number(get(v, 'GUEST_RIP')),
  };
}

/** Bytes written as hexadecimal numbers with spaces between. */
export const bytes = (hex: string): number[] => hex.split(' ').map((byte) => Number.parseInt(byte, 16));

/** A guest that runs these bytes, with more controls on; RAX to RDI hold distinct addresses. */
export function guest(hex: string, primary = 0, secondary = 0): Vtx {
  const v = guestWith(bytes(hex));
  change(v, 'PRIMARY_CONTROLS', primary);
  change(v, 'SECONDARY_CONTROLS', secondary);
  const { p } = v;
  p.setGpr(RAX, BigInt(FREE_PAGE));
  p.setGpr(RCX, 0x10n);
  p.setGpr(RDX, 0x3f8n);
  p.setGpr(RBX, 0x5555n);
  p.setGpr(RSI, BigInt(FREE_PAGE + 0x100));
  p.setGpr(RDI, BigInt(FREE_PAGE + 0x200));
  return v;
}
