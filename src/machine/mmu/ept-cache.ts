/**
 * Guest-physical mappings of one EP4TA, as a processor caches them: 4 KiB pieces with their rights.
 *
 * An entry that does not allow an access is not an answer; the walk then reads the tables, so that more rights need no
 * INVEPT.
 * @sdm "Information That May Be Cached"
 */

const ENTRIES = 1024;

export class EptCache {
  /** The EPT pointer it belongs to. */
  readonly eptp: number;
  readonly #frames: Float64Array = new Float64Array(ENTRIES).fill(-1);
  readonly #pages: Float64Array = new Float64Array(ENTRIES);
  readonly #rights: Uint8Array = new Uint8Array(ENTRIES);
  #empty = true;

  constructor(eptp: number) {
    this.eptp = eptp;
  }

  /** Rights of the page of `gpa`, or 0 if it is not cached. */
  rights(gpa: number): number {
    const frame = Math.floor(gpa / 4096);
    const slot = frame & (ENTRIES - 1);
    return this.#frames[slot] === frame ? this.#rights[slot]! : 0;
  }

  /** Host-physical page of a cached `gpa`. */
  page(gpa: number): number {
    return this.#pages[Math.floor(gpa / 4096) & (ENTRIES - 1)]!;
  }

  /** @param page host-physical address of the 4 KiB piece */
  fill(gpa: number, page: number, rights: number): void {
    const frame = Math.floor(gpa / 4096);
    const slot = frame & (ENTRIES - 1);
    this.#frames[slot] = frame;
    this.#pages[slot] = page;
    this.#rights[slot] = rights;
    this.#empty = false;
  }

  drop(gpa: number): void {
    const frame = Math.floor(gpa / 4096);
    const slot = frame & (ENTRIES - 1);
    if (this.#frames[slot] === frame) this.#frames[slot] = -1;
  }

  flush(): void {
    if (this.#empty) return;
    this.#frames.fill(-1);
    this.#empty = true;
  }
}
