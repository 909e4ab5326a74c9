/** Which blocks reach each other. */
import type { Block } from './region.ts';

/** The different blocks that follow a block. */
export function successors(block: Block): Set<Block> {
  const found = new Set<Block>();
  for (const edge of block.edges) if (edge.block !== null) found.add(edge.block);
  return found;
}

/**
 * All blocks that can be reached, with equal numbers for those that reach each other.
 * Reference: R. Tarjan, "Depth-first search and linear graph algorithms".
 */
export function findCycles(
  from: Iterable<Block>,
  next: (block: Block) => Iterable<Block> = successors,
): Map<Block, number> {
  const cycles = new Map<Block, number>();
  const numbers = new Map<Block, number>();
  const open: Block[] = [];
  const visit = (block: Block): number => {
    const own = numbers.size;
    numbers.set(block, own);
    open.push(block);
    const reached = [...next(block)].map((to) => (cycles.has(to) ? own : (numbers.get(to) ?? visit(to))));
    const lowest = Math.min(own, ...reached);
    if (lowest === own) for (const member of open.splice(open.indexOf(block))) cycles.set(member, own);
    return lowest;
  };
  for (const block of from) if (!numbers.has(block)) visit(block);
  return cycles;
}
