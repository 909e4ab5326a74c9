/** Guest-physical addresses at the edge of what the tables translate. */
import { expect, test } from 'vitest';
import { bytesOf, CODE, GuestLab } from '../testing/guest_lab.ts';

/** The fourth GiB of linear addresses leads elsewhere. */
const PDPTE = 0x2000 + 3 * 8;
const PAGE = 4096;

test('an address that four levels of tables do not reach is MMIO, and nobody else’s mapping suffers', async () => {
  // mov eax, [c0010000h]; mov eax, [c0010000h]; hlt
  const lab = new GuestLab('67 8b 04 25 00 00 01 c0 67 8b 04 25 00 00 01 c0 f4');
  const entry = new DataView(new ArrayBuffer(8));
  // Bit 48: the same table indices as for address 0.
  entry.setBigUint64(0, (1n << 48n) | 0x83n, true);
  lab.write(PDPTE, new Uint8Array(entry.buffer));
  lab.answers.push(bytesOf('11000000'), bytesOf('22000000'));
  const at = (2 ** 48 + CODE).toString(16);
  expect(await lab.run()).toEqual([`read ${at}/4`, `read ${at}/4`]);
  const code = lab.vm.kvm.arch.tdpMmu.lookup(CODE / PAGE)!;
  expect(code.spte & 7n).not.toBe(6n);
});

test('no slot lies where tables do not reach', () => {
  const { vm } = new GuestLab('f4');
  const region = { slot: 1, flags: 0, memorySize: PAGE, userspaceAddr: vm.mm.mmap(PAGE) };
  expect(vm.setUserMemoryRegion({ ...region, guestPhysAddr: 2 ** 48 })).toBe(-22);
  expect(vm.setUserMemoryRegion({ ...region, guestPhysAddr: 2 ** 48 - PAGE })).toBe(0);
});
