/** The whole life of TDs while somebody else holds the module's locks now and then, entropy runs out, and interrupts come. */
import { expect, test } from 'vitest';
import { PAGE_OWNER } from '../../src/host/pages.ts';
import { Random } from '../../src/util/random.ts';
import { KVM_MEMORY_ATTRIBUTE_PRIVATE, type Regs, TdLab, type TdxHostLab, tdxHost } from './td-lab.ts';

const ACCEPT = 6n;
const OPERAND_BUSY = 0x8000_0200n;
const SEEDS = [1, 2, 3, 4];

/** A TDCALL that the guest makes until it finds no lock taken: bits 63:32 of its status. */
async function patiently(td: TdLab, regs: Regs): Promise<bigint> {
  for (;;) {
    const status = (await td.call(regs))[0]! >> 32n;
    if (status !== OPERAND_BUSY) return status;
  }
}

const inventory = ({ host }: TdxHostLab): object => ({
  free: host.pages.freePages,
  tdx: host.pages.count(PAGE_OWNER.tdx),
  keyIds: host.tdx.keyIds.inUse,
  foreign: host.machine.memory.keyed.foreignPages,
});

const held: Set<string> = new Set();
test.each(SEEDS)(
  'locks held by seed %d: everything works, nothing is lost',
  async (seed) => {
    const lab = tdxHost();
    const before = inventory(lab);
    const random = new Random(seed);
    let count = 0;
    lab.tdxModule.hooks.lockHeld = (kind) => {
      // Nobody on this host works on large pages: their PAMT entries are only ever shared.
      if (kind === 'pamt2m' || kind === 'pamt1g') return false;
      if (random.below(20) !== 0) return false;
      held.add(kind);
      count++;
      return true;
    };
    lab.tdxModule.hooks.interruptPending = () => random.below(3) === 0;
    for (let i = 0; i < 3; i++) {
      const td = new TdLab({ vcpus: 2 }, lab);
      await td.ready(0);
      await td.ready(1);
      for (let page = 0x40; page < 0x48; page++) {
        const gpa = page * 4096;
        expect(await patiently(td, { 0: ACCEPT, 1: BigInt(gpa) })).toBe(0n);
        for (const attributes of [0n, KVM_MEMORY_ATTRIBUTE_PRIVATE])
          td.vm.setMemoryAttributes({ address: gpa, size: 4096, attributes, flags: 0n });
        td.vcpus[1]!.vcpu.task.cpu = lab.host.cpus.possible[page & 1]!;
        expect((await td.call({ 0: 1n }, undefined, 1))[0]).toBe(0n);
      }
      expect(td.vm.kvm.vmBugged).toBe(false);
      td.close();
      expect(inventory(lab)).toEqual(before);
    }
    expect(count).toBeGreaterThan(100);
  },
  60_000,
);

test('that was about every kind of lock that a TD’s life takes', () => {
  for (const kind of ['sept_tree', 'sept_entry', 'td_epoch', 'pamt4k', 'op_state', 'kot']) expect(held).toContain(kind);
});
