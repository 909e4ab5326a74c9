/**
 * Delivery in long mode where everything is as usual: an interrupt or trap gate without IST, a handler in 64-bit code at level
 * 0, and TLB entries for IDT, GDT, TSS and stack at hand. All numbers, no allocation where the level stays.
 *
 * perf: page faults, interrupts. In all other cases the general way (gate.ts) is taken, which does the same.
 */
import { CS, GPR, RIP, RSP, SS, TLB_WRITE } from '../../engine/layout.ts';
import { lookUp } from '../../mmu/access.ts';
import { SUPERVISOR, SUPERVISOR_SMAP } from '../../mmu/tlb-context.ts';
import { NO_ERROR } from '../../outcome.ts';
import { FLAG_AC, FLAG_IF, FLAG_NT, FLAG_RF, FLAG_TF, FLAG_VM, type Processor } from '../../processor.ts';
import { enterCode, setCpl } from '../rip.ts';
import { nullSegment } from '../segments/descriptor.ts';
import { setSegment } from '../segments/load.ts';
import { attributesOf, describes, findDescriptor, findInTable, segmentOfWords } from '../segments/raw-descriptor.ts';
import { type Event, isGateChecked, isSoftware } from './event.ts';

const GATE_SIZE = 16;
/** Type, S and P of the upper word's access byte: interrupt and trap gates. */
const GATE_KIND = 0x9e;
const GATE = 0x8e;
/** Code that is not conforming, accessed, present, level 0, L and not D; granularity and what it limits do not matter. */
const HANDLER_KIND = 0x60fd;
const HANDLER = 0x2099;
/** Offset of RSP0 in the TSS. */
const RSP0 = 4;

const canonical = (high: number, shift: number): boolean => {
  const sign = (high | 0) >> shift;
  return sign === 0 || sign === -1;
};

/**
 * Delivers an event if that is simple. Only in long mode.
 * @param flags the RFLAGS image to push
 */
export function deliverSimply(p: Processor, event: Event, flags: number): boolean {
  if ((p.cpl !== 0 && p.cpl !== 3) || flags & FLAG_VM) return false;
  const ripLow = p.read32(RIP) + (isSoftware(event) ? event.instructionLength : 0);
  if (ripLow > 0xffff_ffff) return false;
  const m = p.mmu;
  const { view } = p.machine.memory;
  const gate = findInTable(p, p.idtr, event.vector * GATE_SIZE, GATE_SIZE);
  if (gate === 0) return false;
  const low = view.getUint32(gate, true);
  const middle = view.getUint32(gate + 4, true);
  const offsetHigh = view.getUint32(gate + 8, true);
  const kind = (middle >>> 8) & GATE_KIND;
  if (isGateChecked(event) && ((middle >>> 13) & 3) < p.cpl) return false;
  if (kind !== GATE || (middle & 7) !== 0 || (view.getUint32(gate + 12, true) & 0x1f00) !== 0) return false;
  if (!canonical(offsetHigh, m.canonicalShift)) return false;

  const selector = low >>> 16;
  const at = findDescriptor(p, selector);
  if (at === 0) return false;
  const lower = view.getUint32(at, true);
  const upper = view.getUint32(at + 4, true);
  if ((attributesOf(upper) & HANDLER_KIND) !== HANDLER) return false;
  const inner = p.cpl === 3;
  const code = p.segments[CS]!;
  const same = !inner && (selector & 0xfffc) === code.selector && describes(lower, upper, code);

  let topLow: number;
  let topHigh: number;
  if (inner) {
    const tss = findInTable(p, p.tr, RSP0, 8);
    if (tss === 0) return false;
    topLow = view.getUint32(tss, true);
    topHigh = view.getUint32(tss + 4, true);
    if (!canonical(topHigh, m.canonicalShift)) return false;
  } else {
    topLow = p.read32(GPR + RSP * 8);
    topHigh = p.read32(GPR + RSP * 8 + 4);
  }
  const hasError = event.errorCode !== NO_ERROR;
  const size = hasError ? 48 : 40;
  const start = ((topLow & ~15) >>> 0) - size;
  if (start < 0 || (start & 0xfff) + size > 4096) return false;
  const cls = inner ? (m.smap && !(p.flagsRest & FLAG_AC) ? SUPERVISOR_SMAP : SUPERVISOR) : m.class;
  let to = lookUp(m, cls, TLB_WRITE, start, topHigh);
  if (to === 0) return false;

  // all checks passed
  if (hasError) {
    view.setUint32(to, event.errorCode, true);
    view.setUint32(to + 4, 0, true);
    to += 8;
  }
  view.setUint32(to, ripLow, true);
  view.setUint32(to + 4, p.read32(RIP + 4), true);
  view.setUint32(to + 8, code.selector, true);
  view.setUint32(to + 12, 0, true);
  view.setUint32(to + 16, flags, true);
  view.setUint32(to + 20, 0, true);
  view.setUint32(to + 24, p.read32(GPR + RSP * 8), true);
  view.setUint32(to + 28, p.read32(GPR + RSP * 8 + 4), true);
  view.setUint32(to + 32, p.segments[SS]!.selector, true);
  view.setUint32(to + 36, 0, true);
  p.write32(GPR + RSP * 8, start);
  p.write32(GPR + RSP * 8 + 4, topHigh);
  const masks = middle & 0x100 ? 0 : FLAG_IF;
  p.flagsRest = p.flagsRest & ~(FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM | masks);
  if (!same) {
    if (inner) {
      setCpl(p, 0);
      setSegment(p, SS, nullSegment(0, 0));
    }
    enterCode(p, segmentOfWords(selector & 0xfffc, lower, upper), 0, 0n);
  }
  p.write32(RIP, ((low & 0xffff) | (middle & 0xffff_0000)) >>> 0);
  p.write32(RIP + 4, offsetHigh);
  return true;
}
