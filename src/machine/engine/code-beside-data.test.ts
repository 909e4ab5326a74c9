/** Pages that lose their code often: afterwards only writes into instructions count, and every one of those does. */
import { expect, test } from 'vitest';
import { assemble } from '../isa/assembler/assemble.ts';
import { Machine } from '../machine.ts';
import { reset } from '../processor/reset.ts';
import { HLT, type Processor } from '../processor.ts';
import { runProcessor, STOP } from '../run.ts';

const ORIGIN = 0x8000;

/** Runs 16-bit code at 0:8000h until it halts. */
function run(source: string, translatorThreshold = 50): Processor {
  const machine = new Machine({ processors: 1, ramSize: 0x100000, profile: 'pc', translatorThreshold });
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
