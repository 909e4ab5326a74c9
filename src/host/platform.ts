/** What the host needs from whatever JavaScript runs on. */
export interface Platform {
  /** Wall time in ms from some start. */
  wallMs(): number;
  /** Calls `done` after the event loop has served what was waiting. */
  turn(done: () => void): void;
  /** Calls `done` in about `ms` milliseconds unless the returned function is called first. */
  sleep(ms: number, done: () => void): () => void;
}

interface Globals {
  setTimeout(fn: () => void, ms: number): unknown;
  clearTimeout(handle: unknown): void;
  performance: { now(): number };
  setImmediate?(fn: () => void): void;
}

const globals = globalThis as unknown as Globals;

/** The platform every JavaScript host offers: timers, a clock, and its event loop. */
export const defaultPlatform: Platform = {
  wallMs: () => globals.performance.now(),
  turn: (done) => {
    if (globals.setImmediate) globals.setImmediate(done);
    else globals.setTimeout(done, 0);
  },
  sleep: (ms, done) => {
    const handle = globals.setTimeout(done, ms);
    return () => globals.clearTimeout(handle);
  },
};
