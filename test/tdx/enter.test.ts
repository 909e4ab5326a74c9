/** TDH.VP.ENTER: what stops it, what the host has afterwards, how events get into the TD. */
import { beforeEach, describe, expect, test } from 'vitest';
import { readMsr, writeMsr } from '../../src/machine/msr/msr.ts';
import { VCPU_STATE } from '../../src/tdx-module/objects/tdvps.ts';
import { caught, ended, guest, result } from './guest-lab.ts';
import { DATA, END, loadProgram } from './guest-program.ts';
import { ATTRIBUTES_DEBUG, sharedHost, TDG, TDH, type Td, TdHost, type Vcpu } from './td-builder.ts';

let host: TdHost;
beforeEach(() => {
  host = sharedHost();
});

const EXTERNAL_INTERRUPT = 1;
const EPT_VIOLATION = 48;
const PEND_NMI = 0x2020_0000_0000_000bn;

/** Spins until memory at DATA changes, which never happens: the host has to interrupt. */
const SPIN = `
    spin: pause
        jmp spin`;

const spinning = (code = ''): { td: Td; vcpu: Vcpu } => guest(host, code + SPIN);

/** The host's timer tick: a vector that is pending soon. */
function tick(cpu = 0, vector = 0xec): void {
  const p = host.machine.processors[cpu]!;
  p.apic.writeMsr(0x80f, 0x1ffn);
  p.apic.writeMsr(0x83f, BigInt(vector));
}
const acknowledge = (cpu = 0): void => void host.machine.processors[cpu]!.apic.writeMsr(0x80b, 0n);

describe('checks', () => {
  test('RCX, the page, the TD’s state and the virtual processor’s, in this order', () => {
    const td = host.createTd();
    loadProgram(td, END);
    const vcpu = td.createVcpu();
    const enter = (rcx: bigint | number): string => host.status(TDH.VP_ENTER, { rcx });
    expect(enter(1n << 54n)).toBe('TDX_OPERAND_INVALID 0x1');
    expect(enter(1n << 63n)).toBe('TDX_OPERAND_INVALID 0x1');
    expect(enter(vcpu.tdvpr + 8)).toBe('TDX_OPERAND_INVALID 0x1');
    expect(enter(td.tdr)).toBe('TDX_PAGE_METADATA_INCORRECT 0x1');
    expect(enter(vcpu.tdvpr)).toBe('TDX_OP_STATE_INCORRECT');
    td.finalize();
    const tdvps = host.module.tdvpsAt(vcpu.tdvpr);
    tdvps.set('NUM_TDVPS_PAGES', 5);
    expect(enter(vcpu.tdvpr)).toBe('TDX_TDCX_NUM_INCORRECT');
    tdvps.set('NUM_TDVPS_PAGES', 6);
    tdvps.set('VCPU_STATE', VCPU_STATE.DISABLED);
    // Bits that only an exit allows are looked at when the virtual processor is this processor's.
    expect(enter(BigInt(vcpu.tdvpr) | (1n << 52n))).toBe('TDX_VCPU_STATE_INCORRECT');
    tdvps.set('VCPU_STATE', VCPU_STATE.READY);
    host.module.hooks.lockHeld = (kind) => kind === 'td_epoch';
    expect(enter(BigInt(vcpu.tdvpr) | (1n << 52n))).toBe('TDX_OPERAND_INVALID 0x1');
    expect(enter(BigInt(vcpu.tdvpr) | (1n << 53n))).toBe('TDX_OPERAND_INVALID 0x1');
    expect(enter(vcpu.tdvpr)).toBe('TDX_OPERAND_BUSY 0xa9');
    host.module.hooks.lockHeld = () => false;
    ended(vcpu.enter());
  });

  test('a virtual processor that another processor has is refused until it is flushed there', () => {
    const { vcpu } = spinning();
    expect(host.status(TDH.VP_ENTER, { rcx: vcpu.tdvpr, cpu: 1 })).toBe('TDX_VCPU_ASSOCIATED');
    host.expect(TDH.VP_FLUSH, { rcx: vcpu.tdvpr });
    tick(1);
    expect(vcpu.enter({}, 1).reason).toBe(EXTERNAL_INTERRUPT);
    acknowledge(1);
  });

  test('IA32_TSC_ADJUST and CPUID limits of the processor', () => {
    const { vcpu } = guest(host, '');
    const { msrs } = host.machine.processors[0]!;
    msrs.set(0x3b, 5n);
    expect(host.status(TDH.VP_ENTER, { rcx: vcpu.tdvpr })).toBe('TDX_INCONSISTENT_MSR 0x3b');
    msrs.set(0x3b, 0n);
    const enable = 0x41801n;
    msrs.set(0x1a0, enable);
    msrs.set(0x1a0, enable | (1n << 22n));
    expect(host.status(TDH.VP_ENTER, { rcx: vcpu.tdvpr })).toBe('TDX_LIMIT_CPUID_MAXVAL_SET');
    msrs.set(0x1a0, enable & ~(1n << 18n));
    expect(host.status(TDH.VP_ENTER, { rcx: vcpu.tdvpr })).toBe('TDX_INCORRECT_MSR_VALUE 0x1a0');
    msrs.set(0x1a0, enable);
    ended(vcpu.enter());
  });

  test('a TSC that runs backwards', () => {
    const { vcpu } = guest(host, 'mov r11, 1\n mov ecx, 0x800\n xor eax, eax\n tdcall');
    vcpu.enter();
    const p = host.machine.processors[0]!;
    const { tscOffset } = p;
    p.tscOffset -= 1n;
    expect(host.status(TDH.VP_ENTER, { rcx: vcpu.tdvpr })).toBe('TDX_TSC_ROLLBACK');
    p.tscOffset = tscOffset;
    ended(vcpu.enter());
  });
});

