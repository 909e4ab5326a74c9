/** The time-stamp counter and its instructions; RDPMC. */
import { RAX, RCX, RDX } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { DONE, GP, type Outcome, UD } from '../outcome.ts';
import { CR4_PCE, CR4_TSD, type Processor } from '../processor.ts';
import { PRIMARY, SECONDARY } from '../vtx/controls.ts';
import { REASON } from '../vtx/reasons.ts';

const MASK64 = 0xffff_ffff_ffff_ffffn;

/** The processor's own TSC, without what VMX non-root operation adds. Unsigned 64 bits. */
export const readTsc = (p: Processor): bigint => (BigInt(p.machine.clock.now()) + p.tscOffset) & MASK64;

/** Makes the TSC read `value` now. */
export function setTsc(p: Processor, value: bigint): void {
  p.tscOffset = BigInt.asIntN(64, value - BigInt(p.machine.clock.now()));
  p.apic.tscChanged();
}

function setPair(p: Processor, value: bigint): void {
  p.setGpr32(RAX, Number(value & 0xffff_ffffn));
  p.setGpr32(RDX, Number(value >> 32n));
}

const tscForbidden = (p: Processor): boolean => (p.cr4 & CR4_TSD) !== 0 && p.cpl !== 0;

/** @sdm "RDTSC—Read Time-Stamp Counter" */
export function rdtsc(p: Processor, insn: Insn): Outcome {
  if (tscForbidden(p)) return p.raise(GP, 0);
  if (p.vtx.primary & PRIMARY.RDTSC) return p.vtx.instructionExit(insn, REASON.RDTSC, 0n);
  setPair(p, p.vtx.guestTsc(readTsc(p)));
  return DONE;
}

/** RDTSCP and RDPID are undefined in non-root operation unless the host enables them. */
const rdtscpDisabled = (p: Processor): boolean => p.vtx.nonRoot && !(p.vtx.secondary & SECONDARY.RDTSCP);

/** @sdm "RDTSCP—Read Time-Stamp Counter and Processor ID" */
export function rdtscp(p: Processor, insn: Insn): Outcome {
  if (rdtscpDisabled(p)) return p.raise(UD);
  if (tscForbidden(p)) return p.raise(GP, 0);
  if (p.vtx.primary & PRIMARY.RDTSC) return p.vtx.instructionExit(insn, REASON.RDTSCP, 0n);
  setPair(p, p.vtx.guestTsc(readTsc(p)));
  p.setGpr32(RCX, p.tscAux);
  return DONE;
}

/** @sdm "RDPID—Read Processor ID" */
export function rdpid(p: Processor, insn: Insn): Outcome {
  if (rdtscpDisabled(p)) return p.raise(UD);
  p.setGpr32(insn.operands[0]!.register, p.tscAux);
  return DONE;
}

/** There are no performance counters, so every index is invalid. @sdm "RDPMC—Read Performance-Monitoring Counters" */
export function rdpmc(p: Processor, insn: Insn): Outcome {
  if (p.cpl !== 0 && !(p.cr4 & CR4_PCE)) return p.raise(GP, 0);
  if (p.vtx.primary & PRIMARY.RDPMC) return p.vtx.instructionExit(insn, REASON.RDPMC, 0n);
  return p.raise(GP, 0);
}

implement('RDTSC', rdtsc);
implement('RDTSCP', rdtscp);
implement('RDPID', rdpid);
implement('RDPMC', rdpmc);
