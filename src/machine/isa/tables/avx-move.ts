/** AVX moves. @sdm "MOVAPS", "MOVDQU", "MOVSS", "MOVHPS", "MOVDDUP", "MASKMOVDQU", "VZEROUPPER", "VZEROALL", "LDMXCSR" */
import { EXIT, MXCSR, XMM, YMM_HIGH } from '../../engine/layout.ts';
import type { Cpu } from '../cpu.ts';
import { and, type Expr, isZero, negate, u32 } from '../expr.ts';
import { define } from '../row.ts';
import { lane, splat, type V, vShuffle, vZero, withLane } from '../vector.ts';
import { avx, bothWidths, vexUnary, writeScalar, writeZeroing } from './avx-lanes.ts';
import { maskedStore } from './simd-move.ts';

// ---- whole registers
for (const [mnemonic, prefix, load, store, aligned] of [
  ['VMOVAPS', 'NP', '28', '29', true],
  ['VMOVAPD', '66', '28', '29', true],
  ['VMOVDQA', '66', '6F', '7F', true],
  ['VMOVUPS', 'NP', '10', '11', false],
  ['VMOVUPD', '66', '10', '11', false],
  ['VMOVDQU', 'F3', '6F', '7F', false],
] as const) {
  const move = (cpu: Cpu): void => cpu.writeHalves(0, cpu.readHalves(1, aligned), aligned);
  bothWidths(mnemonic, `${prefix} 0F ${load}`, 'Vx,Wx', move);
  bothWidths(mnemonic, `${prefix} 0F ${store}`, 'Wx,Vx', move);
}
const aligned = (cpu: Cpu): void => cpu.writeHalves(0, cpu.readHalves(1, true), true);
bothWidths('VLDDQU', 'F2 0F F0', 'Vx,Mx', (cpu) => cpu.writeHalves(0, cpu.readHalves(1)));
bothWidths('VMOVNTPS', 'NP 0F 2B', 'Mx,Vx', aligned);
bothWidths('VMOVNTPD', '66 0F 2B', 'Mx,Vx', aligned);
bothWidths('VMOVNTDQ', '66 0F E7', 'Mx,Vx', aligned);
define('VMOVNTDQA', avx('avx'), '66 VEX.L0 0F38 2A Vdq,Mdq', aligned);
define('VMOVNTDQA', avx('avx2'), '66 VEX.L1 0F38 2A Vqq,Mqq', aligned);

// ---- between register files, and scalars
const load = (cpu: Cpu): void => writeZeroing(cpu, cpu.read(1));
const store = (cpu: Cpu): void => cpu.write(0, cpu.read(1));
define('VMOVD', avx('avx'), '66 VEX.L0 W0 0F 6E Vdq,Ed', load);
define('VMOVQ', avx('avx'), '66 VEX.L0 REX.W 0F 6E Vdq,Eq\nF3 VEX.L0 0F 7E Vdq,Wq', load);
define('VMOVD', avx('avx'), '66 VEX.L0 W0 0F 7E Ed,Vd', store);
define('VMOVQ', avx('avx'), '66 VEX.L0 REX.W 0F 7E Eq,Vq\n66 VEX.L0 0F D6 mem Mq,Vq', store);
define('VMOVQ', avx('avx'), '66 VEX.L0 0F D6 reg Udq,Vq', load);
for (const [mnemonic, prefix, size] of [
  ['VMOVSS', 'F3', 'd'],
  ['VMOVSD', 'F2', 'q'],
] as const) {
  define(mnemonic, avx('avx'), `${prefix} VEX.LIG 0F 10 mem Vdq,M${size}`, load);
  define(mnemonic, avx('avx'), `${prefix} VEX.LIG 0F 11 mem M${size},V${size}`, store);
  define(
    mnemonic,
    avx('avx'),
    `${prefix} VEX.LIG 0F 10 reg Vdq,Hdq,U${size}\n${prefix} VEX.LIG 0F 11 reg Udq,Hdq,V${size}`,
    (cpu) => writeScalar(cpu, cpu.read(2)),
  );
}

