/**
 * The lock of a VM's page tables. Nothing here runs in parallel, so nobody ever waits for it; it says which changes are
 * allowed at a moment, and a change that is not allowed is a bug that shows at once.
 *
 * @upstream kvm->mmu_lock
 */
export class MmuLock {
  #readers = 0;
  #writer = false;

  get heldForRead(): boolean {
    return this.#readers > 0;
  }
  get heldForWrite(): boolean {
    return this.#writer;
  }

  /** Runs `section` as one of the readers: entries may become present. */
  read<T>(section: () => T): T {
    if (this.#writer) throw new Error('mmu_lock is taken for reading while it is held for writing');
    this.#readers++;
    try {
      return section();
    } finally {
      this.#readers--;
    }
  }

  /** Runs `section` alone: entries may go. */
  write<T>(section: () => T): T {
    if (this.#writer || this.#readers > 0) throw new Error('mmu_lock is taken for writing while it is held');
    this.#writer = true;
    try {
      return section();
    } finally {
      this.#writer = false;
    }
  }
}
