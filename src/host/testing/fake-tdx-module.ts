/**
 * A stand-in for the TDX module that writes down every call and does nothing: for tests that pin which calls the host
 * makes, in which order and with which operands.
 */
import type { Processor } from '../../machine/processor.ts';
import type { SeamFirmware } from '../../machine/seam/seam.ts';
import { TDH } from '../tdx-leaves.ts';

/** A call as it came. */
export interface RecordedCall {
  readonly name: string;
  readonly version: number;
  readonly cpu: number;
  readonly rcx: bigint;
  readonly rdx: bigint;
  readonly r8: bigint;
  readonly r9: bigint;
}

/** What a handler may put into the registers; RAX is 0 unless said. */
export interface Answer {
  rax?: bigint;
  rcx?: bigint;
  rdx?: bigint;
  r8?: bigint;
  [gpr: number]: bigint;
}

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(TDH).map(([name, leaf]) => [leaf, name]));

/** The call that a processor's registers say. */
export function recordedCall(p: Processor): RecordedCall {
  const rax = p.gpr(0);
  const leaf = Number(rax & 0xffffn);
  return {
    name: NAMES.get(leaf) ?? `leaf ${leaf}`,
    version: Number((rax >> 16n) & 0xffn),
    cpu: p.index,
    rcx: p.gpr(1),
    rdx: p.gpr(2),
    r8: p.gpr(8),
    r9: p.gpr(9),
  };
}

/** Metadata of a module that fits the host. */
const METADATA: readonly [bigint, bigint][] = [
  [0x0800_0001_0000_0003n, 5n],
  [0x0800_0001_0000_0004n, 1n],
  [0x0800_0001_0000_0005n, 6n],
  [0x0a00_0003_0000_0008n, (1n << 16n) | (1n << 18n) | (1n << 20n)],
  [0x9100_0001_0000_0008n, 64n],
  [0x9100_0001_0000_0009n, 16n],
  [0x9100_0001_0000_0010n, 16n],
  [0x9100_0001_0000_0011n, 16n],
  [0x9100_0001_0000_0012n, 16n],
  [0x9800_0001_0000_0000n, 4096n],
  [0x9800_0001_0000_0100n, 6n * 4096n],
  [0x9800_0001_0000_0200n, 6n * 4096n],
  // ATTRIBUTES, XFAM: what may be 1, what must be.
  [0x1900_0003_0000_0000n, (1n << 28n) | 1n],
  [0x1900_0003_0000_0001n, 0n],
  [0x1900_0003_0000_0002n, 0x6_dbe7n],
  [0x1900_0003_0000_0003n, 3n],
  [0x9900_0001_0000_0004n, 2n],
  [0x9900_0001_0000_0008n, 64n],
  // Configurable: leaf 1 (no subleaf), leaf 80000008 (no subleaf).
  [0x9900_0003_0000_0400n, 0xffff_ffff_0000_0001n],
  [0x9900_0003_0000_0401n, 0xffff_ffff_8000_0008n],
  [0x9900_0003_0000_0500n, 0x00ff_0000_0fff_3fffn],
  [0x9900_0003_0000_0501n, 0xffff_ffff_0000_0000n],
  [0x9900_0003_0000_0502n, 0x0000_0000_00ff_0000n],
  [0x9900_0003_0000_0503n, 0n],
];

/** The recording module. */
export class FakeTdxModule implements SeamFirmware {
  readonly calls: RecordedCall[] = [];
  readonly metadata: Map<bigint, bigint> = new Map(METADATA);
  /** Statuses that the next calls of a leaf give, one each; then it succeeds again. */
  readonly fail: Map<string, bigint[]> = new Map();
  /** What a leaf does instead of nothing. */
  readonly handlers: Map<string, (call: RecordedCall, p: Processor) => Answer> = new Map();

  constructor() {
    this.handlers.set('SYS_RD', ({ rdx }) => {
      const value = this.metadata.get(rdx);
      return value === undefined ? { rax: 0xc000_0c00_0000_0000n } : { r8: value };
    });
    // Half a GiB at a time.
    const reached: Map<bigint, bigint> = new Map();
    this.handlers.set('SYS_TDMR_INIT', ({ rcx }) => {
      const next = (reached.get(rcx) ?? rcx) + 0x2000_0000n;
      reached.set(rcx, next);
      return { rdx: next };
    });
  }

  seamcall(p: Processor): void {
    const call = recordedCall(p);
    this.calls.push(call);
    const failing = this.fail.get(call.name)?.shift();
    const answer = failing !== undefined ? { rax: failing } : (this.handlers.get(call.name)?.(call, p) ?? {});
    p.setGpr(0, answer.rax ?? 0n);
    const named: [number, bigint | undefined][] = [
      [1, answer.rcx],
      [2, answer.rdx],
      [8, answer.r8],
    ];
    for (const [gpr, value] of named) if (value !== undefined) p.setGpr(gpr, value);
    for (const [gpr, value] of Object.entries(answer)) if (/^\d+$/.test(gpr)) p.setGpr(Number(gpr), value);
  }

  /** Names of the calls so far, repeats of metadata reads and of what `without` names left out. */
  names(without: readonly string[] = ['SYS_RD']): string[] {
    return this.calls.filter(({ name }) => !without.includes(name)).map(({ name }) => name);
  }
}
