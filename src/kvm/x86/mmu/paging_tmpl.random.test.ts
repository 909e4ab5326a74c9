/** KVM's walk of a guest's page tables against the reference, on random tables. */
import { expect, test } from 'vitest';
import { type ReferenceState, referenceWalk } from '../../../machine/mmu/reference-walk.ts';
import { hexOf } from '../../../util/bytes.ts';
import { Random } from '../../../util/random.ts';
import { GuestLab, RAM_SIZE } from '../testing/guest_lab.ts';
import { kvmMmuGvaToGpa, PFERR_IMPLICIT_ACCESS } from './paging_tmpl.ts';
import { PFERR_FETCH_MASK, PFERR_USER_MASK, PFERR_WRITE_MASK } from './pferr.ts';

const FRAMES = 40;
const MODES = ['32', 'pae', '4', '5'] as const;
type Mode = (typeof MODES)[number];

/** An entry of a guest table: mostly good, with bits wrong now and then. */
function tableEntry(random: Random, mode: Mode): bigint {
  const chance = (percent: number): boolean => random.below(100) < percent;
  let entry = BigInt(random.below(FRAMES)) << 12n;
  if (chance(97)) entry |= 1n;
  if (chance(90)) entry |= 2n;
  if (chance(80)) entry |= 4n;
  if (chance(50)) entry |= 0x20n;
  if (chance(50)) entry |= 0x40n;
  if (chance(8)) entry = (entry & ~0x3fff_f000n) | 0x80n | (chance(20) ? 1n << BigInt(12 + random.below(19)) : 0n);
  if (mode === '32') return entry & 0xffff_ffffn;
  if (chance(6)) entry |= 1n << 63n;
  if (chance(4)) entry |= 1n << BigInt(40 + random.below(23));
  if (mode !== 'pae') entry |= BigInt(random.below(16)) << 59n;
  return entry;
}

const CR4 = { PSE: 0x10, PAE: 0x20, LA57: 0x1000, SMEP: 0x10_0000, SMAP: 0x20_0000, PKE: 0x40_0000 } as const;

test.each(MODES)('paging %s (seed 7)', (mode) => {
  const random = new Random(7);
  const lab = new GuestLab('f4');
  const { vcpu } = lab.vcpu;
  const { arch, kvm } = vcpu;
  const on = (bit: number): number => (random.below(2) ? bit : 0);
  let rflags = 2;
  Object.assign(kvm, { ops: { ...kvm.ops, getRflags: () => rflags } });
  const kinds = { ok: 0, fault: 0 };
  // What the reference makes of the tables: its accessed and dirty flags must be KVM's.
  const tables = new DataView(new ArrayBuffer(RAM_SIZE));
  const same = (): boolean => hexOf(new Uint8Array(tables.buffer, 0, FRAMES * 4096)) === lab.read(0, FRAMES * 4096);
  for (let n = 0; n < 3000; n++) {
    if (n % 100 === 0) {
      if (n > 0) expect(same(), `case ${n}`).toBe(true);
      const step = mode === '32' ? 4 : 8;
      for (let at = 0; at < FRAMES * 4096; at += step) {
        const entry = tableEntry(random, mode);
        if (step === 8) tables.setBigUint64(at, entry, true);
        else tables.setUint32(at, Number(entry), true);
      }
      lab.write(0, new Uint8Array(tables.buffer, 0, FRAMES * 4096));
      arch.regsAvail = ~0;
      arch.cr0GuestOwnedBits = 0;
      arch.cr4GuestOwnedBits = 0;
      arch.maxphyaddr = random.below(2) ? 52 : 46;
      arch.cr0 = (0x8000_0001 | on(0x1_0000)) >>> 0;
      const long = mode === '4' || mode === '5';
      const extension = mode === '32' ? 0 : CR4.PAE | (mode === '5' ? CR4.LA57 : 0);
      arch.cr4 = extension | on(CR4.PSE) | on(CR4.SMEP) | on(CR4.SMAP) | on(CR4.PKE);
      arch.efer = (long ? 0x500 : 0) | on(0x800);
      arch.cr3 = BigInt(random.below(FRAMES)) << 12n;
      for (let i = 0; i < 4; i++)
        arch.pdptrs[i] = (BigInt(random.below(FRAMES)) << 12n) | BigInt(random.below(10) ? 1 : 0);
    }
    if (random.below(5) === 0) arch.pkru = random.below(3) ? random.below(2 ** 31) * 2 + random.below(2) : 0;
    rflags = 2 | on(0x4_0000);
    const width = mode === '4' ? 47 : mode === '5' ? 56 : 32;
    const linear = BigInt.asUintN(width, (BigInt(random.below(2 ** 31)) << 31n) | BigInt(random.below(2 ** 31)));
    const access = (['read', 'write', 'fetch'] as const)[random.below(3)]!;
    const user = random.below(2) === 1;
    const implicit = !user && access !== 'fetch' && random.below(5) === 0;
    const inRam = (a: bigint): boolean => a < RAM_SIZE;
    const state: ReferenceState = {
      read64: (a) => (inRam(a) ? tables.getBigUint64(Number(a), true) : 0n),
      read32: (a) => (inRam(a) ? tables.getUint32(Number(a), true) : 0),
      setBits: (a, bits) => {
        if (inRam(a)) tables.setUint32(Number(a), tables.getUint32(Number(a), true) | bits, true);
      },
      mode,
      cr3: arch.cr3,
      pdptes: arch.pdptrs,
      wp: (arch.cr0 & 0x1_0000) !== 0,
      pse: (arch.cr4 & CR4.PSE) !== 0,
      nxe: (arch.efer & 0x800) !== 0,
      smep: (arch.cr4 & CR4.SMEP) !== 0,
      smap: (arch.cr4 & CR4.SMAP) !== 0,
      pke: (arch.cr4 & CR4.PKE) !== 0,
      pkru: arch.pkru,
      ac: (rflags & 0x4_0000) !== 0,
      physicalBits: arch.maxphyaddr,
      ept: null,
    };
    const expected = referenceWalk(state, linear, access, user, implicit);
    const kind = access === 'write' ? PFERR_WRITE_MASK : access === 'fetch' ? PFERR_FETCH_MASK : 0;
    const gpa = kvmMmuGvaToGpa(
      vcpu,
      linear,
      kind | (user ? PFERR_USER_MASK : 0) | (implicit ? PFERR_IMPLICIT_ACCESS : 0),
    );
    const what = `case ${n} ${mode} ${access} ${user ? 'user' : 'supervisor'} ${linear.toString(16)}`;
    if (expected.kind === 'ok') expect(gpa, what).toBe(Number(expected.hpa));
    else if (expected.kind === 'fault')
      expect([gpa, arch.walkFault.errorCode, arch.walkFault.address], what).toEqual([-1, expected.error, linear]);
    if (expected.kind === 'ok' || expected.kind === 'fault') kinds[expected.kind]++;
  }
  expect(kinds.ok).toBeGreaterThan(100);
  expect(kinds.fault).toBeGreaterThan(100);
});
