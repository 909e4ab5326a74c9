/** Loads every TypeScript handler of instructions (each module registers its own with `implement`). */
import './processor/handlers.ts';
import './seam/handlers.ts';
import './seam/pconfig.ts';
import './sse/index.ts';
import './system/index.ts';
import './vtx/handlers.ts';
import './vtx/vm-functions.ts';
import './x87/index.ts';
