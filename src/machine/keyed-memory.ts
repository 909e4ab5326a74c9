/**
 * Physical memory by KeyID: whose key a page, or a line of it, was last written with.
 *
 * Nothing is encrypted; what memory encryption with integrity guarantees is modelled by ownership of lines of 64 bytes:
 *
 *   access by the owner                 the content
 *   read by another shared KeyID        zeros; nothing changes
 *   write by another shared KeyID       the line becomes that KeyID's; its other bytes are zeros
 *   read by another private KeyID       zeros, and a machine check
 *   write by another private KeyID      of a whole line: it becomes that KeyID's; else a machine check, nothing changes
 *
 * Shared KeyIDs are the platform's key, KeyID 0, until PCONFIG gives them one of their own.
 *
 * A page whose lines are all one KeyID's has that in `owners`; else it is mixed, and `#mixed` has its lines.
 */
import type { Hpa } from '../util/address.ts';
import { RAM_BASE } from './engine/layout.ts';
import type { PhysicalMemory } from './memory.ts';
import { isPrivateKeyId, KEY_IDS } from './seam/key-id.ts';

const LINE = 64;
const PAGE = 4096;
const LINES = PAGE / LINE;

/** In `owners`: the lines of the page differ. No access takes it for its own. */
export const MIXED = 0xffff;

/** A page in a mixed state. */
interface MixedPage {
  /** Whose the page was as a whole. */
  readonly owner: number;
  /** Owner of each line. */
  readonly lines: Uint8Array;
}

export class KeyedMemory {
  /** By page frame: the owner's KeyID, or MIXED. */
  readonly owners: Uint16Array;
  /** Pages that are not wholly KeyID 0's. While it is 0 nobody needs to look at `owners`. */
  foreignPages = 0;
  /** Line of the last access that was a machine check, or -1; whoever reports it sets it back. */
  machineCheck: Hpa = -1;
  /** Told before a page's owner, or that of a line in it, changes: what is cached of the page must go. */
  ownerChanges: (page: Hpa) => void = () => {};
  readonly #memory: PhysicalMemory;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #ramSize: number;
  readonly #mixed: Map<number, MixedPage> = new Map();
  /** By shared KeyID: the KeyID whose key it uses. */
  readonly #keyOf: Uint8Array = Uint8Array.from({ length: KEY_IDS }, (_, keyId) => (isPrivateKeyId(keyId) ? keyId : 0));

  constructor(memory: PhysicalMemory) {
    this.#memory = memory;
    this.#view = memory.view;
    this.#bytes = memory.bytes;
    this.#ramSize = memory.ramSize;
    this.owners = new Uint16Array(memory.ramSize / PAGE);
  }

  // ---- who owns what

