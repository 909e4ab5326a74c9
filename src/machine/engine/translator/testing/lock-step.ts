/**
 * Lock-step: one random program on two machines, one that only interprets and one that translates.
 *
 * The tests run it under Node, the engine's test page in a browser.
 */
import '../../../handlers.ts';
import { Random } from '../../../../util/random.ts';
import { runProcessor } from '../../../run.ts';
import { TestProcessor } from '../../../system/test-processor.ts';
import { MXCSR, XMM } from '../../layout.ts';
import { translatorDefaults } from '../defaults.ts';
import { PROGRAM_SIZE, randomProgram } from './random-program.ts';

const CODE = 0x6000,
  DATA = 0x2_0000,
  STACK = 0x8_0000;
const SLICES = 100;

function prepare(seed: number, threshold: number): TestProcessor {
  const before = { ...translatorDefaults };
  Object.assign(translatorDefaults, { mode: threshold === 0 ? 'off' : 'on', threshold });
  const t = new TestProcessor().longMode();
  Object.assign(translatorDefaults, before);
  const random = new Random(seed);
  const { code, starts } = randomProgram(random);
  const { memory } = t.machine;
  memory.writeBytes(CODE, code);
  for (let n = 0; n < 8192; n += 4) memory.write32(DATA + n, random.u32());
  // Returns beyond the last call go to some block.
  for (let n = 0; n < 0x8000; n += 8) memory.write64(STACK + n, BigInt(CODE + starts[random.u32() % starts.length]!));
  for (let r = 0; r < 16; r++) t.p.setGpr(r, (BigInt(random.u32()) << 32n) | BigInt(random.u32()));
  t.p.setGpr(4, BigInt(STACK));
  t.p.setGpr(6, BigInt(DATA + 0x400));
  t.p.setGpr(7, BigInt(DATA + 0xfe0));
  t.p.write32(MXCSR, 0x1f80);
  t.p.rip = BigInt(CODE);
  return t;
}

/** What software can see, by name. */
function state({ p, machine }: TestProcessor): Record<string, string> {
  let sum = 0;
  for (const [at, size] of [
    [CODE, PROGRAM_SIZE],
    [DATA, 0x2000],
  ] as const)
    for (const byte of machine.memory.readBytes(at, size)) sum = (Math.imul(sum, 31) + byte) | 0;
  return {
    gprs: Array.from({ length: 16 }, (_, r) => p.gpr(r).toString(16)).join(),
    vectors: Array.from({ length: 32 }, (_, n) => p.read64(XMM + n * 8).toString(16)).join(),
    memory: String(sum),
    rip: p.rip.toString(16),
    flags: p.rflags.toString(16),
    now: String(machine.clock.now()),
  };
}

function difference(translated: TestProcessor, plain: TestProcessor): string | null {
  const expected = state(plain);
  const got = state(translated);
  const name = Object.keys(expected).find((key) => got[key] !== expected[key]);
  return name === undefined ? null : `${name} ${got[name]} not ${expected[name]}`;
}

/** How a program went. */
export interface LockStep {
  /** Where the two first differed, or null. */
  readonly difference: string | null;
  /** Instructions that each machine executed. */
  readonly instructions: number;
  /** Regions that were translated. */
  readonly regions: number;
  /** State at the end, for comparison with the same program elsewhere. */
  readonly end: string;
}

/** The threshold that goes with a seed. */
export const thresholdOf = (seed: number): number => [1, 2, 10, 40][seed % 4]!;

/** Runs the program of `seed` in slices of random length and compares all state after each; `threshold`: entries until a block is translated. */
export function lockStep(seed: number, threshold: number): LockStep {
  const plain = prepare(seed, 0);
  const translated = prepare(seed, threshold);
  const translator = translated.machine.engine.translator!;
  translator.batch = 1 + (seed % 5);
  if (seed % 4 === 0) translator.maxRegions = 20;
  translator.structured = seed % 3 !== 2;
  const random = new Random(seed + 1000);
  let found: string | null = null;
  for (let slice = 0; slice < SLICES && found === null; slice++) {
    const length = 1 + (random.u32() % (slice % 10 === 9 ? 5000 : 300));
    for (const t of [plain, translated]) runProcessor(t.p, t.machine.clock.now() + length);
    const text = difference(translated, plain);
    if (text !== null) found = `slice ${slice}: ${text}`;
  }
  return {
    difference: found,
    instructions: plain.machine.clock.now(),
    regions: translator.stats.regions,
    end: Object.values(state(translated)).join(' '),
  };
}
