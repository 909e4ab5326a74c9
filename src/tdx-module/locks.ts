/**
 * The module's locks. All are try-locks: who does not get one answers with a busy status. Every lock taken during a call
 * is released at its end, or before.
 *
 * @tdx "Concurrency Restrictions"
 */

/**
 * What is locked. `pamt4k`, `pamt2m`, `pamt1g`: a PAMT entry, by the page's address; the entry of a TDR or TDVPR page is
 * the lock of the TD or the virtual processor. The others of a TD or virtual processor go by its TDR's or TDVPR's address;
 * `sept_entry` by the guest-physical address plus level; those of the platform have id 0,
 * but `tdmr` goes by index, `ket` (encryption engines) and `wbcache` by package; `entropy` is held when
 * there is none.
 */
export type LockKind =
  | 'pamt4k'
  | 'pamt2m'
  | 'pamt1g'
  | 'op_state'
  | 'sept_tree'
  | 'sept_entry'
  | 'td_epoch'
  | 'rtmr'
  | 'sys'
  | 'tdmr'
  | 'kot'
  | 'ket'
  | 'wbcache'
  | 'entropy';

export type LockMode = 'shared' | 'exclusive';

/** Whether somebody else holds a lock at the moment: for tests, since SEAMCALLs never overlap here. */
export type LockHook = (kind: LockKind, id: number) => boolean;

/** A lock that the present call has taken. */
interface Held {
  readonly kind: LockKind;
  readonly id: number;
  readonly mode: LockMode;
}

export class Locks {
  /** A call takes a handful. */
  readonly #held: Held[] = [];

  /** Takes a lock; false if it is busy. */
  acquire(kind: LockKind, id: number, mode: LockMode, hook?: LockHook): boolean {
    if (hook?.(kind, id) === true) return false;
    for (const held of this.#held) {
      if (held.id === id && held.kind === kind && (mode === 'exclusive' || held.mode === 'exclusive')) return false;
    }
    this.#held.push({ kind, id, mode });
    return true;
  }

  /** Releases the lock that was taken last, which is this one. */
  release(kind: LockKind, id: number): void {
    const last = this.#held.pop();
    if (last?.kind !== kind || last.id !== id) throw new Error(`${kind} is not the lock that was taken last`);
  }

  /** Pages that the present call has locked. */
  get pages(): readonly number[] {
    return this.#held.filter(({ kind }) => kind === 'pamt4k').map(({ id }) => id);
  }

  /** What a call holds is gone at its end. */
  releaseAll(): void {
    this.#held.length = 0;
  }
}
