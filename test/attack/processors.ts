/** Virtual processors where and when they may not run. */
import { type Family, Server, TDH } from './lab.ts';

export const processors: Family = {
  name: 'enter a virtual processor twice, or too early',
  attacks: [
    {
      name: 'on a second processor while the first has it',
      must: 'TDX_VCPU_ASSOCIATED',
      run: (lab) => lab.status(TDH.VP_ENTER, { rcx: lab.victim.vcpu.tdvpr, cpu: 1 }),
    },
    {
      name: 'flushed by a processor that does not have it',
      must: 'TDX_VCPU_NOT_ASSOCIATED',
      run: (lab) => lab.status(TDH.VP_FLUSH, { rcx: lab.victim.vcpu.tdvpr, cpu: 1 }),
    },
    {
      name: 'its metadata read on a second processor, so that it moves',
      must: 'TDX_VCPU_ASSOCIATED',
      run: (lab) => lab.status(TDH.VP_RD, { rcx: lab.victim.vcpu.tdvpr, rdx: 0xa020_0002_0000_0002n, cpu: 1 }),
    },
    {
      name: 'before FINALIZE',
      must: 'TDX_OP_STATE_INCORRECT',
      run: (lab) => lab.status(TDH.VP_ENTER, { rcx: new Server(lab.host, {}, false).vcpu.tdvpr }),
    },
    {
      name: 'before it is initialised',
      must: 'TDX_OP_STATE_INCORRECT',
      run(lab) {
        const td = lab.host.createTd();
        const rcx = lab.page();
        td.expect(TDH.VP_CREATE, { rcx });
        return lab.status(TDH.VP_ENTER, { rcx });
      },
    },
    {
      name: 'initialised twice, with another start value',
      must: 'TDX_OP_STATE_INCORRECT',
      run: (lab) => lab.status(TDH.VP_INIT, { rcx: lab.victim.vcpu.tdvpr, rdx: 1, r8: 9, version: 1 }),
    },
    {
      name: 'another one for a TD that runs',
      must: 'TDX_OP_STATE_INCORRECT',
      run: (lab) => lab.onVictim(TDH.VP_CREATE, { rcx: lab.page() }),
    },
    {
      name: 'reserved bits in RCX',
      must: 'TDX_OPERAND_INVALID 0x1',
      run: (lab) => lab.status(TDH.VP_ENTER, { rcx: BigInt(lab.victim.vcpu.tdvpr) | (1n << 60n) }),
    },
    {
      name: 'FINALIZE without a virtual processor',
      must: 'TDX_NO_VCPUS',
      run: (lab) => lab.status(TDH.MR_FINALIZE, { rcx: lab.host.createTd().tdr }),
    },
  ],
};
