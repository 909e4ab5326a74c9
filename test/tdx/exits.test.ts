/** VM exits of a TD that only broken or debugged guests cause, and the state in which a virtual processor starts. */

import { beforeEach, describe, expect, test } from 'vitest';
import { PROFILES, signatureOf } from '../../src/machine/profiles.ts';
import { F } from '../../src/machine/vtx/field-slots.ts';
import { caught, ended, guest, result } from './guest-lab.ts';
import { DATA, END, LATE_PAGE, loadProgram } from './guest-program.ts';
import {
  ATTRIBUTES_DEBUG,
  ATTRIBUTES_SEPT_VE_DISABLE,
  sharedHost,
  TDG,
  TDH,
  type Td,
  type TdHost,
  type Vcpu,
} from './td-builder.ts';

/** What CPUID leaf 1 says the processor is. */
const SIGNATURE = BigInt(signatureOf(PROFILES['tdx-host']));

let host: TdHost;
beforeEach(() => {
  host = sharedHost();
});

const DEBUG = { attributes: ATTRIBUTES_DEBUG | ATTRIBUTES_SEPT_VE_DISABLE };
const VE_MONITOR = 39n;
const VE_MWAIT = 36n;
const GP = 13n;

/** VMCS field of a virtual processor of a TD under debug. */
const vmcs = (vcpu: Vcpu, encoding: number): bigint => host.expect(TDH.VP_RD, { rcx: vcpu.tdvpr, rdx: encoding }).r8;
const setVmcs = (vcpu: Vcpu, encoding: number, value: number, mask = 0xffff_ffff): string =>
  host.status(TDH.VP_WR, { rcx: vcpu.tdvpr, rdx: encoding, r8: value, r9: mask });

describe('the initial state', () => {
  let td: Td;
  let vcpu: Vcpu;
  beforeEach(() => {
    td = host.createTd(DEBUG);
    vcpu = td.createVcpu(0xabc);
  });

  test.each([
    ['RIP', 0x681e, 0xffff_fff0n],
    ['RFLAGS', 0x6820, 2n],
    ['CR0', 0x6800, 0x21n],
    ['CR3', 0x6802, 0n],
    ['CR4', 0x6804, 0x2040n],
    ['EFER', 0x2806, 0x901n],
    ['PAT', 0x2804, 0x0007_0406_0007_0406n],
    ['DR7', 0x681a, 0x400n],
    ['CS base', 0x6808, 0n],
    ['CS limit', 0x4802, 0xffff_ffffn],
    ['CS rights', 0x4816, 0xc09bn],
    ['SS rights', 0x4818, 0xc093n],
    ['LDTR rights', 0x4820, 0x1_0082n],
    ['TR rights', 0x4822, 0x8bn],
    ['TR limit', 0x480e, 0xffffn],
    ['GDTR limit', 0x4810, 0xffffn],
    ['IDTR limit', 0x4812, 0n],
    ['exception bitmap', 0x4004, 1n << 18n],
  ])('%s', (_name, encoding, value) => {
    expect(vmcs(vcpu, encoding)).toBe(value);
  });

  test('registers outside the VMCS', () => {
    const read = (field: bigint): bigint => host.expect(TDH.VP_RD, { rcx: vcpu.tdvpr, rdx: field }).r8;
    const gpr = (n: number): bigint => read(0x1020_0003_0000_0000n + BigInt(n));
    expect([0, 1, 2, 3, 5, 6, 7, 8, 9].map(gpr)).toEqual([0n, 0xabcn, SIGNATURE, 48n, 0n, 0n, 0n, 0xabcn, 0n]);
    expect([read(0x1120_0003_0000_0006n), read(0x1120_0003_0000_0020n)]).toEqual([0xffff_0ff0n, 1n]);
    expect(read(0x1320_0003_0000_2084n)).toBe(0x20200n);
  });
});

describe('a TD under debug', () => {
  test('exits for an exception that the host asked for; a production TD’s bitmap is not the host’s', () => {
    const { vcpu } = guest(host, 'ud2', DEBUG);
    expect(setVmcs(vcpu, 0x4004, 1 << 6, 1 << 6)).toBe('TDX_SUCCESS');
    const exit = vcpu.enter();
    expect([exit.status, exit.reason, exit.r9]).toEqual(['TDX_SUCCESS', 0, 0x8000_0306n]);
    expect(setVmcs(guest(host, '').vcpu, 0x4004, 1 << 6, 1 << 6)).not.toBe('TDX_SUCCESS');
  });

  test('shows a state that VM entry refuses as an exit', () => {
    const { vcpu } = guest(host, '', DEBUG);
    expect(setVmcs(vcpu, 0x4816, 0x93)).toBe('TDX_SUCCESS');
    const exit = vcpu.enter();
    expect([exit.status, exit.reason]).toEqual(['TDX_SUCCESS', 0x8000_0021]);
    expect(setVmcs(vcpu, 0x4816, 0xc09b)).toBe('TDX_SUCCESS');
    ended(vcpu.enter());
  });
});

test('TDCALL before 64-bit mode is #GP: without an IDT the virtual processor is lost', () => {
  const td = host.createTd();
  const code = new Uint8Array(4096);
  code.set([0x66, 0x0f, 0x01, 0xcc], 0xff0);
  td.addPage(0xffff_f000, code);
  const vcpu = td.createVcpu();
  td.finalize();
  expect(vcpu.enter().status).toBe('TDX_NON_RECOVERABLE_VCPU');
});

