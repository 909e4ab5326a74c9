/** BMI1, BMI2, ADX and CRC32. @sdm "ANDN", "BEXTR", "BLSI", "BZHI", "PDEP", "PEXT", "MULX", "RORX", "SARX/SHLX/SHRX", "ADCX", "ADOX", "CRC32" */
import { RDX } from '../../engine/layout.ts';
import type { Cpu } from '../cpu.ts';
import {
  add,
  and,
  callPure,
  constant,
  type Expr,
  isZero,
  ltU,
  mul,
  ne,
  neg,
  negate,
  not,
  or,
  rotl,
  sar,
  select,
  shl,
  shr,
  sub,
  truncate,
  u8,
  u32,
  u64,
  type Width,
  xor,
  zeroExtend,
} from '../expr.ts';
import { AF, at, CF, flagsFromWord, flagsWithoutParity, OF, PF, SF, STATUS, ZF } from '../flags.ts';
import { define } from '../row.ts';

const bmi1 = { dst: 'w', writes: STATUS, undefinedFlags: AF | PF, feature: 'bmi1' } as const;
const bmi2 = { dst: 'w', feature: 'bmi2' } as const;

define('ANDN', bmi1, 'NP VEX.L0 0F38 F2 Gy,By,Ey', (cpu) => {
  const result = and(not(cpu.read(1)), cpu.read(2));
  cpu.write(0, result);
  cpu.setFlags(flagsWithoutParity(result));
});
/** Bits [start, start + length) of the source; both may exceed the width. */
define('BEXTR', { ...bmi1, undefinedFlags: AF | PF | SF }, 'NP VEX.L0 0F38 F7 Gy,Ey,By', (cpu) => {
  const src = cpu.read(1),
    control = cpu.read(2);
  const { width } = src;
  const start = cpu.code.let(zeroExtend(truncate(control, 8), 32));
  const length = cpu.code.let(zeroExtend(truncate(shr(control, u8(8)), 8), 32));
  const shifted = select(ltU(start, u32(width)), shr(src, start), constant(width, 0));
  const mask = select(
    ltU(length, u32(width)),
    sub(shl(constant(width, 1), length), constant(width, 1)),
    constant(width, -1),
  );
  const result = cpu.code.let(and(shifted, mask));
  cpu.write(0, result);
  cpu.setFlags(flagsFromWord(at(isZero(result), ZF)));
});
/** `carry` is CF as a function of the source. */
const lowestBit = (
  mnemonic: string,
  n: number,
  compute: (src: Expr<Width>) => Expr<Width>,
  carry: (src: Expr<Width>) => Expr<1>,
): void =>
  define(mnemonic, bmi1, `NP VEX.L0 0F38 F3 /${n} By,Ey`, (cpu) => {
    const src = cpu.read(1);
    const result = cpu.code.let(compute(src));
    cpu.write(0, result);
    cpu.setFlags(flagsWithoutParity(result, at(carry(src), CF)));
  });
const less1 = (src: Expr<Width>): Expr<Width> => sub(src, constant(src.width, 1));
lowestBit('BLSR', 1, (src) => and(less1(src), src), isZero);
lowestBit('BLSMSK', 2, (src) => xor(less1(src), src), isZero);
lowestBit(
  'BLSI',
  3,
  (src) => and(neg(src), src),
  (src) => negate(isZero(src)),
);

define('BZHI', { ...bmi2, writes: STATUS, undefinedFlags: AF | PF }, 'NP VEX.L0 0F38 F5 Gy,Ey,By', (cpu) => {
  const src = cpu.read(1);
  const { width } = src;
  const index = cpu.code.let(zeroExtend(truncate(cpu.read(2), 8), 32));
  const inside = cpu.code.let(ltU(index, u32(width)));
  const result = cpu.code.let(select(inside, and(src, sub(shl(constant(width, 1), index), constant(width, 1))), src));
  cpu.write(0, result);
  cpu.setFlags(flagsWithoutParity(result, at(negate(inside), CF)));
});

