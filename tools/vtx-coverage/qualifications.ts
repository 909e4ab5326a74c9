/**
 * What exit qualifications can say, for the reasons that have several things to say. @sdm "Exit Qualification"
 */
import { REASON } from '../../src/machine/vtx/reasons.ts';

/** One thing that a qualification can say. */
export interface Meaning {
  readonly reason: keyof typeof REASON;
  readonly text: string;
  readonly holds: (qualification: bigint) => boolean;
}

/** A field of the qualification, from `bit` up, that has `values`. */
const field = (
  reason: keyof typeof REASON,
  bit: number,
  width: number,
  values: Readonly<Record<number, string>>,
): Meaning[] =>
  Object.entries(values).map(([value, text]) => ({
    reason,
    text,
    holds: (q) => ((q >> BigInt(bit)) & ((1n << BigInt(width)) - 1n)) === BigInt(value),
  }));

const flag = (reason: keyof typeof REASON, bit: number, text: string): Meaning => ({
  reason,
  text,
  holds: (q) => ((q >> BigInt(bit)) & 1n) !== 0n,
});

const CR_ACCESS = { 0: 'MOV to CR', 1: 'MOV from CR', 2: 'CLTS', 3: 'LMSW' };
const APIC_ACCESS = {
  0: 'linear access: read',
  1: 'linear access: write',
  2: 'linear access: fetch',
  3: 'linear access: event delivery',
  10: 'guest-physical access: event delivery',
  15: 'guest-physical access: fetch or execution',
};

export const MEANINGS: readonly Meaning[] = [
  flag('EXCEPTION_OR_NMI', 14, '#DB: single step'),
  flag('EXCEPTION_OR_NMI', 13, '#DB: access to a debug register (BD)'),
  flag('EXCEPTION_OR_NMI', 0, '#DB: breakpoint 0 (B0)'),
  { reason: 'EXCEPTION_OR_NMI', text: '#PF: linear address', holds: (q) => q > 0xffffn },
  ...field('TASK_SWITCH', 30, 2, { 0: 'CALL', 1: 'IRET', 2: 'JMP', 3: 'task gate in the IDT' }),
  ...field('CR_ACCESS', 4, 2, CR_ACCESS),
  ...[0, 3, 4, 8].map(
    (n): Meaning => ({
      reason: 'CR_ACCESS',
      text: `CR${n}`,
      holds: (q) => (q & 15n) === BigInt(n) && ((q >> 4n) & 3n) < 2n,
    }),
  ),
  { reason: 'CR_ACCESS', text: 'LMSW with a memory operand', holds: (q) => ((q >> 4n) & 7n) === 7n },
  ...field('MOV_DR', 4, 1, { 0: 'MOV to DR', 1: 'MOV from DR' }),
  ...field('IO', 0, 3, { 0: '1 byte', 1: '2 bytes', 3: '4 bytes' }),
  ...field('IO', 3, 1, { 0: 'OUT', 1: 'IN' }),
  flag('IO', 4, 'string instruction'),
  flag('IO', 5, 'REP'),
  ...field('IO', 6, 1, { 0: 'port in DX', 1: 'port in the instruction' }),
  ...field('MWAIT', 0, 1, { 0: 'monitor not armed', 1: 'monitor armed' }),
  ...field('APIC_ACCESS', 12, 4, APIC_ACCESS),
  flag('EPT_VIOLATION', 0, 'read'),
  flag('EPT_VIOLATION', 1, 'write'),
  flag('EPT_VIOLATION', 2, 'fetch'),
  ...field('EPT_VIOLATION', 3, 3, { 0: 'not present', 5: 'page that may be read and executed' }),
  ...field('EPT_VIOLATION', 7, 2, { 1: 'access to a paging structure', 3: 'access to the translated address' }),
  flag('EPT_VIOLATION', 12, 'NMI unblocking by IRET'),
];

/** Qualifications of failed entries. @sdm "VM-Entry Failures During or After Loading Guest State" */
export const FAILED_ENTRIES: readonly (readonly [key: string, text: string])[] = [
  [`${REASON.INVALID_GUEST_STATE} 0`, 'invalid guest state'],
  [`${REASON.INVALID_GUEST_STATE} 2`, 'invalid guest state: PDPTE'],
  [`${REASON.INVALID_GUEST_STATE} 4`, 'invalid guest state: VMCS link pointer'],
  [`${REASON.MSR_LOADING} 1`, 'MSR loading: first entry'],
  [`${REASON.MSR_LOADING} 2`, 'MSR loading: a later entry'],
];

/** Of the architecture, and not in the tables: the machine does not have what they belong to. */
export const NOT_MODELLED: readonly string[] = [
  'Exit reasons 5 and 6 (SMI), 65 (PCONFIG), 66 (SPP), 69 (LOADIWKEY), 72 and 73 (ENQCMD), 74 (bus lock), 75 (notify): neither SMM nor these controls exist.',
  'VMfail numbers 17 to 25: the dual-monitor treatment of SMM.',
  'Control bits that the tables do not name are reserved here: setting one is VMfailValid(7), which the checks of the control words cover.',
];
