/** Differences between two results of a case. */
import type { Insn } from '../../src/machine/isa/insn.ts';
import type { Operation } from '../../src/machine/isa/row.ts';
import type { Case, Result } from './case.ts';

/** RF depends on how the test ended; reserved bits never differ. */
const COMPARED_FLAGS = 0x3f7fd7 & ~0x10000;

const hex = (n: bigint | number): string => n.toString(16);

/** Linux shows user mode all faults in the kernel's half as protection violations. */
const comparableError = (r: Result): number => (r.cr2 >> 47n === 0n ? r.error : r.error | 1);

/** Empty where both agree. @param undefinedFlags not compared */
export function differences(ours: Result, theirs: Result, operation: Operation, undefinedFlags: number): string[] {
  const found: string[] = [];
  if (ours.trap !== theirs.trap) return [`trap ${ours.trap} not ${theirs.trap}`];
  ours.gpr.forEach((value, n) => {
    if (value !== theirs.gpr[n]) found.push(`r${n} ${hex(value)} not ${hex(theirs.gpr[n]!)}`);
  });
  const flags = (ours.flags ^ theirs.flags) & COMPARED_FLAGS & ~undefinedFlags;
  if (flags !== 0) found.push(`flags ${hex(ours.flags)} not ${hex(theirs.flags)} (${hex(flags)})`);
  if (comparableError(ours) !== comparableError(theirs))
    found.push(`error ${hex(ours.error)} not ${hex(theirs.error)}`);
  for (const key of ['rip', 'cr2', 'hash', 'mxcsr', 'top', 'tag'] as const) {
    // ENTER and CALL that fault leave what they have pushed, below the stack pointer.
    if (key === 'hash' && theirs.trap !== 3 && /ENTER|CALL/.test(operation.mnemonic)) continue;
    // The transition to MMX stays when the memory operand faults.
    if ((key === 'top' || key === 'tag') && theirs.trap !== 3 && operation.unit === 'mmx') continue;
    if (ours[key] !== theirs[key]) found.push(`${key} ${hex(ours[key])} not ${hex(theirs[key])}`);
  }
  for (const [name, bytes] of [
    ['xmm', 16],
    ['fpr', 16],
  ] as const) {
    for (let n = 0; n < ours[name].length / bytes; n++) {
      const a = Buffer.from(ours[name].subarray(n * 16, n * 16 + 16)).toString('hex');
      const b = Buffer.from(theirs[name].subarray(n * 16, n * 16 + 16)).toString('hex');
      if (a !== b) found.push(`${name}${n} ${a} not ${b}`);
    }
  }
  return found;
}

/** One line that says what a case was. */
export function describeCase(c: Case, insn: Insn): string {
  const used = c.gpr.map((value, n) => `r${n}=${hex(value)}`).join(' ');
  const code = Buffer.from(c.code).toString('hex');
  const memory = c.memoryAt === 0 ? '' : ` [${hex(c.memoryAt)}]=${Buffer.from(c.memory).toString('hex')}`;
  return `${insn.row.operation.mnemonic} ${code} (${insn.row.text}) flags=${hex(c.flags)} ${used}${memory}`;
}
