/** Operands of assembly text: registers, memory, immediates, far pointers. */
import type { RegisterFile } from '../insn.ts';
import { evaluateExpression, type Names } from './expression.ts';

export type ParsedOperand =
  | {
      readonly kind: 'register';
      readonly file: RegisterFile;
      readonly register: number;
      readonly width: number;
      readonly high: boolean;
    }
  | {
      readonly kind: 'memory';
      /** -1 for none. */
      readonly base: number;
      readonly index: number;
      readonly scale: number;
      readonly disp: bigint;
      /** `rel`: the displacement is an address, to be reached from RIP. */
      readonly relative: boolean;
      /** Override, or -1. */
      readonly segment: number;
      /** Size keyword in bits, or 0. */
      readonly size: number;
      /** Width of the registers in the address, or 0 if there are none. */
      readonly addressSize: number;
    }
  | { readonly kind: 'immediate'; readonly value: bigint; readonly size: number }
  | { readonly kind: 'far'; readonly selector: bigint; readonly offset: bigint; readonly size: number };

type Register = Extract<ParsedOperand, { kind: 'register' }>;

const SIZES: Readonly<Record<string, number>> = {
  byte: 8,
  word: 16,
  dword: 32,
  qword: 64,
  tword: 80,
  oword: 128,
  xmmword: 128,
  ymmword: 256,
};
const SEGMENTS = ['es', 'cs', 'ss', 'ds', 'fs', 'gs'];

function registerNames(): Map<string, Register> {
  const names = new Map<string, Register>();
  const add = (name: string, file: RegisterFile, register: number, width: number, high = false): void =>
    void names.set(name, { kind: 'register', file, register, width, high });
  const low = ['ax', 'cx', 'dx', 'bx', 'sp', 'bp', 'si', 'di'];
  low.forEach((name, n) => {
    add(name, 'gpr', n, 16);
    add(`e${name}`, 'gpr', n, 32);
    add(`r${name}`, 'gpr', n, 64);
  });
  for (const [n, name] of ['al', 'cl', 'dl', 'bl', 'spl', 'bpl', 'sil', 'dil'].entries()) add(name, 'gpr', n, 8);
  for (const [n, name] of ['ah', 'ch', 'dh', 'bh'].entries()) add(name, 'gpr', n, 8, true);
  for (let n = 8; n < 16; n++) {
    add(`r${n}`, 'gpr', n, 64);
    add(`r${n}d`, 'gpr', n, 32);
    add(`r${n}w`, 'gpr', n, 16);
    add(`r${n}b`, 'gpr', n, 8);
  }
  for (let n = 0; n < 16; n++) {
    add(`xmm${n}`, 'xmm', n, 128);
    add(`ymm${n}`, 'xmm', n, 256);
    add(`cr${n}`, 'control', n, 64);
    add(`dr${n}`, 'debug', n, 64);
  }
  for (let n = 0; n < 8; n++) {
    add(`mm${n}`, 'mmx', n, 64);
    add(`st${n}`, 'st', n, 80);
  }
  for (const [n, name] of SEGMENTS.entries()) add(name, 'segment', n, 16);
  return names;
}
const REGISTERS = registerNames();

/** Parses one operand. */
export function parseOperand(text: string, names: Names): ParsedOperand {
  let rest = text.trim();
  let size = 0;
  const keyword = /^(byte|word|dword|qword|tword|oword|xmmword|ymmword)(\s+ptr)?(?=[\s[])/i.exec(rest);
  if (keyword !== null) {
    size = SIZES[keyword[1]!.toLowerCase()]!;
    rest = rest.slice(keyword[0].length).trim();
  }
  const register = REGISTERS.get(rest.toLowerCase());
  if (register !== undefined) return register;
  const memory = /^(?:(es|cs|ss|ds|fs|gs)\s*:\s*)?\[(.*)\]$/i.exec(rest);
  if (memory !== null) {
    const inner = /^\s*(es|cs|ss|ds|fs|gs)\s*:(.*)$/i.exec(memory[2]!);
    const segment = (memory[1] ?? inner?.[1] ?? '').toLowerCase();
    return parseMemory(inner?.[2] ?? memory[2]!, SEGMENTS.indexOf(segment), size, names);
  }
  const far = /^(.+):(.+)$/.exec(rest);
  if (far !== null) {
    const [selector, offset] = [far[1]!, far[2]!].map((part) => evaluateExpression(part, names));
    return { kind: 'far', selector: selector!, offset: offset!, size };
  }
  return { kind: 'immediate', value: evaluateExpression(rest, names), size };
}

function parseMemory(text: string, segment: number, size: number, names: Names): ParsedOperand {
  const relative = /^\s*rel\s+/i.test(text);
  let base = -1,
    index = -1,
    scale = 0,
    addressSize = 0;
  const constants: string[] = [];
  for (const part of text.replace(/^\s*rel\s+/i, '').match(/[+-]?(?:\([^()]*\)|[^+()-])+/g) ?? []) {
    const term = part.replace(/^\s*\+/, '').trim();
    const scaled = /^(\w+)\s*\*\s*([1248])$/.exec(term);
    const register = REGISTERS.get((scaled?.[1] ?? term).toLowerCase());
    if (register === undefined) constants.push(part);
    else {
      addressSize = register.width;
      // The stack pointer can only be a base.
      if (scaled === null && (base < 0 || register.register === 4)) {
        if (base >= 0) index = base;
        base = register.register;
      } else {
        index = register.register;
        scale = Math.log2(Number(scaled?.[2] ?? 1));
      }
    }
  }
  const disp = constants.length === 0 ? 0n : evaluateExpression(constants.join(''), names);
  return { kind: 'memory', base, index, scale, disp, relative, segment, size, addressSize };
}
