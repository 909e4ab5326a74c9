/** How V8 is to compile a program whose hot code is WebAssembly that it makes itself, and short-lived more often than not. */

import { setFlagsFromString } from 'node:v8';

/**
 * `invocation-count-for-turbofan`: of the TypeScript that a boot runs often, little runs so often that optimising it pays; what
 * does, as on the way of VM exits, is optimised after a second or two. `wasm-tiering-budget`: the same for regions.
 */
const FLAGS: readonly string[] = [
  // V8 14 can miscompile hot loops whose closures change captured variables (optimised on-stack with "context cells"). Nothing
  // of softvt's own is written so (tools/check-captures.ts), but the libraries that unpack guest images are.
  '--no-function-context-cells',
  '--invocation-count-for-turbofan=100000',
  '--invocation-count-for-osr=20000',
  '--wasm-tiering-budget=50000000',
];

/** To be called before anything that is hot is loaded. Does nothing on a V8 older than 14 (Node 25). */
export function setV8Flags(): void {
  if (Number.parseInt(process.versions.v8, 10) >= 14) for (const flag of FLAGS) setFlagsFromString(flag);
}
