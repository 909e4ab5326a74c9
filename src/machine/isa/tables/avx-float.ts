/** AVX floating point: SSE's fast paths on each half; TypeScript has the rest. @sdm "ADDPS", "CMPPD", "DPPS", "ROUNDPS", "CVTPS2PD" … */
import type { Cpu } from '../cpu.ts';
import type { Expr } from '../expr.ts';
import { ASSIST, define } from '../row.ts';
import { lane, splat, type V, v1, vShuffle } from '../vector.ts';
import { avx, bothWidths, vexBinary, vexImmediate, vexUnary, vexUnaryImmediate, writeScalar } from './avx-lanes.ts';
import { integersToSingles, narrow, roundLanes, TO_INTEGERS, toIntegers, widen } from './sse-convert.ts';
import { DOUBLE, type Lanes, minus, pairs, plus, SINGLE } from './sse-fast.ts';
import { ARITHMETIC, addSubtract, compareLanes } from './sse-float.ts';

/** [suffix, prefix, lanes] of whole vectors, and with the size of one lane those of scalars. */
const PACKED = [
  ['PS', 'NP', SINGLE],
  ['PD', '66', DOUBLE],
] as const;
const SCALAR = [
  ['SS', 'F3', SINGLE, 'd'],
  ['SD', 'F2', DOUBLE, 'q'],
] as const;

/** The bottom lane of operand 1, and a scalar operand 2, each in all lanes. */
const scalarPair = (cpu: Cpu, lanes: Lanes): [V, V] => [
  cpu.code.let(splat(lane(cpu.readHalves(1)[0]!, lanes.bits, 0))),
  cpu.code.let(splat(cpu.read(2))),
];
const bottom = (lanes: Lanes, v: V): Expr<32> | Expr<64> => lane(v, lanes.bits, 0);

for (const [name, opcode, compute, unary] of ARITHMETIC) {
  for (const [suffix, prefix, lanes] of PACKED) {
    const encoding = `${prefix} 0F ${opcode}`;
    if (unary)
      vexUnary(`V${name}${suffix}`, encoding, (half, cpu) => {
        const source = cpu.code.let(half);
        return compute(cpu, lanes, source, source);
      });
    else vexBinary(`V${name}${suffix}`, encoding, (a, b, cpu) => compute(cpu, lanes, cpu.code.let(a), cpu.code.let(b)));
  }
  for (const [suffix, prefix, lanes, size] of SCALAR) {
    define(`V${name}${suffix}`, avx('avx'), `${prefix} VEX.LIG 0F ${opcode} Vdq,Hdq,W${size}`, (cpu) => {
      const [a, b] = scalarPair(cpu, lanes);
      writeScalar(cpu, bottom(lanes, compute(cpu, lanes, a, b)));
    });
  }
}

for (const [suffix, prefix, lanes] of PACKED) {
  const horizontal = suffix === 'PS' ? 'F2' : '66';
  for (const [name, opcode, compute] of [
    ['HADD', '7C', plus],
    ['HSUB', '7D', minus],
  ] as const)
    vexBinary(`V${name}${suffix}`, `${horizontal} 0F ${opcode}`, (a, b, cpu) => {
      const [even, odd] = pairs(lanes, a, b);
      return compute(cpu, lanes, cpu.code.let(even), cpu.code.let(odd));
    });
  vexBinary(`VADDSUB${suffix}`, `${horizontal} 0F D0`, (a, b, cpu) =>
    addSubtract(cpu, lanes, cpu.code.let(a), cpu.code.let(b)),
  );
  vexImmediate(`VCMP${suffix}`, `${prefix} 0F C2`, (a, b, imm, _, cpu) =>
    compareLanes(cpu, lanes, cpu.code.let(a), cpu.code.let(b), imm),
  );
  vexUnaryImmediate(`VROUND${suffix}`, `66 0F3A ${suffix === 'PS' ? '08' : '09'}`, (a, imm, _, cpu) =>
    roundLanes(cpu, lanes, a, imm),
  );
}
for (const [suffix, prefix, lanes, size] of SCALAR) {
  define(`VCMP${suffix}`, avx('avx'), `${prefix} VEX.LIG 0F C2 Vdq,Hdq,W${size},Ib`, (cpu) => {
    const [a, b] = scalarPair(cpu, lanes);
    const mask = compareLanes(cpu, lanes, a, b, cpu.code.let(cpu.read(3) as Expr<8>));
    writeScalar(cpu, bottom(lanes, mask));
  });
  const opcode = suffix === 'SS' ? '0A' : '0B';
  define(`VROUND${suffix}`, avx('avx'), `66 VEX.LIG 0F3A ${opcode} Vdq,Hdq,W${size},Ib`, (cpu) =>
    writeScalar(cpu, bottom(lanes, roundLanes(cpu, lanes, splat(cpu.read(2)), cpu.read(3) as Expr<8>))),
  );
}

