/** What a processor is, told wrongly to a TD. */

import { writeTdParams } from '../tdx/td-builder.ts';
import { ASK, type Attack, type Family, type Lab, Server, TDH } from './lab.ts';

const hex = (value: bigint): string => `0x${value.toString(16)}`;
const INTEL_TDX = `${hex(0x65746e49_0000_0000n)} ${hex(0x5844546c_2020_2020n)}`;
const PARAMS = 0x10_4000;

/** CPUID in the victim; the host answers its call with whatever it likes. */
function cpuid(lab: Lab, leaf: number): string {
  const { result, exit } = lab.victim.ask(ASK.CPUID, leaf);
  return `${hex(result)} ${hex(exit.r14)}`;
}

/** TDH.MNG.INIT with a CPUID configuration that says too much. */
function configure(lab: Lab, entry: number, register: number, bit: number): string {
  const td = lab.page();
  const hkid = 63;
  lab.host.expect(TDH.MNG_CREATE, { rcx: td, rdx: hkid });
  lab.host.expect(TDH.MNG_KEY_CONFIG, { rcx: td });
  for (let i = 0; i < 6; i++) lab.host.expect(TDH.MNG_ADDCX, { rcx: lab.page(), rdx: td });
  writeTdParams(lab.host, PARAMS);
  const at = PARAMS + 256 + entry * 16 + register * 4;
  lab.host.memory.write32(at, (lab.host.memory.read32(at) | (1 << bit)) >>> 0);
  const status = lab.status(TDH.MNG_INIT, { rcx: td, rdx: PARAMS });
  takeDown(lab, td);
  return status;
}

function takeDown(lab: Lab, tdr: number): void {
  lab.host.expect(TDH.MNG_VPFLUSHDONE, { rcx: tdr });
  lab.host.expect(TDH.PHYMEM_CACHE_WB);
  lab.host.expect(TDH.MNG_KEY_FREEID, { rcx: tdr });
  for (const page of lab.host.module.tdrAt(tdr).tdcs.pages) lab.host.expect(TDH.PHYMEM_PAGE_RECLAIM, { rcx: page });
  lab.host.expect(TDH.PHYMEM_PAGE_RECLAIM, { rcx: tdr });
}

/** MSRs that are the processor's or the module's business: what the victim reads, and the #VE that it gets instead. */
const MSRS: readonly (readonly [string, number, string])[] = [
  ['IA32_EFER', 0xc000_0080, `${hex(0xd01n)} 0`],
  ['IA32_PAT', 0x277, `${hex(0x0007_0406_0007_0406n)} 0`],
  ['IA32_MKTME_KEYID_PARTITIONING', 0x87, '0x0 31'],
  ['IA32_XSS', 0xda0, '0x0 0'],
];

export const identity: Family = {
  name: 'lie in CPUID and MSRs',
  attacks: [
    {
      name: 'deny that it is a TD: CPUID 21h is the module’s',
      must: INTEL_TDX,
      run: (lab) => cpuid(lab, 0x21),
    },
    {
      name: 'answer CPUID 0 in the module’s place',
      must: 'GenuineIntel',
      run(lab) {
        const { result, exit } = lab.victim.ask(ASK.CPUID, 0);
        const text = [result >> 32n, exit.r14 >> 32n, exit.r14 & 0xffff_ffffn].map((word) =>
          String.fromCharCode(...[0n, 8n, 16n, 24n].map((shift) => Number((word >> shift) & 0xffn))),
        );
        return text.join('');
      },
    },
    ...MSRS.map(
      ([name, msr, must]): Attack => ({
        name: `give a value for ${name}`,
        must,
        run(lab) {
          const { result, fault } = lab.victim.ask(ASK.RDMSR, msr);
          return `${hex(result)} ${fault}`;
        },
      }),
    ),
    {
      name: 'claim a feature of leaf 1 that the configuration may not name',
      must: 'TDX_OPERAND_INVALID 0x45',
      run: (lab) => configure(lab, 0, 3, 9),
    },
    {
      name: 'claim a bit of leaf 4 that is fixed',
      must: 'TDX_OPERAND_INVALID 0x45',
      run: (lab) => configure(lab, 1, 0, 10),
    },
    {
      name: 'turn debugging on once the TD runs: ATTRIBUTES stay',
      must: `TDX_METADATA_FIELD_NOT_WRITABLE ${hex(1n << 28n)}`,
      run(lab) {
        const status = lab.status(13, { rcx: lab.victim.td.tdr, rdx: 0x1110_0003_0000_0000n, r8: 1, r9: 1 });
        return `${status} ${hex(lab.victim.ask(ASK.INFO).result)}`;
      },
    },
    {
      name: 'make a TD under debug and deny it: the TD is told',
      must: hex(1n),
      run: (lab) => hex(new Server(lab.host, { attributes: 1n }).start().ask(ASK.INFO).result),
    },
    {
      name: 'turn the clock of the TD back through IA32_TSC_ADJUST',
      must: 'TDX_INCONSISTENT_MSR 0x3b',
      run(lab) {
        const { victim } = lab;
        const { msrs } = lab.host.machine.processors[0]!;
        msrs.set(0x3b, 1n);
        const status = lab.status(TDH.VP_ENTER, { rcx: victim.vcpu.tdvpr });
        msrs.set(0x3b, 0n);
        return status;
      },
    },
    {
      name: 'turn the TSC of the processor back',
      must: 'TDX_TSC_ROLLBACK',
      run(lab) {
        const { victim } = lab;
        const p = lab.host.machine.processors[0]!;
        p.tscOffset -= 1n;
        const status = lab.status(TDH.VP_ENTER, { rcx: victim.vcpu.tdvpr });
        p.tscOffset += 1n;
        return status;
      },
    },
    {
      name: 'limit CPUID by IA32_MISC_ENABLE',
      must: 'TDX_LIMIT_CPUID_MAXVAL_SET',
      run(lab) {
        const { victim } = lab;
        const { msrs } = lab.host.machine.processors[0]!;
        const before = msrs.get(0x1a0);
        msrs.set(0x1a0, (before ?? 0x41801n) | (1n << 22n));
        const status = lab.status(TDH.VP_ENTER, { rcx: victim.vcpu.tdvpr });
        if (before === undefined) msrs.delete(0x1a0);
        else msrs.set(0x1a0, before);
        return status;
      },
    },
  ],
};
