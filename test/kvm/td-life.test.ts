/** A trust domain's life as SEAMCALLs: their order, and that nothing stays, whatever fails. */
import { beforeEach, describe, expect, test } from 'vitest';
import { PAGE_OWNER } from '../../src/host/pages.ts';
import { TDX_OPERAND_BUSY, TDX_RND_NO_ENTROPY } from '../../src/host/tdx-errno.ts';
import { TdLab, type TdxHostLab, tdxHost } from './td-lab.ts';

const REFUSED = 0xc000_0900_0000_0000n;
let lab: TdxHostLab;

/** What must be as before when a TD is gone. */
const inventory = ({ host }: TdxHostLab): object => ({
  free: host.pages.freePages,
  tdx: host.pages.count(PAGE_OWNER.tdx),
  keyIds: host.tdx.keyIds.inUse,
  foreign: host.machine.memory.keyed.foreignPages,
});

describe('order', () => {
  beforeEach(() => {
    lab = tdxHost();
    lab.seam.clear();
  });

  test('KVM_CREATE_VM asks nothing of the module; INIT_VM, INIT_VCPU, INIT_MEM_REGION and FINALIZE_VM what upstream asks', () => {
    const td = new TdLab({}, lab);
    expect(lab.seam.sequence).toEqual([
      'MNG_CREATE',
      'MNG_KEY_CONFIG',
      'MNG_ADDCX ×6',
      'MNG_INIT',
      'MNG_RD ×2',
      'VP_CREATE',
      'VP_ADDCX ×5',
      'VP_INIT',
      // Where interrupts are posted; then, for the first page, the shared root, and tables down to it.
      'VP_WR ×4',
      'MEM_SEPT_ADD ×3',
      'MEM_PAGE_ADD',
      'MR_EXTEND ×16',
      'MEM_SEPT_ADD ×2',
      ...Array.from({ length: 5 }, () => ['MEM_PAGE_ADD', 'MR_EXTEND ×16']).flat(),
      'MR_FINALIZE',
    ]);
    td.close();
  });

  test('operands: KeyID, x2APIC identifier, levels, chunks in ascending order, version 1 of VP.INIT', () => {
    const td = new TdLab({ vcpus: 2 }, lab);
    const of = (name: string) => lab.seam.calls.filter((call) => call.name === name);
    const { globalKeyId } = lab.host.tdx;
    expect(of('MNG_CREATE')[0]!.rdx).toBe(BigInt(globalKeyId + 1));
    expect(of('VP_INIT').map(({ version, r8 }) => [version, r8])).toEqual([
      [1, 0n],
      [1, 1n],
    ]);
    expect(of('MEM_SEPT_ADD').map(({ rcx }) => rcx & 7n)).toEqual([3n, 2n, 1n, 2n, 1n]);
    const chunks = of('MR_EXTEND').map(({ rcx }) => rcx);
    expect(chunks.slice(0, 16)).toEqual(Array.from({ length: 16 }, (_, i) => 0xffff_f000n + 256n * BigInt(i)));
    const added = of('MEM_PAGE_ADD').map(({ rcx }) => rcx);
    expect(added[0]).toBe(0xffff_f000n);
    expect(
      of('VP_WR')
        .slice(0, 3)
        .map(({ rdx, r8 }) => [rdx, r8 & 0xffn]),
    ).toEqual([
      [0x2n, 0xf2n],
      [0x2016n, 0n],
      [0x4000n, 0x80n],
    ]);
    td.close();
  });

  test('teardown: pages of guest_memfd, flush, KeyID, vCPU, tables, TDCS, TDR last and written back with the global KeyID', async () => {
    const td = new TdLab({}, lab);
    await td.ready();
    lab.seam.clear();
    td.close();
    const removed = Array.from({ length: 6 }, () => [
      'MEM_RANGE_BLOCK',
      'MEM_TRACK',
      'MEM_PAGE_REMOVE',
      'PHYMEM_PAGE_WBINVD',
    ]);
    expect(lab.seam.sequence).toEqual([
      ...removed.flat(),
      'VP_FLUSH',
      'MNG_VPFLUSHDONE',
      'PHYMEM_CACHE_WB',
      'MNG_KEY_FREEID',
      // TDCX and TDVPR, five tables, TDCS, TDR.
      `PHYMEM_PAGE_RECLAIM ×${6 + 5 + 6 + 1}`,
      'PHYMEM_PAGE_WBINVD',
    ]);
    const last = lab.seam.calls.at(-1)!;
    expect(last.rcx >> 46n).toBe(BigInt(lab.host.tdx.globalKeyId));
    expect(lab.seam.calls.at(-2)!.rcx).toBe(last.rcx & ((1n << 46n) - 1n));
  });

  test('a TD that is closed before INIT_VM asks nothing at all', () => {
    const vm = lab.kvm.createVm(5);
    if (typeof vm === 'number') throw new Error(`${vm}`);
    vm.close();
    expect(lab.seam.calls).toEqual([]);
  });
});

