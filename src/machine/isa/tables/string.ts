/** String instructions. @sdm "MOVS", "STOS", "LODS", "SCAS", "CMPS", "REP/REPE/REPZ/REPNE/REPNZ" */
import { DIRECTION, ES, RAX, RDI, RSI } from '../../engine/layout.ts';
import type { Cpu } from '../cpu.ts';
import { add, and, constant, eq, ltU, mul, negate, shl, sub, u8, u64, type Width, zeroExtend } from '../expr.ts';
import { conditionOn, flagsOfSub, type Recipe, STATUS } from '../flags.ts';
import { define } from '../row.ts';

/** Moves an index register by the element size, up or down by DF. */
const step = (cpu: Cpu, register: number, width: Width): void =>
  cpu.setAddressRegister(register, add(cpu.gpr64(register), mul(cpu.state(DIRECTION, 64), u64(width / 8))));

const string = { implicitMemory: true, string: true } as const;
/** The byte form and the form of the operand size. */
const both = (mnemonic: string, opcode: number, traits: object, body: (cpu: Cpu, width: Width) => void): void => {
  const hex = (n: number) => n.toString(16).toUpperCase();
  define(`${mnemonic}B`, { ...string, ...traits }, hex(opcode), (cpu) => body(cpu, 8));
  define(mnemonic, { ...string, ...traits }, hex(opcode + 1), (cpu) => body(cpu, cpu.operandSize));
};

/** Many elements of REP MOVS: unless an element that is written is read later, they can be copied together. */
function moveMany(cpu: Cpu, width: Width): void {
  const { code } = cpu;
  const { segment } = cpu.insn;
  const read = code.let(cpu.addressRegister(RSI)),
    written = code.let(cpu.addressRegister(RDI));
  const from = code.let(cpu.linear(segment, read, width, false)),
    to = code.let(cpu.linearUnchecked(ES, written));
  const count = cpu.iterationsAtOnce(width, [from, to]);
  const elements = [
    { segment, offset: read, write: false },
    { segment: ES, offset: written, write: true },
  ];
  cpu.if(cpu.worthAtOnce(count, width, elements), () => {
    const source = cpu.readable(from, width);
    const target = cpu.writable(ES, written, width);
    const bytes = code.let(shl(count, u8(Math.log2(width / 8))));
    cpu.if(negate(ltU(sub(target, source), bytes)), () => {
      code.copyBytes(target, source, bytes);
      cpu.advanceAtOnce(count, width, [RSI, RDI]);
    });
  });
}

/** A byte times this is the byte in all places. */
const ONES: Record<Width, number | bigint> = { 8: 1, 16: 0x101, 32: 0x101_0101, 64: 0x101_0101_0101_0101n };

/** Many elements of REP STOS, if all bytes of the element are alike. */
function storeMany(cpu: Cpu, width: Width): void {
  const { code } = cpu;
  const written = code.let(cpu.addressRegister(RDI));
  const count = cpu.iterationsAtOnce(width, [cpu.linearUnchecked(ES, written)]);
  const byte = code.let(zeroExtend(cpu.gpr(RAX, 8), width));
  const alike = eq(mul(byte, constant(width, ONES[width])), cpu.gpr(RAX, width));
  const worth = cpu.worthAtOnce(count, width, [{ segment: ES, offset: written, write: true }]);
  cpu.if(and(worth, alike), () => {
    const target = cpu.writable(ES, written, width);
    code.fillBytes(target, zeroExtend(cpu.gpr(RAX, 8), 32), shl(count, u8(Math.log2(width / 8))));
    cpu.advanceAtOnce(count, width, [RDI]);
  });
}

both('MOVS', 0xa4, {}, (cpu, width) =>
  cpu.repeat(
    () => {
      const value = cpu.load(cpu.insn.segment, cpu.addressRegister(RSI), width);
      cpu.storeAt(cpu.writable(ES, cpu.addressRegister(RDI), width), value);
      step(cpu, RSI, width);
      step(cpu, RDI, width);
      return null;
    },
    null,
    [RSI, RDI],
    () => moveMany(cpu, width),
  ),
);

both('STOS', 0xaa, {}, (cpu, width) =>
  cpu.repeat(
    () => {
      cpu.storeAt(cpu.writable(ES, cpu.addressRegister(RDI), width), cpu.gpr(RAX, width));
      step(cpu, RDI, width);
      return null;
    },
    null,
    [RDI],
    () => storeMany(cpu, width),
  ),
);

both('LODS', 0xac, {}, (cpu, width) =>
  cpu.repeat(() => {
    cpu.setGprPart(RAX, cpu.load(cpu.insn.segment, cpu.addressRegister(RSI), width));
    step(cpu, RSI, width);
    return null;
  }),
);

/**
 * A comparison. REPE goes on while ZF is set, REPNE while it is clear; the flags are written when the repetition ends, so
 * a fault in the middle leaves those from before the instruction.
 */
const compare = (cpu: Cpu, element: () => Recipe): void => {
  const last: { recipe?: Recipe } = {};
  cpu.repeat(
    () => {
      const recipe = element();
      last.recipe = recipe;
      if (cpu.insn.rep !== 'none') return conditionOn(recipe, cpu.insn.rep === 'rep' ? 4 : 5);
      cpu.setFlags(recipe);
      return null;
    },
    () => cpu.setFlags(last.recipe!),
  );
};

both('SCAS', 0xae, { writes: STATUS }, (cpu, width) =>
  compare(cpu, () => {
    const value = cpu.load(ES, cpu.addressRegister(RDI), width);
    step(cpu, RDI, width);
    return flagsOfSub(cpu.gpr(RAX, width), value);
  }),
);

both('CMPS', 0xa6, { writes: STATUS }, (cpu, width) =>
  compare(cpu, () => {
    // Processors read the second operand first: that decides which fault is reported.
    const second = cpu.load(ES, cpu.addressRegister(RDI), width);
    const first = cpu.load(cpu.insn.segment, cpu.addressRegister(RSI), width);
    step(cpu, RSI, width);
    step(cpu, RDI, width);
    return flagsOfSub(first, second);
  }),
);
