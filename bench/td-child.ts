/** Runs one guest and takes the CPU time of its stages: a child of the bench. Prints them as one line of JSON. */

import { readFileSync } from 'node:fs';
import { USERSPACE_MARKER } from '../src/cli/images/index.ts';
import { setV8Flags } from '../src/cli/v8-flags.ts';
import { startGuest } from '../src/index.ts';
import { trace } from '../src/util/trace.ts';
import { STAGE_EXITS, TD_CALLS, tdBenchKernel } from './td-guest.ts';

setV8Flags();
const [type = 'td', kernel = '', initrd = '', commandLine = '', memorySize = '0'] = process.argv.slice(2);
const seconds = (): number => process.cpuUsage().user / 1e6;

/** User seconds at which something was reached. */
const stages: Record<string, number> = {};
let accepts = 0;
let lastAccept = 0;
/** Asking for the time costs as much as a call. */
const ASK_EVERY = 64;
let text = '';
const sink = {
  ready: undefined,
  write: (bytes: Uint8Array): void => {
    text += Buffer.from(bytes).toString('latin1');
    if (text.includes(USERSPACE_MARKER)) stages['marker'] ??= seconds();
  },
};
// The guest may run before it is given back: its first call says that it is built.
trace.tdx_tdcall = (name) => {
  if (name === 'TDG.MEM.PAGE.ACCEPT') {
    if (accepts++ % ASK_EVERY === 0) lastAccept = seconds();
    stages['built'] ??= lastAccept;
    return;
  }
  stages['accepted'] = lastAccept;
  trace.tdx_tdcall = undefined;
};
/** Exits to user space of the bench's own guest, which begin and end its stages. */
const exits: number[] = [];
const [, , port] = TD_CALLS;
if (kernel === '') {
  trace.kvm_userspace_exit = () => {
    // Those of the last stage are only counted.
    if (exits.length < STAGE_EXITS || exits.length === STAGE_EXITS + port!.count) exits.push(seconds());
    else exits.length++;
  };
}
const config = {
  type: type === 'vm' ? ('vm' as const) : ('td' as const),
  kernel: kernel === '' ? tdBenchKernel() : readFileSync(kernel),
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
stages['loaded'] = seconds();
const guest = await startGuest(config, sink);
stages['built'] ??= seconds();
const end = await guest.done;
const { tdx } = guest.statistics();
const accepted = tdx?.tdcalls['TDG.MEM.PAGE.ACCEPT'] ?? 0;
console.log(
  JSON.stringify({
    reason: end.reason,
    stages,
    exits: [...exits.slice(0, STAGE_EXITS), exits[STAGE_EXITS + port!.count]],
    seamcalls: tdx?.seamcalls,
    accepted,
  }),
);
process.exit(0);
