/** A hand-written guest in a TD, made and run by raw SEAMCALLs: what it sees of the processor. */

import { beforeEach, describe, expect, test } from 'vitest';
import { readMsr } from '../../src/machine/msr/msr.ts';
import { PROFILES, signatureOf } from '../../src/machine/profiles.ts';
import { CATCH, CATCH_HANDLERS, caught, END_CALL, ended, guest, REASON_TDCALL, result } from './guest-lab.ts';
import { END, loadProgram } from './guest-program.ts';
import { sharedHost, TDG, type Td, type TdHost } from './td-builder.ts';

/** What CPUID leaf 1 says the processor is. */
const SIGNATURE = BigInt(signatureOf(PROFILES['tdx-host']));

let host: TdHost;
beforeEach(() => {
  host = sharedHost();
});

const VE = { CPUID: 10n, HLT: 12n, VMCALL: 18n, CR: 28n, IO: 30n, RDMSR: 31n, WRMSR: 32n, WBINVD: 54n };
const UD = 6n;
const DF = 8n;
const GP = 13n;

/** CPUID with the results in R12 to R15. */
const cpuid = (leaf: number, subleaf = 0): string => `
        mov eax, ${leaf}
        mov ecx, ${subleaf}
        cpuid
        mov r12d, eax
        mov r13d, ebx
        mov r14d, ecx
        mov r15d, edx
`;

const loadInto = (td: Td, code: string): void => loadProgram(td, code + END);

describe('a virtual processor', () => {
  test('starts with RCX and R8 as given, RBX the GPA width, RDX the signature, RSI its index', () => {
    const exit = result(host, 'mov r13, r8');
    expect([exit.rbx, exit.rsi, exit.r13, exit.rdi]).toEqual([48n, 0n, 0x1234n, 0n]);
    expect(exit.rdx).toBe(SIGNATURE);
  });

  test('TDG.VP.INFO says what the TD is', () => {
    const exit = result(
      host,
      `
        mov eax, ${TDG.VP_INFO}
        tdcall
        mov r12, rcx
        mov r13, r8
        mov r14, r9
        mov r15, r10`,
    );
    expect([exit.r12, exit.rdx, exit.r13, exit.r14, exit.r15]).toEqual([48n, 1n << 28n, (4n << 32n) | 1n, 0n, 1n]);
  });

  test('a second one has its own index, and the x2APIC id that it was given', () => {
    const td = host.createTd();
    loadInto(td, cpuid(1));
    const [, second] = [td.createVcpu(), td.createVcpu(0, 0x55)];
    td.finalize();
    const exit = ended(second!.enter());
    expect(exit.rsi).toBe(1n);
    expect(exit.r13 >> 24n).toBe(1n);
  });
});

describe('CPUID', () => {
  test('leaf 21 tells of TDX', () => {
    const { r12, r13, r14, r15 } = result(host, cpuid(0x21));
    expect([r12, r13, r14, r15]).toEqual([0n, 0x65746e49n, 0x20202020n, 0x5844546cn]);
  });

  test('OSXSAVE follows CR4, SYSCALL needs 64-bit mode, XSAVE sizes follow XCR0', () => {
    expect(result(host, cpuid(1)).r14 & (1n << 27n)).not.toBe(0n);
    expect(result(host, cpuid(0x8000_0001)).r15 & (1n << 11n)).not.toBe(0n);
    expect(result(host, cpuid(0xd)).r13).toBe(576n);
  });

  test('a leaf out of range is the largest basic one', () => {
    const { r12, r13 } = result(host, cpuid(0x30));
    expect([r12, r13]).toEqual([0n, 0n]);
  });

  test.each([0x4000_0000, 0x4fff_ffff, 2, 6, 0xb, 0x1f, 0x16, 0x8000_0002, 0x8000_0006])('leaf %i is #VE', (leaf) => {
    const { r12, r13, rdx } = caught(host, cpuid(leaf));
    expect([r12, r13, rdx]).toEqual([VE.CPUID, 2n, 0n]);
  });

  test('TDG.VP.CPUIDVE.SET makes every leaf #VE', () => {
    const set = (mask: number): string => `
        mov eax, ${TDG.VP_CPUIDVE_SET}
        mov ecx, ${mask}
        tdcall
        mov rbx, rax
        mov eax, 0
        cpuid`;
    expect(caught(host, set(1)).r12).toBe(VE.CPUID);
    expect(caught(host, set(2)).r12).toBe(0n);
    expect(result(host, `${set(4)}\n mov rbx, rbx`).rsi).toBe(0n);
  });

  test('a TD that asks for its topology gets it, with its x2APIC id', () => {
    const td = host.createTd();
    loadInto(
      td,
      `
        mov eax, ${TDG.VM_WR}
        xor ecx, ecx
        mov rdx, 0x1110000300000017
        mov r8, 2
        mov r9, 2
        tdcall
        mov rdi, rax
        mov ecx, 0x802
        rdmsr
        mov esi, eax
        ${cpuid(0x1f, 1)}`,
    );
    const vcpu = td.createVcpu(0, 0x42);
    td.finalize();
    const exit = ended(vcpu.enter());
    expect([exit.rdi, exit.rsi]).toEqual([0n, 0x42n]);
    expect([exit.r12, exit.r13, exit.r14, exit.r15]).toEqual([1n, 2n, 0x201n, 0x42n]);
  });
});

