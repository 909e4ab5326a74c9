/** The host kernel. */
export { Host } from './host.ts';
export { UserMemory } from './mm.ts';
export type { Platform } from './platform.ts';
export type { ClockMode, Task } from './sched.ts';
