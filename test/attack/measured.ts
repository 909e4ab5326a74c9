/** Measured content, changed before or after it was measured. */
import { ASK, type Family, type Lab, NOWHERE, PAGE, PATTERN, Server, TDH } from './lab.ts';

const MRTD = 0x1310_0003_0000_0000n;
const mrtd = (lab: Lab, { td }: Server): string =>
  Array.from({ length: 6 }, (_, i) =>
    lab.host.expect(TDH.MNG_RD, { rcx: td.tdr, rdx: MRTD + BigInt(i) }).r8.toString(16),
  ).join();

export const measured: Family = {
  name: 'change measured content',
  attacks: [
    {
      name: 'another page after FINALIZE',
      must: 'TDX_OP_STATE_INCORRECT',
      run(lab) {
        lab.victim.td.tables(NOWHERE);
        return lab.onVictim(TDH.MEM_PAGE_ADD, { rcx: NOWHERE, r8: lab.page(), r9: lab.page() });
      },
    },
    {
      name: 'TDH.MR.EXTEND after FINALIZE',
      must: 'TDX_OP_STATE_INCORRECT',
      run: (lab) => lab.onVictim(TDH.MR_EXTEND, { rcx: PAGE }),
    },
    {
      name: 'FINALIZE again',
      must: 'TDX_OP_STATE_INCORRECT',
      run: (lab) => lab.status(TDH.MR_FINALIZE, { rcx: lab.victim.td.tdr }),
    },
    {
      name: 'TDH.MNG.INIT again',
      must: 'TDX_OP_STATE_INCORRECT',
      run: (lab) => lab.status(TDH.MNG_INIT, { rcx: lab.victim.td.tdr, rdx: 0x10_4000 }),
    },
    {
      name: 'a page written between ADD and FINALIZE: the TD cannot read it',
      must: 'TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE',
      run(lab) {
        const server = new Server(lab.host, {}, false);
        lab.write(server.page, PATTERN + 1n);
        server.td.finalize();
        server.ask(ASK.NOTHING);
        return server.ask(ASK.READ, PAGE).exit.status;
      },
    },
    {
      name: 'a page written between ADD and EXTEND: there is nothing to measure, and no TD any more',
      must: 'TDX_TD_FATAL TDX_TD_FATAL',
      run(lab) {
        const td = lab.host.createTd();
        td.tables(PAGE);
        const page = lab.page();
        td.expect(TDH.MEM_PAGE_ADD, { rcx: PAGE, r8: page, r9: lab.page() });
        td.createVcpu();
        lab.write(page, PATTERN);
        const extend = lab.status(TDH.MR_EXTEND, { rdx: td.tdr, rcx: PAGE });
        return `${extend} ${lab.status(TDH.MR_FINALIZE, { rcx: td.tdr })}`;
      },
    },
    {
      name: 'a measured page is removed, and another one added: the measurement shows it',
      must: 'different',
      run(lab) {
        const good = new Server(lab.host);
        const bad = new Server(lab.host, {}, false);
        bad.td.expect(TDH.MEM_PAGE_REMOVE, { rcx: PAGE });
        bad.td.addPage(PAGE, new Uint8Array(4096), false);
        bad.td.finalize();
        return mrtd(lab, good) === mrtd(lab, bad) ? 'the same' : 'different';
      },
    },
    {
      name: 'a measured page is removed, and a pending one is there instead: the TD does not take it for the measured one',
      must: 'TDX_SUCCESS 48',
      run(lab) {
        const server = new Server(lab.host, {}, false);
        server.td.expect(TDH.MEM_PAGE_REMOVE, { rcx: PAGE });
        server.td.expect(TDH.MEM_PAGE_AUG, { rcx: PAGE, r8: lab.page() });
        server.td.finalize();
        server.ask(ASK.NOTHING);
        const { exit } = server.ask(ASK.READ, PAGE);
        return `${exit.status} ${exit.reason}`;
      },
    },
    {
      name: 'the same pages in another order have another measurement',
      must: 'different',
      run(lab) {
        const values = [
          [0, 0x1000],
          [0x1000, 0],
        ].map((order) => {
          const td = lab.host.createTd();
          for (const gpa of order) td.addPage(gpa);
          td.createVcpu();
          td.finalize();
          return lab.host.expect(TDH.MNG_RD, { rcx: td.tdr, rdx: MRTD }).r8;
        });
        return values[0] === values[1] ? 'the same' : 'different';
      },
    },
  ],
};