describe('instructions that a TD asks the host for', () => {
  test.each([
    ['hlt', VE.HLT, 1n],
    ['wbinvd', VE.WBINVD, 2n],
    ['vmcall', VE.VMCALL, 3n],
    ['out 0x80, al', VE.IO, 2n],
    ['in eax, dx', VE.IO, 1n],
  ])('%s is #VE', (instruction, reason, length) => {
    const exit = caught(host, instruction);
    expect([exit.r14, exit.r12, exit.r13 & 0xffff_ffffn]).toEqual([0n, reason, length]);
  });

  test('the qualification says which port', () => {
    expect(caught(host, 'out 0x80, al').rdx).toBe(0x80_0040n);
  });

  test('RIP is at the instruction, so that the handler can go on behind it', () => {
    const exit = caught(host, 'mov rbx, where\n where: hlt');
    expect(exit.r15).toBe(exit.rbx);
  });

  test('a second #VE before the TD has read the first is a double fault', () => {
    const exit = result(
      host,
      `
        hlt
        jmp over
    ve: hlt
    df: mov r12, 8
        pop r13
    over:`,
      {},
      { 8: 'df', 20: 've' },
    );
    expect([exit.r12, exit.r13]).toEqual([DF, 0n]);
  });

  test('TDG.VP.VEINFO.GET makes way for the next one, and leaves the rest where it was', () => {
    const { vcpu } = guest(host, `hlt${CATCH}`, {}, CATCH_HANDLERS);
    ended(vcpu.enter());
    const tdvps = host.module.tdvpsAt(vcpu.tdvpr);
    expect([tdvps.num('VALID'), tdvps.num('EXIT_REASON'), tdvps.num('INSTRUCTION_LENGTH')]).toEqual([0, 12, 1]);
  });

  test('without information TDG.VP.VEINFO.GET says so', () => {
    const exit = result(host, `mov eax, ${TDG.VP_VEINFO_GET}\n tdcall\n mov r12, rax`);
    expect(exit.r12 >> 32n).toBe(0xc000_0704n);
  });
});

describe('instructions that a TD does not have', () => {
  test.each(['vmxoff', 'seamcall', 'vmlaunch', 'vmread rax, rbx', 'invept rax, [rsp]'])('%s is #UD', (instruction) => {
    expect(caught(host, instruction).r12).toBe(UD);
  });
});

