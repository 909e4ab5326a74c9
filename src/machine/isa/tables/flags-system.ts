/**
 * Flags that depend on privilege, and PUSHA and POPA. At level 0 generated code does the common cases itself.
 *
 * @sdm Volume 2, the instructions named
 */
import { BANK_AC_CLEAR, BANK_AC_SET, DIRECTION, FLAGS_REST, RSP, SLOW, SS, STI_TIME } from '../../engine/layout.ts';
import type { Cpu } from '../cpu.ts';
import { add, and, type Expr, isZero, ne, or, select, truncate, u32, u64, xor, zeroExtend } from '../expr.ts';
import { flagsFromWord, STATUS } from '../flags.ts';
import { ASSIST, define } from '../row.ts';

const stack = { default64: true, implicitMemory: true } as const;

const TF = 0x100;
const IF = 0x200;
const DF = 0x400;
const IOPL = 0x3000;
const NT = 0x4000;
const RF = 0x10000;
const VM = 0x20000;
const AC = 0x40000;
const ID = 0x200000;

const rest = (cpu: Cpu): Expr<32> => cpu.state(FLAGS_REST, 32);

define('CLI', {}, 'FA', (cpu) => {
  cpu.assistIfSlow(SLOW.interruptFlag);
  cpu.setState(FLAGS_REST, and(rest(cpu), u32(~IF)));
});
/** STI that sets IF casts a shadow on the next instruction: its time tells the run loop, which looks in between or does not. */
define('STI', {}, 'FB', (cpu) => {
  cpu.assistIfSlow(SLOW.interruptFlag | SLOW.interruptWindow);
  const old = cpu.code.let(rest(cpu));
  const now = cpu.code.let(truncate(cpu.timestamp(), 32));
  cpu.if(isZero(and(old, u32(IF))), () => cpu.setState(STI_TIME, now));
  cpu.setState(FLAGS_REST, or(old, u32(IF)));
});

define('PUSHF', { ...stack, reads: STATUS }, '9C', (cpu) => {
  cpu.assistIfSlow(SLOW.interruptFlag);
  const image = and(or(rest(cpu), cpu.statusWord()), u32(~(RF | VM)));
  cpu.push(cpu.operandSize === 64 ? zeroExtend(image, 64) : truncate(image, cpu.operandSize));
});
/** Generated code changes IF, DF and the status flags; the others seldom change. */
define('POPF', { ...stack, writes: STATUS }, '9D', (cpu) => {
  cpu.assistIfSlow(SLOW.interruptFlag | SLOW.interruptWindow);
  const width = cpu.operandSize;
  const top = cpu.stackOffset(cpu.gpr64(RSP));
  const image = cpu.code.let(zeroExtend(truncate(cpu.load(SS, top, width), width === 16 ? 16 : 32), 32));
  const old = cpu.code.let(rest(cpu));
  const constant = TF | IOPL | NT | (width === 16 ? 0 : AC | ID);
  cpu.assistIf(ne(and(xor(image, old), u32(constant)), u32(0)));
  cpu.setStackPointer(cpu.stackOffset(add(top, u64(width / 8))));
  cpu.setState(FLAGS_REST, or(and(old, u32(~(IF | DF))), and(image, u32(IF | DF))));
  cpu.setState(DIRECTION, select(ne(and(image, u32(DF)), u32(0)), u64(-1), u64(1)));
  cpu.setFlags(flagsFromWord(and(image, u32(STATUS))));
});
/** RFLAGS.AC decides which pages a supervisor may touch, and so which TLB bank counts. */
const setAc =
  (on: boolean) =>
  (cpu: Cpu): void => {
    cpu.assistIfSlow(SLOW.interruptFlag);
    const bank = cpu.code.let(cpu.state(on ? BANK_AC_SET : BANK_AC_CLEAR, 32));
    cpu.assistIf(isZero(bank));
    cpu.setState(FLAGS_REST, on ? or(rest(cpu), u32(AC)) : and(rest(cpu), u32(~AC)));
    cpu.switchBank(bank);
  };
define('CLAC', { feature: 'smap' }, 'NP 0F 01 =CA', setAc(false));
define('STAC', { feature: 'smap' }, 'NP 0F 01 =CB', setAc(true));
define('PUSHA', stack, '60; no64', ASSIST);
define('POPA', stack, '61; no64', ASSIST);
