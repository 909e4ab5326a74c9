/** What assemblers call the operations of the tables. */

/** Rows that a name may stand for. */
export interface Meaning {
  readonly mnemonic: string;
  /** Condition code, or -1 where there is none. */
  readonly condition: number;
  /** Operand size that the name asks for, or 0. */
  readonly size: number;
}

const meaning = (mnemonic: string, size = 0, condition = -1): Meaning => ({ mnemonic, size, condition });

/** The condition codes in encoding order. @sdm "EFLAGS Condition Codes" */
const CONDITIONS: readonly string[] = 'O NO B AE E NE BE A S NS P NP L GE LE G'.split(' ');
/** Other spellings of the condition codes. */
const SYNONYMS: Readonly<Record<string, string>> = {
  C: 'B',
  NAE: 'B',
  NB: 'AE',
  NC: 'AE',
  Z: 'E',
  NZ: 'NE',
  NA: 'BE',
  NBE: 'A',
  PE: 'P',
  PO: 'NP',
  NGE: 'L',
  NL: 'GE',
  NG: 'LE',
  NLE: 'G',
};

/** Names with a size in them, or that stand for several operations of the tables. */
const NAMES: Readonly<Record<string, readonly Meaning[]>> = {
  MOV: ['MOV', 'MOV_TO_CR', 'MOV_FROM_CR', 'MOV_TO_DR', 'MOV_FROM_DR', 'MOV_TO_SREG', 'MOV_FROM_SREG'].map((m) =>
    meaning(m),
  ),
  PUSH: [meaning('PUSH'), meaning('PUSH_SREG')],
  POP: [meaning('POP'), meaning('POP_SREG')],
  IMUL: [meaning('IMUL'), meaning('IMUL1')],
  CALL: [meaning('CALL'), meaning('CALLF')],
  JMP: [meaning('JMP'), meaning('JMPF')],
  SAL: [meaning('SHL')],
  CBW: [meaning('CDQE', 16)],
  CWDE: [meaning('CDQE', 32)],
  CDQE: [meaning('CDQE', 64)],
  CWD: [meaning('CDQ', 16)],
  CDQ: [meaning('CDQ', 32)],
  CQO: [meaning('CDQ', 64)],
  IRETW: [meaning('IRET', 16)],
  IRETD: [meaning('IRET', 32)],
  IRETQ: [meaning('IRET', 64)],
  RETFQ: [meaning('RETF', 64)],
  SYSRETQ: [meaning('SYSRET', 64)],
  PUSHFQ: [meaning('PUSHF', 64)],
  POPFQ: [meaning('POPF', 64)],
  PUSHFD: [meaning('PUSHF', 32)],
  POPFD: [meaning('POPF', 32)],
  PUSHAD: [meaning('PUSHA', 32)],
  POPAD: [meaning('POPA', 32)],
  JCXZ: [meaning('JRCXZ')],
  JECXZ: [meaning('JRCXZ')],
  INSB: [meaning('INS')],
  OUTSB: [meaning('OUTS')],
};
const STRINGS = new Set(['MOVS', 'STOS', 'LODS', 'SCAS', 'CMPS']);
const SUFFIX: Readonly<Record<string, number>> = { W: 16, D: 32, Q: 64 };

/** The operations that a name stands for. Without operands, MOVSD is the string instruction. */
export function meaningsOf(name: string, operands: number): readonly Meaning[] {
  const upper = name.toUpperCase();
  const known = NAMES[upper];
  if (known !== undefined) return known;
  const stem = upper.slice(0, -1);
  const size = SUFFIX[upper.slice(-1)];
  if (operands === 0 && size !== undefined && STRINGS.has(stem)) return [meaning(stem, size)];
  for (const prefix of ['CMOV', 'SET', 'J']) {
    if (!upper.startsWith(prefix)) continue;
    const code = upper.slice(prefix.length);
    const condition = CONDITIONS.indexOf(SYNONYMS[code] ?? code);
    if (condition >= 0) return [meaning(prefix, 0, condition)];
  }
  return [meaning(upper)];
}
