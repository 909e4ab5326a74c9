/** Private memory and state, read and written from outside. */
import { keyIdAddress } from './host-tools.ts';
import { ASK, type Attack, DATA, exitName, type Family, type Lab, PATTERN, SECRET, TDH } from './lab.ts';

const DEAD = 'TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE';
const hex = (value: bigint): string => `0x${value.toString(16)}`;

/** Identifiers of metadata fields that are none of the host's business. */
const VP_FIELDS: readonly (readonly [string, bigint])[] = [
  ['RAX', 0x1020_0003_0000_0000n],
  ['DR0', 0x1120_0003_0000_0000n],
  ['CR2', 0x1120_0003_0000_0028n],
  ['XBUFF', 0x1220_0003_0000_0000n],
  ['IA32_KERNEL_GS_BASE', 0x1320_0003_0000_2102n],
  ['VAPIC', 0x0120_0003_0000_0000n],
  ['GUEST_RIP', 0x0024_0003_0000_681en],
  ['GUEST_CR3', 0x0024_0003_0000_6802n],
  ['#VE information', 0x0220_0003_0000_0003n],
];
const TD_FIELDS: readonly (readonly [string, bigint])[] = [
  ['SEPT_ROOT', 0x2110_0003_0000_0000n],
  ['MSR_BITMAPS', 0x2010_0003_0000_0000n],
  ['RTMR', 0x1310_0003_0000_0040n],
];
/** Fields that say what the TD is: the host may read them. */
const FIXED: readonly (readonly [string, bigint])[] = [
  ['ATTRIBUTES', 0x1110_0003_0000_0000n],
  ['XFAM', 0x1110_0003_0000_0001n],
  ['EPTP', 0x1110_0003_0000_0004n],
  ['TSC_OFFSET', 0x1110_0003_0000_000an],
  ['MRTD', 0x1310_0003_0000_0000n],
  ['OP_STATE', 0x9010_0002_0000_0004n],
  ['HKID', 0x8110_0001_0000_0001n],
];

/** Every page of the TD's, by what it is for. */
function pages(lab: Lab): readonly (readonly [string, number])[] {
  const { victim, host } = lab;
  const { tdcs } = host.module.tdrAt(victim.td.tdr);
  const vp = host.module.tdvpsAt(victim.vcpu.tdvpr);
  return [
    ['TDR', victim.td.tdr],
    ...tdcs.pages.map((page, i) => [`TDCS page ${i}`, page] as const),
    ...vp.pages.map((page, i) => [`TDVPS page ${i}`, page] as const),
    ['memory', victim.data],
  ];
}

/** The table whose entries map the TD's pages. */
function tableOf({ host, victim }: Lab): number {
  const page = (n: number): boolean => host.call(24, { rcx: n * 4096 }).rcx === 8n;
  const owned = (n: number): boolean => Number(host.call(24, { rcx: n * 4096 }).rdx) === victim.td.tdr;
  const tables = Array.from({ length: 3072 }, (_, n) => n + 512).filter((n) => page(n) && owned(n));
  const maps = (n: number): boolean =>
    (host.module.platform.keyed.read64(n * 4096 + (DATA / 4096) * 8, victim.td.hkid) % 2n ** 46n) >> 12n ===
    BigInt(victim.data / 4096);
  return tables.find(maps)! * 4096;
}

/** After the host has written to memory of the TD: what its next use gives. */
const poison = (name: string, write: (lab: Lab) => void): Attack => ({
  name,
  must: DEAD,
  then: 'dies',
  run(lab) {
    write(lab);
    return lab.victim.ask(ASK.READ, DATA).exit.status;
  },
});

