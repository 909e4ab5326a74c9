/** Structures and calls that are not as they must be: each single one, and thousands by chance. */
import { Random } from '../../src/util/random.ts';
import { writeTdParams } from '../tdx/td-builder.ts';
import { ASK, type Attack, DATA, type Family, type Lab, TDH } from './lab.ts';

const PARAMS = 0x10_4000;
const GUESSES = 2000;
const PARAMS_GUESSES = 300;

/** TDH.MNG.INIT with one change in TD_PARAMS. */
const params = (name: string, must: string, change: (lab: Lab) => void): Attack => ({
  name: `TD_PARAMS: ${name}`,
  must,
  run(lab) {
    const { tdr, takeDown } = uninitialised(lab);
    writeTdParams(lab.host, PARAMS);
    change(lab);
    const status = lab.status(TDH.MNG_INIT, { rcx: tdr, rdx: PARAMS });
    takeDown();
    return status;
  },
});

/** A TD that waits for TDH.MNG.INIT. */
function uninitialised(lab: Lab): { tdr: number; takeDown: () => void } {
  const { host } = lab;
  const tdr = lab.page();
  host.expect(TDH.MNG_CREATE, { rcx: tdr, rdx: 63 });
  host.expect(TDH.MNG_KEY_CONFIG, { rcx: tdr });
  const pages = Array.from({ length: 6 }, () => lab.page());
  for (const rcx of pages) host.expect(TDH.MNG_ADDCX, { rcx, rdx: tdr });
  const takeDown = (): void => {
    host.expect(TDH.MNG_VPFLUSHDONE, { rcx: tdr });
    host.expect(TDH.PHYMEM_CACHE_WB);
    host.expect(TDH.MNG_KEY_FREEID, { rcx: tdr });
    for (const rcx of [...pages, tdr]) host.expect(TDH.PHYMEM_PAGE_RECLAIM, { rcx });
  };
  return { tdr, takeDown };
}

const set8 = (offset: number, value: number) => (lab: Lab) => lab.host.memory.write8(PARAMS + offset, value);

/** Values that are near something: addresses of all kinds, levels, identifiers. */
function guess(lab: Lab, random: Random): bigint {
  const { victim, bystander, host } = lab;
  const known = [
    victim.td.tdr,
    victim.vcpu.tdvpr,
    victim.data,
    bystander.td.tdr,
    bystander.data,
    host.module.tdrAt(victim.td.tdr).tdcs.pages[random.below(6)]!,
    lab.host.module.tdmrs[0]!.base,
    16 * 2 ** 20,
    0x1_0000,
    PARAMS,
  ];
  switch (random.below(8)) {
    case 0:
      return random.u64();
    case 1:
      return BigInt(random.below(16));
    case 2:
      return 1n << BigInt(random.below(64));
    case 3:
      return 0xffff_ffff_ffff_ffffn;
    case 4:
      return BigInt(random.below(0x40)) * 0x1000n + BigInt(random.below(5));
    case 5:
      return BigInt(known[random.below(known.length)]!) + (BigInt(random.below(64)) << 46n);
    case 6:
      return BigInt(known[random.below(known.length)]!) + BigInt(random.below(5));
    default:
      return BigInt(known[random.below(known.length)]!);
  }
}

/** CPUID leaf 1FH of TD_PARAMS has a status of its own. */
const WRONG_TOPOLOGY = 'TDX_CPUID_LEAF_1F_FORMAT_UNRECOGNIZED';

/** Leaves that may rightly stop a TD: left out, since it is looked at afterwards. */
const STOPPERS: ReadonlySet<number> = new Set([
  TDH.VP_ENTER,
  TDH.VP_FLUSH,
  TDH.VP_WR,
  TDH.MEM_RANGE_BLOCK,
  52, // TDH.SYS.SHUTDOWN
  32, // TDH.SYS.INFO: writes where the host says
  37, // TDH.SYS.RDALL: the same
]);

