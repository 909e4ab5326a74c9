/** MMX and SSE shuffles, packs, shifts, inserts and extracts. @sdm "PSHUFD", "PUNPCKLBW…", "PACKSSWB…", "PSLLW…", "PALIGNR", "PINSRW" … */
import type { Cpu } from '../cpu.ts';
import {
  and,
  constant,
  type Expr,
  ltU,
  select,
  shl,
  shr,
  truncate,
  u32,
  u64,
  type Width,
  zeroExtend,
} from '../expr.ts';
import { define } from '../row.ts';
import {
  lane,
  splat,
  type V,
  v1,
  v2,
  vAnd,
  vBitmask,
  vConst,
  vOr,
  vSelect,
  vShift,
  vShuffle,
  vZero,
  withLane,
} from '../vector.ts';
import { mmx, readLanes, sse, touchMmx, writeLanes, xmmOnly } from './simd-lanes.ts';

// ---- interleave

/** Elements of `bytes` bytes from the lower or upper half of a and b, alternating. */
const interleave = (bytes: number, upper: boolean, half: number): number[] =>
  Array.from({ length: half / bytes }, (_, i) => i).flatMap((i) =>
    [0, 16].flatMap((from) => Array.from({ length: bytes }, (_, k) => from + (upper ? half : 0) + i * bytes + k)),
  );

for (const [mnemonic, opcode, bytes, upper] of [
  ['PUNPCKLBW', '60', 1, false],
  ['PUNPCKLWD', '61', 2, false],
  ['PUNPCKLDQ', '62', 4, false],
  ['PUNPCKHBW', '68', 1, true],
  ['PUNPCKHWD', '69', 2, true],
  ['PUNPCKHDQ', '6A', 4, true],
] as const) {
  const mmxBody = (cpu: Cpu): void => {
    const dst = readLanes(cpu, 0);
    // The MMX forms read 32 bits (low) or 64 (high) from memory.
    const src = upper ? readLanes(cpu, 1) : splat(zeroExtend(cpu.read(1) as Expr<32>, 64));
    const lanes = interleave(bytes, upper, 4);
    writeLanes(cpu, 0, vShuffle(dst, src, [...lanes, ...lanes]));
  };
  define(mnemonic, mmx(), upper ? `NP 0F ${opcode} Pq,Qq` : `NP 0F ${opcode} Pq,Qd`, mmxBody);
  xmmOnly(mnemonic, `66 0F ${opcode}`, 'sse2', (a, b) => vShuffle(a, b, interleave(bytes, upper, 8)));
}
xmmOnly('PUNPCKLQDQ', '66 0F 6C', 'sse2', (a, b) => vShuffle(a, b, interleave(8, false, 8)));
xmmOnly('PUNPCKHQDQ', '66 0F 6D', 'sse2', (a, b) => vShuffle(a, b, interleave(8, true, 8)));
xmmOnly('UNPCKLPS', 'NP 0F 14', 'sse', (a, b) => vShuffle(a, b, interleave(4, false, 8)));
xmmOnly('UNPCKHPS', 'NP 0F 15', 'sse', (a, b) => vShuffle(a, b, interleave(4, true, 8)));
xmmOnly('UNPCKLPD', '66 0F 14', 'sse2', (a, b) => vShuffle(a, b, interleave(8, false, 8)));
xmmOnly('UNPCKHPD', '66 0F 15', 'sse2', (a, b) => vShuffle(a, b, interleave(8, true, 8)));

// ---- packs: the MMX form packs the joined pair and keeps 8 bytes

for (const [mnemonic, opcode, op] of [
  ['PACKSSWB', '63', 0x65],
  ['PACKUSWB', '67', 0x66],
  ['PACKSSDW', '6B', 0x85],
] as const) {
  define(mnemonic, mmx(), `NP 0F ${opcode} Pq,Qq`, (cpu) => {
    const a = readLanes(cpu, 0),
      b = readLanes(cpu, 1);
    const both = vShuffle(a, b, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]);
    writeLanes(cpu, 0, v2(op, both, both));
  });
  xmmOnly(mnemonic, `66 0F ${opcode}`, 'sse2', (a, b) => v2(op, a, b));
}
xmmOnly('PACKUSDW', '66 0F38 2B', 'sse4_1', (a, b) => v2(0x86, a, b));

// ---- shuffles

