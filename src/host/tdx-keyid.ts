/** KeyIDs for trust domains: the private ones but for the module's own. @upstream arch/x86/virt/vmx/tdx/tdx.c tdx_guest_keyid_alloc() */
import { ENOSPC, type Errno } from './errno.ts';

/** Hands out KeyIDs, lowest first. */
export class KeyIdAllocator {
  readonly first: number;
  /** How many there are. */
  readonly count: number;
  readonly #taken: Set<number> = new Set();

  constructor(first: number, count: number) {
    this.first = first;
    this.count = count;
  }

  /** How many are in use. */
  get inUse(): number {
    return this.#taken.size;
  }

  /** A KeyID, or −ENOSPC. */
  alloc(): number | Errno {
    for (let id = this.first; id < this.first + this.count; id++) {
      if (this.#taken.has(id)) continue;
      this.#taken.add(id);
      return id;
    }
    return -ENOSPC;
  }

  free(id: number): void {
    if (!this.#taken.delete(id)) throw new Error(`KeyID ${id} is freed twice`);
  }
}
