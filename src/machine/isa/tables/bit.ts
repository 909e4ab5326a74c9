/** Bit instructions. @sdm "BSF", "BSR", "BT", "BTS", "BTR", "BTC", "TZCNT", "LZCNT", "POPCNT", "BSWAP" */
import type { Cpu } from '../cpu.ts';
import {
  add,
  and,
  clz,
  constant,
  ctz,
  type Expr,
  isZero,
  negate,
  not,
  or,
  popcount,
  sar,
  select,
  shl,
  shr,
  signExtend,
  sub,
  truncate,
  u32,
  u64,
  type Width,
  xor,
  zeroExtend,
} from '../expr.ts';
import { AF, at, CF, flagsFromWord, OF, PF, SF, STATUS, ZF } from '../flags.ts';
import { define } from '../row.ts';

const lowest = (src: Expr<Width>): Expr<Width> =>
  src.width === 64 ? ctz(src as Expr<64>) : truncate(ctz(zeroExtend(src, 32)), src.width);
/** Leading zeros of a non-zero or zero value, counted in its own width. */
const leading = (src: Expr<Width>): Expr<Width> =>
  src.width === 64 ? clz(src as Expr<64>) : truncate(sub(clz(zeroExtend(src, 32)), u32(32 - src.width)), src.width);

/**
 * With a zero source the destination keeps its value (also its upper half); ZF describes the source. The other flags are
 * undefined: processors clear them, but for PF of what was found.
 */
const scan =
  (find: (src: Expr<Width>) => Expr<Width>) =>
  (cpu: Cpu): void => {
    const src = cpu.read(1);
    const none = cpu.code.let(isZero(src));
    const found = cpu.code.let(select(none, constant(src.width, 0), find(src)));
    cpu.if(negate(none), () => cpu.write(0, found));
    const even = negate(truncate1(popcount(zeroExtend(truncate(found, 8), 32))));
    cpu.setFlags(flagsFromWord(or(at(none, ZF), at(even, PF))));
  };
const truncate1 = (e: Expr<32>): Expr<1> => negate(isZero(and(e, u32(1))));
const scanFlags = { writes: STATUS, undefinedFlags: CF | OF | SF | AF | PF };
define(
  'TZCNT',
  { dst: 'w', writes: STATUS, undefinedFlags: OF | SF | AF | PF, feature: 'bmi1' },
  'F3 0F BC Gv,Ev',
  (cpu) => {
    const src = cpu.read(1);
    const count = src.width < 32 ? select(isZero(src), constant(src.width, src.width), lowest(src)) : lowest(src);
    cpu.write(0, count);
    cpu.setFlags(flagsFromWord(or(at(isZero(src), CF), at(isZero(count), ZF))));
  },
);
define(
  'LZCNT',
  { dst: 'w', writes: STATUS, undefinedFlags: OF | SF | AF | PF, feature: 'abm' },
  'F3 0F BD Gv,Ev',
  (cpu) => {
    const src = cpu.read(1);
    const count = leading(src);
    cpu.write(0, count);
    cpu.setFlags(flagsFromWord(or(at(isZero(src), CF), at(isZero(count), ZF))));
  },
);
define('BSF', scanFlags, '0F BC Gv,Ev', scan(lowest));
define(
  'BSR',
  scanFlags,
  '0F BD Gv,Ev',
  scan((src) => sub(constant(src.width, src.width - 1), leading(src))),
);

define('POPCNT', { dst: 'w', writes: STATUS, feature: 'popcnt' }, 'F3 0F B8 Gv,Ev', (cpu) => {
  const src = cpu.read(1);
  const count =
    src.width === 64
      ? add(popcount(truncate(src, 32)), popcount(truncate(shr(src, u64(32)), 32)))
      : popcount(zeroExtend(src, 32));
  cpu.write(0, src.width === 64 ? zeroExtend(count, 64) : truncate(count, src.width));
  cpu.setFlags(flagsFromWord(at(isZero(src), ZF)));
});

type Change = (base: Expr<Width>, mask: Expr<Width>) => Expr<Width>;

/** Tests one bit and changes it. A register bit offset into memory selects any bit of the bit string at the operand. */
function defineBitTest(mnemonic: string, opcode: string, extension: number, change: Change | null): void {
  const traits = {
    dst: change === null ? 'r' : 'rw',
    lock: change !== null,
    reads: STATUS,
    undefinedFlags: OF | SF | AF | PF,
  } as const;
  define(
    mnemonic,
    traits,
    `
    0F ${opcode} Ev,Gv
    0F BA /${extension} Ev,Ib`,
    (cpu) => {
      const width = cpu.width(0);
      const string = cpu.isMemory(0) && cpu.insn.operands[1]!.place === 'reg';
      const offset = cpu.read(1);
      const position = cpu.code.let(and(zeroExtend(truncate(offset, 8), 32), u32(width - 1)));
      const mask = shl(constant(width, 1), position);
      let base: Expr<Width>,
        host: Expr<32> | null = null;
      if (string) {
        // The operand that holds the bit lies offset >> log2(width) operands away, signed.
        const words = sar(signExtend(offset, 64), u64(Math.log2(width)));
        const address = cpu.cutToAddressSize(add(cpu.effectiveAddress(), shl(words, u64(Math.log2(width / 8)))));
        const linear = cpu.linear(cpu.insn.memory!.segment, address, width, change !== null);
        if (change === null) base = cpu.loadFrom(linear, width);
        else {
          host = cpu.modifiable(linear, width);
          base = cpu.loadAt(host, width);
        }
      } else base = cpu.read(0);
      const carry = cpu.code.let(negate(isZero(and(base, mask))));
      if (change !== null) {
        const changed = change(base, mask);
        if (host === null) cpu.write(0, changed);
        else cpu.storeAt(host, changed);
      }
      if (!cpu.flagsWanted) return;
      cpu.setFlags(flagsFromWord(or(and(cpu.statusWord(), u32(STATUS & ~CF)), at(carry, CF))));
    },
  );
}
defineBitTest('BT', 'A3', 4, null);
defineBitTest('BTS', 'AB', 5, (base, mask) => or(base, mask));
defineBitTest('BTR', 'B3', 6, (base, mask) => and(base, not(mask)));
defineBitTest('BTC', 'BB', 7, (base, mask) => xor(base, mask));