describe('a step that fails', () => {
  test('every SEAMCALL of a TD’s creation, one after the other: an errno, and nothing stays', () => {
    lab = tdxHost();
    const before = inventory(lab);
    lab.seam.clear();
    new TdLab({}, lab).close();
    const end = lab.seam.calls.findIndex(({ name }) => name === 'MR_FINALIZE');
    expect(inventory(lab)).toEqual(before);
    // Measurement is sixteen equal calls per page.
    const steps = lab.seam.calls.flatMap(({ name }, i) =>
      i <= end && (name !== 'MR_EXTEND' || i % 40 === 0) ? [i] : [],
    );
    expect(steps.length).toBeGreaterThan(30);
    for (const step of steps) {
      lab.seam.clear();
      lab.seam.intercept = (_call, index) => (index === step ? REFUSED : undefined);
      const name = (): string => `step ${step} ${lab.seam.calls[step]?.name}`;
      expect(() => new TdLab({}, lab), name()).toThrow('errno');
      lab.seam.intercept = () => undefined;
      expect(inventory(lab), name()).toEqual(before);
    }
    new TdLab({}, lab).close();
    expect(inventory(lab)).toEqual(before);
  }, 60_000);

  test('without memory: INIT_VM and INIT_VCPU give −ENOMEM and leave nothing', () => {
    lab = tdxHost();
    const { host } = lab;
    const before = inventory(lab);
    let pages = 0;
    for (let created = false; !created; pages += 2) {
      const taken: number[] = [];
      while (host.pages.freePages > pages) taken.push(host.pages.alloc(PAGE_OWNER.kernel)!);
      try {
        new TdLab({}, lab).close();
        created = true;
      } catch (error) {
        expect(String(error)).toMatch(/errno (12|14)$/);
      }
      for (const page of taken) host.pages.free(page);
      expect(inventory(lab)).toEqual(before);
    }
    expect(pages).toBeGreaterThan(20);
  });

  test('MNG.CREATE without entropy: −EAGAIN', () => {
    lab = tdxHost();
    lab.seam.fail.set('MNG_CREATE', new Array(10).fill(TDX_RND_NO_ENTROPY));
    expect(() => new TdLab({}, lab)).toThrow('errno 11');
    expect(lab.host.tdx.keyIds.inUse).toBe(0);
  });

  test('KeyIDs that are all taken: −ENOSPC, until one is given back', () => {
    lab = tdxHost({ privateKeyIds: 3 });
    const tds = [new TdLab({}, lab), new TdLab({}, lab)];
    expect(() => new TdLab({}, lab)).toThrow('errno 28');
    tds[0]!.close();
    new TdLab({}, lab).close();
    tds[1]!.close();
    expect(lab.host.tdx.keyIds.inUse).toBe(0);
  });

  test('a KeyID that cannot be freed is lost, with all pages of the TD, and the host goes on', () => {
    lab = tdxHost();
    const td = new TdLab({}, lab);
    lab.seam.fail.set('MNG_KEY_FREEID', [REFUSED]);
    td.close();
    expect(lab.host.tdx.keyIds.inUse).toBe(1);
    expect(lab.log.join()).toContain('TDH.MNG.KEY.FREEID');
    const before = inventory(lab);
    new TdLab({}, lab).close();
    expect(inventory(lab)).toEqual(before);
  });
});

test('a TD that died in the module: what it still has is lost, and no later TD gets it', async () => {
  lab = tdxHost();
  const td = new TdLab({}, lab);
  await td.ready();
  const { pages } = lab.host;
  const held = pages.count(PAGE_OWNER.guestMemfd);
  for (const tdr of lab.tdxModule.tds) tdr.setFatal();
  td.close();
  expect(pages.count(PAGE_OWNER.guestMemfd)).toBe(held);
  const other = new TdLab({}, lab);
  await other.ready();
  other.close();
  expect(pages.count(PAGE_OWNER.guestMemfd)).toBe(held);
});

describe('a busy module', () => {
  for (const name of [
    'MNG_CREATE',
    'MNG_KEY_CONFIG',
    'MNG_ADDCX',
    'MNG_INIT',
    'VP_CREATE',
    'VP_ADDCX',
    'VP_INIT',
    'VP_WR',
    'MEM_SEPT_ADD',
    'MEM_PAGE_ADD',
    'MR_EXTEND',
    'MNG_VPFLUSHDONE',
    'PHYMEM_CACHE_WB',
    'MNG_KEY_FREEID',
    'PHYMEM_PAGE_RECLAIM',
    'PHYMEM_PAGE_WBINVD',
    'VP_FLUSH',
    'MEM_RANGE_BLOCK',
    'MEM_TRACK',
    'MEM_PAGE_REMOVE',
  ]) {
    test(`${name} is asked again`, async () => {
      lab = tdxHost();
      const before = inventory(lab);
      lab.seam.fail.set(name, [TDX_OPERAND_BUSY]);
      const td = new TdLab({}, lab);
      await td.ready();
      td.close();
      expect(lab.seam.fail.get(name)).toEqual([]);
      expect(inventory(lab)).toEqual(before);
    });
  }

  test('MR.FINALIZE gives −EBUSY, and can be asked again by user space', () => {
    const td = new TdLab({ unfinished: true });
    td.lab.seam.fail.set('MR_FINALIZE', [TDX_OPERAND_BUSY]);
    expect(td.vm.memoryEncryptOp({ id: 4, data: 0n })).toBe(-16);
    expect(td.vm.memoryEncryptOp({ id: 4, data: 0n })).toBe(0);
  });
});

test('many TDs one after the other, some at once: pages, keys, PAMT and VMXE are as at the start', async () => {
  lab = tdxHost();
  const before = inventory(lab);
  const open: TdLab[] = [];
  for (let i = 0; i < 30; i++) {
    const td = new TdLab({}, lab);
    if (i % 5 === 0) await td.ready();
    open.push(td);
    if (open.length > 3) open.splice(i % 3, 1)[0]!.close();
  }
  for (const td of open) td.close();
  expect(inventory(lab)).toEqual(before);
  expect(lab.module.usageCount).toBe(0);
  expect(lab.host.cpus.possible.map((cpu) => cpu.processor.vtx.inVmx)).toEqual([false, false]);
}, 60_000);
