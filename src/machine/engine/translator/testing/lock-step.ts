/**
 * Lock-step: one random program on two machines, one that only interprets and one that translates.
 *
 * The tests run it under Node, the engine's test page in a browser.
 */
import '../../../handlers.ts';
import { Random } from '../../../../util/random.ts';
import { ACTIVE } from '../../../processor.ts';
import { runProcessor } from '../../../run.ts';
import { EXIT, MXCSR, XMM, YMM_HIGH } from '../../layout.ts';
import { translatorDefaults } from '../defaults.ts';
import { PROGRAM_SIZE, randomProgram } from './random-program.ts';
import { makeWorld, STACK_ABOVE, type World, type WorldName } from './worlds.ts';

const SLICES = 100;

/** A machine with a random program, and the program's blocks. */
interface Walk {
  readonly world: World;
  readonly starts: readonly number[];
}

function prepare(seed: number, threshold: number, name: WorldName): Walk {
  const before = { ...translatorDefaults };
  Object.assign(translatorDefaults, { mode: threshold === 0 ? 'off' : 'on', threshold });
  const world = makeWorld(name, seed);
  Object.assign(translatorDefaults, before);
  const { t, code: origin, data, selectors, physical } = world;
  const random = new Random(seed);
  const { code, starts } = randomProgram(random, origin, selectors);
  const { memory } = t.machine;
  for (let at = 0; at < PROGRAM_SIZE; at += 4096) memory.writeBytes(physical(origin + at), code.slice(at, at + 4096));
  for (let n = 0; n < 8192; n += 4) memory.write32(physical(data + n), random.u32());
  // Returns beyond the last call go to some block.
  const [above, size] = STACK_ABOVE;
  const block = (): number => origin + starts[random.u32() % starts.length]!;
  if (selectors === null) for (let n = 0; n < size; n += 8) memory.write64(above + n, BigInt(block()));
  else for (let n = 0; n < size; n += 4) memory.write32(above + n, block() >>> 0);
  for (let r = 0; r < 16; r++) t.p.setGpr(r, (BigInt(random.u32()) << 32n) | BigInt(random.u32()));
  world.begin();
  t.p.write32(MXCSR, 0x1f80);
  t.p.rip = BigInt(origin);
  return { world, starts };
}

/** Runs to a time. There is no IDT, so a fault shuts the processor down: then, as after a HLT, the walk begins again at another block. */
function walk({ world, starts }: Walk, deadline: number): number {
  const { t, code, begin } = world;
  const { p, machine } = t;
  let faults = 0;
  while (machine.clock.now() < deadline) {
    runProcessor(p, deadline);
    if (p.activity === ACTIVE) continue;
    faults++;
    p.activity = ACTIVE;
    begin();
    p.rip = BigInt((code + starts[machine.clock.now() % starts.length]!) % 0x1_0000_0000);
    // A fault takes no time; a block that begins with one must not be tried for ever.
    machine.clock.retire(1);
  }
  return faults;
}

/** What software can see, by name. */
function state({ t: { p, machine }, written }: World): Record<string, string> {
  let sum = 0;
  for (const [at, size] of written)
    for (const byte of machine.memory.readBytes(at, size)) sum = (Math.imul(sum, 31) + byte) | 0;
  return {
    gprs: Array.from({ length: 16 }, (_, r) => p.gpr(r).toString(16)).join(),
    vectors: Array.from({ length: 64 }, (_, n) =>
      p.read64((n < 32 ? XMM : YMM_HIGH - 256) + n * 8).toString(16),
    ).join(),
    memory: String(sum),
    rip: p.rip.toString(16),
    flags: p.rflags.toString(16),
    segments: p.segments.map(({ selector }) => selector).join(),
    now: String(machine.clock.now()),
  };
}

function difference(translated: World, plain: World): string | null {
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
  /** Faults, and those among them that a segment did not allow. */
  readonly faults: number;
  readonly segmentFaults: number;
  /** State at the end, for comparison with the same program elsewhere. */
  readonly end: string;
}

/** The threshold that goes with a seed. */
export const thresholdOf = (seed: number): number => [1, 2, 10, 40][seed % 4]!;

/** Runs the program of `seed` in slices of random length and compares all state after each; `threshold`: entries until a block is translated. */
export function lockStep(seed: number, threshold: number, name: WorldName = 'long'): LockStep {
  const plain = prepare(seed, 0, name);
  const translated = prepare(seed, threshold, name);
  const { machine } = translated.world.t;
  const { engine } = machine;
  const translator = engine.translator!;
  translator.batch = 1 + (seed % 5);
  if (seed % 4 === 0) translator.maxRegions = 20;
  translator.structured = seed % 3 !== 2;
  const random = new Random(seed + 1000);
  let found: string | null = null;
  let faults = 0;
  for (let slice = 0; slice < SLICES && found === null; slice++) {
    const length = 1 + (random.u32() % (slice % 10 === 9 ? 5000 : 300));
    // Walks end in small loops: most slices begin elsewhere.
    if (random.u32() % 4 !== 0) {
      const at = plain.starts[random.u32() % plain.starts.length]!;
      for (const { world } of [plain, translated]) world.t.p.rip = BigInt((world.code + at) % 0x1_0000_0000);
    }
    const deadline = machine.clock.now() + length;
    walk(plain, deadline);
    faults += walk(translated, deadline);
    const text = difference(translated.world, plain.world);
    if (text !== null) found = `slice ${slice}: ${text}`;
  }
  return {
    difference: found,
    instructions: machine.clock.now(),
    regions: translator.stats.regions,
    faults,
    segmentFaults: engine.counters.exits[EXIT.segment]!,
    end: Object.values(state(translated.world)).join(' '),
  };
}
