/** Runs oracle cases through isa/evaluate.ts, on the state of an emulated machine that otherwise stands still. */
import { decode } from '../../src/machine/isa/decode.ts';
import { type Evaluation, type EvaluationContext, evaluate } from '../../src/machine/isa/evaluate.ts';
import { STATUS } from '../../src/machine/isa/flags.ts';
import type { Insn } from '../../src/machine/isa/insn.ts';
import { type Case, DATA, DATA_SIZE } from './case.ts';
import type { Emulated } from './emulated.ts';

const WRITABLE = DATA + DATA_SIZE - 0x1000;
/** More iterations than a generated REP has. */
const MAX_ITERATIONS = 1000;

/** The machine's state as the evaluator wants it; memory is the data pages. */
function contextOf(emulated: Emulated, rip: bigint): EvaluationContext {
  const { p, data } = emulated;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const within = (linear: bigint, size: number, end: number): boolean =>
    linear >= BigInt(DATA) && linear + BigInt(size) <= BigInt(end);
  const bytes = (address: number, size: number): Uint8Array =>
    p.stateBlock().subarray(address - 0x1000, address - 0x1000 + size);
  const toValue = (from: Uint8Array): bigint => from.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  const put = (to: Uint8Array, value: bigint): void => {
    for (let i = 0; i < to.length; i++) to[i] = Number((value >> BigInt(8 * i)) & 0xffn);
  };
  const memory = (linear: bigint, size: number): Uint8Array => {
    const at = view.byteOffset + Number(linear) - DATA;
    return new Uint8Array(view.buffer, at, size);
  };
  return {
    rip,
    gpr: (n) => p.gpr(n),
    setGpr: (n, value) => p.setGpr(n, value),
    statusFlags: () => p.rflags & STATUS,
    setStatusFlags: (word) => {
      p.rflags = (p.rflags & ~STATUS) | word;
    },
    setRip: (value) => {
      p.rip = value;
    },
    readState: (address, size) => toValue(bytes(address, size)),
    writeState: (address, size, value) => put(bytes(address, size), value),
    read: (linear, size, willWrite) =>
      within(linear, size, willWrite ? WRITABLE : DATA + DATA_SIZE) ? toValue(memory(linear, size)) : undefined,
    writable: (linear, size) => within(linear, size, WRITABLE),
    write: (linear, size, value) => put(memory(linear, size), value),
    timestamp: () => 0n,
  };
}

/** Prepares the case and evaluates its instruction, repetitions to their end. */
export function evaluateCase(emulated: Emulated, c: Case): { readonly insn: Insn; readonly evaluation: Evaluation } {
  emulated.userMode(c.mode);
  emulated.prepare(c);
  const insn = decode(c.code, 0, c.code.length, c.mode);
  if (typeof insn === 'string') throw new Error(insn);
  const rip = BigInt(c.rip);
  emulated.p.rip = rip;
  let evaluation: Evaluation = { kind: 'done' };
  for (let n = 0; n < MAX_ITERATIONS && emulated.p.rip === rip && evaluation.kind === 'done'; n++)
    evaluation = evaluate(insn, contextOf(emulated, rip));
  emulated.machine.memory.fill(c.rip, c.code.length, 0xcc);
  return { insn, evaluation };
}
