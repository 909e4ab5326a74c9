/** What random programs run in: a mode of the processor with its segments and pages, and where code, data and stack lie. */
import { CS, DS, ES, FS, GS, SS } from '../../../engine/layout.ts';
import { setSegment } from '../../../processor/segments/load.ts';
import { AR_DB, AR_G, AR_L, AR_P, AR_S } from '../../../processor.ts';
import { TestProcessor } from '../../../system/test-processor.ts';
import type { Selectors } from './random-program.ts';

/**
 * `long`: 64-bit mode. `protected`: 32-bit mode without paging. `compatibility`: 32-bit code in IA-32e mode. `segments`: either, and
 * the program loads segments with bases, limits and other types. `wrap`: code and data at both ends of the address space.
 */
export const WORLDS = ['long', 'protected', 'compatibility', 'segments', 'wrap'] as const;
export type WorldName = (typeof WORLDS)[number];

export interface World {
  readonly t: TestProcessor;
  /** Linear addresses. */
  readonly code: number;
  readonly data: number;
  /** Null in 64-bit mode. */
  readonly selectors: Selectors | null;
  /** Physical ranges that a program may write: start and size. */
  readonly written: readonly (readonly [number, number])[];
  /** Segments, stack and index registers for a program to begin with. */
  begin(): void;
  physical(linear: number): number;
}

const CODE = 0x6000,
  DATA = 0x2_0000,
  STACK = 0x8_0000,
  GDT = 0xa000,
  TABLES = 0x10_0000,
  /** Where the second page of data is in 64-bit mode: not behind the first. */
  SECOND = 0x3_0000,
  TOP = 0xffff_f000;
const FLAT_CODE = 0x08,
  FLAT_DATA = 0x10,
  WITH_BASE = 0x18,
  ENDS_IN_DATA = 0x20,
  EXPANDS_DOWN = 0x28,
  READ_ONLY = 0x30,
  CODE_AS_DATA = 0x38,
  EXECUTE_ONLY = 0x40,
  CODE_WITH_BASE = 0x48,
  CODE_WITH_LIMIT = 0x50,
  STACK_16 = 0x58,
  STACK_WITH_BASE = 0x60,
  BASE_OF_GS = 0x68;
const READ_WRITE = 3,
  READ = 1,
  DOWN = 7,
  EXECUTE = 9,
  EXECUTE_READ = 11;

/** [selector, type, base, limit, 32 bits] */
const DESCRIPTORS: readonly (readonly [number, number, number, number, boolean])[] = [
  [FLAT_CODE, EXECUTE_READ, 0, 0xffff_ffff, true],
  [FLAT_DATA, READ_WRITE, 0, 0xffff_ffff, true],
  [WITH_BASE, READ_WRITE, 0x123, 0xffff_ffff, true],
  [ENDS_IN_DATA, READ_WRITE, 0, DATA + 0xfff, true],
  [EXPANDS_DOWN, DOWN, 0, DATA + 0x3ff, true],
  [READ_ONLY, READ, 0, 0xffff_ffff, true],
  [CODE_AS_DATA, EXECUTE_READ, 0, 0xffff_ffff, true],
  [EXECUTE_ONLY, EXECUTE, 0, 0xffff_ffff, true],
  [CODE_WITH_BASE, EXECUTE_READ, 0x1000, 0xffff_ffff, true],
  [CODE_WITH_LIMIT, EXECUTE_READ, 0, 0xf_ffff, true],
  [STACK_16, READ_WRITE, 0x7_0000, 0xffff, false],
  [STACK_WITH_BASE, READ_WRITE, 0x100, 0xffff_ffff, true],
  [BASE_OF_GS, READ_WRITE, 0x800, 0x3_ffff, true],
];

const FLAT: Selectors = { data: [FLAT_DATA], stack: [FLAT_DATA], code: [{ selector: FLAT_CODE, base: 0 }] };
const SEGMENTED: Selectors = {
  // Flat ones are likelier: what other segments do not allow ends the walk.
  data: [FLAT_DATA, FLAT_DATA, FLAT_DATA, WITH_BASE, ENDS_IN_DATA, EXPANDS_DOWN, READ_ONLY, CODE_AS_DATA, 0],
  stack: [FLAT_DATA, FLAT_DATA, STACK_WITH_BASE, STACK_16],
  code: [
    { selector: FLAT_CODE, base: 0 },
    { selector: FLAT_CODE, base: 0 },
    { selector: EXECUTE_ONLY, base: 0 },
    { selector: CODE_WITH_BASE, base: 0x1000 },
    { selector: CODE_WITH_LIMIT, base: 0 },
  ],
};

