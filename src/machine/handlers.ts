/** Loads every TypeScript handler of instructions (each module registers its own with `implement`). */
export {};