  /** KeyID that owns the page of an address; of a mixed page, the one that owned all of it before. */
  ownerOf(page: Hpa): number {
    if (!this.#isRam(page, 1)) return 0;
    const owner = this.owners[page >>> 12]!;
    return owner === MIXED ? this.#mixed.get(page >>> 12)!.owner : owner;
  }

  /** Whether the page of an address has lines that are not its owner's: the owner's next access to one is a machine check. */
  poisoned(page: Hpa): boolean {
    return this.#isRam(page, 1) && this.owners[page >>> 12] === MIXED;
  }

  /** Whether every byte of a range in RAM belongs to the KeyID. */
  owns(hpa: Hpa, length: number, keyId: number): boolean {
    const key = this.#keyOf[keyId]!;
    if (this.#plain(hpa, length, keyId)) return true;
    if (!this.#isRam(hpa, length)) return false;
    for (let line = hpa - (hpa % LINE); line < hpa + length; line += LINE)
      if (this.#lineOwner(line) !== key) return false;
    return true;
  }

  /** The page becomes the KeyID's, with zeros for content: MOVDIR64B of zeros to each line. */
  take(page: Hpa, keyId: number): void {
    if (page % PAGE !== 0 || !this.#isRam(page, PAGE)) throw new RangeError(`no page of RAM: ${page.toString(16)}`);
    this.#setPage(page, this.#keyOf[keyId]!);
    this.#bytes.fill(0, RAM_BASE + page, RAM_BASE + page + PAGE);
    this.#memory.pageWritten(page);
  }

  /** Gives a shared KeyID a key of its own (true) or the platform's. What was written with the old key stays unreadable. */
  programKey(keyId: number, own: boolean): void {
    if (isPrivateKeyId(keyId)) throw new RangeError(`KeyID ${keyId} always has its own key`);
    this.#keyOf[keyId] = own ? keyId : 0;
  }

  // ---- access by KeyID; addresses carry none

  read8(hpa: Hpa, keyId: number): number {
    return this.#plain(hpa, 1, keyId) ? this.#view.getUint8(RAM_BASE + hpa) : Number(this.read(hpa, keyId, 1));
  }
  read16(hpa: Hpa, keyId: number): number {
    return this.#plain(hpa, 2, keyId) ? this.#view.getUint16(RAM_BASE + hpa, true) : Number(this.read(hpa, keyId, 2));
  }
  read32(hpa: Hpa, keyId: number): number {
    return this.#plain(hpa, 4, keyId) ? this.#view.getUint32(RAM_BASE + hpa, true) : Number(this.read(hpa, keyId, 4));
  }
  read64(hpa: Hpa, keyId: number): bigint {
    return this.#plain(hpa, 8, keyId) ? this.#view.getBigUint64(RAM_BASE + hpa, true) : this.read(hpa, keyId, 8);
  }
  write8(hpa: Hpa, keyId: number, value: number): void {
    if (!this.#plain(hpa, 1, keyId)) return this.write(hpa, keyId, 1, BigInt(value));
    this.#view.setUint8(RAM_BASE + hpa, value);
    this.#memory.pageWritten(hpa - (hpa % PAGE));
  }
  write16(hpa: Hpa, keyId: number, value: number): void {
    if (!this.#plain(hpa, 2, keyId)) return this.write(hpa, keyId, 2, BigInt(value));
    this.#view.setUint16(RAM_BASE + hpa, value, true);
    this.#memory.pageWritten(hpa - (hpa % PAGE));
  }
  write32(hpa: Hpa, keyId: number, value: number): void {
    if (!this.#plain(hpa, 4, keyId)) return this.write(hpa, keyId, 4, BigInt(value >>> 0));
    this.#view.setUint32(RAM_BASE + hpa, value, true);
    this.#memory.pageWritten(hpa - (hpa % PAGE));
  }
  write64(hpa: Hpa, keyId: number, value: bigint): void {
    if (!this.#plain(hpa, 8, keyId)) return this.write(hpa, keyId, 8, BigInt.asUintN(64, value));
    this.#view.setBigUint64(RAM_BASE + hpa, value, true);
    this.#memory.pageWritten(hpa - (hpa % PAGE));
  }

  /** Reads 1, 2, 4 or 8 bytes, zero-extended. */
  read(hpa: Hpa, keyId: number, size: number): bigint {
    if (!this.#isRam(hpa, size)) return this.#memory.busRead(hpa, size);
    let value = 0n;
    for (const byte of this.readBytes(hpa, keyId, size).reverse()) value = (value << 8n) | BigInt(byte);
    return value;
  }

  /** Writes the low 1, 2, 4 or 8 bytes of a value. */
  write(hpa: Hpa, keyId: number, size: number, value: bigint): void {
    if (!this.#isRam(hpa, size)) return this.#memory.busWrite(hpa, size, value);
    const bytes = new Uint8Array(size);
    for (let i = 0; i < size; i++) bytes[i] = Number((value >> BigInt(8 * i)) & 0xffn);
    this.writeBytes(hpa, keyId, bytes);
  }

  /** A copy of `length` bytes. */
  readBytes(hpa: Hpa, keyId: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    const key = this.#keyOf[keyId]!;
    for (let at = hpa; at < hpa + length; ) {
      const size = Math.min(this.#stretch(at), hpa + length - at);
      if (!this.#isRam(at, size)) {
        for (let i = 0; i < size; i++) out[at - hpa + i] = Number(this.#memory.busRead(at + i, 1));
      } else if (this.#lineOwner(at) === key) {
        out.set(this.#bytes.subarray(RAM_BASE + at, RAM_BASE + at + size), at - hpa);
      } else if (isPrivateKeyId(keyId)) this.#fail(at);
      at += size;
    }
    return out;
  }

  writeBytes(hpa: Hpa, keyId: number, bytes: Uint8Array): void {
    const key = this.#keyOf[keyId]!;
    const end = hpa + bytes.length;
    for (let at = hpa; at < end; ) {
      const size = Math.min(this.#stretch(at), end - at);
      if (!this.#isRam(at, size)) {
        for (let i = 0; i < size; i++) this.#memory.busWrite(at + i, 1, BigInt(bytes[at - hpa + i]!));
      } else if (this.#claim(at, size, key)) {
        this.#bytes.set(bytes.subarray(at - hpa, at - hpa + size), RAM_BASE + at);
        this.#memory.pageWritten(at - (at % PAGE));
      }
      at += size;
    }
  }

  // perf: registers to and from structures, without an array in between

  /** Copies bytes to a place in the engine's area, where registers are. */
  copyOut(hpa: Hpa, keyId: number, length: number, place: number): void {
    if (this.#plain(hpa, length, keyId)) this.#bytes.copyWithin(place, RAM_BASE + hpa, RAM_BASE + hpa + length);
    else this.#bytes.set(this.readBytes(hpa, keyId, length), place);
  }

  /** Copies bytes from a place in the engine's area. */
  copyIn(hpa: Hpa, keyId: number, length: number, place: number): void {
    if (!this.#plain(hpa, length, keyId)) return this.writeBytes(hpa, keyId, this.#bytes.slice(place, place + length));
    this.#bytes.copyWithin(RAM_BASE + hpa, place, place + length);
    this.#memory.pageWritten(hpa - (hpa % PAGE));
  }

  /** The bytes of a range in one page while it is wholly the KeyID's, else null. Tell `pageWritten` after a change. */
  window(hpa: Hpa, keyId: number, length: number): DataView | null {
    return this.#plain(hpa, length, keyId) ? new DataView(this.#bytes.buffer, RAM_BASE + hpa, length) : null;
  }

  fill(hpa: Hpa, keyId: number, length: number, value = 0): void {
    if (!this.#isRam(hpa, length)) throw new RangeError(`fill outside RAM: ${hpa.toString(16)}`);
    this.writeBytes(hpa, keyId, new Uint8Array(length).fill(value));
  }

  /** Writes a whole line, which becomes the KeyID's. @param hpa a multiple of 64 */
  movdir64b(hpa: Hpa, keyId: number, bytes64: Uint8Array): void {
    if (hpa % LINE !== 0 || bytes64.length !== LINE) throw new RangeError('MOVDIR64B writes a line');
    this.writeBytes(hpa, keyId, bytes64);
  }

  // ---- inside

  #isRam(hpa: Hpa, length: number): boolean {
    return hpa >= 0 && hpa + length <= this.#ramSize;
  }

  /** RAM within one page that is wholly the KeyID's. */
  #plain(hpa: Hpa, size: number, keyId: number): boolean {
    return (
      this.#isRam(hpa, size) && this.owners[hpa >>> 12] === this.#keyOf[keyId] && hpa >>> 12 === (hpa + size - 1) >>> 12
    );
  }

  #fail(hpa: Hpa): void {
    this.machineCheck = hpa - (hpa % LINE);
  }

  #lineOwner(hpa: Hpa): number {
    const owner = this.owners[hpa >>> 12]!;
    return owner === MIXED ? this.#mixed.get(hpa >>> 12)!.lines[(hpa >>> 6) & (LINES - 1)]! : owner;
  }

  /** Bytes from an address on that have one owner for sure: to the end of its page, or of its line in a mixed page. */
  #stretch(hpa: Hpa): number {
    const mixed = this.#isRam(hpa, 1) && this.owners[hpa >>> 12] === MIXED;
    return mixed ? LINE - (hpa % LINE) : PAGE - (hpa % PAGE);
  }

  /** Makes the lines of a range within one page the key's, so that the range may be written; false for a machine check. */
  #claim(hpa: Hpa, size: number, key: number): boolean {
    const page = hpa - (hpa % PAGE);
    if (this.owners[page >>> 12] === key) return true;
    if (size === PAGE) {
      this.#setPage(page, key);
      return true;
    }
    const first = hpa - (hpa % LINE);
    for (let line = first; line < hpa + size; line += LINE) {
      const whole = line >= hpa && line + LINE <= hpa + size;
      if (this.#lineOwner(line) === key || whole || !isPrivateKeyId(key)) continue;
      this.#fail(line);
      return false;
    }
    for (let line = first; line < hpa + size; line += LINE) this.#setLine(line, key);
    return true;
  }

  /** Makes a line the key's; its content is lost. */
  #setLine(hpa: Hpa, key: number): void {
    if (this.#lineOwner(hpa) === key) return;
    const page = hpa - (hpa % PAGE);
    const frame = page >>> 12;
    this.ownerChanges(page);
    this.#bytes.fill(0, RAM_BASE + hpa, RAM_BASE + hpa + LINE);
    const owner = this.owners[frame]!;
    if (owner !== MIXED) {
      if (owner === 0) this.foreignPages++;
      this.owners[frame] = MIXED;
      this.#mixed.set(frame, { owner, lines: new Uint8Array(LINES).fill(owner) });
    }
    const { lines } = this.#mixed.get(frame)!;
    lines[(hpa >>> 6) & (LINES - 1)] = key;
    if (lines.every((line) => line === key)) this.#setPage(page, key);
  }

  #setPage(page: Hpa, key: number): void {
    const frame = page >>> 12;
    const owner = this.owners[frame]!;
    if (owner === key) return;
    this.ownerChanges(page);
    this.foreignPages += (key === 0 ? 0 : 1) - (owner === 0 ? 0 : 1);
    this.owners[frame] = key;
    this.#mixed.delete(frame);
  }
}
