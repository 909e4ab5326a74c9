/**
 * Exits of control-register writes, XSETBV and RDPMC.
 *
 * @tdx "CPU Virtualization (Non-Root Mode Operation)", CR Handling, Extended Feature Set
 */
import { RAX, RCX, RDX } from '../../machine/engine/layout.ts';
import { CR0_PG, CR4_PAE, EFER_LMA, EFER_LME } from '../../machine/processor.ts';
import { ENTRY_CONTROL } from '../../machine/vtx/controls.ts';
import { F } from '../../machine/vtx/field-slots.ts';
import { afterLmsw, type CrWrite, writeCr0, writeCr4, xcr0Allowed } from '../virtualization/control-registers.ts';
import type { Guest } from './guest.ts';
import { injectVe } from './inject-ve.ts';

/** Access types in bits 5:4 of the qualification. */
const MOV_TO_CR = 0;
const LMSW = 3;

function movToCr(guest: Guest, cr: number, value: bigint): CrWrite | null {
  const { p, vmcs, view } = guest;
  const cr0 = vmcs.get64(F.GUEST_CR0);
  if (cr === 0) return writeCr0(p, value, cr0, vmcs.get64(F.GUEST_CR4));
  return cr === 4 ? writeCr4(p, value, cr0, view) : null;
}

/** CR0 and what follows from CR0.PG in long mode. False where paging cannot be turned on so. */
function setCr0(guest: Guest, value: bigint): boolean {
  const { vmcs } = guest;
  const efer = vmcs.low(F.GUEST_EFER);
  const long = (efer & EFER_LME) !== 0 && (value & BigInt(CR0_PG)) !== 0n;
  if (long && !(vmcs.low(F.GUEST_CR4) & CR4_PAE)) return false;
  guest.write(F.GUEST_CR0, value);
  guest.write(F.GUEST_EFER, BigInt(long ? efer | EFER_LMA : efer & ~EFER_LMA));
  const entry = vmcs.low(F.ENTRY_CONTROLS) & ~ENTRY_CONTROL.IA32E_GUEST;
  guest.write(F.ENTRY_CONTROLS, BigInt(long ? entry | ENTRY_CONTROL.IA32E_GUEST : entry));
  return true;
}

/** Handles a control-register access; false if it is one that a TD's controls never intercept. */
export function crExit(guest: Guest): boolean {
  const qualification = Number(guest.qualification & 0xffff_ffffn);
  const type = (qualification >>> 4) & 3;
  if (type === LMSW) {
    guest.write(F.GUEST_CR0, afterLmsw(guest.vmcs.get64(F.GUEST_CR0), qualification >>> 16));
    guest.advance();
    return true;
  }
  const cr = qualification & 15;
  const written = type === MOV_TO_CR ? movToCr(guest, cr, guest.gpr((qualification >>> 8) & 15)) : null;
  if (written === null) return false;
  if (written.kind === 've') injectVe(guest);
  else if (written.kind === 'gp' || !setCr0(guest, written.value)) guest.injectGp();
  else guest.advance();
  return true;
}

/** Handles XSETBV: a TD has the components of its XFAM. */
export function xsetbvExit(guest: Guest): void {
  const { p, view } = guest;
  const value = (BigInt(p.gpr32(RDX)) << 32n) | BigInt(p.gpr32(RAX));
  if (p.gpr32(RCX) !== 0 || !xcr0Allowed(value, view.xfam)) return guest.injectGp();
  p.xcr0 = value;
  guest.advance();
}
