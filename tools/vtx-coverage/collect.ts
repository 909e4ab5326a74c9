/** Runs the directed cases of VT-x with everything reported that they make happen. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type EntryChecks, ROOT } from './checks.ts';
import { type Collected, REPORTS, reporting } from './events.ts';

/** Cases that say what must happen. Random ones, which only ask that nothing breaks, prove nothing of a single rule. */
export const CASES: readonly string[] = [
  'src/machine/vtx',
  'src/machine/seam',
  'src/machine/system/non-root.test.ts',
  'src/machine/processor/events/intercept.test.ts',
];
const RANDOM = 'src/machine/vtx/fuzz.test.ts';

export function collect({ sources }: EntryChecks): Collected {
  const directory = mkdtempSync(join(tmpdir(), 'softvt-vtx-'));
  try {
    const texts = new Map(sources);
    for (const [file, func, statement] of REPORTS) {
      texts.set(file, reporting(texts.get(file) ?? readFileSync(join(ROOT, file), 'utf8'), func, statement));
    }
    const [input, output] = [join(directory, 'input.json'), join(directory, 'output')];
    const absolute = Object.fromEntries([...texts].map(([file, text]) => [join(ROOT, file), text]));
    writeFileSync(input, JSON.stringify({ sources: absolute, output }));
    writeFileSync(output, '');
    const vitest = join(ROOT, 'node_modules/vitest/vitest.mjs');
    const options = ['--no-isolate', '--max-workers=1', '--reporter=dot', `--exclude=${RANDOM}`];
    const preload = `--import ${pathToFileURL(join(import.meta.dirname, 'preload.mjs')).href}`;
    const { status, stdout, stderr } = spawnSync(process.execPath, [vitest, 'run', ...CASES, ...options], {
      cwd: ROOT,
      encoding: 'utf8',
      env: { ...process.env, NODE_OPTIONS: preload, VTX_COVERAGE: input },
    });
    if (status !== 0) throw new Error(`the cases of VT-x fail when they are watched:\n${stdout}\n${stderr}`);
    return gather(readFileSync(output, 'utf8'));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function gather(lines: string): Collected {
  const found: Collected = { checks: {}, exits: {}, failedEntries: {}, vmFails: {}, aborts: {}, controls: {} };
  for (const line of lines.split('\n').filter((text) => text !== '')) {
    const [kind, key, test] = JSON.parse(line) as [keyof Collected, string, string];
    (found[kind][key] ??= []).push(relative(ROOT, test));
  }
  for (const group of Object.values(found) as Record<string, string[]>[]) {
    for (const files of Object.values(group)) files.sort();
  }
  return found;
}