function writeGdt({ p, machine }: TestProcessor): void {
  for (const [selector, type, base, limit, is32] of DESCRIPTORS) {
    const pages = limit > 0xf_ffff;
    const low = ((base & 0xffff) << 16) | ((pages ? limit >>> 12 : limit) & 0xffff);
    const flags = AR_P | AR_S | type | (is32 ? AR_DB : 0) | (pages ? AR_G : 0);
    const high =
      (base & 0xff00_0000) | (flags << 8) | ((pages ? limit >>> 12 : limit) & 0xf_0000) | ((base >> 16) & 0xff);
    machine.memory.write32(GDT + selector, low >>> 0);
    machine.memory.write32(GDT + selector + 4, high >>> 0);
  }
  Object.assign(p.gdtr, { base: BigInt(GDT), limit: BASE_OF_GS + 7 });
}

/** Maps the page before 4 GiB and the one at 0: to the data, or to the code. */
function mapEnds({ machine: { memory } }: TestProcessor, to: number): void {
  const lowest = TABLES + 0x3000,
    directory = TABLES + 0x4000,
    highest = TABLES + 0x5000;
  for (let page = 0; page < 512; page++) memory.write64(lowest + page * 8, BigInt(page * 4096) | 7n);
  memory.write64(TABLES + 0x2000, BigInt(lowest) | 7n);
  memory.write64(TABLES + 0x1000 + 3 * 8, BigInt(directory) | 7n);
  memory.write64(directory + 511 * 8, BigInt(highest) | 7n);
  memory.write64(highest + 511 * 8, BigInt(to) | 7n);
  memory.write64(lowest, BigInt(to + 0x1000) | 7n);
}

/** Puts the second page of data elsewhere: who looks it up at the first page's is found out. */
function mapSecond({ machine: { memory } }: TestProcessor): void {
  const lowest = TABLES + 0x3000;
  for (let page = 0; page < 512; page++) memory.write64(lowest + page * 8, BigInt(page * 4096) | 7n);
  memory.write64(lowest + (DATA / 4096 + 1) * 8, BigInt(SECOND) | 7n);
  memory.write64(TABLES + 0x2000, BigInt(lowest) | 7n);
}

export function makeWorld(name: WorldName, seed: number): World {
  const t = new TestProcessor();
  const { p } = t;
  if (name === 'long') {
    t.longMode();
    mapSecond(t);
    p.xcr0 = 7n;
    t.changed();
    const begin = (): void => setPointers(t, DATA);
    return {
      t,
      code: CODE,
      data: DATA,
      selectors: null,
      written: [
        [CODE, 0x2000],
        [DATA, 0x1000],
        [SECOND, 0x1000],
      ],
      begin,
      physical: (linear) =>
        linear >= DATA + 0x1000 && linear < DATA + 0x2000 ? linear - DATA - 0x1000 + SECOND : linear,
    };
  }
  if (name === 'protected' || (name === 'segments' && seed & 1)) t.protectedMode();
  else t.longMode();
  writeGdt(t);
  const wrapsCode = name === 'wrap' && (seed & 1) === 0;
  const wrapsData = name === 'wrap' && !wrapsCode;
  if (name === 'wrap') mapEnds(t, wrapsCode ? CODE : DATA);
  const code = wrapsCode ? TOP : CODE;
  const data = wrapsData ? TOP : DATA;
  const flatData = {
    selector: FLAT_DATA,
    base: 0n,
    limit: 0xffff_ffff,
    attributes: AR_P | AR_S | READ_WRITE | AR_DB | AR_G,
  };
  const begin = (): void => {
    setSegment(p, CS, { ...flatData, selector: FLAT_CODE, attributes: AR_P | AR_S | EXECUTE_READ | AR_DB | AR_G });
    for (const n of [ES, SS, DS, FS]) setSegment(p, n, flatData);
    setSegment(p, GS, { ...flatData, selector: BASE_OF_GS, base: 0x800n, limit: 0x3_ffff });
    p.segments[CS]!.attributes &= ~AR_L;
    t.changed();
    setPointers(t, data);
  };
  return {
    t,
    code,
    data,
    selectors: name === 'segments' ? SEGMENTED : FLAT,
    written: [
      [0, 0x2000],
      [CODE, 0x2000],
      [DATA, 0x4000],
      [0x7_0000, 0x1_8000],
    ],
    begin,
    physical: (linear) => {
      const at = linear % 0x1_0000_0000;
      if (name === 'wrap' && (at >= TOP || at < 0x1000))
        return (wrapsCode ? CODE : DATA) + ((at - TOP + 0x1_0000_0000) % 0x1_0000_0000);
      return at;
    },
  };
}

function setPointers({ p }: TestProcessor, data: number): void {
  p.setGpr(4, BigInt(STACK));
  p.setGpr(6, BigInt(data + 0x400));
  p.setGpr(7, BigInt(data + 0xfe0));
}

/** Where returns beyond the last call find addresses: start and size. */
export const STACK_ABOVE: readonly [number, number] = [STACK, 0x8000];
