/**
 * `npm run bench [-- kernels|kernels32|boot|startup|newcode|td …]`: softvt beside the emulators that are installed, as tables and one line of JSON.
 *
 * SOFTVT_BENCH_QEMU names another QEMU; SOFTVT_BENCH_KERNEL and SOFTVT_BENCH_INITRD name other files to boot.
 */

import { type BootResults, printBoots, runBoots } from './boot.ts';
import { peers, SOFTVT, V86 } from './emulators.ts';
import { type GuestBenchResult, printGuestBenches, printKernels, runGuestBenches } from './guest-benches.ts';
import { compileGuest } from './guest-image.ts';
import { type NewCodeResult, printNewCode, runNewCode } from './new-code.ts';
import { printStartUp, runStartUp, type StartUpResult } from './start-up.ts';
import { printTdBench, runTdBench, type TdResult } from './td.ts';

const PARTS = ['startup', 'kernels', 'kernels32', 'boot', 'newcode', 'td'] as const;
const ROUNDS = 2;

const unknown = process.argv.slice(2).filter((word) => !(PARTS as readonly string[]).includes(word));
if (unknown.length > 0) {
  console.error(`bench: there is no part '${unknown[0]}'; parts are ${PARTS.join(', ')}`);
  process.exit(2);
}
const wanted = (part: (typeof PARTS)[number]): boolean => process.argv.length <= 2 || process.argv.includes(part);

const images = compileGuest();
const emulators = typeof images === 'string' ? [SOFTVT] : [SOFTVT, ...peers(images)];
console.log(
  `Node ${process.versions.node}; ${emulators.map(({ name }) => name).join(', ')}; CPU time unless it says wall`,
);
if (typeof images === 'string') console.log(`no kernels, no peers: ${images}`);

const report: {
  startup?: StartUpResult;
  kernels?: GuestBenchResult[];
  kernels32?: GuestBenchResult[];
  boot?: BootResults;
  newcode?: NewCodeResult;
  td?: TdResult;
} = {};
if (wanted('startup')) {
  report.startup = await runStartUp();
  printStartUp(report.startup);
}
if (wanted('kernels') && typeof images !== 'string') {
  report.kernels = await runGuestBenches(emulators, images.guest, ROUNDS);
  printGuestBenches(report.kernels);
}
if (wanted('kernels32') && typeof images !== 'string') {
  report.kernels32 = await runGuestBenches([SOFTVT, V86], images.guest32, ROUNDS);
  printKernels('32-bit kernels against v86', report.kernels32);
}
if (wanted('boot')) {
  report.boot = await runBoots(emulators);
  printBoots(report.boot);
}
if (wanted('newcode')) {
  const newcode = await runNewCode();
  if (newcode !== undefined) printNewCode((report.newcode = newcode));
}
if (wanted('td')) {
  report.td = await runTdBench();
  printTdBench(report.td);
}
console.log(`\n${JSON.stringify(report)}`);
