/**
 * A small assembler in NASM's manner, from the same tables as everything else: test guests and the td-shim are written in it.
 *
 *   bits 16|32|64     org ADDRESS     align N     NAME equ EXPRESSION     NAME:
 *   db dw dd dq EXPRESSION|"text", …              times N STATEMENT       ; comment
 *   [lock|rep|repe|repne] MNEMONIC [short|near|far] [byte|word|dword|qword] OPERAND, …
 */
import { evaluateExpression } from './expression.ts';
import { parseOperand } from './operand.ts';
import { select } from './select.ts';
import '../index.ts';

export interface Assembled {
  /** Address of the first byte. */
  readonly origin: bigint;
  readonly bytes: Uint8Array;
  readonly labels: ReadonlyMap<string, bigint>;
}

const DATA: Readonly<Record<string, number>> = { db: 1, dw: 2, dd: 4, dq: 8 };
const MAX_PASSES = 12;

/** Assembles a text; throws a SyntaxError with the line's number. */
export function assemble(source: string, bits: 16 | 32 | 64 = 64, origin = 0n): Assembled {
  let labels = new Map<string, bigint>();
  for (let pass = 0; pass < MAX_PASSES; pass++) {
    const result = new Pass(source, bits, origin, labels, pass === 0).run();
    const settled = result.labels.size === labels.size && [...labels].every(([k, v]) => result.labels.get(k) === v);
    if (settled && pass > 0) return result;
    labels = new Map(result.labels);
  }
  throw new SyntaxError('the addresses do not settle');
}

class Pass {
  readonly #lines: readonly string[];
  readonly #known: ReadonlyMap<string, bigint>;
  /** Unknown names are forgiven: their statements come later. */
  readonly #first: boolean;
  readonly #labels: Map<string, bigint> = new Map();
  readonly #chunks: { readonly address: bigint; readonly bytes: Uint8Array }[] = [];
  #mode: 16 | 32 | 64;
  #address: bigint;

  constructor(source: string, mode: 16 | 32 | 64, origin: bigint, known: ReadonlyMap<string, bigint>, first: boolean) {
    this.#lines = source.split('\n');
    this.#mode = mode;
    this.#address = origin;
    this.#known = known;
    this.#first = first;
  }

  run(): Assembled {
    this.#lines.forEach((line, n) => {
      try {
        this.#line(withoutComment(line));
      } catch (error) {
        if (error instanceof SyntaxError) throw new SyntaxError(`line ${n + 1}: ${error.message}`);
        throw error;
      }
    });
    const origin = this.#chunks.reduce((low, c) => (c.address < low ? c.address : low), this.#chunks[0]?.address ?? 0n);
    const end = this.#chunks.reduce((high, c) => Math.max(high, Number(c.address - origin) + c.bytes.length), 0);
    const bytes = new Uint8Array(end);
    for (const chunk of this.#chunks) bytes.set(chunk.bytes, Number(chunk.address - origin));
    return { origin, bytes, labels: this.#labels };
  }

  #names = (name: string): bigint | undefined => {
    if (name === '$') return this.#address;
    // Until everything has an address, what is unknown is taken to be near.
    return this.#known.get(name) ?? this.#labels.get(name) ?? (this.#first ? this.#address : undefined);
  };
  #value(text: string): bigint {
    return evaluateExpression(text, this.#names);
  }

  #line(text: string): void {
    const constant = /^\s*(\w+)\s+equ\s+(.*)$/i.exec(text);
    if (constant !== null) {
      this.#labels.set(constant[1]!, this.#value(constant[2]!));
      return;
    }
    const label = /^\s*([A-Za-z_.][\w.]*)\s*:(?!:)(.*)$/.exec(text);
    if (label !== null && !/^(es|cs|ss|ds|fs|gs)$/i.test(label[1]!)) {
      if (this.#labels.has(label[1]!)) throw new SyntaxError(`${label[1]} is there twice`);
      this.#labels.set(label[1]!, this.#address);
      this.#line(label[2]!);
      return;
    }
    if (text.trim() !== '') this.#statement(text.trim());
  }

  #statement(text: string): void {
    const [, word, rest] = /^(\S+)\s*(.*)$/s.exec(text)!;
    const lower = word!.toLowerCase();
    const size = DATA[lower];
    if (size !== undefined) return this.#emit(split(rest!).flatMap((item) => this.#data(item, size)));
    switch (lower) {
      case 'bits':
        this.#mode = Number(rest) as 16 | 32 | 64;
        return;
      case 'org':
        this.#address = this.#value(rest!);
        return;
      case 'align': {
        const to = this.#value(rest!);
        return this.#emit(new Array<number>(Number((to - (this.#address % to)) % to)).fill(0));
      }
      case 'times': {
        const [, count, repeated] = /^(\S+)\s+(.*)$/.exec(rest!)!;
        for (let n = this.#value(count!); n > 0n; n--) this.#statement(repeated!);
        return;
      }
    }
    this.#instruction(text);
  }

  #data(item: string, size: number): number[] {
    const string = /^"(.*)"$/.exec(item);
    if (string !== null) return [...new TextEncoder().encode(string[1])];
    const value = BigInt.asUintN(size * 8, this.#value(item));
    return Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
  }

  #instruction(text: string): void {
    let rest = text;
    let lock = false;
    let rep: 'none' | 'rep' | 'repne' = 'none';
    for (;;) {
      const prefix = /^(lock|repe|repz|repne|repnz|rep)\s+/i.exec(rest);
      if (prefix === null) break;
      const name = prefix[1]!.toLowerCase();
      if (name === 'lock') lock = true;
      else rep = name.startsWith('repn') ? 'repne' : 'rep';
      rest = rest.slice(prefix[0].length);
    }
    const [, mnemonic, distance, operands] = /^(\S+)\s*(?:(short|near|far)\s+)?(.*)$/i.exec(rest)!;
    const parsed = split(operands!).map((operand) => parseOperand(operand, this.#names));
    const statement = {
      mnemonic: mnemonic!,
      operands: parsed,
      mode: this.#mode,
      address: this.#address,
      lock,
      rep,
      distance: (distance ?? '').toLowerCase(),
    };
    this.#emit(select(statement));
  }

  #emit(bytes: ArrayLike<number>): void {
    this.#chunks.push({ address: this.#address, bytes: Uint8Array.from(bytes) });
    this.#address += BigInt(bytes.length);
  }
}

/** Cuts at commas outside strings and brackets. */
const split = (text: string): string[] =>
  text.trim() === '' ? [] : (text.match(/(?:"[^"]*"|'[^']*'|\[[^\]]*\]|[^,"'[])+/g) ?? []).map((part) => part.trim());

const withoutComment = (line: string): string => /^(?:"[^"]*"|'[^']*'|[^;"'])*/.exec(line)![0];
