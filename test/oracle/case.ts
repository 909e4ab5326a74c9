/**
 * One test of one instruction: the state before and after. Layouts of tools/oracle/run-native.c.
 *
 * Code lies at 0x100000 between INT3s; three data pages at 0x200000, the third read-only; nothing else is mapped.
 */

export const CODE = 0x100000;
export const CODE_SIZE = 0x10000;
export const DATA = 0x200000;
export const DATA_SIZE = 0x3000;
export const INPUT_BYTES = 584;
export const OUTPUT_BYTES = 816;

export interface Case {
  readonly gpr: bigint[];
  flags: number;
  readonly rip: number;
  readonly mode: 32 | 64;
  /** Of the data pages' contents. */
  readonly seed: number;
  readonly mxcsr: number;
  /** TOP of the x87 stack. */
  readonly top: number;
  /** Where `memory` overrides the data, 0 for nowhere. */
  memoryAt: number;
  readonly memory: Uint8Array;
  readonly code: Uint8Array;
  readonly xmm: Uint8Array;
  /** R0 to R7, 16 bytes each, 10 of them used. */
  readonly fpr: Uint8Array;
}

export interface Result {
  readonly gpr: readonly bigint[];
  readonly flags: number;
  readonly rip: bigint;
  /** Vector that ended the test: 3 when the instruction completed. */
  readonly trap: number;
  /** Error code, 0 for vectors without one. */
  readonly error: number;
  /** Of a page fault, else 0. */
  readonly cr2: bigint;
  readonly hash: number;
  readonly mxcsr: number;
  readonly top: number;
  /** Abridged x87 tag word. */
  readonly tag: number;
  readonly xmm: Uint8Array;
  readonly fpr: Uint8Array;
  /** Upper halves of YMM registers. */
  readonly ymm: Uint8Array;
}

/** Before a test the upper half of each YMM register is the lower one with its quadwords exchanged. */
export const upperHalves = (xmm: Uint8Array): Uint8Array => xmm.map((_, i) => xmm[i ^ 8]!);

/** The contents of the data pages before a test. */
export function fillData(c: Case, data: Uint8Array): void {
  const words = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let i = 0; i < DATA_SIZE / 4; i++) {
    const x = Math.imul(c.seed + i, 0x9e3779b1);
    words.setInt32(i * 4, x ^ (x >>> 15), true);
  }
  if (c.memoryAt !== 0) data.set(c.memory, c.memoryAt - DATA);
}

export function hashData(data: Uint8Array): number {
  const words = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let h = 0x811c9dc5;
  for (let i = 0; i < DATA_SIZE / 4; i++)
    h = Math.imul((h << 5) | (h >>> 27), 0x01000193) ^ words.getInt32(i * 4, true);
  return h >>> 0;
}

/** A case as the native runner reads it. */
export function writeCase(c: Case, to: Uint8Array): void {
  const view = new DataView(to.buffer, to.byteOffset, to.byteLength);
  for (let i = 0; i < 16; i++) view.setBigUint64(i * 8, c.gpr[i]!, true);
  view.setBigUint64(128, BigInt(c.flags), true);
  view.setBigUint64(136, BigInt(c.rip), true);
  [c.seed, c.mxcsr, c.code.length, c.top | (c.mode === 32 ? 0x100 : 0)].forEach((word, i) => {
    view.setUint32(144 + i * 4, word, true);
  });
  view.setBigUint64(160, BigInt(c.memoryAt), true);
  to.set(c.memory, 168);
  to.set(c.code, 184);
  to.set(c.xmm, 200);
  to.set(c.fpr, 456);
}

/** What the native runner says about a case. */
export function readResult(from: Uint8Array): Result {
  const view = new DataView(from.buffer, from.byteOffset, from.byteLength);
  const trap = view.getUint32(144, true);
  return {
    gpr: Array.from({ length: 16 }, (_, i) => view.getBigUint64(i * 8, true)),
    flags: Number(view.getBigUint64(128, true)),
    rip: view.getBigUint64(136, true),
    trap,
    error: view.getUint32(148, true),
    cr2: view.getBigUint64(152, true),
    hash: view.getUint32(160, true),
    mxcsr: view.getUint32(164, true),
    top: (view.getUint32(168, true) >> 11) & 7,
    tag: view.getUint32(172, true),
    xmm: from.slice(176, 432),
    fpr: from.slice(432, 560),
    ymm: from.slice(560, 816),
  };
}
