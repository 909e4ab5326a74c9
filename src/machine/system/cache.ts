/** TLB and cache instructions. The machine has no caches: those instructions only check what they must. */
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { loadLinear } from '../mmu/access.ts';
import { invlpg as invalidatePage, invpcid as invalidatePcid } from '../mmu/invalidate.ts';
import { DONE, GP, type Outcome, UD } from '../outcome.ts';
import { isCanonicalBase } from '../processor/canonical.ts';
import { effectiveAddress, memoryAddress } from '../processor/operands.ts';
import { CR4_PCIDE, type Processor } from '../processor.ts';
import { PRIMARY, SECONDARY } from '../vtx/controls.ts';
import { REASON } from '../vtx/reasons.ts';

/** Linear address of the memory operand without any check, as INVLPG takes it. */
function uncheckedAddress(p: Processor, insn: Insn): bigint {
  const { segment } = insn.memory!;
  const offset = effectiveAddress(p, insn);
  if (p.mode64) return segment < 4 ? offset : BigInt.asUintN(64, p.segments[segment]!.base + offset);
  return BigInt.asUintN(32, p.segments[segment]!.base + offset);
}

/** @sdm "INVLPG—Invalidate TLB Entries" */
export function invlpg(p: Processor, insn: Insn): Outcome {
  if (p.cpl !== 0) return p.raise(GP, 0);
  const linear = uncheckedAddress(p, insn);
  if (p.vtx.primary & PRIMARY.INVLPG) return p.vtx.instructionExit(insn, REASON.INVLPG, linear);
  if (isCanonicalBase(p, linear)) invalidatePage(p, linear);
  return DONE;
}

const INVPCID_ADDRESS = 0n;
const INVPCID_SINGLE = 1n;
const INVPCID_LAST = 3n;

/** @sdm "INVPCID—Invalidate Process-Context Identifier" */
export function invpcid(p: Processor, insn: Insn): Outcome {
  const { vtx } = p;
  if (vtx.nonRoot && !(vtx.secondary & SECONDARY.INVPCID)) return p.raise(UD);
  if (p.cpl !== 0) return p.raise(GP, 0);
  if (vtx.primary & PRIMARY.INVLPG) return vtx.instructionExit(insn, REASON.INVPCID);
  const register = insn.operands[0]!.register;
  const type = insn.mode === 64 ? p.gpr(register) : BigInt(p.gpr32(register));
  const at = memoryAddress(p, insn, 16, false);
  if (at === undefined) return p.outcome;
  const low = loadLinear(p, at, 8);
  if (low === undefined) return p.outcome;
  const linear = loadLinear(p, BigInt.asUintN(64, at + 8n), 8);
  if (linear === undefined) return p.outcome;
  const pcid = low & 0xfffn;
  if (type > INVPCID_LAST) return p.raise(GP, 0);
  if (type === INVPCID_ADDRESS || type === INVPCID_SINGLE) {
    if (low >> 12n || (pcid !== 0n && !(p.cr4 & CR4_PCIDE))) return p.raise(GP, 0);
    if (type === INVPCID_ADDRESS && !isCanonicalBase(p, linear)) return p.raise(GP, 0);
  }
  invalidatePcid(p, Number(type), Number(pcid), linear);
  return DONE;
}

/** @sdm "INVD—Invalidate Internal Caches" */
export function invd(p: Processor, insn: Insn): Outcome {
  if (p.cpl !== 0) return p.raise(GP, 0);
  return p.vtx.nonRoot ? p.vtx.instructionExit(insn, REASON.INVD, 0n) : DONE;
}

/** @sdm "WBINVD—Write Back and Invalidate Cache"; "WBNOINVD—Write Back and Do Not Invalidate Cache" */
export function wbinvd(p: Processor, insn: Insn): Outcome {
  if (p.cpl !== 0) return p.raise(GP, 0);
  return p.vtx.secondary & SECONDARY.WBINVD ? p.vtx.instructionExit(insn, REASON.WBINVD, 0n) : DONE;
}

implement('INVLPG', invlpg);
implement('INVPCID', invpcid);
implement('INVD', invd);
implement('WBINVD', wbinvd);
implement('WBNOINVD', wbinvd);
