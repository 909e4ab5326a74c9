/**
 * Code modes: what decoded and translated code takes for granted of the processor. Each mode has its own tables of decoded
 * code, and the execute entries of a TLB bank are of one mode, so control never comes to code of another one.
 */

export const CODE_MODE = {
  code16: 0,
  /** 32-bit code in a segment with a base or a limit. */
  code32: 1,
  code64: 2,
  /** 32-bit code in a segment of 4 GiB at 0. */
  flatCode32: 3,
  /** That, and ES, SS and DS are such segments too, which may be read and written; the stack pointer is ESP. */
  flat32: 4,
} as const;
export type CodeMode = (typeof CODE_MODE)[keyof typeof CODE_MODE];
export const CODE_MODE_COUNT = 5;

/** Default code size. */
export type CodeSize = 16 | 32 | 64;
export const codeSizeOf = (mode: CodeMode): CodeSize =>
  mode === CODE_MODE.code64 ? 64 : mode === CODE_MODE.code16 ? 16 : 32;

/** Whether hot code is translated: a region knows no base and no limit of its code segment. */
export const isTranslated = (mode: CodeMode): boolean => mode >= CODE_MODE.code64;
