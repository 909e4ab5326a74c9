/** SSE4.2 string comparison: TypeScript handlers in sse/string-compare.ts. @sdm "PCMPESTRI", "PCMPESTRM", "PCMPISTRI", "PCMPISTRM" */
import { STATUS } from '../flags.ts';
import { ASSIST, define } from '../row.ts';
import { sse } from './simd-lanes.ts';

const compare = sse('sse4_2', { dst: 'r', writes: STATUS });
define('PCMPESTRM', compare, '66 0F3A 60 Vdq,Wdq,Ib', ASSIST);
define('PCMPESTRI', compare, '66 0F3A 61 Vdq,Wdq,Ib', ASSIST);
define('PCMPISTRM', compare, '66 0F3A 62 Vdq,Wdq,Ib', ASSIST);
define('PCMPISTRI', compare, '66 0F3A 63 Vdq,Wdq,Ib', ASSIST);
