/** Interrupts that the hardware delivers come at the same instruction whether or not hot code is translated. */
import { afterAll, expect, test } from 'vitest';
import { Timer } from '../../../devices/clock.ts';
import { EAGAIN } from '../../../host/errno.ts';
import { translatorDefaults } from '../../../machine/engine/translator/defaults.ts';
import { Random } from '../../../util/random.ts';
import { GuestLab, ok } from '../testing/guest_lab.ts';

const dword = (n: number): string =>
  [0, 8, 16, 24].map((shift) => ((n >>> shift) & 0xff).toString(16).padStart(2, '0')).join('');
const wrmsr = (index: number, low: number): string => `b9 ${dword(index)} b8 ${dword(low)} 31 d2 0f 30`;
const LOG = 0x2_0000;
const ROUNDS = 3000;

/** Windows of all kinds: STI, POPF, CR8; and a self-IPI in each round. */
const round = (selfIpi: string, tpr: (value: number) => string): string =>
  `fb 90 90 fa ${selfIpi} 90 9c 9d fb ${tpr(0x40)} 90 90 ${tpr(0)} 9c 81 24 24 ff fd ff ff 9d 90 9c 81 0c 24 00 02 00 00 9d 90`;
const loop = (body: string): string => {
  const length = body.replace(/\s+/g, '').length / 2;
  // mov r15d, ROUNDS; body; dec r15d; jnz body; out 81h, al; hlt
  return `41 bf ${dword(ROUNDS)} ${body} 41 ff cf 0f 85 ${dword(-(length + 9))} e6 81 f4`;
};
/** Logs the time-stamp counter and the vector: r14 points into the log. */
const handler = (vector: number, end: string): string =>
  `50 51 52 0f 31 41 89 06 41 c7 46 04 ${dword(vector)} 49 83 c6 08 ${end} 5a 59 58 48 cf`;

const MODES = {
  x2apic: {
    enter: `${wrmsr(0x1b, 0xfee0_0d00)}${wrmsr(0x80f, 0x1ff)}`,
    end: wrmsr(0x80b, 0),
    body: round(wrmsr(0x83f, 0x41), (tpr) => `b8 ${dword(tpr >> 4)} 44 0f 22 c0`),
  },
  xapic: {
    enter: `bf ${dword(0xfee0_0000)} c7 87 f0 00 00 00 ff 01 00 00`,
    end: 'c7 87 b0 00 00 00 00 00 00 00',
    body: round('c7 87 00 03 00 00 41 00 04 00', (tpr) => `c7 87 80 00 00 00 ${dword(tpr)}`),
  },
} as const;

/** All that the guest saw, and when it was done. */
async function outcome(mode: keyof typeof MODES, threshold: number, seed: number): Promise<unknown> {
  Object.assign(translatorDefaults, threshold === 0 ? { mode: 'off' } : { mode: 'on', threshold });
  const { enter, end, body } = MODES[mode];
  const lab = new GuestLab(`49 c7 c6 ${dword(LOG)} ${enter} ${loop(body)}`, { irqchip: true });
  for (const vector of [0x41, 0x52, 0x63]) lab.handler(vector, handler(vector, end));
  const random = new Random(seed);
  const { clock } = lab.host.machine;
  const post = new Timer(() => {
    lab.vm.signalMsi({ addressLo: 0xfee0_0000, addressHi: 0, data: random.below(2) === 0 ? 0x52 : 0x63 });
    clock.setTimer(post, clock.now() + 1 + random.below(400));
  });
  clock.setTimer(post, clock.now() + 500);
  let exit = await lab.vcpu.run();
  while (exit === -EAGAIN) exit = await lab.vcpu.run();
  expect(typeof exit === 'number' ? exit : lab.serve(exit)).toMatch(/^out 81/);
  clock.cancel(post);
  const { rsp, r14, rflags } = ok(lab.vcpu.getRegs());
  expect(Number(r14) - LOG).toBeGreaterThan(8 * ROUNDS);
  return [clock.now(), rsp, r14, rflags, lab.read(LOG, Number(r14) - LOG), [...lab.vcpu.vcpu.exitCounts]];
}

const before = { ...translatorDefaults };
afterAll(() => {
  Object.assign(translatorDefaults, before);
});

test.each(['x2apic', 'xapic'] as const)(
  '%s: interpreted, and translated at once or later',
  async (mode) => {
    const interpreted = await outcome(mode, 0, 7);
    expect(await outcome(mode, 1, 7)).toEqual(interpreted);
    expect(await outcome(mode, 40, 7)).toEqual(interpreted);
  },
  60_000,
);
