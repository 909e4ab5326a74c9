/** IRET, IRETD, IRETQ. @sdm IRET/IRETD/IRETQ—Interrupt Return */
import { DS, ES, FS, GS, SS } from '../../engine/layout.ts';
import { implement } from '../../isa/handlers.ts';
import type { Insn } from '../../isa/insn.ts';
import { loadLinear } from '../../mmu/access.ts';
import { FAULT, GP, JUMPED, type Outcome } from '../../outcome.ts';
import {
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
  type Segment,
  STATUS_FLAGS,
} from '../../processor.ts';
import { trapClearedTf } from '../events/step.ts';
import { checkTarget, enterCode, isCode64, loadFlags } from '../rip.ts';
import { rplOf } from '../segments/descriptor.ts';
import { dropPrivilegedSegments, setSegment, v86Segment } from '../segments/load.ts';
import { currentStack, peekAll, popped, type SlotSize, type Stack, setStackPointer, stackWidth } from '../stack.ts';
import { returnTarget } from './code-segment.ts';
import { unprotectedCode } from './far-jump.ts';
import { returnStack } from './outer-stack.ts';
import { TASK_SWITCH, taskSwitch } from './task-switch.ts';

const ALWAYS = STATUS_FLAGS | FLAG_TF | FLAG_DF | FLAG_NT;
const iopl = (flags: number): number => (flags & FLAG_IOPL) >> 12;

/** Which bits of RFLAGS a protected-mode IRET at privilege `cpl` takes from the stack. */
function returnMask(p: Processor, cpl: number, size: SlotSize): number {
  let mask = ALWAYS;
  if (size > 2) mask |= FLAG_RF | FLAG_AC | FLAG_ID;
  if (cpl <= iopl(p.flagsRest)) mask |= FLAG_IF;
  if (cpl === 0) mask |= FLAG_IOPL | (size > 2 ? FLAG_VIF | FLAG_VIP : 0);
  return mask;
}

/** Takes the bits of `mask` from the image; the rest of RFLAGS stays. */
function restoreFlags(p: Processor, image: bigint, mask: number): void {
  const before = p.rflags;
  loadFlags(p, (before & ~mask) | (Number(BigInt.asUintN(32, image)) & mask));
  trapClearedTf(p, before);
}

function realMode(p: Processor, stack: Stack, size: SlotSize): Outcome {
  const values = peekAll(p, stack, size, 3);
  if (values === undefined) return p.outcome;
  const [rip, selector, flags] = values as [bigint, bigint, bigint];
  const code = unprotectedCode(p, Number(selector & 0xffffn));
  if (!checkTarget(p, code, rip)) return p.outcome;
  // all checks passed
  const mask = ALWAYS | FLAG_IF | FLAG_IOPL | (size > 2 ? FLAG_RF | FLAG_AC | FLAG_ID : 0);
  setStackPointer(p, popped(stack, 3 * size));
  restoreFlags(p, flags, mask);
  enterCode(p, code, p.cpl, rip);
  return JUMPED;
}

/** From virtual-8086 mode: with IOPL 3 like real mode, but IOPL stays; with VME the 16-bit form works on VIF. */
function fromV86(p: Processor, stack: Stack, size: SlotSize): Outcome {
  const privileged = iopl(p.flagsRest) === 3;
  const extended = !privileged && size === 2 && (p.cr4 & CR4_VME) !== 0;
  if (!privileged && !extended) return p.raise(GP, 0);
  const values = peekAll(p, stack, size, 3);
  if (values === undefined) return p.outcome;
  const [rip, selector, image] = values as [bigint, bigint, bigint];
  const flags = Number(image & 0xffff_ffffn);
  const wantsInterrupts = (flags & FLAG_IF) !== 0;
  if (extended && ((wantsInterrupts && p.flagsRest & FLAG_VIP) || flags & FLAG_TF)) return p.raise(GP, 0);
  const code = unprotectedCode(p, Number(selector & 0xffffn));
  if (!checkTarget(p, code, rip)) return p.outcome;
  // all checks passed
  setStackPointer(p, popped(stack, 3 * size));
  if (extended) p.flagsRest = (p.flagsRest & ~FLAG_VIF) | (wantsInterrupts ? FLAG_VIF : 0);
  restoreFlags(p, image, ALWAYS | (extended ? 0 : FLAG_IF) | (size > 2 ? FLAG_RF | FLAG_AC | FLAG_ID : 0));
  enterCode(p, code, 3, rip);
  return JUMPED;
}

