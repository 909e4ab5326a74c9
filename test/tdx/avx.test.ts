/** A TD's AVX state: its own while it runs, in the TDVPS while it does not, nothing of it in the processor. */
import { beforeEach, expect, test } from 'vitest';
import { ended, guest } from './guest-lab.ts';
import { sharedHost, type TdHost } from './td-builder.ts';

const AVX = 7n;
const EXTERNAL_INTERRUPT = 1;
const ENABLE = `
        xor ecx, ecx
        xor edx, edx
        mov eax, 7
        xsetbv`;
let host: TdHost;
beforeEach(() => {
  host = sharedHost();
});

/** The host's timer tick: a vector that is pending soon. */
function tick(): void {
  const p = host.machine.processors[0]!;
  p.apic.writeMsr(0x80f, 0x1ffn);
  p.apic.writeMsr(0x83f, 0xecn);
}

test('upper halves of YMM registers survive exits, and the host does not see them', () => {
  const { vcpu } = guest(
    host,
    `${ENABLE}
        mov rax, 0x1111
        movq xmm3, rax
        vinsertf128 ymm4, ymm4, xmm3, 1
        mov ecx, 1000
    again:
        pause
        loop again
        vextractf128 xmm5, ymm4, 1
        movq r13, xmm5`,
    { xfam: AVX },
  );
  const p = host.machine.processors[0]!;
  for (let exits = 0; exits < 4; exits++) {
    tick();
    const exit = vcpu.enter({});
    p.apic.writeMsr(0x80b, 0n);
    expect(exit.reason).toBe(EXTERNAL_INTERRUPT);
    for (let n = 0; n < 16; n++) expect(p.ymmHigh(n).every((byte) => byte === 0)).toBe(true);
    p.ymmHigh(4).fill(0x5a); // the host's own, which the TD does not see
    host.machine.clock.retire(1);
  }
  expect(ended(vcpu.enter({})).r13).toBe(0x1111n);
});

test('without AVX in XFAM XSETBV refuses it', () => {
  const { vcpu } = guest(
    host,
    `${ENABLE}
        mov r13, 1`,
    { xfam: 3n },
  );
  // The #GP finds no handler: the TD ends in a triple fault.
  expect(vcpu.enter({}).r13).not.toBe(1n);
});
