/** What memory operands compute, and the registers that an address was computed from. */
import type { Cpu } from '../../isa/cpu.ts';
import {
  add,
  constantValue,
  type Expr,
  keepsLow32,
  movesByConstant,
  OP_ADD_64,
  OP_SHL_64,
  STATE,
  shl,
  u64,
} from '../../isa/expr.ts';
import type { Insn } from '../../isa/insn.ts';
import { isAbsolute64 } from '../record.ts';

/** Base plus scaled index plus displacement of an instruction's memory operand, not yet cut to the address size. */
export function addressOf(cpu: Cpu, insn: Insn): Expr<64> {
  if (isAbsolute64(insn)) return u64(insn.immediate);
  const { base, index, scale, disp, ripRelative } = insn.memory!;
  if (ripRelative) return add(cpu.nextRip(), u64(disp));
  let address: Expr<64> | null = base < 0 ? null : cpu.gpr64(base);
  if (index >= 0) {
    const scaled = shl(cpu.gpr64(index), u64(scale));
    address = address === null ? scaled : add(address, scaled);
  }
  return address === null ? u64(disp) : add(address, u64(disp));
}

/** The registers whose sum, and a constant, an address is; -1 for none. */
export interface Pointer {
  readonly base: number;
  readonly index: number;
  readonly scale: number;
}

/** GPRs are states with keys 0 to 15. */
const registerOf = (e: Expr): number =>
  e.op === STATE && (e.imm as number) >= 0 && (e.imm as number) < 16 ? (e.imm as number) : -1;

/**
 * What an address was computed from, or null if that is not a sum of registers and constants.
 * @param narrow of 32-bit code: only the low 32 bits count
 */
export function pointerOf(address: Expr, narrow: boolean): Pointer | null {
  let e = address;
  while (narrow ? movesByConstant(e) || keepsLow32(e) : e.width === 64 && movesByConstant(e)) e = e.a!;
  const base = registerOf(e);
  if (base >= 0) return { base, index: -1, scale: 0 };
  if (e.op === OP_SHL_64) return scaled(e, -1);
  return e.op === OP_ADD_64 && registerOf(e.a!) >= 0 ? scaled(e.b!, registerOf(e.a!)) : null;
}

function scaled(e: Expr, base: number): Pointer | null {
  const index = registerOf(e.op === OP_SHL_64 ? e.a! : e);
  const scale = e.op === OP_SHL_64 ? constantValue(e.b!) : 0;
  return index < 0 || scale === null ? null : { base, index, scale };
}
