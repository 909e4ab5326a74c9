/** MMX and SSE moves. @sdm "MOVD/MOVQ", "MOVDQA", "MOVDQU", "MOVAPS", "MOVUPS", "MOVSS", "MOVSD", "MOVHPS", "MOVLPS", "MOVNT…", "EMMS" … */
import { FTAG, FTOP, RDI } from '../../engine/layout.ts';
import type { Cpu } from '../cpu.ts';
import { constant, type Expr, zeroExtend } from '../expr.ts';
import { define } from '../row.ts';
import { lane, splat, type V, v2, vSelect, vShuffle, vZero, withLane } from '../vector.ts';
import { mmx, readLanes, sse, touchMmx, xmmOnly } from './simd-lanes.ts';

const w = { dst: 'w' } as const;

/** Whole registers; `aligned` memory operands fault on a misaligned address. */
const whole = (mnemonic: string, feature: string, aligned: boolean, encodings: string): void =>
  define(mnemonic, sse(feature, w), encodings, (cpu) => cpu.writeVector(0, cpu.readVector(1, !aligned), !aligned));
whole('MOVAPS', 'sse', true, 'NP 0F 28 Vdq,Wdq\nNP 0F 29 Wdq,Vdq');
whole('MOVAPD', 'sse2', true, '66 0F 28 Vdq,Wdq\n66 0F 29 Wdq,Vdq');
whole('MOVDQA', 'sse2', true, '66 0F 6F Vdq,Wdq\n66 0F 7F Wdq,Vdq');
whole('MOVUPS', 'sse', false, 'NP 0F 10 Vdq,Wdq\nNP 0F 11 Wdq,Vdq');
whole('MOVUPD', 'sse2', false, '66 0F 10 Vdq,Wdq\n66 0F 11 Wdq,Vdq');
whole('MOVDQU', 'sse2', false, 'F3 0F 6F Vdq,Wdq\nF3 0F 7F Wdq,Vdq');
whole('LDDQU', 'pni', false, 'F2 0F F0 Vdq,Mdq');
whole('MOVNTPS', 'sse', true, 'NP 0F 2B Mdq,Vdq');
whole('MOVNTPD', 'sse2', true, '66 0F 2B Mdq,Vdq');
whole('MOVNTDQ', 'sse2', true, '66 0F E7 Mdq,Vdq');
whole('MOVNTDQA', 'sse4_1', true, '66 0F38 2A Vdq,Mdq');

/** A scalar into the bottom of a zeroed register. */
const zeroing = (cpu: Cpu, value: Expr<32 | 64>): void => cpu.writeVector(0, withLane(vZero(), 0, value));

// ---- between register files
define('MOVD', sse('sse2', w), '66 W0 0F 6E Vdq,Ed', (cpu) => zeroing(cpu, cpu.read(1) as Expr<32>));
define('MOVQ', sse('sse2', w), '66 REX.W 0F 6E Vdq,Eq\nF3 0F 7E Vdq,Wq', (cpu) =>
  zeroing(cpu, cpu.read(1) as Expr<64>),
);
define('MOVD', sse('sse2', w), '66 W0 0F 7E Ed,Vd', (cpu) => cpu.write(0, cpu.read(1)));
define('MOVQ', sse('sse2', w), '66 REX.W 0F 7E Eq,Vq', (cpu) => cpu.write(0, cpu.read(1)));
define('MOVQ', sse('sse2', w), '66 0F D6 mem Mq,Vq', (cpu) => cpu.write(0, cpu.read(1)));
define('MOVQ', sse('sse2', w), '66 0F D6 reg Wdq,Vq', (cpu) => zeroing(cpu, cpu.read(1) as Expr<64>));
define('MOVD', mmx(w), 'NP W0 0F 6E Pq,Ed', (cpu) => {
  cpu.write(0, zeroExtend(cpu.read(1), 64));
  touchMmx(cpu);
});
const mmxMove = (cpu: Cpu): void => {
  const value = cpu.read(1);
  cpu.write(0, value);
  touchMmx(cpu);
};
define(
  'MOVQ',
  mmx(w),
  `
    NP REX.W 0F 6E Pq,Eq
    NP 0F 6F Pq,Qq
    NP 0F 7F Qq,Pq
    NP REX.W 0F 7E Eq,Pq
    NP 0F E7 mem Mq,Pq`,
  mmxMove,
);
define('MOVD', mmx(w), 'NP W0 0F 7E Ed,Pd', mmxMove);
define('MOVQ2DQ', mmx({ ...w, feature: 'sse2' }), 'F3 0F D6 Vdq,Nq', (cpu) => {
  zeroing(cpu, cpu.read(1) as Expr<64>);
  touchMmx(cpu);
});
define('MOVDQ2Q', mmx({ ...w, feature: 'sse2' }), 'F2 0F D6 Pq,Uq', mmxMove);

