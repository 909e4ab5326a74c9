/** A guest in a TD and its memory: pending pages, acceptance, shared memory, violations. */
import { beforeEach, describe, expect, test } from 'vitest';
import { CATCH, CATCH_HANDLERS, caught, ended, guest } from './guest-lab.ts';
import { DATA, END, LATE_PAGE, loadProgram, SHARED_BIT, sharedLinear } from './guest-program.ts';
import { sharedHost, TDG, TDH, type Td, type TdHost, type Vcpu } from './td-builder.ts';

let host: TdHost;
beforeEach(() => {
  host = sharedHost();
});

const EPT_VIOLATION = 48;
const EPT_MISCONFIGURATION = 49;
const READ = 1n;
const WRITE = 2n;
const PENDING = 6n;
const ACCEPT = 1n;
/** Field of a virtual processor. */
const SHARED_EPTP = 0x0024_0003_0000_203cn;

const accept = (gpa: number, level = 0): string => `
        mov eax, ${TDG.MEM_PAGE_ACCEPT}
        mov rcx, ${gpa + level}
        tdcall
        mov rdi, rax`;
const readPage = `mov rbx, [${LATE_PAGE}]`;
const writePage = `mov dword [${LATE_PAGE}], 0x1234\n mov rbx, [${LATE_PAGE}]`;

/** The exit of a guest that touches memory. */
function touch(code: string, options: Parameters<typeof guest>[2] = {}): { td: Td; vcpu: Vcpu } {
  return guest(host, code + CATCH, options, CATCH_HANDLERS);
}

/** Gives the TD tables for shared memory in which one page has this entry. @returns where it is */
function sharedTables(vcpu: Vcpu, gpa: number, leaf: bigint): number {
  const tables = [host.page(), host.page(), host.page(), host.page()];
  for (const table of tables) {
    for (let i = 0; i < 512; i++) host.memory.write64(table + i * 8, 1n << 63n);
  }
  const shared = Number(SHARED_BIT) + gpa;
  for (const [depth, table] of tables.entries()) {
    const index = Math.floor(shared / 2 ** (39 - 9 * depth)) % 512;
    host.memory.write64(table + index * 8, depth === 3 ? leaf : BigInt(tables[depth + 1]!) | 7n);
  }
  host.expect(TDH.VP_WR, { rcx: vcpu.tdvpr, rdx: SHARED_EPTP, r8: tables[0]!, r9: -1n });
  expect(host.expect(TDH.VP_RD, { rcx: vcpu.tdvpr, rdx: SHARED_EPTP }).r8).toBe(BigInt(tables[0]!));
  return tables[3]! + (Math.floor(gpa / 4096) % 512) * 8;
}

