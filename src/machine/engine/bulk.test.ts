import { expect, test } from 'vitest';
import '../handlers.ts';
import { Random } from '../../util/random.ts';
import { HLT, SHUTDOWN } from '../processor.ts';
import { runProcessor } from '../run.ts';
import { TestProcessor } from '../system/test-processor.ts';
import { DS, ES } from './layout.ts';

const CODE = 0x7000;
const AREA = 0x10000;
const SIZE = 0x4000;

interface Case {
  readonly opcode: number;
  readonly width: number;
  readonly count: number;
  readonly from: number;
  readonly to: number;
  readonly value: bigint;
  readonly down: boolean;
  readonly mode: Mode;
}

/** 64-bit mode, or 32-bit mode: flat, or with segments that begin in the midst of a page and end with the memory used. */
type Mode = 'long' | 'flat' | 'limits';
const BASE = 0x923;

/** Memory, RCX, RSI and RDI after `done` iterations, element by element. */
function expected(c: Case, memory: Uint8Array, done: number, base: number): [Uint8Array, bigint, bigint, bigint] {
  const bytes = memory.slice();
  const value = new Uint8Array(new BigUint64Array([c.value]).buffer, 0, c.width);
  const step = c.down ? -c.width : c.width;
  for (let i = 0; i < done; i++) {
    const at = c.to + i * step - AREA;
    bytes.set(c.opcode === 0xa4 ? bytes.slice(c.from + i * step - AREA).subarray(0, c.width) : value, at);
  }
  const moved = BigInt(done * step);
  const rsi = BigInt(c.from - base) + (c.opcode === 0xa4 ? moved : 0n);
  return [bytes, BigInt(c.count - done), rsi, BigInt(c.to - base) + moved];
}

/** Runs REP MOVS or REP STOS in stretches, compares each stop with so many single iterations, and tells when it stopped where. */
function check(c: Case, stretch: number, seed: number): string[] {
  const trace: string[] = [];
  const t = c.mode === 'long' ? new TestProcessor().longMode() : new TestProcessor().protectedMode();
  const { machine, p } = t;
  const base = c.mode === 'limits' ? BASE : 0;
  if (c.mode === 'limits') {
    for (const n of [ES, DS]) Object.assign(p.segments[n]!, { base: BigInt(BASE), limit: AREA + SIZE - BASE - 1 });
    t.changed();
  }
  const random = new Random(seed);
  const before = Uint8Array.from({ length: SIZE }, () => random.below(256));
  machine.memory.writeBytes(AREA, before);
  const prefix = { 1: [], 2: [0x66], 4: [], 8: [0x48] }[c.width]!;
  machine.memory.writeBytes(
    CODE,
    Uint8Array.from([
      ...prefix.filter((b) => b === 0x66),
      0xf3,
      ...prefix.filter((b) => b === 0x48),
      c.width === 1 ? c.opcode : c.opcode + 1,
      0xeb,
      0xfe,
    ]),
  );
  p.rip = BigInt(CODE);
  p.setGpr(0, c.value);
  p.setGpr(1, BigInt(c.count));
  p.setGpr(6, BigInt(c.from - base));
  p.setGpr(7, BigInt(c.to - base));
  p.flagsRest = c.down ? 0x402 : 2;
  const start = machine.clock.now();
  for (let round = 0; round < 4000 && p.rip === BigInt(CODE); round++) {
    runProcessor(p, machine.clock.now() + stretch);
    const left = Number(p.gpr(1));
    const [memory, rcx, rsi, rdi] = expected(c, before, c.count - left, base);
    expect([p.gpr(1), p.gpr(6), p.gpr(7)]).toEqual([rcx, rsi, rdi]);
    expect(machine.memory.readBytes(AREA, SIZE)).toEqual(memory);
    trace.push(`${machine.clock.now() - start} ${left}`);
  }
  expect(p.gpr(1)).toBe(0n);
  return trace;
}

test.each<Mode>(['long', 'flat', 'limits'])(
  'REP MOVS and REP STOS end where iterations one by one would, wherever a stretch ends (%s, seed 1)',
  (mode) => {
    const random = new Random(1);
    for (let round = 0; round < 40; round++) {
      const width = [1, 2, 4, 8][random.below(mode === 'long' ? 4 : 3)]!;
      const count = 1 + random.below(random.below(2) === 0 ? 20 : 6000 / width);
      const down = random.below(5) === 0;
      const room = SIZE - count * width;
      const place = (): number => AREA + random.below(room) + (down ? (count - 1) * width : 0);
      const from = place();
      // Now and then the areas overlap by a few bytes.
      const near = from + random.below(33) - 16;
      const low = AREA + (down ? (count - 1) * width : 0);
      const to = random.below(3) === 0 ? Math.min(Math.max(near, low), low + room) : place();
      const value = random.below(2) === 0 ? 0x4242_4242_4242_4242n : random.u64();
      const stretch = 1 + random.below(3000);
      const trace = check(
        { opcode: random.below(2) === 0 ? 0xa4 : 0xaa, width, count, from, to, value, down, mode },
        stretch,
        round,
      );
      // Bytes that differ are stored one by one.
      const one = {
        opcode: 0xaa,
        width: 8,
        count,
        from: AREA,
        to: AREA,
        value: 1n,
        down: false,
        mode: 'long' as const,
      };
      if (count * 8 <= SIZE) expect(trace).toEqual(check(one, stretch, round));
    }
  },
);

test.each([
  ['the end of the segment that is written', 0xaa, ES, 0x1234, 0],
  ['the end of the segment that is read', 0xa4, DS, 0x1234, 0],
  ['the end of the segment that is written, by a copy', 0xa4, ES, 0x1234, 0],
  ['4 GiB', 0xaa, ES, 0x700, 0xffff_f900],
])('a repetition stops at %s', (_, opcode, segment, room, offset) => {
  const t = new TestProcessor().protectedMode();
  const { machine, p } = t;
  // Offsets wrap at 4 GiB in the middle of a page; what is there is no memory.
  const base = offset === 0 ? AREA : (AREA - offset) >>> 0;
  const limit = offset === 0 ? room - 1 : 0xffff_ffff;
  Object.assign(p.segments[ES]!, { base: BigInt(AREA + 0x4000), limit: 0xffff_ffff });
  Object.assign(p.segments[DS]!, { base: BigInt(AREA + 0x8000), limit: 0xffff_ffff });
  Object.assign(p.segments[segment]!, { base: BigInt(base), limit });
  t.changed();
  machine.memory.writeBytes(CODE, Uint8Array.of(0xf3, opcode, 0xf4));
  machine.memory.writeBytes(AREA, new Uint8Array(SIZE).fill(1));
  p.rip = BigInt(CODE);
  p.setGpr(0, 7n);
  p.setGpr(1, offset === 0 ? 0x2000n : 0x701n);
  p.setGpr(7, BigInt(offset));
  p.flagsRest = 2;
  runProcessor(p, machine.clock.now() + 100_000);
  expect(p.activity).toBe(offset === 0 ? SHUTDOWN : HLT);
  if (offset === 0) expect(p.gpr(1)).toBe(BigInt(0x2000 - room));
  else expect(machine.memory.readBytes(AREA, 0x701)).toEqual(new Uint8Array(0x701).fill(7));
});
