/** CPUID, RDMSR and WRMSR. */

import { cpuid } from '../cpuid/cpuid.ts';
import { RAX, RBX, RCX, RDX } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { readMsr, writeMsr } from '../msr/msr.ts';
import { cpuidFaults } from '../msr/platform.ts';
import { DONE, GP, type Outcome } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import { REASON } from '../vtx/reasons.ts';

/** @sdm "CPUID—CPU Identification"; "CPUID Faulting" */
export function cpuidInstruction(p: Processor, insn: Insn): Outcome {
  if (p.cpl !== 0 && cpuidFaults(p)) return p.raise(GP, 0);
  if (p.vtx.nonRoot) return p.vtx.instructionExit(insn, REASON.CPUID, 0n);
  const { eax, ebx, ecx, edx } = cpuid(p, p.gpr32(RAX), p.gpr32(RCX));
  p.setGpr32(RAX, eax);
  p.setGpr32(RBX, ebx);
  p.setGpr32(RCX, ecx);
  p.setGpr32(RDX, edx);
  return DONE;
}

/** @sdm "RDMSR—Read From Model Specific Register" */
export function rdmsr(p: Processor, insn: Insn): Outcome {
  if (p.cpl !== 0) return p.raise(GP, 0);
  const index = p.gpr32(RCX);
  if (p.vtx.msrExits(index, false)) return p.vtx.instructionExit(insn, REASON.RDMSR, 0n);
  const value = p.vtx.virtualMsrRead(index) ?? readMsr(p, index);
  if (value === undefined) return p.raise(GP, 0);
  p.setGpr32(RAX, Number(value & 0xffff_ffffn));
  p.setGpr32(RDX, Number(value >> 32n));
  return DONE;
}

/** @sdm "WRMSR—Write to Model Specific Register" */
export function wrmsr(p: Processor, insn: Insn): Outcome {
  if (p.cpl !== 0) return p.raise(GP, 0);
  const index = p.gpr32(RCX);
  if (p.vtx.msrExits(index, true)) return p.vtx.instructionExit(insn, REASON.WRMSR, 0n);
  const value = (BigInt(p.gpr32(RDX)) << 32n) | BigInt(p.gpr32(RAX));
  return p.vtx.virtualMsrWrite(index, value) ?? (writeMsr(p, index, value) ? DONE : p.raise(GP, 0));
}

implement('CPUID', cpuidInstruction);
implement('RDMSR', rdmsr);
implement('WRMSR', wrmsr);
