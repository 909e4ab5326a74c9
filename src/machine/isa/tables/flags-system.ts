/** Flags that depend on privilege, and PUSHA and POPA. @sdm Volume 2, the instructions named */
import { STATUS } from '../flags.ts';
import { ASSIST, define } from '../row.ts';

const stack = { default64: true, implicitMemory: true } as const;

define('CLI', { flow: 'system' }, 'FA', ASSIST);
define('STI', { flow: 'system' }, 'FB', ASSIST);
define('PUSHF', { ...stack, reads: STATUS }, '9C', ASSIST);
define('POPF', { ...stack, flow: 'system', writes: STATUS }, '9D', ASSIST);
define('CLAC', { flow: 'system', feature: 'smap' }, 'NP 0F 01 =CA', ASSIST);
define('STAC', { flow: 'system', feature: 'smap' }, 'NP 0F 01 =CB', ASSIST);
define('PUSHA', stack, '60; no64', ASSIST);
define('POPA', stack, '61; no64', ASSIST);
