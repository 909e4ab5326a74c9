/** Saving and restoring x87, SSE and extended state. @sdm "XSAVE", "FXSAVE" and their kin */
import { ASSIST, define } from '../row.ts';

const save = { dst: 'w', flow: 'system' } as const;
const restore = { dst: 'r', flow: 'system' } as const;

define('FXSAVE', { ...save, feature: 'fxsr' }, 'NP 0F AE /0 mem Mx', ASSIST);
define('FXRSTOR', { ...restore, feature: 'fxsr' }, 'NP 0F AE /1 mem Mx', ASSIST);
define('XSAVE', { ...save, feature: 'xsave' }, 'NP 0F AE /4 mem Mx', ASSIST);
define('XRSTOR', { ...restore, feature: 'xsave' }, 'NP 0F AE /5 mem Mx', ASSIST);
define('XSAVEOPT', { ...save, feature: 'xsaveopt' }, 'NP 0F AE /6 mem Mx', ASSIST);
define('XRSTORS', { ...restore, feature: 'xsaves' }, 'NP 0F C7 /3 mem Mx', ASSIST);
define('XSAVEC', { ...save, feature: 'xsavec' }, 'NP 0F C7 /4 mem Mx', ASSIST);
define('XSAVES', { ...save, feature: 'xsaves' }, 'NP 0F C7 /5 mem Mx', ASSIST);
define('XGETBV', { flow: 'system', feature: 'xsave' }, 'NP 0F 01 =D0', ASSIST);
define('XSETBV', { flow: 'system', feature: 'xsave' }, 'NP 0F 01 =D1', ASSIST);
