/**
 * A frame: one instruction, the state it starts from, and the state it leaves. The recorder reads and writes the same bytes.
 *
 *   0 code (16)   16 length   20 trap (−1: none)   24 RAX RCX RDX RBX RSI RDI RBP RFLAGS   88 memory (256)   344 FXSAVE image (512)
 *   856 upper halves of YMM registers (256)   1112 pad
 */

/** Where code runs and memory operands lie, as linear addresses. */
export const CODE = 0x20_0000;
export const DATA = 0x21_0000;
export const MEMORY_SIZE = 256;
export const FRAME_SIZE = 1120;

export const AT = { code: 0, length: 16, trap: 20, gpr: 24, flags: 80, memory: 88, fx: 344, ymm: 856 } as const;
/** GPRs in frames: RAX RCX RDX RBX RSI RDI RBP by their encoding. */
export const GPR_ORDER: readonly number[] = [0, 1, 2, 3, 6, 7, 5];
/** Within the FXSAVE image. */
export const FX = { fcw: 0, fsw: 2, tag: 4, fop: 6, fip: 8, fdp: 16, mxcsr: 24, st: 32, xmm: 160 } as const;
/** Status flags of RFLAGS that frames compare. */
export const STATUS = 0x8d5;

/** C1, which tells the direction of the last rounding. */
const C1 = 0x200;

export class Frame {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView;

  constructor(bytes: Uint8Array<ArrayBuffer> = new Uint8Array(FRAME_SIZE)) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, FRAME_SIZE);
  }

  get trap(): number {
    return this.view.getInt32(AT.trap, true);
  }
  set trap(value: number) {
    this.view.setInt32(AT.trap, value, true);
  }
  /** A copy with the x87 stack values of `other` where they are next to each other, and its C1. */
  tolerating(other: Frame): Frame {
    const result = this.copy();
    const view = result.fxView;
    view.setUint16(FX.fsw, (view.getUint16(FX.fsw, true) & ~C1) | (other.fxView.getUint16(FX.fsw, true) & C1), true);
    for (let n = 0; n < 8; n++) {
      const distance = ordinal(this.st(n)) - ordinal(other.st(n));
      if (distance < -1n || distance > 1n) continue;
      const at = FX.st + n * 16;
      result.fx.set(other.fx.subarray(at, at + 10), at);
    }
    return result;
  }

  get length(): number {
    return this.view.getUint32(AT.length, true);
  }
  get code(): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(0, this.length);
  }
  set code(bytes: Uint8Array | readonly number[]) {
    this.bytes.set(bytes, AT.code);
    this.view.setUint32(AT.length, bytes.length, true);
  }
  get memory(): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(AT.memory, AT.memory + MEMORY_SIZE);
  }
  get fx(): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(AT.fx, AT.fx + 512);
  }
  /** Upper halves of YMM0 to YMM15. */
  get ymm(): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(AT.ymm, AT.ymm + 256);
  }
  get fxView(): DataView {
    return new DataView(this.bytes.buffer, this.bytes.byteOffset + AT.fx, 512);
  }
  gpr(index: number): bigint {
    return this.view.getBigUint64(AT.gpr + index * 8, true);
  }
  setGpr(index: number, value: bigint): void {
    this.view.setBigUint64(AT.gpr + index * 8, BigInt.asUintN(64, value), true);
  }
  get flags(): number {
    return this.view.getUint32(AT.flags, true);
  }
  set flags(value: number) {
    this.view.setUint32(AT.flags, value, true);
  }

  copy(): Frame {
    return new Frame(this.bytes.slice());
  }

  /** A 32-bit hash (FNV-1a) of everything that counts; upper halves do if they are not zeros. */
  digest(): number {
    let hash = 0x811c9dc5;
    const mix = (bytes: Uint8Array): void => {
      for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
    };
    const { bytes, fx } = this;
    mix(bytes.subarray(AT.trap, AT.flags));
    mix(new Uint8Array(Uint16Array.of(this.flags & STATUS).buffer));
    mix(this.memory);
    mix(fx.subarray(0, FX.mxcsr + 4));
    for (let n = 0; n < 8; n++) mix(fx.subarray(FX.st + n * 16, FX.st + n * 16 + 10));
    mix(fx.subarray(FX.xmm, FX.xmm + 256));
    if (this.ymm.some((byte) => byte !== 0)) mix(this.ymm);
    return hash >>> 0;
  }

  /** ST(n) as 80 bits. */
  st(n: number): bigint {
    const at = FX.st + n * 16;
    return this.fxView.getBigUint64(at, true) | (BigInt(this.fxView.getUint16(at + 8, true)) << 64n);
  }

  /** Everything that counts, in words: what differs between two frames, by name. */
  differences(other: Frame): string[] {
    const found: string[] = [];
    const check = (name: string, a: number | bigint, b: number | bigint): void => {
      if (a !== b) found.push(`${name} ${a.toString(16)}, expected ${b.toString(16)}`);
    };
    check('trap', this.trap, other.trap);
    for (const [i, n] of GPR_ORDER.entries()) check(`gpr${n}`, this.gpr(i), other.gpr(i));
    check('flags', this.flags & STATUS, other.flags & STATUS);
    for (let i = 0; i < MEMORY_SIZE; i += 8)
      check(`memory+${i}`, this.view.getBigUint64(AT.memory + i, true), other.view.getBigUint64(AT.memory + i, true));
    const a = this.fxView,
      b = other.fxView;
    for (const [name, at] of [
      ['FCW', FX.fcw],
      ['FSW', FX.fsw],
      ['FTW', FX.tag],
      ['FOP', FX.fop],
    ] as const)
      check(name, a.getUint16(at, true), b.getUint16(at, true));
    check('FIP', a.getBigUint64(FX.fip, true), b.getBigUint64(FX.fip, true));
    check('FDP', a.getBigUint64(FX.fdp, true), b.getBigUint64(FX.fdp, true));
    check('MXCSR', a.getUint32(FX.mxcsr, true), b.getUint32(FX.mxcsr, true));
    const xmm = (v: DataView, n: number): bigint =>
      v.getBigUint64(FX.xmm + n * 16, true) | (v.getBigUint64(FX.xmm + n * 16 + 8, true) << 64n);
    for (let n = 0; n < 8; n++) check(`ST${n}`, this.st(n), other.st(n));
    for (let n = 0; n < 16; n++) check(`XMM${n}`, xmm(a, n), xmm(b, n));
    const ymm = ({ view }: Frame, at: number): bigint => view.getBigUint64(AT.ymm + at, true);
    for (let at = 0; at < 256; at += 8) check(`YMM+${at}`, ymm(this, at), ymm(other, at));
    return found;
  }
}

/** A number that grows by one from one 80-bit number of a sign to the next. */
const ordinal = (raw: bigint): bigint => ((raw >> 64n) << 63n) | (raw & ((1n << 63n) - 1n));
