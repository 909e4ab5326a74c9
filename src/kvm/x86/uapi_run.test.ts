/** struct kvm_run in shared memory: where each exit has its members, and what comes back as the answer. */
import { describe, expect, test } from 'vitest';
import { EXIT_SHUTDOWN, KvmRun, type VcpuExit } from '../virt/kvm_run.ts';
import { decodeKvmRun, encodeKvmRun, KVM_VCPU_MMAP_SIZE } from './uapi_run.ts';

const sharedMemory = (): DataView => new DataView(new ArrayBuffer(KVM_VCPU_MMAP_SIZE));

/** The run object with an exit, and shared memory after KVM_RUN. */
function exitWith(change: (run: KvmRun) => VcpuExit): { run: KvmRun; shared: DataView } {
  const run = new KvmRun();
  run.setExit(change(run));
  const shared = sharedMemory();
  encodeKvmRun(run, shared);
  return { run, shared };
}

/** Members by offset and size in bytes. */
const look = (shared: DataView, members: readonly (readonly [offset: number, bytes: 1 | 2 | 4 | 8])[]): bigint[] =>
  members.map(([offset, bytes]) => {
    let value = 0n;
    for (let i = bytes - 1; i >= 0; i--) value = (value << 8n) | BigInt(shared.getUint8(offset + i));
    return value;
  });

test('what every exit has', () => {
  const { run, shared } = exitWith((run) => {
    run.requestInterruptWindow = true;
    run.readyForInterruptInjection = true;
    run.ifFlag = true;
    run.flags = 1;
    run.cr8 = 7n;
    run.apicBase = 0xfee0_0900n;
    return run.unknown;
  });
  const header = [0, 1, 8, 12, 13, 14, 16, 24];
  const sizes = [1, 1, 4, 1, 1, 2, 8, 8] as const;
  expect(
    look(
      shared,
      header.map((offset, i) => [offset, sizes[i]!] as const),
    ),
  ).toEqual([1n, 0n, 0n, 1n, 1n, 1n, 7n, 0xfee0_0900n]);
  shared.setUint8(0, 0);
  shared.setUint8(1, 1);
  shared.setBigUint64(16, 3n, true);
  decodeKvmRun(run, shared);
  expect([run.requestInterruptWindow, run.immediateExit, run.cr8]).toEqual([false, true, 3n]);
});

