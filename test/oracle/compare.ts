/** Differences between two results of a case, and what of a result counts. */
import type { Insn } from '../../src/machine/isa/insn.ts';
import type { Operation } from '../../src/machine/isa/row.ts';
import { type Case, type Result, upperHalves } from './case.ts';

/** RF depends on how the test ended. */
const COMPARED_FLAGS = 0x3f7fd7 & ~0x10000;
const DONE = 3;

const hex = (n: bigint | number): string => n.toString(16);

/** The result without what depends on more than the processor, and without flags that are undefined if so wished. */
export function comparable(r: Result, operation: Operation, undefinedFlags: number): Result {
  const faulted = r.trap !== DONE;
  return {
    ...r,
    // POPA loads registers until one faults.
    gpr: faulted && operation.mnemonic === 'POPA' ? [] : r.gpr,
    flags: r.flags & COMPARED_FLAGS & ~undefinedFlags,
    // Linux shows user mode all faults in the kernel's half as protection violations.
    error: r.cr2 >> 47n === 0n ? r.error : r.error | 1,
    // ENTER and CALL that fault leave what they have pushed, below the stack pointer.
    hash: faulted && /ENTER|CALL/.test(operation.mnemonic) ? 0 : r.hash,
    // The transition to MMX stays when the memory operand faults.
    top: faulted && operation.unit === 'mmx' ? 0 : r.top,
    tag: faulted && operation.unit === 'mmx' ? 0 : r.tag,
  };
}

/** Where two comparable results differ; empty where they agree. */
export function differences(ours: Result, theirs: Result): string[] {
  const found: string[] = [];
  if (ours.trap !== theirs.trap) return [`vector ${ours.trap} not ${theirs.trap}`];
  ours.gpr.forEach((value, n) => {
    if (value !== theirs.gpr[n]) found.push(`r${n} ${hex(value)} not ${hex(theirs.gpr[n]!)}`);
  });
  for (const key of ['flags', 'rip', 'error', 'cr2', 'hash', 'mxcsr', 'top', 'tag'] as const) {
    if (ours[key] !== theirs[key]) found.push(`${key} ${hex(ours[key])} not ${hex(theirs[key])}`);
  }
  for (const name of ['xmm', 'fpr', 'ymm'] as const) {
    for (let n = 0; n < ours[name].length / 16; n++) {
      const [a, b] = [ours, theirs].map((r) => Buffer.from(r[name].subarray(n * 16, n * 16 + 16)).toString('hex'));
      if (a !== b) found.push(`${name}${n} ${a} not ${b}`);
    }
  }
  return found;
}

/** 32 bits that stand for a comparable result of a case. Upper halves of YMM registers count where they have changed. */
export function digest(r: Result, c: Case): number {
  let h = 0x811c9dc5;
  const mix = (value: number): void => {
    h = Math.imul(h ^ value, 0x01000193);
    h = (h << 13) | (h >>> 19);
  };
  const mix64 = (value: bigint): void => {
    mix(Number(value & 0xffff_ffffn));
    mix(Number(value >> 32n));
  };
  r.gpr.forEach(mix64);
  for (const value of [r.flags, r.trap, r.error, r.hash, r.mxcsr, r.top, r.tag]) mix(value);
  mix64(r.rip);
  mix64(r.cr2);
  r.xmm.forEach(mix);
  r.fpr.forEach(mix);
  const upper = upperHalves(c.xmm);
  if (r.ymm.some((byte, i) => byte !== upper[i])) r.ymm.forEach(mix);
  return h >>> 0;
}

/** One line that says what a case was. */
export function describeCase(c: Case, insn: Insn): string {
  const used = c.gpr.map((value, n) => `r${n}=${hex(value)}`).join(' ');
  const code = Buffer.from(c.code).toString('hex');
  const memory = c.memoryAt === 0 ? '' : ` [${hex(c.memoryAt)}]=${Buffer.from(c.memory).toString('hex')}`;
  return `${insn.row.operation.mnemonic} ${code} (${insn.row.text}) flags=${hex(c.flags)} ${used}${memory}`;
}
