/** Multiplication and division. @sdm Vol.2A "DIV", "IMUL"; Vol.2B "MUL" */

import { EXIT, RAX, RDX } from '../../engine/layout.ts';
import type { Cpu } from '../cpu.ts';
import {
  and,
  callPure,
  constant,
  divS,
  divU,
  type Expr,
  eq,
  isZero,
  ltU,
  mul,
  ne,
  negate,
  or,
  remS,
  remU,
  sar,
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
import {
  AF,
  carryAndOverflow,
  flagsFromWord,
  flagsOfResult,
  PF,
  type Recipe,
  SF,
  STATUS,
  statusWord,
  ZF,
} from '../flags.ts';
import { define } from '../row.ts';

const multiplyFlags = { writes: STATUS, undefinedFlags: SF | ZF | AF | PF };

/** CF and OF as defined; processors clear ZF and AF, and SF and PF are those of the low half. */
function productFlags(low: Expr<Width>, lost: Expr<1>): Recipe {
  const rest = and(statusWord(flagsOfResult(low)), u32(SF | PF));
  return flagsFromWord(or(carryAndOverflow(lost), rest));
}

/** The signed product cut to the operand size, and whether that lost anything. */
function signedProduct(cpu: Cpu, a: Expr<Width>, b: Expr<Width>): { low: Expr<Width>; lost: Expr<1> } {
  if (a.width === 64) {
    const low = mul(a, b);
    const high = callPure(64, cpu.support.mulHighS, a, b);
    return { low, lost: ne(high, sar(low as Expr<64>, u8(63))) };
  }
  const full = mul(signExtend(a, 64), signExtend(b, 64));
  const low = truncate(full, a.width);
  return { low, lost: ne(full, signExtend(low, 64)) };
}

const imul = (left: number, right: number) => (cpu: Cpu) => {
  const { low, lost } = signedProduct(cpu, cpu.read(left), cpu.read(right));
  cpu.write(0, low);
  cpu.setFlags(productFlags(low, lost));
};
define('IMUL', multiplyFlags, '0F AF Gv,Ev', imul(0, 1));
define(
  'IMUL',
  { ...multiplyFlags, dst: 'w' },
  `
    69 Gv,Ev,Iz
    6B Gv,Ev,Ibs`,
  imul(1, 2),
);

define(
  'MUL',
  { ...multiplyFlags, dst: 'r' },
  `
    F6 /4 Eb
    F7 /4 Ev`,
  (cpu) => {
    const src = cpu.read(0);
    const { width } = src;
    const [high, low] = unsignedProduct(cpu, cpu.gpr(RAX, width), src);
    cpu.setFlags(productFlags(low, negate(isZero(high))));
    setPair(cpu, high, low);
  },
);

/** One operand: the double-width product; CF and OF say whether the upper half is more than a sign extension. */
define(
  'IMUL1',
  { ...multiplyFlags, dst: 'r' },
  `
    F6 /5 Eb
    F7 /5 Ev`,
  (cpu) => {
    const src = cpu.read(0);
    const { width } = src;
    const a = cpu.gpr(RAX, width);
    const { low, lost } = signedProduct(cpu, a, src);
    const high =
      width === 64
        ? callPure(64, cpu.support.mulHighS, a, src)
        : truncate(sar(mul(signExtend(a, 64), signExtend(src, 64)), u8(width)), width);
    cpu.setFlags(productFlags(low, lost));
    setPair(cpu, high as Expr<Width>, low);
  },
);
function unsignedProduct(cpu: Cpu, a: Expr<Width>, b: Expr<Width>): [high: Expr<Width>, low: Expr<Width>] {
  const { width } = a;
  if (width === 64) return [callPure(64, cpu.support.mulHighU, a, b), mul(a, b)];
  const full = mul(zeroExtend(a, 64), zeroExtend(b, 64));
  return [truncate(shr(full, u8(width)), width), truncate(full, width)];
}

/** Writes high:low to AX, DX:AX, EDX:EAX or RDX:RAX. */
function setPair(cpu: Cpu, high: Expr<Width>, low: Expr<Width>): void {
  if (high.width === 8) {
    cpu.setGprPart(RAX, or(shl(zeroExtend(high, 16), u8(8)), zeroExtend(low, 16)));
  } else {
    cpu.setGprPart(RAX, low);
    cpu.setGprPart(RDX, high);
  }
}

define(
  'DIV',
  { dst: 'r', writes: STATUS, undefinedFlags: STATUS },
  `
    F6 /6 Eb
    F7 /6 Ev`,
  (cpu) => {
    const divisor = cpu.read(0);
    const { width } = divisor;
    if (width === 64) {
      const high = cpu.gpr64(RDX),
        low = cpu.gpr64(RAX),
        by = divisor as Expr<64>;
      cpu.faultIf(negate(ltU(high, by)), EXIT.divide); // zero divisor, or quotient too large
      cpu.assistIf(ne(high, constant(64, 0))); // a true 128-bit dividend is rare: TypeScript divides
      setPair(cpu, remU(low, by), divU(low, by));
      return;
    }
    const by = zeroExtend(divisor, 64);
    const dividend =
      width === 8
        ? zeroExtend(cpu.gpr(RAX, 16), 64)
        : or(shl(zeroExtend(cpu.gpr(RDX, width), 64), u8(width)), zeroExtend(cpu.gpr(RAX, width), 64));
    cpu.faultIf(negate(ltU(shr(dividend, u8(width)), by)), EXIT.divide); // zero divisor, or a quotient too large
    setPair(cpu, truncate(remU(dividend, by), width), truncate(divU(dividend, by), width));
  },
);

/** Signed: the quotient truncates towards zero and must fit; the remainder has the dividend's sign. */
define(
  'IDIV',
  { dst: 'r', writes: STATUS, undefinedFlags: STATUS },
  `
    F6 /7 Eb
    F7 /7 Ev`,
  (cpu) => {
    const divisor = cpu.read(0);
    const { width } = divisor;
    if (width === 64) {
      const high = cpu.gpr64(RDX),
        low = cpu.gpr64(RAX),
        by = divisor as Expr<64>;
      cpu.faultIf(isZero(by), EXIT.divide);
      // More than a sign-extended RAX, or the one quotient that overflows: TypeScript divides.
      cpu.assistIf(or(ne(high, sar(low, u8(63))), eq(by, u64(-1))));
      setPair(cpu, remS(low, by), divS(low, by));
      return;
    }
    const by = signExtend(divisor, 64);
    const dividend = cpu.code.let(
      width === 8
        ? signExtend(cpu.gpr(RAX, 16), 64)
        : width === 32
          ? or(shl(zeroExtend(cpu.gpr(RDX, 32), 64), u8(32)), zeroExtend(cpu.gpr(RAX, 32), 64))
          : signExtend(
              truncate(
                or(shl(zeroExtend(cpu.gpr(RDX, width), 64), u8(width)), zeroExtend(cpu.gpr(RAX, width), 64)),
                32,
              ),
              64,
            ),
    );
    cpu.faultIf(isZero(by), EXIT.divide);
    // -2^63 / -1 would trap in wasm: its quotient does not fit anyway.
    if (width === 32) cpu.faultIf(and(eq(by, u64(-1)), eq(dividend, u64(-(1n << 63n)))), EXIT.divide);
    const quotient = cpu.code.let(divS(dividend, by));
    cpu.faultIf(ne(quotient, signExtend(truncate(quotient, width), 64)), EXIT.divide);
    setPair(cpu, truncate(remS(dividend, by), width), truncate(quotient, width));
  },
);

define('CDQ', {}, '99', (cpu) => {
  const width = cpu.operandSize;
  cpu.setGprPart(
    RDX,
    truncate(sar(signExtend(cpu.gpr(RAX, width), width === 64 ? 64 : 32), u8(width === 64 ? 63 : 31)), width),
  );
});
define('CDQE', {}, '98', (cpu) => {
  const width = cpu.operandSize;
  cpu.setGprPart(RAX, signExtend(cpu.gpr(RAX, (width / 2) as Width), width));
});
