/** What the decoder knows of the instruction it is reading: the bytes, the prefixes, the opcode, and what comes from them. */

import type { MemoryOperand } from '../insn.ts';

const NONE: Uint8Array = new Uint8Array(0);

/** One instruction under way. The decoder has one of these and uses it again, so that decoding allocates only its result. */
export class Encoding {
  // ---- the bytes that may be read
  bytes: Uint8Array = NONE;
  start = 0;
  at = 0;
  end = 0;
  /** A byte was wanted that is not there. */
  truncated = false;
  /** An operand is one that the instruction cannot have. */
  invalid = false;
  /** Default code size. */
  mode: 16 | 32 | 64 = 64;

  // ---- prefixes
  size66 = false;
  size67 = false;
  lock = false;
  /** F2, F3 or 0: the last of them. */
  repeat = 0;
  /** Segment override, ES to GS (0 to 5), or -1. */
  override = -1;
  /** REX, or what a VEX prefix says in its place; 0 if absent. */
  rex = 0;
  /** REX.W or VEX.W. */
  w = 0;
  vex = false;
  vexL = 0;
  /** VEX.pp: none, 66, F3, F2. */
  vexPrefix = 0;
  vvvv = 0;
  /** VEX.vvvv names a register, as its raw bits are not all ones. */
  namesRegister = false;

  // ---- opcode and ModRM
  map: 0 | 1 | 2 | 3 = 0;
  opcode = 0;
  modrm = 0;
  operandSize: 16 | 32 | 64 = 64;
  addressSize: 16 | 32 | 64 = 64;

  // ---- operands
  memory: MemoryOperand | null = null;
  immediate = 0n;
  immediate2 = 0;
  immediates = 0;
  /** Of a relative branch, from the end of the instruction. */
  displacement = 0;

  /** Starts on the instruction at `offset` of the bytes below `limit`; no instruction is longer than 15 bytes. */
  begin(bytes: Uint8Array, offset: number, limit: number, mode: 16 | 32 | 64): void {
    this.bytes = bytes;
    this.start = offset;
    this.at = offset;
    this.end = Math.min(limit, offset + 15);
    this.truncated = false;
    this.invalid = false;
    this.mode = mode;
    this.size66 = false;
    this.size67 = false;
    this.lock = false;
    this.repeat = 0;
    this.override = -1;
    this.rex = 0;
    this.w = 0;
    this.vex = false;
    this.vexL = 0;
    this.vexPrefix = 0;
    this.vvvv = 0;
    this.namesRegister = false;
    this.map = 0;
    this.memory = null;
    this.immediate = 0n;
    this.immediate2 = 0;
    this.immediates = 0;
    this.displacement = 0;
  }

  u8(): number {
    if (this.at >= this.end) {
      this.truncated = true;
      return 0;
    }
    return this.bytes[this.at++]!;
  }
  i8(): number {
    return (this.u8() << 24) >> 24;
  }
  u16(): number {
    return this.u8() | (this.u8() << 8);
  }
  i16(): number {
    return (this.u16() << 16) >> 16;
  }
  i32(): number {
    return this.u16() | (this.u16() << 16);
  }

  /** Register number in ModRM.reg with its extension. */
  get reg(): number {
    return ((this.modrm >> 3) & 7) | ((this.rex & 4) << 1);
  }
  /** Register number in ModRM.rm with its extension. */
  get rm(): number {
    return (this.modrm & 7) | ((this.rex & 1) << 3);
  }
  /** The segment of a memory operand whose default is `segment`. */
  segmentOr(segment: number): number {
    return this.override >= 0 ? this.override : segment;
  }
}
