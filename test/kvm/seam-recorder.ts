/** Stands between the host and the TDX module: writes down every SEAMCALL, and makes some fail. */
import { type RecordedCall, recordedCall } from '../../src/host/testing/fake-tdx-module.ts';
import type { Processor } from '../../src/machine/processor.ts';
import type { SeamFirmware } from '../../src/machine/seam/seam.ts';

export class SeamRecorder implements SeamFirmware {
  readonly inner: SeamFirmware;
  readonly calls: RecordedCall[] = [];
  /** Says what a call gives instead of being made, and may set other registers; undefined lets it through. */
  intercept: (call: RecordedCall, index: number, p: Processor) => bigint | undefined = () => undefined;
  /** Statuses that calls of a leaf give, one each, before they are made again. */
  readonly fail: Map<string, bigint[]> = new Map();

  constructor(inner: SeamFirmware) {
    this.inner = inner;
  }

  seamcall(p: Processor): void {
    const call = recordedCall(p);
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
