/** x87 instructions on data: all TypeScript's (machine/x87). @sdm "x87 FPU Instructions", the escape opcode tables */
import { STATUS } from '../flags.ts';
import { ASSIST, define } from '../row.ts';

const x87 = { unit: 'x87', dst: 'r' } as const;
const stores = { unit: 'x87', dst: 'w' } as const;
const op = (mnemonic: string, encodings: string): void => define(mnemonic, x87, encodings, ASSIST);

// ---- arithmetic: ModRM.reg names the operation; with ST(i) as destination the reversed forms change places
for (const [name, n, reversed] of [
  ['ADD', 0, 0],
  ['MUL', 1, 1],
  ['SUB', 4, 5],
  ['SUBR', 5, 4],
  ['DIV', 6, 7],
  ['DIVR', 7, 6],
] as const) {
  op(`F${name}`, `D8 /${n} mem Md\nDC /${n} mem Mq\nD8 /${n} reg Tt\nDC /${reversed} reg Tt`);
  op(`F${name}P`, `DE /${reversed} reg Tt`);
  op(`FI${name}`, `DA /${n} mem Md\nDE /${n} mem Mw`);
}

// ---- comparison; DC /2, DC /3 and DE /2 are undocumented twins
op('FCOM', 'D8 /2 mem Md\nDC /2 mem Mq\nD8 /2 reg Tt\nDC /2 reg Tt');
op('FCOMP', 'D8 /3 mem Md\nDC /3 mem Mq\nD8 /3 reg Tt\nDC /3 reg Tt\nDE /2 reg Tt');
op('FICOM', 'DA /2 mem Md\nDE /2 mem Mw');
op('FICOMP', 'DA /3 mem Md\nDE /3 mem Mw');
op('FCOMPP', 'DE =D9');
op('FUCOM', 'DD /4 reg Tt');
op('FUCOMP', 'DD /5 reg Tt');
op('FUCOMPP', 'DA =E9');
for (const [mnemonic, encoding] of [
  ['FUCOMI', 'DB /5 reg Tt'],
  ['FCOMI', 'DB /6 reg Tt'],
  ['FUCOMIP', 'DF /5 reg Tt'],
  ['FCOMIP', 'DF /6 reg Tt'],
] as const)
  define(mnemonic, { ...x87, writes: STATUS }, encoding, ASSIST);
op('FTST', 'D9 =E4');
op('FXAM', 'D9 =E5');

// ---- transfers; DD /1, DF /1, D9 /3, DF /2, DF /3 with registers are undocumented twins
op('FLD', 'D9 /0 mem Md\nDD /0 mem Mq\nDB /5 mem Mt\nD9 /0 reg Tt');
define('FST', stores, 'D9 /2 mem Md\nDD /2 mem Mq\nDD /2 reg Tt', ASSIST);
define('FSTP', stores, 'D9 /3 mem Md\nDD /3 mem Mq\nDB /7 mem Mt\nDD /3 reg Tt\nDF /2 reg Tt\nDF /3 reg Tt', ASSIST);
define('FSTPNCE', stores, 'D9 /3 reg Tt', ASSIST);
op('FILD', 'DF /0 mem Mw\nDB /0 mem Md\nDF /5 mem Mq');
define('FIST', stores, 'DF /2 mem Mw\nDB /2 mem Md', ASSIST);
define('FISTP', stores, 'DF /3 mem Mw\nDB /3 mem Md\nDF /7 mem Mq', ASSIST);
define('FISTTP', { ...stores, feature: 'pni' }, 'DF /1 mem Mw\nDB /1 mem Md\nDD /1 mem Mq', ASSIST);
op('FBLD', 'DF /4 mem Mt');
define('FBSTP', stores, 'DF /6 mem Mt', ASSIST);
op('FXCH', 'D9 /1 reg Tt\nDD /1 reg Tt\nDF /1 reg Tt');
for (const [condition, n] of [
  ['B', 0],
  ['E', 1],
  ['BE', 2],
  ['U', 3],
] as const) {
  define(`FCMOV${condition}`, { ...x87, reads: STATUS }, `DA /${n} reg Tt`, ASSIST);
  define(`FCMOVN${condition}`, { ...x87, reads: STATUS }, `DB /${n} reg Tt`, ASSIST);
}
['FLD1', 'FLDL2T', 'FLDL2E', 'FLDPI', 'FLDLG2', 'FLDLN2', 'FLDZ'].forEach((mnemonic, i) => {
  op(mnemonic, `D9 =E${(8 + i).toString(16).toUpperCase()}`);
});
op('FFREE', 'DD /0 reg Tt');
op('FFREEP', 'DF /0 reg Tt');

// ---- functions of ST(0) and ST(1)
for (const [mnemonic, modrm] of [
  ['FCHS', 'E0'],
  ['FABS', 'E1'],
  ['F2XM1', 'F0'],
  ['FYL2X', 'F1'],
  ['FPTAN', 'F2'],
  ['FPATAN', 'F3'],
  ['FXTRACT', 'F4'],
  ['FPREM1', 'F5'],
  ['FDECSTP', 'F6'],
  ['FINCSTP', 'F7'],
  ['FPREM', 'F8'],
  ['FYL2XP1', 'F9'],
  ['FSQRT', 'FA'],
  ['FSINCOS', 'FB'],
  ['FRNDINT', 'FC'],
  ['FSCALE', 'FD'],
  ['FSIN', 'FE'],
  ['FCOS', 'FF'],
  ['FNOP', 'D0'],
] as const)
  op(mnemonic, `D9 =${modrm}`);