describe('private memory', () => {
  test('a page that is not there is an EPT violation for the host, and the access is repeated', () => {
    const { td, vcpu } = touch(`${writePage}\n`, { attributes: 0n });
    const exit = vcpu.enter();
    expect([exit.status, exit.reason, exit.r8]).toEqual(['TDX_SUCCESS', EPT_VIOLATION, BigInt(LATE_PAGE)]);
    expect([exit.rcx & 0x3fn, exit.rdx, exit.r9]).toEqual([WRITE, 0n, 0n]);
    // Nothing about the linear address, nothing of the guest's registers.
    expect(exit.rcx & 0x1f80n).toBe(0n);
    expect([exit.rbx, exit.rsi, exit.r10, exit.r15]).toEqual([0n, 0n, 0n, 0n]);
    td.augPage(LATE_PAGE);
    // Pending: the TD is told.
    const told = ended(vcpu.enter());
    expect([told.r12, told.rdx & 0x3fn, told.r8, told.r9]).toEqual([48n, WRITE, BigInt(LATE_PAGE), BigInt(LATE_PAGE)]);
  });

  test('with SEPT_VE_DISABLE a pending page is the host’s business', () => {
    const { td, vcpu } = touch(readPage);
    td.augPage(LATE_PAGE);
    const exit = vcpu.enter();
    expect([exit.reason, exit.rcx & 7n, exit.rdx, exit.r8]).toEqual([EPT_VIOLATION, READ, PENDING, BigInt(LATE_PAGE)]);
  });

  test('an accepted page is zeros, and the TD’s', () => {
    const { td, vcpu } = touch(`${accept(LATE_PAGE)}\n mov rsi, [${LATE_PAGE}]\n ${writePage}`);
    const page = td.augPage(LATE_PAGE);
    const exit = ended(vcpu.enter());
    expect([exit.rdi, exit.rsi, exit.rbx, exit.r12]).toEqual([0n, 0n, 0x1234n, 0n]);
    expect(host.module.platform.keyed.read64(page, td.hkid)).toBe(0x1234n);
    // The host reads zeros.
    expect(host.memory.read64(page)).toBe(0n);
  });

  test('a page is accepted once', () => {
    const { td, vcpu } = touch(`${accept(LATE_PAGE)}${accept(LATE_PAGE)}`);
    td.augPage(LATE_PAGE);
    expect(ended(vcpu.enter()).rdi).toBe(0x0000_0b0a_0000_0000n);
  });

  test('accepting what is not there makes the host add it; TDCALL is executed again', () => {
    const { td, vcpu } = touch(accept(LATE_PAGE));
    const exit = vcpu.enter();
    expect([exit.reason, exit.rcx & 7n, exit.rdx & 15n, exit.r8]).toEqual([
      EPT_VIOLATION,
      WRITE,
      ACCEPT,
      BigInt(LATE_PAGE),
    ]);
    // Level 0 was asked for.
    expect((exit.rdx >> 32n) & 7n).toBe(0n);
    td.augPage(LATE_PAGE);
    expect(ended(vcpu.enter()).rdi).toBe(0n);
  });

  test('2 MiB are accepted at once, or page by page if that is how they are mapped', () => {
    const gpa = 0x20_0000;
    const { td, vcpu } = touch(accept(gpa, 1));
    td.augPage(gpa);
    expect(ended(vcpu.enter()).rdi >> 32n).toBe(0xc000_0b0bn);
  });

  test.each([
    ['shared', Number(SHARED_BIT)],
    ['not aligned', LATE_PAGE + 0x800],
    ['1 GiB', 0x4000_0002],
    ['too wide', 2 ** 51],
  ])('a %s page cannot be accepted', (_name, gpa) => {
    expect(caught(host, accept(gpa)).rdi).toBe(0xc000_0100_0000_0001n);
  });

  test('a blocked page is an exit; unblocked it is there again', () => {
    const { td, vcpu } = touch(`mov rbx, [${DATA}]`);
    td.expect(TDH.MEM_RANGE_BLOCK, { rcx: DATA });
    const exit = vcpu.enter();
    expect([exit.reason, exit.rdx, exit.r8]).toEqual([EPT_VIOLATION, 0n, BigInt(DATA)]);
    host.expect(TDH.MEM_TRACK, { rcx: td.tdr });
    td.expect(TDH.MEM_RANGE_UNBLOCK, { rcx: DATA });
    expect(ended(vcpu.enter()).r12).toBe(0n);
  });

  test('a removed and added page is pending again: an old translation is not used', () => {
    const code = `
        mov rsi, [${DATA}]      ; cached
        mov r10, 0
        mov r11, 1
        xor eax, eax
        mov ecx, 0xc00
        tdcall
        mov rbx, [${DATA}]`;
    const { td, vcpu } = touch(code);
    expect(vcpu.enter().r11).toBe(1n);
    td.expect(TDH.MEM_RANGE_BLOCK, { rcx: DATA });
    host.expect(TDH.MEM_TRACK, { rcx: td.tdr });
    td.expect(TDH.MEM_PAGE_REMOVE, { rcx: DATA });
    expect(vcpu.enter().reason).toBe(EPT_VIOLATION);
  });

  test('memory that the host overwrites kills the TD, and no other', () => {
    const { td, vcpu } = touch(`mov rbx, [${DATA}]`);
    const page = Number(host.expect(TDH.MEM_SEPT_RD, { rcx: DATA, rdx: td.tdr }).rcx & 0x3fff_ffff_f000n);
    host.memory.write64(page, 0xbadn);
    const exit = vcpu.enter();
    expect(exit.status).toBe('TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE');
    expect(host.status(TDH.VP_ENTER, { rcx: vcpu.tdvpr })).toBe('TDX_TD_FATAL');
    expect(caught(host, 'nop').r12).toBe(0n);
  });
});

describe('shared memory', () => {
  const MMIO = 0xfed0_0000;
  const touchShared = (gpa: number): string => `mov rbx, ${sharedLinear(gpa)}\n mov ebx, [rbx]`;

  test('before the host has given tables every access is #VE', () => {
    const exit = ended(touch(touchShared(MMIO)).vcpu.enter());
    expect([exit.r12, exit.r9]).toEqual([48n, SHARED_BIT | BigInt(MMIO)]);
  });

  test('an entry that suppresses #VE is an EPT violation for the host', () => {
    const { vcpu } = touch(touchShared(MMIO));
    sharedTables(vcpu, MMIO, 1n << 63n);
    const exit = vcpu.enter();
    expect([exit.reason, exit.r8, exit.rdx]).toEqual([EPT_VIOLATION, SHARED_BIT | BigInt(MMIO), 0n]);
  });

  test('an entry that suppresses no #VE gives one: this is how a TD learns of devices', () => {
    const { vcpu } = touch(touchShared(MMIO));
    sharedTables(vcpu, MMIO, 0n);
    const exit = ended(vcpu.enter());
    expect([exit.r14, exit.r12, exit.rdx & 7n, exit.r9]).toEqual([0n, 48n, READ, SHARED_BIT | BigInt(MMIO)]);
    expect(exit.r8).toBe(BigInt(sharedLinear(MMIO)));
  });

  test('a mapped page is the host’s memory', () => {
    const page = host.page();
    host.memory.write32(page, 0x5a5a);
    const { vcpu } = touch(`${touchShared(MMIO)}\n mov rsi, ${sharedLinear(MMIO)}\n mov dword [rsi+4], 7`);
    sharedTables(vcpu, MMIO, BigInt(page) | 0x37n);
    expect(ended(vcpu.enter()).rbx).toBe(0x5a5an);
    expect(host.memory.read32(page + 4)).toBe(7);
  });

  test('a page of a TD’s private memory shows zeros', () => {
    const { td, vcpu } = touch(`${touchShared(MMIO)}`);
    const page = Number(host.expect(TDH.MEM_SEPT_RD, { rcx: 0x1000, rdx: td.tdr }).rcx & 0x3fff_ffff_f000n);
    expect(host.module.platform.keyed.read64(page, td.hkid)).not.toBe(0n);
    sharedTables(vcpu, MMIO, BigInt(page) | 0x37n);
    expect(ended(vcpu.enter()).rbx).toBe(0n);
  });

  test('an entry that names a private KeyID is a misconfiguration', () => {
    const { td, vcpu } = touch(touchShared(MMIO));
    sharedTables(vcpu, MMIO, BigInt(td.hkid) * 2n ** 46n + 0x37n);
    const exit = vcpu.enter();
    expect([exit.reason, exit.rcx, exit.r8]).toEqual([EPT_MISCONFIGURATION, 0n, SHARED_BIT | BigInt(MMIO)]);
  });
});

