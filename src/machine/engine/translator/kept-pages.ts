/**
 * Translations that a region keeps in locals: the TLB entry that the accesses through one pointer used last. An access to the same
 * page needs no look-up then.
 *
 * Only TypeScript changes the TLB, and none runs inside a region: what an entry said stays true until the region leaves.
 *
 * This pays where a pointer stays near: in a loop that changes its registers by constants only. With the loop begins a kept page
 * as a tag 2^63 away from the pointer. The budget does not last to walk there, so that tag matches nothing; nor does it match an
 * address of 32 bits.
 */
import type { Code } from '../../isa/code.ts';
import type { Expr } from '../../isa/expr.ts';
import { CODE_MODE, type CodeMode } from '../code-mode.ts';
import { I32, I64 } from '../wasm.ts';
import type { Loop, Loops } from './loops.ts';
import { type Pointer, pointerOf } from './pointer.ts';
import type { Block, Region } from './region.ts';

/** Most kept pages in a region: each holds two of the host's registers. */
const MAX_KEPT = 6;

/** One kept translation. */
export interface KeptPage {
  readonly pointer: Pointer;
  readonly writes: boolean;
  /** Locals: the entry's tag, and where the page is. */
  readonly tag: number;
  readonly host: number;
  /** The loop it begins with. */
  readonly loop: Loop;
}

export class KeptPages {
  readonly #pages: KeptPage[] = [];
  readonly #loops: Loops;
  /** Addresses have 32 bits. */
  readonly #narrow: boolean;
  /** Registers that a loop changes otherwise than by constants. */
  readonly #unsteady: Map<Loop, number> = new Map();

  constructor(code: Code, region: Region, loops: Loops, mode: CodeMode) {
    this.#loops = loops;
    this.#narrow = mode !== CODE_MODE.code64;
    // Of other addresses a segment's base is part.
    if (mode === CODE_MODE.flatCode32) return;
    if (region.order.some(({ steps }) => steps.some(({ effects }) => effects.switchesBank))) return;
    for (const block of region.order) {
      for (const { effects } of block.steps) {
        for (const { pointer, writes } of effects.accesses) {
          if (this.#pages.length === MAX_KEPT) return;
          const loop = this.#steadyIn(block, pointer);
          if (loop === null || this.#at(loop, pointer, writes) !== undefined) continue;
          this.#pages.push({ pointer, writes, tag: code.newLocal(I64), host: code.newLocal(I32), loop });
        }
      }
    }
  }

  /** The page kept for an access in a block, or null. */
  find(block: Block, address: Expr<64>, writes: boolean): KeptPage | null {
    if (this.#pages.length === 0) return null;
    const pointer = pointerOf(address, this.#narrow);
    const loop = pointer === null ? null : this.#steadyIn(block, pointer);
    return loop === null ? null : (this.#at(loop, pointer!, writes) ?? null);
  }

  /** The pages that begin with a loop. */
  beginningWith(loop: Loop): readonly KeptPage[] {
    return this.#pages.filter((page) => page.loop === loop);
  }

  #at(loop: Loop, { base, index, scale }: Pointer, writes: boolean): KeptPage | undefined {
    return this.#pages.find(
      (page) =>
        page.loop === loop &&
        page.writes === writes &&
        page.pointer.base === base &&
        page.pointer.index === index &&
        page.pointer.scale === scale,
    );
  }

  /** The largest loop around a block in which a pointer's registers change by constants only, or null. */
  #steadyIn(block: Block, { base, index }: Pointer): Loop | null {
    const registers = (base < 0 ? 0 : 1 << base) | (index < 0 ? 0 : 1 << index);
    let found: Loop | null = null;
    for (
      let loop = this.#loops.around(block) ?? null;
      loop !== null && (this.#unsteadyIn(loop) & registers) === 0;
      loop = loop.outer
    )
      found = loop;
    return found;
  }

  #unsteadyIn(loop: Loop): number {
    let registers = this.#unsteady.get(loop);
    if (registers === undefined) {
      registers = 0;
      for (const { steps } of loop.body) for (const { effects } of steps) registers |= effects.writes & ~effects.moves;
      this.#unsteady.set(loop, registers);
    }
    return registers;
  }
}
