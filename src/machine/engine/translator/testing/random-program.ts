/**
 * Random programs for comparing the two back-ends: walks over random blocks that call, return, jump by table and write
 * into themselves.
 */
import type { Random } from '../../../../util/random.ts';
import { decode } from '../../../isa/decode.ts';
import { ASSIST } from '../../../isa/row.ts';
import { effectsOf } from '../probe.ts';
import { translatable } from '../region.ts';

/** Bytes of a program. */
export const PROGRAM_SIZE = 0x2000;
/** RSP, RSI and RDI: what random instructions leave alone. */
const POINTERS = 0xd0;

/** RBP, where it walks. */
const WALKER = 0x20;

/** Segment overrides and the other address size. */
const LEGACY_PREFIXES: readonly number[] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67];

/** What a program may load into segment registers of 32-bit code. */
export interface Selectors {
  readonly data: readonly number[];
  readonly stack: readonly number[];
  readonly code: readonly { readonly selector: number; readonly base: number }[];
}

/** A random instruction without control flow that stays in the data page, or null; it leaves `kept` registers alone. */
function randomInsn(random: Random, bits: 32 | 64, kept = POINTERS): Uint8Array | null {
  const bytes = Uint8Array.from({ length: 16 }, () => random.u32() & 0xff);
  let at = 0;
  if (random.u32() % 6 === 0) bytes[at++] = 0x66;
  let pointer = 0x46;
  if (bits === 64) {
    if (random.u32() % 3 !== 0) bytes[at++] = 0x40 | (random.u32() & 15);
  } else if (random.u32() % 4 === 0) {
    const prefix = LEGACY_PREFIXES[random.u32() % LEGACY_PREFIXES.length]!;
    bytes[at++] = prefix;
    if (prefix === 0x67) pointer = 0x44;
  }
  if (random.u32() % 3 === 0) bytes[at++] = 0x0f;
  at++;
  // Memory operands: [rSI or rDI + disp8]; displacements of 32 bits are too wild.
  bytes[at] = random.u32() & 1 ? 0xc0 | bytes[at]! : pointer | (bytes[at]! & 0x38) | (random.u32() & 1);
  bytes[at + 1] = bytes[at + 1]! & 0xf0;
  const insn = decode(bytes, 0, bytes.length, bits);
  if (typeof insn === 'string' || !translatable(insn)) return null;
  const { operation } = insn.row;
  if (operation.flow !== 'next' || operation.semantics === ASSIST || operation.implicitMemory) return null;
  if (operation.unit === 'x87' || /DIV|MXCSR|^FX|^XSAVE|CLI|STI|BT/.test(operation.mnemonic)) return null;
  const { memory } = insn;
  if (memory !== null) {
    if (memory.index >= 0 || (memory.base !== 6 && memory.base !== 7)) return null;
    if (bits === 64 && memory.segment > 3) return null;
    if (memory.disp < -128 || memory.disp > 127) return null;
  }
  if (effectsOf(insn).writes & kept) return null;
  return bytes.slice(0, insn.length);
}

/** Accesses through RBP, without their 8-bit displacement. */
const WALKS: readonly (readonly number[])[] = [
  [0x48, 0x03, 0x5d], // add rbx, [rbp + disp]
  [0x89, 0x45], // mov [rbp + disp], eax
  [0x00, 0x4d], // add [rbp + disp], cl
  [0x66, 0x8b, 0x55], // mov dx, [rbp + disp]
  [0x50, 0x8f, 0x45], // push rax; pop [rbp + disp]
  [0xf3, 0x0f, 0x6f, 0x4d], // movdqu xmm1, [rbp + disp]
];

/**
 * A random walk over random blocks, which also writes into itself; `starts` are the offsets of its blocks. rSI and rDI point to
 * data, rSP to a stack.
 * @param origin linear address of the program; of 32-bit code FS begins at 0
 * @param selectors of 32-bit code, which loads them; null for 64-bit code
 */
