/** Moves and gathers of the lanes whose mask sign is set. Lanes that are not moved cannot fault. @sdm "VMASKMOV", "VPMASKMOV", "VGATHERDPS", "VPGATHERDD" */
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { checkWritable, loadLinear, storeLinear } from '../mmu/access.ts';
import { DONE, type Outcome } from '../outcome.ts';
import { effectiveAddress, linearOf } from '../processor/operands.ts';
import type { Processor } from '../processor.ts';
import { readLanes, writeLanes, writeVexRegister } from './lanes.ts';

/** Processors check no alignment of these lanes. */
const UNCHECKED = 1;

const isSet = (mask: bigint, bits: number): boolean => ((mask >> BigInt(bits - 1)) & 1n) !== 0n;

/** Linear address of bytes at an offset from the memory operand; undefined with p.outcome set. */
function address(p: Processor, insn: Insn, offset: bigint, size: number, write: boolean): bigint | undefined {
  return linearOf(p, insn.memory!.segment, BigInt.asUintN(insn.addressSize, offset), size, write);
}

function load(p: Processor, insn: Insn, bits: 32 | 64): Outcome {
  const masks = readLanes(p, insn, 1, bits)!;
  const start = effectiveAddress(p, insn);
  const result: bigint[] = [];
  for (const [i, mask] of masks.entries()) {
    if (!isSet(mask, bits)) {
      result.push(0n);
      continue;
    }
    const from = address(p, insn, start + BigInt((i * bits) / 8), bits / 8, false);
    const value = from === undefined ? undefined : loadLinear(p, from, bits / 8, false, UNCHECKED);
    if (value === undefined) return p.outcome;
    result.push(value);
  }
  const bytes = new Uint8Array((masks.length * bits) / 8);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of result.entries()) {
    if (bits === 32) view.setUint32(i * 4, Number(value), true);
    else view.setBigUint64(i * 8, value, true);
  }
  writeVexRegister(p, insn.operands[0]!.register, bytes);
  return DONE;
}

function store(p: Processor, insn: Insn, bits: 32 | 64): Outcome {
  const masks = readLanes(p, insn, 1, bits)!;
  const values = readLanes(p, insn, 2, bits)!;
  const start = effectiveAddress(p, insn);
  const writes: [at: bigint, value: bigint][] = [];
  for (const [i, mask] of masks.entries()) {
    if (!isSet(mask, bits)) continue;
    const at = address(p, insn, start + BigInt((i * bits) / 8), bits / 8, true);
    if (at === undefined) return p.outcome;
    const writable = checkWritable(p, at, bits / 8, false, UNCHECKED);
    if (writable !== DONE) return writable;
    writes.push([at, values[i]!]);
  }
  // all checks passed
  for (const [at, value] of writes) {
    const stored = storeLinear(p, at, bits / 8, value, false, UNCHECKED);
    if (stored !== DONE) return stored;
  }
  return DONE;
}

for (const [mnemonic, bits] of [
  ['VMASKMOVPS', 32],
  ['VMASKMOVPD', 64],
  ['VPMASKMOVD', 32],
  ['VPMASKMOVQ', 64],
] as const) {
  implement(mnemonic, (p, insn) => (insn.operands[0]!.place === 'memory' ? store(p, insn, bits) : load(p, insn, bits)));
}

/**
 * Gathers: lane by lane, each of which clears its mask, so that after a fault the instruction goes on where it was. At the end
 * the mask is all zeros, and so are destination and mask above the lanes.
 */
function gather(p: Processor, insn: Insn, bits: 32 | 64, indexBits: 32 | 64): Outcome {
  const [target, , maskOperand] = insn.operands;
  const { base, index, scale, disp } = insn.memory!;
  const length = insn.row.vex === 1 ? 256 : 128;
  const count = length / Math.max(bits, indexBits);
  const lanesOf = (register: number, width: 32 | 64): bigint[] =>
    readLanes(p, { ...insn, operands: [{ ...target!, register, width: 256 }] }, 0, width)!;
  const indexes = lanesOf(index, indexBits);
  const masks = lanesOf(maskOperand!.register, bits).slice(0, count);
  const result = lanesOf(target!.register, bits).slice(0, count);
  const ones = (1n << BigInt(bits)) - 1n;
  const finish = (): void => {
    writeLanes(p, { ...insn, row: { ...insn.row, operands: [] } }, 0, bits, result);
    writeLanes(p, { ...insn, row: { ...insn.row, operands: [] } }, 2, bits, masks);
  };
  for (let i = 0; i < count; i++) masks[i] = isSet(masks[i]!, bits) ? ones : 0n;
  const origin = (base < 0 ? 0n : p.gpr(base)) + BigInt(disp);
  for (let i = 0; i < count; i++) {
    if (masks[i] === 0n) continue;
    const offset = origin + (BigInt.asIntN(indexBits, indexes[i]!) << BigInt(scale));
    const from = address(p, insn, offset, bits / 8, false);
    const value = from === undefined ? undefined : loadLinear(p, from, bits / 8, false, UNCHECKED);
    if (value === undefined) {
      const { outcome } = p;
      if (i > 0) finish();
      return outcome;
    }
    result[i] = value;
    masks[i] = 0n;
  }
  finish();
  return DONE;
}

for (const [mnemonic, bits, indexBits] of [
  ['VPGATHERDD', 32, 32],
  ['VPGATHERDQ', 64, 32],
  ['VPGATHERQD', 32, 64],
  ['VPGATHERQQ', 64, 64],
  ['VGATHERDPS', 32, 32],
  ['VGATHERDPD', 64, 32],
  ['VGATHERQPS', 32, 64],
  ['VGATHERQPD', 64, 64],
] as const) {
  implement(mnemonic, (p, insn) => gather(p, insn, bits, indexBits));
}
