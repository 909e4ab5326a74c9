/**
 * Task-state segments: what a switch saves and loads.
 *
 *   32-bit   00 link  1C CR3  20 EIP  24 EFLAGS  28 EAX … 44 EDI  48 ES CS SS DS FS GS  60 LDT  64 T (bit 0)
 *   16-bit   00 link  0E IP  10 FLAGS  12 AX … 20 DI  22 ES CS SS DS  2A LDT
 *
 * @sdm "Task-State Segment (TSS)", "16-Bit Task-State Segment (TSS)"
 */
import { checkWritable, loadLinear, storeLinear } from '../../mmu/access.ts';
import { DONE, type Outcome } from '../../outcome.ts';
import { CR0_PG, type Processor } from '../../processor.ts';

/** What a TSS holds of a task. Selectors in encoding order. */
export interface TaskState {
  readonly cr3: bigint;
  readonly eip: number;
  readonly eflags: number;
  /** EAX to EDI, in encoding order. */
  readonly registers: readonly number[];
  /** ES CS SS DS FS GS. */
  readonly selectors: readonly number[];
  readonly ldt: number;
  /** The T flag: a debug trap follows the switch. */
  readonly trap: boolean;
}

/** Where a TSS keeps what; -1 for what it does not have. */
interface Layout {
  readonly wordSize: 2 | 4;
  readonly eip: number;
  readonly registers: number;
  readonly selectors: number;
  readonly segments: number;
  readonly cr3: number;
  readonly ldt: number;
  readonly trap: number;
  /** Bytes that a switch reads. */
  readonly size: number;
}

const WIDE: Layout = {
  wordSize: 4,
  eip: 0x20,
  registers: 0x28,
  selectors: 0x48,
  segments: 6,
  cr3: 0x1c,
  ldt: 0x60,
  trap: 0x64,
  size: 0x68,
};
const NARROW: Layout = {
  wordSize: 2,
  eip: 0x0e,
  registers: 0x12,
  selectors: 0x22,
  segments: 4,
  cr3: -1,
  ldt: 0x2a,
  trap: -1,
  size: 0x2c,
};
const layoutOf = (wide: boolean): Layout => (wide ? WIDE : NARROW);
const at = (base: bigint, offset: number): bigint => BigInt.asUintN(32, base + BigInt(offset));

/** Reads a TSS; undefined with p.outcome set. */
export function readTask(p: Processor, base: bigint, wide: boolean): TaskState | undefined {
  const layout = layoutOf(wide);
  const reading = { failed: false };
  const read = (offset: number, size: number): number => {
    const value = reading.failed ? undefined : loadLinear(p, at(base, offset), size, true);
    if (value === undefined) reading.failed = true;
    return Number(value ?? 0n);
  };
  const { wordSize, eip, registers, selectors, segments, cr3, ldt, trap } = layout;
  const state: TaskState = {
    cr3: cr3 >= 0 && p.cr0 & CR0_PG ? BigInt(read(cr3, 4)) : p.cr3,
    eip: read(eip, wordSize),
    eflags: read(eip + wordSize, wordSize),
    registers: Array.from({ length: 8 }, (_, n) => read(registers + n * wordSize, wordSize)),
    selectors: Array.from({ length: 6 }, (_, n) => (n < segments ? read(selectors + n * wordSize, 2) : 0)),
    ldt: read(ldt, 2),
    trap: trap >= 0 && (read(trap, 2) & 1) !== 0,
  };
  return reading.failed ? undefined : state;
}

/** Whether everything that saveTask writes can be written. @returns DONE, FAULT or VMEXIT */
export function checkSaveable(p: Processor, base: bigint, wide: boolean): Outcome {
  const { eip, selectors, segments, wordSize } = layoutOf(wide);
  return checkWritable(p, at(base, eip), selectors + segments * wordSize - eip, true);
}

/** Saves the running task, after checkSaveable. */
export function saveTask(p: Processor, base: bigint, wide: boolean, eip: number, eflags: number): void {
  const layout = layoutOf(wide);
  const { wordSize, registers, selectors, segments } = layout;
  const write = (offset: number, size: number, value: number): void => {
    const done = storeLinear(p, at(base, offset), size, BigInt(value >>> 0) & ((1n << BigInt(size * 8)) - 1n), true);
    if (done !== DONE) throw new Error('a TSS that could be written cannot be written');
  };
  write(layout.eip, wordSize, eip);
  write(layout.eip + wordSize, wordSize, eflags);
  for (let n = 0; n < 8; n++) write(registers + n * wordSize, wordSize, p.gpr32(n));
  for (let n = 0; n < segments; n++) write(selectors + n * wordSize, 2, p.segments[n]!.selector);
}

/** Puts the selector of the task that is left into the link field of the new one. @returns DONE, FAULT or VMEXIT */
export const writeLink = (p: Processor, base: bigint, selector: number): Outcome =>
  storeLinear(p, base, 2, BigInt(selector), true);
/** Whether the link field can be written. @returns DONE, FAULT or VMEXIT */
export const checkLink = (p: Processor, base: bigint): Outcome => checkWritable(p, base, 2, true);
