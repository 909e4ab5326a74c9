/** FMA and F16C. @sdm "VFMADD132PD/VFMADD213PD/VFMADD231PD" and their kin, "VCVTPH2PS", "VCVTPS2PH" */
import type { Cpu } from '../cpu.ts';
import { ASSIST, define } from '../row.ts';
import { lane, splat, type V, vConst, vXor, withLane } from '../vector.ts';
import { avx } from './avx-lanes.ts';
import { multiplyAdd } from './fma-fast.ts';
import { FMA, FMA_ORDERS } from './fma-forms.ts';
import { DOUBLE, type Lanes, SINGLE } from './sse-fast.ts';

/** Turns the signs of even lanes, of odd lanes, or both. */
function signed(lanes: Lanes, v: V, even: 1 | -1, odd: 1 | -1): V {
  if (even === 1 && odd === 1) return v;
  const bytes = lanes.bits / 8;
  return vXor(
    v,
    vConst(
      Array.from({ length: 16 }, (_, i) =>
        i % bytes === bytes - 1 && ((i / bytes) & 1 ? odd : even) === -1 ? 0x80 : 0,
      ),
    ),
  );
}

const hex = (n: number): string => n.toString(16).toUpperCase();
const rw = { dst: 'rw' } as const;
for (const [name, low, scalars, product, even, odd] of FMA) {
  for (const [order, high, [x, y], z] of FMA_ORDERS) {
    const compute = (cpu: Cpu, lanes: Lanes, [a, b, c]: readonly [V, V, V]): V => {
      const sources = [a, b, c];
      const first = cpu.code.let(signed(lanes, sources[x]!, product, product));
      return multiplyAdd(cpu, lanes, first, sources[y]!, cpu.code.let(signed(lanes, sources[z]!, even, odd)));
    };
    for (const [suffix, w, lanes, size] of [
      ['S', 'W0', SINGLE, 'd'],
      ['D', 'REX.W', DOUBLE, 'q'],
    ] as const) {
      const opcode = (extra: number): string => `${w} 0F38 ${hex(high * 16 + low + extra)}`;
      for (const [l, width] of [
        ['L0', 'dq'],
        ['L1', 'qq'],
      ] as const)
        define(
          `${name}${order}P${suffix}`,
          avx('fma', rw),
          `66 VEX.${l} ${opcode(0)} V${width},H${width},W${width}`,
          (cpu) => {
            const [a, b, c] = [0, 1, 2].map((n) => cpu.readHalves(n).map((half) => cpu.code.let(half)));
            cpu.writeHalves(
              0,
              a!.map((half, i) => compute(cpu, lanes, [half, b![i]!, c![i]!])),
            );
          },
        );
      if (!scalars) continue;
      define(`${name}${order}S${suffix}`, avx('fma', rw), `66 VEX.LIG ${opcode(1)} Vdq,Hdq,W${size}`, (cpu) => {
        const dst = cpu.readHalves(0)[0]!;
        const all = (v: V): V => cpu.code.let(splat(lane(v, lanes.bits, 0)));
        const c = cpu.code.let(splat(cpu.read(2)));
        const result = compute(cpu, lanes, [all(dst), all(cpu.readHalves(1)[0]!), c]);
        cpu.writeHalves(0, [withLane(dst, 0, lane(result, lanes.bits, 0))]);
      });
    }
  }
}

// ---- half-precision storage: TypeScript's
define('VCVTPH2PS', avx('f16c'), '66 VEX.L0 W0 0F38 13 Vdq,Wq\n66 VEX.L1 W0 0F38 13 Vqq,Wdq', ASSIST);
define('VCVTPS2PH', avx('f16c'), '66 VEX.L0 W0 0F3A 1D Wq,Vdq,Ib\n66 VEX.L1 W0 0F3A 1D Wdq,Vqq,Ib', ASSIST);
