/**
 * Decoded records, 16 bytes each, and the shapes that choose their handlers.
 *
 *   0  handler u16      2  reg slot u8    3  rm or base slot u8   4  index slot u8   5  scale (1:0), vvvv (5:2) u8
 *   6  page offset (11:0), length (15:12) u16        8  disp, table slot or target i32        12  immediate i32
 *
 * Slots are byte offsets into a register file (GPRs: number * 8, plus 1 for AH…BH; vectors: number * 16). A 64-bit
 * immediate takes the place of disp and immediate; of a relative branch, disp is the address of the target's slot in the
 * code page's table when it lies in the same page ("local"), else its offset from the page's first byte.
 */
import type { Insn, Operand } from '../isa/insn.ts';
import { PAGE_RIP_SLOT, RSP, ZERO_SLOT } from './layout.ts';

export const RECORD_SIZE = 16;

/** Handlers that are no instruction. */
export const SPECIAL = {
  /** Falls into the next page. */
  nextPage: 0,
  /** Goes on at the record in a table slot (disp), or decodes there. */
  goOn: 1,
  straddle: 2,
  undefined: 3,
  /** End of a single step. */
  stop: 4,
  /** The instruction is TypeScript's. */
  assist: 5,
  /** An instruction that crosses into the page whose table is in disp: its record's address is in the immediate. */
  crossing: 6,
  /** Behind the record of such an instruction: goes on at disp bytes from the page's first byte. */
  crossed: 7,
} as const;
export const SPECIAL_COUNT = 8;

/** An instruction as the handler generator sees it. */
export interface Shaped {
  readonly insn: Insn;
  /** A relative branch within its page. */
  readonly local: boolean;
}

const FIELD_STATIC = new Set(['segment', 'control', 'debug', 'st']);

/** Everything semantics may ask of an instruction's form; equal keys share a handler. */
export function shapeKey({ insn, local }: Shaped): string {
  let key = `${insn.row.operation.mnemonic}|${insn.mode === 64 ? '64' : 'legacy'}|${insn.operandSize}|${insn.condition}|${insn.rep}`;
  if (insn.row.operation.string || insn.row.operation.implicitMemory) key += `|${insn.addressSize}|${insn.segment}`;
  if (local) key += '|local';
  const { memory } = insn;
  for (const o of insn.operands) {
    key += `|${o.place}${o.file}${o.width}${o.access}`;
    if (o.place === 'fixed' || FIELD_STATIC.has(o.file)) key += o.register;
  }
  if (memory !== null) {
    const segment = insn.mode === 64 ? (memory.segment < 4 ? '' : memory.segment) : `s${memory.segment}`;
    key += `|m${insn.addressSize}${segment}${memory.index < 0 ? '' : 'i'}${isAbsolute64(insn) ? 'abs' : ''}`;
    // POP addresses its destination with the stack pointer that it leaves.
    if (insn.row.operation.implicitMemory && memory.base === RSP) key += '|rsp';
  }
  if (insn.operands.length === 0 || insn.row.extension >= 0) key += `|${insn.row.text}`;
  return key;
}

const REGISTER_BITS = 16;

/**
 * Equal numbers of instructions of one row mean equal shape keys: what the key is made of that the row does not settle. Unequal
 * ones say nothing.
 */
export function shapeVariant({ insn, local }: Shaped): number {
  const { memory, operands, rex, segment, operandSize, addressSize } = insn;
  let fixed = 0;
  for (let i = 0; i < operands.length; i++) {
    const o = operands[i]!;
    // Their file settles the shape; one of them at most has such a file.
    if (o.file !== 'gpr' && FIELD_STATIC.has(o.file)) fixed = o.register;
  }
  let variant =
    fixed + REGISTER_BITS * ((operandSize >> 4) | ((addressSize >> 4) << 3) | (segment << 6) | ((rex & 8) << 6));
  variant +=
    0x4000 * ((insn.mode === 64 ? 1 : 0) | (local ? 2 : 0) | (insn.rep === 'none' ? 0 : insn.rep === 'rep' ? 4 : 8));
  if (memory !== null)
    variant += 0x4_0000 * (1 | (memory.index < 0 ? 0 : 2) | (memory.base === RSP ? 4 : 0) | (memory.segment << 3));
  return variant;
}

/** MOV with a 64-bit absolute offset: the offset is in the immediate. */
export const isAbsolute64 = (insn: Insn): boolean =>
  insn.addressSize === 64 && insn.row.operands.some((o) => o.letter === 'O');

export const slotOf = (o: Operand): number =>
  o.file === 'gpr' ? o.register * 8 + (o.high ? 1 : 0) : (o.register * 16) & 0xff;

/**
 * Writes an instruction's record.
 * @param pageOffset of the instruction in its page
 * @param target table slot address of a local branch target
 */
export function writeRecord(
  view: DataView,
  at: number,
  { insn, local }: Shaped,
  handler: number,
  pageOffset: number,
  target: number,
): void {
  const { memory, operands } = insn;
  let reg = 0,
    rm = ZERO_SLOT,
    vvvv = 0,
    wide = isAbsolute64(insn);
  for (const o of operands) {
    if (o.place === 'reg') reg = slotOf(o);
    else if (o.place === 'rm') rm = slotOf(o);
    else if (o.place === 'vvvv') vvvv = o.register;
    else if (o.place === 'immediate64') wide = true;
  }
  if (memory !== null) rm = memory.ripRelative ? PAGE_RIP_SLOT : memory.base < 0 ? ZERO_SLOT : memory.base * 8;
  view.setUint16(at, handler, true);
  view.setUint8(at + 2, reg);
  view.setUint8(at + 3, rm);
  view.setUint8(at + 4, memory === null || memory.index < 0 ? ZERO_SLOT : memory.index * 8);
  view.setUint8(at + 5, (memory?.scale ?? 0) | (vvvv << 2));
  view.setUint16(at + 6, (pageOffset & 0xfff) | (insn.length << 12), true);
  if (wide) {
    view.setBigInt64(at + 8, BigInt.asIntN(64, insn.immediate), true);
    return;
  }
  const relative = operands.length > 0 && operands[0]!.place === 'relative';
  const disp = relative
    ? local
      ? target
      : pageOffset + insn.displacement
    : memory === null
      ? 0
      : memory.disp + (memory.ripRelative ? pageOffset + insn.length : 0);
  view.setInt32(at + 8, disp, true);
  view.setInt32(
    at + 12,
    insn.immediate2 === 0
      ? Number(BigInt.asIntN(32, insn.immediate))
      : Number(insn.immediate & 0xffffn) | (insn.immediate2 << 16),
    true,
  );
}
