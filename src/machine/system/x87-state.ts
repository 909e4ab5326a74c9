/**
 * The x87 part of the FXSAVE image: 160 bytes.
 *
 *   0 FCW   2 FSW   4 abridged FTW   6 FOP   8 FIP (FCS at 12)   16 FDP (FDS at 20)   24 MXCSR, MXCSR_MASK (not x87)
 *   32 ST0 .. 144 ST7, 16 bytes each, 10 used
 *
 * @sdm "FXSAVE—Save x87 FPU, MMX Technology, and SSE State"
 */

import { profileOf } from '../cpuid/cpuid.ts';
import { FCS, FCW, FDP, FDS, FIP, FOP, FPR, FSW, FTAG, FTOP, STATE } from '../engine/layout.ts';
import type { Processor } from '../processor.ts';

const TOP_SHIFT = 11;
const TOP_MASK = 0x3800;
export const FCW_INIT = 0x37f;
/** FCW bits that can be written; bit 6 always reads as one. */
const FCW_WRITABLE = 0x1f3f;
const FCW_ONES = 0x40;
/** Exception flags, and the summary bits ES and B that follow from them. */
const FSW_EXCEPTIONS = 0x3f;
const FSW_SUMMARY = 0x8080;
const FOP_MASK = 0x7ff;

/** The x87 status word with TOP. */
export const statusWord = (p: Processor): number => (p.read16(FSW) & ~TOP_MASK) | ((p.read8(FTOP) & 7) << TOP_SHIFT);

/**
 * Bytes 0 to 23 (control and pointers) and the eight registers.
 * @param wide the 64-bit form of the pointers (REX.W); else 32 bits and, since the processor has "FCS and FDS zero", null selectors
 */
export function saveX87(p: Processor, image: DataView, wide: boolean): void {
  image.setUint16(0, p.read16(FCW), true);
  image.setUint16(2, statusWord(p), true);
  image.setUint8(4, p.read8(FTAG));
  image.setUint8(5, 0);
  image.setUint16(6, p.read16(FOP), true);
  savePointer(image, 8, p.read64(FIP), wide);
  savePointer(image, 16, p.read64(FDP), wide);
  // ST0 to ST7 are the physical registers from TOP on, in a ring. perf: every exit of a TD comes here.
  const top = p.read8(FTOP);
  for (let n = 0; n < 8; n++) {
    const from = FPR + ((top + n) & 7) * 16;
    const to = 32 + n * 16;
    image.setUint32(to, p.read32(from), true);
    image.setUint32(to + 4, p.read32(from + 4), true);
    image.setUint32(to + 8, p.read16(from + 8), true);
    image.setUint32(to + 12, 0, true);
  }
}

const savePointer = (image: DataView, at: number, pointer: bigint, wide: boolean): void =>
  image.setBigUint64(at, wide ? pointer : pointer & 0xffff_ffffn, true);

/** Loads what saveX87 stores. */
export function loadX87(p: Processor, image: DataView, wide: boolean): void {
  const fcw = (image.getUint16(0, true) & FCW_WRITABLE) | FCW_ONES;
  const fsw = image.getUint16(2, true);
  const pending = (fsw & ~fcw & FSW_EXCEPTIONS) !== 0;
  p.write16(FCW, fcw);
  p.write16(FSW, (fsw & ~(TOP_MASK | FSW_SUMMARY)) | (pending ? FSW_SUMMARY : 0));
  p.write8(FTOP, (fsw & TOP_MASK) >> TOP_SHIFT);
  p.write8(FTAG, image.getUint8(4));
  p.write16(FOP, image.getUint16(6, true) & FOP_MASK);
  if (wide) {
    // The instruction pointer has as many bits as linear addresses have; the data pointer is kept whole.
    const fip = BigInt.asIntN(profileOf(p).linearAddressBits, image.getBigUint64(8, true));
    p.write64(FIP, BigInt.asUintN(64, fip));
    p.write64(FDP, image.getBigUint64(16, true));
  } else {
    p.write64(FIP, BigInt(image.getUint32(8, true)));
    p.write64(FDP, BigInt(image.getUint32(16, true)));
  }
  p.write16(FCS, 0);
  p.write16(FDS, 0);
  const top = p.read8(FTOP);
  for (let n = 0; n < 8; n++) {
    const to = FPR + ((top + n) & 7) * 16;
    const from = 32 + n * 16;
    p.write32(to, image.getUint32(from, true));
    p.write32(to + 4, image.getUint32(from + 4, true));
    p.write32(to + 8, image.getUint16(from + 8, true));
    p.write32(to + 12, 0);
  }
}

/** The configuration after FNINIT with zeroed registers. */
export function initX87(p: Processor): void {
  p.write16(FCW, FCW_INIT);
  p.write16(FSW, 0);
  p.write8(FTOP, 0);
  p.write8(FTAG, 0);
  p.write16(FOP, 0);
  p.write64(FIP, 0n);
  p.write64(FDP, 0n);
  p.write16(FCS, 0);
  p.write16(FDS, 0);
  for (let at = FPR; at < FPR + 128; at += 4) p.write32(at, 0);
}

/** Whether the x87 state differs from its initial configuration. @sdm "Processor Tracking of XSAVE-Managed State" */
export function x87InUse(p: Processor): boolean {
  if (p.read16(FCW) !== FCW_INIT || p.read16(FSW) !== 0 || p.read8(FTOP) !== 0 || p.read8(FTAG) !== 0) return true;
  if (p.read16(FOP) !== 0 || p.read64(FIP) !== 0n || p.read64(FDP) !== 0n) return true;
  const { buffer, byteOffset } = p.stateBlock();
  return new Int32Array(buffer, byteOffset + FPR - STATE, 32).some((word) => word !== 0);
}
