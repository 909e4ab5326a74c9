/** FXSAVE and FXRSTOR. @sdm "FXSAVE—Save x87 FPU, MMX Technology, and SSE State" */
import { MXCSR } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { loadLinearBytes, storeLinearBytes } from '../mmu/access.ts';
import { misaligned } from '../mmu/alignment.ts';
import { DONE, GP, type Outcome } from '../outcome.ts';
import { memoryAddress } from '../processor/operands.ts';
import type { Processor } from '../processor.ts';
import { fpuAvailable } from './fpu-access.ts';
import { isMxcsr, loadXmm, mxcsrIn, saveMxcsr, saveXmm, xmmCount } from './sse-state.ts';
import { loadX87, saveX87 } from './x87-state.ts';
import { LEGACY_SIZE } from './xstate-layout.ts';

/** REX.W: 64-bit instruction and data pointers. */
export const hasWidePointers = (insn: Insn): boolean => insn.mode === 64 && (insn.rex & 8) !== 0;

/** Linear address of the area, aligned as the instruction demands; undefined with a fault raised. */
export function areaAddress(
  p: Processor,
  insn: Insn,
  size: number,
  alignment: number,
  write: boolean,
): bigint | undefined {
  const at = memoryAddress(p, insn, size, write);
  if (at === undefined) return undefined;
  if (at % BigInt(alignment) === 0n) return at;
  // Where alignments are checked, a multiple of 4 is asked for first.
  if (!misaligned(p, p.mmu.class, Number(at & 3n), 4)) p.raise(GP, 0);
  return undefined;
}

export function fxsave(p: Processor, insn: Insn): Outcome {
  const available = fpuAvailable(p, 'save');
  if (available !== DONE) return available;
  const at = areaAddress(p, insn, LEGACY_SIZE, 16, true);
  if (at === undefined) return p.outcome;
  // Bytes beyond the last register of the mode stay as they are.
  const image = new DataView(new ArrayBuffer(160 + 16 * xmmCount(p)));
  saveX87(p, image, hasWidePointers(insn));
  saveMxcsr(p, image);
  saveXmm(p, image);
  return storeLinearBytes(p, at, new Uint8Array(image.buffer));
}

export function fxrstor(p: Processor, insn: Insn): Outcome {
  const available = fpuAvailable(p, 'save');
  if (available !== DONE) return available;
  const at = areaAddress(p, insn, LEGACY_SIZE, 16, false);
  if (at === undefined) return p.outcome;
  const bytes = loadLinearBytes(p, at, LEGACY_SIZE);
  if (bytes === undefined) return p.outcome;
  const image = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!isMxcsr(mxcsrIn(image))) return p.raise(GP, 0);
  // all checks passed
  loadX87(p, image, hasWidePointers(insn));
  p.write32(MXCSR, mxcsrIn(image));
  loadXmm(p, image);
  return DONE;
}

implement('FXSAVE', fxsave);
implement('FXRSTOR', fxrstor);
