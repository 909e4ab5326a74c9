/**
 * The engine's test page in headless Chromium, and the same checks here: both must pass and end in the same states.
 *
 *   npm run test:browser [-- --seed N --walks N --loops N]     other random programs, or more of them
 *   npm run test:browser -- --serve                            only serves the page, for a browser of your own
 *
 * Exit code 1 if something failed; 0 with one line where no Chromium is installed.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Amount, DEFAULTS, type Outcome, runChecks } from '../test/browser/checks.ts';
import { bundlePage } from './browser-bundle.ts';

const PROGRAMS = ['chromium', 'chromium-browser', 'google-chrome'];
const TIMEOUT_SECONDS = 300;
const TYPES: Readonly<Record<string, string>> = { html: 'text/html; charset=utf-8', js: 'text/javascript' };

interface Report {
  readonly error: string | null;
  readonly outcomes: readonly Outcome[];
}

/** Serves the page on the loopback interface; `onReport` gets what it posts. */
function serve(files: ReadonlyMap<string, string>, onReport: (report: Report) => void): Promise<Server> {
  const server = createServer((request, response) => {
    const name = new URL(request.url ?? '/', 'http://page').pathname.slice(1) || 'index.html';
    if (request.method === 'POST' && name === 'report') {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        response.end();
        onReport(JSON.parse(Buffer.concat(chunks).toString('utf8')) as Report);
      });
      return;
    }
    const text = files.get(name);
    const type = TYPES[name.slice(name.lastIndexOf('.') + 1)] ?? 'text/plain';
    response.writeHead(text === undefined ? 404 : 200, { 'content-type': type }).end(text);
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

const url = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;

/** Opens the page; resolves with its report, or with why there is none. */
async function inChromium(program: string, files: ReadonlyMap<string, string>, amount: Amount): Promise<Report> {
  const profile = mkdtempSync(join(tmpdir(), 'softvt-chromium-'));
  let report: (report: Report) => void = () => {};
  const reported = new Promise<Report>((resolve) => {
    report = resolve;
  });
  const server = await serve(files, report);
  const failed = (error: string): void => report({ error, outcomes: [] });
  const root = process.getuid?.() === 0;
  const child = spawn(
    program,
    [
      ...['--headless', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
      ...['--disable-component-update', '--disable-sync', `--user-data-dir=${profile}`],
      // Chromium has no sandbox for root.
      ...(root ? ['--no-sandbox'] : []),
      `${url(server)}?seed=${amount.seed}&walks=${amount.walks}&loops=${amount.loops}`,
    ],
    { stdio: 'ignore', detached: true },
  );
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  child.once('error', ({ message }) => failed(message));
  child.once('close', (code, signal) => failed(`${program} ended by itself: ${signal ?? `exit code ${code}`}`));
  const timer = setTimeout(() => failed(`no report after ${TIMEOUT_SECONDS} s`), TIMEOUT_SECONDS * 1000);
  try {
    return await reported;
  } finally {
    clearTimeout(timer);
    // The whole group: Chromium is many processes.
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      process.kill(-child.pid, 'SIGKILL');
      await ended;
    }
    server.closeAllConnections();
    server.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}

/** Lines that say what is wrong. */
function complaints(browser: Report, here: ReadonlyMap<string, Outcome>): string[] {
  const lines = browser.error === null ? [] : [browser.error];
  if (browser.error === null && browser.outcomes.length !== here.size)
    lines.push(`${browser.outcomes.length} checks in Chromium, ${here.size} here`);
  for (const { name, failure, end } of browser.outcomes) {
    const ours = here.get(name);
    if (failure !== null) lines.push(`${name}: ${failure}`);
    else if (ours?.failure) lines.push(`${name}, in Node: ${ours.failure}`);
    else if (ours?.end !== end) lines.push(`${name}: Chromium and Node end in different states`);
  }
  return lines;
}

async function test(amount: Amount): Promise<number> {
  const program = PROGRAMS.find((name) => spawnSync(name, ['--version']).status === 0);
  if (program === undefined) {
    console.log('browser test: no Chromium is installed; nothing tested');
    return 0;
  }
  const started = performance.now();
  const browser = await inChromium(program, await bundlePage(), amount);
  const seconds = (performance.now() - started) / 1000;
  const here = new Map<string, Outcome>();
  if (browser.error === null) for await (const outcome of runChecks(amount)) here.set(outcome.name, outcome);
  const wrong = complaints(browser, here);
  for (const line of wrong) console.error(`browser test: ${line}`);
  const passed = browser.outcomes.filter(({ failure }) => failure === null).length;
  const instructions = browser.outcomes.reduce((sum, outcome) => sum + outcome.instructions, 0);
  console.log(
    `browser test: ${passed} of ${browser.outcomes.length} checks passed in headless Chromium ` +
      `(${(instructions / 1e6).toFixed(1)} million instructions, ${seconds.toFixed(1)} s)` +
      (wrong.length === 0 ? ', with the same states at their ends as in Node' : ''),
  );
  return wrong.length === 0 ? 0 : 1;
}

const { values } = parseArgs({
  options: {
    serve: { type: 'boolean' },
    seed: { type: 'string' },
    walks: { type: 'string' },
    loops: { type: 'string' },
  },
});

/** An option's value. */
function count(name: keyof Amount): number {
  const value = Number(values[name] ?? DEFAULTS[name]);
  if (!Number.isInteger(value) || value < 0) throw new RangeError(`--${name} takes a whole number`);
  return value;
}

if (values.serve) {
  const server = await serve(await bundlePage(), ({ error }) => console.log(error ?? 'the page is done'));
  console.log(`the engine's test page: ${url(server)}`);
} else process.exitCode = await test({ seed: count('seed'), walks: count('walks'), loops: count('loops') });
