/** VMX instructions, SEAM, PCONFIG. @sdm "VMX Instructions" */
import { ASSIST, define } from '../row.ts';

const system = { flow: 'system', dst: 'r' } as const;

define('VMXON', system, 'F3 0F C7 /6 mem Mq', ASSIST);
define('VMXOFF', system, 'NP 0F 01 =C4', ASSIST);
define('VMCLEAR', system, '66 0F C7 /6 mem Mq', ASSIST);
define('VMPTRLD', system, 'NP 0F C7 /6 mem Mq', ASSIST);
define('VMPTRST', { ...system, dst: 'w' }, 'NP 0F C7 /7 mem Mq', ASSIST);
define('VMREAD', { ...system, dst: 'w', force64: true }, 'NP 0F 78 Ev,Gv', ASSIST);
define('VMWRITE', { ...system, force64: true }, 'NP 0F 79 Gv,Ev', ASSIST);
define('VMLAUNCH', system, 'NP 0F 01 =C2', ASSIST);
define('VMRESUME', system, 'NP 0F 01 =C3', ASSIST);
define('VMCALL', system, 'NP 0F 01 =C1', ASSIST);
define('VMFUNC', system, 'NP 0F 01 =D4', ASSIST);
define('INVEPT', { ...system, force64: true }, '66 0F38 80 mem Gv,Mdq', ASSIST);
define('INVVPID', { ...system, force64: true }, '66 0F38 81 mem Gv,Mdq', ASSIST);

// Secure-arbitration mode. @tdx "Instructions"
define('SEAMCALL', system, '66 0F 01 =CF', ASSIST);
define('SEAMRET', system, '66 0F 01 =CD', ASSIST);
define('SEAMOPS', system, '66 0F 01 =CE', ASSIST);
define('TDCALL', system, '66 0F 01 =CC', ASSIST);
define('PCONFIG', { ...system, feature: 'pconfig' }, 'NP 0F 01 =C5', ASSIST);
