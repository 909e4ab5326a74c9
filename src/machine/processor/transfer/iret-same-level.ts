/**
 * IRETQ to where nothing changes but RIP, RSP and a few flags: how kernels end interrupts of themselves and serialise.
 *
 * perf: a patching kernel executes a hundred thousand of them while it boots. Everything is read through TLB entries that are
 * there, as numbers; in all other cases the general way is taken, which does the same.
 */
import { CS, GPR, RIP, RSP, SS, TLB_READ } from '../../engine/layout.ts';
import { lookUp } from '../../mmu/access.ts';
import { halves, splitLinear } from '../../mmu/halves.ts';
import type { PrivilegeClass } from '../../mmu/tlb-context.ts';
import {
  AR_UNUSABLE,
  FLAG_DF,
  FLAG_IF,
  FLAG_RF,
  FLAG_TF,
  type Processor,
  type Segment,
  STATUS_FLAGS,
} from '../../processor.ts';

/** What the image may change here. */
const SIMPLE = STATUS_FLAGS | FLAG_IF | FLAG_DF | FLAG_RF;
/** Bits of RFLAGS that exist. */
const DEFINED = 0x3f7fd7;
/** RIP, CS, RFLAGS, RSP, SS. */
const FRAME_SIZE = 40;

/** Where the bytes at a linear address lie if a read entry leads there, else 0. */
function find(p: Processor, cls: PrivilegeClass, low: number, high: number, size: number): number {
  return (low & 0xfff) + size > 4096 ? 0 : lookUp(p.mmu, cls, TLB_READ, low, high);
}

/** Whether the descriptor of a selector still is what its segment register holds. */
function isLoaded(p: Processor, segment: Segment, selector: number): boolean {
  if (selector !== segment.selector || (selector & 4) !== 0 || (selector & 0xfff8) + 7 > p.gdtr.limit) return false;
  splitLinear(p.gdtr.base);
  const low = halves[0]! + (selector & 0xfff8);
  if (low > 0xffff_ffff) return false;
  const at = find(p, p.mmu.implicitClass, low, halves[1]!, 8);
  if (at === 0) return false;
  const { view } = p.machine.memory;
  const first = view.getUint32(at, true);
  const second = view.getUint32(at + 4, true);
  const base = ((first >>> 16) | ((second & 0xff) << 16) | (second & 0xff00_0000)) >>> 0;
  const pages = (first & 0xffff) | (second & 0xf_0000);
  const limit = second & 0x80_0000 ? ((pages << 12) | 0xfff) >>> 0 : pages;
  return ((second >>> 8) & 0xf0ff) === segment.attributes && limit === segment.limit && base === Number(segment.base);
}

/** Whether loading SS would change nothing. Kernels run with a null one. */
function isStack(p: Processor, selector: number): boolean {
  const ss = p.segments[SS]!;
  if (selector !== 0) return isLoaded(p, ss, selector);
  return ss.selector === 0 && ss.attributes === AR_UNUSABLE && ss.limit === 0 && ss.base === 0n;
}

/** Makes the return if it is one of these. Only in 64-bit mode at level 0 with NT clear, and for an operand size of 64. */
export function returnToSameLevel(p: Processor): boolean {
  const m = p.mmu;
  const frame = find(p, m.class, p.read32(GPR + RSP * 8), p.read32(GPR + RSP * 8 + 4), FRAME_SIZE);
  if (frame === 0) return false;
  const { view } = p.machine.memory;
  const ripHigh = view.getUint32(frame + 4, true);
  const sign = (ripHigh | 0) >> m.canonicalShift;
  if (sign !== 0 && sign !== -1) return false;
  const before = p.flagsRest;
  const image = view.getUint32(frame + 16, true);
  if (((before ^ image) & DEFINED & ~SIMPLE) !== 0 || before & FLAG_TF) return false;
  if (!isLoaded(p, p.segments[CS]!, view.getUint16(frame + 8, true))) return false;
  if (!isStack(p, view.getUint16(frame + 32, true))) return false;
  // all checks passed
  p.rflags = (before & ~SIMPLE) | (image & SIMPLE);
  if (image & FLAG_IF && !(before & FLAG_IF)) p.eventsPending = true;
  p.write32(RIP, view.getUint32(frame, true));
  p.write32(RIP + 4, ripHigh);
  p.write32(GPR + RSP * 8, view.getUint32(frame + 24, true));
  p.write32(GPR + RSP * 8 + 4, view.getUint32(frame + 28, true));
  return true;
}
