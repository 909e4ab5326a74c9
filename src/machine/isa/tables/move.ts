/** Data movement. @sdm "MOV", "MOVZX", "MOVSX/MOVSXD", "CMOVcc", "SETcc", "XCHG", "CMPXCHG", "XADD", "BSWAP", "LEA", "MOVBE", "XLAT" */
import { RAX, RBX } from '../../engine/layout.ts';
import type { Cpu } from '../cpu.ts';
import {
  add,
  and,
  type Expr,
  eq,
  or,
  rotl,
  select,
  shl,
  shr,
  signExtend,
  truncate,
  u8,
  u32,
  u64,
  type Width,
  zeroExtend,
} from '../expr.ts';
import { flagsOfAdd, flagsOfSub, STATUS } from '../flags.ts';
import { define } from '../row.ts';

define(
  'MOV',
  { dst: 'w' },
  `
    88 Eb,Gb
    89 Ev,Gv
    8A Gb,Eb
    8B Gv,Ev
    A0 AL,Ob
    A1 rAX,Ov
    A2 Ob,AL
    A3 Ov,rAX
    B0+r Zb,Ib
    B8+r Zv,Iv
    C6 /0 Eb,Ib
    C7 /0 Ev,Iz`,
  (cpu) => cpu.write(0, cpu.read(1)),
);

define('LEA', { dst: 'w' }, '8D Gv,Mx', (cpu) => cpu.write(0, truncate(cpu.effectiveAddress(), cpu.width(0))));

define(
  'MOVZX',
  { dst: 'w' },
  `
    0F B6 Gv,Eb
    0F B7 Gv,Ew`,
  (cpu) => cpu.write(0, zeroExtend(cpu.read(1), cpu.width(0))),
);

define(
  'MOVSX',
  { dst: 'w' },
  `
    0F BE Gv,Eb
    0F BF Gv,Ew`,
  (cpu) => cpu.write(0, signExtend(cpu.read(1), cpu.width(0))),
);

/** Without REX.W it is a plain move of 32 or 16 bits. */
define('MOVSXD', { dst: 'w' }, '63 Gv,Ed; 64', (cpu) => {
  const source = cpu.read(1);
  const width = cpu.width(0);
  cpu.write(0, width === 64 ? signExtend(source, 64) : truncate(source, width));
});

/** The destination is written (and its upper half cleared) even when the condition is false. */
define('CMOV', { reads: STATUS }, '0F 40+cc Gv,Ev', (cpu) => {
  const src = cpu.read(1);
  cpu.write(0, select(cpu.evaluate(cpu.condition), src, cpu.read(0)));
});

define('SET', { dst: 'w', reads: STATUS }, '0F 90+cc Eb', (cpu) =>
  cpu.write(0, zeroExtend(cpu.evaluate(cpu.condition), 8)),
);

define(
  'XCHG',
  { src: 'rw', lock: true },
  `
    86 Eb,Gb
    87 Ev,Gv`,
  (cpu) => {
    const dst = cpu.read(0),
      src = cpu.read(1);
    cpu.write(0, src);
    cpu.write(1, dst);
  },
);
/**
 * Reading operand 0 has already checked that it is writable, so a fault does not depend on the comparison.
 * A register destination keeps its upper half when unequal (seen on Sapphire Rapids; the SDM's pseudo-code differs).
 */
define(
  'CMPXCHG',
  { lock: true, writes: STATUS },
  `
    0F B0 Eb,Gb
    0F B1 Ev,Gv`,
  (cpu) => {
    const dst = cpu.read(0),
      src = cpu.read(1);
    const accumulator = cpu.gpr(RAX, dst.width);
    const equal = cpu.code.let(eq(accumulator, dst));
    cpu.if(
      equal,
      () => cpu.write(0, src),
      () => cpu.setGprPart(RAX, dst),
    );
    cpu.setFlags(flagsOfSub(accumulator, dst));
  },
);

define(
  'XADD',
  { src: 'rw', lock: true, writes: STATUS },
  `
    0F C0 Eb,Gb
    0F C1 Ev,Gv`,
  (cpu) => {
    const dst = cpu.read(0),
      src = cpu.read(1);
    const sum = add(dst, src);
    // XADD r, r with the same register ends with the sum.
    cpu.write(1, dst);
    cpu.write(0, sum);
    cpu.setFlags(flagsOfAdd(sum, src));
  },
);

/** Reverses the bytes; on a 16-bit operand the result is undefined (silicon gives zero). */
const swapped = (value: Expr<Width>): Expr<Width> => {
  const swap32 = (e: Expr<32>): Expr<32> =>
    or(and(rotl(e, u8(8)), u32(0x00ff00ff)), and(rotl(e, u8(24)), u32(-0xff0100)));
  if (value.width === 16) return or(shl(value, u8(8)), shr(value, u8(8)));
  if (value.width === 32) return swap32(value as Expr<32>);
  const low = swap32(truncate(value, 32)),
    high = swap32(truncate(shr(value, u8(32)), 32));
  return or(shl(zeroExtend(low, 64), u64(32)), zeroExtend(high, 64));
};
define('BSWAP', {}, '0F C8+r Zv', (cpu) => {
  const value = cpu.read(0);
  cpu.write(0, value.width === 16 ? truncate(u32(0), 16) : swapped(value));
});
define(
  'MOVBE',
  { dst: 'w', feature: 'movbe' },
  `
    NR 0F38 F0 Gv,Mv
    NR 0F38 F1 Mv,Gv`,
  (cpu) => cpu.write(0, swapped(cpu.read(1))),
);
define('MOVNTI', { dst: 'w' }, 'NP 0F C3 My,Gy', (cpu) => cpu.write(0, cpu.read(1)));
define('MOVDIRI', { dst: 'w', feature: 'movdiri' }, 'NP 0F38 F9 My,Gy', (cpu) => cpu.write(0, cpu.read(1)));

define(
  'NOP',
  { dst: 'r' },
  `
    90
    0F 18 /0 reg Ev
    0F 18 /1 reg Ev
    0F 18 /2 reg Ev
    0F 18 /3 reg Ev
    0F 18 /4 Ev
    0F 18 /5 Ev
    0F 18 /6 Ev
    0F 18 /7 Ev
    0F 19 Ev,Gv
    0F 1A Ev,Gv
    0F 1B Ev,Gv
    0F 1C Ev,Gv
    0F 1D Ev,Gv
    0F 1E Ev,Gv
    0F 1F Ev,Gv
    0F 0D Ev,Gv`,
  () => {},
);
/** 90 without REX.B is NOP, not XCHG EAX, EAX (which would clear the upper half). */
define('XCHG', { src: 'rw' }, '90+r Zv,rAX', (cpu) => {
  const dst = cpu.read(0),
    src = cpu.read(1);
  cpu.write(0, src);
  cpu.write(1, dst);
});

define(
  'PREFETCH',
  { dst: 'r' },
  `
    0F 18 /0 mem Mb
    0F 18 /1 mem Mb
    0F 18 /2 mem Mb
    0F 18 /3 mem Mb`,
  () => {},
);
define('LFENCE', {}, 'NP 0F AE /5 reg', () => {});
define('MFENCE', {}, 'NP 0F AE /6 reg', () => {});
define('SFENCE', {}, 'NP 0F AE /7 reg', () => {});

define('XLAT', { implicitMemory: true }, 'D7', (cpu: Cpu) => {
  const offset = cpu.cutToAddressSize(add(cpu.gpr64(RBX), zeroExtend(cpu.gpr(RAX, 8), 64)));
  cpu.setGprPart(RAX, cpu.load(cpu.insn.segment, offset, 8));
});
