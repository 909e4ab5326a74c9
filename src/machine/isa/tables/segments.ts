/** Segment registers, descriptor tables and selectors. @sdm Volume 2, the instructions named */
import { FS, GS, KERNEL_GS, SEG_BASE, SEG_SELECTOR, SEGMENT_SIZE, SEGMENTS, SLOW } from '../../engine/layout.ts';
import type { Cpu } from '../cpu.ts';
import { ne, sar, shl, truncate, u8, zeroExtend } from '../expr.ts';
import { ASSIST, define } from '../row.ts';

const stack = { default64: true, implicitMemory: true } as const;

define('MOV_TO_SREG', { dst: 'w' }, '8E Sw,Ew', ASSIST);
// A register destination is as wide as the operand size, zero-extended; memory always gets 16 bits.
define(
  'MOV_FROM_SREG',
  { dst: 'w' },
  `
    8C mem Ew,Sw
    8C reg Rv,Sw`,
  (cpu) => {
    const selector = cpu.state(SEGMENTS + cpu.insn.operands[1]!.register * SEGMENT_SIZE + SEG_SELECTOR, 16);
    const width = cpu.width(0);
    cpu.write(0, width === 16 ? selector : zeroExtend(selector, width as 32 | 64));
  },
);
define(
  'PUSH_SREG',
  { ...stack, dst: 'r' },
  `
    06 ES; no64
    0E CS; no64
    16 SS; no64
    1E DS; no64
    0F A0 FS
    0F A8 GS`,
  ASSIST,
);
define(
  'POP_SREG',
  { ...stack, dst: 'w' },
  `
    07 ES; no64
    17 SS; no64
    1F DS; no64
    0F A1 FS
    0F A9 GS`,
  ASSIST,
);
define('LES', { dst: 'w' }, 'C4 mem Gv,Mp; no64', ASSIST);
define('LDS', { dst: 'w' }, 'C5 mem Gv,Mp; no64', ASSIST);
define('LSS', { dst: 'w' }, '0F B2 Gv,Mp', ASSIST);
define('LFS', { dst: 'w' }, '0F B4 Gv,Mp', ASSIST);
define('LGS', { dst: 'w' }, '0F B5 Gv,Mp', ASSIST);

const readBase =
  (n: number) =>
  (cpu: Cpu): void => {
    cpu.assistIfSlow(SLOW.fsgsbase);
    cpu.write(0, truncate(cpu.state(SEGMENTS + n * SEGMENT_SIZE + SEG_BASE, 64), cpu.width(0)));
  };
/** Canonical with 57-bit addresses too, else TypeScript looks. */
const writeBase =
  (n: number) =>
  (cpu: Cpu): void => {
    cpu.assistIfSlow(SLOW.fsgsbase);
    const base = cpu.code.let(zeroExtend(cpu.read(0), 64));
    cpu.assistIf(ne(sar(shl(base, u8(16)), u8(16)), base));
    cpu.setState(SEGMENTS + n * SEGMENT_SIZE + SEG_BASE, base);
  };
const GS_BASE = SEGMENTS + GS * SEGMENT_SIZE + SEG_BASE;
define('SWAPGS', {}, '0F 01 =F8; 64', (cpu) => {
  cpu.assistIfSlow(SLOW.interruptFlag);
  const base = cpu.code.let(cpu.state(GS_BASE, 64));
  const other = cpu.code.let(cpu.state(KERNEL_GS, 64));
  cpu.setState(GS_BASE, other);
  cpu.setState(KERNEL_GS, base);
});
define('RDFSBASE', { dst: 'w', feature: 'fsgsbase' }, 'F3 0F AE /0 reg Ry; 64', readBase(FS));
define('RDGSBASE', { dst: 'w', feature: 'fsgsbase' }, 'F3 0F AE /1 reg Ry; 64', readBase(GS));
define('WRFSBASE', { dst: 'r', feature: 'fsgsbase' }, 'F3 0F AE /2 reg Ry; 64', writeBase(FS));
define('WRGSBASE', { dst: 'r', feature: 'fsgsbase' }, 'F3 0F AE /3 reg Ry; 64', writeBase(GS));

define('SGDT', { dst: 'w' }, '0F 01 /0 mem Mx', ASSIST);
define('SIDT', { dst: 'w' }, '0F 01 /1 mem Mx', ASSIST);
define('LGDT', { dst: 'r' }, '0F 01 /2 mem Mx', ASSIST);
define('LIDT', { dst: 'r' }, '0F 01 /3 mem Mx', ASSIST);
define(
  'SLDT',
  { dst: 'w' },
  `
    0F 00 /0 mem Ew
    0F 00 /0 reg Rv`,
  ASSIST,
);
define(
  'STR',
  { dst: 'w' },
  `
    0F 00 /1 mem Ew
    0F 00 /1 reg Rv`,
  ASSIST,
);
define('LLDT', { dst: 'r' }, '0F 00 /2 Ew', ASSIST);
define('LTR', { dst: 'r' }, '0F 00 /3 Ew', ASSIST);

const zero = 0x40;
define('VERR', { dst: 'r', writes: zero }, '0F 00 /4 Ew', ASSIST);
define('VERW', { dst: 'r', writes: zero }, '0F 00 /5 Ew', ASSIST);
define('LAR', { dst: 'w', writes: zero }, '0F 02 Gv,Ew', ASSIST);
define('LSL', { dst: 'w', writes: zero }, '0F 03 Gv,Ew', ASSIST);
define('ARPL', { writes: zero }, '63 Ew,Gw; no64', ASSIST);
