import { expect, test } from 'vitest';
import { Random } from '../../util/random.ts';
import { decode } from '../isa/decode.ts';
import '../isa/index.ts';
import { type Shaped, shapeKey, shapeVariant } from './record.ts';

test('instructions of one row and variant have one shape, over random bytes (seed 1)', () => {
  const random = new Random(1);
  const shapes = new Map<string, string>();
  let repeated = 0;
  for (let round = 0; round < 200_000; round++) {
    const bytes = Uint8Array.from({ length: 15 }, () => random.below(256));
    // Common prefixes and maps more often than chance has them.
    if (round % 4 === 1) bytes[0] = 0x40 + random.below(16);
    if (round % 8 >= 4) bytes[round % 4 === 1 ? 1 : 0] = 0x0f;
    const insn = decode(bytes, 0, 15, ([16, 32, 64] as const)[random.below(3)]!);
    if (typeof insn === 'string') continue;
    const shaped: Shaped = { insn, local: random.below(2) === 1 };
    const name = `${insn.row.id} ${shapeVariant(shaped)}`;
    const key = shapeKey(shaped);
    const before = shapes.get(name);
    if (before === undefined) shapes.set(name, key);
    else if (before !== key) expect(key, `${insn.row.operation.mnemonic} ${insn.row.text}`).toBe(before);
    else repeated++;
  }
  expect(repeated).toBeGreaterThan(10_000);
});
