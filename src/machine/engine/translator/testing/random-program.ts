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

/** A random instruction without control flow that stays in the data page, or null. */
function randomInsn(random: Random): Uint8Array | null {
  const bytes = Uint8Array.from({ length: 16 }, () => random.u32() & 0xff);
  let at = 0;
  if (random.u32() % 6 === 0) bytes[at++] = 0x66;
  if (random.u32() % 3 !== 0) bytes[at++] = 0x40 | (random.u32() & 15);
  if (random.u32() % 3 === 0) bytes[at++] = 0x0f;
  at++;
  // Memory operands: [RSI or RDI + disp8]; displacements of 32 bits are too wild.
  bytes[at] = random.u32() & 1 ? 0xc0 | bytes[at]! : 0x46 | (bytes[at]! & 0x38) | (random.u32() & 1);
  bytes[at + 1] = bytes[at + 1]! & 0xf0;
  const insn = decode(bytes, 0, bytes.length, 64);
  if (typeof insn === 'string' || !translatable(insn)) return null;
  const { operation } = insn.row;
  if (operation.flow !== 'next' || operation.semantics === ASSIST || operation.implicitMemory) return null;
  if (operation.unit === 'x87' || /DIV|MXCSR|^FX|^XSAVE|CLI|STI|BT/.test(operation.mnemonic)) return null;
  const { memory } = insn;
  if (memory !== null) {
    if (memory.index >= 0 || (memory.base !== 6 && memory.base !== 7) || memory.segment > 3) return null;
    if (memory.disp < -128 || memory.disp > 127) return null;
  }
  if (effectsOf(insn).writes & POINTERS) return null;
  return bytes.slice(0, insn.length);
}

/** A random walk over random blocks, which also writes into itself; `starts` are the offsets of its blocks. RSI and RDI point to data, RSP to a stack. */
export function randomProgram(random: Random): { code: Uint8Array; starts: number[] } {
  const code = new Uint8Array(PROGRAM_SIZE).fill(0x90);
  const starts = [0];
  const jumps: number[] = [];
  const patches: number[] = [];
  const immediates: number[] = [];
  let at = 0;
  const emit = (...bytes: number[]): void => {
    code.set(bytes, at);
    at += bytes.length;
  };
  while (at < code.length - 100) {
    for (let n = random.u32() % 9; n >= 0; ) {
      const insn = randomInsn(random);
      if (insn === null) continue;
      emit(...insn);
      n--;
    }
    switch (random.u32() % 12) {
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
          emit(0xc6, 0x05, 0, 0, 0, 0, random.u32() & 0xff); // mov byte [rip + d], imm8
          patches.push(at);
        }
        break;
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
    if (immediates.length > 0) view.setInt32(end - 5, immediates[random.u32() % immediates.length]! - end, true);
    else code.fill(0x90, end - 7, end);
  }
  return { code, starts };
}
