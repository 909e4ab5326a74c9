/** Upstream's self-tests of TDX, by their names, as guests of our own. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { VcpuExit } from '../../src/kvm/virt/kvm_run.ts';
import {
  KVM_MSR_FILTER_DEFAULT_DENY,
  KVM_MSR_FILTER_READ,
  KVM_MSR_FILTER_WRITE,
} from '../../src/kvm/x86/msr_filter.ts';
import { ok } from './lab.ts';
import { KVM_MEMORY_ATTRIBUTE_PRIVATE, SHARED, SHARED_BIT, TdLab } from './td-lab.ts';

const INVALID_OPERAND = 1n << 63n;
const MISC_ENABLE = 0x1a0n;
const POWER_CTL = 0x1fcn;
const X2APIC_ICR = 0x830n;
const EFAULT = 14;

let td: TdLab;
beforeEach(async () => {
  td = new TdLab();
  await td.ready();
});
afterEach(() => td.close());

/** Answers I/O exits with these values in order, and notes what was written. */
function io(answers: readonly number[], seen: string[]): (exit: VcpuExit | number) => void {
  let at = 0;
  return (exit) => {
    if (typeof exit === 'number' || exit.kind !== 'io') throw new Error(`no I/O: ${JSON.stringify(exit)}`);
    const view = new DataView(exit.data.buffer, exit.data.byteOffset, 4);
    if (exit.direction === 'in') view.setUint32(0, answers[at++]!, true);
    else
      seen.push(
        `${exit.port.toString(16)}/${exit.size}=${(view.getUint32(0, true) & (2 ** (8 * exit.size) - 1)) >>> 0}`,
      );
  };
}

test('verify_td_lifecycle: a TD is made, reports, and goes', async () => {
  const seen: string[] = [];
  await td.vmcall(30n, [1n, 1n, 0x30n, 1n], io([], seen));
  expect(seen).toEqual(['30/1=1']);
});

test('verify_report_fatal_error', async () => {
  td.command({ 10: 0n, 11: 0x10003n, 12: 0x0baa_aaad_0000_0000n, 13: 0n });
  const exit = ok(await td.vcpu.run());
  if (exit.kind !== 'system-event') throw new Error(exit.kind);
  expect([exit.type, exit.ndata, exit.data[12], exit.data[13]]).toEqual([7, 16, 0x0baa_aaad_0000_0000n, 0n]);
});

test('verify_td_ioexit: what goes out comes back changed', async () => {
  const seen: string[] = [];
  const serve = io([0xad], seen);
  const read = await td.vmcall(30n, [1n, 0n, 0x50n, 0n], serve);
  expect(read[11]).toBe(0xadn);
  await td.vmcall(30n, [1n, 1n, 0x50n, read[11]! - 1n], serve);
  expect(seen).toEqual(['50/1=172']);
});

test('verify_td_cpuid: TDG.VP.VMCALL<Instruction.CPUID> gives what user space set', async () => {
  const regs = await td.vmcall(10n, [1n, 0n]);
  const entry = td.vcpu.getCpuid2().find((one) => one.function === 1)!;
  expect(regs[12]).toBe(BigInt(entry.eax));
  // The hypervisor bit; and VMX is not offered.
  expect([(regs[14]! >> 31n) & 1n, (regs[14]! >> 5n) & 1n]).toEqual([1n, 0n]);
});

test('verify_get_td_vmcall_info', async () => {
  const regs = await td.vmcall(0x10000n, [0n]);
  expect(regs.slice(10, 15)).toEqual([0n, 0n, 0n, 0n, 0n]);
});

test('verify_guest_writes: 1, 2 and 4 bytes', async () => {
  const seen: string[] = [];
  for (const size of [1n, 2n, 4n]) await td.vmcall(30n, [size, 1n, 0x60n, 0xabcd_abcdn], io([], seen));
  expect(seen).toEqual(['60/1=205', '60/2=43981', `60/4=${0xabcd_abcd}`]);
  expect((await td.vmcall(30n, [5n, 1n, 0x60n, 1n]))[10]).toBe(INVALID_OPERAND);
});

test('verify_guest_reads: 1, 2 and 4 bytes', async () => {
  const values: bigint[] = [];
  for (const size of [1n, 2n, 4n])
    values.push((await td.vmcall(30n, [size, 0n, 0x60n, 0n], io([0xabcd_abcd], [])))[11]!);
  expect(values).toEqual([0xcdn, 0xabcdn, 0xabcd_abcdn]);
  expect((await td.vmcall(30n, [5n, 0n, 0x60n, 0n]))[10]).toBe(INVALID_OPERAND);
});