describe('an asynchronous exit', () => {
  test('shows the reason and the vector, and nothing of the TD', () => {
    const { vcpu } = spinning('mov rax, 0x1111\n mov rbx, rax\n mov r15, rax\n movq xmm3, rax\n mov cr2, rax\n fld1');
    tick();
    const exit = vcpu.enter({ rbp: 0xb0b0n });
    acknowledge();
    expect([exit.status, exit.reason, exit.r9]).toEqual(['TDX_SUCCESS', EXTERNAL_INTERRUPT, 0x8000_00ecn]);
    expect([exit.rcx, exit.rdx, exit.rbx, exit.rsi, exit.rdi, exit.r8, exit.r10, exit.r15]).toEqual(Array(8).fill(0n));
    const p = host.machine.processors[0]!;
    expect([p.xmm(3).every((byte) => byte === 0), p.cr2, p.xcr0, p.tscAux]).toEqual([true, 0n, 3n, 0]);
    expect(p.fpr(7).every((byte) => byte === 0)).toBe(true);
  });

  test('keeps the host’s RBP if the TD was configured so, else it is 0', () => {
    const run = (configFlags: bigint): bigint => {
      const { vcpu } = guest(host, '', { configFlags });
      return vcpu.enter({ rbp: 0xb0b0n }).rbp;
    };
    expect([run(4n), run(0n)]).toEqual([0xb0b0n, 0n]);
  });

  test('the TD goes on where it was, with all its registers', () => {
    const { vcpu } = guest(
      host,
      `
        mov rax, 0x1111
        mov rbp, 0x2222
        mov r9, 0x3333
        movq xmm3, rax
        fld1
        mov ecx, 1000
    again:
        pause
        loop again
        movq r13, xmm3
        mov r12, rax
        mov r14, rbp
        fistp qword [${DATA}]
        mov r15, [${DATA}]`,
    );
    let exits = 0;
    for (;;) {
      tick();
      // What the host has in its registers does not matter.
      const exit = vcpu.enter({ r9: 0xbadn, r12: 0xbadn, rbp: 7n });
      acknowledge();
      exits++;
      if (exits < 5) {
        expect([exit.reason, exit.rbp]).toEqual([EXTERNAL_INTERRUPT, 7n]);
        host.machine.clock.retire(1);
        continue;
      }
      break;
    }
    const exit = ended(vcpu.enter({ r9: 0xbadn }));
    expect([exit.r12, exit.r13, exit.r14, exit.r9, exit.r15]).toEqual([0x1111n, 0x1111n, 0x2222n, 0x3333n, 1n]);
  });

  test('the host’s own IA32_SPEC_CTRL comes back', () => {
    const { msrs } = host.machine.processors[0]!;
    msrs.set(0x48, 1n);
    const { rbx } = caught(host, 'mov ecx, 0x48\n rdmsr\n mov rbx, rax\n mov eax, 4\n wrmsr');
    expect([rbx, msrs.get(0x48)]).toEqual([0n, 1n]);
    msrs.set(0x48, 0n);
  });

  test('a triple fault ends the virtual processor', () => {
    const { vcpu } = guest(host, 'lidt [rel zero]\n ud2\n zero: dq 0, 0');
    const exit = vcpu.enter();
    expect([exit.status, exit.reason]).toEqual(['TDX_NON_RECOVERABLE_VCPU', 2]);
    expect(host.status(TDH.VP_ENTER, { rcx: vcpu.tdvpr })).toBe('TDX_VCPU_STATE_INCORRECT');
  });

  test('a host’s NMI is an exit with its information', () => {
    const { vcpu } = spinning();
    const p = host.machine.processors[0]!;
    p.nmiPending = true;
    p.eventsPending = true;
    const exit = vcpu.enter();
    expect([exit.status, exit.reason, exit.r9]).toEqual(['TDX_SUCCESS', 0, 0x8000_0202n]);
    p.nmiBlocked = false;
  });
});

