/** Handlers over four 32-bit words or sixteen bytes of XMM registers. */
import { DONE } from '../outcome.ts';
import { firstSource, implementBoth, readBytes, writeVexRegister } from './lanes.ts';

/** A 128-bit value as little-endian words. */
export const wordsOf = (bytes: Uint8Array): Uint32Array => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  return Uint32Array.of(
    view.getUint32(0, true),
    view.getUint32(4, true),
    view.getUint32(8, true),
    view.getUint32(12, true),
  );
};

/** dst = compute(dst, src, immediate) on bytes; the destination is an XMM register. The VEX form has a first source of its own. */
export function implementBytes(
  mnemonic: string,
  compute: (dst: Uint8Array, src: Uint8Array, immediate: number, xmm0: Uint8Array) => Uint8Array,
): void {
  implementBoth(mnemonic, (p, insn) => {
    const first = firstSource(insn);
    const src = readBytes(p, insn, first + 1);
    if (src === undefined) return p.outcome;
    const { register } = insn.operands[0]!;
    const a = p.xmm(insn.operands[first]!.register).slice();
    const result = compute(a, src, Number(insn.immediate & 0xffn), p.xmm(0));
    if (insn.row.vex >= 0) writeVexRegister(p, register, result);
    else p.xmm(register).set(result);
    return DONE;
  });
}

/** dst = compute(dst, src, immediate) on words. */
export function implementWords(
  mnemonic: string,
  compute: (dst: Uint32Array, src: Uint32Array, immediate: number, xmm0: Uint32Array) => ArrayLike<number>,
): void {
  implementBytes(mnemonic, (dst, src, immediate, xmm0) => {
    const out = new Uint8Array(16);
    const view = new DataView(out.buffer);
    const words = compute(wordsOf(dst), wordsOf(src), immediate, wordsOf(xmm0));
    for (let i = 0; i < 4; i++) view.setUint32(i * 4, words[i]! >>> 0, true);
    return out;
  });
}
