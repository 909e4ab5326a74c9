/**
 * The loops of a reducible region.
 *
 * Where a region is entered in the middle of a nest, the inner and the outer loop have the same header. They are told apart by their
 * latches (the blocks that go back to the header): a latch whose loop lies within the others' is a loop of its own.
 */
import type { Block, Region } from './region.ts';

export interface Loop {
  readonly header: Block;
  readonly latches: readonly Block[];
  readonly body: ReadonlySet<Block>;
  /** The smallest loop around this one, or null. */
  readonly outer: Loop | null;
}

export class Loops {
  readonly #byHeader: Map<Block, Loop[]> = new Map();
  readonly #innermost: Map<Block, Loop> = new Map();

  constructor(region: Region) {
    if (!region.reducible) return;
    // Outer loops have earlier headers, so the last loop that has a block is its innermost.
    for (const header of region.order) {
      if (!header.isLoop) continue;
      const loops: Loop[] = [];
      for (const { latches, body } of nested(header)) {
        const loop = { header, latches, body, outer: this.#innermost.get(header) ?? null };
        loops.push(loop);
        for (const block of body) this.#innermost.set(block, loop);
      }
      this.#byHeader.set(header, loops);
    }
  }

  /** The loops with a header, outermost first. */
  at(header: Block): readonly Loop[] {
    return this.#byHeader.get(header) ?? [];
  }

  /** The innermost loop that has a block. */
  around(block: Block): Loop | undefined {
    return this.#innermost.get(block);
  }

  /** The loop that a block goes back in to its header. */
  ofLatch(latch: Block, header: Block): Loop {
    return this.at(header).find(({ latches }) => latches.includes(latch))!;
  }
}

interface Draft {
  latches: Block[];
  body: Set<Block>;
}

/** The loops of one header by their latches, outermost first; those that do not lie within one another are one. */
function nested(header: Block): Draft[] {
  const drafts: Draft[] = [];
  const latches = header.predecessors.filter((p) => p.index >= header.index);
  const all = latches.map((latch) => ({ latches: [latch], body: bodyOf(header, latch) }));
  for (const draft of all.sort((a, b) => a.body.size - b.body.size)) {
    const inner = drafts.at(-1);
    if (inner === undefined || liesWithin(inner.body, draft.body)) drafts.push(draft);
    else {
      inner.latches.push(...draft.latches);
      for (const block of draft.body) inner.body.add(block);
    }
  }
  return drafts.reverse();
}

/** Whether a loop lies within another and is not all of it. */
function liesWithin(inner: ReadonlySet<Block>, outer: ReadonlySet<Block>): boolean {
  if (inner.size >= outer.size) return false;
  for (const block of inner) if (!outer.has(block)) return false;
  return true;
}

function bodyOf(header: Block, latch: Block): Set<Block> {
  const body = new Set([header]);
  const pending = [latch];
  while (pending.length > 0) {
    const block = pending.pop()!;
    if (body.has(block)) continue;
    body.add(block);
    pending.push(...block.predecessors);
  }
  return body;
}
