/** A decoded instruction, as the decoder gives it to back-ends, TypeScript handlers and disassembly. */

import type { Width } from './expr.ts';
import type { Row } from './row.ts';

export type VectorWidth = 128 | 256;
export type OperandWidth = Width | 80 | VectorWidth;

/** Where a back-end finds an operand. */
export type Place =
  | 'reg' // register by ModRM.reg
  | 'rm' // register by ModRM.rm or the opcode
  | 'vvvv' // register by VEX.vvvv
  | 'is4' // register by bits 7:4 of an immediate
  | 'fixed' // register named by the encoding
  | 'memory'
  | 'immediate'
  | 'immediate64'
  | 'relative' // branch target
  | 'far'; // ptr16:16, ptr16:32

/** Which register file a register operand is in; 'ymm' is the upper halves, which back-ends are asked for beside 'xmm'. */
export type RegisterFile = 'gpr' | 'xmm' | 'ymm' | 'mmx' | 'segment' | 'control' | 'debug' | 'st';

export interface Operand {
  readonly place: Place;
  readonly file: RegisterFile;
  readonly width: OperandWidth;
  readonly access: 'r' | 'w' | 'rw';
  /** Register number, else -1. */
  readonly register: number;
  /** AH, CH, DH, BH. */
  readonly high: boolean;
}

/** Memory operand before segmentation; -1 for an absent base or index. */
export interface MemoryOperand {
  readonly base: number;
  readonly index: number;
  /** The index is a vector register (VSIB). */
  readonly vectorIndex?: boolean;
  /** 0 to 3: the index is shifted left by this. */
  readonly scale: number;
  /** Sign-extended displacement. */
  readonly disp: number;
  /** disp counts from the next instruction's RIP. */
  readonly ripRelative: boolean;
  /** ES to GS (0 to 5): the override, or the default of the base register. */
  readonly segment: number;
}

export interface Insn {
  readonly row: Row;
  /** 16, 32 or 64. */
  readonly mode: 16 | 32 | 64;
  readonly length: number;
  readonly operandSize: 16 | 32 | 64;
  readonly addressSize: 16 | 32 | 64;
  readonly operands: readonly Operand[];
  readonly memory: MemoryOperand | null;
  /** Segment for implicit memory operands that can be overridden (string source, XLAT, MOV moffs): override or DS. */
  readonly segment: number;
  /** Sign-extended as the encoding says; for two immediates (ENTER) the second is in immediate2; far pointers: offset here, selector there. */
  readonly immediate: bigint;
  readonly immediate2: number;
  /** Relative branches: displacement from the start of this instruction to the target. */
  readonly displacement: number;
  readonly lock: boolean;
  /** 'none', or the F3 / F2 prefix where it is not part of the opcode. */
  readonly rep: 'none' | 'rep' | 'repne';
  readonly rex: number;
  /** Condition code of Jcc, SETcc, CMOVcc. */
  readonly condition: number;
  /** The engine's handler for executing it alone, or -1 while that is not known. */
  handler: number;
}
