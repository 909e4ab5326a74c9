/** A page under an address that is not quite its own. */
import { keyIdAddress } from './host-tools.ts';
import { type Attack, type Family, type Lab, NOWHERE, TDH } from './lab.ts';

const INVALID = 'TDX_OPERAND_INVALID';
const BIT_63 = 'with bit 63';
/** In what the host has in R8 for it, bit 63 is a mark, which it ignores. */
const MARKED_BY_BIT_63 = 'TDH.MEM.SEPT.ADD';

/** What an address can be that names no page. */
const FORMS: readonly (readonly [string, (lab: Lab) => bigint, string])[] = [
  ['with the TD’s own KeyID', (lab) => BigInt(keyIdAddress(lab.victim.page, lab.victim.td.hkid)), INVALID],
  ['with another private KeyID', (lab) => BigInt(keyIdAddress(lab.victim.page, 63)), INVALID],
  ['with a shared KeyID', (lab) => BigInt(keyIdAddress(lab.page(), 1)), INVALID],
  ['not aligned', (lab) => BigInt(lab.page() + 0x800), INVALID],
  ['beyond the physical address width', (lab) => BigInt(lab.page()) + (1n << 54n), INVALID],
  [BIT_63, (lab) => BigInt(lab.page()) + (1n << 63n), INVALID],
  ['outside every TDMR', () => 1n << 40n, 'TDX_OPERAND_ADDR_RANGE_ERROR'],
  ['in a hole of the TDMR', () => 0x3000_0000n, 'TDX_PAGE_METADATA_INCORRECT'],
  ['in the PAMT', () => 0x100_0000n, 'TDX_PAGE_METADATA_INCORRECT'],
];

const leaves: readonly (readonly [string, string, (lab: Lab, pa: bigint) => string])[] = [
  ['TDH.MEM.PAGE.AUG', '0x8', (lab, r8) => lab.onVictim(TDH.MEM_PAGE_AUG, { rcx: NOWHERE, r8 })],
  ['TDH.MEM.SEPT.ADD', '0x8', (lab, r8) => lab.onVictim(TDH.MEM_SEPT_ADD, { rcx: 0x4000_0002, r8 })],
  ['TDH.MNG.CREATE', '0x1', (lab, rcx) => lab.status(TDH.MNG_CREATE, { rcx, rdx: 63 })],
  ['TDH.VP.ENTER', '0x1', (lab, rcx) => lab.status(TDH.VP_ENTER, { rcx })],
  ['TDH.PHYMEM.PAGE.RECLAIM', '0x1', (lab, rcx) => lab.status(TDH.PHYMEM_PAGE_RECLAIM, { rcx })],
];

/** GPAs that are none of the private half, or not of the level. */
const GPAS: readonly (readonly [string, bigint])[] = [
  ['a shared GPA', 1n << 47n],
  ['a GPA beyond the TD’s width', 1n << 48n],
  ['bit 52', 1n << 52n],
  ['a reserved bit', 8n],
  ['a level that no page has', 0x4000_0002n],
  ['a 2 MiB page at a 4 KiB boundary', 0x1001n],
];

export const alias: Family = {
  name: 'alias',
  attacks: [
    ...leaves.flatMap(([leaf, operand, run]) =>
      FORMS.filter(([form]) => form !== BIT_63 || leaf !== MARKED_BY_BIT_63).map(
        ([form, address, must]): Attack => ({
          name: `${leaf}, page ${form}`,
          must: `${must} ${operand}`,
          run: (lab) => run(lab, address(lab)),
        }),
      ),
    ),
    ...GPAS.map(
      ([name, rcx]): Attack => ({
        name: `TDH.MEM.PAGE.AUG at ${name}`,
        must: 'TDX_OPERAND_INVALID 0x1',
        run: (lab) => lab.onVictim(TDH.MEM_PAGE_AUG, { rcx, r8: lab.page() }),
      }),
    ),
  ],
};
