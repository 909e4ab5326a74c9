/** What softvt says about a run that is over. */

import { describeEnd, type GuestEnd } from '../vmm/guest-end.ts';
import type { GuestStatistics } from '../vmm/guest-run.ts';

/** A run that is over. */
export interface RunReport {
  readonly end: GuestEnd;
  readonly statistics: GuestStatistics;
  readonly wallSeconds: number;
}

/** The object of `--json`. `seamcalls` and `tdcalls` are those of TDs, `mrtd` and `rtmr` are there for TDs only. */
export function jsonReport({ end, statistics, wallSeconds }: RunReport, stateHash: string): string {
  const { instructions, virtualSeconds, exits, tdx } = statistics;
  return JSON.stringify({
    reason: end.reason,
    detail: describeEnd(end),
    instructions,
    virtualSeconds,
    wallSeconds,
    stateHash,
    exits,
    seamcalls: tdx?.seamcalls ?? {},
    tdcalls: tdx?.tdcalls ?? {},
    ...(tdx === undefined ? {} : { mrtd: tdx.mrtd, rtmr: tdx.rtmr }),
  });
}

function count(value: number): string {
  if (value >= 1e9) return `${(value / 1e9).toFixed(2)} G`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  return String(value);
}

/** A short summary for people. */
export function summaryLines({ end, statistics, wallSeconds }: RunReport): string[] {
  const { instructions, virtualSeconds, exits } = statistics;
  const total = Object.values(exits).reduce((sum, value) => sum + value, 0);
  const byReason = Object.entries(exits)
    .sort(([, a], [, b]) => b - a)
    .map(([reason, value]) => `${reason} ${value}`);
  const mips = wallSeconds > 0 ? instructions / wallSeconds / 1e6 : 0;
  return [
    `${describeEnd(end)} after ${wallSeconds.toFixed(1)} s (${virtualSeconds.toFixed(2)} s of guest time)`,
    `${count(instructions)} instructions, ${mips.toFixed(0)} guest MIPS`,
    `${total} VM exits: ${byReason.slice(0, 8).join(', ')}${byReason.length > 8 ? ', …' : ''}`,
  ];
}