/** Indexes with bit 7 set give zero; wasm's swizzle gives zero for any index of 16 and above. */
define('PSHUFB', mmx({ feature: 'ssse3' }), 'NP 0F38 00 Pq,Qq', (cpu) => {
  const a = readLanes(cpu, 0),
    index = readLanes(cpu, 1);
  writeLanes(cpu, 0, v2(0x0e, a, vAnd(index, splat(constant(8, 0x87)))));
});
xmmOnly('PSHUFB', '66 0F38 00', 'ssse3', (a, b) => v2(0x0e, a, vAnd(b, splat(constant(8, 0x8f)))));

/**
 * Lanes of `bytes` bytes from first on, chosen by two bits each of an immediate that is known only at run time: the
 * byte indexes of a swizzle are a base pattern plus selector * bytes. The product is made on words of two equal bytes
 * (0x0b0b * 3 has no carry between them).
 */
export function selectByImmediate(a: V, control: Expr<8>, bytes: number, lanes: number, first: number): V {
  let index: V = vConst(
    Array.from({ length: 16 }, (_, i) => (i >= first && i < first + bytes * lanes ? first + (i % bytes) : i)),
  );
  for (let n = 0; n < lanes; n++) {
    const selector = truncate(and(shr(zeroExtend(control, 32), u32(n * 2)), u32(3)), 16);
    const scale = vConst(
      Array.from({ length: 16 }, (_, i) => (i >= first + n * bytes && i < first + (n + 1) * bytes ? bytes : 0)),
    );
    index = v2(0x6e, index, v2(0x95, splat(selector), scale));
  }
  return v2(0x0e, a, index);
}

const control = (cpu: Cpu): Expr<8> => cpu.read(2) as Expr<8>;
define('PSHUFD', sse('sse2', { dst: 'w' }), '66 0F 70 Vdq,Wdq,Ib', (cpu) =>
  cpu.writeVector(0, selectByImmediate(cpu.readVector(1), control(cpu), 4, 4, 0)),
);
define('PSHUFLW', sse('sse2', { dst: 'w' }), 'F2 0F 70 Vdq,Wdq,Ib', (cpu) =>
  cpu.writeVector(0, selectByImmediate(cpu.readVector(1), control(cpu), 2, 4, 0)),
);
define('PSHUFHW', sse('sse2', { dst: 'w' }), 'F3 0F 70 Vdq,Wdq,Ib', (cpu) =>
  cpu.writeVector(0, selectByImmediate(cpu.readVector(1), control(cpu), 2, 4, 8)),
);
define('PSHUFW', mmx({ dst: 'w', feature: 'sse' }), 'NP 0F 70 Pq,Qq,Ib', (cpu) =>
  writeLanes(cpu, 0, selectByImmediate(readLanes(cpu, 1), control(cpu), 2, 4, 0)),
);

/** The low two lanes come from a, the high two from b. */
export function shuffleSingles(a: V, b: V, imm: Expr<8>): V {
  const low = selectByImmediate(a, imm, 4, 4, 0),
    high = selectByImmediate(b, imm, 4, 4, 0);
  return vShuffle(low, high, [0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31]);
}
/** A lane of a and a lane of b, by bits n and n + 1 of the immediate. */
export function shuffleDoubles(a: V, b: V, imm: Expr<8>, n = 0): V {
  const pick = (v: V, bit: number): Expr<64> => select(isSet(imm, bit), lane(v, 64, 1), lane(v, 64, 0));
  return withLane(splat(pick(a, n)), 1, pick(b, n + 1));
}
define('SHUFPS', sse('sse'), 'NP 0F C6 Vdq,Wdq,Ib', (cpu) =>
  cpu.writeVector(0, shuffleSingles(cpu.readVector(0), cpu.readVector(1), control(cpu))),
);
define('SHUFPD', sse('sse2'), '66 0F C6 Vdq,Wdq,Ib', (cpu) =>
  cpu.writeVector(0, shuffleDoubles(cpu.readVector(0), cpu.readVector(1), control(cpu))),
);
export const isSet = (imm: Expr<8>, n: number): Expr<1> => ltU(u32(0), and(zeroExtend(imm, 32), u32(1 << n)));

