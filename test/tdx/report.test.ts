/** TDREPORT, run-time measurement, and metadata as the guest reads it. */
import { beforeEach, describe, expect, test } from 'vitest';
import { MrtdCalculator } from '../../src/attest/mrtd.ts';
import { REPORT_OFFSET, verifyReport, verifyReportMac } from '../../src/tdx-module/report/tdreport.ts';
import { sha384Of } from '../../src/util/crypto/hash.ts';
import { ended, guest, result } from './guest-lab.ts';
import { DATA, END, loadProgram } from './guest-program.ts';
import {
  CONFIG_FLEXIBLE_PENDING_VE,
  CONFIG_NO_RBP_MOD,
  sharedHost,
  TDG,
  TDH,
  type Td,
  type TdHost,
} from './td-builder.ts';

let host: TdHost;
beforeEach(() => {
  host = sharedHost();
});

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const REPORT = DATA + 0x400;
/** Bytes that the guest puts into REPORTDATA: 64 of these. */
const REPORT_DATA = 0x5a;

const makeReport = `
        mov edi, ${DATA}
        mov ecx, 64
        mov eax, ${REPORT_DATA}
        rep stosb
        mov eax, ${TDG.MR_REPORT}
        mov ecx, ${REPORT}
        mov edx, ${DATA}
        xor r8d, r8d
        tdcall
        mov r13, rax`;
const extend = (index: number): string => `
        mov eax, ${TDG.MR_RTMR_EXTEND}
        mov ecx, ${DATA}
        mov edx, ${index}
        tdcall
        mov r14, rax`;
const verify = `
        mov eax, ${TDG.MR_VERIFYREPORT}
        mov ecx, ${REPORT}
        tdcall
        mov r15, rax`;

/** The TD's private bytes. */
function bytesAt(td: Td, gpa: number, length: number): Uint8Array {
  const { rcx } = host.expect(TDH.MEM_SEPT_RD, { rcx: gpa - (gpa % 4096), rdx: td.tdr });
  const page = Number(rcx & 0x3fff_ffff_f000n);
  return host.module.platform.keyed.readBytes(page + (gpa % 4096), td.hkid, length);
}

/** Runs a guest and reads the report that it made. */
function reportOf(code: string): { td: Td; report: Uint8Array } {
  const { td, vcpu } = guest(host, code);
  expect(ended(vcpu.enter()).r13).toBe(0n);
  return { td, report: bytesAt(td, REPORT, 1024) };
}

