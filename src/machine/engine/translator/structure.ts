/**
 * Control flow of a region as nested wasm blocks and loops.
 *
 * Each block is placed under its immediate dominator: merge points become the code after a `block`, loop headers a
 * `loop`. An irreducible region is one `loop` around a `br_table` instead.
 * Reference: N. Ramsey, "Beyond Relooper: recursive translation of unstructured control flow", ICFP 2022.
 */
import type { Code } from '../../isa/code.ts';
import type { Loop, Loops } from './loops.ts';
import type { Block, Edge, Region } from './region.ts';

/** What the shape needs of the translator. */
export interface BlockEmitter {
  readonly code: Code;
  /** Local that names the next block of an irreducible region. */
  readonly target: number;
  readonly loops: Loops;
  /** Before a loop, where control comes to it from outside. */
  beginLoop(loop: Loop): void;
  /** Emits a block up to its transfer. A conditional branch leaves its condition on the stack. */
  emitBlock(block: Block): void;
  /** Before a backward edge: leaves if the budget may not last for another round. */
  checkBudget(to: Block): void;
  /** Leaves whether an indirect block goes to an edge on the stack. */
  goesTo(edge: Edge): void;
  /** Leaves the region by an indirect block that goes to none of its edges. */
  leaveIndirectly(block: Block): void;
  /** Leaves the region by an edge. */
  leaveBy(block: Block, edge: Edge): void;
}

export function emitBlocks(emitter: BlockEmitter, region: Region): void {
  if (region.reducible) tree(emitter, region.entry);
  else emitDispatched(emitter, region);
}

const isBackward = (from: Block, to: Block): boolean => to.index <= from.index;
/** A loop is known by its header and the first of its latches. */
const loopLabel = ({ header, latches }: Loop): string => `loop${header.index} ${latches[0]!.index}`;
const mergeLabel = (block: Block): string => `after${block.index}`;

/** A block and all it dominates. */
function tree(e: BlockEmitter, block: Block): void {
  const { code } = e;
  const loops = e.loops.at(block);
  for (const loop of loops) {
    e.beginLoop(loop);
    code.block(0x03, loopLabel(loop));
  }
  within(
    e,
    block,
    block.children.filter((c) => c.isMerge).sort((a, b) => b.index - a.index),
  );
  for (const _ of loops) code.end();
}

/** The merge points among a block's children follow it, the last one outermost. */
function within(e: BlockEmitter, block: Block, merges: readonly Block[]): void {
  const [outermost, ...inner] = merges;
  if (outermost === undefined) return leaf(e, block);
  e.code.block(0x02, mergeLabel(outermost));
  within(e, block, inner);
  e.code.end();
  tree(e, outermost);
}

function leaf(e: BlockEmitter, block: Block): void {
  const { code } = e;
  e.emitBlock(block);
  emitEnd(e, block, (to) => {
    if (isBackward(block, to)) {
      e.checkBudget(to);
      code.br(loopLabel(e.loops.ofLatch(block, to)));
    } else if (to.isMerge) code.br(mergeLabel(to));
    else tree(e, to);
  });
}

/** The transfer at the end of a block; what follows it is unreachable. */
function emitEnd(e: BlockEmitter, block: Block, goInside: (to: Block) => void): void {
  const { code } = e;
  const go = (edge: Edge): void => {
    if (edge.block === null) e.leaveBy(block, edge);
    else goInside(edge.block);
  };
  if (block.end === 'branch') {
    code.block(0x04, 'then');
    go(block.edges[0]!);
    code.out.u8(0x05);
    go(block.edges[1]!);
    code.end();
  } else if (block.end === 'indirect') {
    for (const edge of block.edges) {
      e.goesTo(edge);
      code.block(0x04, 'then');
      go(edge);
      code.end();
    }
    e.leaveIndirectly(block);
  } else if (block.end !== 'dynamic') go(block.edges[0]!);
  code.out.u8(0x00);
}

function emitDispatched(e: BlockEmitter, region: Region): void {
  const { code } = e;
  const { order } = region;
  code.block(0x03, 'dispatch');
  for (const block of order.toReversed()) code.block(0x02, `b${block.index}`);
  code.out.getLocal(e.target).brTable(
    order.slice(0, -1).map((b) => b.index),
    order.length - 1,
  );
  for (const block of order) {
    code.end();
    e.emitBlock(block);
    emitEnd(e, block, (to) => {
      if (isBackward(block, to)) e.checkBudget(to);
      code.out.i32(to.index).setLocal(e.target);
      code.br('dispatch');
    });
  }
  code.end();
}
