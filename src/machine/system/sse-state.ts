/** The SSE part of the FXSAVE image: XMM registers at 160, MXCSR and its mask at 24. */
import { MXCSR, XMM } from '../engine/layout.ts';
import type { Processor } from '../processor.ts';

export const MXCSR_INIT = 0x1f80;
/** Bits of MXCSR that exist; setting another is #GP. */
export const MXCSR_MASK = 0xffff;
export const MXCSR_AT = 24;
const XMM_AT = 160;

/** Registers that the mode reaches. */
export const xmmCount = (p: Processor): number => (p.mode64 ? 16 : 8);

export function saveXmm(p: Processor, image: DataView): void {
  const bytes = new Uint8Array(image.buffer, image.byteOffset, image.byteLength);
  for (let n = 0; n < xmmCount(p); n++) bytes.set(p.xmm(n), XMM_AT + 16 * n);
}

export function loadXmm(p: Processor, image: DataView): void {
  const bytes = new Uint8Array(image.buffer, image.byteOffset, image.byteLength);
  for (let n = 0; n < xmmCount(p); n++) p.xmm(n).set(bytes.subarray(XMM_AT + 16 * n, XMM_AT + 16 * n + 16));
}

export function initXmm(p: Processor): void {
  for (let n = 0; n < xmmCount(p); n++) p.xmm(n).fill(0);
}

export function saveMxcsr(p: Processor, image: DataView): void {
  image.setUint32(MXCSR_AT, p.read32(MXCSR), true);
  image.setUint32(MXCSR_AT + 4, MXCSR_MASK, true);
}

export const mxcsrIn = (image: DataView): number => image.getUint32(MXCSR_AT, true);
export const isMxcsr = (value: number): boolean => (value & ~MXCSR_MASK) === 0;

/** Whether an XMM register is not zero. MXCSR does not count. @sdm "Processor Tracking of XSAVE-Managed State" */
export function xmmInUse(p: Processor): boolean {
  for (let at = XMM; at < XMM + 256; at += 8) if (p.read64(at) !== 0n) return true;
  return false;
}