describe('MSRs', () => {
  const read = (index: number): string => `mov ecx, ${index}\n rdmsr\n shl rdx, 32\n or rax, rdx\n mov rbx, rax`;
  const write = (index: number, value: number): string =>
    `mov ecx, ${index}\n mov eax, ${value}\n xor edx, edx\n wrmsr`;

  test('the TD has its own system-call MSRs', () => {
    const code = `${write(0xc000_0082, 0x5000)}\n ${read(0xc000_0082)}`;
    const exit = caught(host, code);
    expect([exit.r12, exit.rbx]).toEqual([0n, 0x5000n]);
    // The host finds none of it.
    const p = host.machine.processors[0]!;
    expect([readMsr(p, 0xc000_0082), readMsr(p, 0xc000_0084)]).toEqual([0n, 0x20200n]);
  });

  test.each([
    [0x1b, VE.RDMSR],
    [0x6e0, VE.RDMSR],
    [0x830, VE.RDMSR],
    [0x802, VE.RDMSR],
    [0x1234_5678, VE.RDMSR],
    [0x9a, GP],
    [0x570, GP],
    [0x831, GP],
    [0x1f8, GP],
    [0x87, VE.RDMSR],
    // The host has left memory encryption in CPUID.
    [0x981, VE.RDMSR],
  ])('reading %i ends as %i', (index, end) => {
    expect(caught(host, read(index)).r12).toBe(end);
  });

  test.each([
    [0x10, 0, VE.WRMSR],
    [0x830, 0x800, VE.WRMSR],
    [0x480, 0, GP],
    [0xda0, 0x100, GP],
    [0xda0, 0, 0n],
    [0xc000_0080, 0x900, 0n],
    [0xc000_0080, 0x101, VE.WRMSR],
    [0x1d9, 0x40, VE.WRMSR],
    [0x1d9, 1 << 20, GP],
    [0x1d9, 1, 0n],
  ])('writing %i with %i ends as %i', (index, value, end) => {
    expect(caught(host, write(index, value)).r12).toBe(end);
  });

  test('emulated ones', () => {
    expect(caught(host, read(0xbd)).rbx).toBe(1n);
    expect(caught(host, read(0x1d9)).rbx).toBe(0n);
    expect(caught(host, read(0x1a0)).rbx & 0x1880n).toBe(0x1800n);
  });

  test('the task priority is virtual', () => {
    expect(caught(host, `${write(0x808, 0x30)}\n ${read(0x808)}`).rbx).toBe(0x30n);
    expect(caught(host, `${write(0x808, 0x30)}\n ${read(0x80a)}`).rbx).toBe(0x30n);
  });
});

describe('control registers', () => {
  test('CR4 shows MCE and no VMXE', () => {
    expect(result(host, 'mov rbx, cr4').rbx & 0x2040n).toBe(0x40n);
  });

  test.each([
    ['mov rax, cr4\n and eax, 0xffffffbf\n mov cr4, rax', VE.CR],
    ['mov rax, cr4\n or eax, 0x2000\n mov cr4, rax', VE.CR],
    ['mov rax, cr4\n bts rax, 24\n mov cr4, rax', GP],
    ['mov rax, cr4\n bts rax, 7\n mov cr4, rax', 0n],
    ['mov rax, cr0\n bts rax, 30\n mov cr0, rax', VE.CR],
    ['mov rax, cr0\n btr rax, 5\n mov cr0, rax', GP],
    ['mov rax, cr0\n bts rax, 16\n mov cr0, rax', 0n],
    ['mov rax, cr0\n bts rax, 7\n mov cr0, rax', 0n],
    ['mov eax, 0xfffe\n lmsw ax', 0n],
  ])('%s ends as %i', (code, end) => {
    expect(caught(host, code).r12).toBe(end);
  });

  test('XSETBV takes what XFAM has', () => {
    const xsetbv = (index: number, value: number): string =>
      `mov ecx, ${index}\n mov eax, ${value}\n xor edx, edx\n xsetbv\n xor ecx, ecx\n xgetbv\n mov ebx, eax`;
    const exit = caught(host, xsetbv(0, 3));
    expect([exit.r12, exit.rbx]).toEqual([0n, 3n]);
    expect(caught(host, xsetbv(0, 7)).r12).toBe(GP);
    expect(caught(host, xsetbv(1, 3)).r12).toBe(GP);
    expect(caught(host, xsetbv(0, 2)).r12).toBe(GP);
  });
});

describe('time', () => {
  test('the TSC begins near zero and counts at the TD’s frequency', () => {
    const code = `
        rdtsc
        mov ebx, eax
        mov ecx, 1000
    again:
        dec ecx
        jnz again
        rdtsc
        sub eax, ebx
        mov r12d, eax`;
    const plain = result(host, code);
    expect(plain.r12).toBeGreaterThan(1900n);
    expect(plain.r12).toBeLessThan(2200n);
    const double = result(host, code, { tscFrequency: 80 });
    expect(double.r12).toBeGreaterThan(plain.r12 + plain.r12 / 2n);
  });
});

