/** What the workload computes on: made by a seed, so that every run is about the same bytes. */
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** How much the workload does: `short` for a test, `long` for a look into every corner. */
export interface Size {
  readonly data: number;
  readonly words: number;
  readonly rounds: number;
  readonly factors: number;
  readonly levels: string;
  readonly frames: number;
  readonly side: number;
}

/** By name; a `long` run executes about ten times as many instructions. */
export const SIZES: Readonly<Record<'short' | 'long', Size>> = {
  short: { data: 100_000, words: 5000, rounds: 200, factors: 100, levels: '0 6', frames: 3, side: 60 },
  long: { data: 1_500_000, words: 60_000, rounds: 2000, factors: 1000, levels: '0 1 3 6 9', frames: 12, side: 200 },
};

/** xorshift32. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** Writes the scripts and their inputs into the directory. */
export function writeInputs(directory: string, size: Size): void {
  cpSync(join(import.meta.dirname, 'work'), directory, { recursive: true });
  const random = generator(20240229);
  const write = (name: string, content: string | Uint8Array): void => writeFileSync(join(directory, name), content);
  const data = Uint8Array.from({ length: size.data }, random);
  write('data', data);
  write(
    'shifted',
    data.map((byte, at) => byte ^ (at % 97 === 0 ? 1 : 0)),
  );
  // Half noise, half what repeats: compressors take all their ways.
  write(
    'part',
    data.slice(0, 20_000).map((byte, at) => (at % 4000 < 2000 ? byte : 65 + (at % 17) * (byte & 1))),
  );
  write('odd', data.slice(1, 778));
  const syllables = 'the re an lo si te ra qu ee mi po x al er ing ss'.split(' ');
  const word = (): string => Array.from({ length: 1 + (random() % 4) }, () => syllables[random() % 16]).join('');
  const dictionary = ['lorem', 'quick brown', 'a', ...Array.from({ length: 400 }, word)];
  const lines = Array.from({ length: size.words / 8 }, () =>
    Array.from({ length: 4 + (random() % 9) }, () => dictionary[random() % (1 + (random() % dictionary.length))]).join(
      ' ',
    ),
  );
  const list = (entries: readonly unknown[]): string => `${entries.join('\n')}\n`;
  const keys = [...new Set(lines.map((line) => line.split(' ')[0]!))].sort();
  write('text', list(lines));
  write('sorted', list(lines.map((line) => line.split(' ')[0]!).sort()));
  write('half', list(keys.filter((_, at) => at % 2 === 0)));
  write('integers', list(lines.map(() => BigInt(random()) * BigInt(random()) + 1n)));
  write(
    'numbers',
    list(lines.map(() => ((random() - 2 ** 31) * 10 ** ((random() % 60) - 30)).toPrecision(1 + (random() % 17)))),
  );
  write('pairs', list(dictionary.slice(3).map((_, at) => `n${at >> (random() % 3)} n${at + 1}`)));
  write('keys.sh.short', 'thirty-two bytes of a secret key');
  mkdirSync(join(directory, 'samples'));
  for (let n = 0; n < 60; n++) write(`samples/s${String(n).padStart(2, '0')}`, list(lines.slice(n * 8, n * 8 + 30)));
}
