/** String instructions. @sdm "MOVS", "STOS", "LODS", "SCAS", "CMPS", "REP/REPE/REPZ/REPNE/REPNZ" */
import { DIRECTION, ES, RAX, RDI, RSI } from '../../engine/layout.ts';
import type { Cpu } from '../cpu.ts';
import { add, mul, u64, type Width } from '../expr.ts';
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
  let recipe: Recipe;
  cpu.repeat(
    () => {
      recipe = element();
      if (cpu.insn.rep !== 'none') return conditionOn(recipe, cpu.insn.rep === 'rep' ? 4 : 5);
      cpu.setFlags(recipe);
      return null;
    },
    () => cpu.setFlags(recipe),
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
