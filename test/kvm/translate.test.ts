/** KVM_TRANSLATE: the software walk of the guest's page tables, in every paging mode. */
import { describe, expect, test } from 'vitest';
import { GuestLab } from './guest-lab.ts';
import { ok } from './lab.ts';

const PRESENT = 1n;
const WRITABLE = 2n;
const LARGE = 0x80n;
const FLAGS: bigint = PRESENT | WRITABLE;

function lab(words: Readonly<Record<number, bigint>>, size: 4 | 8): GuestLab {
  const it = new GuestLab({ ram: 0x40000 });
  for (const [address, value] of Object.entries(words)) {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    it.vm.mm.write(it.memory + Number(address), bytes.subarray(0, size));
  }
  return it;
}

function mode(it: GuestLab, cr3: bigint, cr4: bigint, efer: bigint): GuestLab {
  const sregs = ok(it.vcpu.getSregs());
  const failed = it.vcpu.setSregs({ ...sregs, cr0: sregs.cr0 | 0x8000_0001n, cr3, cr4, efer });
  if (failed !== 0) throw new Error(`KVM_SET_SREGS: ${failed}`);
  return it;
}

const at = (it: GuestLab, linear: bigint): number => it.vcpu.translate(linear).physicalAddress;

describe('KVM_TRANSLATE', () => {
  test('without paging linear is physical', () => {
    expect(at(new GuestLab(), 0x1234n)).toBe(0x1234);
  });

  test('32-bit paging, small and large pages', () => {
    const it = lab({ 65536: 0x11000n | FLAGS, 65540: 0x40_0000n | LARGE | FLAGS, 69640: 0x7000n | FLAGS }, 4);
    mode(it, 0x10000n, 0x10n, 0n);
    expect(at(it, 0x2abcn)).toBe(0x7abc);
    expect(at(it, 0x51_2345n)).toBe(0x51_2345);
    expect(it.vcpu.translate(0x3000n).valid).toBe(false);
  });

  test('PAE paging', () => {
    const it = lab(
      { 65536: 0x11000n | PRESENT, 69632: 0x12000n | FLAGS, 69640: 0x20_0000n | LARGE | FLAGS, 73744: 0x7000n | FLAGS },
      8,
    );
    mode(it, 0x10000n, 0x20n, 0n);
    expect(at(it, 0x2abcn)).toBe(0x7abc);
    expect(at(it, 0x21_2345n)).toBe(0x21_2345);
    expect(at(it, 0x4000_0000n)).toBe(-1);
  });

  test('4-level paging with 4 KiB, 2 MiB and 1 GiB pages, and canonical upper addresses', () => {
    const it = lab(
      {
        65536: 0x11000n | FLAGS,
        [0x10000 + 511 * 8]: 0x11000n | FLAGS,
        69632: 0x12000n | FLAGS,
        69640: 0x4000_0000n | LARGE | FLAGS,
        73728: 0x13000n | FLAGS,
        73736: 0x20_0000n | LARGE | FLAGS,
        77840: 0x7000n | FLAGS,
      },
      8,
    );
    mode(it, 0x10000n, 0x20n, 0x500n);
    expect(at(it, 0x2abcn)).toBe(0x7abc);
    expect(at(it, 0x21_2345n)).toBe(0x21_2345);
    expect(at(it, 0x4123_4567n)).toBe(0x4123_4567);
    expect(at(it, 0xffff_ff80_0000_2abcn)).toBe(0x7abc);
    expect(at(it, 0x6000n)).toBe(-1);
  });
});