describe('events for the TD', () => {
  const PAUSE_HERE = `
        xor r12d, r12d
        mov r11, 1
        xor eax, eax
        mov ecx, 0x800
        tdcall`;

  test('PEND_NMI is delivered once', () => {
    const td = host.createTd();
    loadProgram(td, `${PAUSE_HERE}\n nop\n nop\n jmp over\n nmi: inc r12\n iretq\n over:${END}`, { 2: 'nmi' });
    const vcpu = td.createVcpu();
    td.finalize();
    expect(vcpu.enter().r11).toBe(1n);
    host.expect(TDH.VP_WR, { rcx: vcpu.tdvpr, rdx: PEND_NMI, r8: 1, r9: 1 });
    expect(ended(vcpu.enter()).r12).toBe(1n);
    expect(host.expect(TDH.VP_RD, { rcx: vcpu.tdvpr, rdx: PEND_NMI }).r8).toBe(0n);
  });

  test('PEND_NMI waits while the TD has a #VE to read', () => {
    const td = host.createTd();
    loadProgram(
      td,
      `
        xor r12d, r12d
        hlt
    ve: mov r11, 1          ; the information is not read yet
        xor eax, eax
        mov ecx, 0x800
        tdcall
        mov r13, r12
        jmp over
    nmi: inc r12
        iretq
    over:${END}`,
      { 2: 'nmi', 20: 've' },
    );
    const vcpu = td.createVcpu();
    td.finalize();
    expect(vcpu.enter().r11).toBe(1n);
    host.expect(TDH.VP_WR, { rcx: vcpu.tdvpr, rdx: PEND_NMI, r8: 1, r9: 1 });
    expect(ended(vcpu.enter()).r13).toBe(0n);
    expect(host.expect(TDH.VP_RD, { rcx: vcpu.tdvpr, rdx: PEND_NMI }).r8).toBe(1n);
  });

  test('an exception whose delivery meets a missing page is delivered afterwards', () => {
    const td = host.createTd();
    // The stack is on a page that the host has blocked.
    loadProgram(
      td,
      `
        mov esp, ${DATA + 0x800}
        lea r14, [rel fault]
    fault: ud2
    ud: mov r12, 2
        mov r13, [rsp]${END}`,
      { 6: 'ud' },
    );
    const vcpu = td.createVcpu();
    td.finalize();
    td.expect(TDH.MEM_RANGE_BLOCK, { rcx: DATA });
    const exit = vcpu.enter();
    expect([exit.reason, exit.r8]).toEqual([EPT_VIOLATION, BigInt(DATA)]);
    host.expect(TDH.MEM_TRACK, { rcx: td.tdr });
    td.expect(TDH.MEM_RANGE_UNBLOCK, { rcx: DATA });
    const end = ended(vcpu.enter());
    expect([end.r12, end.r13]).toEqual([2n, end.r14]);
  });

  test('a posted interrupt gets in without an exit', () => {
    const td = host.createTd();
    loadProgram(
      td,
      `
        mov ecx, 0x80f
        xor r12d, r12d
        xor eax, eax
        mov r11, 1
        mov ecx, 0x800
        tdcall
        sti
    wait_for: pause
        test r12, r12
        jz wait_for
        cli
        jmp over
    interrupt:
        inc r12
        push rax
        push rcx
        push rdx
        mov ecx, 0x80b
        xor eax, eax
        xor edx, edx
        wrmsr
        pop rdx
        pop rcx
        pop rax
        iretq
    over:${END}`,
      { 65: 'interrupt' },
    );
    const vcpu = td.createVcpu();
    td.finalize();
    const NOTIFICATION = 0xf2;
    const descriptor = host.page();
    const write = (rdx: bigint, r8: bigint | number, r9: bigint | number = -1n): void =>
      void host.expect(TDH.VP_WR, { rcx: vcpu.tdvpr, rdx, r8, r9 });
    write(0x0024_0001_0000_0002n, NOTIFICATION, 0xffff);
    write(0x0024_0003_0000_2016n, descriptor, 0xffff_ffff_ffff_ffc0n);
    write(0x0024_0002_0000_4000n, 0x80, 0x80);
    expect(vcpu.enter().r11).toBe(1n);
    // Bit 41h of the PIR, outstanding notification.
    host.memory.write64(descriptor + 8, 2n);
    host.memory.write32(descriptor + 32, 1);
    tick(0, NOTIFICATION);
    const exit = ended(vcpu.enter());
    expect(exit.r12).toBe(1n);
    expect(host.memory.read64(descriptor + 8)).toBe(0n);
  });
});

