/** Private memory whose real tables are kept elsewhere: what the mirror passes on, in which order, and what errors leave. */
import { describe, expect, test } from 'vitest';
import { EBUSY, EFAULT, EINVAL, EIO } from '../../../host/errno.ts';
import { PAGE_OWNER } from '../../../host/pages.ts';
import { type Hpa, PAGE_SIZE } from '../../../util/address.ts';
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, kvmGmemPopulate } from '../../virt/guest_memfd.ts';
import { kvmSetMemoryRegion2 } from '../../virt/memslots.ts';
import { kvmVcpuPreFaultMemory } from '../../virt/pre_fault.ts';
import { BASE_GFN, MirrorLab, SLOT_PAGES } from '../testing/mirror_lab.ts';
import { kvmMmuPageFault } from './mmu.ts';
import { kvmTdpMmuMapPrivatePfn } from './prefault.ts';
import { EPT_SUPPRESS_VE, isMmioSpte, isShadowPresentPte, SHADOW_NONPRESENT_VALUE, spteAddress } from './spte.ts';

const HOLE = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;
const GO_ON = 1;

/** A lab whose first `count` frames are private. */
function labWith(count: number, sharedBit: 47 | 51 = 47): MirrorLab {
  const lab = new MirrorLab(sharedBit);
  expect(lab.convert(0, count, true)).toBe(0);
  return lab;
}

describe('a private fault', () => {
  test('makes the tables from the top down, then the page', () => {
    const lab = labWith(4);
    expect(lab.faultPrivate(3)).toBe(GO_ON);
    expect(lab.calls()).toEqual(['link 4 -100000', 'link 3 0', 'link 2 0', 'set 1 3']);
    expect(lab.faultPrivate(2)).toBe(GO_ON);
    expect(lab.calls()).toEqual(['set 1 2']);
    expect(lab.sept.leaves.get(BASE_GFN + 3)).toBe(lab.file.page(3));
    expect(lab.vm.arch.tdpMmu.hasRoot).toBe(false);
  });

  test('a page that is there already is not set again', () => {
    const lab = labWith(1);
    lab.faultPrivate(0);
    lab.calls();
    expect(lab.faultPrivate(0)).toBe(GO_ON);
    expect(lab.calls()).toEqual([]);
  });

  test.each([
    ['the first table', 1],
    ['the second table', 2],
    ['the third table', 3],
    ['the page', 4],
  ])('−EBUSY at %s: the guest tries again, and nothing is lost', (_name, step) => {
    const lab = labWith(1);
    let call = 0;
    lab.sept.answer = () => (++call === step ? -EBUSY : 0);
    expect(lab.faultPrivate(0)).toBe(GO_ON);
    expect(lab.sept.leaves.size).toBe(0);
    expect(lab.host.pages.count(PAGE_OWNER.tdx)).toBe(lab.sept.tables.size);
    // The root has no counterpart: who keeps the real tables has one of its own.
    expect(lab.vm.arch.mirrorMmu!.tables).toBe(lab.sept.tables.size + 1);
    expect(lab.vcpu.stat.pf_fixed).toBe(0);
    expect(lab.faultPrivate(0)).toBe(GO_ON);
    expect(lab.sept.leaves.size).toBe(1);
    lab.close();
    expect(lab.host.pages.count(PAGE_OWNER.tdx)).toBe(0);
  });

  test('without memory for a table: −ENOMEM, and nothing half done', () => {
    const lab = labWith(1);
    lab.file.page(0);
    lab.vm.arch.mirrorMmu!.root();
    const taken: Hpa[] = [];
    for (let page = lab.host.pages.alloc(2); page !== undefined; page = lab.host.pages.alloc(2)) taken.push(page);
    // One page: the mirror's table, but not the one behind it.
    lab.host.pages.free(taken.pop()!);
    expect(lab.faultPrivate(0)).toBe(-12);
    expect(lab.host.pages.freePages).toBe(1);
    for (const page of taken) lab.host.pages.free(page);
    expect(lab.faultPrivate(0)).toBe(GO_ON);
  });
});

