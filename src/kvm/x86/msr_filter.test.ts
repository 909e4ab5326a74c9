import { expect, test } from 'vitest';
import { KVM_MSR_FILTER_DEFAULT_DENY, KVM_MSR_FILTER_READ, KVM_MSR_FILTER_WRITE, kvmMsrAllowed } from './msr_filter.ts';
import { GuestLab } from './testing/guest_lab.ts';

const EINVAL = 22;
const SYSENTER_CS = 0x174;
const BOTH = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
const range = (base: number, bits: number, flags: number = BOTH, nmsrs = 8) => ({
  flags,
  nmsrs,
  base,
  bitmap: Uint8Array.of(bits),
});

test('ranges decide by their bits, the default about everything else, the local APIC is never filtered', () => {
  const { vm, vcpu } = new GuestLab('f4');
  const allowed = (index: number, write = false): boolean => kvmMsrAllowed(vcpu.vcpu, index, write);
  expect(allowed(SYSENTER_CS)).toBe(true);
  const ranges = [range(0x170, 0b0001_0000), range(0x180, 0xff, KVM_MSR_FILTER_READ)];
  expect(vm.setMsrFilter({ flags: KVM_MSR_FILTER_DEFAULT_DENY, ranges })).toBe(0);
  expect([0x173, 0x174, 0x175, 0x178].map((index) => allowed(index))).toEqual([false, true, false, false]);
  expect([allowed(0x180), allowed(0x180, true)]).toEqual([true, false]);
  expect(allowed(0x830, true)).toBe(true);
  expect(vm.setMsrFilter({ flags: 0, ranges: [range(0x170, 0)] })).toBe(0);
  expect([allowed(0x174), allowed(0x180)]).toEqual([false, true]);
  expect(vm.setMsrFilter({ flags: 0, ranges: [] })).toBe(0);
  expect(allowed(SYSENTER_CS)).toBe(true);
});

test('filters that nobody can mean: −EINVAL, and the old one stays', () => {
  const { vm, vcpu } = new GuestLab('f4');
  vm.setMsrFilter({ flags: 0, ranges: [range(SYSENTER_CS, 0)] });
  const refused = [
    { flags: 2, ranges: [range(0, 1)] },
    { flags: KVM_MSR_FILTER_DEFAULT_DENY, ranges: [] },
    { flags: KVM_MSR_FILTER_DEFAULT_DENY, ranges: [range(0, 1, BOTH, 0)] },
    { flags: 0, ranges: [range(0, 1, 4)] },
    { flags: 0, ranges: [range(0, 1, BOTH, 0x10000)] },
    { flags: 0, ranges: new Array(17).fill(range(0, 1)) },
  ];
  for (const filter of refused) expect(vm.setMsrFilter(filter)).toBe(-EINVAL);
  expect(kvmMsrAllowed(vcpu.vcpu, SYSENTER_CS, false)).toBe(false);
});

test('an MSR that the guest has without exits exits once it is filtered', async () => {
  // mov ecx, 174h; rdmsr; out 80h, al; hlt
  const lab = new GuestLab('b9 74 01 00 00 0f 32 e6 80 f4');
  lab.vm.enableCap(188, [4n]);
  lab.vm.setMsrFilter({ flags: 0, ranges: [range(SYSENTER_CS, 0)] });
  const exit = await lab.vcpu.run();
  expect(exit).toMatchObject({ kind: 'rdmsr', index: SYSENTER_CS, reason: 4 });
  if (typeof exit !== 'number' && exit.kind === 'rdmsr') exit.data = 0x5an;
  expect(await lab.run()).toEqual(['out 80/1 5a']);
});
