/** The host kernel. */
export { Host } from './host.ts';
export { UserMemory } from './mm.ts';
export type { ClockMode } from './sched.ts';