describe('MSRs behind a filter', () => {
  /** Allows these MSRs; everything else exits to user space as filtered. */
  function filter(flags: number): void {
    const allowed = (msr: bigint) => ({ flags, nmsrs: 1, base: Number(msr), bitmap: Uint8Array.of(1) });
    const ranges = [X2APIC_ICR, MISC_ENABLE].map(allowed);
    expect(td.vm.setMsrFilter({ flags: KVM_MSR_FILTER_DEFAULT_DENY, ranges })).toBe(0);
    // KVM_CAP_X86_USER_SPACE_MSR: KVM_MSR_EXIT_REASON_FILTER.
    expect(td.vm.enableCap(188, [4n])).toBe(0);
  }
  test('verify_guest_msr_writes: allowed ones reach KVM, the filtered one user space', async () => {
    filter(KVM_MSR_FILTER_WRITE);
    expect((await td.vmcall(32n, [X2APIC_ICR, 0x4_0041n]))[10]).toBe(0n);
    expect((await td.vmcall(32n, [MISC_ENABLE, 0x1234n]))[10]).toBe(0n);
    const seen: string[] = [];
    const refused = await td.vmcall(32n, [POWER_CTL, 4n], (exit) => {
      if (typeof exit === 'number' || exit.kind !== 'wrmsr') throw new Error('no WRMSR exit');
      seen.push(`${exit.index.toString(16)}=${exit.data} for ${exit.reason}`);
      exit.error = 1;
    });
    expect(seen).toEqual(['1fc=4 for 4']);
    expect(refused[10]).toBe(INVALID_OPERAND);
  });
  test('verify_guest_msr_reads: the same, and user space may answer', async () => {
    filter(KVM_MSR_FILTER_READ);
    td.vcpu.setMsrs([{ index: Number(MISC_ENABLE), data: 9n }]);
    expect((await td.vmcall(31n, [MISC_ENABLE])).slice(10, 12)).toEqual([0n, 9n]);
    const answered = await td.vmcall(31n, [POWER_CTL], (exit) => {
      if (typeof exit !== 'number' && exit.kind === 'rdmsr') exit.data = 0x4_1234n;
    });
    expect(answered.slice(10, 12)).toEqual([0n, 0x4_1234n]);
  });
  test('where user space does not want to hear of it, it is an invalid operand', async () => {
    filter(KVM_MSR_FILTER_WRITE);
    td.vm.enableCap(188, [0n]);
    expect((await td.vmcall(32n, [POWER_CTL, 4n]))[10]).toBe(INVALID_OPERAND);
  });
});

test('verify_guest_hlt: KVM_SET_MP_STATE makes a TD runnable that halted with interrupts blocked', async () => {
  td.command({ 10: 0n, 11: 12n, 12: 1n });
  const running = td.vcpu.run();
  await new Promise((resolve) => setTimeout(resolve, 20));
  td.vcpu.kick();
  expect(await running).toBe(-4);
  expect(td.vcpu.getMpState()).toBe(3);
  expect(td.vcpu.setMpState(0)).toBe(0);
  await td.ready();
});

test('verify_mmio_reads and verify_mmio_writes', async () => {
  const seen: string[] = [];
  const serve = (exit: VcpuExit | number): void => {
    if (typeof exit === 'number' || exit.kind !== 'mmio') throw new Error('no MMIO');
    if (exit.isWrite) seen.push(Array.from(exit.data.subarray(0, exit.len), (b) => b.toString(16)).join(''));
    else exit.data.set([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0]);
  };
  const gpa = 0x1000_0000n | SHARED_BIT;
  const read: bigint[] = [];
  for (const size of [1n, 2n, 4n, 8n]) {
    read.push((await td.vmcall(48n, [size, 0n, gpa, 0n], serve))[11]!);
    await td.vmcall(48n, [size, 1n, gpa, read.at(-1)!], serve);
  }
  expect(read).toEqual([0x12n, 0x3412n, 0x7856_3412n, 0xf0de_bc9a_7856_3412n]);
  expect(seen).toEqual(['12', '1234', '12345678', '123456789abcdef0']);
  expect((await td.vmcall(48n, [10n, 0n, gpa, 0n]))[10]).toBe(INVALID_OPERAND);
});

