/** Registers the TypeScript handlers of the system instructions of this folder. */
import './cache.ts';
import './control-instructions.ts';
import './debug-registers.ts';
import './direct-store.ts';
import './fxsave.ts';
import './identification.ts';
import './monitor.ts';
import './ports.ts';
import './protection-keys.ts';
import './random.ts';
import './string-ports.ts';
import './time.ts';
import './xcr.ts';
import './xrstor.ts';
import './xsave.ts';
