/** Integer arithmetic and logic. @sdm Vol.2A/2B, the pages of each mnemonic */
import {
  add,
  and,
  constant,
  type Expr,
  isNegative,
  neg,
  not,
  or,
  sub,
  truncate,
  u32,
  type Width,
  xor,
  zeroExtend,
} from '../expr.ts';
import { AF, at, CF, flagsOfAdd, flagsOfDec, flagsOfInc, flagsOfResult, flagsOfSub, OF, STATUS } from '../flags.ts';
import { define, type Semantics } from '../row.ts';

/** The eight encodings the classic operations share; `n` is their number in opcode bits 5:3. */
const classic = (n: number): string => {
  const opcode = (low: number) => (n * 8 + low).toString(16).toUpperCase().padStart(2, '0');
  return `
    ${opcode(0)} Eb,Gb
    ${opcode(1)} Ev,Gv
    ${opcode(2)} Gb,Eb
    ${opcode(3)} Gv,Ev
    ${opcode(4)} AL,Ib
    ${opcode(5)} rAX,Iz
    80 /${n} Eb,Ib
    82 /${n} Eb,Ib; no64
    81 /${n} Ev,Iz
    83 /${n} Ev,Ibs`;
};

define('ADD', { lock: true, writes: STATUS }, classic(0), (cpu) => {
  const dst = cpu.read(0),
    src = cpu.read(1);
  const sum = add(dst, src);
  cpu.write(0, sum);
  cpu.setFlags(flagsOfAdd(sum, src));
});

define('SUB', { lock: true, writes: STATUS }, classic(5), (cpu) => {
  const dst = cpu.read(0),
    src = cpu.read(1);
  cpu.write(0, sub(dst, src));
  cpu.setFlags(flagsOfSub(dst, src));
});

define('CMP', { dst: 'r', writes: STATUS }, classic(7), (cpu) => {
  cpu.setFlags(flagsOfSub(cpu.read(0), cpu.read(1)));
});

/** CF, AF and OF from the vector of carries out of each bit position and that of signed overflow. */
const carryFlags = (carries: Expr<Width>, halfCarry: Expr<Width>, overflow: Expr<Width>): Expr<32> =>
  [
    at(isNegative(carries), CF),
    and(zeroExtend(truncate(halfCarry, 8), 32), u32(AF)),
    at(isNegative(overflow), OF),
  ].reduce(or);

define('ADC', { lock: true, writes: STATUS, reads: CF }, classic(2), (cpu) => {
  const dst = cpu.read(0),
    src = cpu.read(1);
  const sum = add(add(dst, src), zeroExtend(cpu.carry(), dst.width));
  cpu.write(0, sum);
  const carries = or(and(dst, src), and(or(dst, src), not(sum)));
  cpu.setFlags(flagsOfResult(sum, carryFlags(carries, xor(xor(dst, src), sum), and(xor(dst, sum), xor(src, sum)))));
});

define('SBB', { lock: true, writes: STATUS, reads: CF }, classic(3), (cpu) => {
  const dst = cpu.read(0),
    src = cpu.read(1);
  const difference = sub(sub(dst, src), zeroExtend(cpu.carry(), dst.width));
  cpu.write(0, difference);
  const borrows = or(and(not(dst), src), and(not(xor(dst, src)), difference));
  cpu.setFlags(
    flagsOfResult(
      difference,
      carryFlags(borrows, xor(xor(dst, src), difference), and(xor(dst, src), xor(dst, difference))),
    ),
  );
});

const logic =
  (combine: (dst: Expr<Width>, src: Expr<Width>) => Expr<Width>): Semantics =>
  (cpu) => {
    const result = combine(cpu.read(0), cpu.read(1));
    cpu.write(0, result);
    cpu.setFlags(flagsOfResult(result));
  };
const logicFlags = { lock: true, writes: STATUS, undefinedFlags: AF };
define('OR', logicFlags, classic(1), logic(or));
define('AND', logicFlags, classic(4), logic(and));
define('XOR', logicFlags, classic(6), logic(xor));

define(
  'TEST',
  { ...logicFlags, lock: false, dst: 'r' },
  `
    84 Eb,Gb
    85 Ev,Gv
    A8 AL,Ib
    A9 rAX,Iz
    F6 /0 Eb,Ib
    F7 /0 Ev,Iz
    F6 /1 Eb,Ib
    F7 /1 Ev,Iz`,
  (cpu) => {
    cpu.setFlags(flagsOfResult(and(cpu.read(0), cpu.read(1))));
  },
);

define(
  'INC',
  { lock: true, writes: STATUS & ~CF, reads: CF },
  `
    FE /0 Eb
    FF /0 Ev
    40+r Zv; no64`,
  (cpu) => {
    const dst = cpu.read(0);
    const result = add(dst, constant(dst.width, 1));
    cpu.write(0, result);
    if (cpu.flagsWanted) cpu.setFlags(flagsOfInc(result, cpu.carry()));
  },
);

define(
  'DEC',
  { lock: true, writes: STATUS & ~CF, reads: CF },
  `
    FE /1 Eb
    FF /1 Ev
    48+r Zv; no64`,
  (cpu) => {
    const dst = cpu.read(0);
    const result = sub(dst, constant(dst.width, 1));
    cpu.write(0, result);
    if (cpu.flagsWanted) cpu.setFlags(flagsOfDec(result, cpu.carry()));
  },
);

define(
  'NEG',
  { lock: true, writes: STATUS },
  `
    F6 /3 Eb
    F7 /3 Ev`,
  (cpu) => {
    const dst = cpu.read(0);
    cpu.write(0, neg(dst));
    cpu.setFlags(flagsOfSub(constant(dst.width, 0), dst));
  },
);

define(
  'NOT',
  { lock: true },
  `
    F6 /2 Eb
    F7 /2 Ev`,
  (cpu) => cpu.write(0, not(cpu.read(0))),
);
