/**
 * Stacks: several pushes or pops as one step.
 *
 * Pushes are prepared first (limits, types, page rights of every slot) and stored afterwards, so that a fault in the
 * middle leaves registers and flags as they were.
 */
import { RSP, SS } from '../engine/layout.ts';
import { checkWritable, loadLinear, storeLinear } from '../mmu/access.ts';
import { DONE, type Outcome, SS_FAULT } from '../outcome.ts';
import { AR_DB, type Processor, type Segment } from '../processor.ts';
import { isCanonical } from './canonical.ts';
import { segmentAllows, writeGpr } from './operands.ts';

/** A stack segment with the place of its top. */
export interface Stack {
  readonly segment: Segment;
  readonly pointer: bigint;
  /** Bits of the stack pointer that take part; 64 also means: flat, checked for canonical form. */
  readonly width: 16 | 32 | 64;
}

export type SlotSize = 2 | 4 | 8;

/** How wide the stack pointer is with `segment` in SS. */
export const stackWidth = (segment: Segment, mode64: boolean): 16 | 32 | 64 =>
  mode64 ? 64 : segment.attributes & AR_DB ? 32 : 16;

/** The stack that SS:RSP names now. */
export function currentStack(p: Processor): Stack {
  const segment = p.segments[SS]!;
  const width = stackWidth(segment, p.mode64);
  return { segment, pointer: BigInt.asUintN(width, p.gpr(RSP)), width };
}

/** The same stack with its top `bytes` higher. */
export function popped(stack: Stack, bytes: number): Stack {
  return { ...stack, pointer: BigInt.asUintN(stack.width, stack.pointer + BigInt(bytes)) };
}

/** Writes the stack pointer register: as many bits as the stack has. */
export function setStackPointer(p: Processor, stack: Stack): void {
  writeGpr(p, RSP, stack.width, stack.pointer);
}

function stackLinear(
  p: Processor,
  stack: Stack,
  pointer: bigint,
  size: number,
  write: boolean,
  errorCode: number,
): bigint | undefined {
  if (stack.width === 64) {
    if (isCanonical(p, pointer) && isCanonical(p, BigInt.asUintN(64, pointer + BigInt(size - 1)))) return pointer;
  } else if (segmentAllows(p, stack.segment, pointer, size, write)) {
    return BigInt.asUintN(32, stack.segment.base + pointer);
  }
  p.raise(SS_FAULT, errorCode);
  return undefined;
}

/** Pushes that have passed all checks. */
export interface PreparedPush {
  readonly size: SlotSize;
  readonly linears: readonly bigint[];
  readonly values: readonly bigint[];
  /** The stack afterwards. */
  readonly stack: Stack;
}

/**
 * Checks the push of `values`, first one first, at the privilege p.cpl.
 *
 * @param errorCode of the #SS that a limit violation raises
 * @returns undefined with p.outcome set (#SS, #PF or a VM exit)
 */
export function preparePush(
  p: Processor,
  stack: Stack,
  size: SlotSize,
  values: readonly bigint[],
  errorCode = 0,
): PreparedPush | undefined {
  const linears: bigint[] = [];
  let { pointer } = stack;
  for (let i = 0; i < values.length; i++) {
    pointer = BigInt.asUintN(stack.width, pointer - BigInt(size));
    const linear = stackLinear(p, stack, pointer, size, true, errorCode);
    if (linear === undefined) return undefined;
    const outcome = checkWritable(p, linear, size, false);
    if (outcome !== DONE) {
      p.outcome = outcome;
      return undefined;
    }
    linears.push(linear);
  }
  return { size, linears, values, stack: { ...stack, pointer } };
}

/** Stores what preparePush checked. RSP is the caller's: `setStackPointer(p, push.stack)`. */
export function commitPush(p: Processor, { size, linears, values }: PreparedPush): Outcome {
  for (let i = 0; i < linears.length; i++) {
    const outcome = storeLinear(p, linears[i]!, size, BigInt.asUintN(size * 8, values[i]!));
    if (outcome !== DONE) return outcome;
  }
  return DONE;
}

/** Pushes values on the current stack, all or none. */
export function push(p: Processor, size: SlotSize, ...values: bigint[]): Outcome {
  const prepared = preparePush(p, currentStack(p), size, values);
  if (prepared === undefined) return p.outcome;
  const outcome = commitPush(p, prepared);
  if (outcome === DONE) setStackPointer(p, prepared.stack);
  return outcome;
}

/**
 * The value `offset` bytes above the top of a stack; RSP does not move.
 *
 * @returns undefined with p.outcome set
 */
export function peek(p: Processor, stack: Stack, offset: number, size: SlotSize, errorCode = 0): bigint | undefined {
  const pointer = BigInt.asUintN(stack.width, stack.pointer + BigInt(offset));
  const linear = stackLinear(p, stack, pointer, size, false, errorCode);
  return linear === undefined ? undefined : loadLinear(p, linear, size);
}

/** The top `count` slots, or undefined with p.outcome set. */
export function peekAll(p: Processor, stack: Stack, size: SlotSize, count: number): bigint[] | undefined {
  const values: bigint[] = [];
  for (let i = 0; i < count; i++) {
    const value = peek(p, stack, i * size, size);
    if (value === undefined) return undefined;
    values.push(value);
  }
  return values;
}
