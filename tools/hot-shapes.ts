/**
 * Writes src/machine/engine/hot.ts from profiles: JSON files {singles, pairs: [{n, ex}]}, as bench/profile-shapes writes them.
 *
 *   node tools/hot-shapes.ts PROFILE.json…
 */
import { readFileSync, writeFileSync } from 'node:fs';

interface Count {
  readonly n: number;
  readonly ex: string;
}
const SINGLES = 200;
const PAIRS = 90;

function top(kind: 'singles' | 'pairs', most: number): string[] {
  const sums = new Map<string, number>();
  for (const file of process.argv.slice(2)) {
    const counts = JSON.parse(readFileSync(file, 'utf8'))[kind] as Count[];
    const total = counts.reduce((sum, c) => sum + c.n, 0);
    for (const { n, ex } of counts) sums.set(ex, (sums.get(ex) ?? 0) + n / total);
  }
  return [...sums]
    .sort((a, b) => b[1] - a[1])
    .slice(0, most)
    .map(([ex]) => ex);
}

const target = 'src/machine/engine/hot.ts';
const head = readFileSync(target, 'utf8').split('export const')[0]!;
const lines = [...top('singles', SINGLES), ...top('pairs', PAIRS)].map((ex) => `  '${ex}',\n`);
writeFileSync(target, `${head}export const HOT_EXAMPLES: readonly string[] = [\n${lines.join('')}];\n`);
