/** Flag instructions. @sdm "CLC", "STC", "CMC", "CLD", "STD", "LAHF", "SAHF", "SETALC" */
import { DIRECTION, FLAGS_REST, RAX } from '../../engine/layout.ts';
import type { Cpu } from '../cpu.ts';
import { and, constant, type Expr, or, select, shl, shr, truncate, u8, u32, u64, xor, zeroExtend } from '../expr.ts';
import { AF, CF, flagsFromWord, OF, PF, SF, STATUS, ZF } from '../flags.ts';
import { define } from '../row.ts';

const DF = 0x400;
const changeCarry =
  (change: (word: Expr<32>) => Expr<32>) =>
  (cpu: Cpu): void => {
    if (cpu.flagsWanted) cpu.setFlags(flagsFromWord(change(cpu.statusWord())));
  };
const flags = { reads: STATUS, writes: STATUS };
define(
  'CLC',
  flags,
  'F8',
  changeCarry((word) => and(word, u32(STATUS & ~CF))),
);
define(
  'STC',
  flags,
  'F9',
  changeCarry((word) => or(word, u32(CF))),
);
define(
  'CMC',
  flags,
  'F5',
  changeCarry((word) => xor(word, u32(CF))),
);

define('CLD', {}, 'FC', (cpu) => {
  const rest = cpu.state(FLAGS_REST, 32);
  cpu.setState(DIRECTION, u64(1));
  cpu.setState(FLAGS_REST, and(rest, u32(~DF)));
});
define('STD', {}, 'FD', (cpu) => {
  const rest = cpu.state(FLAGS_REST, 32);
  cpu.setState(DIRECTION, u64(-1));
  cpu.setState(FLAGS_REST, or(rest, u32(DF)));
});

/** AH holds SF ZF 0 AF 0 PF 1 CF. */
define('LAHF', { reads: STATUS }, '9F', (cpu) => {
  const low = or(and(cpu.statusWord(), u32(SF | ZF | AF | PF | CF)), u32(2));
  const ax = cpu.gpr(RAX, 16);
  cpu.setGprPart(RAX, or(and(ax, constant(16, 0xff)), shl(truncate(low, 16), u8(8))));
});
define('SAHF', flags, '9E', (cpu) => {
  const ah = zeroExtend(truncate(shr(cpu.gpr(RAX, 16), u8(8)), 8), 32);
  cpu.setFlags(flagsFromWord(or(and(ah, u32(SF | ZF | AF | PF | CF)), and(cpu.statusWord(), u32(OF)))));
});
define('SALC', { reads: CF }, 'D6; no64', (cpu) => cpu.setGprPart(RAX, select(cpu.carry(), u8(0xff), u8(0))));
