/** Protection keys in VMs: each vCPU has its own PKRU, and user space sees it in the XSAVE area. */
import { expect, test } from 'vitest';
import { bytesOf, CODE, GuestLab, ok } from './testing/guest_lab.ts';

const XSAVE_PKRU = 2688;
const PKRU = 0x200n;
/** mov rax, cr4; or eax, PKE; mov cr4, rax */
const ENABLE = '0f 20 e0 0d 00 00 40 00 0f 22 e0';
/** xor ecx, ecx; xor edx, edx */
const CLEAR = '31 c9 31 d2';
/** mov eax, 2004h; wrpkru; hlt; rdpkru; out 80h, eax; hlt */
const PROGRAM = `${ENABLE} ${CLEAR} b8 04 20 00 00 0f 01 ef f4 0f 01 ee e7 80 f4`;

const pkruOf = (area: Uint8Array): number => new DataView(area.buffer).getUint32(XSAVE_PKRU, true);

test('the guest’s PKRU is not the host’s, and user space gets and sets it', async () => {
  const lab = new GuestLab(PROGRAM);
  const { processor } = lab.host.cpu;
  expect(await lab.run()).toEqual([]);
  expect(processor.pkru).toBe(0);
  const area = ok(lab.vcpu.getXsave());
  const view = new DataView(area.buffer);
  expect([pkruOf(area), view.getBigUint64(512, true) & PKRU]).toEqual([0x2004, PKRU]);
  view.setUint32(XSAVE_PKRU, 0x300c, true);
  expect(lab.vcpu.setXsave(area)).toBe(0);
  expect(await lab.run()).toEqual(['out 80/4 0c300000']);
  view.setBigUint64(512, 7n, true);
  expect(lab.vcpu.setXsave(area)).toBe(0);
  expect(pkruOf(ok(lab.vcpu.getXsave()))).toBe(0);
});

test('two vCPUs on one processor have one each', async () => {
  const lab = new GuestLab(PROGRAM, { vcpus: 2 });
  const second = lab.vcpus[1]!;
  lab.enterLongMode(second);
  second.setRegs({ ...ok(second.getRegs()), rip: BigInt(CODE), rsp: 0x7000n });
  expect(await lab.run()).toEqual([]);
  await second.run();
  const area = ok(second.getXsave());
  new DataView(area.buffer).setUint32(XSAVE_PKRU, 0x40, true);
  second.setXsave(area);
  expect(await lab.run()).toEqual(['out 80/4 04200000']);
  const exit = await second.run();
  expect(typeof exit === 'object' && lab.serve(exit)).toBe('out 80/4 40000000');
});

test('CPUID says OSPKE as the guest’s CR4.PKE is', async () => {
  // mov eax, 7; xor ecx, ecx; cpuid; mov eax, ecx; out 80h, eax
  const show = 'b8 07 00 00 00 31 c9 0f a2 89 c8 e7 80';
  const lab = new GuestLab(`${show} ${ENABLE} ${show} f4`);
  const seen = await lab.run();
  const bits = seen.map((out) => bytesOf(out.slice(-8))[0]! & 0x18);
  expect(bits).toEqual([0x08, 0x18]);
});