describe('TDG.MR.REPORT', () => {
  test('tells of the TD, with a MAC that the platform confirms', () => {
    const { report } = reportOf(makeReport);
    const view = new DataView(report.buffer, report.byteOffset);
    expect([report[0], report[1], report[2]]).toEqual([0x81, 0, 0]);
    expect(report.subarray(128, 192).every((byte) => byte === REPORT_DATA)).toBe(true);
    expect(view.getBigUint64(512, true)).toBe(1n << 28n);
    expect(view.getBigUint64(520, true)).toBe(3n);
    expect(hex(report.subarray(80, 128))).toBe(hex(sha384Of(report.slice(512))));
    expect(hex(report.subarray(32, 80))).toBe(hex(sha384Of(report.slice(256, 495))));
    expect(verifyReport(host.machine, report)).toBe(true);
  });

  test('MRTD is what an independent calculator makes of the calls', () => {
    const td = host.createTd();
    const calculator = new MrtdCalculator();
    const add = td.addPage.bind(td);
    td.addPage = (gpa, content, measure = true) => {
      const page = new Uint8Array(4096);
      page.set(content ?? []);
      calculator.addPage(gpa, page, measure);
      return add(gpa, content, measure);
    };
    loadProgram(td, makeReport + END);
    td.addPage(0x9000, Uint8Array.from([1, 2, 3]), false);
    const vcpu = td.createVcpu();
    td.finalize();
    ended(vcpu.enter());
    expect(hex(bytesAt(td, REPORT, 1024).subarray(528, 576))).toBe(hex(calculator.finalize()));
  });

  test('RTMRs are zero, and an extension shows', () => {
    const { report } = reportOf(`${makeReport}${extend(2)}${makeReport}`);
    const rtmr = (n: number): string => hex(report.subarray(720 + 48 * n, 768 + 48 * n));
    const zeros = new Uint8Array(48);
    const both = new Uint8Array(96);
    both.fill(REPORT_DATA, 48);
    expect([0, 1, 3].map(rtmr)).toEqual(Array(3).fill(hex(zeros)));
    expect(rtmr(2)).toBe(hex(sha384Of(both)));
    expect(verifyReport(host.machine, report)).toBe(true);
  });

  test('any flipped bit is found', () => {
    const { report } = reportOf(makeReport);
    for (const at of [0, 17, 100, 150, 223, 230, 255]) {
      const changed = report.slice();
      changed[at]! ^= 1;
      expect(verifyReportMac(host.machine, changed)).not.toBe('valid');
    }
    for (const at of [260, 300, 512, 600, 1000]) {
      const changed = report.slice();
      changed[at]! ^= 1;
      expect(verifyReport(host.machine, changed)).toBe(false);
    }
    const newer = report.slice();
    newer[REPORT_OFFSET.CPUSVN] = 0xff;
    expect(verifyReportMac(host.machine, newer)).toBe('invalid-cpusvn');
  });

  test('operands: alignment, subtype', () => {
    const call = (rcx: number, rdx: number, r8: number): bigint =>
      result(host, `mov eax, 4\n mov ecx, ${rcx}\n mov edx, ${rdx}\n mov r8d, ${r8}\n tdcall\n mov r12, rax`).r12;
    expect(call(DATA + 512, DATA, 0)).toBe(0xc000_0100_0000_0001n);
    expect(call(REPORT, DATA + 32, 0)).toBe(0xc000_0100_0000_0002n);
    expect(call(REPORT, DATA, 1)).toBe(0xc000_0100_0000_0008n);
  });

  test('the report’s own address, but for its alignment, is looked at last', () => {
    const call = (r8: number): bigint =>
      result(host, `mov eax, 4\n mov rcx, ${2n ** 52n}\n mov edx, ${DATA}\n mov r8d, ${r8}\n tdcall\n mov r12, rax`)
        .r12;
    expect(call(1)).toBe(0xc000_0100_0000_0008n);
    expect(call(0)).toBe(0xc000_0100_0000_0001n);
  });
});

describe('TDG.MR.REPORT and an interrupt that waits', () => {
  test('it is taken between the hash and the report; the next time the hash is there', () => {
    const { td, vcpu } = guest(host, makeReport);
    const { tdcalls } = host.module.tdrAt(td.tdr);
    let asked = 0;
    host.module.hooks.interruptPending = () => ++asked > 0;
    const { r14 } = ended(vcpu.enter());
    delete host.module.hooks.interruptPending;
    expect([r14, asked]).toEqual([0n, 1]);
    expect(tdcalls.get('TDG.MR.REPORT')).toBe(2);
  });
});

describe('TDG.MR.VERIFYREPORT', () => {
  test('accepts a report of this platform, refuses it with a flipped bit', () => {
    expect(result(host, makeReport + verify).r15).toBe(0n);
    const flipped = result(host, `${makeReport}\n xor byte [${REPORT + 130}], 1\n ${verify}`);
    expect(flipped.r15 >> 32n).toBe(0xc000_1001n);
    const newer = result(host, `${makeReport}\n mov byte [${REPORT + 16}], 0xff\n ${verify}`);
    expect(newer.r15 >> 32n).toBe(0xc000_1000n);
  });

  test('a report of another TD on the platform is good too', () => {
    const { report } = reportOf(makeReport);
    const { td, vcpu } = guest(host, `${makeReport}\n mov r11, 1\n mov ecx, 0x800\n xor eax, eax\n tdcall\n ${verify}`);
    expect(vcpu.enter().r11).toBe(1n);
    const { rcx } = host.expect(TDH.MEM_SEPT_RD, { rcx: DATA, rdx: td.tdr });
    host.module.platform.keyed.writeBytes(Number(rcx & 0x3fff_ffff_f000n) + 0x400, td.hkid, report);
    expect(ended(vcpu.enter()).r15).toBe(0n);
  });

  test('the address must be aligned and private', () => {
    expect(result(host, `mov eax, 22\n mov ecx, ${DATA + 128}\n tdcall\n mov r12, rax`).r12).toBe(
      0xc000_0100_0000_0001n,
    );
  });
});

