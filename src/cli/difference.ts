/** What tells a VM and a TD of the same kernel apart, in a few lines. */

import { hexOf } from '../util/bytes.ts';
import { describeEnd } from '../vmm/guest-end.ts';
import { LOOKED_AT, type PairResult } from './pair-session.ts';

const MOST_NAMES = 8;
/** boot_params' setup header begins with its signature here. */
const SAMPLE = 0x202;
const SAMPLE_SIZE = 16;

/** The most frequent ones first. */
function counted(counts: Readonly<Record<string, number>>): string {
  const entries = Object.entries(counts).sort(([, a], [, b]) => b - a);
  const total = entries.reduce((sum, [, count]) => sum + count, 0);
  const named = entries.slice(0, MOST_NAMES).map(([name, count]) => `${name} ${count}`);
  return `${total}${named.length > 0 ? `: ${named.join(', ')}` : ''}${entries.length > MOST_NAMES ? ', …' : ''}`;
}

/** Bytes as hex and as text. */
function dump(bytes: Uint8Array): string {
  const text = Array.from(bytes, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
  return `${hexOf(bytes, ' ')}  ${text}`;
}

function view({ label, view }: PairResult): string {
  const where = `${label}: host reads guest page 0x${LOOKED_AT.toString(16)} at offset 0x${SAMPLE.toString(16)}`;
  return `${where}: ${view === undefined ? 'no page' : dump(view.subarray(SAMPLE, SAMPLE + SAMPLE_SIZE))}`;
}

/** The summary of both runs. */
export function differenceLines(vm: PairResult, td: PairResult): string[] {
  const lines: string[] = [];
  for (const { label, report } of [vm, td]) {
    const { end, wallSeconds, statistics } = report;
    lines.push(`${label}: ${describeEnd(end)} after ${wallSeconds.toFixed(1)} s`);
    lines.push(`${label}: exits ${counted(statistics.exits)}`);
  }
  const { tdx } = td.report.statistics;
  if (tdx !== undefined) {
    lines.push(`td: SEAMCALLs ${counted(tdx.seamcalls)}`);
    lines.push(`td: TDCALLs ${counted(tdx.tdcalls)}`);
    lines.push(`td: MRTD ${tdx.mrtd}`);
  }
  return [...lines, view(vm), view(td)];
}
