/** I/O, MSR, PAUSE, TSC and CR8 in non-root operation. @sdm "Instructions That Cause VM Exits Conditionally" */
import type { Hpa } from '../../util/address.ts';
import { ES, RDI, RSI } from '../engine/layout.ts';
import type { Insn } from '../isa/insn.ts';
import { PRIMARY, SECONDARY } from './controls.ts';
import { REASON } from './reasons.ts';
import { VAPIC, virtualizeTpr, writeVirtual } from './virtual-apic.ts';
import type { Vtx } from './vtx.ts';

const IO_INPUT = 1 << 3;
const IO_STRING = 1 << 4;
const IO_REP = 1 << 5;
const IO_IMMEDIATE = 1 << 6;
const PORTS = 0x10000;

const bitSet = (v: Vtx, page: Hpa, bit: number): boolean =>
  ((v.memory.read8(page + (bit >>> 3)) >> (bit & 7)) & 1) !== 0;

function ioBitmapSays(v: Vtx, port: number, size: number): boolean {
  if (port + size > PORTS) return true;
  for (let at = port; at < port + size; at++) {
    if (bitSet(v, at < 0x8000 ? v.ioBitmapA : v.ioBitmapB, at & 0x7fff)) return true;
  }
  return false;
}

/** Linear address of the memory side of INS (ES:rDI) or OUTS (segment:rSI). */
function stringAddress(v: Vtx, insn: Insn, input: boolean): bigint {
  const { p } = v;
  const n = input ? ES : insn.segment;
  const offset = BigInt.asUintN(insn.addressSize, p.gpr(input ? RDI : RSI));
  const base = p.mode64 && n < 4 ? 0n : p.segments[n]!.base;
  return BigInt.asUintN(p.mode64 ? 64 : 32, base + offset);
}

export function ioExits(v: Vtx, insn: Insn, port: number, size: number, input: boolean): boolean {
  const { primary } = v;
  if (primary & PRIMARY.IO_BITMAPS ? !ioBitmapSays(v, port, size) : (primary & PRIMARY.UNCONDITIONAL_IO) === 0)
    return false;
  const { string } = insn.row.operation;
  let qualification = (size - 1) | (port << 16);
  if (input) qualification |= IO_INPUT;
  if (string) qualification |= IO_STRING;
  if (string && insn.rep !== 'none') qualification |= IO_REP;
  if (insn.operands.some(({ place }) => place === 'immediate')) qualification |= IO_IMMEDIATE;
  v.instructionExit(insn, REASON.IO, BigInt(qualification >>> 0));
  if (string) v.exit.guestLinear = stringAddress(v, insn, input);
  return true;
}

const HIGH_MSRS = 0xc000_0000;
const MSRS_PER_RANGE = 0x2000;

export function msrExits(v: Vtx, index: number, write: boolean): boolean {
  if ((v.primary & PRIMARY.MSR_BITMAPS) === 0) return true;
  const page = v.msrBitmap + (write ? 0x800 : 0);
  if (index < MSRS_PER_RANGE) return bitSet(v, page, index);
  const high = index - HIGH_MSRS;
  return high < 0 || high >= MSRS_PER_RANGE || bitSet(v, page + 0x400, high);
}

/** Whether PAUSEs that are at most `gap` apart have gone on for longer than `window`, with the one now. */
function pauseLoop(v: Vtx, gap: number, window: number): boolean {
  const now = v.p.machine.clock.now();
  const newLoop = v.pauseLast < 0 || now - v.pauseLast > gap;
  if (newLoop) v.pauseLoopStart = now;
  v.pauseLast = now;
  return !newLoop && now - v.pauseLoopStart > window;
}

export function pauseExits(v: Vtx): boolean {
  if (v.primary & PRIMARY.PAUSE) return true;
  if ((v.secondary & SECONDARY.PAUSE_LOOP) === 0 || v.p.cpl !== 0) return false;
  return pauseLoop(v, v.pauseGap, v.pauseWindow);
}

/** A TD's loop of PAUSE, in cycles. */
const SPIN_GAP = 128;
const SPIN_WINDOW = 512;

export const pauseSpins = (v: Vtx): boolean => v.tdGuest && pauseLoop(v, SPIN_GAP, SPIN_WINDOW);

const FRACTION_BITS = 48n;

export function guestTsc(v: Vtx, tsc: bigint): bigint {
  if ((v.primary & PRIMARY.TSC_OFFSETTING) === 0) return tsc;
  const scaled = v.secondary & SECONDARY.TSC_SCALING ? (tsc * v.tscMultiplier) >> FRACTION_BITS : tsc;
  return BigInt.asUintN(64, scaled + v.tscOffset);
}

/** MOV to CR8 with the TPR shadow: writes VTPR, then TPR virtualization. @sdm "Virtualizing CR8-Based TPR Accesses" */
export function cr8Write(v: Vtx, value: number): void {
  writeVirtual(v, VAPIC.TPR, value << 4);
  virtualizeTpr(v);
}
