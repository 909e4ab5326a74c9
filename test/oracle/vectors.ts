/**
 * The recorded vectors: for each row of the instruction table, digests of what a real processor made of the cases that the
 * row's own seed generates. Rows that come or go do not disturb the others.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Row } from '../../src/machine/isa/row.ts';
import { type GeneratedCase, Generator, testableRows } from './generate.ts';

export const vectorFile = (mode: 32 | 64): string => join(import.meta.dirname, `vectors/user-mode-${mode}.txt`);
const CASES_PER_ROW = 8;

/** Names a row in the file. */
export const rowKey = (row: Row): string =>
  `${row.operation.mnemonic} ${row.opcode.toString(16)} ${row.text.replaceAll(/\s+/g, ' ')}`;

function seedOf(text: string): number {
  let h = 0x811c9dc5;
  for (const c of text) h = Math.imul(h ^ c.charCodeAt(0), 0x01000193);
  return h >>> 0;
}

/** The cases of a row, always the same. Dice that come to no valid encoding, or to that of another operation, are skipped. */
export function casesOf(row: Row, mode: 32 | 64, count: number = CASES_PER_ROW, salt = ''): GeneratedCase[] {
  const generator = new Generator(seedOf(rowKey(row) + salt), mode);
  const made: GeneratedCase[] = [];
  for (let tries = 0; made.length < count && tries < count * 8; tries++) {
    const found = generator.make(row);
    if (found !== null && found.insn.row.operation === row.operation) made.push(found);
  }
  return made;
}

/** Digests by row, or undefined for a row that has not been recorded. */
export function readVectors(mode: 32 | 64): ReadonlyMap<string, Uint32Array> {
  const vectors = new Map<string, Uint32Array>();
  for (const line of readFileSync(vectorFile(mode), 'utf8').split('\n')) {
    const [key, digests] = line.split('\t');
    if (digests === undefined) continue;
    const bytes = Uint8Array.from(Buffer.from(digests, 'base64'));
    vectors.set(key!, new Uint32Array(bytes.buffer));
  }
  return vectors;
}

export const formatVectors = (vectors: ReadonlyMap<string, Uint32Array>): string =>
  [...vectors].map(([key, digests]) => `${key}\t${Buffer.from(digests.buffer).toString('base64')}\n`).join('');

/** Rows in the order of the table, without the repetitions of rows that stand for several opcodes. */
export const vectorRows = (mode: 32 | 64): readonly Row[] => [
  ...new Map(testableRows(mode).map((row) => [rowKey(row), row])).values(),
];
