/** SYSCALL, SYSRET, SYSENTER, SYSEXIT: control transfers to fixed flat segments. @sdm the instructions' operation sections */
import { FMASK, LSTAR, RCX, RDX, RSP, SS, STAR } from '../../engine/layout.ts';
import { implement } from '../../isa/handlers.ts';
import type { Insn } from '../../isa/insn.ts';
import { IA32_SYSENTER_CS, IA32_SYSENTER_EIP, IA32_SYSENTER_ESP } from '../../msr/system-calls.ts';
import { GP, JUMPED, type Outcome, UD } from '../../outcome.ts';
import {
  AR_DB,
  AR_G,
  AR_L,
  EFER_SCE,
  FLAG_IF,
  FLAG_RF,
  FLAG_TF,
  FLAG_VM,
  type Processor,
  type Segment,
} from '../../processor.ts';
import { isCanonical } from '../canonical.ts';
import { DR6_BS } from '../events/debug.ts';
import { enterCode, loadFlags, nextRip } from '../rip.ts';
import { setSegment } from '../segments/load.ts';

const R11 = 11;
/** Present, accessed, flat. */
const CODE = 0x9b | AR_G;
const DATA = 0x93 | AR_G | AR_DB;

const flat = (selector: number, attributes: number, dpl: number): Segment => ({
  selector: (selector & 0xfffc) | dpl,
  base: 0n,
  limit: 0xffff_ffff,
  attributes: attributes | (dpl << 5),
});
const code64 = (selector: number, dpl: number): Segment => flat(selector, CODE | AR_L, dpl);
const code32 = (selector: number, dpl: number): Segment => flat(selector, CODE | AR_DB, dpl);
const data = (selector: number, dpl: number): Segment => flat(selector, DATA, dpl);

const msr = (p: Processor, index: number): bigint => p.msrs.get(index) ?? 0n;

implement('SYSCALL', (p: Processor, insn: Insn): Outcome => {
  if (!p.mode64 || !(p.efer & EFER_SCE)) return p.raise(UD);
  // all checks passed
  const flags = p.rflags;
  const selector = p.read32(STAR + 4) & 0xffff;
  p.setGpr(RCX, nextRip(p, insn.length));
  p.setGpr32(R11, flags & ~FLAG_RF);
  loadFlags(p, flags & ~(p.read32(FMASK) | FLAG_RF));
  setSegment(p, SS, data(selector + 8, 0));
  enterCode(p, code64(selector, 0), 0, p.read64(LSTAR));
  return JUMPED;
});

implement('SYSRET', (p: Processor, insn: Insn): Outcome => {
  if (!p.mode64 || !(p.efer & EFER_SCE)) return p.raise(UD);
  if (p.cpl !== 0) return p.raise(GP, 0);
  const long = insn.operandSize === 64;
  const rip = long ? p.gpr(RCX) : BigInt(p.gpr32(RCX));
  if (!isCanonical(p, rip)) return p.raise(GP, 0);
  // all checks passed
  const selector = p.read32(STAR + 4) >>> 16;
  loadFlags(p, (p.gpr32(R11) & 0x3c_7fd7 & ~FLAG_RF) | 2);
  // The trap flag that it loads traps at once.
  if (p.flagsRest & FLAG_TF) p.pendingDebug |= DR6_BS;
  setSegment(p, SS, data(selector + 8, 3));
  enterCode(p, long ? code64(selector + 16, 3) : code32(selector, 3), 3, rip);
  return JUMPED;
});

implement('SYSENTER', (p: Processor): Outcome => {
  const selector = Number(msr(p, IA32_SYSENTER_CS) & 0xfffcn);
  if (!p.protectedMode || selector === 0) return p.raise(GP, 0);
  // all checks passed
  const long = p.longMode;
  const width = long ? 64 : 32;
  p.flagsRest = p.flagsRest & ~(FLAG_VM | FLAG_IF | FLAG_RF);
  setSegment(p, SS, data(selector + 8, 0));
  enterCode(p, long ? code64(selector, 0) : code32(selector, 0), 0, BigInt.asUintN(width, msr(p, IA32_SYSENTER_EIP)));
  p.setGpr(RSP, BigInt.asUintN(width, msr(p, IA32_SYSENTER_ESP)));
  return JUMPED;
});

implement('SYSEXIT', (p: Processor, insn: Insn): Outcome => {
  const base = Number(msr(p, IA32_SYSENTER_CS) & 0xfffcn);
  if (!p.protectedMode || base === 0 || p.cpl !== 0 || p.v86) return p.raise(GP, 0);
  const long = insn.operandSize === 64;
  const width = long ? 64 : 32;
  const rip = BigInt.asUintN(width, p.gpr(RDX));
  const rsp = BigInt.asUintN(width, p.gpr(RCX));
  if (!isCanonical(p, rip) || !isCanonical(p, rsp)) return p.raise(GP, 0);
  // all checks passed
  const selector = base + (long ? 32 : 16);
  setSegment(p, SS, data(selector + 8, 3));
  enterCode(p, long ? code64(selector, 3) : code32(selector, 3), 3, rip);
  p.setGpr(RSP, rsp);
  return JUMPED;
});
