/**
 * The delivery of faults and interrupts as a function of the interpreter's module: what TypeScript raises goes through the IDT by
 * the same semantics as INT n.
 *
 * deliver(vector, error, flags, how) → 1, or 0 where it is not simple, with nothing changed. RIP is the return address less the
 * instruction length in `how`.
 */
import { Code } from '../isa/code.ts';
import { deliver } from '../isa/events.ts';
import { add, and, type Expr, ne, shr, u8, u32, zeroExtend } from '../isa/expr.ts';
import type { Support } from '../isa/support.ts';
import { InterpreterCpu } from './interpreter-cpu.ts';
import { RIP, TLB_BASE } from './layout.ts';
import { I32, type ModuleBuilder } from './wasm.ts';

/** Bits of `how`; above them the length of an instruction that the return address is behind. */
export const HAS_ERROR = 1;
export const IS_CHECKED = 2;
export const LENGTH_SHIFT = 2;

const VECTOR = 0,
  ERROR = 1,
  FLAGS = 2,
  HOW = 3,
  TLB = 4;

class DeliveryCpu extends InterpreterCpu {
  constructor(code: Code, support: Support) {
    super(code, support, { budget: -1, tlb: TLB, reason: -1 });
  }

  protected override exitIf(condition: Expr<1>): void {
    const { code } = this;
    code.if(condition, () => code.raw(() => code.out.i32(0).u8(0x0f)));
  }
}

/** Adds the function to a module. */
export function defineDelivery(module: ModuleBuilder, support: Support): void {
  const func = module.declare();
  const code = new Code(TLB);
  code.newLocal(I32);
  const { out } = code;
  const cpu = new DeliveryCpu(code, support);
  out.i32(0).memory(0x28, TLB_BASE).setLocal(TLB);
  const how = code.local(32, HOW);
  const target = deliver(cpu, {
    vector: code.local(32, VECTOR),
    error: code.local(32, ERROR),
    flags: code.local(32, FLAGS),
    hasError: ne(and(how, u32(HAS_ERROR)), u32(0)),
    isChecked: ne(and(how, u32(IS_CHECKED)), u32(0)),
    rip: add(cpu.state(RIP, 64), zeroExtend(shr(how, u8(LENGTH_SHIFT)), 64)),
  });
  cpu.setState(RIP, target);
  code.flush();
  out.i32(1);
  module.define(func, [I32, I32, I32, I32], [I32], code.locals, out, 'deliver');
}