test('verify_td_cpuid_tdcall: the module and KVM agree on what user space configured', async () => {
  const { values, other } = await program(`
    mov eax, 0
    xor ecx, ecx
    cpuid
    mov [rbp], eax
    mov [rbp+4], ebx
    mov [rbp+8], ecx
    mov [rbp+12], edx`);
  const entry = other.vcpu.getCpuid2().find((one) => one.function === 0)!;
  expect(values.slice(1, 4)).toEqual([entry.ebx, entry.ecx, entry.edx]);
  other.close();
});

test('the host reads zeros of private memory, whatever the guest has written there', async () => {
  const { values, other } = await program(`
    mov dword [0x8800], 0xdeadbeef
    mov eax, [0x8800]
    mov [rbp], eax`);
  expect(values[0]).toBe(0xdead_beef);
  expect(td.lab.host.machine.memory.read32(other.files[0]!.page(8)! + 0x800)).toBe(0);
  other.close();
});

test('TDG.VP.INFO: width, attributes, vCPUs', async () => {
  const regs = await td.call({ 0: 1n });
  expect([regs[1]! & 63n, regs[2], regs[8]]).toEqual([48n, 1n << 28n, (2n << 32n) | 1n]);
});

test('upm: a page goes from private to shared and back by MapGPA, and its content with the kind', async () => {
  const gpa = 0x8_0000;
  const convert = (exit: VcpuExit | number): void => {
    if (typeof exit === 'number' || exit.kind !== 'hypercall') throw new Error('no hypercall');
    const attributes = exit.args[2] === 0n ? 0n : KVM_MEMORY_ATTRIBUTE_PRIVATE;
    const size = Number(exit.args[1]) * 4096;
    td.vm.setMemoryAttributes({ address: Number(exit.args[0]), size, attributes, flags: 0n });
  };
  expect((await td.call({ 0: 6n, 1: BigInt(gpa) }))[0]! >> 32n).toBe(0n);
  expect((await td.vmcall(0x10001n, [BigInt(gpa) | SHARED_BIT, 4096n], convert))[10]).toBe(0n);
  // Private now means a fault that user space must see.
  const errors: unknown[] = [];
  await td.call({ 0: 6n, 1: BigInt(gpa) }, (result) => {
    errors.push(result);
    const { memoryFault } = td.vcpu.kvmRun;
    td.vm.setMemoryAttributes({
      address: memoryFault.gpa,
      size: 4096,
      attributes: memoryFault.flags === 8n ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0n,
      flags: 0n,
    });
  });
  expect(errors).toEqual([-EFAULT]);
  expect(td.lab.host.machine.memory.keyed.ownerOf(td.files[0]!.page(gpa / 4096)!)).not.toBe(0);
});

test('shared_mem: guest and host write the same page', async () => {
  td.vm.mm.write(td.shared + 0x4000, Uint8Array.of(0x78, 0x56, 0x34, 0x12));
  const { values, other } = await program(
    `
    mov rbx, ${0x80_0000_0000n + BigInt(SHARED) + 0x4000n}
    mov eax, [rbx]
    mov dword [rbx], 0xabcdcafe
    mov [rbp], eax`,
    (lab) => lab.vm.mm.write(lab.shared + 0x4000, Uint8Array.of(0x78, 0x56, 0x34, 0x12)),
  );
  expect(values[0]).toBe(0x1234_5678);
  expect(other.vm.mm.read(other.shared + 0x4000, 4)).toEqual(Uint8Array.of(0xfe, 0xca, 0xcd, 0xab));
  other.close();
});

/** A TD that runs some code, whose results it leaves at RBP in shared memory, and halts; its 32-bit results. */
async function program(
  code: string,
  before: (lab: TdLab) => void = () => {},
): Promise<{ values: number[]; other: TdLab }> {
  const other = new TdLab(
    {
      code: `
        bits 64
        org 0x10000
        mov rbp, ${0x80_0000_0000n + BigInt(SHARED)}
        ${code}
        xor eax, eax
        mov ecx, 0xfc00
        xor r10d, r10d
        mov r11d, 30
        mov r12d, 1
        mov r13d, 1
        mov r14d, 0x80
        tdcall
      `,
    },
    td.lab,
  );
  before(other);
  await other.ready();
  const bytes = other.vm.mm.read(other.shared, 64)!;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return { values: Array.from({ length: 16 }, (_, i) => view.getUint32(4 * i, true)), other };
}
