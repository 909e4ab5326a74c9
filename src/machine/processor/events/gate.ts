/**
 * Delivery of an event through an IDT gate: protected mode, compatibility and 64-bit mode.
 *
 * Nothing architectural changes before every check has passed and every stack slot is known to be writable.
 *
 * @sdm INT n, "REAL-ADDRESS-MODE", "PROTECTED-MODE", "IA-32e-MODE" of the operation; "Interrupt and Exception Handling"
 */
import { CS, DS, ES, FS, GS, RSP, SS } from '../../engine/layout.ts';
import { loadLinear } from '../../mmu/access.ts';
import { DONE, GP, JUMPED, NO_ERROR, NP, type Outcome } from '../../outcome.ts';
import { FLAG_IF, FLAG_NT, FLAG_RF, FLAG_TF, FLAG_VM, type Processor } from '../../processor.ts';
import { atPrivilege, checkTarget, enterCode } from '../rip.ts';
import {
  type Descriptor,
  dplOf,
  fetchDescriptor,
  indexOf,
  isCode,
  isConforming,
  isLongCode,
  isNull,
  isPresent,
  markAccessed,
  nullSegment,
  SYSTEM,
  segmentOf,
} from '../segments/descriptor.ts';
import { setSegment } from '../segments/load.ts';
import { commitPush, preparePush, type SlotSize, type Stack, setStackPointer, stackWidth } from '../stack.ts';
import { legacyInnerStack, longInterruptStack } from '../transfer/inner-stack.ts';
import { TASK_SWITCH, taskSwitch } from '../transfer/task-switch.ts';
import { type Event, extOf, isGateChecked } from './event.ts';

/** IDT bit of an error code: the index names a gate of the IDT. */
const IDT = 2;

interface Gate {
  readonly type: number;
  readonly selector: number;
  readonly offset: bigint;
  /** Interrupt stack table index, 0 for none. */
  readonly ist: number;
}

/** Fetches and checks the gate; undefined with p.outcome set. */
function fetchGate(p: Processor, event: Event): Gate | undefined {
  const long = p.longMode;
  const size = long ? 16 : 8;
  const offset = event.vector * size;
  const error = event.vector * 8 + IDT + extOf(event);
  const { base, limit } = p.idtr;
  if (offset + size - 1 > limit) {
    p.raise(GP, error);
    return undefined;
  }
  const address = BigInt.asUintN(long ? 64 : 32, base + BigInt(offset));
  const low = loadLinear(p, address, 8, true);
  if (low === undefined) return undefined;
  const high = long ? loadLinear(p, BigInt.asUintN(64, address + 8n), 8, true) : 0n;
  if (high === undefined) return undefined;
  const type = Number((low >> 40n) & 0x1fn);
  const legal = long
    ? (type === SYSTEM.interruptGate32 || type === SYSTEM.trapGate32) && ((high >> 40n) & 0x1fn) === 0n
    : type === SYSTEM.taskGate || (type & 0x16) === 6;
  const dpl = Number((low >> 45n) & 3n);
  if (!legal || (isGateChecked(event) && dpl < p.cpl)) {
    p.raise(GP, error);
    return undefined;
  }
  if (!((low >> 47n) & 1n)) {
    p.raise(NP, error);
    return undefined;
  }
  const wide = type >= SYSTEM.interruptGate32;
  return {
    type,
    selector: Number((low >> 16n) & 0xffffn),
    offset: (low & 0xffffn) | (wide ? ((low >> 32n) & 0xffff_0000n) | ((high & 0xffff_ffffn) << 32n) : 0n),
    ist: long ? Number((low >> 32n) & 7n) : 0,
  };
}

