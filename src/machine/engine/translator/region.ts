/**
 * Regions: the blocks of one code page that are reachable from one entry, in reverse postorder, with dominators and the
 * shape of their control flow.
 */
import type { Insn } from '../../isa/insn.ts';
import { ASSIST } from '../../isa/row.ts';
import { findCycles, successors } from './cycles.ts';
import { type Effects, effectsOf } from './probe.ts';
import { makeReducible } from './split.ts';

/** Most instructions of a region, and of a block. */
const MAX_INSNS = 400;
const MAX_BLOCK = 64;
/** Most other places that are tried as entries. */
const MAX_HEADERS = 4;
/** Most instructions that are copied to make control flow reducible. */
const MAX_COPIED = 300;
/** Most blocks that one indirect jump or return is compared with. */
const MAX_TARGETS = 32;

/** An instruction at its place. What it touches is found when somebody asks: of many that are looked at, few are translated. */
export class Step {
  readonly insn: Insn;
  /** Page offset. */
  readonly offset: number;
  #effects: Effects | null = null;

  constructor(insn: Insn, offset: number) {
    this.insn = insn;
    this.offset = offset;
  }

  get effects(): Effects {
    this.#effects ??= effectsOf(this.insn);
    return this.#effects;
  }
}

/** Where control goes: to a block of the region, or out of it at an offset from the page's first byte. */
export interface Edge {
  readonly offset: number;
  readonly block: Block | null;
}

/**
 * How a block ends: `fall` goes on at edges[0] without a transfer; `jump` and `branch` (edges: taken, not taken) transfer;
 * `call` goes to edges[0]; `indirect` goes to the edge that has the offset it computed, or leaves; `dynamic` has left through its
 * semantics; `interpret` leaves at edges[0], which the interpreter must execute.
 */
export type BlockEnd = 'fall' | 'jump' | 'branch' | 'call' | 'indirect' | 'dynamic' | 'interpret';

export interface Block {
  readonly offset: number;
  readonly steps: readonly Step[];
  readonly end: BlockEnd;
  edges: readonly Edge[];
  predecessors: Block[];
  index: number;
  dominator: Block;
  children: Block[];
  isLoop: boolean;
  /** Reached by more than one forward edge. */
  isMerge: boolean;
  /** Most instructions on a path from here that takes no backward edge. */
  longest: number;
}

export interface Region {
  readonly entry: Block;
  readonly order: readonly Block[];
  /** False if some backward edge does not go to a dominator: then blocks are dispatched by br_table. */
  readonly reducible: boolean;
  /** Where such backward edges go. */
  readonly wrongHeaders: readonly Block[];
  readonly insns: number;
}

/** The page as region forming sees it. */
export interface PageView {
  /** The instruction at an offset; null where none is that lies wholly in the page. */
  step(offset: number): Step | null;
  /** Whether an offset is worth following as a target. */
  wanted(offset: number): boolean;
  /** Whether a region begins at an offset. */
  translated(offset: number): boolean;
  /** Where the indirect jump at an offset has gone. */
  targetsOf(offset: number): readonly number[];
  /** Whether a region begins at an offset, or soon will. */
  entered(offset: number): boolean;
}

/** Whether an instruction can be part of a region. */
export function translatable(insn: Insn): boolean {
  const { semantics, flow, string } = insn.row.operation;
  if (semantics === ASSIST || flow === 'system' || (string && insn.rep !== 'none')) return false;
  const relative = insn.operands.length > 0 && insn.operands[0]!.place === 'relative';
  // A 16-bit operand size cuts the target.
  return !relative || insn.operandSize !== 16;
}

interface Draft {
  readonly offset: number;
  readonly steps: Step[];
  end: BlockEnd;
  targets: number[];
}

/**
 * The region for a page offset that is entered often, or null if its first instruction cannot be translated.
 *
 * What is entered in the middle of a loop may have no reducible control flow; nor what returns into a loop. Then the region begins
 * at a function that it calls or at the loop's header, if it begins there nowhere yet, or blocks are copied. Else calls are not
 * followed if that helps: what is gained would be lost by the dispatch.
 */
