/** What the engine has done, so that the next improvement is chosen by measurement. Counting changes nothing that a guest sees. */
import { EXIT } from './layout.ts';
import type { TranslatorStats } from './translator/translator.ts';

const EXIT_NAMES: readonly string[] = Object.keys(EXIT);

/** Counts of one engine. */
export class EngineCounters {
  /** Returns of generated code to TypeScript, by EXIT. */
  readonly exits: Float64Array = new Float64Array(EXIT_NAMES.length);
  /** Instructions that TypeScript performed, by mnemonic. */
  readonly assists: Map<string, number> = new Map();
  /** Accesses made with one-shot TLB entries. */
  slowAccesses = 0;
  /** Instructions executed by themselves: traps, shadows, page-crossing code. */
  steps = 0;

  countAssist(mnemonic: string): void {
    this.assists.set(mnemonic, (this.assists.get(mnemonic) ?? 0) + 1);
  }
}

/** A summary for reports. */
export interface EngineStatistics {
  /** By reason, without those that never happened. */
  readonly exits: Readonly<Record<string, number>>;
  /** The most frequent ones. */
  readonly assists: Readonly<Record<string, number>>;
  readonly slowAccesses: number;
  readonly steps: number;
  /** Null without a translator. */
  readonly translator: TranslatorStats | null;
  /** Entries of regions and instructions executed there; undefined unless the translator counts (it costs a little). */
  readonly translated?: { readonly entries: number; readonly instructions: number };
}

const MOST_ASSISTS = 12;

/** @param translated what regions have counted, where they do */
export function engineStatistics(
  counters: EngineCounters,
  translator: TranslatorStats | null,
  translated?: { readonly entries: number; readonly instructions: number },
): EngineStatistics {
  const exits: Record<string, number> = {};
  EXIT_NAMES.forEach((name, reason) => {
    if (counters.exits[reason]! > 0) exits[name] = counters.exits[reason]!;
  });
  const assists = [...counters.assists].sort(([, a], [, b]) => b - a).slice(0, MOST_ASSISTS);
  const { slowAccesses, steps } = counters;
  const summary = { exits, assists: Object.fromEntries(assists), slowAccesses, steps, translator };
  return translated === undefined ? summary : { ...summary, translated };
}
