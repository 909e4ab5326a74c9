import { describe, expect, test } from 'vitest';
import '../handlers.ts';
import { runProcessor } from '../run.ts';
import { TestProcessor } from '../system/test-processor.ts';

const bytes = (hex: string): Uint8Array => Uint8Array.from(hex.split(' '), (byte) => Number.parseInt(byte, 16));

describe('a branch that ends with its page and is not taken goes on in the next page', () => {
  // However the stretches of a run are cut: one of them may end right behind the branch.
  test.each([1, 2, 3, 4, 100])('in stretches of %i instructions', (stretch) => {
    const t = new TestProcessor().longMode();
    const { machine, p } = t;
    // cmp eax, eax; jne +16 | inc ecx; jmp $
    machine.memory.writeBytes(0x7ffc, bytes('39 c0 75 10 ff c1 eb fe'));
    // What would be executed if the page began anew.
    machine.memory.writeBytes(0x7000, bytes('ff c2 eb fe'));
    p.rip = 0x7ffcn;
    for (let i = 0; i < 8; i++) runProcessor(p, machine.clock.now() + stretch);
    expect([p.gpr(1), p.gpr(2), p.rip]).toEqual([1n, 0n, 0x8002n]);
  });
});

test('a repetition that ends with its page goes on in the next page', () => {
  const t = new TestProcessor().longMode();
  const { machine, p } = t;
  // rep stosb | inc edx; jmp $
  machine.memory.writeBytes(0x7ffe, bytes('f3 aa ff c2 eb fe'));
  machine.memory.writeBytes(0x7000, bytes('ff c3 eb fe'));
  p.setGpr(1, 3n);
  p.setGpr(7, 0x9000n);
  // The next page has been decoded: what lies behind the table of this one is a record.
  p.rip = 0x8000n;
  runProcessor(p, machine.clock.now() + 4);
  p.rip = 0x7ffen;
  p.setGpr(2, 0n);
  for (let i = 0; i < 8; i++) runProcessor(p, machine.clock.now() + 4);
  expect([p.gpr(1), p.gpr(2), p.gpr(3), p.rip]).toEqual([0n, 1n, 0n, 0x8002n]);
});