test('TDCALL in user mode is #GP', () => {
  const exit = caught(
    host,
    `
        mov rax, [0x1000]
        or rax, 4
        mov [0x1000], rax
        mov rax, [0x2018]
        or rax, 4
        mov [0x2018], rax
        mov rax, [0x2000]
        or rax, 4
        mov [0x2000], rax
        mov rax, cr3
        mov cr3, rax
        ; A user code segment and a user data segment, and a TSS for the way back.
        lea rdi, [rel user_gdt]
        lgdt [rdi]
        mov qword [0x5004], 0x5800
        mov ax, 0x28
        ltr ax
        push 0x1b
        push 0x5f00
        push 2
        push 0x23
        lea rax, [rel user]
        push rax
        iretq
    user_gdt: dw 0x37
        dq gdt2
    align 8
    gdt2: dq 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff, 0x0000890050000067, 0
    user: tdcall`,
  );
  expect([exit.r12, exit.r13]).toEqual([GP, 0n]);
});

test('RDPMC is #GP without performance monitoring', () => {
  expect(caught(host, 'xor ecx, ecx\n rdpmc').r12).toBe(GP);
});

describe('MONITOR and MWAIT', () => {
  const NO_MONITOR = { leaveOut: { leaf: 1, register: 2, bits: 1 << 3 } };

  test('are #VE where the host left them out of CPUID', () => {
    expect(caught(host, `mov eax, ${DATA}\n xor ecx, ecx\n xor edx, edx\n monitor`, NO_MONITOR).r12).toBe(VE_MONITOR);
    expect(caught(host, 'xor ecx, ecx\n xor eax, eax\n mwait', NO_MONITOR).r12).toBe(VE_MWAIT);
    expect(caught(host, 'mov eax, 5\n cpuid\n mov edi, eax', NO_MONITOR).rdi).toBe(0n);
  });

  test('else MONITOR is the processor’s', () => {
    expect(caught(host, `mov eax, ${DATA}\n xor ecx, ecx\n xor edx, edx\n monitor`).r12).toBe(0n);
  });
});

test('INIT is an exit for the host', () => {
  const { vcpu } = guest(host, '');
  const p = host.machine.processors[0]!;
  p.initPending = true;
  p.eventsPending = true;
  const exit = vcpu.enter();
  expect([exit.status, exit.reason]).toEqual(['TDX_SUCCESS', 3]);
  ended(vcpu.enter());
});

test('controls that VM entry refuses end the TD', () => {
  const { vcpu } = guest(host, '');
  const { vmcs: fields } = host.module.tdvpsAt(vcpu.tdvpr);
  fields.setLow(F.PIN_CONTROLS, 0);
  fields.touch(F.PIN_CONTROLS);
  const exit = vcpu.enter();
  expect([exit.status, exit.reason, exit.rcx]).toEqual(['TDX_NON_RECOVERABLE_TD', 0x8000_0021, 7n]);
  expect(host.status(TDH.VP_ENTER, { rcx: vcpu.tdvpr })).toBe('TDX_TD_FATAL');
});

describe('locks that the host holds', () => {
  const accept = `
        mov eax, ${TDG.MEM_PAGE_ACCEPT}
        mov ecx, ${LATE_PAGE}
        tdcall`;

  /** A TD whose late page the host has marked: it found the TD's lock and wants its turn. */
  function marked(code: string): { td: Td; vcpu: Vcpu } {
    const td = host.createTd();
    loadProgram(td, code + END);
    const vcpu = td.createVcpu();
    td.augPage(LATE_PAGE);
    td.finalize();
    host.module.hooks.lockHeld = (kind) => kind === 'sept_entry';
    expect(host.status(TDH.MEM_RANGE_BLOCK, { rcx: LATE_PAGE, rdx: td.tdr })).toBe('TDX_OPERAND_BUSY 0x1');
    host.module.hooks.lockHeld = () => false;
    return { td, vcpu };
  }

  test('a busy entry is a busy operand', () => {
    const { td, vcpu } = guest(host, `${accept}\n mov r12, rax`);
    td.augPage(LATE_PAGE);
    host.module.hooks.lockHeld = (kind) => kind === 'sept_entry';
    const { r12 } = ended(vcpu.enter());
    host.module.hooks.lockHeld = () => false;
    expect(r12).toBe(0x8000_0200_0000_0001n);
  });

  test('an entry that waits for the host is a busy operand for the TD', () => {
    const { vcpu } = marked(`${accept}\n mov r12, rax`);
    expect(ended(vcpu.enter()).r12).toBe(0x8000_0200_0000_0001n);
  });

  test('a host that does not come is told, and the TD goes on behind TDCALL', () => {
    const { td, vcpu } = marked(`
    again:${accept}
        mov r12, rax
        mov rbx, 0x80000200
        shr rax, 32
        cmp rax, rbx
        jne done
        mov ecx, 100000
    idle: dec ecx
        jnz idle
        jmp again
    done:`);
    // 10 ms.
    const timeout = 0x9110_0003_0000_0011n;
    host.expect(TDH.MNG_WR, { rcx: td.tdr, rdx: timeout, r8: 10_000, r9: -1n });
    const exit = vcpu.enter();
    expect([exit.status, exit.reason]).toEqual(['TDX_HOST_PRIORITY_BUSY_TIMEOUT', 0]);
    expect(host.module.tdrAt(td.tdr).tdcalls.get('TDG.MEM.PAGE.ACCEPT')).toBeGreaterThan(2);
  });
});

test('a guest is never told the host’s page sizes by chance: levels that do not fit', () => {
  expect(result(host, `mov eax, 6\n mov ecx, ${LATE_PAGE + 2}\n tdcall\n mov r12, rax`).r12).toBe(
    0xc000_0100_0000_0001n,
  );
});
