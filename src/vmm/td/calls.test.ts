import { describe, expect, test } from 'vitest';
import { KvmRun } from '../../kvm/virt/kvm_run.ts';
import { describeEnd, exitCode } from '../guest-end.ts';
import { answerHypercall, answerTdx, fatalError, NO_QUOTE_SERVICE, QUOTE_SERVICE_UNAVAILABLE } from './calls.ts';
import type { TdMemory } from './memory.ts';

/** Memory that records conversions, with two shared pages from 0. */
function fakeMemory(result = 0) {
  const shared = new Uint8Array(0x2000);
  const converted: unknown[] = [];
  const inside = (gpa: number, length: number): boolean => gpa + length <= shared.length;
  const memory = {
    convert: (gpa: number, size: number, toPrivate: boolean) => {
      converted.push([gpa, size, toPrivate]);
      return result;
    },
    readShared: (gpa: number, length: number) => (inside(gpa, length) ? shared.slice(gpa, gpa + length) : undefined),
    writeShared: (gpa: number, bytes: Uint8Array) => {
      shared.set(bytes, gpa);
      return true;
    },
  };
  return { memory: memory as unknown as TdMemory, converted, shared, view: new DataView(shared.buffer) };
}

describe('MapGPA', () => {
  const exit = (nr: bigint, ...args: bigint[]) => {
    const { hypercall } = new KvmRun();
    hypercall.nr = nr;
    args.forEach((value, n) => {
      hypercall.args[n] = value;
    });
    return hypercall;
  };

  test('converts the pages to what the attributes say, and answers 0', () => {
    const { memory, converted } = fakeMemory();
    const toShared = exit(12n, 0x20_0000n, 16n, 0n);
    answerHypercall(toShared, memory);
    answerHypercall(exit(12n, 0x1000n, 1n, 0x10n), memory);
    expect(converted).toEqual([
      [0x200000, 0x10000, false],
      [0x1000, 0x1000, true],
    ]);
    expect(toShared.ret).toBe(0n);
  });

  test('an error goes to the guest', () => {
    const call = exit(12n, 0n, 1n, 0n);
    answerHypercall(call, fakeMemory(-22).memory);
    expect(call.ret).toBe(0xffff_ffff_ffff_ffean);
  });

  test('other hypercalls do not exist', () => {
    const { memory, converted } = fakeMemory();
    const call = exit(5n);
    answerHypercall(call, memory);
    expect([call.ret, converted]).toEqual([0xffff_ffff_ffff_fc18n, []]);
  });
});

describe('GetQuote', () => {
  const request = (gpa: number, size: bigint) => {
    const { tdx } = new KvmRun();
    tdx.nr = 0x10002;
    Object.assign(tdx.getQuote, { gpa, size });
    return tdx;
  };
  const fill = (view: DataView): void => {
    view.setBigUint64(0, 1n, true);
    view.setUint32(16, 4, true);
    view.setUint32(24, 0xabcd, true);
  };

  test('without a service the buffer says that it is unavailable', () => {
    const { memory, view } = fakeMemory();
    fill(view);
    const exit = request(0, 0x1000n);
    answerTdx(exit, memory, NO_QUOTE_SERVICE);
    expect(exit.getQuote.ret).toBe(0n);
    expect(view.getBigUint64(8, true)).toBe(QUOTE_SERVICE_UNAVAILABLE);
    expect(view.getUint32(20, true)).toBe(0);
  });

  test('a service gets the report, and its quote lies behind the header', () => {
    const { memory, view, shared } = fakeMemory();
    fill(view);
    const reports: Uint8Array[] = [];
    const service = {
      quote: (report: Uint8Array) => {
        reports.push(report);
        return Uint8Array.of(9, 8, 7);
      },
    };
    answerTdx(request(0, 0x1000n), memory, service);
    expect(reports).toEqual([Uint8Array.of(0xcd, 0xab, 0, 0)]);
    expect([view.getBigUint64(8, true), view.getUint32(20, true)]).toEqual([0n, 3]);
    expect([...shared.subarray(24, 27)]).toEqual([9, 8, 7]);
  });

  test.each<[string, number, bigint, bigint]>([
    ['a piece of a page', 0x100, 0x1000n, (1n << 63n) | 2n],
    ['half a page', 0, 0x800n, (1n << 63n) | 2n],
    ['nothing', 0, 0n, 1n << 63n],
    ['what is no memory', 0x8000, 0x1000n, 1n << 63n],
    ['more than any quote needs', 0, 0x21000n, 1n << 63n],
    ['all of the address space', 0, 0xffff_ffff_ffff_f000n, 1n << 63n],
    ['a buffer without a header', 0x1000, 0x1000n, 1n << 63n],
  ])('%s is refused', (_, gpa, size, status) => {
    const { memory, view } = fakeMemory();
    fill(view);
    const exit = request(gpa, size);
    answerTdx(exit, memory, NO_QUOTE_SERVICE);
    expect(exit.getQuote.ret).toBe(status);
  });
});

test('notification of quotes is not supported, and leaf 1 of GetTdVmCallInfo names no function', () => {
  const { memory } = fakeMemory();
  const { tdx } = new KvmRun();
  tdx.nr = 0x10004;
  answerTdx(tdx, memory, NO_QUOTE_SERVICE);
  expect(tdx.setupEventNotify.ret).toBe((1n << 63n) | 3n);
  tdx.nr = 0x10000;
  Object.assign(tdx.getTdVmCallInfo, { leaf: 1n, r11: 7n });
  answerTdx(tdx, memory, NO_QUOTE_SERVICE);
  expect(tdx.getTdVmCallInfo).toEqual({ ret: 0n, leaf: 1n, r11: 0n, r12: 0n, r13: 0n, r14: 0n });
});

describe('ReportFatalError', () => {
  const report = (text: string, code: bigint) => {
    const { systemEvent } = new KvmRun();
    const bytes = new Uint8Array(64);
    bytes.set(new TextEncoder().encode(text));
    const words = new BigUint64Array(bytes.buffer);
    [14, 15, 3, 7, 6, 8, 9, 2].forEach((register, n) => {
      systemEvent.data[register] = words[n]!;
    });
    systemEvent.data[12] = code;
    return fatalError(systemEvent);
  };

  test('its text and code are the guest’s end, exit code 1', () => {
    const end = report('TD misconfiguration: SEPT #VE has to be disabled', 3n | (1n << 63n));
    expect(describeEnd(end)).toBe(
      'the TD reported a fatal error, code 3: TD misconfiguration: SEPT #VE has to be disabled',
    );
    expect(exitCode(end)).toBe(1);
  });

  test('64 characters need no NUL, and what is no text is shown as ?', () => {
    const end = report(`${'x'.repeat(63)}\n`, 0n);
    expect(describeEnd(end)).toContain(`${'x'.repeat(63)}?`);
    expect(describeEnd(report('', 0n))).toBe('the TD reported a fatal error, code 0');
  });
});
