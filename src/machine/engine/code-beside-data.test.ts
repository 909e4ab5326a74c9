/** Pages that lose their code often: afterwards only writes into instructions count, and every one of those does. */
import { expect, test } from 'vitest';
import { Random } from '../../util/random.ts';
import { assemble } from '../isa/assembler/assemble.ts';
import { Machine } from '../machine.ts';
import { reset } from '../processor/reset.ts';
import { HLT, type Processor } from '../processor.ts';
import { runProcessor, STOP } from '../run.ts';

const ORIGIN = 0x8000;

/** Runs 16-bit code at 0:8000h until it halts. @param coarse each write drops all code of the page */
function run(source: string, translatorThreshold = 50, coarse = false): Processor {
  const machine = new Machine({ processors: 1, ramSize: 0x100000, profile: 'pc', translatorThreshold });
  const { engine } = machine;
  if (coarse) engine.pageWritten = (page) => engine.pages.pageWritten(page);
  const p = machine.processors[0]!;
  machine.activate(p);
  reset(p);
  machine.memory.writeBytes(ORIGIN, assemble(source, 16, BigInt(ORIGIN)).bytes);
  Object.assign(p.segments[1]!, { selector: 0, base: 0n });
  p.syncSegments();
  p.rip = BigInt(ORIGIN);
  p.setGpr(4, 0x7000n);
  expect(runProcessor(p, 1e8)).toBe(STOP.idle);
  expect(p.activity).toBe(HLT);
  return p;
}

/** Makes the page lose its code until it is looked at closely: a counter lies in it. */
const WARM_UP = `
  mov cx, 100
warm:
  inc word [counter]
  loop warm
  jmp start
counter: dw 0
start:`;

test.each([1, 50, 60000])('data beside the code changes, and the code stays right (threshold %i)', (threshold) => {
  const p = run(
    `${WARM_UP}
    mov cx, 30000
    xor bx, bx
  again:
    inc word [counter]
    add bx, 3
    loop again
    mov ax, [counter]
    hlt`,
    threshold,
  );
  expect(p.gpr32(0)).toBe(30100);
  expect(p.gpr32(3)).toBe(90000 & 0xffff);
  expect(p.machine.engine.counters.slowAccesses).toBeGreaterThan(1000);
});

test.each([1, 50, 60000])('an instruction that is written is executed as written (threshold %i)', (threshold) => {
  const p = run(
    `${WARM_UP}
    mov cx, 500
    xor bx, bx
  again:
    mov [patched + 2], cx
    nop
  patched:
    add bx, 0x1234
    loop again
    hlt`,
    threshold,
  );
  expect(p.gpr32(3)).toBe(125250 & 0xffff);
});

test('so is one whose last byte is written, and one that was none', () => {
  const p = run(`${WARM_UP}
    xor dx, dx
    xor bx, bx
    call patched
    mov byte [patched + 2], 2
    call patched
    mov word [no_instruction], 0x9090
    call behind
    hlt
  patched:
    mov ax, 0x0111
    add bx, ax
    ret
  behind:
    inc dx
  no_instruction:
    db 0x0f, 0x0b
    ret`);
  expect(p.gpr32(3)).toBe(0x111 + 0x211);
  expect(p.gpr32(2) & 0xffff).toBe(1);
});

test('so is one that ends in the next page', () => {
  const p = run(`
    mov cx, 100
  warm:
    inc word [counter]
    call next
    loop warm
    xor bx, bx
    call crossing
    add bx, [0x3000]
    mov byte [0x9000], 5
    call crossing
    add bx, [0x3000]
    hlt
    times (0x8ffb-$) nop
  crossing:
    mov dword [0x3000], 0x77
  next:
    ret
  counter: dw 0`);
  expect(p.gpr32(3)).toBe(0x77 + 5);
});

test.each([1, 2, 3, 4])(
  'random code that changes itself does the same as where each change drops the page (seed %i)',
  (seed) => {
    const random = new Random(seed);
    const pick = (...of: string[]): string => of[random.below(of.length)]!;
    const targets = Array.from({ length: 24 }, (_, n) => n);
    const lines = targets.map((n) => {
      const immediate = `${pick('add', 'xor', 'sub', 'adc')} ${pick('bx', 'dx', 'si')}, 0x${(0x1000 + random.below(0xe000)).toString(16)}`;
      const filler = pick('nop', 'inc di', 'rol dx, 1', 'jmp short $ + 2', 'mov ax, bx');
      const target = random.below(targets.length);
      // The immediate is in the last two bytes; the last one decides what follows least often.
      const patch = pick(
        `mov [i${target} + 2], bl`,
        `mov [i${target} + 3], dl`,
        `mov [i${target} + 2], si`,
        'nop',
        'nop',
      );
      return `${filler}\ni${n}: ${immediate}\n${patch}`;
    });
    const source = `${WARM_UP}\nmov cx, 400\nagain:\n${lines.join('\n')}\ndec cx\njz over\njmp near again\nover: hlt`;
    const state = (p: Processor) =>
      [0, 1, 2, 3, 6, 7].map((n) => p.gpr(n)).concat([BigInt(p.machine.clock.instructions)]);
    const expected = state(run(source, 60000, true));
    for (const threshold of [1, 20, 60000]) expect(state(run(source, threshold))).toEqual(expected);
  },
);