describe('shared memory', () => {
  test.each([47, 51] as const)('is in the direct tables, at addresses with bit %i', (bit) => {
    const lab = new MirrorLab(bit);
    expect(lab.faultShared(5)).toBe(GO_ON);
    expect(lab.calls()).toEqual([]);
    expect(lab.vm.arch.mirrorMmu!.hasRoot).toBe(false);
    const { tdpMmu } = lab.vm.arch;
    const { memory } = lab.host.machine;
    // The processor walks from the root with the whole address.
    let table = tdpMmu.root()!;
    let spte = 0n;
    for (let level = tdpMmu.rootLevel; level > 1; level--) {
      const index = (BigInt(lab.sharedGpa(BASE_GFN + 5)) >> BigInt(12 + 9 * (level - 1))) & 511n;
      spte = memory.read64(table + Number(index) * 8);
      expect(isShadowPresentPte(spte)).toBe(true);
      table = spteAddress(spte);
    }
    expect(tdpMmu.lookup(BASE_GFN + 5)!.spte & EPT_SUPPRESS_VE).not.toBe(0n);
    lab.close();
  });

  test('a fault of the wrong kind exits, with the address without its shared bit', () => {
    const lab = labWith(1);
    const { memoryFault } = lab.vcpu.run;
    const gpa = BASE_GFN * PAGE_SIZE;
    expect(lab.faultShared(0)).toBe(-EFAULT);
    expect(lab.vcpu.run.exit).toBe(memoryFault);
    expect(memoryFault).toMatchObject({ flags: 0n, gpa, size: PAGE_SIZE });
    expect(lab.faultPrivate(1)).toBe(-EFAULT);
    expect(memoryFault).toMatchObject({ flags: 8n, gpa: gpa + PAGE_SIZE, size: PAGE_SIZE });
    expect(lab.calls()).toEqual([]);
  });

  test('MMIO is an entry without rights whose violations the guest takes itself', () => {
    const lab = new MirrorLab();
    const gfn = 0xf_ec00;
    expect(kvmMmuPageFault(lab.vcpu, lab.sharedGpa(gfn), 0)).toBe(GO_ON);
    const { spte } = lab.vm.arch.tdpMmu.lookup(gfn)!;
    expect(spte & 7n).toBe(0n);
    expect(spte & EPT_SUPPRESS_VE).toBe(0n);
    expect(isMmioSpte(spte, lab.vm.arch.shadowMmioValue)).toBe(true);
    expect(lab.vm.arch.tdpMmu.lookup(gfn + 1)!.spte).toBe(SHADOW_NONPRESENT_VALUE);
    // Private addresses have no devices.
    expect(lab.convert(gfn - BASE_GFN, 1, true)).toBe(0);
    expect(lab.faultPrivate(gfn - BASE_GFN)).toBe(-EFAULT);
  });

  test('no other entry, present or not, lets a violation become #VE', () => {
    const lab = labWith(8);
    lab.faultPrivate(0);
    lab.faultShared(8);
    const { memory } = lab.host.machine;
    const look = (table: Hpa, level: number): void => {
      for (let i = 0; i < 512; i++) {
        const spte = memory.read64(table + i * 8);
        expect(spte & EPT_SUPPRESS_VE).toBe(EPT_SUPPRESS_VE);
        if (level > 1 && isShadowPresentPte(spte) && !(spte & 0x80n)) look(spteAddress(spte), level - 1);
      }
    };
    look(lab.vm.arch.tdpMmu.root()!, 4);
    look(lab.vm.arch.mirrorMmu!.root()!, 4);
  });
});

test('a slot at addresses with the shared bit, or beyond the tables: −EINVAL', () => {
  const lab = new MirrorLab();
  const at = (gfn: number): number =>
    kvmSetMemoryRegion2(lab.vm, {
      slot: 1,
      flags: 0,
      guestPhysAddr: gfn * PAGE_SIZE,
      memorySize: 2 * PAGE_SIZE,
      userspaceAddr: lab.shared,
    });
  const bit = lab.vm.arch.gfnDirectBits;
  expect([at(bit), at(bit - 1), at(2 * bit), at(2 ** 40 - 2)]).toEqual([-EINVAL, -EINVAL, -EINVAL, -EINVAL]);
  expect(at(bit - 2)).toBe(0);
});

