/** MOV to and from control registers, CLTS, LMSW, SMSW. */
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { DONE, GP, type Outcome, UD, VMEXIT } from '../outcome.ts';
import { memoryAddress, readOperand, writeOperand } from '../processor/operands.ts';
import { CR0_TS, CR4_UMIP, type Processor } from '../processor.ts';
import { PRIMARY } from '../vtx/controls.ts';
import { writeCr0, writeCr3, writeCr4 } from './control-registers.ts';

/** CR0.PE, MP, EM and TS: what LMSW loads. */
const MACHINE_STATUS = 0xf;
const PE = 1;
const TASK_PRIORITY = 8;

const exists = (cr: number, insn: Insn): boolean =>
  cr === 0 || (cr >= 2 && cr <= 4) || (cr === TASK_PRIORITY && insn.mode === 64);

/** What MOV to a control register does after privilege and exit checks. In non-root operation host-owned bits stay. */
function write(p: Processor, cr: number, value: bigint): Outcome {
  switch (cr) {
    case 0:
      if (value >> 32n) return p.raise(GP, 0);
      return writeCr0(p, BigInt(p.vtx.cr0ToWrite(Number(value))));
    case 2:
      p.cr2 = value;
      return DONE;
    case 3:
      return writeCr3(p, value);
    case 4:
      if (value >> 32n) return p.raise(GP, 0);
      return writeCr4(p, BigInt(p.vtx.cr4ToWrite(Number(value))));
    default:
      return writeCr8(p, value);
  }
}

function writeCr8(p: Processor, value: bigint): Outcome {
  if (value > 15n) return p.raise(GP, 0);
  if (p.vtx.primary & PRIMARY.TPR_SHADOW) return p.vtx.cr8Write(Number(value));
  p.apic.setTpr(Number(value) << 4);
  return DONE;
}

function read(p: Processor, cr: number): bigint {
  switch (cr) {
    case 0:
      return BigInt(p.vtx.cr0ToRead());
    case 2:
      return p.cr2;
    case 3:
      return p.cr3;
    case 4:
      return BigInt(p.vtx.cr4ToRead());
    default:
      return BigInt(p.vtx.primary & PRIMARY.TPR_SHADOW ? p.vtx.cr8Read() : p.apic.tpr >> 4);
  }
}

/** @sdm "MOV—Move to/from Control Registers" */
export function movToCr(p: Processor, insn: Insn): Outcome {
  const cr = insn.operands[0]!.register;
  const source = insn.operands[1]!.register;
  if (!exists(cr, insn)) return p.raise(UD);
  if (p.cpl !== 0) return p.raise(GP, 0);
  const value = insn.mode === 64 ? p.gpr(source) : BigInt(p.gpr32(source));
  if (cr !== 2 && p.vtx.movToCrExits(insn, cr, source, value)) return VMEXIT;
  return write(p, cr, value);
}

export function movFromCr(p: Processor, insn: Insn): Outcome {
  const cr = insn.operands[1]!.register;
  const target = insn.operands[0]!.register;
  if (!exists(cr, insn)) return p.raise(UD);
  if (p.cpl !== 0) return p.raise(GP, 0);
  if (p.vtx.movFromCrExits(insn, cr, target)) return VMEXIT;
  const value = read(p, cr);
  if (insn.mode === 64) p.setGpr(target, value);
  else p.setGpr32(target, Number(value & 0xffff_ffffn));
  return DONE;
}

/** @sdm "CLTS—Clear Task-Switched Flag in CR0" */
export function clts(p: Processor, insn: Insn): Outcome {
  if (p.cpl !== 0) return p.raise(GP, 0);
  return p.vtx.clts(insn) ?? writeCr0(p, BigInt((p.cr0 & ~CR0_TS) >>> 0));
}

/** LMSW can set CR0.PE but not clear it. @sdm "LMSW—Load Machine Status Word" */
export function lmsw(p: Processor, insn: Insn): Outcome {
  if (p.cpl !== 0) return p.raise(GP, 0);
  const source = readOperand(p, insn, 0);
  if (source === undefined) return p.outcome;
  const linear = insn.memory ? memoryAddress(p, insn, 2, false) : undefined;
  const status = Number(source);
  if (p.vtx.lmswExits(insn, status, linear)) return VMEXIT;
  const value = (p.cr0 & ~(MACHINE_STATUS & ~PE)) | (status & MACHINE_STATUS);
  return writeCr0(p, BigInt(p.vtx.cr0ToWrite(value >>> 0)));
}

/** @sdm "SMSW—Store Machine Status Word" */
export function smsw(p: Processor, insn: Insn): Outcome {
  if (p.cr4 & CR4_UMIP && p.cpl > 0) return p.raise(GP, 0);
  return writeOperand(p, insn, 0, BigInt(p.vtx.cr0ToRead()));
}

implement('MOV_TO_CR', movToCr);
implement('MOV_FROM_CR', movFromCr);
implement('CLTS', clts);
implement('LMSW', lmsw);
implement('SMSW', smsw);