describe('exits', () => {
  test('IO: data is in the second page', () => {
    const { shared } = exitWith(({ io }) => {
      Object.assign(io, { direction: 'out', size: 2, port: 0x3f8, count: 2 });
      io.data.set([1, 2, 3, 4, 5]);
      return io;
    });
    expect(
      look(shared, [
        [8, 4],
        [32, 1],
        [33, 1],
        [34, 2],
        [36, 4],
        [40, 8],
      ]),
    ).toEqual([2n, 1n, 2n, 0x3f8n, 2n, 4096n]);
    expect(
      look(shared, [
        [4096, 4],
        [4100, 1],
      ]),
    ).toEqual([0x04030201n, 0n]);
  });
  test('IO read: the answer comes from the second page', () => {
    const { run, shared } = exitWith(({ io }) => Object.assign(io, { direction: 'in', size: 1, port: 0x60, count: 1 }));
    expect(look(shared, [[32, 1]])).toEqual([0n]);
    shared.setUint8(4096, 0xab);
    decodeKvmRun(run, shared);
    expect(run.io.data[0]).toBe(0xab);
  });
  test('MMIO', () => {
    const { run, shared } = exitWith(({ mmio }) =>
      Object.assign(mmio, { physAddr: 0xd000_0004, len: 4, isWrite: false }),
    );
    expect(
      look(shared, [
        [8, 4],
        [32, 8],
        [48, 4],
        [52, 1],
      ]),
    ).toEqual([6n, 0xd000_0004n, 4n, 0n]);
    shared.setUint32(40, 0x1234_5678, true);
    decodeKvmRun(run, shared);
    expect([...run.mmio.data.subarray(0, 4)]).toEqual([0x78, 0x56, 0x34, 0x12]);
  });
  test('MMIO write: user space cannot change what was written', () => {
    const { run, shared } = exitWith(({ mmio }) => Object.assign(mmio, { physAddr: 0, len: 1, isWrite: true }));
    shared.setUint8(40, 9);
    decodeKvmRun(run, shared);
    expect(run.mmio.data[0]).toBe(0);
  });
  test('HYPERCALL', () => {
    const { run, shared } = exitWith(({ hypercall }) =>
      Object.assign(hypercall, { nr: 12n, args: [1n, 2n, 3n, 4n, 5n, 6n], ret: 0n, flags: 1n }),
    );
    expect(
      look(shared, [
        [8, 4],
        [32, 8],
        [40, 8],
        [80, 8],
        [88, 8],
        [96, 8],
      ]),
    ).toEqual([3n, 12n, 1n, 6n, 0n, 1n]);
    shared.setBigUint64(88, 22n, true);
    decodeKvmRun(run, shared);
    expect(run.hypercall.ret).toBe(22n);
  });
  test('DEBUG', () => {
    const { shared } = exitWith(({ debug }) => Object.assign(debug, { exception: 1, pc: 2n, dr6: 3n, dr7: 4n }));
    expect(
      look(shared, [
        [8, 4],
        [32, 4],
        [40, 8],
        [48, 8],
        [56, 8],
      ]),
    ).toEqual([4n, 1n, 2n, 3n, 4n]);
  });
  test('SHUTDOWN has no details', () => {
    const { shared } = exitWith(() => EXIT_SHUTDOWN);
    expect(
      look(shared, [
        [8, 4],
        [32, 8],
      ]),
    ).toEqual([8n, 0n]);
  });
  test('FAIL_ENTRY', () => {
    const { shared } = exitWith(({ failEntry }) =>
      Object.assign(failEntry, { hardwareEntryFailureReason: 7n, cpu: 3 }),
    );
    expect(
      look(shared, [
        [8, 4],
        [32, 8],
        [40, 4],
      ]),
    ).toEqual([9n, 7n, 3n]);
  });
  test('INTERNAL_ERROR', () => {
    const run = new KvmRun();
    run.setInternalError(4, [5n, 6n]);
    const shared = sharedMemory();
    encodeKvmRun(run, shared);
    expect(
      look(shared, [
        [8, 4],
        [32, 4],
        [36, 4],
        [40, 8],
        [48, 8],
      ]),
    ).toEqual([17n, 4n, 2n, 5n, 6n]);
  });
  test('SYSTEM_EVENT', () => {
    const { shared } = exitWith(({ systemEvent }) => {
      systemEvent.type = 7;
      systemEvent.ndata = 16;
      systemEvent.data[12] = 0x0bad_0000n;
      return systemEvent;
    });
    expect(
      look(shared, [
        [8, 4],
        [32, 4],
        [36, 4],
        [40 + 8 * 12, 8],
      ]),
    ).toEqual([24n, 7n, 16n, 0x0bad_0000n]);
  });
  test('IOAPIC_EOI', () => {
    const { shared } = exitWith(({ eoi }) => Object.assign(eoi, { vector: 0x51 }));
    expect(
      look(shared, [
        [8, 4],
        [32, 1],
      ]),
    ).toEqual([26n, 0x51n]);
  });
  test('X86_RDMSR', () => {
    const { run, shared } = exitWith(({ rdmsr }) => Object.assign(rdmsr, { reason: 2, index: 0xc001_0015 }));
    expect(
      look(shared, [
        [8, 4],
        [32, 1],
        [40, 4],
        [44, 4],
        [48, 8],
      ]),
    ).toEqual([29n, 0n, 2n, 0xc001_0015n, 0n]);
    shared.setUint8(32, 1);
    shared.setBigUint64(48, 77n, true);
    decodeKvmRun(run, shared);
    expect([run.rdmsr.error, run.rdmsr.data]).toEqual([1, 77n]);
  });
  test('MEMORY_FAULT', () => {
    const { shared } = exitWith(({ memoryFault }) =>
      Object.assign(memoryFault, { flags: 8n, gpa: 0x7fff_f000, size: 4096 }),
    );
    expect(
      look(shared, [
        [8, 4],
        [32, 8],
        [40, 8],
        [48, 8],
      ]),
    ).toEqual([39n, 8n, 0x7fff_f000n, 4096n]);
  });
  test('an exit clears what the one before left', () => {
    const { run, shared } = exitWith(({ memoryFault }) =>
      Object.assign(memoryFault, { flags: 8n, gpa: 4096, size: 4096 }),
    );
    run.setExit(run.eoi);
    encodeKvmRun(run, shared);
    expect(
      look(shared, [
        [40, 8],
        [48, 8],
      ]),
    ).toEqual([0n, 0n]);
  });
});

describe('TDX', () => {
  test('GetQuote', () => {
    const { run, shared } = exitWith(({ tdx }) => {
      tdx.nr = 0x10002;
      Object.assign(tdx.getQuote, { ret: 0x8000_0000_0000_0003n, gpa: 0x1234_5000, size: 8192n });
      return tdx;
    });
    expect(
      look(shared, [
        [8, 4],
        [32, 8],
        [40, 8],
        [48, 8],
        [56, 8],
        [64, 8],
      ]),
    ).toEqual([40n, 0n, 0x10002n, 0x8000_0000_0000_0003n, 0x1234_5000n, 8192n]);
    shared.setBigUint64(48, 0n, true);
    decodeKvmRun(run, shared);
    expect(run.tdx.getQuote.ret).toBe(0n);
  });
  test('GetTdVmCallInfo', () => {
    const { run, shared } = exitWith(({ tdx }) => {
      tdx.nr = 0x10000;
      Object.assign(tdx.getTdVmCallInfo, { ret: 0n, leaf: 1n, r11: 2n, r12: 3n, r13: 4n, r14: 5n });
      return tdx;
    });
    expect(
      look(shared, [
        [48, 8],
        [56, 8],
        [64, 8],
        [72, 8],
        [80, 8],
        [88, 8],
      ]),
    ).toEqual([0n, 1n, 2n, 3n, 4n, 5n]);
    shared.setBigUint64(64, 9n, true);
    decodeKvmRun(run, shared);
    expect(run.tdx.getTdVmCallInfo.r11).toBe(9n);
  });
  test('SetupEventNotifyInterrupt', () => {
    const { shared } = exitWith(({ tdx }) => {
      tdx.nr = 0x10004;
      Object.assign(tdx.setupEventNotify, { ret: 1n, vector: 0x55n });
      return tdx;
    });
    expect(
      look(shared, [
        [40, 8],
        [48, 8],
        [56, 8],
      ]),
    ).toEqual([0x10004n, 1n, 0x55n]);
  });
});
