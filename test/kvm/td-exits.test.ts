/** What KVM makes of the statuses that TDH.VP.ENTER can give, as told by a module that says anything. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { VcpuExit } from '../../src/kvm/virt/kvm_run.ts';
import { trace } from '../../src/util/trace.ts';
import { SHARED_BIT, TdLab } from './td-lab.ts';

const SUCCESS = 0n;
const NON_RECOVERABLE_VCPU = 0x4000_0001n << 32n;
const NON_RECOVERABLE_TD = 0x6000_0002n << 32n;
const NON_ACCESSIBLE = 0x6000_0005n << 32n;
const WRONG_APIC_MODE = 0xe000_0007n << 32n;
const EIO = 5;

let td: TdLab;
beforeEach(async () => {
  td = new TdLab();
  await td.ready();
});
afterEach(() => {
  td.lab.seam.intercept = () => undefined;
  td.close();
});

/** Runs with one made-up exit; what comes after it is the guest's next report. */
async function exitWith(rax: bigint, regs: Record<number, bigint> = {}): Promise<VcpuExit | number> {
  let done = false;
  td.command({ 0: 1n });
  td.lab.seam.intercept = ({ name }, _index, p) => {
    if (name !== 'VP_ENTER' || done) return undefined;
    done = true;
    for (const n of [1, 2, 8, 9, 10, 11]) p.setGpr(n, regs[n] ?? 0n);
    return rax;
  };
  return td.vcpu.run();
}

describe('exits to user space', () => {
  test('a triple fault is a shutdown', async () => {
    expect(await exitWith(NON_RECOVERABLE_VCPU | 2n)).toMatchObject({ kind: 'shutdown' });
  });
  test('a TD or vCPU that is lost: an internal error with the status', async () => {
    for (const rax of [NON_RECOVERABLE_TD | 33n, NON_ACCESSIBLE | 41n, WRONG_APIC_MODE, 0xc000_0100_0000_0001n]) {
      const exit = await exitWith(rax);
      expect(exit).toMatchObject({ kind: 'internal-error', suberror: 4 });
      if (typeof exit !== 'number' && exit.kind === 'internal-error') expect(exit.data[0]).toBe(rax);
    }
    expect(td.vm.kvm.vmBugged).toBe(false);
  });
  test('a failed VM entry: FAIL_ENTRY with its reason', async () => {
    expect(await exitWith(NON_RECOVERABLE_TD | 0x8000_0021n)).toMatchObject({
      kind: 'fail-entry',
      hardwareEntryFailureReason: 0x8000_0021n,
    });
  });
  test('an exception other than NMI and machine check', async () => {
    expect(await exitWith(SUCCESS, { 9: 0x8000_030en })).toMatchObject({ kind: 'exception', hardwareExitReason: 14 });
  });
  test('reasons that KVM does not expect of a TD, and an EPT misconfiguration that the module says itself', async () => {
    for (const reason of [7n, 28n, 43n, 49n, 52n, 62n])
      expect(await exitWith(reason)).toMatchObject({ kind: 'internal-error', suberror: 4 });
  });
  test('SEAMCALL that never reached the module is a bug of the host', async () => {
    expect(await exitWith(0x8000_ff00_ffff_0000n)).toMatchObject({ kind: 'internal-error' });
    expect(td.vm.kvm.vmBugged).toBe(true);
  });
});

describe('exits that go on', () => {
  test('NMI, machine check, external interrupt, other SMI', async () => {
    for (const [reason, info] of [
      [0n, 0x8000_0202n],
      [0n, 0x8000_0312n],
      [1n, 0x8000_00ecn],
      [6n, 0n],
    ] as const) {
      const exit = await exitWith(reason, { 9: info });
      expect(exit).toMatchObject({ kind: 'io', port: 0x80 });
    }
  });
  test('an instruction fetch from shared memory is a bug', async () => {
    expect(await exitWith(48n, { 1: 4n, 8: SHARED_BIT | 0x20_0000n })).toBe(-EIO);
    expect(td.vm.kvm.vmBugged).toBe(true);
  });
  test('a private violation of a pending page, without any rights: the guest did not accept it', async () => {
    expect(await exitWith(48n, { 1: 1n, 2: 6n, 8: 0x8_0000n })).toBe(-EIO);
    expect(td.vm.kvm.vmDead).toBe(true);
  });
});

test('kvm_entry and kvm_exit are traced with reason, qualifications, and interruption information', async () => {
  const seen: unknown[] = [];
  trace.kvm_entry = (vcpu) => void seen.push(`entry ${vcpu}`);
  trace.kvm_exit = (vcpu, reason, _rip, info1, info2, intrInfo) =>
    void seen.push(`exit ${vcpu} ${reason} ${info1} ${info2} ${intrInfo.toString(16)}`);
  try {
    await exitWith(1n, { 1: 5n, 2: 7n, 9: 0x8000_00ecn });
  } finally {
    trace.kvm_entry = undefined;
    trace.kvm_exit = undefined;
  }
  expect(seen.slice(0, 3)).toEqual(['entry 0', 'exit 0 1 5 7 800000ec', 'entry 0']);
  // The guest's report is an I/O, by TDG.VP.VMCALL: no qualification.
  expect(seen.at(-1)).toBe('exit 0 30 0 0 0');
});