// ---- scalars: memory clears the rest of the register, a register source leaves it
for (const [mnemonic, prefix, size, feature] of [
  ['MOVSS', 'F3', 'd', 'sse'],
  ['MOVSD', 'F2', 'q', 'sse2'],
] as const) {
  define(mnemonic, sse(feature, w), `${prefix} 0F 10 mem Vdq,M${size}`, (cpu) => zeroing(cpu, cpu.read(1) as Expr<64>));
  define(mnemonic, sse(feature, w), `${prefix} 0F 10 reg V${size},W${size}\n${prefix} 0F 11 W${size},V${size}`, (cpu) =>
    cpu.write(0, cpu.read(1)),
  );
}

// ---- halves
const withHigh = (cpu: Cpu, value: Expr<64>): void => cpu.writeVector(0, withLane(cpu.readVector(0), 1, value));
const high = (cpu: Cpu, index: number): Expr<64> => lane(cpu.readVector(index), 64, 1);
for (const [prefix, feature, suffix] of [
  ['NP', 'sse', 'PS'],
  ['66', 'sse2', 'PD'],
] as const) {
  define(`MOVLPS`, sse(feature, w), `${prefix} 0F 12 mem Vq,Mq\n${prefix} 0F 13 mem Mq,Vq`, (cpu) =>
    cpu.write(0, cpu.read(1)),
  );
  define(`MOVHP${suffix[1]}`, sse(feature), `${prefix} 0F 16 mem Vdq,Mq`, (cpu) =>
    withHigh(cpu, cpu.read(1) as Expr<64>),
  );
  define(`MOVHP${suffix[1]}`, sse(feature, w), `${prefix} 0F 17 mem Mq,Vdq`, (cpu) => cpu.write(0, high(cpu, 1)));
}
define('MOVHLPS', sse('sse', w), 'NP 0F 12 reg Vq,Udq', (cpu) => cpu.write(0, high(cpu, 1)));
define('MOVLHPS', sse('sse'), 'NP 0F 16 reg Vdq,Uq', (cpu) => withHigh(cpu, cpu.read(1) as Expr<64>));
define('MOVDDUP', sse('pni', w), 'F2 0F 12 Vdq,Wq', (cpu) => cpu.writeVector(0, splat(cpu.read(1))));
const duplicate =
  (lanes: number[]) =>
  (cpu: Cpu): void => {
    const v = cpu.readVector(1);
    cpu.writeVector(0, vShuffle(v, v, lanes));
  };
define('MOVSLDUP', sse('pni', w), 'F3 0F 12 Vdq,Wdq', duplicate([0, 1, 2, 3, 0, 1, 2, 3, 8, 9, 10, 11, 8, 9, 10, 11]));
define(
  'MOVSHDUP',
  sse('pni', w),
  'F3 0F 16 Vdq,Wdq',
  duplicate([4, 5, 6, 7, 4, 5, 6, 7, 12, 13, 14, 15, 12, 13, 14, 15]),
);

// ---- logic on floating-point registers is integer logic
for (const [name, opcode, op] of [
  ['AND', '54', 0x4e],
  ['OR', '56', 0x50],
  ['XOR', '57', 0x51],
] as const) {
  xmmOnly(`${name}PS`, `NP 0F ${opcode}`, 'sse', (a, b) => v2(op, a, b));
  xmmOnly(`${name}PD`, `66 0F ${opcode}`, 'sse2', (a, b) => v2(op, a, b));
}
xmmOnly('ANDNPS', 'NP 0F 55', 'sse', (a, b) => v2(0x4f, b, a));
xmmOnly('ANDNPD', '66 0F 55', 'sse2', (a, b) => v2(0x4f, b, a));

// ---- masked stores at DS:rDI: bytes whose mask sign is set
export const maskedStore = (cpu: Cpu, value: V, mask: V, bits: 64 | 128): void => {
  const linear = cpu.linear(cpu.insn.segment, cpu.addressRegister(RDI), bits, true);
  const host = cpu.modifiable(linear, bits);
  const chosen = v2(0x27, vZero(), mask);
  if (bits === 128) {
    cpu.storeAt(host, vSelect(value, cpu.loadAt(host, 128), chosen));
    return;
  }
  const old = splat(cpu.loadAt(host, 64));
  cpu.storeAt(host, lane(vSelect(value, old, chosen), 64, 0));
};
define('MASKMOVDQU', sse('sse2', { dst: 'r', implicitMemory: true }), '66 0F F7 Vdq,Udq', (cpu) =>
  maskedStore(cpu, cpu.readVector(0), cpu.readVector(1), 128),
);
define('MASKMOVQ', mmx({ dst: 'r', implicitMemory: true, feature: 'sse' }), 'NP 0F F7 Pq,Nq', (cpu) => {
  maskedStore(cpu, readLanes(cpu, 0), readLanes(cpu, 1), 64);
  touchMmx(cpu);
});

/** Empties the x87 tag word, and like the other MMX instructions resets TOP. */
define('EMMS', mmx(), 'NP 0F 77', (cpu) => {
  cpu.setState(FTOP, constant(8, 0));
  cpu.setState(FTAG, constant(8, 0));
});