// ---- halves of 128 bits
const high = (cpu: Cpu, index: number): Expr<64> => lane(cpu.readHalves(index)[0]!, 64, 1);
const withHigh = (cpu: Cpu, value: Expr<64>): void => cpu.writeHalves(0, [withLane(cpu.readHalves(1)[0]!, 1, value)]);
for (const [suffix, prefix] of [
  ['S', 'NP'],
  ['D', '66'],
] as const) {
  define(`VMOVLP${suffix}`, avx('avx'), `${prefix} VEX.L0 0F 12 mem Vdq,Hdq,Mq`, (cpu) =>
    writeScalar(cpu, cpu.read(2)),
  );
  define(`VMOVLP${suffix}`, avx('avx'), `${prefix} VEX.L0 0F 13 mem Mq,Vq`, store);
  define(`VMOVHP${suffix}`, avx('avx'), `${prefix} VEX.L0 0F 16 mem Vdq,Hdq,Mq`, (cpu) =>
    withHigh(cpu, cpu.read(2) as Expr<64>),
  );
  define(`VMOVHP${suffix}`, avx('avx'), `${prefix} VEX.L0 0F 17 mem Mq,Vdq`, (cpu) => cpu.write(0, high(cpu, 1)));
}
define('VMOVHLPS', avx('avx'), 'NP VEX.L0 0F 12 reg Vdq,Hdq,Udq', (cpu) => writeScalar(cpu, high(cpu, 2)));
define('VMOVLHPS', avx('avx'), 'NP VEX.L0 0F 16 reg Vdq,Hdq,Uq', (cpu) => withHigh(cpu, cpu.read(2) as Expr<64>));
define('VMOVDDUP', avx('avx'), 'F2 VEX.L0 0F 12 Vdq,Wq', (cpu) => cpu.writeHalves(0, [splat(cpu.read(1))]));
define('VMOVDDUP', avx('avx'), 'F2 VEX.L1 0F 12 Vqq,Wqq', (cpu) =>
  cpu.writeHalves(
    0,
    cpu.readHalves(1).map((half) => splat(lane(half, 64, 0))),
  ),
);
const duplicate =
  (lanes: readonly number[]) =>
  (v: V): V =>
    vShuffle(v, v, lanes);
vexUnary('VMOVSLDUP', 'F3 0F 12', duplicate([0, 1, 2, 3, 0, 1, 2, 3, 8, 9, 10, 11, 8, 9, 10, 11]));
vexUnary('VMOVSHDUP', 'F3 0F 16', duplicate([4, 5, 6, 7, 4, 5, 6, 7, 12, 13, 14, 15, 12, 13, 14, 15]));

define('VMASKMOVDQU', avx('avx', { dst: 'r', implicitMemory: true }), '66 VEX.L0 0F F7 Vdq,Udq', (cpu) =>
  maskedStore(cpu, cpu.readVector(0), cpu.readVector(1), 128),
);

// ---- all registers that the mode reaches
const clear = (cpu: Cpu, from: number): void => {
  for (let n = 0; n < (cpu.mode64 ? 16 : 8); n++) cpu.setState(from + n * 16, vZero());
};
define('VZEROUPPER', avx('avx'), 'NP VEX.L0 0F 77', (cpu) => clear(cpu, YMM_HIGH));
define('VZEROALL', avx('avx'), 'NP VEX.L1 0F 77', (cpu) => {
  clear(cpu, XMM);
  clear(cpu, YMM_HIGH);
});

/** Bits of MXCSR that exist; setting another one is #GP(0). */
const MXCSR_MASK = 0xffff;
define('VLDMXCSR', avx('avx', { dst: 'r' }), 'NP VEX.L0 0F AE /2 Md', (cpu) => {
  const value = cpu.read(0) as Expr<32>;
  cpu.faultIf(negate(isZero(and(value, u32(~MXCSR_MASK)))), EXIT.alignment);
  cpu.setState(MXCSR, value);
});
define('VSTMXCSR', avx('avx'), 'NP VEX.L0 0F AE /3 Md', (cpu) => cpu.write(0, cpu.state(MXCSR, 32)));
