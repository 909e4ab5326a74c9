import { describe, expect, it } from 'vitest';
import { CS, DS, RAX, RSP, SS } from '../../engine/layout.ts';
import { FAULT, GP, JUMPED, NP, SS_FAULT, TS } from '../../outcome.ts';
import { DATA, gate, Lab, type LabMode, SEL, STACK0, STACK3 } from '../testing/lab.ts';

const NON_CANONICAL = 0x0000_8000_0000_0000n;
const hex = (value: number | bigint, bytes: number): string =>
  Array.from({ length: bytes }, (_, i) =>
    ((BigInt(value) >> BigInt(8 * i)) & 0xffn).toString(16).padStart(2, '0'),
  ).join(' ');

/** JMP or CALL to a far pointer that lies at DATA, addressed by RAX. */
function indirect(lab: Lab, extension: 3 | 5, selector: number, offset: bigint): string {
  lab.p.setGpr(RAX, BigInt(DATA));
  lab.machine.memory.write64(DATA, offset);
  lab.machine.memory.write16(DATA + 8, selector);
  if (lab.mode === 'long') return `48 ff ${hex(extension << 3, 1)}`;
  lab.machine.memory.write16(DATA + 4, selector);
  return `ff ${hex(extension << 3, 1)}`;
}

/** A call gate at SEL.free; 16 bytes in IA-32e mode. */
function callGate(lab: Lab, selector: number, offset: bigint, dpl = 3, parameters = 0, present = true): void {
  const [low, high] = gate({ selector, offset, type: 12, dpl, present, ist: parameters });
  lab.gdt(SEL.free, low);
  if (lab.p.longMode) lab.gdt(SEL.free + 8, high);
}

interface Target {
  mode: LabMode;
  cpl: 0 | 3;
  selector: number;
  offset?: bigint;
  vector: number;
  errorCode: number;
}

const targets: [string, Target][] = [
  ['null selector → #GP(0)', { mode: 'long', cpl: 0, selector: 3, vector: GP, errorCode: 0 }],
  ['selector beyond the GDT → #GP(selector)', { mode: 'long', cpl: 0, selector: 0x200, vector: GP, errorCode: 0x200 }],
  [
    'selector in an LDT that is not there → #GP(selector)',
    { mode: 'protected', cpl: 0, selector: 0x0c, vector: GP, errorCode: 0x0c },
  ],
  ['data segment → #GP(selector)', { mode: 'long', cpl: 0, selector: SEL.data, vector: GP, errorCode: SEL.data }],
  [
    'code of another level → #GP(selector)',
    { mode: 'long', cpl: 3, selector: SEL.code64, vector: GP, errorCode: SEL.code64 },
  ],
  [
    'RPL above CPL → #GP(selector)',
    { mode: 'long', cpl: 0, selector: SEL.code64 | 3, vector: GP, errorCode: SEL.code64 },
  ],
  [
    'conforming code of an outer level → #GP(selector)',
    { mode: 'long', cpl: 0, selector: 0xa0, vector: GP, errorCode: 0xa0 },
  ],
  ['code not present → #NP(selector)', { mode: 'long', cpl: 0, selector: 0xa8, vector: NP, errorCode: 0xa8 }],
  ['L and D set → #GP(selector)', { mode: 'long', cpl: 0, selector: 0xb0, vector: GP, errorCode: 0xb0 }],
  [
    'non-canonical RIP → #GP(0)',
    { mode: 'long', cpl: 0, selector: SEL.code64, offset: NON_CANONICAL, vector: GP, errorCode: 0 },
  ],
  [
    'RIP beyond the limit → #GP(0)',
    { mode: 'protected', cpl: 0, selector: 0xb8, offset: 0x1000n, vector: GP, errorCode: 0 },
  ],
  ['a TSS in IA-32e mode → #GP(selector)', { mode: 'long', cpl: 0, selector: SEL.tss, vector: GP, errorCode: SEL.tss }],
  ['a busy TSS → #GP(selector)', { mode: 'protected', cpl: 0, selector: SEL.tss, vector: GP, errorCode: SEL.tss }],
];

