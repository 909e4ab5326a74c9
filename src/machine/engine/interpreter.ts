/**
 * Generates the interpreter: one function with a br_table over decoded records, and functions for what is rare.
 *
 * run(ip) → exit reason: starts at record `ip`, or at RIP when it is 0. See layout.ts for what it leaves where.
 * statusAt(block) → the status flags of a state block.
 * deliver(…) → whether an event has been delivered (delivery.ts).
 */
import { Code } from '../isa/code.ts';
import { importSupport } from '../isa/support.ts';
import { defineDelivery } from './delivery.ts';
import { InterpreterCpu, IP } from './interpreter-cpu.ts';
import {
  BUDGET,
  CC_A,
  CC_B,
  CC_KIND,
  CODE_MASK,
  EXIT,
  PAGE_RIP,
  REASON,
  RIP,
  STATE,
  STOPPED_AT,
  TLB_BASE,
} from './layout.ts';
import { type Shaped, SPECIAL, SPECIAL_COUNT } from './record.ts';
import { Bytes, I32, ModuleBuilder, type ValType } from './wasm.ts';

/** One instruction, or a fused pair. */
export type HandlerBody = readonly Shaped[];

/** Record handlers from this number on are functions in the table, at number minus this. */
export const COLD_BASE = 0x800;

const TLB = 1,
  BUDGET_LEFT = 2,
  LEAVING = 3;
const COLD: ValType[] = [I32, I32];

/** @param hot bodies of handlers SPECIAL_COUNT and up; fewer than COLD_BASE */
export function generateInterpreter(hot: readonly HandlerBody[]): Uint8Array<ArrayBuffer> {
  const module = new ModuleBuilder(true);
  const support = importSupport(module);
  const coldType = module.type(COLD, [I32]);
  const run = module.declare();
  const code = new Code(1, 1 << 18);
  for (let i = 0; i < 3; i++) code.newLocal(I32);
  const cpu = new InterpreterCpu(code, support, { budget: BUDGET_LEFT, tlb: TLB, reason: LEAVING });
  const { out } = code;
  const count = SPECIAL_COUNT + hot.length;

  out.i32(0).memory(0x28, TLB_BASE).setLocal(TLB);
  out.i32(0).memory(0x28, BUDGET).setLocal(BUDGET_LEFT);
  code.block(0x02, 'exit');
  out.getLocal(IP).u8(0x45);
  code.block(0x04, 'enter');
  cpu.enter();
  code.flush();
  code.end();
  code.block(0x03, 'dispatch');
  out.getLocal(BUDGET_LEFT).i32(1).u8(0x6b).setLocal(BUDGET_LEFT);
  code.block(0x02, 'cold');
  for (let i = count - 1; i >= 0; i--) code.block(0x02, `handler${i}`);
  out
    .getLocal(IP)
    .memory(0x2f, 0)
    .brTable(
      Array.from({ length: count }, (_, i) => i),
      count,
    );

  const arm = (body: () => void): void => {
    code.end();
    body();
    code.flush();
    code.br('dispatch');
  };
  const special: Record<number, () => void> = {
    [SPECIAL.nextPage]: () => {
      cpu.uncount();
      cpu.nextPage();
    },
    [SPECIAL.goOn]: () => {
      cpu.uncount();
      cpu.goOn();
    },
    [SPECIAL.straddle]: () => {
      cpu.uncount();
      cpu.leave(EXIT.straddle);
    },
    [SPECIAL.undefined]: () => cpu.leave(EXIT.undefined),
    [SPECIAL.stop]: () => {
      cpu.uncount();
      cpu.leave(EXIT.stop);
    },
    [SPECIAL.assist]: () => cpu.leave(EXIT.assist),
    [SPECIAL.crossing]: () => {
      cpu.uncount();
      cpu.crossPage();
    },
    [SPECIAL.crossed]: () => {
      cpu.uncount();
      cpu.crossedPage();
    },
  };
  for (let i = 0; i < SPECIAL_COUNT; i++) arm(special[i]!);
  for (const body of hot) {
    arm(() => {
      for (const [n, shaped] of body.entries()) cpu.step(shaped, n);
      cpu.advance(body.length);
    });
  }
  code.end();
  // cold: everything the function may touch goes through memory
  out.i32(0).getLocal(BUDGET_LEFT).memory(0x36, BUDGET);
  out.getLocal(IP).getLocal(TLB);
  out.getLocal(IP).memory(0x2f, 0).i32(COLD_BASE).u8(0x6b);
  out.u8(0x11).unsigned(coldType).u8(0).teeLocal(LEAVING);
  out.i32(0).memory(0x28, BUDGET).setLocal(BUDGET_LEFT);
  out.i32(0).memory(0x28, TLB_BASE).setLocal(TLB);
  code.block(0x04, 'if');
  out.getLocal(LEAVING).setLocal(IP);
  code.br('dispatch');
  code.end();
  out.i32(0).memory(0x28, STOPPED_AT).setLocal(IP);
  out.i32(0).memory(0x28, REASON).setLocal(LEAVING);
  code.br('exit');
  code.end();
  out.u8(0x00);
  code.end();

  // exit: an instruction that has not happened is not counted
  out.i32(0).getLocal(BUDGET_LEFT).getLocal(LEAVING).i32(EXIT.miss).u8(0x4f).u8(0x6a).memory(0x36, BUDGET);
  out.i32(0).getLocal(IP).memory(0x36, STOPPED_AT);
  out.getLocal(LEAVING).i32(EXIT.lookup).u8(0x47);
  code.block(0x04, 'if');
  out.i32(0);
  out.i32(0).memory(0x29, PAGE_RIP);
  out.getLocal(IP).memory(0x2f, 6).i32(0xfff).u8(0x71).u8(0xad).u8(0x7c);
  out.i32(0).memory(0x29, CODE_MASK).u8(0x83).memory(0x37, RIP);
  code.end();
  out.getLocal(LEAVING);
  module.define(run, [I32], [I32], code.locals, out, 'run');
  const flags = new Bytes();
  flags
    .getLocal(0)
    .memory(0x28, CC_KIND - STATE)
    .getLocal(0)
    .memory(0x29, CC_A - STATE)
    .getLocal(0)
    .memory(0x29, CC_B - STATE);
  module.define(module.declare(), [I32], [I32], [], flags.call(support.statusWord), 'statusAt');
  defineDelivery(module, support);
  return module.build();
}

/** A module of cold handlers, exported as f0, f1, …. */
export function generateCold(bodies: readonly HandlerBody[]): Uint8Array<ArrayBuffer> {
  const module = new ModuleBuilder();
  const support = importSupport(module);
  bodies.forEach((body, i) => {
    const func = module.declare();
    const code = new Code(2, 1024);
    const cpu = new InterpreterCpu(code, support, { budget: -1, tlb: 1, reason: -1 });
    for (const [n, shaped] of body.entries()) cpu.step(shaped, n);
    cpu.advance(body.length);
    code.flush();
    code.out.getLocal(IP);
    module.define(func, COLD, [I32], code.locals, code.out, `f${i}`);
  });
  return module.build();
}