/** Bytes [n, n + 16) of high:low. */
export function align(high: V, low: V, n: Expr<8>): V {
  const index = v2(0x6e, vConst(Array.from({ length: 16 }, (_, i) => i)), splat(n));
  const inLow = v2(0x0e, low, index);
  const inHigh = v2(0x0e, high, v2(0x71, index, splat(constant(8, 16))));
  // The index bytes wrap for counts above 240: everything from 32 on is zero.
  const inside = splat(select(ltU(n, constant(8, 32)), constant(8, -1), constant(8, 0)));
  return vSelect(vOr(inLow, inHigh), vZero(), inside);
}
define('PALIGNR', sse('ssse3'), '66 0F3A 0F Vdq,Wdq,Ib', (cpu) =>
  cpu.writeVector(0, align(cpu.readVector(0), cpu.readVector(1), control(cpu))),
);
define('PALIGNR', mmx({ feature: 'ssse3' }), 'NP 0F3A 0F Pq,Qq,Ib', (cpu) => {
  const high = readLanes(cpu, 0),
    low = readLanes(cpu, 1),
    n = control(cpu);
  const joined = vShuffle(low, high, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]);
  const index = v2(0x6e, vConst(Array.from({ length: 16 }, (_, i) => i & 7)), splat(n));
  writeLanes(
    cpu,
    0,
    vSelect(v2(0x0e, joined, index), vZero(), splat(select(ltU(n, constant(8, 16)), constant(8, -1), constant(8, 0)))),
  );
});

// ---- shifts

/** A count beyond the lane width clears (or, arithmetically, fills with the sign). */
export function vectorShift(value: V, count: Expr<64>, op: number, width: 16 | 32 | 64, arithmetic: boolean): V {
  const small = ltU(count, u64(width));
  if (arithmetic) return vShift(op, value, select(small, truncate(count, 32), u32(width - 1)));
  return vSelect(
    vShift(op, value, truncate(count, 32)),
    vZero(),
    splat(select(small, constant(8, -1), constant(8, 0))),
  );
}
/** [mnemonic, opcode with a register count, opcode group of the immediate form, extension, wasm op, width, arithmetic] */
export const SHIFTS = [
  ['PSRLW', 'D1', '71', 2, 0x8d, 16, false],
  ['PSRAW', 'E1', '71', 4, 0x8c, 16, true],
  ['PSLLW', 'F1', '71', 6, 0x8b, 16, false],
  ['PSRLD', 'D2', '72', 2, 0xad, 32, false],
  ['PSRAD', 'E2', '72', 4, 0xac, 32, true],
  ['PSLLD', 'F2', '72', 6, 0xab, 32, false],
  ['PSRLQ', 'D3', '73', 2, 0xcd, 64, false],
  ['PSLLQ', 'F3', '73', 6, 0xcb, 64, false],
] as const;
for (const [mnemonic, opcode, group, n, op, width, arithmetic] of SHIFTS) {
  define(mnemonic, mmx(), `NP 0F ${opcode} Pq,Qq`, (cpu) => {
    const value = readLanes(cpu, 0);
    writeLanes(cpu, 0, vectorShift(value, cpu.read(1) as Expr<64>, op, width, arithmetic));
  });
  define(mnemonic, sse('sse2'), `66 0F ${opcode} Vdq,Wdq`, (cpu) => {
    const value = cpu.readVector(0),
      count = lane(cpu.readVector(1), 64, 0);
    cpu.writeVector(0, vectorShift(value, count, op, width, arithmetic));
  });
  define(mnemonic, mmx(), `NP 0F ${group} /${n} Nq,Ib`, (cpu) =>
    writeLanes(cpu, 0, vectorShift(readLanes(cpu, 0), zeroExtend(cpu.read(1), 64), op, width, arithmetic)),
  );
  define(mnemonic, sse('sse2'), `66 0F ${group} /${n} Udq,Ib`, (cpu) =>
    cpu.writeVector(0, vectorShift(cpu.readVector(0), zeroExtend(cpu.read(1), 64), op, width, arithmetic)),
  );
}
/** Whole-register byte shifts; indexes outside give zero. */
export function byteShift(left: boolean, value: V, count: Expr<8>): V {
  const bounded = select(ltU(count, constant(8, 16)), count, constant(8, 16));
  const index = v2(left ? 0x71 : 0x6e, vConst(Array.from({ length: 16 }, (_, i) => i)), splat(bounded));
  return v2(0x0e, value, index);
}
for (const [mnemonic, n, left] of [
  ['PSRLDQ', 3, false],
  ['PSLLDQ', 7, true],
] as const) {
  define(mnemonic, sse('sse2'), `66 0F 73 /${n} Udq,Ib`, (cpu) =>
    cpu.writeVector(0, byteShift(left, cpu.readVector(0), cpu.read(1) as Expr<8>)),
  );
}

// ---- masks, inserts, extracts

