/** AVX shuffles, shifts, blends, inserts and extracts that SSE has, too. @sdm "PSHUFD", "PSLLW", "PALIGNR", "BLENDPS", "PINSRW" … */
import type { Cpu } from '../cpu.ts';
import { constant, type Expr, or, shl, shr, truncate, u32, type Width, zeroExtend } from '../expr.ts';
import { define } from '../row.ts';
import { lane, splat, type V, v1, vBitmask, vSelect, vShift, vShuffle } from '../vector.ts';
import { avx, bothWidths, vexImmediate, vexUnaryImmediate } from './avx-lanes.ts';
import {
  align,
  blend,
  byteShift,
  EXTENSIONS,
  insertAt,
  insertSingle,
  laneAt,
  SHIFTS,
  selectByImmediate,
  shuffleDoubles,
  shuffleSingles,
  vectorShift,
} from './simd-shuffle.ts';

// ---- shuffles and blends by an immediate
vexUnaryImmediate('VPSHUFD', '66 0F 70', (a, imm) => selectByImmediate(a, imm, 4, 4, 0));
vexUnaryImmediate('VPSHUFLW', 'F2 0F 70', (a, imm) => selectByImmediate(a, imm, 2, 4, 0));
vexUnaryImmediate('VPSHUFHW', 'F3 0F 70', (a, imm) => selectByImmediate(a, imm, 2, 4, 8));
vexImmediate('VSHUFPS', 'NP 0F C6', shuffleSingles);
vexImmediate('VSHUFPD', '66 0F C6', (a, b, imm, half) => shuffleDoubles(a, b, imm, half * 2));
vexImmediate('VPALIGNR', '66 0F3A 0F', align);
vexImmediate('VBLENDPS', '66 0F3A 0C', (a, b, imm, half) => blend(a, b, imm, 4, half * 4));
vexImmediate('VBLENDPD', '66 0F3A 0D', (a, b, imm, half) => blend(a, b, imm, 8, half * 2));
vexImmediate('VPBLENDW', '66 0F3A 0E', (a, b, imm) => blend(a, b, imm, 2));

/** Lanes of the second source where the mask's lane sign is set, else of the first. */
for (const [mnemonic, opcode, shift, bits] of [
  ['VBLENDVPS', '4A', 0xac, 31],
  ['VBLENDVPD', '4B', 0xcc, 63],
  ['VPBLENDVB', '4C', 0x6c, 7],
] as const) {
  bothWidths(mnemonic, `66 W0 0F3A ${opcode}`, 'Vx,Hx,Wx,Lx', (cpu) => {
    const [a, b, mask] = [1, 2, 3].map((n) => cpu.readHalves(n)) as [readonly V[], readonly V[], readonly V[]];
    cpu.writeHalves(
      0,
      a.map((half, i) => vSelect(b[i]!, half, vShift(shift, mask[i]!, u32(bits)))),
    );
  });
}

// ---- shifts
for (const [name, opcode, group, n, op, width, arithmetic] of SHIFTS) {
  const mnemonic = `V${name}`;
  const shift = (cpu: Cpu, count: Expr<64>): void =>
    cpu.writeHalves(
      0,
      cpu.readHalves(1).map((half) => vectorShift(half, count, op, width, arithmetic)),
    );
  for (const [l, size, feature] of [
    ['L0', 'dq', 'avx'],
    ['L1', 'qq', 'avx2'],
  ] as const) {
    // The count is a register or memory of 128 bits in any case.
    define(mnemonic, avx(feature), `66 VEX.${l} 0F ${opcode} V${size},H${size},Wdq`, (cpu) =>
      shift(cpu, cpu.code.let(lane(cpu.readHalves(2)[0]!, 64, 0))),
    );
  }
  bothWidths(mnemonic, `66 0F ${group} /${n}`, 'Hx,Ux,Ib', (cpu) =>
    shift(cpu, cpu.code.let(zeroExtend(cpu.read(2), 64))),
  );
}
for (const [mnemonic, n, left] of [
  ['VPSRLDQ', 3, false],
  ['VPSLLDQ', 7, true],
] as const) {
  bothWidths(mnemonic, `66 0F 73 /${n}`, 'Hx,Ux,Ib', (cpu) => {
    const count = cpu.code.let(cpu.read(2) as Expr<8>);
    cpu.writeHalves(
      0,
      cpu.readHalves(1).map((half) => byteShift(left, half, count)),
    );
  });
}