describe('a TD under debug', () => {
  test('shows its registers to the host', () => {
    const { vcpu } = guest(host, 'mov r12, 0x77', { attributes: ATTRIBUTES_DEBUG | (1n << 28n) });
    ended(vcpu.enter());
    expect(host.expect(TDH.VP_RD, { rcx: vcpu.tdvpr, rdx: 0x1020_0003_0000_000cn }).r8).toBe(0x77n);
    const production = guest(host, 'mov r12, 0x77').vcpu;
    ended(production.enter());
    expect(host.status(TDH.VP_RD, { rcx: production.tdvpr, rdx: 0x1020_0003_0000_000cn })).toBe(
      'TDX_METADATA_FIELD_NOT_READABLE',
    );
  });
});

test('two TDs with the same addresses do not see each other', () => {
  const read = guest(host, `mov r12, [${DATA}]`);
  const write = guest(host, `mov qword [${DATA}], 0x55\n mov r12, [${DATA}]`);
  expect(ended(write.vcpu.enter()).r12).toBe(0x55n);
  expect(ended(read.vcpu.enter()).r12).toBe(0n);
});

test('two virtual processors of a TD share memory, in turn on one processor', () => {
  const td = host.createTd();
  loadProgram(
    td,
    `lock inc qword [${DATA}]\n mov r12, [${DATA}]\n mov eax, ${TDG.VP_INFO}\n tdcall\n mov r13, r9${END}`,
  );
  const vcpus = [td.createVcpu(), td.createVcpu(), td.createVcpu()];
  td.finalize();
  expect(vcpus.map((vcpu) => ended(vcpu.enter())).map(({ r12, r13 }) => [r12, r13])).toEqual([
    [1n, 0n],
    [2n, 1n],
    [3n, 2n],
  ]);
});

