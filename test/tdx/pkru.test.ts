/** A TD's PKRU: its own while it runs, in the TDVPS while it does not, and only with its bit of XFAM. */
import { beforeEach, expect, test } from 'vitest';
import { CATCH, CATCH_HANDLERS, ended, guest, result } from './guest-lab.ts';
import { sharedHost, type TdHost } from './td-builder.ts';

const EXTERNAL_INTERRUPT = 1;
const ENABLE = `
        mov rax, cr4
        or rax, 0x400000
        mov cr4, rax`;
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

// Behind the AVX component, or in its place.
test.each([0x207n, 0x203n])('survives exits, and the host has 0 (XFAM %i)', (xfam) => {
  const { vcpu } = guest(
    host,
    `${ENABLE}
        xor ecx, ecx
        xor edx, edx
        mov eax, 0x55555554
        wrpkru
        mov ecx, 1000
    again:
        pause
        loop again
        xor ecx, ecx
        rdpkru
        mov r13, rax
        mov eax, 7
        cpuid
        mov r14, rcx`,
    { xfam },
  );
  const p = host.machine.processors[0]!;
  for (let exits = 0; exits < 4; exits++) {
    tick();
    const exit = vcpu.enter({});
    p.apic.writeMsr(0x80b, 0n);
    expect(exit.reason).toBe(EXTERNAL_INTERRUPT);
    expect(p.pkru).toBe(0);
    for (let n = 0; n < 16; n++) expect(p.ymmHigh(n).every((byte) => byte === 0)).toBe(true);
    host.machine.clock.retire(1);
  }
  const { r13, r14 } = ended(vcpu.enter({}));
  expect(r13).toBe(0x5555_5554n);
  expect(r14 & 0x18n).toBe(0x18n);
});

test('without its bit of XFAM there are no protection keys: not in CPUID, and CR4.PKE is #GP', () => {
  const exit = result(
    host,
    `
        mov eax, 7
        xor ecx, ecx
        cpuid
        mov r14, rcx
        ${ENABLE}
        ${CATCH}`,
    { xfam: 7n },
    CATCH_HANDLERS,
  );
  expect([exit.r12, exit.r13, exit.r14 & 0x18n]).toEqual([13n, 0n, 0n]);
});
