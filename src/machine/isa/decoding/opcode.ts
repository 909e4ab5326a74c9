/**
 * The bytes before the operands: prefixes and opcode, which together find the row.
 * @sdm "Instruction Prefixes", "REX Prefixes", "The VEX Prefix"
 */

import { type Row, rows } from '../row.ts';
import type { Encoding } from './encoding.ts';

/** [vex][map][opcode] → candidate rows. Rows that demand a prefix come first. */
const tables: Row[][][][] = [];
let built = 0;

function build(): void {
  tables.length = 0;
  for (let vex = 0; vex < 2; vex++) tables.push([0, 1, 2, 3].map(() => Array.from({ length: 256 }, () => [])));
  for (const row of rows) tables[row.vex < 0 ? 0 : 1]![row.map]![row.opcode]!.push(row);
  const rank = (row: Row) => (row.modrm >= 0 ? 0 : 2) + (row.prefix === '' ? 1 : 0);
  for (const maps of tables) for (const map of maps) for (const list of map) list.sort((a, b) => rank(a) - rank(b));
  built = rows.length;
}

/** Reads legacy prefixes and REX. @returns the byte after them */
function readPrefixes(e: Encoding): number {
  for (;;) {
    const byte = e.u8();
    if (e.truncated) return 0;
    if (e.mode === 64 && (byte & 0xf0) === 0x40) {
      e.rex = byte;
      continue;
    }
    switch (byte) {
      case 0x66:
        e.size66 = true;
        break;
      case 0x67:
        e.size67 = true;
        break;
      case 0xf0:
        e.lock = true;
        break;
      case 0xf2:
      case 0xf3:
        e.repeat = byte;
        break;
      case 0x26:
      case 0x2e:
      case 0x36:
      case 0x3e:
        if (e.mode !== 64) e.override = (byte >> 3) & 3;
        break;
      case 0x64:
      case 0x65:
        e.override = byte - 0x60;
        break;
      default:
        return byte;
    }
    e.rex = 0; // REX counts only directly before the opcode
  }
}

/** Reads the rest of a VEX prefix that starts with C4 or C5, and the opcode. @returns whether it can be one */
function readVex(e: Encoding, start: number): boolean {
  if (e.rex !== 0 || e.size66 || e.lock || e.repeat !== 0) return false;
  e.vex = true;
  const first = e.u8();
  let last = first;
  let map = 1;
  e.rex = ((~first >> 7) & 1) << 2;
  e.w = 0;
  if (start === 0xc4) {
    e.rex |= (((~first >> 6) & 1) << 1) | ((~first >> 5) & 1);
    last = e.u8();
    e.w = last >> 7;
    map = first & 31;
    if (map < 1 || map > 3) return false;
  }
  e.map = map as 1 | 2 | 3;
  e.rex |= 0x40 | (e.w << 3);
  e.vvvv = (~last >> 3) & 15;
  e.vexL = (last >> 2) & 1;
  e.vexPrefix = last & 3;
  e.namesRegister = e.vvvv !== 0;
  if (e.mode !== 64) {
    e.rex &= ~7;
    e.vvvv &= 7;
  }
  e.opcode = e.u8();
  return true;
}

/** Reads up to and with the opcode. @returns whether that can be an instruction */
function readOpcode(e: Encoding): boolean {
  const byte = readPrefixes(e);
  e.w = (e.rex >> 3) & 1;
  e.opcode = byte;
  // Outside 64-bit mode C4 and C5 are LES and LDS where their ModRM would name memory.
  const vex = (byte === 0xc4 || byte === 0xc5) && e.at < e.end && (e.mode === 64 || e.bytes[e.at]! >= 0xc0);
  if (vex) return readVex(e, byte);
  if (byte === 0x0f) {
    e.opcode = e.u8();
    e.map = 1;
    if (e.opcode === 0x38 || e.opcode === 0x3a) {
      e.map = e.opcode === 0x38 ? 2 : 3;
      e.opcode = e.u8();
    }
  }
  return true;
}

const VEX_PREFIXES = ['NP', '66', 'F3', 'F2'] as const;

/** The prefix that chooses among the rows of an opcode. */
function mandatoryPrefix(e: Encoding): 'NP' | '66' | 'F3' | 'F2' {
  if (e.vex) return VEX_PREFIXES[e.vexPrefix]!;
  if (e.repeat !== 0) return e.repeat === 0xf3 ? 'F3' : 'F2';
  return e.size66 ? '66' : 'NP';
}

const hasGpr = (row: Row): boolean => row.operands.some((o) => 'EGRB'.includes(o.letter));

/** Reads prefixes, opcode and ModRM. @returns the row, or undefined for bytes that are no instruction */
export function findRow(e: Encoding): Row | undefined {
  if (built !== rows.length) build();
  if (!readOpcode(e) || e.truncated) return undefined;
  const list = tables[e.vex ? 1 : 0]![e.map]![e.opcode]!;
  if (list.length === 0) return undefined;
  const withModrm = list[0]!.hasModrm || list[list.length - 1]!.hasModrm;
  e.modrm = withModrm ? e.u8() : 0;
  if (e.truncated) return undefined;
  const mandatory = mandatoryPrefix(e);
  for (const row of list) {
    if (row.prefix === 'NR' ? e.repeat !== 0 : row.prefix !== '' && row.prefix !== mandatory) continue;
    if (row.only !== 'all' && (row.only === '64') !== (e.mode === 64)) continue;
    if (row.modrm >= 0) {
      if (row.modrm !== e.modrm) continue;
    } else {
      if (row.extension >= 0 && row.extension !== ((e.modrm >> 3) & 7)) continue;
      if (row.form !== 'any' && (row.form === 'reg') !== e.modrm >= 0xc0) continue;
    }
    // Outside 64-bit mode VEX.W counts only where it is no operand size.
    if (row.rexW >= 0 && row.rexW !== (e.mode === 64 || (e.vex && !hasGpr(row)) ? e.w : 0)) continue;
    if (e.vex && row.vex !== e.vexL && row.vex !== 2) continue;
    // 90 is NOP; with REX.B it is XCHG r8, rAX.
    if (e.opcode === 0x90 && e.map === 0 && (e.rex & 1) !== 0 && row.operation.mnemonic === 'NOP') continue;
    return row;
  }
  return undefined;
}
