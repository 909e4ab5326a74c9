/** Where the outputs of a leaf go. */
import { R8, R9, R10, R11, RCX, RDX } from '../../machine/engine/layout.ts';
import type { Processor } from '../../machine/processor.ts';
import type { Outputs } from './call.ts';

const R12 = 12;
const R13 = 13;
const REGISTERS: Readonly<Record<keyof Outputs, number>> = {
  rcx: RCX,
  rdx: RDX,
  r8: R8,
  r9: R9,
  r10: R10,
  r11: R11,
  r12: R12,
  r13: R13,
};

/** Writes a leaf's outputs to the caller's registers. */
export function writeOutputs(p: Processor, out: Outputs): void {
  for (const name of Object.keys(out) as (keyof Outputs)[]) {
    const value = out[name];
    if (value !== undefined) p.setGpr(REGISTERS[name], value);
  }
}