test('an address beyond the TD’s width is a page fault with a reserved bit', () => {
  // The page table maps 8 GiB further to bit 48.
  const { vcpu } = touch(`
        mov qword [0x2040], 0x83
        bts qword [0x2040], 48
        mov rbx, 0x200000000
        mov rbx, [rbx]`);
  const exit = ended(vcpu.enter());
  expect([exit.r12, exit.r13, exit.r15]).toEqual([14n, 9n, 0x2_0000_0000n]);
});

describe('memory operands of TDCALL', () => {
  const extend = `
        mov eax, ${TDG.MR_RTMR_EXTEND}
        mov ecx, ${LATE_PAGE}
        mov edx, 4                  ; no such register: looked at after the address
        tdcall
        mov rdi, rax`;
  /** The report goes to this address. */
  const report = (gpa: bigint): string => `
        mov eax, ${TDG.MR_REPORT}
        mov rcx, ${gpa}
        mov edx, 0x1c00
        xor r8d, r8d
        tdcall
        mov rdi, rax`;

  test('one that is not there is an exit, and TDCALL is repeated', () => {
    const { td, vcpu } = touch(extend);
    const exit = vcpu.enter();
    expect([exit.reason, exit.rcx, exit.rdx, exit.r8]).toEqual([EPT_VIOLATION, READ, 0n, BigInt(LATE_PAGE)]);
    td.augPage(LATE_PAGE);
    // Not accepted: still an exit.
    expect(vcpu.enter().rdx).toBe(PENDING);
  });

  test('one that waits for acceptance is a #VE for a TD that wants them', () => {
    const { td, vcpu } = touch(extend, { attributes: 0n });
    td.augPage(LATE_PAGE);
    const told = ended(vcpu.enter());
    expect([told.r12, told.rdx, told.r8, told.r9]).toEqual([48n, READ, 0n, BigInt(LATE_PAGE)]);
  });

  test('a shared one is to the TD what an access to it is', () => {
    const gpa = SHARED_BIT | BigInt(LATE_PAGE);
    const { vcpu } = touch(report(gpa));
    const suppressed = sharedTables(vcpu, LATE_PAGE, 1n << 63n);
    expect([vcpu.enter().reason, host.memory.read64(suppressed)]).toEqual([EPT_VIOLATION, 1n << 63n]);
    // Readable only: the rights are in the qualification.
    host.memory.write64(suppressed, BigInt(host.page()) | 0x8000_0000_0000_0031n);
    const exit = vcpu.enter();
    expect([exit.reason, exit.rcx, exit.rdx]).toEqual([EPT_VIOLATION, WRITE | (READ << 3n), 0n]);
    host.memory.write64(suppressed, BigInt(host.page()) | 0x12n);
    expect(vcpu.enter().reason).toBe(EPT_MISCONFIGURATION);
    host.memory.write64(suppressed, 0n);
    const told = ended(vcpu.enter());
    expect([told.r12, told.rdx, told.r9]).toEqual([48n, READ | WRITE, gpa]);
  });
});

test('the guest goes on after a #VE that its handler solved', () => {
  const td = host.createTd({ attributes: 0n });
  loadProgram(
    td,
    `
        mov dword [${LATE_PAGE}], 0x77
        mov rbx, [${LATE_PAGE}]
        jmp over
    ve: push rax
        push rcx
        push rdx
        mov eax, ${TDG.VP_VEINFO_GET}
        tdcall
        mov rcx, r9
        mov eax, ${TDG.MEM_PAGE_ACCEPT}
        tdcall
        pop rdx
        pop rcx
        pop rax
        iretq
    over:${END}`,
    { 20: 've' },
  );
  const vcpu = td.createVcpu();
  td.augPage(LATE_PAGE);
  td.finalize();
  expect(ended(vcpu.enter()).rbx).toBe(0x77n);
});
