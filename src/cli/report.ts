/** What softvt says about a run that is over. */

import { describeEnd, type GuestEnd } from '../vmm/guest-end.ts';
import type { GuestStatistics } from '../vmm/guest-run.ts';

/** A run that is over. */
export interface RunReport {
  readonly end: GuestEnd;
  readonly statistics: GuestStatistics;
  readonly wallSeconds: number;
}

/** The object of `--json`. `engine` is what the engine did (machine/engine/counters.ts); `seamcalls` and `tdcalls` are those of TDs, `mrtd` and `rtmr` are there for TDs only. */
export function jsonReport({ end, statistics, wallSeconds }: RunReport, stateHash: string): string {
  const { instructions, virtualSeconds, exits, tdx, engine } = statistics;
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
    ...(engine === undefined ? {} : { engine }),
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

/** What the engine did, for `softvt profile`. */
export function engineLines({ statistics }: RunReport): string[] {
  const { engine, instructions } = statistics;
  if (engine === undefined) return [];
  const { exits, assists, slowAccesses, steps, translator, translated } = engine;
  const list = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .sort(([, a], [, b]) => b - a)
      .map(([name, value]) => `${name} ${count(value)}`)
      .join(', ');
  const lines = [
    `left generated code for: ${list(exits)}`,
    `instructions that TypeScript performed: ${list(assists)}`,
    `${count(slowAccesses)} accesses without a TLB entry, ${count(steps)} instructions executed by themselves`,
  ];
  if (translator !== null) {
    const { regions, modules, insns, milliseconds, dropped, evictions } = translator;
    lines.push(
      `${count(regions)} regions of ${count(insns)} instructions in ${count(modules)} modules, ${milliseconds.toFixed(0)} ms; ` +
        `${count(dropped)} dropped, ${count(evictions)} evictions`,
    );
  }
  if (translated !== undefined && translated.entries > 0) {
    const share = (translated.instructions / instructions) * 100;
    const each = translated.instructions / translated.entries;
    lines.push(
      `${share.toFixed(1)} % of instructions in regions, ${count(translated.entries)} entries, ${each.toFixed(1)} instructions each`,
    );
  }
  return lines;
}
