/** Descriptors as two 32-bit words. @sdm "Segment Descriptors" */

/** Access rights as segment registers have them, of the upper word. */
export const attributesOf = (upper: number): number => (upper >>> 8) & 0xf0ff;

export function baseOf(lower: number, upper: number): number {
  return ((lower >>> 16) | ((upper & 0xff) << 16) | (upper & 0xff00_0000)) >>> 0;
}

/** In bytes. */
export function limitOf(lower: number, upper: number): number {
  const pages = (lower & 0xffff) | (upper & 0xf_0000);
  return upper & 0x80_0000 ? ((pages << 12) | 0xfff) >>> 0 : pages;
}