// ---- conversions
vexUnary('VCVTDQ2PS', 'NP 0F 5B', (half, cpu) => integersToSingles(cpu, half));
define('VCVTSS2SD', avx('avx'), 'F3 VEX.LIG 0F 5A Vdq,Hdq,Wd', (cpu) =>
  writeScalar(cpu, lane(widen(cpu, cpu.code.let(splat(cpu.read(2)))), 64, 0)),
);
define('VCVTSD2SS', avx('avx'), 'F2 VEX.LIG 0F 5A Vdq,Hdq,Wq', (cpu) =>
  writeScalar(cpu, lane(narrow(cpu, cpu.code.let(splat(cpu.read(2)))), 32, 0)),
);
/** From two lanes of 32 bits to 64 each, or from four. */
const upperLanes = (v: V): V => vShuffle(v, v, [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7]);
const wider = (mnemonic: string, prefix: string, opcode: string, convert: (cpu: Cpu, v: V) => V): void => {
  define(mnemonic, avx('avx'), `${prefix} VEX.L0 0F ${opcode} Vdq,Wq`, (cpu) =>
    cpu.writeHalves(0, [convert(cpu, cpu.code.let(splat(cpu.read(1))))]),
  );
  define(mnemonic, avx('avx'), `${prefix} VEX.L1 0F ${opcode} Vqq,Wdq`, (cpu) => {
    const source = cpu.code.let(cpu.readHalves(1)[0]!);
    const low = cpu.code.let(convert(cpu, source));
    cpu.writeHalves(0, [low, convert(cpu, cpu.code.let(upperLanes(source)))]);
  });
};
wider('VCVTPS2PD', 'NP', '5A', widen);
wider('VCVTDQ2PD', 'F3', 'E6', (_, v) => v1(0xfe, v));
/** The lower halves of the results side by side. */
const joined = ([low, high]: readonly V[]): V =>
  high === undefined ? low! : vShuffle(low!, high, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]);
const narrower = (mnemonic: string, prefix: string, opcode: string, convert: (cpu: Cpu, v: V) => V): void => {
  for (const [l, size] of [
    ['L0', 'dq'],
    ['L1', 'qq'],
  ] as const)
    define(mnemonic, avx('avx'), `${prefix} VEX.${l} 0F ${opcode} Vdq,W${size}`, (cpu) =>
      cpu.writeHalves(0, [joined(cpu.readHalves(1).map((half) => convert(cpu, cpu.code.let(half))))]),
    );
};
narrower('VCVTPD2PS', '66', '5A', narrow);
for (const [name, encoding, lanes, truncating] of TO_INTEGERS) {
  const [prefix, , opcode] = encoding.split(' ') as [string, string, string];
  if (lanes.bits === 32) vexUnary(`V${name}`, encoding, (half, cpu) => toIntegers(cpu, lanes, truncating, half));
  else narrower(`V${name}`, prefix, opcode, (cpu, v) => toIntegers(cpu, lanes, truncating, v));
}

// ---- all TypeScript's
bothWidths('VRSQRTPS', 'NP 0F 52', 'Vx,Wx', ASSIST);
bothWidths('VRCPPS', 'NP 0F 53', 'Vx,Wx', ASSIST);
define('VRSQRTSS', avx('avx'), 'F3 VEX.LIG 0F 52 Vdq,Hdq,Wd', ASSIST);
define('VRCPSS', avx('avx'), 'F3 VEX.LIG 0F 53 Vdq,Hdq,Wd', ASSIST);
bothWidths('VDPPS', '66 0F3A 40', 'Vx,Hx,Wx,Ib', ASSIST);
define('VDPPD', avx('avx'), '66 VEX.L0 0F3A 41 Vdq,Hdq,Wdq,Ib', ASSIST);
