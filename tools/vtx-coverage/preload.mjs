/** Loaded before the tests: gives them the instrumented sources, and writes down what they report. */
import { appendFileSync, readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { pathToFileURL } from 'node:url';

const { sources, output } = JSON.parse(readFileSync(process.env['VTX_COVERAGE'], 'utf8'));
const byUrl = new Map(Object.entries(sources).map(([path, text]) => [pathToFileURL(path).href, text]));
const seen = new Set();

function report(kind, key) {
  const test = globalThis.__vitest_worker__?.filepath;
  if (test === undefined || seen.has(`${kind} ${key} ${test}`)) return;
  seen.add(`${kind} ${key} ${test}`);
  appendFileSync(output, `${JSON.stringify([kind, key, test])}\n`);
}

globalThis.vtxCheck = (id, failsWhen, value) => {
  if (Boolean(value) === failsWhen) report('checks', String(id));
  return value;
};
globalThis.vtxEvent = report;

registerHooks({
  load(url, context, next) {
    const loaded = next(url, context);
    const source = byUrl.get(url.split('?')[0]);
    return source === undefined ? loaded : { ...loaded, source };
  },
});
