/**
 * Makes control flow reducible by copies: where a loop is entered at several places, what runs from the other places on until the
 * loop's header is copied, and the copies go on into the loop.
 * Reference: J. Janssen and H. Corporaal, "Making graphs reducible with controlled node splitting", TOPLAS 1997.
 */
import { findCycles, successors } from './cycles.ts';
import type { Block } from './region.ts';

/** Copies blocks until every loop behind `entry` is entered at one place. False if that takes more than so many instructions. */
export function makeReducible(entry: Block, mostInsns: number): boolean {
  const graph = new Set(findCycles([entry]).keys());
  return new Splitter(graph, mostInsns).split(graph, entry);
}

class Splitter {
  readonly #graph: Set<Block>;
  #left: number;

  constructor(graph: Set<Block>, mostInsns: number) {
    this.#graph = graph;
    this.#left = mostInsns;
  }

  /** @param header of the loop that the blocks are of: what goes back to it makes no loop of theirs */
  split(blocks: ReadonlySet<Block>, header: Block): boolean {
    const within = (block: Block): Block[] => [...successors(block)].filter((to) => to !== header && blocks.has(to));
    const loops = new Map<number, Set<Block>>();
    for (const [block, n] of findCycles(blocks, within)) loops.set(n, (loops.get(n) ?? new Set()).add(block));
    for (const loop of loops.values()) {
      if (loop.size === 1) continue;
      const entries = this.#entriesOf(loop);
      const inner = entries.length === 1 ? entries[0]! : cheapest(loop, entries);
      if (entries.length > 1) {
        const copies = this.#copy(loop, entries, inner);
        if (copies === null || !this.split(copies, header)) return false;
      }
      if (!this.split(loop, inner)) return false;
    }
    return true;
  }

  #entriesOf(loop: ReadonlySet<Block>): Block[] {
    const entries = new Set<Block>();
    for (const block of this.#graph) {
      if (loop.has(block)) continue;
      for (const to of successors(block)) if (loop.has(to)) entries.add(to);
    }
    return [...entries];
  }

  /** Copies what runs from the entries on until the header; control comes from outside to the copies. */
  #copy(loop: ReadonlySet<Block>, entries: readonly Block[], header: Block): Set<Block> | null {
    const originals = before(loop, entries, header);
    this.#left -= insnsOf(originals);
    if (this.#left < 0) return null;
    const copies = new Map<Block, Block>();
    for (const block of originals) copies.set(block, { ...block, predecessors: [], children: [] });
    const toCopies = (block: Block): void => {
      block.edges = block.edges.map((edge) => ({ ...edge, block: copies.get(edge.block!) ?? edge.block }));
    };
    for (const block of this.#graph) if (!loop.has(block)) toCopies(block);
    for (const copy of copies.values()) {
      toCopies(copy);
      this.#graph.add(copy);
    }
    return new Set(copies.values());
  }
}

/** What runs from the entries of a loop on until its header. */
function before(loop: ReadonlySet<Block>, entries: readonly Block[], header: Block): Set<Block> {
  const blocks = new Set(entries);
  blocks.delete(header);
  for (const block of blocks) for (const to of successors(block)) if (to !== header && loop.has(to)) blocks.add(to);
  return blocks;
}

/** The entry that as header takes the fewest copies. */
function cheapest(loop: ReadonlySet<Block>, entries: readonly Block[]): Block {
  const costs = entries.map((entry) => insnsOf(before(loop, entries, entry)));
  return entries[costs.indexOf(Math.min(...costs))]!;
}

function insnsOf(blocks: Iterable<Block>): number {
  let insns = 0;
  for (const { steps } of blocks) insns += steps.length;
  return insns;
}
