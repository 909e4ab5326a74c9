/**
 * The VMX instructions as executed code: mode, VM exit, privilege and operand rules, then operations.ts.
 *
 * Order: #UD by mode, VM exit in non-root operation (before the CPL is looked at), #GP(0) by CPL, operands.
 * @sdm "VMX Instructions"
 */
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { loadLinear, storeLinear } from '../mmu/access.ts';
import { DONE, GP, JUMPED, type Outcome, UD } from '../outcome.ts';
import { memoryAddress, writeGpr } from '../processor/operands.ts';
import { CR4_VMXE, FLAG_CF, FLAG_ZF, type Processor, STATUS_FLAGS } from '../processor.ts';
import { enter } from './entry.ts';
import { FAULTED, OUTSIDE, VM_FAIL_INVALID, VM_FAIL_VALID, VM_SUCCEED } from './operation.ts';
import * as operations from './operations.ts';
import { REASON, VM_ERROR } from './reasons.ts';

/** Flags and faults of a result of operations.ts. */
function finish(p: Processor, result: number): Outcome {
  if (result >= FAULTED) {
    const vector = result - FAULTED;
    return vector === GP ? p.raise(GP, 0) : p.raise(vector);
  }
  const flag = result === VM_FAIL_INVALID ? FLAG_CF : result === VM_FAIL_VALID ? FLAG_ZF : 0;
  p.rflags = ((p.rflags & ~STATUS_FLAGS) | flag) >>> 0;
  return DONE;
}

/** Real mode, virtual-8086 mode and compatibility mode have no VMX instructions. */
const modeUndefined = (p: Processor): boolean => !p.protectedMode || p.v86 || (p.longMode && !p.mode64);

/** The common prologue; undefined where the instruction goes on. */
function prologue(p: Processor, insn: Insn, reason: number): Outcome | undefined {
  const { vtx } = p;
  if (vtx.operation === OUTSIDE || modeUndefined(p)) return p.raise(UD);
  if (vtx.nonRoot) return vtx.instructionExit(insn, reason);
  return p.cpl === 0 ? undefined : p.raise(GP, 0);
}

/** The 64-bit memory operand of VMXON, VMCLEAR, VMPTRLD. */
function loadPointer(p: Processor, insn: Insn): bigint | undefined {
  const linear = memoryAddress(p, insn, 8, false);
  return linear === undefined ? undefined : loadLinear(p, linear, 8);
}

function vmxon(p: Processor, insn: Insn): Outcome {
  const { vtx } = p;
  if (modeUndefined(p) || (vtx.operation === OUTSIDE && !(p.cr4 & CR4_VMXE))) return p.raise(UD);
  if (vtx.nonRoot) return vtx.instructionExit(insn, REASON.VMXON);
  if (p.cpl !== 0) return p.raise(GP, 0);
  const blocked = operations.vmxonFault(vtx);
  if (blocked !== VM_SUCCEED) return finish(p, blocked);
  const pointer = loadPointer(p, insn);
  return pointer === undefined ? p.outcome : finish(p, operations.vmxon(vtx, pointer));
}

function vmxoff(p: Processor, insn: Insn): Outcome {
  return prologue(p, insn, REASON.VMXOFF) ?? finish(p, operations.vmxoff(p.vtx));
}

function vmclear(p: Processor, insn: Insn): Outcome {
  const early = prologue(p, insn, REASON.VMCLEAR);
  if (early !== undefined) return early;
  const pointer = loadPointer(p, insn);
  return pointer === undefined ? p.outcome : finish(p, operations.vmclear(p.vtx, pointer));
}

function vmptrld(p: Processor, insn: Insn): Outcome {
  const early = prologue(p, insn, REASON.VMPTRLD);
  if (early !== undefined) return early;
  const pointer = loadPointer(p, insn);
  return pointer === undefined ? p.outcome : finish(p, operations.vmptrld(p.vtx, pointer));
}

function vmptrst(p: Processor, insn: Insn): Outcome {
  const early = prologue(p, insn, REASON.VMPTRST);
  if (early !== undefined) return early;
  const linear = memoryAddress(p, insn, 8, true);
  if (linear === undefined) return p.outcome;
  const outcome = storeLinear(p, linear, 8, operations.currentPointer(p.vtx));
  return outcome === DONE ? finish(p, VM_SUCCEED) : outcome;
}

/** A register operand: 64 bits in 64-bit mode, else 32, whatever the operand size. */
const wideRegister = (p: Processor, n: number): bigint => (p.mode64 ? p.gpr(n) : BigInt(p.gpr32(n)));
const registerAt = (insn: Insn, place: 'reg' | 'rm'): number =>
  insn.operands.find((operand) => operand.place === place)!.register;

/** The register operand that names a field: an encoding that does not fit 32 bits names none. */
function fieldOperand(p: Processor, insn: Insn): number {
  const value = wideRegister(p, registerAt(insn, 'reg'));
  return value > 0xffff_ffffn ? -1 : Number(value);
}

