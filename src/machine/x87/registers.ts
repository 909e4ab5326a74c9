/** The x87 register stack: ST(i), tags, pushing and popping. @sdm "x87 FPU Data Registers", "x87 FPU Tag Word" */
import { FPR, FTAG, FTOP } from '../engine/layout.ts';
import type { Processor } from '../processor.ts';
import { F80, type Float, pack, unpack } from '../softfloat/float.ts';

/** The physical register of ST(i). */
const physical = (p: Processor, i: number): number => (p.read8(FTOP) + i) & 7;

/** Whether ST(i) holds something. ST(-1) is the register that a push would take. */
export const inUse = (p: Processor, i: number): boolean => ((p.read8(FTAG) >> physical(p, i)) & 1) === 1;

export function setInUse(p: Processor, i: number, used: boolean): void {
  const bit = 1 << physical(p, i);
  p.write8(FTAG, used ? p.read8(FTAG) | bit : p.read8(FTAG) & ~bit);
}

/** The 80 bits of ST(i). */
export function readRaw(p: Processor, i: number): bigint {
  const at = FPR + physical(p, i) * 16;
  return p.read64(at) | (BigInt(p.read16(at + 8)) << 64n);
}

/** Overwrites ST(i), which is then in use. */
export function writeRaw(p: Processor, i: number, value: bigint): void {
  const at = FPR + physical(p, i) * 16;
  p.write64(at, BigInt.asUintN(64, value));
  p.write16(at + 8, Number(value >> 64n));
  setInUse(p, i, true);
}

export const read = (p: Processor, i: number): Float => unpack(F80, readRaw(p, i));
/** ST(i), or null if it is empty. */
export const readUsed = (p: Processor, i: number): Float | null => (inUse(p, i) ? read(p, i) : null);
export const write = (p: Processor, i: number, value: Float): void => writeRaw(p, i, pack(F80, value));

/** Moves TOP by `by`; registers and tags stay. */
export const rotate = (p: Processor, by: number): void => p.write8(FTOP, (p.read8(FTOP) + by) & 7);

export function pop(p: Processor): void {
  setInUse(p, 0, false);
  rotate(p, 1);
}
export function push(p: Processor, raw: bigint): void {
  rotate(p, -1);
  writeRaw(p, 0, raw);
}
