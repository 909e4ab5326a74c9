/** Exits of control- and debug-register accesses. @sdm "Changes to Instruction Behavior in VMX Non-Root Operation" */

import { low32 } from '../../util/dwords.ts';
import type { Insn } from '../isa/insn.ts';
import { DONE, type Outcome } from '../outcome.ts';
import { CR0_PE, CR0_TS } from '../processor.ts';
import { PRIMARY } from './controls.ts';
import { F } from './field-slots.ts';
import { REASON } from './reasons.ts';
import type { Vtx } from './vtx.ts';

const FROM_CR = 1 << 4;
const CLTS = 2 << 4;
const LMSW = 3 << 4;
const LMSW_MEMORY = 1 << 6;
/** CR0.MP, EM and TS: what LMSW writes beside PE. */
const LMSW_OTHERS = 0xe;

function isCr3Target(v: Vtx, value: bigint): boolean {
  const vmcs = v.current!;
  const count = vmcs.low(F.CR3_TARGET_COUNT);
  for (let i = 0; i < count; i++) if (vmcs.get64(F.CR3_TARGET_0 + i) === value) return true;
  return false;
}

function loadExits(v: Vtx, cr: number, value: bigint): boolean {
  switch (cr) {
    case 0:
      return ((low32(value) ^ v.cr0Shadow) & v.cr0Mask) !== 0;
    case 3:
      return (v.primary & PRIMARY.CR3_LOAD) !== 0 && !isCr3Target(v, value);
    case 4:
      return ((low32(value) ^ v.cr4Shadow) & v.cr4Mask) !== 0;
    default:
      return (v.primary & PRIMARY.CR8_LOAD) !== 0;
  }
}

export function movToCrExits(v: Vtx, insn: Insn, cr: number, gpr: number, value: bigint): boolean {
  if (!loadExits(v, cr, value)) return false;
  v.instructionExit(insn, REASON.CR_ACCESS, BigInt(cr | (gpr << 8)));
  return true;
}

export function movFromCrExits(v: Vtx, insn: Insn, cr: number, gpr: number): boolean {
  const control = cr === 3 ? PRIMARY.CR3_STORE : cr === 8 ? PRIMARY.CR8_STORE : 0;
  if ((v.primary & control) === 0) return false;
  v.instructionExit(insn, REASON.CR_ACCESS, BigInt(cr | FROM_CR | (gpr << 8)));
  return true;
}

export function clts(v: Vtx, insn: Insn): Outcome | undefined {
  if ((v.cr0Mask & CR0_TS) === 0) return undefined;
  return v.cr0Shadow & CR0_TS ? v.instructionExit(insn, REASON.CR_ACCESS, BigInt(CLTS)) : DONE;
}

export function lmswExits(v: Vtx, insn: Insn, source: number, linear: bigint | undefined): boolean {
  const setsPe = (v.cr0Mask & source & ~v.cr0Shadow & CR0_PE) !== 0;
  if (!setsPe && (v.cr0Mask & (source ^ v.cr0Shadow) & LMSW_OTHERS) === 0) return false;
  const memory = linear === undefined ? 0 : LMSW_MEMORY;
  v.instructionExit(insn, REASON.CR_ACCESS, BigInt((LMSW | memory | ((source & 0xffff) << 16)) >>> 0));
  v.exit.guestLinear = linear ?? 0n;
  return true;
}

const FROM_DR = 1 << 4;

export function movDrExits(v: Vtx, insn: Insn, dr: number, fromDr: boolean, gpr: number): boolean {
  if ((v.primary & PRIMARY.MOV_DR) === 0) return false;
  v.instructionExit(insn, REASON.MOV_DR, BigInt(dr | (fromDr ? FROM_DR : 0) | (gpr << 8)));
  return true;
}
