/** Bundles the engine's test page for browsers. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type BuildOptions, build } from 'esbuild';

const file = (name: string): string => fileURLToPath(new URL(`../test/browser/${name}`, import.meta.url));

const OPTIONS = {
  outdir: '.',
  bundle: true,
  write: false,
  // Rejects what needs Node.
  platform: 'browser',
  target: 'es2023',
  logLevel: 'silent',
} as const satisfies BuildOptions;

/** The page's files by name. */
export async function bundlePage(): Promise<Map<string, string>> {
  const { outputFiles } = await build({ ...OPTIONS, format: 'esm', entryPoints: ['page.ts', 'worker.ts'].map(file) });
  const files = outputFiles.map(({ path, text }): [string, string] => [path.slice(path.lastIndexOf('/') + 1), text]);
  return new Map([...files, ['index.html', readFileSync(file('index.html'), 'utf8')]]);
}

/** The checks alone, as a script that leaves them in the global variable `checks`. */
export async function bundleChecks(): Promise<string> {
  const { outputFiles } = await build({
    ...OPTIONS,
    format: 'iife',
    globalName: 'checks',
    entryPoints: [file('checks.ts')],
  });
  return outputFiles[0]!.text;
}