export function randomProgram(
  random: Random,
  origin = 0,
  selectors: Selectors | null = null,
): { code: Uint8Array; starts: number[] } {
  const bits = selectors === null ? 64 : 32;
  const oneOf = <T>(list: readonly T[]): T => list[random.u32() % list.length]!;
  const code = new Uint8Array(PROGRAM_SIZE).fill(0x90);
  const starts = [0];
  const jumps: number[] = [];
  const patches: number[] = [];
  const immediates: number[] = [];
  const farJumps: { end: number; base: number }[] = [];
  let at = 0;
  const emit = (...bytes: number[]): void => {
    code.set(bytes, at);
    at += bytes.length;
  };
  while (at < code.length - 200) {
    for (let n = random.u32() % 9; n >= 0; ) {
      const insn = randomInsn(random, bits);
      if (insn === null) continue;
      emit(...insn);
      n--;
    }
    switch (random.u32() % (bits === 64 ? 12 : 15)) {
      case 0: // call
        emit(0xe8, 0, 0, 0, 0);
        jumps.push(at);
        break;
      case 1: // ret
        emit(0xc3);
        break;
      case 2: // jmp [rsp]
        emit(0xff, 0x24, 0x24);
        break;
      case 3: // jmp
        emit(0xe9, 0, 0, 0, 0);
        jumps.push(at);
        break;
      case 4: // add al, imm8: what is patched
        emit(0x04, 1);
        immediates.push(at - 1);
        break;
      case 5: // rdtsc, pushfq, popfq into nowhere in particular
        emit(0x0f, 0x31, 0x9c, 0x59);
        break;
      case 6:
        if (random.u32() % 4 === 0) {
          if (bits === 32) emit(0x64);
          emit(0xc6, 0x05, 0, 0, 0, 0, random.u32() & 0xff); // mov byte [rip + d] or fs:[d], imm8
          patches.push(at);
        }
        break;
      case 7: {
        if (bits === 32) break;
        // RBP walks up to the data page's end and looks over it
        emit(0x48, 0x8d, 0xaf, 0x80 | (random.u32() & 0x60), 0xfe, 0xff, 0xff); // lea rbp, [rdi - 448 + …]
        const loop = at;
        const disp = random.u32() & 0x7f;
        for (let n = random.u32() % 4; n >= 0; n--) {
          emit(...WALKS[random.u32() % WALKS.length]!, disp);
          const insn = randomInsn(random, bits, POINTERS | WALKER);
          if (insn !== null) emit(...insn);
        }
        emit(...(random.u32() & 1 ? [0x48, 0x83, 0xc5, 0x20] : [0x48, 0x83, 0xed, -0x20 & 0xff])); // add rbp, 32
        emit(0xf7, 0xc5, 0xe0, 1, 0, 0); // test ebp, 0x1e0
        emit(0x75, loop - at - 2); // jnz
        break;
      }
      case 12: // movs with the index registers kept
        emit(0x57, 0x56, ...(random.u32() & 1 ? [0x66] : []), 0xa5 - (random.u32() & 1), 0x5e, 0x5f);
        break;
      case 13: // push imm8; pop es, ss or ds
        if (random.u32() % 3 === 0) emit(0x6a, oneOf(selectors!.stack), 0x17);
        else emit(0x6a, oneOf(selectors!.data), random.u32() & 1 ? 0x07 : 0x1f);
        break;
      case 14: {
        const { selector, base } = oneOf(selectors!.code);
        emit(0xea, 0, 0, 0, 0, selector, 0); // far jmp
        farJumps.push({ end: at, base });
        break;
      }
      default: // jcc
        emit(0x0f, 0x80 | (random.u32() & 15), 0, 0, 0, 0);
        jumps.push(at);
    }
    starts.push(at);
  }
  emit(0xe9, 0, 0, 0, 0);
  jumps.push(at);
  const view = new DataView(code.buffer);
  // Near targets are likelier, so that regions have loops.
  for (const end of jumps) {
    const near = starts.filter((s) => Math.abs(s - end) < 200);
    const from = near.length > 0 && random.u32() & 1 ? near : starts;
    view.setInt32(end - 4, from[random.u32() % from.length]! - end, true);
  }
  for (const end of patches) {
    if (immediates.length === 0) code.fill(0x90, end - (bits === 64 ? 7 : 8), end);
    else view.setInt32(end - 5, oneOf(immediates) + (bits === 64 ? -end : origin), true);
  }
  for (const { end, base } of farJumps) view.setInt32(end - 6, origin - base + oneOf(starts), true);
  return { code, starts };
}
