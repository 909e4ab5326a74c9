/** TLB tracking left out: what a processor may still translate is taken away. */
import { ASK, type Attack, exitName, type Family, type Lab, NOWHERE, PAGE, SECRET, TDH } from './lab.ts';

const BIG = 0x4000_0000;
const RELOCATE = 5;
const DEMOTE = 15;
const PROMOTE = 23;
const SEPT_REMOVE = 30;

/** What takes something away, and where it is. */
const TAKERS: readonly (readonly [string, number, number, (lab: Lab) => void])[] = [
  ['TDH.MEM.PAGE.REMOVE', TDH.MEM_PAGE_REMOVE, PAGE, () => {}],
  ['TDH.MEM.PAGE.RELOCATE', RELOCATE, PAGE, () => {}],
  ['TDH.MEM.SEPT.REMOVE', SEPT_REMOVE, BIG + 1, (lab) => lab.victim.td.tables(BIG)],
  ['TDH.MEM.PAGE.DEMOTE', DEMOTE, BIG + 1, (lab) => largePage(lab)],
  [
    'TDH.MEM.PAGE.PROMOTE',
    PROMOTE,
    BIG + 1,
    (lab) => {
      largePage(lab);
      lab.onVictim(TDH.MEM_RANGE_BLOCK, { rcx: BIG + 1 });
      lab.status(TDH.MEM_TRACK, { rcx: lab.victim.td.tdr });
      lab.onVictim(DEMOTE, { rcx: BIG + 1, r8: lab.page() });
    },
  ],
];

function largePage(lab: Lab): void {
  lab.victim.td.tables(BIG, 1);
  const r8 = Array.from({ length: 5 }, (_, i) => (11 + i) * 0x20_0000).find(
    (page) => lab.host.call(24, { rcx: page }).rcx === 0n && lab.host.module.pamt.isFree(page, 1),
  );
  lab.victim.td.expect(TDH.MEM_PAGE_AUG, { rcx: BIG + 1, r8: r8! });
}

/** Afterwards the victim has its page back. */
const restore = (lab: Lab): void => {
  lab.status(TDH.MEM_TRACK, { rcx: lab.victim.td.tdr });
  lab.onVictim(TDH.MEM_RANGE_UNBLOCK, { rcx: PAGE });
};

export const tracking: Family = {
  name: 'skip TRACK',
  attacks: [
    ...TAKERS.map(
      ([name, leaf, rcx, prepare]): Attack => ({
        name: `${name} without blocking`,
        must: 'TDX_GPA_RANGE_NOT_BLOCKED 0x1',
        run(lab) {
          prepare(lab);
          return lab.onVictim(leaf, { rcx, r8: lab.page() });
        },
      }),
    ),
    ...TAKERS.map(
      ([name, leaf, rcx, prepare]): Attack => ({
        name: `${name} without tracking`,
        must: 'TDX_TLB_TRACKING_NOT_DONE 0x1',
        run(lab) {
          prepare(lab);
          lab.onVictim(TDH.MEM_RANGE_BLOCK, { rcx });
          const status = lab.onVictim(leaf, { rcx, r8: lab.page() });
          restore(lab);
          return status;
        },
      }),
    ),
    {
      name: 'TRACK while a virtual processor of the epoch before is inside',
      must: 'TDX_SUCCESS TDX_TLB_TRACKING_NOT_DONE 0x1 TDX_PREVIOUS_TLB_EPOCH_BUSY',
      run(lab) {
        const { tdr } = lab.victim.td;
        const { tdcs } = lab.host.module.tdrAt(tdr);
        const parity = tdcs.num('TD_EPOCH') % 2;
        tdcs.set('REFCOUNT', 1, parity);
        lab.onVictim(TDH.MEM_RANGE_BLOCK, { rcx: PAGE });
        const answers = [
          lab.status(TDH.MEM_TRACK, { rcx: tdr }),
          lab.onVictim(TDH.MEM_PAGE_REMOVE, { rcx: PAGE }),
          lab.status(TDH.MEM_TRACK, { rcx: tdr }),
        ].join(' ');
        tdcs.set('REFCOUNT', 0, parity);
        lab.onVictim(TDH.MEM_RANGE_UNBLOCK, { rcx: PAGE });
        return answers;
      },
    },
    {
      name: 'a virtual processor with an old translation of a page that now is another TD’s',
      must: 'TDX_SUCCESS exit 48',
      then: 'waits',
      run(lab) {
        // The translation is in the processor: the page was read just now.
        lab.victim.ask(ASK.READ, PAGE);
        const { page } = lab.victim;
        lab.takePage(PAGE);
        const { bystander } = lab;
        bystander.td.tables(NOWHERE);
        bystander.td.expect(TDH.MEM_PAGE_AUG, { rcx: NOWHERE, r8: page });
        bystander.ask(ASK.ACCEPT, NOWHERE, 0n, 1);
        bystander.ask(ASK.WRITE, NOWHERE, SECRET, 1);
        const seen = exitName(lab.victim.ask(ASK.READ, PAGE).exit);
        lab.host.expect(TDH.MEM_RANGE_BLOCK, { rcx: NOWHERE, rdx: bystander.td.tdr });
        lab.host.expect(TDH.MEM_TRACK, { rcx: bystander.td.tdr });
        lab.host.expect(TDH.MEM_PAGE_REMOVE, { rcx: NOWHERE, rdx: bystander.td.tdr });
        return seen;
      },
    },
    {
      name: 'a blocked page, touched before tracking by a virtual processor that is outside',
      must: 'TDX_SUCCESS exit 48',
      run(lab) {
        lab.host.expect(TDH.VP_FLUSH, { rcx: lab.victim.vcpu.tdvpr });
        lab.onVictim(TDH.MEM_RANGE_BLOCK, { rcx: PAGE });
        const seen = exitName(lab.victim.ask(ASK.READ, PAGE).exit);
        restore(lab);
        return seen;
      },
    },
  ],
};
