/** KeyIDs that are in use, and TDs taken apart in the wrong order. */
import { ASK, type Family, type Lab, TDH } from './lab.ts';

const GLOBAL = 32;
const SHARED = 31;

/** The victim's virtual processor is nobody's. */
const flush = (lab: Lab): void => void lab.host.expect(TDH.VP_FLUSH, { rcx: lab.victim.vcpu.tdvpr });
const onTd = (lab: Lab, leaf: number): string => lab.status(leaf, { rcx: lab.victim.td.tdr });

export const teardown: Family = {
  name: 'steal a KeyID, tear down in the wrong order',
  attacks: [
    {
      name: 'a KeyID of a TD that runs',
      must: 'TDX_HKID_NOT_FREE',
      run: (lab) => lab.status(TDH.MNG_CREATE, { rcx: lab.page(), rdx: lab.victim.td.hkid }),
    },
    {
      name: 'the module’s own KeyID',
      must: 'TDX_HKID_NOT_FREE',
      run: (lab) => lab.status(TDH.MNG_CREATE, { rcx: lab.page(), rdx: GLOBAL }),
    },
    {
      name: 'a shared KeyID',
      must: 'TDX_OPERAND_INVALID 0x2',
      run: (lab) => lab.status(TDH.MNG_CREATE, { rcx: lab.page(), rdx: SHARED }),
    },
    {
      name: 'KeyID 0',
      must: 'TDX_OPERAND_INVALID 0x2',
      run: (lab) => lab.status(TDH.MNG_CREATE, { rcx: lab.page(), rdx: 0 }),
    },
    {
      name: 'a KeyID that does not exist',
      must: 'TDX_OPERAND_INVALID 0x2',
      run: (lab) => lab.status(TDH.MNG_CREATE, { rcx: lab.page(), rdx: 0x1_0021n }),
    },
    {
      name: 'a new key for a TD that runs',
      must: 'TDX_LIFECYCLE_STATE_INCORRECT',
      run: (lab) => onTd(lab, TDH.MNG_KEY_CONFIG),
    },
    {
      name: 'the KeyID freed while the TD runs',
      must: 'TDX_LIFECYCLE_STATE_INCORRECT',
      run: (lab) => onTd(lab, TDH.MNG_KEY_FREEID),
    },
    {
      name: 'VPFLUSHDONE while a processor has a virtual processor',
      must: 'TDX_FLUSHVP_NOT_DONE',
      run: (lab) => onTd(lab, TDH.MNG_VPFLUSHDONE),
    },
    {
      name: 'the KeyID freed before caches were written back',
      must: 'TDX_WBCACHE_NOT_COMPLETE',
      then: 'waits',
      run(lab) {
        flush(lab);
        onTd(lab, TDH.MNG_VPFLUSHDONE);
        return onTd(lab, TDH.MNG_KEY_FREEID);
      },
    },
    {
      name: 'a KeyID given away between VPFLUSHDONE and FREEID',
      must: 'TDX_HKID_NOT_FREE',
      then: 'waits',
      run(lab) {
        flush(lab);
        onTd(lab, TDH.MNG_VPFLUSHDONE);
        lab.status(TDH.PHYMEM_CACHE_WB);
        return lab.status(TDH.MNG_CREATE, { rcx: lab.page(), rdx: lab.victim.td.hkid });
      },
    },
    {
      name: 'caches written back before there is anything to write back do not count',
      must: 'TDX_WBCACHE_NOT_COMPLETE',
      then: 'waits',
      run(lab) {
        flush(lab);
        lab.status(TDH.PHYMEM_CACHE_WB);
        onTd(lab, TDH.MNG_VPFLUSHDONE);
        return onTd(lab, TDH.MNG_KEY_FREEID);
      },
    },
    {
      name: 'a virtual processor entered after VPFLUSHDONE',
      must: 'TDX_TD_KEYS_NOT_CONFIGURED',
      then: 'waits',
      run(lab) {
        flush(lab);
        onTd(lab, TDH.MNG_VPFLUSHDONE);
        return lab.status(TDH.VP_ENTER, { rcx: lab.victim.vcpu.tdvpr });
      },
    },
    {
      name: 'memory given or taken after VPFLUSHDONE',
      must: 'TDX_TD_KEYS_NOT_CONFIGURED TDX_TD_KEYS_NOT_CONFIGURED',
      then: 'waits',
      run(lab) {
        flush(lab);
        onTd(lab, TDH.MNG_VPFLUSHDONE);
        return [
          lab.onVictim(TDH.MEM_PAGE_AUG, { rcx: 0xa000, r8: lab.page() }),
          lab.onVictim(TDH.MEM_PAGE_REMOVE, { rcx: 0x9000 }),
        ].join(' ');
      },
    },
    {
      name: 'a page reclaimed from a TD that runs',
      must: 'TDX_LIFECYCLE_STATE_INCORRECT',
      run: (lab) => lab.status(TDH.PHYMEM_PAGE_RECLAIM, { rcx: lab.victim.data }),
    },
    {
      name: 'the TDR reclaimed from a TD that runs',
      must: 'TDX_LIFECYCLE_STATE_INCORRECT',
      run: (lab) => lab.status(TDH.PHYMEM_PAGE_RECLAIM, { rcx: lab.victim.td.tdr }),
    },
    {
      name: 'the TDR reclaimed before its pages',
      must: 'TDX_TD_ASSOCIATED_PAGES_EXIST',
      then: 'waits',
      run(lab) {
        flush(lab);
        onTd(lab, TDH.MNG_VPFLUSHDONE);
        lab.status(TDH.PHYMEM_CACHE_WB);
        onTd(lab, TDH.MNG_KEY_FREEID);
        return lab.status(TDH.PHYMEM_PAGE_RECLAIM, { rcx: lab.victim.td.tdr });
      },
    },
    {
      name: 'a page reclaimed twice',
      must: 'TDX_SUCCESS TDX_PAGE_METADATA_INCORRECT 0x1',
      then: 'waits',
      run(lab) {
        flush(lab);
        onTd(lab, TDH.MNG_VPFLUSHDONE);
        lab.status(TDH.PHYMEM_CACHE_WB);
        onTd(lab, TDH.MNG_KEY_FREEID);
        const rcx = lab.victim.data;
        return `${lab.status(TDH.PHYMEM_PAGE_RECLAIM, { rcx })} ${lab.status(TDH.PHYMEM_PAGE_RECLAIM, { rcx })}`;
      },
    },
    {
      name: 'a reclaimed page read by the host: not what was in it',
      must: '0x0',
      then: 'waits',
      run(lab) {
        flush(lab);
        onTd(lab, TDH.MNG_VPFLUSHDONE);
        lab.status(TDH.PHYMEM_CACHE_WB);
        onTd(lab, TDH.MNG_KEY_FREEID);
        lab.status(TDH.PHYMEM_PAGE_RECLAIM, { rcx: lab.victim.data });
        return `0x${lab.read(lab.victim.data).toString(16)}`;
      },
    },
    {
      name: 'the module shut down by a processor while TDs run: they stand still, nothing is told',
      must: 'TDX_OPERAND_INVALID 0x1',
      run(lab) {
        lab.victim.ask(ASK.NOTHING);
        return lab.status(52, { rcx: 0xffff });
      },
    },
  ],
};