describe('taking private memory away', () => {
  test('becoming shared removes the pages; the tables stay', () => {
    const lab = labWith(8);
    for (const frame of [0, 1, 5]) lab.faultPrivate(frame);
    lab.calls();
    expect(lab.convert(0, 8, false)).toBe(0);
    expect(lab.calls()).toEqual(['remove 1 0', 'remove 1 1', 'remove 1 5']);
    expect(lab.sept.tables.size).toBe(3);
    expect(lab.faultPrivate(0)).toBe(-EFAULT);
    expect(lab.faultShared(0)).toBe(GO_ON);
  });

  test('becoming private removes shared mappings only', () => {
    const lab = labWith(4);
    lab.faultPrivate(3);
    lab.faultShared(5);
    lab.calls();
    expect(lab.convert(2, 6, true)).toBe(0);
    expect(lab.calls()).toEqual([]);
    expect(isShadowPresentPte(lab.vm.arch.tdpMmu.lookup(BASE_GFN + 5)!.spte)).toBe(false);
    expect(lab.sept.leaves.size).toBe(1);
  });

  test('a hole in the file removes its pages, and no shared ones', () => {
    const lab = labWith(4);
    for (const frame of [1, 2, 3]) lab.faultPrivate(frame);
    lab.faultShared(7);
    lab.calls();
    expect(lab.file.fallocate(HOLE, 2 * PAGE_SIZE, 8 * PAGE_SIZE)).toBe(0);
    expect(lab.calls()).toEqual(['remove 1 2', 'remove 1 3']);
    expect(isShadowPresentPte(lab.vm.arch.tdpMmu.lookup(BASE_GFN + 7)!.spte)).toBe(true);
  });

  test('memory that the process unmaps is shared memory: private pages stay', () => {
    const lab = labWith(1);
    lab.faultPrivate(0);
    lab.faultShared(1);
    lab.calls();
    lab.vm.mm.munmap(lab.mapping);
    expect(lab.calls()).toEqual([]);
    expect(isShadowPresentPte(lab.vm.arch.tdpMmu.lookup(BASE_GFN + 1)!.spte)).toBe(false);
  });

  test('deleting the slot removes both kinds', () => {
    const lab = labWith(1);
    lab.faultPrivate(0);
    lab.faultShared(1);
    lab.calls();
    expect(kvmSetMemoryRegion2(lab.vm, { ...lab.slot(), memorySize: 0 })).toBe(0);
    expect(lab.calls()).toEqual(['remove 1 0']);
    expect(isShadowPresentPte(lab.vm.arch.tdpMmu.lookup(BASE_GFN + 1)!.spte)).toBe(false);
  });

  test('a page that is removed without the lock is a bug of the VM, and only of it', () => {
    const lab = labWith(1);
    lab.faultPrivate(0);
    lab.vm.arch.mirrorMmu!.zap(BASE_GFN, BASE_GFN + 1);
    expect(lab.vm.vmBugged).toBe(true);
  });
});

describe('teardown', () => {
  test('pages while the file closes, then the backend, then tables from the bottom up, then the backend again', () => {
    const lab = labWith(SLOT_PAGES);
    lab.faultPrivate(1);
    lab.faultPrivate(513);
    lab.calls();
    lab.close();
    expect(lab.calls()).toEqual([
      'remove 1 1',
      'remove 1 201',
      'vmPreDestroy',
      'free 1 0',
      'free 1 200',
      'free 2 0',
      'free 3 -100000',
      'vmDestroy',
    ]);
    for (const owner of [PAGE_OWNER.tdx, PAGE_OWNER.ept, PAGE_OWNER.guestMemfd, PAGE_OWNER.user])
      expect(lab.host.pages.count(owner)).toBe(0);
  });

  test('a table that does not come back is never used again', () => {
    const lab = labWith(1);
    lab.faultPrivate(0);
    lab.sept.freeAnswer = -EIO;
    lab.close();
    expect(lab.host.pages.count(PAGE_OWNER.tdx)).toBe(3);
    expect(lab.host.pages.count(PAGE_OWNER.ept)).toBe(0);
  });
});

