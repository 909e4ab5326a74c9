/** What only AVX and AVX2 have: broadcasts, permutations across halves, variable shifts, masked moves. @sdm "VBROADCAST", "VPERM2F128", "VPERMD", "VPSLLVD", "VMASKMOV" … */
import type { Cpu } from '../cpu.ts';
import { constant, type Expr, ltU, ne, sar, select, shl, shr, u32, u64 } from '../expr.ts';
import { define } from '../row.ts';
import { lane, splat, type V, v2, vAnd, vBitmask, vConst, vOr, vShift, vZero, withLane } from '../vector.ts';
import { avx, vexBinary, vexImmediate, vexUnaryImmediate } from './avx-lanes.ts';
import { blend, isSet, selectByImmediate, shuffleDoubles } from './simd-shuffle.ts';

const WIDTHS = [
  ['L0', 'dq'],
  ['L1', 'qq'],
] as const;

// ---- broadcasts
const toAll = (cpu: Cpu): void => {
  const value = cpu.code.let(splat(cpu.read(1)));
  cpu.writeHalves(0, cpu.insn.operands[0]!.width === 256 ? [value, value] : [value]);
};
const twice = (cpu: Cpu): void => {
  const [value] = cpu.readHalves(1);
  cpu.writeHalves(0, [value!, value!]);
};
for (const [l, size] of WIDTHS) {
  define('VBROADCASTSS', avx('avx'), `66 VEX.${l} W0 0F38 18 mem V${size},Md`, toAll);
  define('VBROADCASTSS', avx('avx2'), `66 VEX.${l} W0 0F38 18 reg V${size},Ud`, toAll);
  for (const [suffix, opcode, width] of [
    ['B', '78', 'b'],
    ['W', '79', 'w'],
    ['D', '58', 'd'],
    ['Q', '59', 'q'],
  ] as const)
    define(`VPBROADCAST${suffix}`, avx('avx2'), `66 VEX.${l} W0 0F38 ${opcode} V${size},W${width}`, toAll);
}
define('VBROADCASTSD', avx('avx'), '66 VEX.L1 W0 0F38 19 mem Vqq,Mq', toAll);
define('VBROADCASTSD', avx('avx2'), '66 VEX.L1 W0 0F38 19 reg Vqq,Uq', toAll);
define('VBROADCASTF128', avx('avx'), '66 VEX.L1 W0 0F38 1A Vqq,Mdq', twice);
define('VBROADCASTI128', avx('avx2'), '66 VEX.L1 W0 0F38 5A Vqq,Mdq', twice);

// ---- halves
const control = (cpu: Cpu, n: number): Expr<8> => cpu.code.let(cpu.read(n) as Expr<8>);
for (const [letter, feature, opcodes] of [
  ['F', 'avx', ['18', '19', '06']],
  ['I', 'avx2', ['38', '39', '46']],
] as const) {
  const [inserts, extracts, permutes] = opcodes;
  define(`VINSERT${letter}128`, avx(feature), `66 VEX.L1 W0 0F3A ${inserts} Vqq,Hqq,Wdq,Ib`, (cpu) => {
    const [low, high] = cpu.readHalves(1);
    const [value] = cpu.readHalves(2);
    const upper = isSet(control(cpu, 3), 0);
    cpu.writeHalves(0, [select(upper, low!, value!), select(upper, value!, high!)]);
  });
  define(`VEXTRACT${letter}128`, avx(feature), `66 VEX.L1 W0 0F3A ${extracts} Wdq,Vqq,Ib`, (cpu) => {
    const [low, high] = cpu.readHalves(1);
    cpu.writeHalves(0, [select(isSet(control(cpu, 2), 0), high!, low!)]);
  });
  define(`VPERM2${letter}128`, avx(feature), `66 VEX.L1 W0 0F3A ${permutes} Vqq,Hqq,Wqq,Ib`, (cpu) => {
    const a = cpu.readHalves(1),
      b = cpu.readHalves(2);
    const imm = control(cpu, 3);
    const pick = (n: number): V => {
      const chosen = select(
        isSet(imm, n + 1),
        select(isSet(imm, n), b[1]!, b[0]!),
        select(isSet(imm, n), a[1]!, a[0]!),
      );
      return select(isSet(imm, n + 3), vZero(), chosen);
    };
    cpu.writeHalves(0, [pick(0), pick(4)]);
  });
}

// ---- permutations of lanes
for (const [mnemonic, opcode] of [
  ['VPERMQ', '00'],
  ['VPERMPD', '01'],
] as const) {
  define(mnemonic, avx('avx2'), `66 VEX.L1 REX.W 0F3A ${opcode} Vqq,Wqq,Ib`, (cpu) => {
    const lanes = cpu.readHalves(1).flatMap((half) => [0, 1].map((n) => cpu.code.let(lane(half, 64, n))));
    const imm = control(cpu, 2);
    const pick = (n: number): Expr<64> => {
      const odd = isSet(imm, n);
      return select(isSet(imm, n + 1), select(odd, lanes[3]!, lanes[2]!), select(odd, lanes[1]!, lanes[0]!));
    };
    cpu.writeHalves(
      0,
      [0, 4].map((n) => withLane(splat(pick(n)), 1, pick(n + 2))),
    );
  });
}
const FIRST_BYTES = [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3];
/** Byte indexes of doublewords chosen by the low bits of each lane. */
const doublewordBytes = (index: V, most: number): V =>
  v2(0x6e, v2(0xb5, vAnd(index, splat(u32(most))), splat(u32(0x0404_0404))), vConst(FIRST_BYTES));
