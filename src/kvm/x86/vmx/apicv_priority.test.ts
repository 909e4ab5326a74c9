/**
 * The order of interrupts is the architecture's, whoever keeps the local APIC: hardware with a virtual-APIC page, or KVM's
 * model with injection. A guest sends itself random vectors under random task priorities, and its handlers nest.
 */
import { expect, test } from 'vitest';
import { EAGAIN } from '../../../host/errno.ts';
import { bytesOf, GuestLab, ok } from '../testing/guest_lab.ts';

const LOG = 0x2_0000;
const ROUNDS = 2000;
const FIRST = 0x40;
const LAST = FIRST + 0x7f;
const dword = (n: number): string =>
  [0, 8, 16, 24].map((shift) => ((n >>> shift) & 0xff).toString(16).padStart(2, '0')).join('');
const wrmsr = (index: number, low: number): string => `b9 ${dword(index)} b8 ${dword(low)} 31 d2 0f 30`;

/** imul r12d, r12d, 1664525; add r12d, 1013904223 */
const RANDOM = '45 69 e4 0d 66 19 00 41 81 c4 5f f3 6e 3c';
/** mov eax, r12d; shr eax, n; and eax, mask */
const bits = (shift: number, mask: number): string =>
  `44 89 e0 c1 e8 ${shift.toString(16).padStart(2, '0')} 83 e0 ${mask.toString(16).padStart(2, '0')}`;
/** add eax, 40h; self-IPI */
const send = `${RANDOM} ${bits(16, 0x7f)} 83 c0 40 31 d2 b9 ${dword(0x83f)} 0f 30`;
const WINDOW = 'fb 90 90 fa';
const SET_CR8 = '44 0f 22 c0';
/** Three vectors, a window under a random priority, one with the priority gone. */
const BODY = `${send} ${send} ${send} ${bits(24, 0x0f)} ${SET_CR8} ${WINDOW} 31 c0 ${SET_CR8} ${WINDOW}`;
const LENGTH = BODY.replace(/\s+/g, '').length / 2;
const CODE_BYTES =
  `${wrmsr(0x1b, 0xfee0_0d00)}${wrmsr(0x80f, 0x1ff)} 49 c7 c6 ${dword(LOG)} 41 bf ${dword(ROUNDS)} ` +
  `${BODY} 41 ff cf 0f 85 ${dword(-(LENGTH + 9))} e6 81 f4`;
/** Sends one more vector in a quarter of the calls: test r12d, 30000000h; jnz over it; …; ret. Called through a pointer. */
const MORE = 0x1_f000;
const MORE_POINTER = 0x1_f800;
const MORE_CODE = `${RANDOM} 41 f7 c4 ${dword(0x3000_0000)} 75 15 ${bits(16, 0x7f)} 83 c0 40 31 d2 b9 ${dword(0x83f)} 0f 30 c3`;
/** Logs the vector, perhaps sends another, lets higher ones in, logs the end, and ends. */
const handler = (vector: number): string =>
  `50 51 52 41 c7 06 ${dword(vector)} 49 83 c6 04 ff 14 25 ${dword(MORE_POINTER)} fb 90 fa 41 c7 06 ${dword(vector | 0x100)} 49 83 c6 04 ` +
  `${wrmsr(0x80b, 0)} 5a 59 58 48 cf`;

async function order(seed: number, enableApicv: boolean): Promise<{ log: Uint32Array; exits: number }> {
  const lab = new GuestLab(CODE_BYTES, { irqchip: true, enableApicv });
  lab.write(MORE, bytesOf(MORE_CODE));
  lab.write(MORE_POINTER, bytesOf(`${dword(MORE)} ${dword(0)}`));
  for (let vector = FIRST; vector <= LAST; vector++) lab.handler(vector, handler(vector));
  lab.setRegs({ r12: BigInt(seed) });
  let exit = await lab.vcpu.run();
  while (exit === -EAGAIN) exit = await lab.vcpu.run();
  expect(typeof exit === 'number' ? exit : lab.serve(exit)).toMatch(/^out 81/);
  const end = Number(ok(lab.vcpu.getRegs()).r14);
  const log = Uint32Array.from(lab.read(LOG, end - LOG).match(/.{8}/g)!, (word) =>
    Number.parseInt(word.match(/../g)!.reverse().join(''), 16),
  );
  return { log, exits: lab.vcpu.vcpu.stat.exits };
}

test.each([1, 2, 3])(
  'vectors nest and follow in the same order with and without hardware (seed %i)',
  async (seed) => {
    const hardware = await order(seed, true);
    const model = await order(seed, false);
    expect(hardware.log).toEqual(model.log);
    expect(hardware.log.length).toBeGreaterThan(2 * ROUNDS);
    // Handlers nest properly, and only under higher classes.
    const active: number[] = [];
    let deepest = 0;
    for (const entry of hardware.log) {
      if (entry & 0x100) {
        expect(active.pop()).toBe(entry & 0xff);
      } else {
        expect(entry >> 4).toBeGreaterThan((active.at(-1) ?? 0) >> 4);
        active.push(entry);
        deepest = Math.max(deepest, active.length);
      }
    }
    expect(active).toEqual([]);
    expect(deepest).toBeGreaterThan(1);
    expect(hardware.exits).toBeLessThan(model.exits / 20);
  },
  60_000,
);
