/** Port input and output. @sdm "IN", "OUT", "INS/INSB/INSW/INSD", "OUTS/OUTSB/OUTSW/OUTSD" */
import { ASSIST, define } from '../row.ts';

define(
  'IN',
  { dst: 'w' },
  `
    E4 AL,Ib
    E5 eAX,Ib
    EC AL,DX
    ED eAX,DX`,
  ASSIST,
);
define(
  'OUT',
  { dst: 'r' },
  `
    E6 Ib,AL
    E7 Ib,eAX
    EE DX,AL
    EF DX,eAX`,
  ASSIST,
);
define(
  'INS',
  { dst: 'w', implicitMemory: true, string: true },
  `
    6C Yb,DX
    6D Yz,DX`,
  ASSIST,
);
define(
  'OUTS',
  { dst: 'r', implicitMemory: true, string: true },
  `
    6E DX,Xb
    6F DX,Xz`,
  ASSIST,
);