/** Faults of a memory destination come after the checks on the field. */
function vmread(p: Processor, insn: Insn): Outcome {
  const early = prologue(p, insn, REASON.VMREAD);
  if (early !== undefined) return early;
  const field = fieldOperand(p, insn);
  const result = operations.vmread(p.vtx, field);
  if (result !== VM_SUCCEED) return finish(p, result);
  const value = operations.readField(p.vtx, field);
  const size = p.mode64 ? 8 : 4;
  if (insn.memory === null) {
    writeGpr(p, registerAt(insn, 'rm'), size * 8, value);
    return finish(p, VM_SUCCEED);
  }
  const linear = memoryAddress(p, insn, size, true);
  if (linear === undefined) return p.outcome;
  const outcome = storeLinear(p, linear, size, BigInt.asUintN(size * 8, value));
  return outcome === DONE ? finish(p, VM_SUCCEED) : outcome;
}

/** The source of VMWRITE; undefined with a fault raised. */
function sourceOperand(p: Processor, insn: Insn): bigint | undefined {
  if (insn.memory === null) return wideRegister(p, registerAt(insn, 'rm'));
  const size = p.mode64 ? 8 : 4;
  const linear = memoryAddress(p, insn, size, false);
  return linear === undefined ? undefined : loadLinear(p, linear, size);
}

/** Faults of a memory source come after VMfailInvalid and before the checks on the field. */
function vmwrite(p: Processor, insn: Insn): Outcome {
  const early = prologue(p, insn, REASON.VMWRITE);
  if (early !== undefined) return early;
  if (p.vtx.current === null) return finish(p, VM_FAIL_INVALID);
  const value = sourceOperand(p, insn);
  if (value === undefined) return p.outcome;
  return finish(p, operations.vmwrite(p.vtx, fieldOperand(p, insn), value));
}

function launch(p: Processor, insn: Insn, reason: number, isLaunch: boolean): Outcome {
  const early = prologue(p, insn, reason);
  if (early !== undefined) return early;
  const { vtx } = p;
  const failed = operations.launchChecks(vtx, isLaunch);
  if (failed !== VM_SUCCEED) return finish(p, failed);
  const entered = enter(vtx, isLaunch, false);
  // RIP is the guest's now, or HOST_RIP where the entry ended in an exit.
  return entered === VM_SUCCEED ? JUMPED : finish(p, entered);
}

/** Type register and 128-bit descriptor of INVEPT and INVVPID. */
function invalidate(
  p: Processor,
  insn: Insn,
  typeValid: (type: bigint) => boolean,
  perform: (type: bigint, low: bigint, high: bigint) => number,
): Outcome {
  const type = wideRegister(p, registerAt(insn, 'reg'));
  if (!typeValid(type)) return finish(p, operations.vmFail(p.vtx, VM_ERROR.INVALID_OPERAND));
  const linear = memoryAddress(p, insn, 16, false);
  if (linear === undefined) return p.outcome;
  const low = loadLinear(p, linear, 8);
  const high = low === undefined ? undefined : loadLinear(p, BigInt.asUintN(64, linear + 8n), 8);
  if (low === undefined || high === undefined) return p.outcome;
  return finish(p, perform(type, low, high));
}

function invept(p: Processor, insn: Insn): Outcome {
  const { vtx } = p;
  const perform = (type: bigint, eptp: bigint): number => operations.invept(vtx, type, eptp);
  return prologue(p, insn, REASON.INVEPT) ?? invalidate(p, insn, operations.inveptTypeValid, perform);
}

function invvpid(p: Processor, insn: Insn): Outcome {
  const { vtx } = p;
  const perform = (type: bigint, vpid: bigint, linear: bigint): number => operations.invvpid(vtx, type, vpid, linear);
  return prologue(p, insn, REASON.INVVPID) ?? invalidate(p, insn, operations.invvpidTypeValid, perform);
}

/** In non-root operation VMCALL exits in every mode and at every CPL. */
function vmcall(p: Processor, insn: Insn): Outcome {
  const { vtx } = p;
  if (vtx.operation === OUTSIDE) return p.raise(UD);
  if (vtx.nonRoot) return vtx.instructionExit(insn, REASON.VMCALL);
  if (p.v86 || (p.longMode && !p.mode64)) return p.raise(UD);
  if (p.cpl !== 0) return p.raise(GP, 0);
  return finish(p, operations.vmFail(vtx, VM_ERROR.VMCALL_IN_ROOT));
}

implement('VMXON', vmxon);
implement('VMXOFF', vmxoff);
implement('VMCLEAR', vmclear);
implement('VMPTRLD', vmptrld);
implement('VMPTRST', vmptrst);
implement('VMREAD', vmread);
implement('VMWRITE', vmwrite);
implement('VMLAUNCH', (p, insn) => launch(p, insn, REASON.VMLAUNCH, true));
implement('VMRESUME', (p, insn) => launch(p, insn, REASON.VMRESUME, false));
implement('INVEPT', invept);
implement('INVVPID', invvpid);
implement('VMCALL', vmcall);
