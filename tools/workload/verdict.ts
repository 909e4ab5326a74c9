/** Reads a guest's console for what came of a workload. */
import { REPORT } from './guest-script.ts';

/** What a kernel says when it is not well. */
const COMPLAINTS =
  /BUG:|Oops|soft lockup|rcu.*stall|general protection|Call Trace|WARNING: CPU|Kernel panic|clocksource.*unstable/i;

/** Lines in which the kernel complains. */
export function kernelComplaints(console: string): string[] {
  return console.split(/\r?\n/).filter((line) => COMPLAINTS.test(line));
}

/**
 * What is wrong with a guest's run; empty if nothing is.
 *
 * @param expected hashes of the cases' output
 * @param guestOnly whether there was a command that only the guest ran
 */
export function workloadTroubles(console: string, expected: ReadonlyMap<string, string>, guestOnly: boolean): string[] {
  const lines = console.split(/\r?\n/);
  const reports = lines.filter((line) => line.startsWith(REPORT)).map((line) => line.slice(REPORT.length));
  const troubles = kernelComplaints(console);
  const flags = reports.find((line) => line.startsWith('flags'))?.split(/\s+/) ?? [];
  for (const flag of ['avx2', 'fma', 'bmi2', 'f16c'])
    if (!flags.includes(flag)) troubles.push(`the guest has no ${flag}`);
  if (!reports.some((line) => /^libraries.*x86-64-v3 \(supported, searched\)/.test(line)))
    troubles.push("the guest's C library does not take the processor for x86-64-v3");
  for (const [name, hash] of expected) {
    if (reports.includes(`same ${name} ${hash}`)) continue;
    const at = lines.findIndex((line) => new RegExp(`^${REPORT}(differs|same) ${name}\\b`).test(line));
    const end = lines.findIndex((line, n) => n > at && line.startsWith(REPORT));
    if (at < 0) troubles.push(`${name} did not end`);
    else troubles.push(...lines.slice(at, end));
  }
  if (guestOnly && !reports.includes('alone ended with 0')) troubles.push('what only the guest ran did not end with 0');
  if (!reports.includes('done')) troubles.push('the guest did not come to the end');
  return troubles;
}