export function buildRegion(offset: number, page: PageView): Region | null {
  const whole = formRegion(offset, page, { calls: true });
  if (whole === null || whole.reducible) return whole;
  const called = whole.order.flatMap(({ end, edges }) => (end === 'call' && edges[0]!.block ? [edges[0]!.block] : []));
  const starts = new Set([...called, ...whole.wrongHeaders].map((block) => block.offset));
  const untranslated = [...starts].filter((start) => !page.translated(start)).slice(0, MAX_HEADERS);
  for (const shape of [{ calls: true }, { calls: true, copies: true }]) {
    for (const start of untranslated) {
      const region = formRegion(start, page, shape);
      if (region?.reducible && region.order.some((block) => block.offset === offset)) return region;
    }
  }
  const copied = formRegion(offset, page, { calls: true, copies: true });
  if (copied?.reducible) return copied;
  return called.length > 0 ? formRegion(offset, page, { calls: false }) : whole;
}

/** Whether calls are followed, and blocks copied to make control flow reducible. */
interface RegionShape {
  readonly calls: boolean;
  readonly copies?: boolean;
}

function formRegion(entryOffset: number, page: PageView, { calls, copies = false }: RegionShape): Region | null {
  const first = page.step(entryOffset);
  if (first === null || !translatable(first.insn)) return null;
  const { leaders, tables } = findLeaders(entryOffset, page, calls);
  const drafts = new Map<number, Draft>();
  for (const offset of leaders) {
    const draft = readBlock(offset, page, leaders);
    if (draft.steps.length > 0) drafts.set(offset, draft);
  }
  // A return goes behind one of the calls of its function, an indirect jump to where the interpreter saw it go.
  const returns = calls ? findReturns(drafts) : new Map<number, Set<number>>();
  for (const draft of drafts.values()) {
    if (draft.end !== 'dynamic') continue;
    const { flow, implicitMemory } = draft.steps.at(-1)!.insn.row.operation;
    const targets = flow === 'return' ? (returns.get(draft.offset) ?? []) : implicitMemory ? [] : tables;
    draft.targets = [...targets].filter((offset) => drafts.has(offset)).slice(0, MAX_TARGETS);
    if (draft.targets.length > 0) draft.end = 'indirect';
  }
  const blocks = new Map<number, Block>();
  for (const draft of drafts.values()) {
    blocks.set(draft.offset, {
      offset: draft.offset,
      steps: draft.steps,
      end: draft.end,
      edges: [],
      predecessors: [],
      index: -1,
      dominator: null as never,
      children: [],
      isLoop: false,
      isMerge: false,
      longest: 0,
    });
  }
  for (const draft of drafts.values()) {
    const inside = draft.end !== 'interpret' && (draft.end !== 'call' || calls);
    blocks.get(draft.offset)!.edges = draft.targets.map((offset) => ({
      offset,
      block: inside ? (blocks.get(offset) ?? null) : null,
    }));
  }
  const entry = blocks.get(entryOffset)!;
  leaveToOthers(entry, page);
  if (copies && !makeReducible(entry, MAX_COPIED)) return null;
  return analyse(entry);
}

/** Order, dominators and shape of what is behind an entry. */
function analyse(entry: Block): Region {
  const order = reversePostorder(entry);
  for (const block of order) for (const to of successors(block)) to.predecessors.push(block);
  findDominators(order);
  const wrongHeaders: Block[] = [];
  for (const block of order) {
    if (block !== entry) block.dominator.children.push(block);
    const backward = block.predecessors.filter((p) => p.index >= block.index);
    block.isLoop = backward.length > 0;
    if (!backward.every((p) => dominates(block, p))) wrongHeaders.push(block);
    block.isMerge = block.predecessors.length - backward.length > 1;
  }
  for (const block of order.toReversed()) {
    let after = 0;
    for (const to of successors(block)) if (to.index > block.index) after = Math.max(after, to.longest);
    block.longest = block.steps.length + after;
  }
  const insns = order.reduce((sum, block) => sum + block.steps.length, 0);
  return { entry, order, reducible: wrongHeaders.length === 0, wrongHeaders, insns };
}

/**
 * Leaves to other regions what they have, unless control comes back from there: code is translated once, and what is given up
 * is a tail call on a way that is taken once per entry.
 */
function leaveToOthers(entry: Block, page: PageView): void {
  const cycles = findCycles([entry]);
  for (const [block, cycle] of cycles) {
    block.edges = block.edges.map((edge) => {
      const to = edge.block;
      return to === null || to === entry || cycles.get(to) === cycle || !page.entered(to.offset)
        ? edge
        : { offset: edge.offset, block: null };
    });
  }
}

const inPage = (offset: number): boolean => offset >= 0 && offset < 4096;