define('PMOVMSKB', sse('sse2', { dst: 'w' }), '66 0F D7 Gd,Udq', (cpu) => cpu.write(0, vBitmask(cpu.readVector(1), 8)));
define('PMOVMSKB', mmx({ dst: 'w', feature: 'sse' }), 'NP 0F D7 Gd,Nq', (cpu) => {
  const mask = and(vBitmask(readLanes(cpu, 1), 8), u32(0xff));
  cpu.write(0, mask);
  touchMmx(cpu);
});
define('MOVMSKPS', sse('sse', { dst: 'w' }), 'NP 0F 50 Gd,Udq', (cpu) => cpu.write(0, vBitmask(cpu.readVector(1), 32)));
define('MOVMSKPD', sse('sse2', { dst: 'w' }), '66 0F 50 Gd,Udq', (cpu) =>
  cpu.write(0, vBitmask(cpu.readVector(1), 64)),
);

/** Reads the lane an immediate names, by swizzling it to the bottom. */
export function laneAt<W extends Width>(v: V, width: W, index: Expr<8>, lanes: number): Expr<W> {
  const byte = shl(and(index, constant(8, lanes - 1)), constant(8, Math.log2(width / 8)));
  return lane(v2(0x0e, v, v2(0x6e, vConst(Array.from({ length: 16 }, (_, i) => i)), splat(byte))), width, 0);
}
/** Puts a value into the lane an immediate names. */
export function insertAt(v: V, value: Expr<Width>, index: Expr<8>, lanes: number): V {
  const { width } = value;
  const bytes = width / 8;
  const first = shl(and(index, constant(8, lanes - 1)), constant(8, Math.log2(bytes)));
  const start = vConst(Array.from({ length: 16 }, (_, i) => i & ~(bytes - 1)));
  return vSelect(splat(value), v, v2(0x23, start, splat(first)));
}
define('PEXTRW', sse('sse2', { dst: 'w' }), '66 0F C5 Gd,Udq,Ib', (cpu) =>
  cpu.write(0, zeroExtend(laneAt(cpu.readVector(1), 16, control(cpu), 8), 32)),
);
define('PEXTRW', mmx({ dst: 'w', feature: 'sse' }), 'NP 0F C5 Gd,Nq,Ib', (cpu) => {
  cpu.write(0, zeroExtend(laneAt(readLanes(cpu, 1), 16, control(cpu), 4), 32));
  touchMmx(cpu);
});
define(
  'PINSRW',
  sse('sse2'),
  `
    66 0F C4 reg Vdq,Ed,Ib
    66 0F C4 Vdq,Ew,Ib`,
  (cpu) => {
    const value = truncate(cpu.read(1), 16);
    cpu.writeVector(0, insertAt(cpu.readVector(0), value, control(cpu), 8));
  },
);
define(
  'PINSRW',
  mmx({ feature: 'sse' }),
  `
    NP 0F C4 reg Pq,Ed,Ib
    NP 0F C4 Pq,Ew,Ib`,
  (cpu) => {
    const value = truncate(cpu.read(1), 16);
    writeLanes(cpu, 0, insertAt(readLanes(cpu, 0), value, control(cpu), 4));
  },
);
const extract = (mnemonic: string, encodings: string, width: Width, lanes: number): void =>
  define(mnemonic, sse('sse4_1', { dst: 'w' }), encodings, (cpu) => {
    const value = laneAt(cpu.readVector(1), width, control(cpu), lanes);
    cpu.write(0, cpu.isMemory(0) ? value : zeroExtend(value, cpu.width(0)));
  });
extract('PEXTRB', '66 0F3A 14 reg Ed,Vdq,Ib\n66 0F3A 14 Eb,Vdq,Ib', 8, 16);
extract('PEXTRW', '66 0F3A 15 reg Ed,Vdq,Ib\n66 0F3A 15 Ew,Vdq,Ib', 16, 8);
extract('PEXTRD', '66 W0 0F3A 16 Ed,Vdq,Ib', 32, 4);
extract('PEXTRQ', '66 REX.W 0F3A 16 Eq,Vdq,Ib', 64, 2);
extract('EXTRACTPS', '66 0F3A 17 Ed,Vdq,Ib', 32, 4);
const insert = (mnemonic: string, encodings: string, width: Width, lanes: number): void =>
  define(mnemonic, sse('sse4_1'), encodings, (cpu) => {
    const value = truncate(cpu.read(1), width);
    cpu.writeVector(0, insertAt(cpu.readVector(0), value, control(cpu), lanes));
  });