export const readWrite: Family = {
  name: 'read and write private memory',
  attacks: [
    {
      name: 'read memory',
      must: '0x0',
      run: (lab) => hex(lab.read(lab.victim.data)),
    },
    {
      name: 'read every page that the TD has, of whatever kind',
      must: '',
      run: (lab) =>
        pages(lab)
          .filter(([, page]) => lab.host.memory.readBytes(page, 4096).some((byte) => byte !== 0))
          .map(([name]) => name)
          .join(' '),
    },
    {
      name: 'read memory under each shared KeyID',
      must: '',
      run: (lab) =>
        Array.from({ length: 32 }, (_, keyId) => keyId)
          .filter((keyId) => lab.host.module.platform.keyed.read64(lab.victim.data, keyId) !== 0n)
          .join(' '),
    },
    {
      name: 'read the PAMT',
      must: '0x0',
      run: (lab) => hex(lab.read(16 * 2 ** 20 + (lab.victim.data / 4096) * 16)),
    },
    {
      name: 'TDH.MEM.RD of a TD that is not under debug',
      must: 'TDX_TD_NON_DEBUG',
      run: (lab) => lab.onVictim(12, { rcx: DATA }),
    },
    {
      name: 'TDH.MEM.WR of a TD that is not under debug',
      must: 'TDX_TD_NON_DEBUG',
      run: (lab) => lab.onVictim(14, { rcx: DATA, r8: 1 }),
    },
    poison('write to memory', (lab) => lab.write(lab.victim.data, SECRET + 1n)),
    poison('write back what was read, a page in all', (lab) => {
      const seen = lab.host.memory.readBytes(lab.victim.data, 4096);
      lab.host.memory.writeBytes(lab.victim.data, seen);
    }),
    poison('write one byte far from what is read next, in the same line', (lab) =>
      lab.host.memory.write8(lab.victim.data + 63, 1),
    ),
    poison('write under another shared KeyID', (lab) =>
      lab.host.module.platform.keyed.write64(lab.victim.data, 5, SECRET + 1n),
    ),
    poison('write to a table of the Secure EPT', (lab) => {
      const table = tableOf(lab);
      // Nothing that a processor has of it may be left.
      lab.host.expect(TDH.VP_FLUSH, { rcx: lab.victim.vcpu.tdvpr });
      lab.write(table, 7n);
    }),
    ...[
      'TDR',
      'TDCS page 0',
      'TDCS page 2',
      'TDCS page 3',
      'TDVPS page 0',
      'TDVPS page 1',
      'TDVPS page 2',
      'TDVPS page 3',
    ].map(
      (name): Attack => ({
        name: `overwrite the ${name}`,
        must: 'dead',
        then: 'dies',
        run(lab) {
          const [, page] = pages(lab).find(([kind]) => kind === name)!;
          lab.host.expect(TDH.VP_FLUSH, { rcx: lab.victim.vcpu.tdvpr });
          lab.host.memory.fill(page, 4096);
          const { called, exit } = lab.victim.ask(ASK.READ, DATA);
          return !called && /FATAL|NON_RECOVERABLE/.test(exit.status) ? 'dead' : exitName(exit);
        },
      }),
    ),
    {
      name: 'copy another page’s content over it, with MOVDIR64B',
      must: DEAD,
      then: 'dies',
      run(lab) {
        const line = lab.host.memory.readBytes(lab.victim.page, 64);
        lab.host.module.platform.keyed.writeBytes(lab.victim.data, 0, line);
        return lab.victim.ask(ASK.READ, DATA).exit.status;
      },
    },
    ...VP_FIELDS.map(
      ([name, id]): Attack => ({
        name: `TDH.VP.RD of ${name}`,
        must: 'TDX_METADATA_FIELD_NOT_READABLE 0x0',
        run: (lab) =>
          `${lab.status(TDH.VP_RD, { rcx: lab.victim.vcpu.tdvpr, rdx: id })} ${hex(lab.host.call(TDH.VP_RD, { rcx: lab.victim.vcpu.tdvpr, rdx: id }).r8)}`,
      }),
    ),
    ...VP_FIELDS.map(
      ([name, id]): Attack => ({
        name: `TDH.VP.WR of ${name}`,
        must: 'TDX_METADATA_FIELD_NOT_WRITABLE',
        run: (lab) => lab.status(TDH.VP_WR, { rcx: lab.victim.vcpu.tdvpr, rdx: id, r8: 1, r9: 2n ** 64n - 1n }),
      }),
    ),
    ...TD_FIELDS.map(
      ([name, id]): Attack => ({
        name: `TDH.MNG.RD of ${name}`,
        must: 'TDX_METADATA_FIELD_NOT_READABLE',
        run: (lab) => lab.status(TDH.MNG_RD, { rcx: lab.victim.td.tdr, rdx: id }),
      }),
    ),
    ...FIXED.map(
      ([name, id]): Attack => ({
        name: `TDH.MNG.WR of ${name}`,
        must: 'TDX_METADATA_FIELD_NOT_WRITABLE',
        run: (lab) => lab.status(13, { rcx: lab.victim.td.tdr, rdx: id, r8: 1, r9: 2n ** 64n - 1n }),
      }),
    ),
    {
      name: 'see registers of the TD at an exit that it did not ask for',
      must: 'TDX_SUCCESS exit 48 nothing',
      then: 'waits',
      run(lab) {
        const { exit } = lab.victim.ask(ASK.READ, 0x12_3000);
        const values = [exit.rbx, exit.rsi, exit.rdi, exit.r10, exit.r11, exit.r12, exit.r13, exit.r14, exit.r15];
        const seen = values.some((value) => value !== 0n) ? 'something' : 'nothing';
        return `${exitName(exit)} ${seen}`;
      },
    },
    {
      name: 'see linear addresses at an EPT violation',
      must: '0x123000 0x0',
      then: 'waits',
      run(lab) {
        const { exit } = lab.victim.ask(ASK.READ, 0x12_3008);
        return `${hex(exit.r8)} ${hex(exit.rcx & 0x1f80n)}`;
      },
    },
    {
      name: 'use a private KeyID in the address of a source page',
      must: 'TDX_OPERAND_INVALID 0x9',
      run(lab) {
        const td = lab.host.createTd();
        td.tables(0);
        const r9 = keyIdAddress(lab.victim.data, lab.victim.td.hkid);
        return lab.status(TDH.MEM_PAGE_ADD, { rdx: td.tdr, rcx: 0, r8: lab.page(), r9 });
      },
    },
    {
      name: 'have a private page copied into another TD as if it were the host’s: zeros are copied',
      must: 'zeros',
      run(lab) {
        const td = lab.host.createTd({ attributes: 1n });
        td.tables(0);
        td.expect(TDH.MEM_PAGE_ADD, { rcx: 0, r8: lab.page(), r9: lab.victim.page });
        const copied = td.expect(12, { rcx: 0 }).r8;
        return copied === PATTERN ? 'the content' : copied === 0n ? 'zeros' : hex(copied);
      },
    },
  ],
};
