/**
 * Descriptors in long mode as two 32-bit words, through TLB entries that are there: for the common transfers, which have to be
 * quick. What is not at hand, or not simple, is somebody else's.
 */
import { TLB_READ } from '../../engine/layout.ts';
import { lookUp } from '../../mmu/access.ts';
import { halves, splitLinear } from '../../mmu/halves.ts';
import type { PrivilegeClass } from '../../mmu/tlb-context.ts';
import type { DescriptorTable, Processor, Segment } from '../../processor.ts';

/** Where `size` bytes at a linear address lie if one read entry leads to all of them, else 0. */
export function findRead(p: Processor, cls: PrivilegeClass, low: number, high: number, size: number): number {
  return (low & 0xfff) + size > 4096 ? 0 : lookUp(p.mmu, cls, TLB_READ, low, high);
}

/** Where `size` bytes at an offset of a table or a TSS lie, else 0; also where they are beyond its limit. */
export function findInTable(p: Processor, table: DescriptorTable, offset: number, size: number): number {
  if (offset + size - 1 > table.limit) return 0;
  splitLinear(table.base);
  const low = halves[0]! + offset;
  return low > 0xffff_ffff ? 0 : findRead(p, p.mmu.implicitClass, low, halves[1]!, size);
}

/** Where the descriptor of a selector of the GDT lies, else 0. */
export function findDescriptor(p: Processor, selector: number): number {
  return selector & 4 || selector < 4 ? 0 : findInTable(p, p.gdtr, selector & 0xfff8, 8);
}

/** Access rights as segment registers have them, of the upper word of a descriptor. */
export const attributesOf = (upper: number): number => (upper >>> 8) & 0xf0ff;

/** The segment that two words describe. */
export function segmentOfWords(selector: number, lower: number, upper: number): Segment {
  return {
    selector,
    base: BigInt(baseOf(lower, upper)),
    limit: limitOf(lower, upper),
    attributes: attributesOf(upper),
  };
}

/** Whether a segment register holds what the two words describe. */
export function describes(lower: number, upper: number, segment: Segment): boolean {
  return (
    attributesOf(upper) === segment.attributes &&
    limitOf(lower, upper) === segment.limit &&
    baseOf(lower, upper) === Number(segment.base)
  );
}

function baseOf(lower: number, upper: number): number {
  return ((lower >>> 16) | ((upper & 0xff) << 16) | (upper & 0xff00_0000)) >>> 0;
}

function limitOf(lower: number, upper: number): number {
  const pages = (lower & 0xffff) | (upper & 0xf_0000);
  return upper & 0x80_0000 ? ((pages << 12) | 0xfff) >>> 0 : pages;
}
