/** An old page, or one from elsewhere, in place of the page that the TD has. */
import { ASK, DATA, exitName, type Family, type Lab, NOWHERE, PAGE, SECRET, TDH } from './lab.ts';

const PENDING = 6n;
const TAKEN = 'TDX_SUCCESS TDX_SUCCESS TDX_SUCCESS';

/** What the TD has when it touches a page. */
function touch(lab: Lab, gpa: number): string {
  const { exit, called, result } = lab.victim.ask(ASK.READ, gpa);
  if (called) return `read 0x${result.toString(16)}`;
  return `${exitName(exit)}${(exit.rdx & 15n) === PENDING ? ' pending' : ''}`;
}

export const replay: Family = {
  name: 'replay an old page, remap at another GPA',
  attacks: [
    {
      name: 'a page is removed and put back: pending, and the TD does not see it',
      must: `${TAKEN} TDX_SUCCESS exit 48 pending`,
      then: 'waits',
      run(lab) {
        const { page, td } = lab.victim;
        const taken = lab.takePage(PAGE).join(' ');
        td.expect(TDH.MEM_PAGE_AUG, { rcx: PAGE, r8: page });
        return `${taken} ${touch(lab, PAGE)}`;
      },
    },
    {
      name: 'the same where the host keeps the content and writes it back',
      must: `${TAKEN} TDX_SUCCESS exit 48 pending`,
      then: 'waits',
      run(lab) {
        const { page, td } = lab.victim;
        const kept = lab.host.memory.readBytes(page, 4096);
        const taken = lab.takePage(PAGE).join(' ');
        lab.host.memory.writeBytes(page, kept);
        td.expect(TDH.MEM_PAGE_AUG, { rcx: PAGE, r8: page });
        return `${taken} ${touch(lab, PAGE)}`;
      },
    },
    {
      name: 'a page that the TD accepts again is zeros, whatever the host put there',
      must: 'accepted 0x0 read 0x0',
      run(lab) {
        const page = lab.page();
        lab.write(page, SECRET);
        lab.victim.td.tables(NOWHERE);
        lab.victim.td.expect(TDH.MEM_PAGE_AUG, { rcx: NOWHERE, r8: page });
        const accepted = lab.victim.ask(ASK.ACCEPT, NOWHERE).result;
        return `accepted 0x${accepted.toString(16)} ${touch(lab, NOWHERE)}`;
      },
    },
    {
      name: 'two pages change places',
      must: `${TAKEN} ${TAKEN} TDX_SUCCESS exit 48 pending`,
      then: 'waits',
      run(lab) {
        const { page, data, td } = lab.victim;
        const taken = [...lab.takePage(PAGE), ...lab.takePage(DATA)].join(' ');
        td.expect(TDH.MEM_PAGE_AUG, { rcx: PAGE, r8: data });
        td.expect(TDH.MEM_PAGE_AUG, { rcx: DATA, r8: page });
        return `${taken} ${touch(lab, PAGE)}`;
      },
    },
    {
      name: 'relocation of a page that the TD may be using',
      must: 'TDX_GPA_RANGE_NOT_BLOCKED 0x1',
      run: (lab) => lab.onVictim(5, { rcx: PAGE, r8: lab.page() }),
    },
    {
      name: 'relocation in the right order keeps the content',
      must: 'TDX_SUCCESS TDX_SUCCESS TDX_SUCCESS',
      run(lab) {
        const rcx = lab.victim.td.tdr;
        return [
          lab.onVictim(TDH.MEM_RANGE_BLOCK, { rcx: PAGE }),
          lab.status(TDH.MEM_TRACK, { rcx }),
          lab.onVictim(5, { rcx: PAGE, r8: lab.page() }),
        ].join(' ');
      },
    },
    {
      name: 'the old page of a relocation, put where the new one is',
      must: 'TDX_EPT_ENTRY_STATE_INCORRECT 0x1',
      run(lab) {
        const { page, td } = lab.victim;
        lab.onVictim(TDH.MEM_RANGE_BLOCK, { rcx: PAGE });
        lab.status(TDH.MEM_TRACK, { rcx: td.tdr });
        lab.onVictim(5, { rcx: PAGE, r8: lab.page() });
        return lab.onVictim(TDH.MEM_PAGE_AUG, { rcx: PAGE, r8: page });
      },
    },
    {
      name: 'content of a TD that is gone, in a TD that gets its page and its KeyID',
      must: 'read 0x0',
      run(lab) {
        const { host } = lab;
        const old = host.createTd({ attributes: 1n });
        const page = old.addPage(0, new Uint8Array(4096).fill(0x5e), false);
        host.expect(TDH.MNG_VPFLUSHDONE, { rcx: old.tdr });
        host.expect(TDH.PHYMEM_CACHE_WB);
        host.expect(TDH.MNG_KEY_FREEID, { rcx: old.tdr });
        host.expect(TDH.PHYMEM_PAGE_RECLAIM, { rcx: page });
        lab.victim.td.tables(NOWHERE);
        lab.victim.td.expect(TDH.MEM_PAGE_AUG, { rcx: NOWHERE, r8: page });
        lab.victim.ask(ASK.ACCEPT, NOWHERE);
        return touch(lab, NOWHERE);
      },
    },
  ],
};