// ---- extensions
for (const [name, opcode, ops, bits] of EXTENSIONS) {
  const extend = (source: V): V => ops.reduce<V>((value, op) => v1(op, value), source);
  const [narrow, wide] = ({ 64: ['q', 'dq'], 32: ['d', 'q'], 16: ['w', 'd'] } as const)[bits];
  define(`V${name}`, avx('avx'), `66 VEX.L0 0F38 ${opcode} Vdq,W${narrow}`, (cpu) =>
    cpu.writeHalves(0, [extend(splat(zeroExtend(cpu.read(1), 64)))]),
  );
  define(`V${name}`, avx('avx2'), `66 VEX.L1 0F38 ${opcode} Vqq,W${wide}`, (cpu) => {
    const source = cpu.code.let(wide === 'dq' ? cpu.readHalves(1)[0]! : splat(zeroExtend(cpu.read(1), 64)));
    const upper = vShuffle(
      source,
      source,
      Array.from({ length: 16 }, (_, i) => (i + bits / 8) & 15),
    );
    cpu.writeHalves(0, [extend(source), extend(upper)]);
  });
}

// ---- masks
bothWidths('VPMOVMSKB', '66 0F D7', 'Gd,Ux', (cpu) => {
  const [low, high] = cpu.readHalves(1).map((half) => vBitmask(half, 8));
  cpu.write(0, high === undefined ? low! : or(low!, shl(high, u32(16))));
});
for (const [suffix, prefix, width] of [
  ['PS', 'NP', 32],
  ['PD', '66', 64],
] as const) {
  bothWidths(`VMOVMSK${suffix}`, `${prefix} 0F 50`, 'Gd,Ux', (cpu) => {
    const [low, high] = cpu.readHalves(1).map((half) => vBitmask(half, width));
    cpu.write(0, high === undefined ? low! : or(low!, shl(high, u32(128 / width))));
  });
}

// ---- inserts and extracts
const extract = (mnemonic: string, encodings: string, width: Width, lanes: number): void =>
  define(mnemonic, avx('avx'), encodings, (cpu) => {
    const value = laneAt(cpu.readVector(1), width, cpu.read(2) as Expr<8>, lanes);
    cpu.write(0, cpu.isMemory(0) ? value : zeroExtend(value, cpu.width(0)));
  });
extract('VPEXTRB', '66 VEX.L0 0F3A 14 reg Ed,Vdq,Ib\n66 VEX.L0 0F3A 14 Eb,Vdq,Ib', 8, 16);
extract('VPEXTRW', '66 VEX.L0 0F3A 15 reg Ed,Vdq,Ib\n66 VEX.L0 0F3A 15 Ew,Vdq,Ib', 16, 8);
extract('VPEXTRW', '66 VEX.L0 0F C5 Gd,Udq,Ib', 16, 8);
extract('VPEXTRD', '66 VEX.L0 W0 0F3A 16 Ed,Vdq,Ib', 32, 4);
extract('VPEXTRQ', '66 VEX.L0 REX.W 0F3A 16 Eq,Vdq,Ib', 64, 2);
extract('VEXTRACTPS', '66 VEX.L0 0F3A 17 Ed,Vdq,Ib', 32, 4);
const insert = (mnemonic: string, encodings: string, width: Width, lanes: number): void =>
  define(mnemonic, avx('avx'), encodings, (cpu) => {
    const value = truncate(cpu.read(2), width);
    cpu.writeHalves(0, [insertAt(cpu.readHalves(1)[0]!, value, cpu.read(3) as Expr<8>, lanes)]);
  });
insert('VPINSRB', '66 VEX.L0 0F3A 20 reg Vdq,Hdq,Ed,Ib\n66 VEX.L0 0F3A 20 Vdq,Hdq,Eb,Ib', 8, 16);
insert('VPINSRW', '66 VEX.L0 0F C4 reg Vdq,Hdq,Ed,Ib\n66 VEX.L0 0F C4 Vdq,Hdq,Ew,Ib', 16, 8);
insert('VPINSRD', '66 VEX.L0 W0 0F3A 22 Vdq,Hdq,Ed,Ib', 32, 4);
insert('VPINSRQ', '66 VEX.L0 REX.W 0F3A 22 Vdq,Hdq,Eq,Ib', 64, 2);
const insertps = (cpu: Cpu, value: Expr<32>): void =>
  cpu.writeHalves(0, [insertSingle(cpu.readHalves(1)[0]!, value, cpu.read(3) as Expr<8>)]);
define('VINSERTPS', avx('avx'), '66 VEX.L0 0F3A 21 reg Vdq,Hdq,Udq,Ib', (cpu) =>
  insertps(cpu, laneAt(cpu.readVector(2), 32, shr(cpu.read(3) as Expr<8>, constant(8, 6)), 4)),
);
define('VINSERTPS', avx('avx'), '66 VEX.L0 0F3A 21 mem Vdq,Hdq,Md,Ib', (cpu) => insertps(cpu, cpu.read(2) as Expr<32>));
