import { expect, test } from 'vitest';
import { runProcessor } from '../../src/machine/run.ts';
import { type Case, hashData } from './case.ts';
import { Emulated } from './emulated.ts';
import { Programs } from './programs.ts';

const PROGRAMS = Number(process.env['ORACLE_CASES'] ?? 60);
const SEED = Number(process.env['ORACLE_SEED'] ?? 1);
/** Instructions between two comparisons. */
const SLICE = 997;
const SLICES = 8;

/** Everything that software or the clock can see of a machine. */
function stateOf({ machine, p, data }: Emulated): string {
  const gpr = Array.from({ length: 16 }, (_, n) => p.gpr(n).toString(16));
  const xmm = Array.from({ length: 16 }, (_, n) => Buffer.from(p.xmm(n)).toString('hex'));
  const ymm = Array.from({ length: 16 }, (_, n) => Buffer.from(p.ymmHigh(n)).toString('hex'));
  const fpr = Array.from({ length: 8 }, (_, n) => Buffer.from(p.fpr(n)).toString('hex'));
  return `${machine.clock.now()} ${p.activity} rip ${p.rip.toString(16)} flags ${p.rflags.toString(16)} ${gpr} ${xmm} ${ymm} ${fpr} ${hashData(data)}`;
}

function start(emulated: Emulated, c: Case): void {
  emulated.userMode();
  emulated.prepare(c);
  emulated.p.activity = 0;
}

test.each([
  ['structured', true],
  ['dispatched', false],
])('the translator (%s) and the interpreter take random programs through the same states', (_, structured) => {
  const interpreted = new Emulated({ translator: 'off' });
  const translated = new Emulated({ translator: 'on', translatorThreshold: 3 });
  const translator = translated.machine.engine.translator!;
  translator.batch = 1;
  translator.structured = structured;
  const programs = new Programs(SEED);
  for (let n = 0; n < PROGRAMS; n++) {
    const c = programs.program(3 + (n % 20), 300);
    start(interpreted, c);
    start(translated, c);
    for (let slice = 0; slice < SLICES; slice++) {
      for (const { machine, p } of [interpreted, translated]) runProcessor(p, machine.clock.now() + SLICE);
      const expected = stateOf(interpreted);
      expect(stateOf(translated), `program ${n} of seed ${SEED}: ${Buffer.from(c.code).toString('hex')}`).toBe(
        expected,
      );
      if (interpreted.p.activity !== 0) break;
    }
  }
  expect(translator.stats.regions).toBeGreaterThan(PROGRAMS);
});
