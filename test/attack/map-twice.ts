/** A page that a TD has is given away a second time. */
import { type Attack, type Family, type Lab, NOWHERE, TDH } from './lab.ts';

const INCORRECT = (operand: string): string => `TDX_PAGE_METADATA_INCORRECT ${operand}`;
const BIG = 0x4000_0000;

const give = (name: string, must: string, run: (lab: Lab, page: number) => string): Attack => ({
  name,
  must,
  run: (lab) => run(lab, lab.victim.page),
});

/** The tables for a page at NOWHERE are there already. */
export const mapTwice: Family = {
  name: 'map a page twice',
  attacks: [
    give('AUG at another GPA of the same TD', INCORRECT('0x8'), (lab, r8) =>
      lab.onVictim(TDH.MEM_PAGE_AUG, { rcx: NOWHERE, r8 }),
    ),
    give('AUG into another TD', INCORRECT('0x8'), (lab, r8) =>
      lab.status(TDH.MEM_PAGE_AUG, { rdx: lab.bystander.td.tdr, rcx: NOWHERE, r8 }),
    ),
    give('ADD to a TD that is being built', INCORRECT('0x8'), (lab, r8) => {
      const td = lab.host.createTd();
      td.tables(NOWHERE);
      return lab.status(TDH.MEM_PAGE_ADD, { rdx: td.tdr, rcx: NOWHERE, r8, r9: lab.page() });
    }),
    give('as a Secure EPT table', INCORRECT('0x8'), (lab, r8) => lab.onVictim(TDH.MEM_SEPT_ADD, { rcx: BIG + 2, r8 })),
    give('as a TDR', INCORRECT('0x1'), (lab, rcx) => lab.status(TDH.MNG_CREATE, { rcx, rdx: 63 })),
    give('as a TDCX of a TD', 'TDX_PAGE_METADATA_INCORRECT 0x1', (lab, rcx) => {
      const tdr = lab.page();
      lab.host.expect(TDH.MNG_CREATE, { rcx: tdr, rdx: 63 });
      lab.host.expect(TDH.MNG_KEY_CONFIG, { rcx: tdr });
      const status = lab.status(TDH.MNG_ADDCX, { rcx, rdx: tdr });
      discard(lab, tdr);
      return status;
    }),
    give('as a TDVPR', INCORRECT('0x1'), (lab, rcx) => {
      const td = lab.host.createTd();
      return lab.status(TDH.VP_CREATE, { rcx, rdx: td.tdr });
    }),
    give('as a TDCX of a virtual processor', INCORRECT('0x1'), (lab, rcx) => {
      const td = lab.host.createTd();
      const rdx = lab.page();
      td.expect(TDH.VP_CREATE, { rcx: rdx });
      return lab.status(TDH.VP_ADDCX, { rcx, rdx });
    }),
    give('as the target of a relocation', INCORRECT('0x8'), (lab, r8) => {
      const gpa = NOWHERE;
      lab.victim.td.augPage(gpa);
      lab.onVictim(TDH.MEM_RANGE_BLOCK, { rcx: gpa });
      lab.status(TDH.MEM_TRACK, { rcx: lab.victim.td.tdr });
      return lab.onVictim(5, { rcx: gpa, r8 });
    }),
    // The TDR, which the call itself locks, lies in the same 2 MiB.
    give('within 2 MiB', 'TDX_OPERAND_BUSY 0x8', (lab, page) => {
      lab.victim.td.tables(BIG, 1);
      return lab.onVictim(TDH.MEM_PAGE_AUG, { rcx: BIG + 1, r8: page - (page % 0x20_0000) });
    }),
    give('a page of the module’s own', INCORRECT('0x8'), (lab) =>
      lab.onVictim(TDH.MEM_PAGE_AUG, { rcx: NOWHERE, r8: 16 * 2 ** 20 }),
    ),
    give('its own TDR', 'TDX_OPERAND_BUSY 0x8', (lab) =>
      lab.onVictim(TDH.MEM_PAGE_AUG, { rcx: NOWHERE, r8: lab.victim.td.tdr }),
    ),
    give('its own virtual processor', INCORRECT('0x8'), (lab) =>
      lab.onVictim(TDH.MEM_PAGE_AUG, { rcx: NOWHERE, r8: lab.victim.vcpu.tdvpr }),
    ),
  ],
};

/** Takes a TD down that has a TDR and nothing else. */
function discard(lab: Lab, tdr: number): void {
  lab.host.expect(TDH.MNG_VPFLUSHDONE, { rcx: tdr });
  lab.host.expect(TDH.PHYMEM_CACHE_WB);
  lab.host.expect(TDH.MNG_KEY_FREEID, { rcx: tdr });
  lab.host.expect(TDH.PHYMEM_PAGE_RECLAIM, { rcx: tdr });
}
