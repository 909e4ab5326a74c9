/**
 * The instruction table: one row per encoding, written in the SDM's opcode-map notation.
 *
 *   [NP|NR|66|F3|F2] [VEX.L0|VEX.L1|VEX.LIG] [REX.W|W0] [0F|0F38|0F3A] OP[+r|+cc] [=MODRM] [/n] [mem|reg] [operands] [; 64|no64]
 *
 *   NP  none of 66, F3, F2     NR  no F3 or F2; 66 is an operand size prefix
 *   E  register or memory by ModRM.rm      G  register by ModRM.reg      Z  register in the opcode
 *   M  memory only   R  register by rm     I  immediate   J  branch target   O  memory at an absolute offset   A  far pointer
 *   S C D  segment, control, debug register by reg      B  register by VEX.vvvv
 *   V W U H  XMM by reg, XMM or memory, XMM by rm, XMM by vvvv     P Q N  MMX likewise      T  ST(i) by rm     X Y  string source, destination
 *   L  XMM by bits 7:4 of an immediate byte     K  memory with a vector index (VSIB)
 *   b w d q  8, 16, 32, 64 bits     v  16/32/64 by operand size     z  the same, at most 32     y  32/64 by REX.W
 *   s  (after I) sign-extended byte     dq  128     qq  256     t  80     p  far pointer in memory     x  no access of its own
 *
 * @sdm "Key to Abbreviations" of the opcode map
 */
import type { Cpu } from './cpu.ts';

export type Semantics = (cpu: Cpu) => void;

/** How an instruction ends a run; 'next' falls through, 'system' may change the mode or RIP in TypeScript. */
export type Flow = 'next' | 'jump' | 'branch' | 'call' | 'indirect' | 'return' | 'system';

export interface Operation {
  readonly mnemonic: string;
  /** How operand 0 is used: r for CMP, w for MOV, rw for ADD. */
  readonly dst: 'r' | 'w' | 'rw';
  /** How operand 1 is used (XCHG, XADD write it). */
  readonly src: 'r' | 'w' | 'rw';
  /** Status flags that are always written, and those read: a check of what effects.ts derives. */
  readonly writes: number;
  readonly reads: number;
  /** Flags the SDM leaves undefined (they count as written). */
  readonly undefinedFlags: number;
  readonly flow: Flow;
  /** In 64-bit mode the operand size is 64 without REX.W; 66 makes it 16. */
  readonly default64: boolean;
  /** In 64-bit mode the operand size is 64 whatever the prefixes say. */
  readonly force64: boolean;
  /** LOCK is legal on a memory destination. */
  readonly lock: boolean;
  /** Accesses memory even without a memory operand (PUSH, MOVS). */
  readonly implicitMemory: boolean;
  /** String instruction: an F3/F2 prefix repeats it. */
  readonly string: boolean;
  /** Register file that must be available: CR0.EM, CR0.TS and CR4.OSFXSR, or XCR0, are checked before anything else. */
  readonly unit: '' | 'x87' | 'mmx' | 'sse' | 'avx';
  /** CPUID feature that gates it, '' for the baseline. */
  readonly feature: string;
  readonly semantics: Semantics;
}

export interface OperandSpec {
  readonly letter: string;
  readonly size: string;
  /** Of 'fixed'. */
  readonly register: number;
  readonly file: 'gpr' | 'xmm' | 'segment';
}

export interface Row {
  readonly id: number;
  readonly operation: Operation;
  /** 0 one-byte, 1 0F, 2 0F38, 3 0F3A */
  readonly map: 0 | 1 | 2 | 3;
  readonly opcode: number;
  readonly prefix: '' | 'NP' | 'NR' | '66' | 'F3' | 'F2';
  /** -1 for legacy encodings, else VEX.L, 2 where that is ignored. */
  readonly vex: -1 | 0 | 1 | 2;
  readonly rexW: -1 | 0 | 1;
  /** ModRM.reg as opcode extension, or -1. */
  readonly extension: number;
  /** The whole ModRM byte as opcode, or -1. */
  readonly modrm: number;
  readonly form: 'any' | 'mem' | 'reg';
  readonly hasModrm: boolean;
  readonly operands: readonly OperandSpec[];
  readonly condition: number;
  readonly only: 'all' | '64' | 'no64';
  /** The line it came from, for tests and documentation. */
  readonly text: string;
}

/** All rows, in the order they were defined. */
export const rows: Row[] = [];

export type Traits = Partial<Omit<Operation, 'mnemonic' | 'semantics'>>;

