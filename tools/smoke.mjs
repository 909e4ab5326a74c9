/**
 * Tries the built `dist/` on the Node that runs this file (`npm run compat` uses the one npm runs on, such as Node 20).
 * Plain JavaScript, because old Nodes do not run TypeScript.
 */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
const softvt = (...args) => execFileSync(process.execPath, ['dist/cli.mjs', ...args], { encoding: 'utf8' });

const failures = [];
const expect = (what, condition) => {
  if (!condition) failures.push(what);
};

expect('softvt --version prints the version', softvt('--version').includes(version));
expect('softvt images list names 6.1-cloud', softvt('images', 'list').includes('6.1-cloud'));
const library = await import(new URL('../dist/index.mjs', import.meta.url));
expect('the library has exports', Object.keys(library).length > 0);

for (const failure of failures) console.error(`smoke: failed: ${failure}`);
console.log(`smoke: dist on Node ${process.versions.node}: ${failures.length === 0 ? 'ok' : 'failed'}`);
process.exitCode = failures.length === 0 ? 0 : 1;