insert('PINSRB', '66 0F3A 20 reg Vdq,Ed,Ib\n66 0F3A 20 Vdq,Eb,Ib', 8, 16);
insert('PINSRD', '66 W0 0F3A 22 Vdq,Ed,Ib', 32, 4);
insert('PINSRQ', '66 REX.W 0F3A 22 Vdq,Eq,Ib', 64, 2);
/** Source lane in bits 7:6 (registers only), destination lane in 5:4, lanes to clear in 3:0. */
export function insertSingle(into: V, value: Expr<32>, imm: Expr<8>): V {
  const placed = insertAt(into, value, shr(imm, constant(8, 4)), 4);
  const bits = vConst([1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8]);
  const clear = v2(0x23, vAnd(splat(imm), bits), bits);
  return vSelect(vZero(), placed, clear);
}
define('INSERTPS', sse('sse4_1'), '66 0F3A 21 reg Vdq,Udq,Ib', (cpu) => {
  const value = laneAt(cpu.readVector(1), 32, shr(control(cpu), constant(8, 6)), 4);
  cpu.writeVector(0, insertSingle(cpu.readVector(0), value, control(cpu)));
});
define('INSERTPS', sse('sse4_1'), '66 0F3A 21 mem Vdq,Md,Ib', (cpu) =>
  cpu.writeVector(0, insertSingle(cpu.readVector(0), cpu.read(1) as Expr<32>, control(cpu))),
);

// ---- SSE4.1 extensions, blends, tests

/** [mnemonic, opcode, wasm instructions, bits of the source for 128 bits of result] */
export const EXTENSIONS = [
  ['PMOVSXBW', '20', [0x87], 64],
  ['PMOVSXBD', '21', [0x87, 0xa7], 32],
  ['PMOVSXBQ', '22', [0x87, 0xa7, 0xc7], 16],
  ['PMOVSXWD', '23', [0xa7], 64],
  ['PMOVSXWQ', '24', [0xa7, 0xc7], 32],
  ['PMOVSXDQ', '25', [0xc7], 64],
  ['PMOVZXBW', '30', [0x89], 64],
  ['PMOVZXBD', '31', [0x89, 0xa9], 32],
  ['PMOVZXBQ', '32', [0x89, 0xa9, 0xc9], 16],
  ['PMOVZXWD', '33', [0xa9], 64],
  ['PMOVZXWQ', '34', [0xa9, 0xc9], 32],
  ['PMOVZXDQ', '35', [0xc9], 64],
] as const;
for (const [mnemonic, opcode, ops, bits] of EXTENSIONS) {
  const size = { 64: 'q', 32: 'd', 16: 'w' }[bits];
  define(mnemonic, sse('sse4_1', { dst: 'w' }), `66 0F38 ${opcode} Vdq,W${size}`, (cpu) => {
    let value: V = splat(zeroExtend(cpu.read(1), 64));
    for (const op of ops) value = v1(op, value);
    cpu.writeVector(0, value);
  });
}
/** Lanes of b where the mask's lane sign is set, else of a. */
for (const [mnemonic, opcode, shift] of [
  ['PBLENDVB', '10', 0x6c],
  ['BLENDVPS', '14', 0xac],
  ['BLENDVPD', '15', 0xcc],
] as const) {
  const bits = shift === 0x6c ? 7 : shift === 0xac ? 31 : 63;
  define(mnemonic, sse('sse4_1'), `66 0F38 ${opcode} Vdq,Wdq,XMM0`, (cpu) => {
    const a = cpu.readVector(0),
      b = cpu.readVector(1),
      mask = vShift(shift, cpu.readVector(2), u32(bits));
    cpu.writeVector(0, vSelect(b, a, mask));
  });
}
/** Lanes of `bytes` bytes of b where their bit of the immediate is set, counted from `first`, else of a. */
export function blend(a: V, b: V, imm: Expr<8>, bytes: number, first = 0): V {
  // Compare (imm & bit) with bit, byte by byte.
  const bits = vConst(Array.from({ length: 16 }, (_, i) => 1 << (first + Math.floor(i / bytes))));
  return vSelect(b, a, v2(0x23, vAnd(splat(imm), bits), bits));
}
for (const [mnemonic, opcode, bytes] of [
  ['BLENDPS', '0C', 4],
  ['BLENDPD', '0D', 8],
  ['PBLENDW', '0E', 2],
] as const) {
  define(mnemonic, sse('sse4_1'), `66 0F3A ${opcode} Vdq,Wdq,Ib`, (cpu) =>
    cpu.writeVector(0, blend(cpu.readVector(0), cpu.readVector(1), control(cpu), bytes)),
  );
}
