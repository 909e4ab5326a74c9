/**
 * IRETQ from level 0 of 64-bit code to the same level with the segments that are loaded, or to 64-bit code at level 3, with a few
 * flags changed: how kernels end interrupts, return to programs and serialise.
 *
 * perf: a patching kernel executes a hundred thousand of them while it boots. Everything is read through TLB entries that are
 * there, as numbers; in all other cases the general way is taken, which does the same.
 */
import { CS, DS, ES, FS, GPR, GS, RIP, RSP, SS } from '../../engine/layout.ts';
import {
  AR_UNUSABLE,
  dplOf,
  FLAG_DF,
  FLAG_IF,
  FLAG_RF,
  FLAG_TF,
  type Processor,
  type Segment,
  STATUS_FLAGS,
} from '../../processor.ts';
import { enterCode } from '../rip.ts';
import { setSegment } from '../segments/load.ts';
import { attributesOf, describes, findDescriptor, findRead, segmentOfWords } from '../segments/raw-descriptor.ts';

/** What the image may change here. */
const SIMPLE = STATUS_FLAGS | FLAG_IF | FLAG_DF | FLAG_RF;
/** Bits of RFLAGS that exist. */
const DEFINED = 0x3f7fd7;
/** RIP, CS, RFLAGS, RSP, SS. */
const FRAME_SIZE = 40;

/** Code that is not conforming, accessed, present, level 3, L and not D. */
const USER_CODE_KIND = 0x60fd;
const USER_CODE = 0x20f9;
/** Data that is writable, accessed, present, level 3. */
const USER_DATA_KIND = 0xfb;
const USER_DATA = 0xf3;

/** Whether the descriptor of a selector still is what its segment register holds. */
function isLoaded(p: Processor, segment: Segment, selector: number): boolean {
  if (selector !== segment.selector) return false;
  const at = findDescriptor(p, selector);
  if (at === 0) return false;
  const { view } = p.machine.memory;
  return describes(view.getUint32(at, true), view.getUint32(at + 4, true), segment);
}

/** Whether loading SS would change nothing. Kernels run with a null one. */
function isStack(p: Processor, selector: number): boolean {
  const ss = p.segments[SS]!;
  if (selector !== 0) return isLoaded(p, ss, selector);
  return ss.selector === 0 && ss.attributes === AR_UNUSABLE && ss.limit === 0 && ss.base === 0n;
}

/** The segment of a selector if it is of a kind, else undefined. */
function segmentOfKind(p: Processor, selector: number, mask: number, kind: number): Segment | undefined {
  const at = findDescriptor(p, selector);
  if (at === 0) return undefined;
  const { view } = p.machine.memory;
  const upper = view.getUint32(at + 4, true);
  if ((attributesOf(upper) & mask) !== kind) return undefined;
  return segmentOfWords(selector, view.getUint32(at, true), upper);
}

/** Whether a program may keep what a data segment register holds. */
function isForUser({ attributes }: Segment): boolean {
  return (attributes & AR_UNUSABLE) !== 0 || dplOf(attributes) === 3;
}

/** Makes the return if it is one of these. Only in 64-bit mode at level 0 with NT clear, and for an operand size of 64. */
export function returnSimply(p: Processor): boolean {
  const m = p.mmu;
  const frame = findRead(p, m.class, p.read32(GPR + RSP * 8), p.read32(GPR + RSP * 8 + 4), FRAME_SIZE);
  if (frame === 0) return false;
  const { view } = p.machine.memory;
  const ripLow = view.getUint32(frame, true);
  const ripHigh = view.getUint32(frame + 4, true);
  const sign = (ripHigh | 0) >> m.canonicalShift;
  if (sign !== 0 && sign !== -1) return false;
  const before = p.flagsRest;
  const image = view.getUint32(frame + 16, true);
  if (((before ^ image) & DEFINED & ~SIMPLE) !== 0 || before & FLAG_TF) return false;
  const cs = view.getUint16(frame + 8, true);
  const ss = view.getUint16(frame + 32, true);
  const rspLow = view.getUint32(frame + 24, true);
  const rspHigh = view.getUint32(frame + 28, true);
  const flags = (before & ~SIMPLE) | (image & SIMPLE);
  if ((cs & 3) === 0) {
    if (!isLoaded(p, p.segments[CS]!, cs) || !isStack(p, ss)) return false;
    // all checks passed
    p.rflags = flags;
  } else {
    const { segments } = p;
    if ((cs & ss & 3) !== 3) return false;
    if (!(isForUser(segments[ES]!) && isForUser(segments[DS]!) && isForUser(segments[FS]!) && isForUser(segments[GS]!)))
      return false;
    const code = segmentOfKind(p, cs, USER_CODE_KIND, USER_CODE);
    const stack = segmentOfKind(p, ss, USER_DATA_KIND, USER_DATA);
    if (code === undefined || stack === undefined) return false;
    // all checks passed
    setSegment(p, SS, stack);
    p.rflags = flags;
    enterCode(p, code, 3, 0n);
  }
  if (image & FLAG_IF && !(before & FLAG_IF)) p.eventsPending = true;
  p.write32(RIP, ripLow);
  p.write32(RIP + 4, ripHigh);
  p.write32(GPR + RSP * 8, rspLow);
  p.write32(GPR + RSP * 8 + 4, rspHigh);
  return true;
}
