/**
 * The x87 environment in memory, and the whole state: FLDENV, FNSTENV, FNSAVE, FRSTOR.
 *
 *   32-bit form        0 FCW   4 FSW   8 FTW   12 FIP        16 FCS, FOP      20 FDP        24 FDS       28 ST0 … ST7
 *   in real mode                               12 FIP 15:0   16 FOP, FIP 31:16 20 FDP 15:0  24 FDP 31:16
 *   16-bit form        0 FCW   2 FSW   4 FTW    6 FIP         8 FCS           10 FDP        12 FDS       14 ST0 … ST7
 *   in real mode                                6 FIP 15:0    8 FOP, FIP 19:16 10 FDP 15:0  12 FDP 19:16
 *
 * FCS and FDS are stored as zero ("FCS and FDS deprecated", CPUID.7.EBX[13]).
 *
 * @sdm "x87 FPU State Image", "Saving the x87 FPU's State with FSTENV/FNSTENV and FSAVE/FNSAVE"
 */
import { FCS, FCW, FDP, FDS, FIP, FOP, FSW, FTAG, FTOP } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { loadLinearBytes, storeLinearBytes } from '../mmu/access.ts';
import { DONE, FAULT, type Outcome } from '../outcome.ts';
import { memoryAddress } from '../processor/operands.ts';
import type { Processor } from '../processor.ts';
import { NORMAL, ZERO } from '../softfloat/float.ts';
import { statusWord } from '../system/x87-state.ts';
import { initialize, setControl } from './control.ts';
import { inUse, read, readRaw, setInUse, writeRaw } from './registers.ts';
import { SUMMARY, waiting } from './status.ts';

const EXCEPTIONS = 0x3f;
const REGISTERS = 80;

const isWide = (insn: Insn): boolean => insn.operandSize !== 16;
const environmentSize = (insn: Insn): number => (isWide(insn) ? 28 : 14);
const isReal = (p: Processor): boolean => !p.protectedMode || p.v86;

/** The full tag word: two bits for each physical register. */
function tagWord(p: Processor): number {
  let word = 0;
  const top = p.read8(FTOP);
  for (let i = 0; i < 8; i++) {
    const { kind } = read(p, i);
    const tag = !inUse(p, i) ? 3 : kind === ZERO ? 1 : kind === NORMAL ? 0 : 2;
    word |= tag << (((top + i) & 7) * 2);
  }
  return word;
}

function environmentImage(p: Processor, insn: Insn, image: DataView): void {
  const wide = isWide(insn);
  const step = wide ? 4 : 2;
  const put = (n: number, value: number, filler = 0xffff): void => {
    image.setUint16(n * step, value & 0xffff, true);
    if (wide) image.setUint16(n * step + 2, filler, true);
  };
  const fip = Number(p.read64(FIP) & 0xffff_ffffn),
    fdp = Number(p.read64(FDP) & 0xffff_ffffn),
    fop = p.read16(FOP);
  put(0, p.read16(FCW));
  put(1, statusWord(p));
  put(2, tagWord(p));
  if (isReal(p)) {
    const high = (pointer: number): number => (wide ? (pointer >>> 16) << 12 : ((pointer >>> 16) & 15) << 12);
    put(3, fip);
    put(4, high(fip) | fop, (high(fip) >>> 16) & 0xffff);
    put(5, fdp);
    put(6, high(fdp), (high(fdp) >>> 16) & 0xffff);
  } else {
    put(3, fip, fip >>> 16);
    put(4, 0, fop);
    put(5, fdp, fdp >>> 16);
    put(6, 0);
  }
}

function loadEnvironment(p: Processor, insn: Insn, image: DataView): void {
  const wide = isWide(insn);
  const step = wide ? 4 : 2;
  const low = (n: number): number => image.getUint16(n * step, true);
  const both = (n: number): number => (wide ? image.getUint32(n * step, true) : low(n));
  const fsw = low(1);
  p.write16(FSW, fsw & ~(SUMMARY | 0x3800));
  p.write8(FTOP, (fsw >> 11) & 7);
  setControl(p, low(0));
  const tags = low(2);
  let abridged = 0;
  for (let n = 0; n < 8; n++) if (((tags >> (n * 2)) & 3) !== 3) abridged |= 1 << n;
  p.write8(FTAG, abridged);
  p.write16(FCS, 0);
  p.write16(FDS, 0);
  if (isReal(p)) {
    const pointer = (at: number): bigint => BigInt(low(at) + (both(at + 1) >>> 12) * 0x1_0000);
    p.write64(FIP, BigInt.asUintN(32, pointer(3)));
    p.write64(FDP, BigInt.asUintN(32, pointer(5)));
    p.write16(FOP, low(4) & 0x7ff);
  } else {
    p.write64(FIP, BigInt(both(3)));
    p.write64(FDP, BigInt(both(5)));
    p.write16(FOP, wide ? (both(4) >>> 16) & 0x7ff : 0);
  }
}

/** Where alignments are checked: that of the image's words. */
const imageAlignment = (insn: Insn): number => (insn.operandSize === 16 ? 2 : 4);

function storeImage(p: Processor, insn: Insn, size: number, fill: (image: DataView) => void): Outcome {
  const linear = memoryAddress(p, insn, size, true);
  if (linear === undefined) return FAULT;
  const bytes = new Uint8Array(size);
  fill(new DataView(bytes.buffer));
  return storeLinearBytes(p, linear, bytes, false, false, imageAlignment(insn));
}

function loadImage(p: Processor, insn: Insn, size: number): DataView | undefined {
  const linear = memoryAddress(p, insn, size, false);
  const bytes = linear === undefined ? undefined : loadLinearBytes(p, linear, size, false, false, imageAlignment(insn));
  return bytes === undefined ? undefined : new DataView(bytes.buffer, bytes.byteOffset, size);
}

/** All exceptions are masked afterwards. */
implement('FNSTENV', (p, insn) => {
  const outcome = storeImage(p, insn, environmentSize(insn), (image) => environmentImage(p, insn, image));
  if (outcome === DONE) setControl(p, p.read16(FCW) | EXCEPTIONS);
  return outcome;
});
waiting('FLDENV', (p, insn) => {
  const image = loadImage(p, insn, environmentSize(insn));
  if (image === undefined) return p.outcome;
  loadEnvironment(p, insn, image);
  return DONE;
});

implement('FNSAVE', (p, insn) => {
  const at = environmentSize(insn);
  const outcome = storeImage(p, insn, at + REGISTERS, (image) => {
    environmentImage(p, insn, image);
    for (let i = 0; i < 8; i++) {
      const raw = readRaw(p, i);
      image.setBigUint64(at + i * 10, BigInt.asUintN(64, raw), true);
      image.setUint16(at + i * 10 + 8, Number(raw >> 64n), true);
    }
  });
  if (outcome === DONE) initialize(p);
  return outcome;
});
waiting('FRSTOR', (p, insn) => {
  const at = environmentSize(insn);
  const image = loadImage(p, insn, at + REGISTERS);
  if (image === undefined) return p.outcome;
  loadEnvironment(p, insn, image);
  for (let i = 0; i < 8; i++) {
    const used = inUse(p, i);
    writeRaw(p, i, image.getBigUint64(at + i * 10, true) | (BigInt(image.getUint16(at + i * 10 + 8, true)) << 64n));
    setInUse(p, i, used);
  }
  return DONE;
});
