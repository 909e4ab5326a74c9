/** Software interrupts, undefined instructions, HLT. @sdm Volume 2, the instructions named */
import { SLOW } from '../../engine/layout.ts';
import { softwareInterrupt } from '../events.ts';
import { u32, zeroExtend } from '../expr.ts';
import { ASSIST, define } from '../row.ts';

/** Vector of INT3. */
const BREAKPOINT = 3;

const software = { dst: 'r', flow: 'system', implicitMemory: true } as const;

define('INT', software, 'CD Ib', (cpu) => softwareInterrupt(cpu, zeroExtend(cpu.read(0), 32)));
define('INT3', software, 'CC', (cpu) => {
  cpu.assistIfSlow(SLOW.breakpoint);
  softwareInterrupt(cpu, u32(BREAKPOINT));
});
define('INT1', software, 'F1', ASSIST);
define('INTO', { ...software, reads: 0x800 }, 'CE; no64', ASSIST);
define('BOUND', { dst: 'r' }, '62 mem Gv,Mx; no64', ASSIST);
define('UD0', { dst: 'r', flow: 'system' }, '0F FF Gv,Ev', ASSIST);
define('UD1', { dst: 'r', flow: 'system' }, '0F B9 Gv,Ev', ASSIST);
define('UD2', { flow: 'system' }, '0F 0B', ASSIST);
define('RSM', { flow: 'system' }, '0F AA', ASSIST);
define('HLT', { flow: 'system' }, 'F4', ASSIST);
