/** The SSE instructions under test, with the operands that they like. */
import { AT, DATA, Frame, FX, STATUS } from './frame.ts';
import type { Values } from './values.ts';

export type LaneType = 'f32' | 'f64' | 'i32' | 'i64' | 'byte' | 'text';

/** An instruction on XMM1 (operand 0) and XMM2, [RDI] or a register (operand 1). */
export interface SseCase {
  readonly name: string;
  /** Opcode bytes without ModRM. */
  readonly opcode: readonly number[];
  readonly lanes: LaneType;
  readonly immediate: boolean;
  /** Operand 1 is a GPR; operand 0 is. */
  readonly fromGpr: boolean;
  readonly toGpr: boolean;
  readonly mmx: boolean;
}

const cases: SseCase[] = [];
function add(name: string, opcode: string, lanes: LaneType, options: Partial<SseCase> = {}): void {
  cases.push({
    name,
    opcode: opcode.split(' ').map((byte) => Number.parseInt(byte, 16)),
    lanes,
    immediate: false,
    fromGpr: false,
    toGpr: false,
    mmx: false,
    ...options,
  });
}
const FORMS = [
  ['PS', '', 'f32'],
  ['PD', '66 ', 'f64'],
  ['SS', 'F3 ', 'f32'],
  ['SD', 'F2 ', 'f64'],
] as const;
for (const [suffix, prefix, lanes] of FORMS) {
  for (const [name, opcode] of [
    ['SQRT', '51'],
    ['ADD', '58'],
    ['MUL', '59'],
    ['SUB', '5C'],
    ['MIN', '5D'],
    ['DIV', '5E'],
    ['MAX', '5F'],
  ] as const)
    add(name + suffix, `${prefix}0F ${opcode}`, lanes);
  add(`CMP${suffix}`, `${prefix}0F C2`, lanes, { immediate: true });
}
add('RSQRTPS', '0F 52', 'f32');
add('RSQRTSS', 'F3 0F 52', 'f32');
add('RCPPS', '0F 53', 'f32');
add('RCPSS', 'F3 0F 53', 'f32');
add('UCOMISS', '0F 2E', 'f32');
add('UCOMISD', '66 0F 2E', 'f64');
add('COMISS', '0F 2F', 'f32');
add('COMISD', '66 0F 2F', 'f64');
for (const [suffix, prefix, lanes] of [
  ['PS', 'F2 ', 'f32'],
  ['PD', '66 ', 'f64'],
] as const) {
  add(`HADD${suffix}`, `${prefix}0F 7C`, lanes);
  add(`HSUB${suffix}`, `${prefix}0F 7D`, lanes);
  add(`ADDSUB${suffix}`, `${prefix}0F D0`, lanes);
}
add('DPPS', '66 0F 3A 40', 'f32', { immediate: true });
add('DPPD', '66 0F 3A 41', 'f64', { immediate: true });
add('ROUNDPS', '66 0F 3A 08', 'f32', { immediate: true });
add('ROUNDPD', '66 0F 3A 09', 'f64', { immediate: true });
add('ROUNDSS', '66 0F 3A 0A', 'f32', { immediate: true });
add('ROUNDSD', '66 0F 3A 0B', 'f64', { immediate: true });
add('CVTSI2SS', 'F3 0F 2A', 'i32', { fromGpr: true });
add('CVTSI2SS q', 'F3 48 0F 2A', 'i64', { fromGpr: true });
add('CVTSI2SD', 'F2 0F 2A', 'i32', { fromGpr: true });
add('CVTSI2SD q', 'F2 48 0F 2A', 'i64', { fromGpr: true });
for (const [prefix, rex, lanes] of [
  ['F3', '', 'f32'],
  ['F3', ' 48', 'f32'],
  ['F2', '', 'f64'],
  ['F2', ' 48', 'f64'],
] as const) {
  add(`CVTT2SI ${lanes}${rex}`, `${prefix}${rex} 0F 2C`, lanes, { toGpr: true });
  add(`CVT2SI ${lanes}${rex}`, `${prefix}${rex} 0F 2D`, lanes, { toGpr: true });
}
add('CVTPS2PD', '0F 5A', 'f32');
add('CVTPD2PS', '66 0F 5A', 'f64');
add('CVTSS2SD', 'F3 0F 5A', 'f32');
add('CVTSD2SS', 'F2 0F 5A', 'f64');
add('CVTDQ2PS', '0F 5B', 'i32');
add('CVTPS2DQ', '66 0F 5B', 'f32');
add('CVTTPS2DQ', 'F3 0F 5B', 'f32');
add('CVTDQ2PD', 'F3 0F E6', 'i32');
add('CVTPD2DQ', 'F2 0F E6', 'f64');
add('CVTTPD2DQ', '66 0F E6', 'f64');
add('CVTPI2PS', '0F 2A', 'i32', { mmx: true });
add('CVTPI2PD', '66 0F 2A', 'i32', { mmx: true });
add('CVTTPS2PI', '0F 2C', 'f32', { mmx: true });
add('CVTTPD2PI', '66 0F 2C', 'f64', { mmx: true });
add('CVTPS2PI', '0F 2D', 'f32', { mmx: true });
add('CVTPD2PI', '66 0F 2D', 'f64', { mmx: true });
for (const [name, opcode] of [
  ['SHA1NEXTE', '0F 38 C8'],
  ['SHA1MSG1', '0F 38 C9'],
  ['SHA1MSG2', '0F 38 CA'],
  ['SHA256RNDS2', '0F 38 CB'],
  ['SHA256MSG1', '0F 38 CC'],
  ['SHA256MSG2', '0F 38 CD'],
  ['AESIMC', '66 0F 38 DB'],
  ['AESENC', '66 0F 38 DC'],
  ['AESENCLAST', '66 0F 38 DD'],
  ['AESDEC', '66 0F 38 DE'],
  ['AESDECLAST', '66 0F 38 DF'],
] as const)
  add(name, opcode, 'byte');
