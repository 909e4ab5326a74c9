/** Far control transfers, returns from interrupts and fast system calls. @sdm Volume 2, the instructions named */
import { returnFromEvent, systemCall, systemReturn } from '../events.ts';
import { ASSIST, define } from '../row.ts';

const far = { dst: 'r', flow: 'system', implicitMemory: true } as const;

define(
  'JMPF',
  far,
  `
    EA Av; no64
    FF /5 Mp`,
  ASSIST,
);
define(
  'CALLF',
  far,
  `
    9A Av; no64
    FF /3 Mp`,
  ASSIST,
);
define(
  'RETF',
  far,
  `
    CB
    CA Iw`,
  ASSIST,
);
define('IRET', far, 'CF', returnFromEvent);

define('SYSCALL', { flow: 'system', feature: 'syscall' }, '0F 05; 64', systemCall);
define('SYSRET', { flow: 'system', feature: 'syscall' }, '0F 07; 64', systemReturn);
define('SYSENTER', { flow: 'system', feature: 'sep' }, '0F 34', ASSIST);
define('SYSEXIT', { flow: 'system', feature: 'sep' }, '0F 35', ASSIST);
