import { expect, test } from 'vitest';
import { F } from '../machine/vtx/field-slots.ts';
import { vcpuStates } from './inspect.ts';
import { TestPlatform } from './tdh/test-td.ts';

test('the state of a TD’s virtual processors: pages and VMCS, of this TD alone', () => {
  const platform = new TestPlatform();
  const [td, other] = [platform.td(), platform.td()];
  const create = (of: typeof td) => {
    const tdvps = platform.module.addTdvps(of.tdr, platform.page());
    for (let i = 1; i < 6; i++) tdvps.pages.push(platform.page());
    for (const page of tdvps.pages) platform.keyed.take(page, of.hkid);
    return tdvps;
  };
  const tdvps = create(td);
  const text = (): string =>
    JSON.stringify(vcpuStates(platform.module, td.pa), (_, value) => (typeof value === 'bigint' ? `${value}` : value));
  const seen = [text()];
  tdvps.set('RAX', 1n);
  seen.push(text());
  tdvps.vmcs.set64(F.GUEST_RIP, 0x1000n);
  seen.push(text());
  expect(new Set(seen).size).toBe(3);
  create(other).set('RAX', 2n);
  expect(text()).toBe(seen[2]);
});
