/**
 * Alignment checks of data accesses at level 3, with CR0.AM and RFLAGS.AC set.
 *
 * A value of 2, 4 or 8 bytes must lie on a multiple of its size. Larger operands say what they need themselves; vectors of 16
 * and 32 bytes are not checked here: those that must be aligned are so at any time (#GP). The check comes after the canonical
 * form and before the page tables, as real processors have it.
 * @sdm "Alignment Check Exception (#AC)"
 */
import { AC } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import { type PrivilegeClass, USER_CHECKED } from './tlb-context.ts';

/** What a value of `size` bytes needs. */
export const naturalAlignment = (size: number): number => (size === 2 || size === 4 || size === 8 ? size : 1);

/** Whether an access faults: then #AC(0) is raised. @param alignment a power of 2 */
export function misaligned(p: Processor, cls: PrivilegeClass, low: number, alignment: number): boolean {
  if (cls !== USER_CHECKED || (low & (alignment - 1)) === 0) return false;
  p.raise(AC, 0);
  return true;
}