for (const [name, opcode] of [
  ['SHA1RNDS4', '0F 3A CC'],
  ['PCLMULQDQ', '66 0F 3A 44'],
  ['AESKEYGENASSIST', '66 0F 3A DF'],
] as const)
  add(name, opcode, 'byte', { immediate: true });
for (const [name, opcode] of [
  ['PCMPESTRM', '66 0F 3A 60'],
  ['PCMPESTRI', '66 0F 3A 61'],
  ['PCMPESTRM q', '66 48 0F 3A 60'],
  ['PCMPESTRI q', '66 48 0F 3A 61'],
  ['PCMPISTRM', '66 0F 3A 62'],
  ['PCMPISTRI', '66 0F 3A 63'],
] as const)
  add(name, opcode, 'text', { immediate: true });

export const sseCases: readonly SseCase[] = cases;

function lane(values: Values, type: LaneType): bigint {
  switch (type) {
    case 'f32':
      return values.f32();
    case 'f64':
      return values.f64();
    case 'i32':
      return values.integer(32);
    default:
      return values.integer(64);
  }
}

/** 16 bytes of lanes. */
export function vector(values: Values, type: LaneType): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  if (type === 'text') {
    // Few different characters, and zeros that end strings.
    const wide = values.chance(2);
    for (let i = 0; i < 16; i++) bytes[i] = wide && i & 1 ? 0 : values.pick([0, 1, 2, 3, 4, 0x7f, 0x80, 0xff, 1, 2]);
    return bytes;
  }
  if (type === 'byte') for (let i = 0; i < 16; i++) bytes[i] = values.u32();
  else if (type === 'f32' || type === 'i32')
    for (let i = 0; i < 4; i++) view.setUint32(i * 4, Number(lane(values, type)), true);
  else for (let i = 0; i < 2; i++) view.setBigUint64(i * 8, lane(values, type), true);
  return bytes;
}

/** MXCSR: usual, or anything. */
export function mxcsr(values: Values): number {
  switch (values.below(4)) {
    case 0:
      return 0x1f80;
    case 1:
      return 0x1fa0;
    case 2:
      // all masked, other controls free
      return 0x1f80 | (values.u32() & 0xe040);
    default:
      return values.u32() & 0xffff;
  }
}

/** A frame with an x87 unit after FNINIT, memory at RDI, and flags clear. */
export function blank(): Frame {
  const frame = new Frame();
  frame.trap = -1;
  frame.flags = 0x202;
  frame.setGpr(5, BigInt(DATA));
  const fx = frame.fxView;
  fx.setUint16(FX.fcw, 0x37f, true);
  fx.setUint32(FX.mxcsr, 0x1f80, true);
  fx.setUint32(FX.mxcsr + 4, 0xffff, true);
  return frame;
}

/** A random frame of an SSE instruction. */
export function sseFrame(values: Values, test: SseCase): Frame {
  const frame = blank();
  const fromMemory = values.chance(4);
  const modrm = fromMemory ? 0x0f : test.fromGpr ? 0xc8 : 0xca;
  frame.code = [...test.opcode, modrm, ...(test.immediate ? [values.u32() & 0xff] : [])];
  frame.fxView.setUint32(FX.mxcsr, mxcsr(values), true);
  const a = vector(values, test.lanes);
  let b = vector(values, test.lanes);
  // Related operands: equal ones, negated ones, neighbours.
  if (values.chance(6)) {
    b = a.slice();
    if (values.chance(2)) b[values.below(16)]! ^= 1 << values.below(8);
    if (values.chance(2)) b[test.lanes === 'f32' ? 3 : 7]! ^= 0x80;
  }
  frame.fx.set(a, FX.xmm + 16);
  frame.fx.set(b, FX.xmm + 32);
  frame.memory.set(b);
  frame.setGpr(0, values.integer(64));
  frame.setGpr(1, values.integer(64));
  frame.setGpr(2, values.integer(64));
  if (test.lanes === 'text') {
    // Lengths near those of the operands, and flags to be overwritten.
    if (!values.chance(4)) frame.setGpr(0, BigInt(values.below(40) - 20));
    if (!values.chance(4)) frame.setGpr(2, BigInt(values.below(40) - 20));
    frame.flags |= values.u32() & STATUS;
  }
  if (test.mmx) {
    frame.fx.set(vector(values, 'byte').subarray(0, 8), FX.st + 16);
    frame.fx.set(b.subarray(0, 8), FX.st + 32);
    // TOP anywhere, some registers in use; sometimes an exception is pending.
    frame.fxView.setUint16(FX.fsw, (values.below(8) << 11) | (values.chance(8) ? 0x8081 : 0), true);
    frame.fxView.setUint16(FX.fcw, values.chance(2) ? 0x37f : 0x37e, true);
    frame.view.setUint8(AT.fx + FX.tag, values.u32() & 0xff);
  }
  return frame;
}