export const malformed: Family = {
  name: 'malformed structures and calls',
  attacks: [
    params('ATTRIBUTES that the platform does not offer', 'TDX_OPERAND_INVALID 0x40', set8(4, 1)),
    params('XFAM without SSE', 'TDX_OPERAND_INVALID 0x41', set8(8, 1)),
    params('XFAM with what the processor lacks', 'TDX_OPERAND_INVALID 0x41', set8(15, 0x80)),
    params('no virtual processors', 'TDX_OPERAND_INVALID 0x44', (lab) => lab.host.memory.write16(PARAMS + 16, 0)),
    params('L2 virtual machines', 'TDX_OPERAND_INVALID 0x47', set8(18, 4)),
    params('a memory type that is not write-back', 'TDX_OPERAND_INVALID 0x43', set8(24, 0x18)),
    params('three levels', 'TDX_OPERAND_INVALID 0x43', set8(24, 0x16)),
    params('five levels without the width', 'TDX_OPERAND_INVALID 0x43', set8(30, 1)),
    params('unknown CONFIG_FLAGS', 'TDX_OPERAND_INVALID 0x42', set8(39, 0x80)),
    params('a TSC too slow', 'TDX_OPERAND_INVALID 0x46', (lab) => lab.host.memory.write16(PARAMS + 40, 3)),
    params('a TSC too fast', 'TDX_OPERAND_INVALID 0x46', (lab) => lab.host.memory.write16(PARAMS + 40, 401)),
    params('reserved bytes after the TSC', 'TDX_OPERAND_INVALID 0x2', set8(60, 1)),
    params('reserved bytes at the end', 'TDX_OPERAND_INVALID 0x2', set8(1023, 1)),
    {
      name: 'TD_PARAMS not aligned',
      must: 'TDX_OPERAND_INVALID 0x2',
      run(lab) {
        const { tdr, takeDown } = uninitialised(lab);
        const status = lab.status(TDH.MNG_INIT, { rcx: tdr, rdx: PARAMS + 512 });
        takeDown();
        return status;
      },
    },
    {
      name: `${PARAMS_GUESSES} TD_PARAMS with random bytes: refused, or a TD that is as they say`,
      must: 'nothing else',
      run(lab) {
        const random = new Random(0x7d);
        const { host } = lab;
        let setUp = uninitialised(lab);
        for (let i = 0; i < PARAMS_GUESSES; i++) {
          writeTdParams(host, PARAMS);
          for (let n = random.below(3); n >= 0; n--) host.memory.write8(PARAMS + random.below(1024), random.below(256));
          const { name } = host.call(TDH.MNG_INIT, { rcx: setUp.tdr, rdx: PARAMS });
          if (name !== 'TDX_SUCCESS') {
            if (!name.startsWith('TDX_OPERAND_INVALID') && name !== WRONG_TOPOLOGY) return name;
            continue;
          }
          const attributes = host.expect(TDH.MNG_RD, { rcx: setUp.tdr, rdx: 0x1110_0003_0000_0000n }).r8;
          if (attributes !== host.memory.read64(PARAMS)) return `ATTRIBUTES 0x${attributes.toString(16)}`;
          setUp.takeDown();
          setUp = uninitialised(lab);
        }
        setUp.takeDown();
        return 'nothing else';
      },
    },
    {
      name: `${GUESSES} calls with random operands`,
      must: 'nothing broke',
      run(lab) {
        const random = new Random(20_26);
        lab.victim.goesOn();
        for (let i = 0; i < GUESSES; i++) {
          const leaf = random.below(100);
          if (STOPPERS.has(leaf)) continue;
          const operands = {
            rcx: guess(lab, random),
            rdx: guess(lab, random),
            r8: guess(lab, random),
            r9: guess(lab, random),
            version: random.below(16) === 0 ? random.below(3) : 0,
            cpu: random.below(2),
          };
          const { name } = lab.host.call(leaf, operands);
          if (/^0x/.test(name)) return `leaf ${leaf}: ${name}`;
        }
        return 'nothing broke';
      },
    },
    {
      name: 'global metadata written over private memory: the TD finds out',
      must: 'TDX_SUCCESS TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE',
      then: 'dies',
      run(lab) {
        const { page, data } = lab.victim;
        const status = lab.status(32, { rcx: data, rdx: 1024, r8: page, r9: 32 });
        return `${status} ${lab.victim.ask(ASK.READ, DATA).exit.status}`;
      },
    },
    {
      name: 'a leaf that does not exist, a version that does not, reserved bits of RAX',
      must: 'TDX_OPERAND_INVALID TDX_OPERAND_INVALID TDX_OPERAND_INVALID',
      run: (lab) => [lab.status(0x7ff), lab.status(TDH.MEM_PAGE_AUG, { version: 1 }), lab.status(2 ** 24)].join(' '),
    },
    {
      name: 'the module configured again, with other memory',
      must: 'TDX_SYS_CONFIG_NOT_PENDING TDX_SYS_INIT_NOT_PENDING TDX_SYS_KEY_CONFIG_NOT_PENDING',
      run: (lab) => [lab.status(45, { rcx: PARAMS, rdx: 1, r8: 40 }), lab.status(33), lab.status(31)].join(' '),
    },
  ],
};