/** Semantics of an operation that TypeScript performs (isa/handlers.ts). */
export const ASSIST: Semantics = (cpu) => cpu.assist();

const LINE =
  /^(?:(NP|NR|66|F3|F2) )?(?:VEX\.L([01]|IG) )?(?:(REX\.W|W0) )?(?:(0F38|0F3A|0F) )?([0-9A-F]{2})(\+r|\+cc)?(?: =([0-9A-F]{2}))?(?: ?\/(\d))?(?: (mem|reg))?(?: +([^;\s]+))?\s*(?:; ?(64|no64))?$/;
const MAPS: Record<string, 0 | 1 | 2 | 3> = { '': 0, '0F': 1, '0F38': 2, '0F3A': 3 };
const MODRM_LETTERS = 'EGMRSCDVWUPQNTK';

/** Adds an operation with its encodings, one per line. */
export function define(mnemonic: string, traits: Traits, encodings: string, semantics: Semantics): void {
  const operation: Operation = {
    mnemonic,
    dst: 'rw',
    src: 'r',
    writes: 0,
    reads: 0,
    undefinedFlags: 0,
    flow: 'next',
    default64: false,
    force64: false,
    lock: false,
    implicitMemory: false,
    string: false,
    unit: '',
    feature: '',
    ...traits,
    semantics,
  };
  for (const text of encodings
    .split('\n')
    .map((l) => l.trim())
    .filter(Boolean)) {
    const match = LINE.exec(text);
    if (match === null) throw new Error(`bad encoding: ${text}`);
    const [, prefix, l, w, map, opcode, suffix, modrm, extension, form, operands, only] = match;
    const specs = operands === undefined ? [] : operands.split(',').map(operandSpec);
    for (let i = 0; i < (suffix === '+r' ? 8 : suffix === '+cc' ? 16 : 1); i++) {
      rows.push({
        id: rows.length,
        operation,
        map: MAPS[map ?? '']!,
        opcode: Number.parseInt(opcode!, 16) + i,
        prefix: (prefix ?? '') as Row['prefix'],
        vex: l === undefined ? -1 : l === 'IG' ? 2 : (Number(l) as 0 | 1),
        rexW: w === undefined ? -1 : w === 'W0' ? 0 : 1,
        extension: extension === undefined ? -1 : Number(extension),
        modrm: modrm === undefined ? -1 : Number.parseInt(modrm, 16),
        form: (form ?? 'any') as Row['form'],
        hasModrm:
          extension !== undefined ||
          modrm !== undefined ||
          form !== undefined ||
          specs.some((s) => MODRM_LETTERS.includes(s.letter)),
        operands: specs,
        condition: suffix === '+cc' ? i : 0,
        only: (only ?? 'all') as Row['only'],
        text,
      });
    }
  }
}

const FIXED: Record<string, OperandSpec> = {
  AL: { letter: 'fixed', size: 'b', register: 0, file: 'gpr' },
  CL: { letter: 'fixed', size: 'b', register: 1, file: 'gpr' },
  DX: { letter: 'fixed', size: 'w', register: 2, file: 'gpr' },
  rAX: { letter: 'fixed', size: 'v', register: 0, file: 'gpr' },
  eAX: { letter: 'fixed', size: 'z', register: 0, file: 'gpr' },
  XMM0: { letter: 'fixed', size: 'dq', register: 0, file: 'xmm' },
  ES: { letter: 'fixed', size: 'w', register: 0, file: 'segment' },
  CS: { letter: 'fixed', size: 'w', register: 1, file: 'segment' },
  SS: { letter: 'fixed', size: 'w', register: 2, file: 'segment' },
  DS: { letter: 'fixed', size: 'w', register: 3, file: 'segment' },
  FS: { letter: 'fixed', size: 'w', register: 4, file: 'segment' },
  GS: { letter: 'fixed', size: 'w', register: 5, file: 'segment' },
};

function operandSpec(text: string): OperandSpec {
  const fixed = FIXED[text];
  if (fixed !== undefined) return fixed;
  if (text === 'Ibs') return { letter: 'I', size: 's', register: -1, file: 'gpr' };
  if (!/^[EGMRIZJOASCDBVWUHLKPQNTXY](?:b|w|d|q|v|z|y|s|dq|qq|t|p|x)$/.test(text))
    throw new Error(`bad operand: ${text}`);
  return { letter: text[0]!, size: text.slice(1), register: -1, file: 'gpr' };
}
