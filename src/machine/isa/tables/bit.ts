/** Bit instructions. @sdm Vol.2A "BSF", "BT" */
import { and, constant, ctz, type Expr, isZero, negate, or, shr, truncate, u32, type Width, zeroExtend } from '../expr.ts';
import { AF, at, CF, flagsFromWord, flagsOfResult, OF, PF, SF, STATUS } from '../flags.ts';
import { define } from '../row.ts';

/** With a zero source the destination keeps its value (also its upper half). */
define('BSF', { writes: STATUS, undefinedFlags: CF | OF | SF | AF | PF }, '0F BC Gv,Ev', (cpu) => {
  const src = cpu.read(1);
  const lowest = src.width === 64 ? ctz(src as Expr<64>) : truncate(ctz(zeroExtend(src, 32)), src.width);
  cpu.if(negate(isZero(src)), () => cpu.write(0, lowest as Expr<Width>));
  cpu.setFlags(flagsOfResult(src)); // ZF describes the source
});

/** Register or immediate bit offset into a register; the memory forms with a register offset are not modelled here. */
define('BT', { dst: 'r', reads: STATUS, undefinedFlags: OF | SF | AF | PF }, `
    0F A3 Ev,Gv
    0F BA /4 Ev,Ib`, (cpu) => {
  const base = cpu.read(0);
  const offset = and(truncate(cpu.read(1), 8), constant(8, base.width - 1));
  const selected = negate(isZero(and(shr(base, offset), constant(base.width, 1))));
  if (!cpu.flagsWanted) return;
  cpu.setFlags(flagsFromWord(or(and(cpu.statusWord(), u32(STATUS & ~CF)), at(selected, CF))));
});