/** Behind which calls each block that ends with a return may go on, by the block's offset. */
function findReturns(drafts: ReadonlyMap<number, Draft>): Map<number, Set<number>> {
  const returns = new Map<number, Set<number>>();
  const endOf = ({ steps }: Draft): number => steps.at(-1)!.offset + steps.at(-1)!.insn.length;
  for (const caller of drafts.values()) {
    const callee = caller.end === 'call' ? drafts.get(caller.targets[0]!) : undefined;
    const behind = endOf(caller);
    if (callee === undefined || !drafts.has(behind)) continue;
    // The function's own blocks: calls in it come back.
    const body = new Set([callee]);
    for (const draft of body) {
      const next = draft.end === 'call' ? [endOf(draft)] : draft.end === 'dynamic' ? [] : draft.targets;
      for (const offset of next) if (drafts.has(offset)) body.add(drafts.get(offset)!);
    }
    for (const { offset, end } of body) {
      if (end !== 'dynamic') continue;
      if (!returns.has(offset)) returns.set(offset, new Set());
      returns.get(offset)!.add(behind);
    }
  }
  return returns;
}

interface Leaders {
  readonly leaders: Set<number>;
  /** Targets of indirect jumps. */
  readonly tables: Set<number>;
}

function findLeaders(entry: number, page: PageView, calls: boolean): Leaders {
  const leaders = new Set([entry]);
  const tables = new Set<number>();
  const pending = [entry];
  let left = MAX_INSNS;
  const follow = (offset: number): void => {
    if (!inPage(offset) || leaders.has(offset) || left <= 0) return;
    leaders.add(offset);
    pending.push(offset);
  };
  while (pending.length > 0) {
    let at = pending.shift()!;
    for (let count = 0; count < MAX_BLOCK && inPage(at); count++) {
      const insn = page.step(at)?.insn;
      if (insn === undefined || !translatable(insn)) break;
      left--;
      const { flow, implicitMemory } = insn.row.operation;
      const target = at + insn.displacement;
      at += insn.length;
      if (flow === 'next') continue;
      const direct = flow === 'jump' || flow === 'branch' || (flow === 'call' && calls);
      const inside = direct && inPage(target) && page.wanted(target);
      if (inside) follow(target);
      if (flow === 'branch') follow(at);
      if (flow === 'call' && inside && inPage(at) && page.wanted(at)) follow(at);
      if (flow === 'indirect' && !implicitMemory) {
        for (const offset of page.targetsOf(at - insn.length)) {
          tables.add(offset);
          follow(offset);
        }
      }
      break;
    }
  }
  return { leaders, tables };
}

function readBlock(start: number, page: PageView, leaders: ReadonlySet<number>): Draft {
  const steps: Step[] = [];
  let at = start;
  for (;;) {
    if (steps.length > 0 && leaders.has(at)) return { offset: start, steps, end: 'fall', targets: [at] };
    const step = steps.length < MAX_BLOCK && inPage(at) ? page.step(at) : null;
    if (step === null || !translatable(step.insn)) {
      // The end of the page is a transfer like any other; what else cannot be translated is the interpreter's.
      return { offset: start, steps, end: at === 4096 ? 'jump' : 'interpret', targets: [at] };
    }
    const { insn } = step;
    const { flow } = insn.row.operation;
    steps.push(step);
    const target = at + insn.displacement;
    at += insn.length;
    switch (flow) {
      case 'next':
        continue;
      case 'jump':
      case 'call':
        return { offset: start, steps, end: flow, targets: [target] };
      case 'branch':
        return { offset: start, steps, end: 'branch', targets: [target, at] };
      default:
        return { offset: start, steps, end: 'dynamic', targets: [] };
    }
  }
}

function reversePostorder(entry: Block): Block[] {
  const order: Block[] = [];
  const seen = new Set<Block>();
  const visit = (block: Block): void => {
    if (seen.has(block)) return;
    seen.add(block);
    for (const to of [...successors(block)].reverse()) visit(to);
    order.push(block);
  };
  visit(entry);
  order.reverse().forEach((block, i) => {
    block.index = i;
  });
  return order;
}

/** Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm". */
function findDominators(order: readonly Block[]): void {
  const entry = order[0]!;
  entry.dominator = entry;
  const intersect = (first: Block, second: Block): Block => {
    let a = first,
      b = second;
    while (a !== b) {
      while (a.index > b.index) a = a.dominator;
      while (b.index > a.index) b = b.dominator;
    }
    return a;
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (const block of order.slice(1)) {
      const known = block.predecessors.filter((p) => p.dominator !== null);
      const dominator = known.reduce(intersect);
      if (block.dominator !== dominator) {
        block.dominator = dominator;
        changed = true;
      }
    }
  }
}

function dominates(a: Block, b: Block): boolean {
  let at = b;
  while (at.index > a.index) at = at.dominator;
  return a === at;
}
