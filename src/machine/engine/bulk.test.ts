import { expect, test } from 'vitest';
import '../handlers.ts';
import { Random } from '../../util/random.ts';
import { runProcessor } from '../run.ts';
import { TestProcessor } from '../system/test-processor.ts';

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
}

/** Memory, RCX, RSI and RDI after `done` iterations, element by element. */
function expected(c: Case, memory: Uint8Array, done: number): [Uint8Array, bigint, bigint, bigint] {
  const bytes = memory.slice();
  const value = new Uint8Array(new BigUint64Array([c.value]).buffer, 0, c.width);
  const step = c.down ? -c.width : c.width;
  for (let i = 0; i < done; i++) {
    const at = c.to + i * step - AREA;
    bytes.set(c.opcode === 0xa4 ? bytes.slice(c.from + i * step - AREA).subarray(0, c.width) : value, at);
  }
  const moved = BigInt(done * step);
  const rsi = BigInt(c.from) + (c.opcode === 0xa4 ? moved : 0n);
  return [bytes, BigInt(c.count - done), rsi, BigInt(c.to) + moved];
}

/** Runs REP MOVS or REP STOS in stretches, compares each stop with so many single iterations, and tells when it stopped where. */
function check(c: Case, stretch: number, seed: number): string[] {
  const trace: string[] = [];
  const t = new TestProcessor().longMode();
  const { machine, p } = t;
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
  p.setGpr(6, BigInt(c.from));
  p.setGpr(7, BigInt(c.to));
  p.flagsRest = c.down ? 0x402 : 2;
  const start = machine.clock.now();
  for (let round = 0; round < 4000 && p.rip === BigInt(CODE); round++) {
    runProcessor(p, machine.clock.now() + stretch);
    const left = Number(p.gpr(1));
    const [memory, rcx, rsi, rdi] = expected(c, before, c.count - left);
    expect([p.gpr(1), p.gpr(6), p.gpr(7)]).toEqual([rcx, rsi, rdi]);
    expect(machine.memory.readBytes(AREA, SIZE)).toEqual(memory);
    trace.push(`${machine.clock.now() - start} ${left}`);
  }
  expect(p.gpr(1)).toBe(0n);
  return trace;
}

test('REP MOVS and REP STOS end where iterations one by one would, wherever a stretch ends (seed 1)', () => {
  const random = new Random(1);
  for (let round = 0; round < 40; round++) {
    const width = [1, 2, 4, 8][random.below(4)]!;
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
      { opcode: random.below(2) === 0 ? 0xa4 : 0xaa, width, count, from, to, value, down },
      stretch,
      round,
    );
    // Bytes that differ are stored one by one.
    const one = { opcode: 0xaa, width: 8, count, from: AREA, to: AREA, value: 1n, down: false };
    if (count * 8 <= SIZE) expect(trace).toEqual(check(one, stretch, round));
  }
});