describe.each([
  ['JMP', 5],
  ['CALL', 3],
] as const)('far %s', (_name, extension) => {
  it.each(targets)('%s, state unchanged', (_, { mode, cpl, selector, offset = 0x8100n, vector, errorCode }) => {
    const lab = new Lab(mode, cpl);
    const long = mode === 'long';
    lab.gdt(0xa0, { type: 0x1f, dpl: 3, long });
    lab.gdt(0xa8, { type: 0x1b, long, present: false });
    lab.gdt(0xb0, { type: 0x1b, long, big: true });
    lab.gdt(0xb8, { type: 0x1b, limit: 0xfff });
    const code = indirect(lab, extension, selector, offset);
    const before = lab.snapshot();
    expect(lab.run(code)).toEqual({ outcome: FAULT, vector, errorCode });
    expect(lab.snapshot()).toEqual(before);
  });

  const gates: [string, (lab: Lab) => void, number, number][] = [
    ['gate DPL below CPL → #GP(gate)', (lab) => callGate(lab, SEL.code64, 0x8100n, 0), GP, SEL.free],
    ['gate not present → #NP(gate)', (lab) => callGate(lab, SEL.code64, 0x8100n, 3, 0, false), NP, SEL.free],
    ['null code selector → #GP(0)', (lab) => callGate(lab, 0, 0x8100n), GP, 0],
    ['32-bit code behind a 64-bit gate → #GP(code)', (lab) => callGate(lab, SEL.code32, 0x8100n), GP, SEL.code32],
    ['data behind the gate → #GP(data)', (lab) => callGate(lab, SEL.data, 0x8100n), GP, SEL.data],
    [
      'type bits in the upper half → #GP(gate)',
      (lab) => {
        callGate(lab, SEL.code64, 0x8100n);
        lab.gdt(SEL.free + 8, 0x100n << 32n);
      },
      GP,
      SEL.free,
    ],
  ];
  it.each(gates)('through a 64-bit gate from level 3: %s', (_, prepare, vector, errorCode) => {
    const lab = new Lab('long', 3);
    prepare(lab);
    expect(lab.run(indirect(lab, extension, SEL.free | 3, 0n))).toEqual({ outcome: FAULT, vector, errorCode });
  });
});

describe('far JMP', () => {
  it('to 64-bit code at the same level loads RIP and CS with RPL = CPL', () => {
    const lab = new Lab('long', 3);
    expect(lab.run(indirect(lab, 5, SEL.code64User & ~3, 0x8100n)).outcome).toBe(JUMPED);
    expect(lab.p.rip).toBe(0x8100n);
    expect(lab.p.segments[CS]!.selector).toBe(SEL.code64User);
  });

  it('to conforming code of level 0 keeps CPL 3', () => {
    const lab = new Lab('protected', 3);
    lab.gdt(SEL.free, { type: 0x1f });
    lab.run(`ea ${hex(0x8100, 4)} ${hex(SEL.free, 2)}`);
    expect(lab.p.cpl).toBe(3);
    expect(lab.p.segments[CS]!.selector).toBe(SEL.free | 3);
  });

  it('changes from compatibility to 64-bit mode', () => {
    const lab = new Lab('compat');
    lab.run(`ea ${hex(0x8100, 4)} ${hex(SEL.code64, 2)}`);
    expect(lab.p.mode64).toBe(true);
  });

  it('through a call gate to more privileged non-conforming code → #GP(code)', () => {
    const lab = new Lab('protected', 3);
    callGate(lab, SEL.code32, 0x8100n);
    expect(lab.run(`ea ${hex(0, 4)} ${hex(SEL.free | 3, 2)}`)).toEqual({
      outcome: FAULT,
      vector: GP,
      errorCode: SEL.code32,
    });
  });

  it('in real mode sets the base and leaves the limit', () => {
    const lab = new Lab('real');
    lab.run('ea 10 00 00 09');
    expect(lab.p.rip).toBe(0x10n);
    expect(lab.p.segments[CS]!).toMatchObject({ selector: 0x900, base: 0x9000n, limit: 0xffff });
  });
});