describe('TDCALL', () => {
  test('unknown leaves, versions and reserved bits of RAX are an invalid RAX', () => {
    for (const rax of ['99', '0x10001', '0x1000001', '25', '18']) {
      expect(result(host, `mov rax, ${rax}\n tdcall\n mov r12, rax`).r12).toBe(0xc000_0100_0000_0000n);
    }
  });

  test('calls are counted by name and TD, the host’s where they name it too', () => {
    const code = `mov eax, ${TDG.VP_INFO}\n tdcall`;
    const [first, second] = [guest(host, code), guest(host, code)];
    ended(first.vcpu.enter());
    const { seamcalls, tdcalls } = host.module.tdrAt(first.td.tdr);
    expect([...tdcalls]).toEqual([
      ['TDG.VP.INFO', 1],
      ['TDG.VP.VMCALL', 1],
    ]);
    expect(['MNG.CREATE', 'MNG.INIT', 'VP.ENTER'].map((name) => seamcalls.get(`TDH.${name}`))).toEqual([1, 1, 1]);
    const other = host.module.tdrAt(second.td.tdr);
    expect([other.tdcalls.size, other.seamcalls.get('TDH.VP.ENTER')]).toEqual([0, undefined]);
  });

  test('TDG.VP.VMCALL refuses RAX, RCX, RSP, RBP and reserved bits in its mask', () => {
    for (const mask of ['1', '2', '0x10', '0x20', '0x100000000']) {
      expect(result(host, `xor eax, eax\n mov rcx, ${mask}\n tdcall\n mov r12, rax`).r12).toBe(0xc000_0100_0000_0001n);
    }
  });

  test('the host’s answer arrives in the selected registers, RAX says that TDCALL succeeded', () => {
    const { vcpu } = guest(
      host,
      `
        mov r12, 0x11
        mov r13, 0x22
        mov rsi, 0x33
        mov rax, 0
        mov ecx, 0x3000         ; R12, R13
        tdcall
        mov rbx, rax`,
    );
    const call = vcpu.enter();
    expect([call.reason, call.rcx, call.r12, call.r13, call.rsi, call.r11]).toEqual([
      REASON_TDCALL,
      0x3000n,
      0x11n,
      0x22n,
      0n,
      0n,
    ]);
    const exit = ended(vcpu.enter({ r12: 0x44n, rsi: 0x55n }));
    expect([exit.r12, exit.r13, exit.rsi, exit.rbx]).toEqual([0x44n, 0n, 0x33n, 0n]);
    expect(exit.r11).toBe(END_CALL);
  });

  test('XMM registers pass by the upper half of the mask', () => {
    const p = host.machine.processors[0]!;
    const { vcpu } = guest(
      host,
      `
        mov rax, 0x1122334455667788
        movq xmm1, rax
        movq xmm2, rax
        xor eax, eax
        mov ecx, 0x20000        ; XMM1
        tdcall
        movq r12, xmm1
        movq r13, xmm2`,
    );
    expect(vcpu.enter().rcx).toBe(0x20000n);
    expect([...p.xmm(1).subarray(0, 2)]).toEqual([0x88, 0x77]);
    expect(p.xmm(2).every((byte) => byte === 0)).toBe(true);
    p.xmm(1).fill(0x5a);
    p.xmm(2).fill(0x66);
    const exit = ended(vcpu.enter());
    expect([exit.r12, exit.r13]).toEqual([0x5a5a_5a5a_5a5a_5a5an, 0x1122_3344_5566_7788n]);
  });

  test('Instruction.IO as a TDVMCALL: the host sees port and data', () => {
    const { vcpu } = guest(
      host,
      `
        mov r10, 0
        mov r11, 30
        mov r12, 1
        mov r13, 1
        mov r14, 0x3f8
        mov r15, 'A'
        xor eax, eax
        mov ecx, 0xfc00
        tdcall
        mov rbx, r10`,
    );
    const call = vcpu.enter();
    expect([call.r10, call.r11, call.r12, call.r13, call.r14, call.r15]).toEqual([0n, 30n, 1n, 1n, 0x3f8n, 0x41n]);
    expect(ended(vcpu.enter({ r10: 0n })).rbx).toBe(0n);
  });
});
