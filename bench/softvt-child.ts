/** Runs one guest through the library and prints `entry` right before its first instruction: a child of the bench. */

import { readFileSync, writeSync } from 'node:fs';
import { setV8Flags } from '../src/cli/v8-flags.ts';
import { startGuest } from '../src/index.ts';

setV8Flags();
const [kernel = '', initrd = '', commandLine = '', memorySize = '0'] = process.argv.slice(2);
const STDOUT = 1;
const config = {
  kernel: readFileSync(kernel),
  kernelName: 'kernel',
  ...(initrd === '' ? {} : { initrd: readFileSync(initrd) }),
  commandLine,
  memorySize: Number(memorySize),
  cpus: 1,
  seed: 0,
  clock: 'virtual' as const,
  epochSeconds: 0,
  reboot: false,
};
const sink = {
  write: (bytes: Uint8Array): void => {
    writeSync(STDOUT, bytes);
  },
  ready: undefined,
};
const guest = await startGuest(config, sink);
writeSync(STDOUT, 'entry\n');
await guest.done;
const { instructions, exits } = guest.statistics();
writeSync(STDOUT, `instructions ${instructions} ${JSON.stringify(exits)}\n`);
process.exit(0);
