/** Stands between the host and the TDX module: writes down every SEAMCALL, and makes some fail. */
import { TDH } from '../../src/host/tdx-leaves.ts';
import type { Processor } from '../../src/machine/processor.ts';
import type { SeamFirmware } from '../../src/machine/seam/seam.ts';

export interface SeenCall {
  readonly name: string;
  readonly version: number;
  readonly cpu: number;
  readonly rcx: bigint;
  readonly rdx: bigint;
  readonly r8: bigint;
  readonly r9: bigint;
}

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(TDH).map(([name, leaf]) => [leaf, name]));

export class SeamRecorder implements SeamFirmware {
  readonly inner: SeamFirmware;
  readonly calls: SeenCall[] = [];
  /** Says what a call gives instead of being made, and may set other registers; undefined lets it through. */
  intercept: (call: SeenCall, index: number, p: Processor) => bigint | undefined = () => undefined;
  /** Statuses that calls of a leaf give, one each, before they are made again. */
  readonly fail: Map<string, bigint[]> = new Map();

  constructor(inner: SeamFirmware) {
    this.inner = inner;
  }

  seamcall(p: Processor): void {
    const rax = p.gpr(0);
    const call: SeenCall = {
      name: NAMES.get(Number(rax & 0xffffn)) ?? `leaf ${rax}`,
      version: Number((rax >> 16n) & 0xffn),
      cpu: p.index,
      rcx: p.gpr(1),
      rdx: p.gpr(2),
      r8: p.gpr(8),
      r9: p.gpr(9),
    };
    this.calls.push(call);
    const status = this.fail.get(call.name)?.shift() ?? this.intercept(call, this.calls.length - 1, p);
    if (status === undefined) this.inner.seamcall(p);
    else p.setGpr(0, status);
  }

  /** Names since the last {@link clear}, equal neighbours as one with their number. */
  get sequence(): string[] {
    const names: string[] = [];
    let count = 0;
    this.calls.forEach(({ name }, i) => {
      count++;
      if (this.calls[i + 1]?.name === name) return;
      names.push(count === 1 ? name : `${name} ×${count}`);
      count = 0;
    });
    return names;
  }

  clear(): void {
    this.calls.length = 0;
  }
}
