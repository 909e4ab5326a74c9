/** Loads every TypeScript handler of instructions (each module registers its own with `implement`). */
import './processor/handlers.ts';
import './system/index.ts';

export {};