define('MULX', { ...bmi2, src: 'w' }, 'F2 VEX.L0 0F38 F6 Gy,By,Ey', (cpu) => {
  const src = cpu.read(2);
  const { width } = src;
  let low: Expr<Width>, high: Expr<Width>;
  if (width === 64) {
    const a = cpu.gpr64(RDX);
    low = cpu.code.let(mul(a, src as Expr<64>));
    high = cpu.code.let(callPure(64, cpu.support.mulHighU, a, src));
  } else {
    const product = cpu.code.let(mul(zeroExtend(cpu.gpr(RDX, 32), 64), zeroExtend(src, 64)));
    low = truncate(product, 32);
    high = truncate(shr(product, u64(32)), 32);
  }
  // With the same destination twice, the high half stays.
  cpu.write(1, low);
  cpu.write(0, high);
});
define('RORX', bmi2, 'F2 VEX.L0 0F3A F0 Gy,Ey,Ib', (cpu) => {
  const src = cpu.read(1);
  const { width } = src;
  cpu.write(0, rotl(src, and(sub(u8(width), and(cpu.read(2) as Expr<8>, u8(width - 1))), u8(width - 1))));
});
const shiftX = (mnemonic: string, prefix: string, shift: (e: Expr<Width>, n: Expr) => Expr<Width>): void =>
  define(mnemonic, bmi2, `${prefix} VEX.L0 0F38 F7 Gy,Ey,By`, (cpu) => {
    const src = cpu.read(1);
    cpu.write(0, shift(src, and(truncate(cpu.read(2), 8), u8(src.width - 1))));
  });
shiftX('SHLX', '66', shl);
shiftX('SARX', 'F3', sar);
shiftX('SHRX', 'F2', shr);

/** Bit by bit over the mask: as many steps as it has bits. */
function bitGather(cpu: Cpu, deposit: boolean): void {
  const src = cpu.code.let(zeroExtend(cpu.read(1), 64)),
    mask = cpu.read(2);
  const { width } = mask;
  const { code } = cpu;
  const rest = code.variable(zeroExtend(mask, 64));
  const bits = code.variable(deposit ? src : u64(0));
  const result = code.variable(u64(0));
  const count = code.variable(u64(0));
  code.loop('bits', () => {
    code.if(negate(isZero(rest.get())), () => {
      const lowest = code.let(and(rest.get(), sub(u64(0), rest.get())));
      if (deposit) {
        code.if(ne(and(bits.get(), u64(1)), u64(0)), () => result.set(or(result.get(), lowest)));
        bits.set(shr(bits.get(), u64(1)));
      } else {
        code.if(ne(and(src, lowest), u64(0)), () => result.set(or(result.get(), shl(u64(1), count.get()))));
        count.set(add(count.get(), u64(1)));
      }
      rest.set(xor(rest.get(), lowest));
      code.raw(() => code.br('bits'));
    });
  });
  cpu.write(0, truncate(result.get(), width));
}
define('PDEP', bmi2, 'F2 VEX.L0 0F38 F5 Gy,By,Ey', (cpu) => bitGather(cpu, true));
define('PEXT', bmi2, 'F3 VEX.L0 0F38 F5 Gy,By,Ey', (cpu) => bitGather(cpu, false));

/** Add with CF (ADCX) or OF (ADOX) as the only flag read and written. */
const addWith = (mnemonic: string, prefix: string, flag: number, condition: number): void =>
  define(mnemonic, { reads: STATUS, writes: STATUS, feature: 'adx' }, `${prefix} 0F38 F6 Gy,Ey`, (cpu) => {
    const dst = cpu.read(0),
      src = cpu.read(1);
    const { width } = dst;
    const carryIn = zeroExtend(cpu.evaluate(condition), width);
    const partial = cpu.code.let(add(dst, src));
    const sum = cpu.code.let(add(partial, carryIn));
    const carryOut = cpu.code.let(or(ltU(partial, src), ltU(sum, partial)));
    const word = cpu.statusWord();
    cpu.write(0, sum);
    cpu.setFlags(flagsFromWord(or(and(word, u32(STATUS & ~flag)), at(carryOut, flag))));
  });
addWith('ADCX', '66', CF, 2);
addWith('ADOX', 'F3', OF, 0);

/** CRC-32C (polynomial 0x1EDC6F41, reflected 0x82F63B78), a bit at a time. */
define(
  'CRC32',
  { feature: 'sse4_2' },
  `
    F2 0F38 F0 Gy,Eb
    F2 0F38 F1 Gy,Ev`,
  (cpu) => {
    const { code } = cpu;
    const src = cpu.read(1);
    const crc = code.variable(zeroExtend(truncate(cpu.read(0), 32), 64));
    crc.set(xor(crc.get(), zeroExtend(src, 64)));
    const left = code.variable(u64(src.width));
    code.loop('crc', () => {
      const low = code.let(and(crc.get(), u64(1)));
      crc.set(xor(shr(crc.get(), u64(1)), and(sub(u64(0), low), u64(0x82f63b78))));
      left.set(sub(left.get(), u64(1)));
      code.if(negate(isZero(left.get())), () => code.raw(() => code.br('crc')));
    });
    cpu.write(0, truncate(crc.get(), cpu.width(0)));
  },
);
