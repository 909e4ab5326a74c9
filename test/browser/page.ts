/**
 * The engine's test page: shows what its worker reports, says in the title how it ended, and tells the server.
 *
 * `?seed=N&walks=N&loops=N` chooses what is tried.
 */
import type { Outcome } from './checks.ts';

const list = document.querySelector('ol')!;
const summary = document.querySelector('p')!;
const outcomes: Outcome[] = [];

function finish(error?: string): void {
  const failed = outcomes.filter(({ failure }) => failure !== null).length;
  const ok = failed === 0 && outcomes.length > 0 && error === undefined;
  document.title = ok ? 'passed' : 'failed';
  summary.textContent = error ?? `${outcomes.length - failed} passed, ${failed} failed`;
  void fetch('report', { method: 'POST', body: JSON.stringify({ error: error ?? null, outcomes }) });
}

const worker = new Worker(`worker.js${location.search}`, { type: 'module' });
worker.onerror = ({ message, filename, lineno }) => finish(`the worker failed: ${message} (${filename}:${lineno})`);
worker.onmessage = ({ data }: MessageEvent<Outcome | null>) => {
  if (data === null) {
    finish();
    return;
  }
  outcomes.push(data);
  summary.textContent = `${outcomes.length} done …`;
  const line = document.createElement('li');
  line.textContent = `${data.name}: ${data.failure ?? `ok, ${data.instructions} instructions`}`;
  list.append(line);
};
