import { expect, test } from 'vitest';
import { Random } from '../../util/random.ts';
import { decode } from '../isa/decode.ts';
import '../isa/index.ts';
import { ASSIST } from '../isa/row.ts';
import { generateCold } from './interpreter.ts';
import { shapeKey } from './record.ts';

const COUNT = 20_000;
/** By shape, over all modes: handlers are shared between 16-bit and 32-bit code. */
const codes: Map<string, { readonly code: string; readonly bytes: string }> = new Map();

test.each([16, 32, 64] as const)('%s-bit code: instructions of one shape mean the same generated code', (mode) => {
  const random = new Random(mode);
  const wrong: string[] = [];
  let shared = 0;
  for (let i = 0; i < COUNT; i++) {
    const bytes = Uint8Array.from({ length: 15 }, () => random.u32() & 0xff);
    const kind = random.below(5);
    if (kind === 1) bytes.set([0x0f], 0);
    if (kind === 2) bytes.set([0x66, 0x0f], 0);
    if (kind === 3) bytes.set([0x0f, 0x38], 0);
    const insn = decode(bytes, 0, 15, mode);
    if (typeof insn === 'string' || insn.row.operation.semantics === ASSIST) continue;
    const shaped = { insn, local: false };
    const key = shapeKey(shaped);
    const hex = Buffer.from(bytes).toString('hex');
    const code = Buffer.from(generateCold([[shaped]])).toString('base64');
    const known = codes.get(key);
    if (known === undefined) codes.set(key, { code, bytes: hex });
    else if (known.code === code) shared++;
    else wrong.push(`${insn.row.operation.mnemonic} (${insn.row.text}): ${hex} and ${known.bytes}`);
  }
  expect(wrong).toEqual([]);
  expect(shared).toBeGreaterThan(1000);
});
