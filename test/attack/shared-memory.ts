/** Shared memory that is somebody's private memory, and private KeyIDs where they may not be. */

import { sharedLinear } from '../tdx/guest-program.ts';
import { keyIdAddress } from './host-tools.ts';
import { ASK, exitName, type Family, type Lab, NOWHERE, PATTERN, SECRET, TDH } from './lab.ts';

const SHARED_EPTP = 0x0024_0003_0000_203cn;
const ALL = 2n ** 64n - 1n;
const TABLE = 7n;
const LEAF = 7n | (6n << 3n);
/** The shared half begins at half of the address space: index 256 of the root. */
const SHARED_INDEX = 256 * 8;
const GPA = 0x20_0000;

/** Maps a shared page of the victim's to a physical page. */
function share(lab: Lab, target: number, flags = LEAF): { leaf: number } {
  const [root, directory, tables, leaf] = [lab.page(), lab.page(), lab.page(), lab.page()] as const;
  lab.write(root + SHARED_INDEX, BigInt(directory) | TABLE);
  lab.write(directory, BigInt(tables) | TABLE);
  lab.write(tables + (GPA / 2 ** 21) * 8, BigInt(leaf) | TABLE);
  lab.write(leaf, BigInt(target) | flags);
  lab.host.expect(TDH.VP_WR, { rcx: lab.victim.vcpu.tdvpr, rdx: SHARED_EPTP, r8: root, r9: ALL });
  return { leaf };
}

const readShared = (lab: Lab): string => {
  const { called, result, fault, exit } = lab.victim.ask(ASK.READ, sharedLinear(GPA));
  if (!called) return exitName(exit);
  return fault === 0n ? `0x${result.toString(16)}` : `#VE ${fault}`;
};

export const sharedMemory: Family = {
  name: 'point shared EPT at private pages, use a private KeyID',
  attacks: [
    {
      name: 'a shared page that really is shared can be read',
      must: `0x${PATTERN.toString(16)}`,
      run(lab) {
        const page = lab.page();
        lab.write(page, PATTERN);
        share(lab, page);
        return readShared(lab);
      },
    },
    {
      name: 'shared EPT to a page of the TD itself: zeros',
      must: '0x0',
      run(lab) {
        share(lab, lab.victim.data);
        return readShared(lab);
      },
    },
    {
      name: 'shared EPT to a page of another TD: zeros',
      must: '0x0',
      run(lab) {
        share(lab, lab.bystander.data);
        return readShared(lab);
      },
    },
    {
      name: 'shared EPT to a Secure EPT table of the TD: zeros',
      must: '0x0',
      run(lab) {
        share(lab, lab.host.module.tdrAt(lab.victim.td.tdr).tdcs.pages[3]!);
        return readShared(lab);
      },
    },
    {
      name: 'the TD writes through shared EPT to its own private page: its next use is a machine check',
      must: 'TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE',
      then: 'dies',
      run(lab) {
        share(lab, lab.victim.data);
        return lab.victim.ask(ASK.WRITE, sharedLinear(GPA), SECRET + 1n).exit.status;
      },
    },
    {
      name: 'a shared EPT leaf with a private KeyID',
      must: 'TDX_SUCCESS exit 49',
      then: 'waits',
      run(lab) {
        share(lab, keyIdAddress(lab.bystander.data, lab.bystander.td.hkid));
        return readShared(lab);
      },
    },
    {
      name: 'a shared EPT table that is a private page: nothing is mapped there',
      must: '#VE 48',
      run(lab) {
        const root = lab.page();
        lab.write(root + SHARED_INDEX, BigInt(lab.host.module.tdrAt(lab.bystander.td.tdr).tdcs.pages[3]!) | TABLE);
        lab.host.expect(TDH.VP_WR, { rcx: lab.victim.vcpu.tdvpr, rdx: SHARED_EPTP, r8: root, r9: ALL });
        return readShared(lab);
      },
    },
    {
      name: 'a shared EPT pointer with a private KeyID',
      must: 'TDX_METADATA_FIELD_VALUE_NOT_VALID',
      run: (lab) =>
        lab.status(TDH.VP_WR, {
          rcx: lab.victim.vcpu.tdvpr,
          rdx: SHARED_EPTP,
          r8: keyIdAddress(lab.page(), lab.victim.td.hkid),
          r9: ALL,
        }),
    },
    {
      name: 'a stale shared mapping of a page that now is another TD’s: zeros, and its owner is not fooled',
      must: `0x${PATTERN.toString(16)} 0x0`,
      run(lab) {
        const page = lab.page();
        lab.write(page, PATTERN);
        share(lab, page);
        const before = readShared(lab);
        const { bystander } = lab;
        bystander.td.tables(NOWHERE);
        bystander.td.expect(TDH.MEM_PAGE_AUG, { rcx: NOWHERE, r8: page });
        bystander.ask(ASK.ACCEPT, NOWHERE, 0n, 0);
        bystander.ask(ASK.WRITE, NOWHERE, SECRET, 0);
        const after = readShared(lab);
        lab.host.expect(TDH.MEM_RANGE_BLOCK, { rcx: NOWHERE, rdx: bystander.td.tdr });
        lab.host.expect(TDH.MEM_TRACK, { rcx: bystander.td.tdr });
        lab.host.expect(TDH.MEM_PAGE_REMOVE, { rcx: NOWHERE, rdx: bystander.td.tdr });
        return `${before} ${after}`;
      },
    },
    {
      name: 'private memory named as shared by the host’s tables does not become private for the TD',
      must: 'TDX_OPERAND_INVALID 0x1',
      run: (lab) => lab.onVictim(TDH.MEM_PAGE_AUG, { rcx: 2 ** 47 + GPA, r8: lab.page() }),
    },
    {
      name: 'TD_PARAMS at an address with a private KeyID',
      must: 'TDX_OPERAND_INVALID 0x2',
      run(lab) {
        const tdr = lab.page();
        lab.host.expect(TDH.MNG_CREATE, { rcx: tdr, rdx: 63 });
        lab.host.expect(TDH.MNG_KEY_CONFIG, { rcx: tdr });
        const pages = Array.from({ length: 6 }, () => lab.page());
        for (const rcx of pages) lab.host.expect(TDH.MNG_ADDCX, { rcx, rdx: tdr });
        const status = lab.status(TDH.MNG_INIT, { rcx: tdr, rdx: keyIdAddress(0x10_4000, 33) });
        lab.host.expect(TDH.MNG_VPFLUSHDONE, { rcx: tdr });
        lab.host.expect(TDH.PHYMEM_CACHE_WB);
        lab.host.expect(TDH.MNG_KEY_FREEID, { rcx: tdr });
        for (const rcx of [...pages, tdr]) lab.host.expect(TDH.PHYMEM_PAGE_RECLAIM, { rcx });
        return status;
      },
    },
  ],
};
