/** The SSE part of the FXSAVE image, XMM registers at 160, MXCSR and its mask at 24; and the AVX part of the XSAVE image. */
import { MXCSR, STATE, XMM, YMM_HIGH } from '../engine/layout.ts';
import type { Processor } from '../processor.ts';

export const MXCSR_INIT = 0x1f80;
/** Bits of MXCSR that exist; setting another is #GP. */
export const MXCSR_MASK = 0xffff;
export const MXCSR_AT = 24;
const XMM_AT = 160;

/** Registers that the mode reaches. */
export const xmmCount = (p: Processor): number => (p.mode64 ? 16 : 8);

export function saveXmm(p: Processor, image: DataView): void {
  const block = p.stateBlock().subarray(XMM - STATE, XMM - STATE + 16 * xmmCount(p));
  new Uint8Array(image.buffer, image.byteOffset, image.byteLength).set(block, XMM_AT);
}

export function loadXmm(p: Processor, image: DataView): void {
  p.stateBlock().set(new Uint8Array(image.buffer, image.byteOffset + XMM_AT, 16 * xmmCount(p)), XMM - STATE);
}

export function initXmm(p: Processor): void {
  p.stateBlock().fill(0, XMM - STATE, XMM - STATE + 16 * xmmCount(p));
}

/** The AVX component as it is saved: upper halves of the registers that the mode reaches, a live view. */
export const ymmBytes = (p: Processor): Uint8Array =>
  p.stateBlock().subarray(YMM_HIGH - STATE, YMM_HIGH - STATE + 16 * xmmCount(p));

export function saveMxcsr(p: Processor, image: DataView): void {
  image.setUint32(MXCSR_AT, p.read32(MXCSR), true);
  image.setUint32(MXCSR_AT + 4, MXCSR_MASK, true);
}

export const mxcsrIn = (image: DataView): number => image.getUint32(MXCSR_AT, true);
export const isMxcsr = (value: number): boolean => (value & ~MXCSR_MASK) === 0;

/** Whether an XMM register is not zero. MXCSR does not count. @sdm "Processor Tracking of XSAVE-Managed State" */
export const xmmInUse = (p: Processor): boolean => anyWord(p, XMM);
/** Whether the upper half of a YMM register is not zero. */
export const ymmInUse = (p: Processor): boolean => anyWord(p, YMM_HIGH);

function anyWord(p: Processor, registers: number): boolean {
  const { buffer, byteOffset } = p.stateBlock();
  // perf: one view instead of 32 bigints; context switches come here.
  return new Int32Array(buffer, byteOffset + registers - STATE, 64).some((word) => word !== 0);
}