test('epochs: a virtual processor that has left holds up no tracking', () => {
  const { td, vcpu } = guest(host, '');
  const track = (): string => host.status(TDH.MEM_TRACK, { rcx: td.tdr });
  expect([track(), track(), track()]).toEqual(Array(3).fill('TDX_SUCCESS'));
  ended(vcpu.enter());
  expect([track(), track()]).toEqual(Array(2).fill('TDX_SUCCESS'));
});

test('a fresh host enters the same way', () => {
  const fresh = new TdHost(1);
  expect(result(fresh, 'mov r12, 5').r12).toBe(5n);
});

describe('memory of the virtual processor that the host overwrites', () => {
  test.each([
    ['registers', 0, 0x980],
    ['state', 0, 0x100],
    ['extended state', 3, 0x40],
  ])('%s: the TD is gone', (_name, index, offset) => {
    const { vcpu } = guest(host, '');
    const tdvps = host.module.tdvpsAt(vcpu.tdvpr);
    host.memory.write64(tdvps.pages[index]! + offset, 0xbadn);
    const { status } = vcpu.enter();
    expect(['TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE', 'TDX_TD_FATAL']).toContain(status);
    expect(host.status(TDH.VP_ENTER, { rcx: vcpu.tdvpr })).toBe('TDX_TD_FATAL');
  });

  test('the page of the virtual APIC: the TD is gone when it looks there', () => {
    const { vcpu } = guest(host, 'mov ecx, 0x808\n rdmsr\n mov ecx, 0x808\n mov eax, 0x20\n wrmsr');
    const tdvps = host.module.tdvpsAt(vcpu.tdvpr);
    host.memory.write64(tdvps.pages[2]! + 0x80, 0xbadn);
    expect(vcpu.enter().status).toBe('TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE');
    expect(host.status(TDH.VP_ENTER, { rcx: vcpu.tdvpr })).toBe('TDX_TD_FATAL');
  });
});

describe('MSRs of system calls', () => {
  const MSRS: [string, number, bigint, bigint][] = [
    ['IA32_STAR', 0xc000_0081, 0x1b_0010_0000_0000n, 0n],
    ['IA32_LSTAR', 0xc000_0082, 0x1234_5678n, 0n],
    ['IA32_FMASK', 0xc000_0084, 0x4_7700n, 0x2_0200n],
    ['IA32_KERNEL_GS_BASE', 0xc000_0102, 0xffff_8000_1234_0000n, 0n],
    ['IA32_TSC_AUX', 0xc000_0103, 0x77n, 0n],
  ];

  test.each(MSRS)('%s is the TD’s own: and what it leaves there is gone', (_, index, value, after) => {
    const call = `
        mov r11, 0x7777
        mov r10, 0
        xor eax, eax
        mov ecx, 0xffcc
        tdcall
`;
    const { vcpu } = guest(
      host,
      `
        mov ecx, ${index}
        mov rax, ${value}
        mov rdx, rax
        shr rdx, 32
        wrmsr
        ${call}
        mov ecx, ${index}
        rdmsr
        mov r12, rdx
        shl r12, 32
        or r12, rax`,
    );
    const [p] = host.machine.processors;
    vcpu.enter();
    expect(readMsr(p!, index)).toBe(after);
    // Another guest runs on this processor meanwhile.
    writeMsr(p!, index, 0x5555n);
    expect(ended(vcpu.enter()).r12).toBe(value);
  });
});