describe('content before the guest runs', () => {
  const populate = (lab: MirrorLab, first: number, count: number): number =>
    kvmGmemPopulate(lab.vm, BASE_GFN + first, lab.shared, count, (_kvm, gfn, page) =>
      kvmTdpMmuMapPrivatePfn(lab.vcpu, gfn, page),
    );

  test('page by page, in ascending order, from the process’s memory', () => {
    const lab = labWith(4);
    lab.vm.mm.write(lab.shared + PAGE_SIZE, Uint8Array.of(7));
    const seen: [number, number][] = [];
    const result = kvmGmemPopulate(lab.vm, BASE_GFN + 1, lab.shared, 3, (_kvm, gfn, page, source) => {
      seen.push([gfn - BASE_GFN, lab.host.machine.memory.readBytes(source!, 1)[0]!]);
      expect(page).toBe(lab.file.page(gfn - BASE_GFN));
      return 0;
    });
    expect(result).toBe(3);
    expect(seen).toEqual([
      [1, 0],
      [2, 7],
      [3, 0],
    ]);
  });
  test('a page that is mapped already: −EIO', () => {
    const lab = labWith(2);
    expect(populate(lab, 0, 1)).toBe(1);
    expect(populate(lab, 0, 1)).toBe(-EIO);
    expect(populate(lab, 1, 1)).toBe(1);
  });
  test('the number of pages before the one that failed', () => {
    const lab = labWith(2);
    expect(populate(lab, 0, 4)).toBe(2);
    expect(populate(lab, 2, 1)).toBe(-EINVAL);
  });
  test.each([
    ['no pages', 0, 0, -EINVAL],
    ['no slot', SLOT_PAGES, 1, -EINVAL],
  ])('%s', (_name, first, count, result) => {
    expect(populate(labWith(1), first, count)).toBe(result);
  });
  test('a source that is not mapped: −EFAULT; not aligned: −EINVAL; none is the caller’s business', () => {
    const lab = labWith(1);
    const none = (source: number | undefined): number => kvmGmemPopulate(lab.vm, BASE_GFN, source, 1, () => -95);
    expect(none(0x1000)).toBe(-EFAULT);
    expect(none(lab.shared + 8)).toBe(-EINVAL);
    expect(none(undefined)).toBe(-95);
  });
  test('−EBUSY is tried again a few times', () => {
    const lab = labWith(2);
    let left = 5;
    lab.sept.answer = () => (left-- > 0 ? -EBUSY : 0);
    expect(populate(lab, 0, 1)).toBe(1);
    lab.sept.answer = () => -EBUSY;
    expect(populate(lab, 1, 1)).toBe(-EBUSY);
  });
});

describe('KVM_PRE_FAULT_MEMORY', () => {
  test('maps as the attributes say, at addresses without the shared bit, once it is allowed', () => {
    const lab = labWith(2);
    const range = { gpa: BASE_GFN * PAGE_SIZE, size: 4 * PAGE_SIZE, flags: 0n };
    expect(kvmVcpuPreFaultMemory(lab.vcpu, range)).toBe(-95);
    lab.vm.arch.preFaultAllowed = true;
    expect(kvmVcpuPreFaultMemory(lab.vcpu, { ...range, gpa: lab.sharedGpa(BASE_GFN) })).toBe(-EINVAL);
    expect(kvmVcpuPreFaultMemory(lab.vcpu, range)).toBe(0);
    expect([...lab.sept.leaves.keys()]).toEqual([BASE_GFN, BASE_GFN + 1]);
    for (const frame of [2, 3])
      expect(isShadowPresentPte(lab.vm.arch.tdpMmu.lookup(BASE_GFN + frame)!.spte)).toBe(true);
  });
});
