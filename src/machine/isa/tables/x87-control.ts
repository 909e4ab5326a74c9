/** x87 control instructions. @sdm "FINIT/FNINIT", "FSTSW/FNSTSW", "FSTCW/FNSTCW", "FLDCW", "FCLEX/FNCLEX", "WAIT/FWAIT" */
import { FCW, FSW, FTOP, RAX } from '../../engine/layout.ts';
import type { Cpu } from '../cpu.ts';
import { and, constant, type Expr, or, shl, truncate, u8, zeroExtend } from '../expr.ts';
import { ASSIST, define } from '../row.ts';

const x87 = { unit: 'x87' } as const;

/** The status word with TOP in bits 13:11. */
const statusWord = (cpu: Cpu): Expr<16> =>
  or(and(cpu.state(FSW, 16), constant(16, ~0x3800)), truncate(shl(zeroExtend(cpu.state(FTOP, 8), 32), u8(11)), 16));

define('FNINIT', x87, 'DB =E3', ASSIST);
define('FNCLEX', x87, 'DB =E2', (cpu) => cpu.setState(FSW, and(cpu.state(FSW, 16), constant(16, 0x7f00))));
define('FNSTSW', { ...x87, dst: 'w' }, 'DD /7 Mw', (cpu) => cpu.write(0, statusWord(cpu)));
define('FNSTSW', x87, 'DF =E0', (cpu) => cpu.setGprPart(RAX, statusWord(cpu)));
define('FNSTCW', { ...x87, dst: 'w' }, 'D9 /7 Mw', (cpu) => cpu.write(0, cpu.state(FCW, 16)));
define('FLDCW', { ...x87, dst: 'r' }, 'D9 /5 Mw', ASSIST);
define('FNENI', x87, 'DB =E0', ASSIST);
define('FNDISI', x87, 'DB =E1', ASSIST);
define('FNSETPM', x87, 'DB =E4', ASSIST);
define('FWAIT', {}, '9B', ASSIST);
define('FNSTENV', { ...x87, dst: 'w' }, 'D9 /6 mem Mx', ASSIST);
define('FLDENV', { ...x87, dst: 'r' }, 'D9 /4 mem Mx', ASSIST);
define('FNSAVE', { ...x87, dst: 'w' }, 'DD /6 mem Mx', ASSIST);
define('FRSTOR', { ...x87, dst: 'r' }, 'DD /4 mem Mx', ASSIST);
