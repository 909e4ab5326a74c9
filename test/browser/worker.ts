/** The engine's test page, in its worker: only there may modules of any size be compiled synchronously in every browser. */
import { DEFAULTS, runChecks } from './checks.ts';

const chosen = new URLSearchParams(self.location.search);
const number = (name: keyof typeof DEFAULTS): number => Number(chosen.get(name) ?? DEFAULTS[name]);

for await (const outcome of runChecks({ seed: number('seed'), walks: number('walks'), loops: number('loops') }))
  self.postMessage(outcome);
self.postMessage(null);
