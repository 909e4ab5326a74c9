/** Ways to say what an operation of the table does for a VM and for a TD. */
import { expect } from 'vitest';
import type { KvmX86Ops } from '../../src/kvm/x86/kvm_x86_ops.ts';
import type { Subject } from './vt-subject.ts';

/** A case: one function for both backends, or one for each. */
export type OpCase = ((s: Subject) => void | Promise<void>) | { readonly vm: Check; readonly td: Check };
export type Check = (s: Subject) => void | Promise<void>;

// ---- ways to say it

/** Both backends: the call gives this, and touches neither VMCS nor module. */
export const gives =
  (call: (s: Subject) => unknown, expected: unknown): OpCase =>
  (s) => {
    const { result, vmx, seam } = s.watch(() => call(s));
    expect(result).toEqual(expected);
    expect([...vmx, ...seam]).toEqual([]);
  };

/** The VM's effect is in its VMCS; a TD ignores the call: no instruction, no SEAMCALL, and this result. */
export const ignoredByTd = (call: (s: Subject) => unknown, vm: (s: Subject) => void, tdResult?: unknown): OpCase => ({
  vm,
  td: (s) => {
    const { result, vmx, seam } = s.watch(() => call(s));
    expect(result).toEqual(tdResult);
    expect([...vmx, ...seam]).toEqual([]);
  },
});

/** The call executes these VMX instructions, among others. */
export const executes =
  (call: (s: Subject) => unknown, ...instructions: string[]): Check =>
  (s) => {
    const { vmx } = s.watch(() => call(s));
    expect(vmx).toEqual(expect.arrayContaining(instructions));
  };

/** The call gives this for a VM. */
export const yields =
  (call: (s: Subject) => unknown, expected: unknown): Check =>
  (s) => {
    expect(call(s)).toEqual(expected);
  };

/** Nothing to compare: the life of VMs, which the tests of load and of TDs' lives are about. */
export const seenElsewhere: OpCase = (s) => {
  expect(s.vm.kvm.created).toBe(true);
};

/** Cases of some operations. */
export type Cases<Keys extends keyof KvmX86Ops> = Readonly<Record<Keys, OpCase>>;
