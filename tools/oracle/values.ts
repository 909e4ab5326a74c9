/** Random operands with a preference for those where floating point goes wrong. Reproducible by seed. */

export class Values {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** 32 random bits, unsigned. */
  u32(): number {
    // mulberry32
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }
  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }
  below(n: number): number {
    return this.u32() % n;
  }
  chance(oneIn: number): boolean {
    return this.below(oneIn) === 0;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  /** A significand fraction of `bits` bits: random, sparse, or all but a few ones. */
  fraction(bits: number): bigint {
    const all = (1n << BigInt(bits)) - 1n;
    switch (this.below(8)) {
      case 0:
        return 0n;
      case 1:
        return all;
      case 2:
        return 1n;
      case 3:
        return 1n << BigInt(this.below(bits));
      case 4:
        // one half of a bit, more or less, of some shorter precision
        return ((1n << BigInt(this.below(bits))) + BigInt(this.below(3)) - 1n) & all;
      case 5:
        return all & ~((1n << BigInt(this.below(bits))) - 1n);
      default:
        return this.u64() & all;
    }
  }

  /** An encoding with `exponentBits` and `fractionBits`. */
  float(exponentBits: number, fractionBits: number): bigint {
    const top = (1 << exponentBits) - 1;
    const bias = top >> 1;
    const quiet = 1n << BigInt(fractionBits - 1);
    let exponent: number;
    let fraction = this.fraction(fractionBits);
    switch (this.below(16)) {
      case 0:
        exponent = 0;
        fraction = 0n;
        break;
      case 1:
        exponent = 0;
        break;
      case 2:
        exponent = top;
        fraction = 0n;
        break;
      case 3:
        exponent = top;
        fraction = this.chance(2) ? fraction | quiet : (fraction & ~quiet) | 1n;
        break;
      case 4:
        exponent = 1 + this.below(4);
        break;
      case 5:
        exponent = top - 1 - this.below(3);
        break;
      case 6:
        exponent = this.below(top);
        break;
      case 7:
        // about half or twice the range: products and quotients meet the limits
        exponent = (this.chance(2) ? bias >> 1 : bias + (bias >> 1)) + this.below(fractionBits) - (fractionBits >> 1);
        break;
      case 8:
      case 9:
        // small integers
        exponent = bias + this.below(6);
        fraction = (fraction >> BigInt(fractionBits - 3)) << BigInt(fractionBits - 3);
        break;
      default:
        exponent = bias + this.below(fractionBits * 2 + 8) - fractionBits;
    }
    const sign = BigInt(this.below(2));
    return (((sign << BigInt(exponentBits)) | BigInt(exponent)) << BigInt(fractionBits)) | fraction;
  }
  f32(): bigint {
    return this.float(8, 23);
  }
  f64(): bigint {
    return this.float(11, 52);
  }
  /** 80 bits; now and then an encoding that the processor does not support. */
  f80(): bigint {
    const short = this.float(15, 63);
    const exponent = (short >> 63n) & 0x7fffn;
    const integer = exponent === 0n ? this.chance(8) : !this.chance(24);
    return ((short >> 63n) << 64n) | (integer ? 1n << 63n : 0n) | (short & ((1n << 63n) - 1n));
  }
  /** An integer with few or many significant bits. */
  integer(bits: number): bigint {
    const value = this.u64() >> BigInt(this.below(64));
    return BigInt.asUintN(bits, this.chance(2) ? -value : value);
  }
}