describe('TDG.MR.RTMR.EXTEND', () => {
  test.each([
    [DATA + 8, 0, 1n],
    [DATA, 4, 2n],
  ])('GPA %i, index %i: operand %i is invalid', (gpa, index, operand) => {
    const code = `mov eax, 2\n mov ecx, ${gpa}\n mov edx, ${index}\n tdcall\n mov r12, rax`;
    expect(result(host, code).r12).toBe(0xc000_0100_0000_0000n | operand);
  });

  test('a busy register is busy', () => {
    const { vcpu } = guest(host, extend(0));
    host.module.hooks.lockHeld = (kind) => kind === 'rtmr';
    const { r14 } = ended(vcpu.enter());
    host.module.hooks.lockHeld = () => false;
    expect(r14).toBe(0x8000_0200_0000_00a8n);
  });
});

describe('metadata', () => {
  const read = (leaf: number, field: bigint): string =>
    `mov eax, ${leaf}\n xor ecx, ecx\n mov rdx, ${field}\n tdcall\n mov r12, rax\n mov r13, r8`;
  const write = (leaf: number, field: bigint, value: bigint, mask: bigint): string =>
    `mov eax, ${leaf}\n xor ecx, ecx\n mov rdx, ${field}\n mov r8, ${value}\n mov r9, ${mask}\n tdcall\n mov r14, rax`;
  const CONFIG_FLAGS = 0x1110_0003_0000_0016n;
  const TD_CTLS = 0x1110_0003_0000_0017n;
  const NOTIFY_ENABLES = 0x9100_0000_0000_0010n;
  const TOPOLOGY_ENUM_CONFIGURED = 0x9100_0000_0000_0019n;
  const NOT_VALID = 0xc000_0c03n;
  const NOT_WRITABLE = 0xc000_0c01n;

  test('the fields that Linux reads', () => {
    expect(result(host, read(TDG.VM_RD, CONFIG_FLAGS)).r13).toBe(4n);
    expect(result(host, read(TDG.VM_RD, TD_CTLS)).r13).toBe(1n);
    expect(result(host, read(TDG.VM_RD, TOPOLOGY_ENUM_CONFIGURED)).r13).toBe(1n);
    expect(result(host, read(TDG.SYS_RD, 0x0a00_0003_0000_0008n)).r13 & (1n << 20n)).not.toBe(0n);
  });

  test('the TD may be told or not told of pending pages only if the host let it', () => {
    const flexible = { configFlags: CONFIG_FLEXIBLE_PENDING_VE | CONFIG_NO_RBP_MOD };
    expect(result(host, write(TDG.VM_WR, TD_CTLS, 0n, 1n), flexible).r14).toBe(0n);
    expect(result(host, write(TDG.VM_WR, TD_CTLS, 0n, 1n)).r14 >> 32n).toBe(NOT_VALID);
  });

  test('controls that came with later modules are not there', () => {
    expect(result(host, write(TDG.VM_WR, TD_CTLS, 8n, 8n)).r14 >> 32n).toBe(NOT_WRITABLE);
  });

  test('topology enumeration needs an x2APIC id for every virtual processor', () => {
    const td = host.createTd();
    loadProgram(td, write(TDG.VM_WR, TD_CTLS, 2n, 2n) + END);
    const tdvpr = host.page();
    td.expect(TDH.VP_CREATE, { rcx: tdvpr });
    for (let i = 0; i < 5; i++) host.expect(TDH.VP_ADDCX, { rcx: host.page(), rdx: tdvpr });
    host.expect(TDH.VP_INIT, { rcx: tdvpr });
    const vcpu = td.createVcpu(0, 1);
    td.finalize();
    expect(ended(vcpu.enter()).r14 >> 32n).toBe(NOT_VALID);
  });

  test('NOTIFY_ENABLES can be written with a full mask, as Linux does', () => {
    expect(result(host, write(TDG.VM_WR, NOTIFY_ENABLES, 0n, 0xffff_ffff_ffff_ffffn)).r14).toBe(0n);
  });

  test('fields of the virtual processor', () => {
    expect(result(host, read(TDG.VP_RD, 0xa020_0002_0000_0002n)).r13).toBe(0n);
    expect(result(host, write(TDG.VP_WR, 0xa020_0000_0000_0007n, 1n, 1n)).r14).toBe(0n);
    expect(result(host, read(TDG.VP_RD, 0x1020_0003_0000_0000n)).r12 >> 32n).toBe(0xc000_0c02n);
  });

  test('a virtual processor’s own fields need RCX 0; the next identifier comes with version 0', () => {
    const field = 0xa020_0002_0000_0002n;
    const vp = (leaf: number, rcx: number): string =>
      `mov eax, ${leaf}\n mov ecx, ${rcx}\n mov rdx, ${field}\n xor r8d, r8d\n xor r9d, r9d\n tdcall\n mov r12, rax\n mov r13, rdx`;
    expect(result(host, vp(TDG.VP_RD, 1)).r12).toBe(0xc000_0100_0000_0001n);
    expect(result(host, vp(TDG.VP_WR, 1)).r12).toBe(0xc000_0100_0000_0001n);
    const { r12, r13 } = result(host, vp(TDG.VP_RD, 0));
    expect([r12, r13 === field, r13 >> 56n]).toEqual([0n, false, 0xa0n]);
    expect(result(host, vp(TDG.VP_RD | 0x1_0000, 0)).r12 >> 32n).toBe(0xc000_0100n);
  });

  test('the flags for #VE of CPUID take any value', () => {
    const CPUID_SUPERVISOR_VE = 0xa020_0000_0000_0007n;
    expect(result(host, write(TDG.VP_WR, CPUID_SUPERVISOR_VE, 2n, 0xffn)).r14).toBe(0n);
  });

  test('unknown identifiers and another VM than the TD itself', () => {
    expect(result(host, read(TDG.VM_RD, 0x1110_0003_0000_7777n)).r12 >> 32n).toBe(0xc000_0c00n);
    expect(result(host, `mov eax, ${TDG.VM_RD}\n mov ecx, 1\n tdcall\n mov r12, rax`).r12).toBe(0xc000_0100_0000_0001n);
    const versionOne = `mov eax, ${0x1_0000 | TDG.VM_RD}\n mov ecx, 1\n xor edx, edx\n tdcall\n mov r12, rax\n mov r13, rdx`;
    expect(result(host, versionOne)).toMatchObject({ r12: 0xc000_0100_0000_0001n, r13: 0xffff_ffff_ffff_ffffn });
  });

  test('all global fields at once, as a list', () => {
    const code = `mov eax, ${TDG.SYS_RDALL}\n mov edx, ${DATA}\n mov r8, -1\n tdcall\n mov r12, rax\n mov r13, r8\n mov r14, [${DATA}]`;
    const { r12, r13, r14 } = result(host, code);
    expect([r12, r13]).toEqual([0n, 0xffff_ffff_ffff_ffffn]);
    expect(r14 & 0xffffn).toBeGreaterThan(16n);
  });
});
