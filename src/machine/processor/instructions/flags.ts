/** CLI, STI, PUSHF, POPF, STAC, CLAC: RFLAGS bits that depend on privilege. @sdm the instructions' operation sections */
import { implement } from '../../isa/handlers.ts';
import type { Insn } from '../../isa/insn.ts';
import { DONE, GP, type Outcome, UD } from '../../outcome.ts';
import {
  BLOCKED_BY_STI,
  CR4_PVI,
  CR4_VME,
  FLAG_AC,
  FLAG_DF,
  FLAG_ID,
  FLAG_IF,
  FLAG_IOPL,
  FLAG_NT,
  FLAG_RF,
  FLAG_TF,
  FLAG_VIF,
  FLAG_VIP,
  FLAG_VM,
  type Processor,
  STATUS_FLAGS,
} from '../../processor.ts';
import { trapClearedTf } from '../events/step.ts';
import { loadFlags } from '../rip.ts';
import { currentStack, peek, popped, push, type SlotSize, setStackPointer } from '../stack.ts';

const iopl = (p: Processor): number => (p.flagsRest & FLAG_IOPL) >> 12;
/** Whether IF may be changed; always in real mode, where CPL is 0. */
const ownsInterrupts = (p: Processor): boolean => p.cpl <= iopl(p);
/** Whether CLI and STI work on VIF instead. */
const usesVirtualFlag = (p: Processor): boolean =>
  p.protectedMode && p.cpl === 3 && (p.cr4 & (p.v86 ? CR4_VME : CR4_PVI)) !== 0;

implement('CLI', (p: Processor): Outcome => {
  if (ownsInterrupts(p)) p.flagsRest &= ~FLAG_IF;
  else if (usesVirtualFlag(p)) p.flagsRest &= ~FLAG_VIF;
  else return p.raise(GP, 0);
  return DONE;
});

implement('STI', (p: Processor): Outcome => {
  if (ownsInterrupts(p)) {
    if (!(p.flagsRest & FLAG_IF)) p.interruptShadow |= BLOCKED_BY_STI;
    p.flagsRest |= FLAG_IF;
    p.eventsPending = true;
    return DONE;
  }
  if (!usesVirtualFlag(p) || p.flagsRest & FLAG_VIP) return p.raise(GP, 0);
  p.flagsRest |= FLAG_VIF;
  return DONE;
});

/** In virtual-8086 mode with IOPL below 3 the 16-bit forms work on VIF if CR4.VME is set; the others are #GP. */
const isVirtualised = (p: Processor): boolean => p.v86 && iopl(p) < 3;

implement('PUSHF', (p: Processor, insn: Insn): Outcome => {
  const size = (insn.operandSize / 8) as SlotSize;
  let image = p.rflags & ~(FLAG_RF | FLAG_VM);
  if (isVirtualised(p)) {
    if (size !== 2 || !(p.cr4 & CR4_VME)) return p.raise(GP, 0);
    image = (image & ~FLAG_IF) | FLAG_IOPL | (image & FLAG_VIF ? FLAG_IF : 0);
  }
  return push(p, size, BigInt(image));
});

/** Bits that POPF takes from the image. */
function popMask(p: Processor, size: SlotSize): number {
  let mask = STATUS_FLAGS | FLAG_TF | FLAG_DF | FLAG_NT;
  if (size > 2) mask |= FLAG_AC | FLAG_ID;
  if (ownsInterrupts(p)) mask |= FLAG_IF;
  if (p.cpl === 0) mask |= FLAG_IOPL;
  return mask;
}

function popVirtual(p: Processor, image: number): boolean {
  if (image & FLAG_TF || (image & FLAG_IF && p.flagsRest & FLAG_VIP)) return false;
  p.flagsRest = (p.flagsRest & ~FLAG_VIF) | (image & FLAG_IF ? FLAG_VIF : 0);
  return true;
}

implement('POPF', (p: Processor, insn: Insn): Outcome => {
  const size = (insn.operandSize / 8) as SlotSize;
  const virtual = isVirtualised(p);
  if (virtual && (size !== 2 || !(p.cr4 & CR4_VME))) return p.raise(GP, 0);
  const stack = currentStack(p);
  const value = peek(p, stack, 0, size);
  if (value === undefined) return p.outcome;
  const image = Number(value & 0xffff_ffffn);
  if (virtual && !popVirtual(p, image)) return p.raise(GP, 0);
  // all checks passed
  setStackPointer(p, popped(stack, size));
  const before = p.rflags;
  const mask = popMask(p, size);
  loadFlags(p, ((before & ~mask) | (image & mask)) & ~FLAG_RF);
  trapClearedTf(p, before);
  return DONE;
});

function setAc(p: Processor, on: boolean): Outcome {
  if (p.cpl !== 0 || p.v86) return p.raise(UD);
  loadFlags(p, on ? p.rflags | FLAG_AC : p.rflags & ~FLAG_AC);
  return DONE;
}
implement('STAC', (p: Processor): Outcome => setAc(p, true));
implement('CLAC', (p: Processor): Outcome => setAc(p, false));
