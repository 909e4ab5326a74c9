/**
 * The module's locks. All are try-locks: who does not get one answers with a busy status. Every lock taken during a call
 * is released at its end.
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

const EXCLUSIVE = -1;

export class Locks {
  /** Holders of each lock; EXCLUSIVE for one that shares with nobody. */
  readonly #held: Map<string, number> = new Map();

  /** Takes a lock; false if it is busy. */
  acquire(kind: LockKind, id: number, mode: LockMode, hook?: LockHook): boolean {
    if (hook?.(kind, id) === true) return false;
    const key = `${kind} ${id}`;
    const holders = this.#held.get(key) ?? 0;
    if (holders === EXCLUSIVE || (holders > 0 && mode === 'exclusive')) return false;
    this.#held.set(key, mode === 'exclusive' ? EXCLUSIVE : holders + 1);
    return true;
  }

  /** What a call holds is gone at its end. */
  releaseAll(): void {
    this.#held.clear();
  }
}
