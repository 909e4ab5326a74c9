/**
 * What the engine's test page checks. Nothing here, nor below it, needs Node.
 *
 * Each check ends in a state that depends on nothing but its name, so that two JavaScript hosts can be compared.
 */

import { BUILTIN_MESSAGE, builtinGuest } from '../../src/cli/builtin-guest.ts';
import { describeEnd, startGuest } from '../../src/index.ts';
import { lockStep, thresholdOf } from '../../src/machine/engine/translator/testing/lock-step.ts';
import { WORLDS } from '../../src/machine/engine/translator/testing/worlds.ts';
import { runProcessor } from '../../src/machine/run.ts';
import { hexOf } from '../../src/util/bytes.ts';
import { hashData } from '../oracle/case.ts';
import { Emulated } from '../oracle/emulated.ts';
import { Programs } from '../oracle/programs.ts';

/** How a check went. */
export interface Outcome {
  readonly name: string;
  /** What is wrong, or null. */
  readonly failure: string | null;
  /** Instructions executed, by each of the compared machines. */
  readonly instructions: number;
  /** State at the end as text. */
  readonly end: string;
}

type Check = Omit<Outcome, 'name'>;

/** What is tried. */
export interface Amount {
  /** Of the first random program of each kind. */
  readonly seed: number;
  /** Random walks that modify themselves, in 64-bit and 32-bit modes. */
  readonly walks: number;
  /** Sets of random loops over all instructions of user mode. */
  readonly loops: number;
}

/** What the page tries if it is not told. */
export const DEFAULTS: Amount = { seed: 0, walks: 24, loops: 12 };

const LOOPS_PER_SET = 10;
const SLICE = 997;
const SLICES = 8;

/** From here on a walk has gone in circles; others may end early, with an exception. */
const LONG_WALK = 10_000;

function walk(seed: number): Check {
  const { difference, instructions, regions, end } = lockStep(seed, thresholdOf(seed), WORLDS[seed % WORLDS.length]);
  const idle = regions === 0 && instructions >= LONG_WALK;
  return { failure: difference ?? (idle ? 'nothing was translated' : null), instructions, end };
}

function userState({ machine, p, data }: Emulated): string {
  const gprs = Array.from({ length: 16 }, (_, n) => p.gpr(n).toString(16));
  const vectors = Array.from({ length: 16 }, (_, n) => hexOf(p.xmm(n)));
  return [machine.clock.now(), p.rip.toString(16), p.rflags.toString(16), ...gprs, ...vectors, hashData(data)].join(
    ' ',
  );
}

/** Random loops of user code: the interpreter and the translator go through the same states. */
function loops(seed: number): Check {
  const interpreted = new Emulated({ translator: 'off' });
  const translated = new Emulated({ translator: 'on', translatorThreshold: 3 });
  const translator = translated.machine.engine.translator!;
  translator.batch = 1;
  translator.structured = seed % 2 === 0;
  const programs = new Programs(seed + 1);
  for (let n = 0; n < LOOPS_PER_SET; n++) {
    const program = programs.program(3 + ((seed + n) % 20), 300);
    for (const machine of [interpreted, translated]) {
      machine.userMode();
      machine.prepare(program);
      machine.p.activity = 0;
    }
    for (let slice = 0; slice < SLICES && interpreted.p.activity === 0; slice++) {
      for (const { machine, p } of [interpreted, translated]) runProcessor(p, machine.clock.now() + SLICE);
      const [expected, got] = [userState(interpreted), userState(translated)];
      if (got !== expected)
        return { failure: `loop ${n}, slice ${slice}: ${got} not ${expected}`, instructions: 0, end: got };
    }
  }
  return {
    failure: translator.stats.regions === 0 ? 'nothing was translated' : null,
    instructions: interpreted.machine.clock.now(),
    end: userState(interpreted),
  };
}

/** The built-in guest as a VM under KVM: prints, computes, powers off. */
async function vm(): Promise<Check> {
  let screen = '';
  const guest = await startGuest(
    {
      kernel: builtinGuest(),
      kernelName: 'built-in guest',
      commandLine: '',
      memorySize: 16 * 2 ** 20,
      cpus: 1,
      seed: 0,
      clock: 'virtual',
      epochSeconds: 0,
      reboot: false,
    },
    {
      ready: undefined,
      write: (bytes) => {
        screen += new TextDecoder().decode(bytes);
      },
    },
  );
  const end = await guest.done;
  const { instructions } = guest.statistics();
  const wrong = [
    ...(end.reason === 'power-off' ? [] : [describeEnd(end)]),
    ...(screen === BUILTIN_MESSAGE ? [] : [`console: ${JSON.stringify(screen)}`]),
  ];
  return { failure: wrong.join('; ') || null, instructions, end: guest.stateHash() };
}

/** Runs one check after the other; lets go of the event loop between them. A check that throws has failed. */
export async function* runChecks({ seed: first, walks, loops: sets }: Amount): AsyncGenerator<Outcome> {
  const seeds = (count: number): number[] => Array.from({ length: count }, (_, n) => first + n);
  const all: [string, () => Check | Promise<Check>][] = [
    ...seeds(walks).map((seed): [string, () => Check] => [`walk ${seed}`, () => walk(seed)]),
    ...seeds(sets).map((seed): [string, () => Check] => [`loops ${seed}`, () => loops(seed)]),
    ['built-in guest as a VM', vm],
  ];
  for (const [name, check] of all) {
    await new Promise((resolve) => setTimeout(resolve, 0));
    try {
      yield { name, ...(await check()) };
    } catch (error) {
      const failure = error instanceof Error ? (error.stack ?? error.message) : String(error);
      yield { name, failure, instructions: 0, end: '' };
    }
  }
}
