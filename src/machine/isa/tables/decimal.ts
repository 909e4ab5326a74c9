/** Decimal adjustment. @sdm "AAA", "AAS", "AAD", "AAM", "DAA", "DAS" */
import { EXIT, RAX } from '../../engine/layout.ts';
import type { Cpu } from '../cpu.ts';
import {
  add,
  and,
  constant,
  divU,
  type Expr,
  isZero,
  ltU,
  mul,
  ne,
  or,
  remU,
  select,
  shl,
  shr,
  sub,
  truncate,
  u8,
  u32,
  zeroExtend,
} from '../expr.ts';
import { AF, at, CF, flagsFromWord, flagsOfAdd, flagsOfResult, OF, PF, SF, STATUS, statusWord, ZF } from '../flags.ts';
import { define } from '../row.ts';

/** The low digit is none, or the operation before carried out of it. */
const lowDigitCarries = (cpu: Cpu, al: Expr<8>): Expr<1> =>
  cpu.code.let(or(ltU(u8(9), and(al, u8(15))), ne(and(cpu.statusWord(), u32(AF)), u32(0))));

const byResult = (result: Expr<8>): Expr<32> => and(statusWord(flagsOfResult(result)), u32(SF | ZF | PF));

for (const [mnemonic, opcode, adjust] of [
  ['DAA', '27', add],
  ['DAS', '2F', sub],
] as const) {
  define(mnemonic, { reads: CF | AF, writes: STATUS, undefinedFlags: OF }, `${opcode}; no64`, (cpu) => {
    const al = cpu.code.let(cpu.gpr(RAX, 8));
    const low = lowDigitCarries(cpu, al);
    const carry = cpu.code.let(cpu.carry());
    const high = cpu.code.let(or(ltU(u8(0x99), al), carry));
    // DAS keeps the borrow of its first step.
    const borrow = mnemonic === 'DAS' ? and(low, ltU(al, u8(6))) : constant(1, 0);
    const step = adjust(al, select(low, u8(6), u8(0)));
    const result = cpu.code.let(adjust(step, select(high, u8(0x60), u8(0))));
    cpu.setGprPart(RAX, result);
    cpu.setFlags(flagsFromWord([byResult(result), at(or(high, borrow), CF), at(low, AF)].reduce(or)));
  });
}

for (const [mnemonic, opcode, adjust] of [
  ['AAA', '37', add],
  ['AAS', '3F', sub],
] as const) {
  const traits = { reads: AF, writes: STATUS, undefinedFlags: OF | SF | ZF | PF };
  define(mnemonic, traits, `${opcode}; no64`, (cpu) => {
    const ax = cpu.code.let(cpu.gpr(RAX, 16));
    const carries = lowDigitCarries(cpu, truncate(ax, 8));
    const adjusted = adjust(ax, select(carries, constant(16, 0x106), constant(16, 0)));
    const result = cpu.code.let(and(adjusted, constant(16, 0xff0f)));
    cpu.setGprPart(RAX, result);
    cpu.setFlags(flagsFromWord([byResult(truncate(result, 8)), at(carries, CF), at(carries, AF)].reduce(or)));
  });
}

const traits = { dst: 'r', writes: STATUS, undefinedFlags: OF | AF | CF } as const;

define('AAM', traits, 'D4 Ib; no64', (cpu) => {
  const base = zeroExtend(cpu.read(0), 32);
  cpu.faultIf(isZero(base), EXIT.divide);
  const al = zeroExtend(cpu.gpr(RAX, 8), 32);
  const digit = cpu.code.let(remU(al, base));
  cpu.setGprPart(RAX, truncate(or(shl(divU(al, base), u8(8)), digit), 16));
  cpu.setFlags(flagsFromWord(byResult(truncate(digit, 8))));
});

/** Processors set the flags of the addition. */
define('AAD', traits, 'D5 Ib; no64', (cpu) => {
  const ax = zeroExtend(cpu.gpr(RAX, 16), 32);
  const product = truncate(mul(shr(ax, u8(8)), zeroExtend(cpu.read(0), 32)), 8);
  const result = cpu.code.let(add(truncate(ax, 8), product));
  cpu.setGprPart(RAX, zeroExtend(result, 16));
  cpu.setFlags(flagsOfAdd(result, product));
});
