import { beforeEach, describe, expect, test } from 'vitest';
import '../handlers.ts';
import { FCW, FDP, FIP, FOP, FSW, FTAG, FTOP } from '../engine/layout.ts';
import { TestProcessor } from '../system/test-processor.ts';
import { read, readRaw } from './registers.ts';

const DATA = 0x8000;
const RDI = 7;
const ONE = 0x3fff_8000_0000_0000_0000n;
const INDEFINITE = 0xffff_c000_0000_0000_0000n;
let t: TestProcessor;

const run = (...code: string[]): void => {
  for (const hex of code) expect(t.outcome(hex), hex).toBe('done');
};
const status = (): number => t.p.read16(FSW);

beforeEach(() => {
  t = new TestProcessor().longMode();
  t.p.setGpr(RDI, BigInt(DATA));
  run('db e3');
});

describe('the stack', () => {
  test('FLD pushes, FSTP pops', () => {
    run('d9 e8', 'd9 ee');
    expect([t.p.read8(FTOP), t.p.read8(FTAG)]).toEqual([6, 0xc0]);
    expect([readRaw(t.p, 0), readRaw(t.p, 1)]).toEqual([0n, ONE]);
    run('db 3f');
    expect([t.p.read8(FTOP), t.p.read8(FTAG)]).toEqual([7, 0x80]);
  });

  test('the ninth push overflows: #IS with C1, and the default NaN', () => {
    for (let i = 0; i < 8; i++) run('d9 e8');
    expect(status()).toBe(0);
    run('d9 e8');
    expect(status()).toBe(0x241);
    expect(readRaw(t.p, 0)).toBe(INDEFINITE);
  });

  test('an empty register underflows: #IS without C1', () => {
    run('d9 e8', 'd8 c1');
    expect(status()).toBe(0x41);
    expect(readRaw(t.p, 0)).toBe(INDEFINITE);
  });
});

describe('pending exceptions', () => {
  beforeEach(() => {
    t.p.write16(FCW, 0x37b); // division by zero unmasked
    run('d9 e8', 'd9 ee', 'de f9');
  });

  test('are reported by the next waiting instruction, not by the one that raised them', () => {
    expect(status()).toBe(0x8084);
    expect(t.outcome('d9 e8')).toBe('#16');
    expect(t.outcome('9b')).toBe('#16');
    expect(t.outcome('d9 2f')).toBe('#16');
  });

  test('leave operands, opcode and pointer as the instruction found them', () => {
    expect([readRaw(t.p, 0), readRaw(t.p, 1)]).toEqual([0n, ONE]);
    expect(t.p.read64(FIP)).toBe(t.p.rip);
  });

  test('do not keep FNSTENV and FNSAVE from running, which mask or clear them', () => {
    run('d9 37');
    expect([t.p.read16(FCW), status()]).toEqual([0x37f, 4]);
    run('dd 37');
    expect([t.p.read16(FCW), status(), t.p.read8(FTAG)]).toEqual([0x37f, 0, 0]);
  });

  test('vanish from the summary when FLDENV masks them', () => {
    const { memory } = t.machine;
    run('d9 37');
    expect(memory.read16(DATA)).toBe(0x37b);
    run('d9 27');
    expect(status() & 0x8080).toBe(0x8080);
  });
});

describe('environment images', () => {
  beforeEach(() => {
    run('d9 e8', 'd9 ee');
    t.p.write64(FIP, 0x12_3456n);
    t.p.write64(FDP, 0x65_4321n);
    t.p.write16(FOP, 0x5ab);
  });
  const words = (count: number): string =>
    Array.from({ length: count }, (_, i) => t.machine.memory.read16(DATA + i * 2).toString(16)).join(' ');
  /** Tags: R7 valid, R6 zero, the rest empty. */
  const TAGS = '1fff';

  test('32-bit protected form', () => {
    run('d9 37');
    expect(words(14)).toBe(`37f ffff 3000 ffff ${TAGS} ffff 3456 12 0 5ab 4321 65 0 ffff`);
  });

  test('16-bit protected form', () => {
    run('66 d9 37');
    expect(words(7)).toBe(`37f 3000 ${TAGS} 3456 0 4321 0`);
  });

  test('real-mode forms hold linear pointers and the opcode', () => {
    t.p.cr0 &= ~1;
    run('d9 37');
    expect(words(14)).toBe(
      `37f ffff 3000 ffff ${TAGS} ffff 3456 ffff 25ab 1 4321 ffff 5000 6`.replace('5000 6', '5000 6'),
    );
    run('66 d9 37');
    expect(words(7)).toBe(`37f 3000 ${TAGS} 3456 25ab 4321 5000`);
  });

  test('FRSTOR brings back what FNSAVE has stored', () => {
    run('dd 37');
    expect([t.p.read8(FTAG), t.p.read64(FIP)]).toEqual([0, 0n]);
    run('dd 27');
    expect([readRaw(t.p, 0), readRaw(t.p, 1), t.p.read8(FTAG), t.p.read8(FTOP)]).toEqual([0n, ONE, 0xc0, 6]);
    expect([t.p.read64(FIP), t.p.read64(FDP), t.p.read16(FOP)]).toEqual([0x12_3456n, 0x65_4321n, 0x5ab]);
  });
});

test('faulting stores change neither stack nor status', () => {
  run('d9 e8', 'd9 eb');
  t.p.setGpr(RDI, 0x4000_0000n);
  expect(t.outcome('d9 1f')).toMatch(/^#14/);
  expect([t.p.read8(FTOP), status()]).toEqual([6, 0]);
  expect(read(t.p, 0).exponent).toBe(1);
});

test('FSIN of a number beyond 2^63 says so and does nothing', () => {
  t.machine.memory.write64(DATA, 0x8000_0000_0000_0000n);
  t.machine.memory.write16(DATA + 8, 0x403e);
  run('db 2f', 'd9 fe');
  expect(status() & 0x400).toBe(0x400);
  expect(readRaw(t.p, 0)).toBe(0x403e_8000_0000_0000_0000n);
});