for (const [mnemonic, opcode] of [
  ['VPERMD', '36'],
  ['VPERMPS', '16'],
] as const) {
  define(mnemonic, avx('avx2'), `66 VEX.L1 W0 0F38 ${opcode} Vqq,Hqq,Wqq`, (cpu) => {
    const index = cpu.readHalves(1);
    const [low, high] = cpu.readHalves(2);
    cpu.writeHalves(
      0,
      index.map((half) => {
        // wasm's swizzle gives zero for indexes that are not in its half.
        const bytes = cpu.code.let(doublewordBytes(half, 7));
        return vOr(v2(0x0e, low!, bytes), v2(0x0e, high!, v2(0x71, bytes, splat(constant(8, 16)))));
      }),
    );
  });
}
vexBinary('VPERMILPS', '66 W0 0F38 0C', (a, index) => v2(0x0e, a, doublewordBytes(index, 3)));
vexBinary('VPERMILPD', '66 W0 0F38 0D', (a, index) => {
  // Bit 1 of each lane chooses: eight bytes of 0 or 8.
  const first = vShift(0xcb, vAnd(index, splat(u64(2))), u32(2));
  const eight = v2(0xd5, first, splat(u64(0x0101_0101_0101_0101n)));
  return v2(0x0e, a, v2(0x6e, eight, vConst([0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7])));
});
vexUnaryImmediate('VPERMILPS', '66 W0 0F3A 04', (a, imm) => selectByImmediate(a, imm, 4, 4, 0));
vexUnaryImmediate('VPERMILPD', '66 W0 0F3A 05', (a, imm, half) => shuffleDoubles(a, a, imm, half * 2));
vexImmediate('VPBLENDD', '66 W0 0F3A 02', (a, b, imm, half) => blend(a, b, imm, 4, half * 4));

// ---- each lane shifted by its own count
type Shift = (value: Expr<32> | Expr<64>, count: Expr<32> | Expr<64>) => Expr<32> | Expr<64>;
const logical =
  (shift: typeof shl): Shift =>
  (value, count) => {
    const { width } = value;
    return select(ltU(count, constant(width, width)), shift(value, count), constant(width, 0));
  };
const arithmetic: Shift = (value, count) => {
  const { width } = value;
  return sar(value, select(ltU(count, constant(width, width)), count, constant(width, width - 1)));
};
for (const [mnemonic, w, opcode, width, shift] of [
  ['VPSRLVD', 'W0', '45', 32, logical(shr)],
  ['VPSRLVQ', 'REX.W', '45', 64, logical(shr)],
  ['VPSRAVD', 'W0', '46', 32, arithmetic],
  ['VPSLLVD', 'W0', '47', 32, logical(shl)],
  ['VPSLLVQ', 'REX.W', '47', 64, logical(shl)],
] as const) {
  vexBinary(mnemonic, `66 ${w} 0F38 ${opcode}`, (values, counts, cpu) => {
    let result: V = values;
    for (let n = 0; n < 128 / width; n++) {
      const count = cpu.code.let(lane(counts, width, n));
      result = withLane(result, n, shift(lane(values, width, n), count));
    }
    return result;
  });
}

// ---- masked moves: generated code does those that move all lanes
for (const [name, feature, w, loads, stores, width] of [
  ['VMASKMOVPS', 'avx', 'W0', '2C', '2E', 32],
  ['VMASKMOVPD', 'avx', 'W0', '2D', '2F', 64],
  ['VPMASKMOVD', 'avx2', 'W0', '8C', '8E', 32],
  ['VPMASKMOVQ', 'avx2', 'REX.W', '8C', '8E', 64],
] as const) {
  const all = 2 ** (128 / width) - 1;
  const needAll = (cpu: Cpu): void => {
    for (const mask of cpu.readHalves(1)) cpu.assistIf(ne(vBitmask(mask, width), u32(all)));
  };
  for (const [l, size] of WIDTHS) {
    define(name, avx(feature), `66 VEX.${l} ${w} 0F38 ${loads} V${size},H${size},M${size}`, (cpu) => {
      needAll(cpu);
      cpu.writeHalves(0, cpu.readHalves(2));
    });
    define(name, avx(feature), `66 VEX.${l} ${w} 0F38 ${stores} M${size},H${size},V${size}`, (cpu) => {
      needAll(cpu);
      cpu.writeHalves(0, cpu.readHalves(2));
    });
  }
}