/** To virtual-8086 mode, from level 0: nine doublewords. */
function toV86(p: Processor, stack: Stack): Outcome {
  const values = peekAll(p, stack, 4, 9);
  if (values === undefined) return p.outcome;
  const [rip, cs, flags, esp, ss, es, ds, fs, gs] = values.map((v) => Number(v)) as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const code = v86Segment(cs & 0xffff);
  if (!checkTarget(p, code, BigInt(rip))) return p.outcome;
  // all checks passed
  restoreFlags(p, BigInt(flags), returnMask(p, 0, 4) | FLAG_VM);
  enterCode(p, code, 3, BigInt(rip));
  const loads: [number, number][] = [
    [ES, es],
    [SS, ss],
    [DS, ds],
    [FS, fs],
    [GS, gs],
  ];
  for (const [n, selector] of loads) setSegment(p, n, v86Segment(selector & 0xffff));
  p.setGpr32(4, esp);
  return JUMPED;
}

/** Return within protected mode, compatibility or 64-bit mode. */
function protectedReturn(p: Processor, stack: Stack, size: SlotSize, values: [bigint, bigint, bigint]): Outcome {
  const [rip, word, flags] = values;
  const selector = Number(word & 0xffffn);
  const code = returnTarget(p, selector);
  if (code === undefined) return p.outcome;
  const cpl = rplOf(selector);
  const to64 = isCode64(p, code);
  const mask = returnMask(p, p.cpl, size);
  const from64 = p.mode64;
  if (cpl === p.cpl && !from64) {
    if (!checkTarget(p, code, rip)) return p.outcome;
    // all checks passed
    setStackPointer(p, popped(stack, 3 * size));
    restoreFlags(p, flags, mask);
    enterCode(p, code, cpl, rip);
    return JUMPED;
  }
  const outer = peekAll(p, popped(stack, 3 * size), size, 2);
  if (outer === undefined) return p.outcome;
  const segment: Segment | undefined = returnStack(p, Number(outer[1]! & 0xffffn), cpl, to64);
  if (segment === undefined || !checkTarget(p, code, rip)) return p.outcome;
  // all checks passed
  const outward = cpl > p.cpl;
  setSegment(p, SS, segment);
  restoreFlags(p, flags, mask);
  enterCode(p, code, cpl, rip);
  setStackPointer(p, { segment, pointer: outer[0]!, width: stackWidth(segment, to64) });
  if (outward) dropPrivilegedSegments(p);
  return JUMPED;
}

function returnFromInterrupt(p: Processor, size: SlotSize, length: number): Outcome {
  const stack = currentStack(p);
  if (!p.protectedMode) return realMode(p, stack, size);
  if (p.v86) return fromV86(p, stack, size);
  if (p.flagsRest & FLAG_NT) {
    if (p.longMode) return p.raise(GP, 0);
    const link = loadLinear(p, BigInt.asUintN(32, p.tr.base), 2, true);
    return link === undefined ? p.outcome : taskSwitch(p, Number(link), TASK_SWITCH.iret, length);
  }
  const values = peekAll(p, stack, size, 3);
  if (values === undefined) return p.outcome;
  const toVirtual8086 = size === 4 && !p.longMode && p.cpl === 0 && (Number(values[2]) & FLAG_VM) !== 0;
  return toVirtual8086 ? toV86(p, stack) : protectedReturn(p, stack, size, values as [bigint, bigint, bigint]);
}

function iret(p: Processor, insn: Insn): Outcome {
  // NMIs are unblocked even if the return then faults.
  p.vtx.unblockNmi();
  if (p.nmiPending) p.eventsPending = true;
  const outcome = returnFromInterrupt(p, (insn.operandSize / 8) as SlotSize, insn.length);
  // Until a fault has been delivered, VM exits that it causes report the unblocking.
  if (outcome !== FAULT) p.vtx.endIret();
  return outcome;
}

implement('IRET', iret);