/** Fetches and checks the handler's code segment; undefined with p.outcome set. */
function fetchHandler(p: Processor, selector: number, ext: number): Descriptor | undefined {
  if (isNull(selector)) {
    p.raise(GP, ext);
    return undefined;
  }
  const descriptor = fetchDescriptor(p, selector, GP, ext);
  if (descriptor === undefined) return undefined;
  const { attributes } = descriptor;
  const conforming = isConforming(attributes);
  const inner = !conforming && dplOf(attributes) < p.cpl;
  const illegal =
    !isCode(attributes) ||
    dplOf(attributes) > p.cpl ||
    // From virtual-8086 mode only a handler at level 0 will do.
    (p.v86 && !(inner && dplOf(attributes) === 0)) ||
    (p.longMode && !isLongCode(attributes));
  if (illegal) {
    p.raise(GP, indexOf(selector) | ext);
    return undefined;
  }
  if (!isPresent(attributes)) {
    p.raise(NP, indexOf(selector) | ext);
    return undefined;
  }
  return markAccessed(p, descriptor);
}

/** Values that the handler finds, first pushed first. */
function frame(p: Processor, event: Event, returnRip: bigint, flags: number, withStack: boolean): bigint[] {
  const { segments } = p;
  const selector = (n: number) => BigInt(segments[n]!.selector);
  const values: bigint[] = [];
  if (p.v86) values.push(selector(GS), selector(FS), selector(DS), selector(ES));
  if (withStack) values.push(selector(SS), p.gpr(RSP));
  values.push(BigInt(flags), selector(CS), returnRip);
  if (event.errorCode !== NO_ERROR) values.push(BigInt(event.errorCode));
  return values;
}

/**
 * Delivers through the IDT in protected mode.
 *
 * @param event what is delivered
 * @param returnRip the RIP to push
 * @param flags the RFLAGS image to push
 * @returns JUMPED, or FAULT (nested) or VMEXIT with registers unchanged
 */
export function deliverThroughGate(p: Processor, event: Event, returnRip: bigint, flags: number): Outcome {
  const ext = extOf(event);
  const gate = fetchGate(p, event);
  if (gate === undefined) return p.outcome;
  if (gate.type === SYSTEM.taskGate)
    return taskSwitch(p, gate.selector, TASK_SWITCH.gate, event.instructionLength, ext, {
      flags,
      errorCode: event.errorCode,
    });
  const handler = fetchHandler(p, gate.selector, ext);
  if (handler === undefined) return p.outcome;
  const inner = !isConforming(handler.attributes) && dplOf(handler.attributes) < p.cpl;
  const cpl = inner ? dplOf(handler.attributes) : p.cpl;
  const code = segmentOf(handler, cpl);

  let stack: Stack | undefined;
  if (p.longMode) {
    stack = gate.ist !== 0 || inner ? longInterruptStack(p, gate.ist, cpl, ext) : undefined;
    if (stack === undefined && (gate.ist !== 0 || inner)) return p.outcome;
    stack ??= { segment: p.segments[SS]!, pointer: p.gpr(RSP) & ~15n, width: 64 };
  } else if (inner) {
    stack = legacyInnerStack(p, cpl, ext);
    if (stack === undefined) return p.outcome;
  } else {
    const segment = p.segments[SS]!;
    const width = stackWidth(segment, false);
    stack = { segment, pointer: BigInt.asUintN(width, p.gpr(RSP)), width };
  }

  const size: SlotSize = p.longMode ? 8 : gate.type >= SYSTEM.interruptGate32 ? 4 : 2;
  const stackError = inner && !p.longMode ? indexOf(stack.segment.selector) | ext : ext;
  const values = frame(p, event, returnRip, flags, inner || p.longMode);
  const outcome = atPrivilege(p, cpl, () => {
    const prepared = preparePush(p, stack, size, values, stackError);
    if (prepared === undefined || !checkTarget(p, code, gate.offset, ext)) return p.outcome;
    // all checks passed
    const stored = commitPush(p, prepared);
    if (stored === DONE) setStackPointer(p, prepared.stack);
    return stored;
  });
  if (outcome !== DONE) return outcome;
  const fromV86 = p.v86;
  const masks = gate.type & 1 ? 0 : FLAG_IF;
  p.flagsRest = p.flagsRest & ~(FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM | masks);
  if (inner) setSegment(p, SS, p.longMode ? nullSegment(cpl, cpl) : stack.segment);
  if (fromV86) for (const n of [ES, DS, FS, GS]) setSegment(p, n, nullSegment(0));
  enterCode(p, code, cpl, gate.offset);
  return JUMPED;
}
