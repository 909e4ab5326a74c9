import { expect, test } from 'vitest';
import { bundleChecks } from '../../tools/browser-bundle.ts';
import { type Amount, type Outcome, runChecks } from './checks.ts';

const FEW: Amount = { seed: 100, walks: 2, loops: 1 };
/** What the bundle may use of the global object beside the language itself. */
const WEB = { setTimeout, clearTimeout, performance, TextEncoder, TextDecoder, WebAssembly };
const HIDDEN = ['process', 'Buffer', 'global', 'setImmediate', 'require', 'module'];

async function all(outcomes: AsyncIterable<Outcome>): Promise<Outcome[]> {
  const list: Outcome[] = [];
  for await (const outcome of outcomes) list.push(outcome);
  return list;
}

test('the engine and a VM run with nothing but what browsers offer, through the same states', async () => {
  const load = new Function('globalThis', ...HIDDEN, `${await bundleChecks()}\nreturn checks;`);
  const bundled = load(WEB) as { runChecks: typeof runChecks };
  const there = await all(bundled.runChecks(FEW));
  expect(there.map(({ failure }) => failure)).toEqual([null, null, null, null]);
  expect(there).toEqual(await all(runChecks(FEW)));
});
