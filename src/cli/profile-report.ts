/** Reads V8's CPU profiles. */

/** The part of a CPU profile that is looked at. @see Chrome DevTools Protocol "Profiler.Profile" */
export interface V8Profile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string };
  }[];
  readonly samples?: readonly number[];
  readonly timeDeltas?: readonly number[];
}

/** A function and its part of the time, without what it called. */
export interface SelfTime {
  readonly name: string;
  readonly share: number;
}

/** A function's name with the file it is in, below `src/` where that shows. */
function nameOf(functionName: string, url: string): string {
  const name = functionName === '' ? '(anonymous)' : functionName;
  if (url.startsWith('wasm:')) return `${name} (generated code)`;
  if (url === '') return name;
  const source = url.lastIndexOf('/src/');
  return `${name} (${source < 0 ? url.slice(url.lastIndexOf('/') + 1) : url.slice(source + 5)})`;
}

/** Self times by function, the largest first; the shares sum to 1. */
export function selfTimes({ nodes, samples = [], timeDeltas = [] }: V8Profile): SelfTime[] {
  const names = new Map(nodes.map(({ id, callFrame }) => [id, nameOf(callFrame.functionName, callFrame.url)]));
  const times = new Map<string, number>();
  let total = 0;
  for (const [index, id] of samples.entries()) {
    const time = Math.max(timeDeltas[index] ?? 0, 0);
    const name = names.get(id) ?? '(unknown)';
    times.set(name, (times.get(name) ?? 0) + time);
    total += time;
  }
  if (total === 0) return [];
  return [...times].map(([name, time]) => ({ name, share: time / total })).sort((a, b) => b.share - a.share);
}
