/**
 * A 64-bit hash over guest RAM and vCPU state, to tell whether two runs are the same run.
 *
 * It is no cryptographic hash: nobody is to be kept from making collisions.
 */

const C1 = 0x9e3779b1 | 0;
const C2 = 0x85ebca77 | 0;
const C3 = 0xc2b2ae3d | 0;

/** Two lanes of 32 bits that are fed words and mixed at the end. */
export class StateHash {
  #a = 0x243f6a88 | 0;
  #b = 0x13198a2e | 0;

  /** One 32-bit word. */
  word(value: number): void {
    const a = Math.imul(this.#a ^ value, C1);
    const b = Math.imul(this.#b + value, C2);
    this.#a = (a ^ (a >>> 15)) + (b << 7);
    this.#b = b ^ (b >>> 13) ^ (a << 11);
  }

  /** A page, with its frame number; pages of zeros change nothing, so that untouched memory need not be looked at. */
  page(frame: number, words: Int32Array): void {
    let any = 0;
    for (let n = 0; n < words.length && any === 0; n++) any = words[n]!;
    if (any === 0) return;
    this.word(frame);
    let a = this.#a;
    let b = this.#b;
    for (let n = 0; n < words.length; n += 2) {
      a = Math.imul(a ^ words[n]!, C1);
      b = Math.imul(b ^ words[n + 1]!, C2);
      a ^= (a >>> 15) + (b << 9);
      b ^= (b >>> 13) + (a << 5);
    }
    this.#a = a | 0;
    this.#b = b | 0;
  }

  /** Any plain value: numbers, bigints, text, arrays, typed arrays, objects with their keys in order. */
  value(value: unknown): void {
    this.text(
      JSON.stringify(value, (_, part: unknown) => {
        if (typeof part === 'bigint') return `0x${part.toString(16)}`;
        return ArrayBuffer.isView(part) ? Array.from(part as Uint8Array) : part;
      }) ?? '',
    );
  }

  text(text: string): void {
    for (let n = 0; n < text.length; n++) this.word(text.charCodeAt(n));
    this.word(text.length);
  }

  /** Sixteen hex digits. */
  finish(): string {
    const final = (seed: number): string => {
      let h = seed;
      h = Math.imul(h ^ (h >>> 16), C2);
      h = Math.imul(h ^ (h >>> 13), C3);
      return ((h ^ (h >>> 16)) >>> 0).toString(16).padStart(8, '0');
    };
    return final(this.#a ^ Math.imul(this.#b, C3)) + final(this.#b ^ Math.imul(this.#a, C1));
  }
}
