import { expect, test } from 'vitest';
import { Random } from '../../../util/random.ts';
import { decode } from '../decode.ts';
import '../index.ts';
import type { Insn } from '../insn.ts';
import { rows } from '../row.ts';
import { encode, requestOf } from './encode.ts';

/** What a decoded instruction says, without what several encodings of the same thing may differ in. */
const meaning = (insn: Insn): string =>
  JSON.stringify(
    {
      ...insn,
      row: insn.row.operation.mnemonic + insn.row.text,
      length: 0,
      rex: 0,
      segment: insn.memory === null ? insn.segment : 0,
      displacement: insn.operands[0]?.place === 'relative' ? insn.displacement : 0,
    },
    (_, value: unknown) => (typeof value === 'bigint' ? `${value}` : value),
  );

for (const mode of [16, 32, 64] as const) {
  test(`${mode}-bit code: what the decoder finds in random bytes is encoded to the same instruction`, () => {
    const random = new Random(mode);
    const seen = new Set<string>();
    const wrong: string[] = [];
    for (let i = 0; i < 24_000; i++) {
      const bytes = Uint8Array.from({ length: 15 }, () => random.u32() & 0xff);
      const row = random.below(rows.length);
      // Half of the bytes start with the opcode of a row, so that all are met.
      if (i % 2 === 0) bytes.set(opcodeOf(row, random), 0);
      const insn = decode(bytes, 0, 15, mode);
      if (typeof insn === 'string') continue;
      // Useless prefixes are not kept: a branch at the end of its reach may not be encodable without them.
      if (insn.operands[0]?.place === 'relative' && Math.abs(insn.displacement) > 100 && insn.operands[0].width === 8)
        continue;
      const code = encode(requestOf(insn));
      const again = decode(code, 0, code.length, mode);
      if (typeof again === 'string') throw new Error(`${insn.row.text} of ${hex(bytes)}: ${again}`);
      if (meaning(again) !== meaning(insn)) wrong.push(`${insn.row.text} of ${hex(bytes)}`);
      seen.add(`${insn.row.text}${insn.row.opcode}`);
    }
    expect(wrong).toEqual([]);
    expect(seen.size).toBeGreaterThan(700);
  });
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function opcodeOf(n: number, random: Random): number[] {
  const row = rows[n]!;
  const bytes: number[] = [];
  if (row.vex >= 0) {
    const tail =
      (random.u32() & 0xf8 & ~(row.operands.some((o) => 'BH'.includes(o.letter)) ? 0 : 0x78)) |
      (row.operands.some((o) => 'BH'.includes(o.letter)) ? 0 : 0x78) |
      ['NP', '66', 'F3', 'F2'].indexOf(row.prefix);
    bytes.push(0xc4, 0xe0 | row.map, tail, row.opcode);
  } else {
    if (row.prefix === '66') bytes.push(0x66);
    if (row.prefix === 'F3') bytes.push(0xf3);
    if (row.prefix === 'F2') bytes.push(0xf2);
    if (row.rexW === 1) bytes.push(0x48);
    if (row.map > 0) bytes.push(0x0f);
    if (row.map > 1) bytes.push(row.map === 2 ? 0x38 : 0x3a);
    bytes.push(row.opcode);
  }
  if (row.modrm >= 0) bytes.push(row.modrm);
  else if (row.extension >= 0) bytes.push((random.u32() & 0xc7) | (row.extension << 3));
  return bytes;
}
