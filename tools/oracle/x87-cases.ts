/** Every x87 encoding: register forms by both bytes, memory forms on [RDI]. */
import { AT, type Frame, FX, STATUS } from './frame.ts';
import { blank } from './sse-cases.ts';
import type { Values } from './values.ts';

export interface X87Case {
  readonly name: string;
  readonly code: readonly number[];
  readonly memory: MemoryType;
}
type MemoryType = 'none' | 'f32' | 'f64' | 'f80' | 'i16' | 'i32' | 'i64' | 'bcd' | 'control';

/** Memory operands of D8 to DF by ModRM.reg. */
const MEMORY: readonly (readonly MemoryType[])[] = [
  ['f32', 'f32', 'f32', 'f32', 'f32', 'f32', 'f32', 'f32'],
  ['f32', 'none', 'f32', 'f32', 'control', 'control', 'control', 'control'],
  ['i32', 'i32', 'i32', 'i32', 'i32', 'i32', 'i32', 'i32'],
  ['i32', 'i32', 'i32', 'i32', 'none', 'f80', 'none', 'f80'],
  ['f64', 'f64', 'f64', 'f64', 'f64', 'f64', 'f64', 'f64'],
  ['f64', 'i64', 'f64', 'f64', 'control', 'none', 'control', 'control'],
  ['i16', 'i16', 'i16', 'i16', 'i16', 'i16', 'i16', 'i16'],
  ['i16', 'i16', 'i16', 'i16', 'bcd', 'i64', 'bcd', 'i64'],
];

const hex = (bytes: readonly number[]): string => bytes.map((b) => b.toString(16).padStart(2, '0')).join(' ');
const cases: X87Case[] = [];
for (let opcode = 0xd8; opcode <= 0xdf; opcode++) {
  for (let extension = 0; extension < 8; extension++) {
    const memory = MEMORY[opcode - 0xd8]![extension]!;
    const code = [opcode, (extension << 3) | 7];
    cases.push({ name: `${hex(code)} ${memory}`, code, memory });
    if (memory === 'control') cases.push({ name: `66 ${hex(code)}`, code: [0x66, ...code], memory });
  }
  for (let modrm = 0xc0; modrm <= 0xff; modrm++) {
    const code = [opcode, modrm];
    cases.push({ name: hex(code), code, memory: 'none' });
  }
}
cases.push({ name: '9b', code: [0x9b], memory: 'none' });
export const x87Cases: readonly X87Case[] = cases;

/** Instructions whose results are only as good as one unit in the last place. */
export const isTranscendental = ({ code }: X87Case): boolean =>
  code[0] === 0xd9 && [0xf0, 0xf1, 0xf2, 0xf3, 0xf9, 0xfb, 0xfe, 0xff].includes(code[1]!);

function memoryBytes(values: Values, type: MemoryType, into: Uint8Array): void {
  const view = new DataView(into.buffer, into.byteOffset, into.length);
  for (let at = 0; at < into.length; at += 8) view.setBigUint64(at, values.u64(), true);
  switch (type) {
    case 'f32':
      view.setUint32(0, Number(values.f32()), true);
      break;
    case 'f64':
      view.setBigUint64(0, values.f64(), true);
      break;
    case 'f80': {
      const value = values.f80();
      view.setBigUint64(0, value & 0xffff_ffff_ffff_ffffn, true);
      view.setUint16(8, Number(value >> 64n), true);
      break;
    }
    case 'i16':
    case 'i32':
    case 'i64':
      view.setBigUint64(0, values.integer(64), true);
      break;
    case 'bcd':
      for (let i = 0; i < 9; i++) into[i] = values.chance(20) ? values.u32() : values.below(10) * 16 + values.below(10);
      into[9] = values.chance(4) ? values.u32() : values.below(2) * 0x80;
      break;
    default:
  }
}

/** Numbers for which the instruction has something to do. */
function register(values: Values, test: X87Case): bigint {
  if (values.chance(3)) return values.f80();
  const bias = 16383n;
  const range = isTranscendental(test) ? 24 : test.memory === 'bcd' || test.memory[0] === 'i' ? 66 : 40;
  const exponent = bias + BigInt(values.below(range + 10) - 10);
  return (BigInt(values.below(2)) << 79n) | (exponent << 64n) | (1n << 63n) | values.fraction(63);
}

/** A random frame of an x87 instruction. */
export function x87Frame(values: Values, test: X87Case): Frame {
  const frame = blank();
  frame.code = test.code;
  memoryBytes(values, test.memory, frame.memory);
  const fx = frame.fxView;
  const usual = values.chance(2);
  const control = usual ? 0x37f : (values.u32() & 0xf3f) | 0x40;
  fx.setUint16(FX.fcw, control, true);
  // Exceptions that are pending already: seldom.
  const flags = values.chance(4) ? values.u32() & 0x7f : 0;
  const pending = flags & ~control & 0x3f;
  const allowed = pending !== 0 && !values.chance(4) ? flags & (control | 0x40) : flags;
  const summary = allowed & ~control & 0x3f ? 0x8080 : 0;
  fx.setUint16(FX.fsw, allowed | summary | (values.below(8) << 11) | (values.u32() & 0x4700), true);
  frame.view.setUint8(AT.fx + FX.tag, values.chance(3) ? values.u32() & 0xff : values.chance(2) ? 0xff : 0x7f);
  fx.setUint16(FX.fop, 0x123, true);
  fx.setBigUint64(FX.fip, 0x1234_5678n, true);
  fx.setBigUint64(FX.fdp, 0x8765_4321n, true);
  for (let n = 0; n < 8; n++) {
    const value = register(values, test);
    fx.setBigUint64(FX.st + n * 16, value & 0xffff_ffff_ffff_ffffn, true);
    fx.setUint16(FX.st + n * 16 + 8, Number(value >> 64n), true);
  }
  // Now and then the two operands are related.
  if (values.chance(8)) {
    const st0 = frame.fx.slice(FX.st, FX.st + 10);
    frame.fx.set(st0, FX.st + 16 * (1 + values.below(3)));
    if (values.chance(2)) frame.fx[FX.st + 25]! ^= 0x80;
  }
  frame.setGpr(0, values.integer(64));
  frame.flags |= values.u32() & STATUS;
  return frame;
}