describe('far CALL', () => {
  it('pushes CS and the return address, as wide as the operand', () => {
    const lab = new Lab('long');
    lab.run(indirect(lab, 3, SEL.code64, 0x8100n));
    expect(lab.stack(8, 2)).toEqual([0x8003n, 0x28n]);
    const narrow = new Lab('protected');
    narrow.run(`66 9a ${hex(0x8100, 2)} ${hex(SEL.code32, 2)}`);
    expect(narrow.p.gpr(RSP)).toBe(BigInt(STACK0 - 4));
    expect(narrow.stack(2, 2)).toEqual([0x8006n, 8n]);
  });

  it('a stack that is too small → #SS(0)', () => {
    const lab = new Lab('protected');
    lab.p.segments[SS]!.limit = 0xfff;
    expect(lab.run(`9a ${hex(0x8100, 4)} ${hex(SEL.code32, 2)}`)).toEqual({
      outcome: FAULT,
      vector: SS_FAULT,
      errorCode: 0,
    });
  });

  it('through a 64-bit gate to level 0 switches to RSP0 with a null SS', () => {
    const lab = new Lab('long', 3);
    callGate(lab, SEL.code64, 0x8100n);
    lab.run(indirect(lab, 3, SEL.free | 3, 0n));
    const { p } = lab;
    expect(p.cpl).toBe(0);
    expect(p.rip).toBe(0x8100n);
    expect(p.segments[SS]!.selector).toBe(0);
    expect(lab.stack(8, 4)).toEqual([0x8003n, 0x33n, BigInt(STACK3), 0x23n]);
    expect(p.gpr(RSP)).toBe(BigInt(STACK0 - 32));
  });

  it('through a 32-bit gate copies the parameters in order', () => {
    const lab = new Lab('protected', 3);
    callGate(lab, SEL.code32, 0x8100n, 3, 3);
    lab.push(4, 0x11, 0x22, 0x33);
    lab.run(`9a ${hex(0, 4)} ${hex(SEL.free | 3, 2)}`);
    expect(lab.stack(4, 7)).toEqual([0x8007n, 0x1bn, 0x33n, 0x22n, 0x11n, BigInt(STACK3 - 12), 0x23n]);
  });

  it('through a gate to the same level stays on the stack', () => {
    const lab = new Lab('long');
    callGate(lab, SEL.code64, 0x8100n);
    lab.run(indirect(lab, 3, SEL.free, 0n));
    expect(lab.stack(8, 2)).toEqual([0x8003n, 0x28n]);
  });

  it('with a null SS in the TSS → #TS(0)', () => {
    const lab = new Lab('protected', 3);
    callGate(lab, SEL.code32, 0x8100n);
    lab.tss(BigInt(STACK0), 0);
    const before = lab.snapshot();
    expect(lab.run(`9a ${hex(0, 4)} ${hex(SEL.free | 3, 2)}`)).toEqual({ outcome: FAULT, vector: TS, errorCode: 0 });
    expect(lab.snapshot()).toEqual(before);
  });
});

describe('far RET', () => {
  it('to the same level releases the parameters', () => {
    const lab = new Lab('long');
    lab.push(8, 0, 0, SEL.code64, 0x8100n);
    expect(lab.run('48 ca 10 00').outcome).toBe(JUMPED);
    expect(lab.p.rip).toBe(0x8100n);
    expect(lab.p.gpr(RSP)).toBe(BigInt(STACK0));
  });

  it('to an outer level takes the stack from above the parameters and releases them there too', () => {
    const lab = new Lab('protected');
    lab.push(4, SEL.dataUser, STACK3 - 8, 0x55, 0x66, SEL.code32User, 0x8100);
    expect(lab.run('ca 08 00').outcome).toBe(JUMPED);
    expect(lab.p.cpl).toBe(3);
    expect(lab.p.gpr(RSP)).toBe(BigInt(STACK3));
    expect(lab.p.segments[DS]!.selector).toBe(0);
  });

  const faults: [string, number, bigint, number, number, number][] = [
    ['null CS → #GP(0)', 0, 0x8100n, SEL.dataUser, GP, 0],
    ['an inner level → #GP(selector)', -1, 0x8100n, SEL.dataUser, GP, SEL.code64],
    ['data in CS → #GP(selector)', SEL.dataUser, 0x8100n, SEL.dataUser, GP, 0x20],
    ['null SS for level 3 → #GP(0)', SEL.code64User, 0x8100n, 3, GP, 0],
    ['SS.RPL differs → #GP(selector)', SEL.code64User, 0x8100n, 0x20, GP, 0x20],
    ['non-canonical RIP → #GP(0)', SEL.code64User, NON_CANONICAL, SEL.dataUser, GP, 0],
  ];
  it.each(faults)('%s, state unchanged', (_, cs, rip, ss, vector, errorCode) => {
    const inner = cs < 0;
    const lab = new Lab('long', inner ? 3 : 0);
    lab.push(8, ss, STACK3, inner ? SEL.code64 : cs, rip);
    const before = lab.snapshot();
    expect(lab.run('48 cb')).toEqual({ outcome: FAULT, vector, errorCode });
    expect(lab.snapshot()).toEqual(before);
  });

  it('in real mode pops IP and CS', () => {
    const lab = new Lab('real');
    lab.push(2, 0x900, 0x10);
    lab.run('cb');
    expect(lab.p.rip).toBe(0x10n);
    expect(lab.p.segments[CS]!.base).toBe(0x9000n);
  });
});
