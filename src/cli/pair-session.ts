/** Runs two guests on one host at the same time, with both consoles on the process's stdout. */

import type { GuestConfig } from '../vmm/guest-run.ts';
import { BootStatus } from './boot-status.ts';
import { LabelledSink } from './console/labelled-sink.ts';
import { StreamSink } from './console/terminal.ts';
import type { SessionEnvironment } from './guest-session.ts';
import type { RunReport } from './report.ts';

/** Guest-physical page that is looked at when both are over: boot_params, which Linux leaves where they are. */
export const LOOKED_AT = 0x7000;

/** A guest and the name in front of its lines. */
export interface LabelledGuest {
  readonly label: string;
  readonly config: GuestConfig;
}

/** A guest that is over. */
export interface PairResult {
  readonly label: string;
  readonly report: RunReport;
  /** The page at {@link LOOKED_AT} as the host reads it. */
  readonly view: Uint8Array | undefined;
}

/** Runs both until both have ended; signals and a broken stdout end both. Throws a SoftvtError for what is no guest. */
export async function runPair(
  environment: SessionEnvironment,
  guests: readonly [LabelledGuest, LabelledGuest],
): Promise<[PairResult, PairResult]> {
  const { process, now, startGuests } = environment;
  const started = now();
  const status = process.stderr.isTTY === true ? new BootStatus(process.stderr) : undefined;
  const stream = new StreamSink(process.stdout, () => status?.stop());
  const sinks = guests.map(({ label }) => new LabelledSink(stream, `${label}| `));
  const runs = await startGuests(guests.map(({ config }, n) => ({ config, sink: sinks[n]! })));
  const stop = (name: string, number: number) => (): void => {
    for (const run of runs) run.stop({ reason: 'signal', name, number });
  };
  const handlers = [
    ['SIGINT', stop('SIGINT', 2)],
    ['SIGTERM', stop('SIGTERM', 15)],
  ] as const;
  const broken = stop('SIGPIPE', 13);
  for (const [name, handler] of handlers) process.on(name, handler);
  process.stdout.on('error', broken);
  for (const run of runs) run.endInput();
  status?.start(() => runs[0]!.statistics());
  try {
    const results = await Promise.all(
      runs.map(async (run, n): Promise<PairResult> => {
        const end = await run.done;
        sinks[n]!.end();
        const report = { end, statistics: run.statistics(), wallSeconds: (now() - started) / 1000 };
        return { label: guests[n]!.label, report, view: run.hostView(LOOKED_AT) };
      }),
    );
    return results as [PairResult, PairResult];
  } finally {
    status?.stop();
    for (const [name, handler] of handlers) process.off(name, handler);
    process.stdout.off('error', broken);
  }
}
