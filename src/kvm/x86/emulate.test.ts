import { describe, expect, test } from 'vitest';
import { EINTR } from '../../host/errno.ts';
import { bytesOf, CODE, GuestLab, MMIO, ok, RAM_SIZE } from './testing/guest_lab.ts';

const HLT = 'f4';
const RDI = { rdi: BigInt(MMIO) };

/** Runs code and HLT with RDI at the MMIO address; gives exits and guest. */
async function run(
  code: string,
  { regs = {}, answers = [] as string[], mode = 64 as 64 | 16, irqchip = false } = {},
): Promise<{ seen: string[]; lab: GuestLab }> {
  const lab = new GuestLab(code + HLT, { mode, irqchip });
  lab.setRegs({ ...RDI, ...regs });
  lab.answers.push(...answers.map(bytesOf));
  return { seen: await lab.run(), lab };
}

describe('MMIO that user space serves', () => {
  test('a store is one exit, and RIP is past it', async () => {
    const { seen, lab } = await run('89 07', { regs: { rax: 0x1122_3344n } });
    expect(seen).toEqual(['write 20000000/4 44332211']);
    expect(ok(lab.vcpu.getRegs()).rip).toBe(BigInt(CODE + 3));
  });
  test('a load of 32 bits clears the upper half', async () => {
    const { seen, lab } = await run('8b 07', { regs: { rax: ~0n & 0xffff_ffff_ffff_ffffn }, answers: ['78563412'] });
    expect(seen).toEqual(['read 20000000/4']);
    expect(ok(lab.vcpu.getRegs()).rax).toBe(0x1234_5678n);
  });
  test('a load of 8 or 16 bits keeps the rest', async () => {
    const { seen, lab } = await run('8a 07 66 8b 5f 02', {
      regs: { rax: 0x1111_1111_1111n, rbx: 0x2222_2222_2222n },
      answers: ['ab', 'cdef'],
    });
    expect(seen).toEqual(['read 20000000/1', 'read 20000002/2']);
    expect([ok(lab.vcpu.getRegs()).rax, ok(lab.vcpu.getRegs()).rbx]).toEqual([0x1111_1111_11abn, 0x2222_2222_efcdn]);
  });
  test('MOVZX and MOVSX', async () => {
    const { lab } = await run('0f b6 07 48 0f be 1f', { answers: ['80', '80'] });
    expect([ok(lab.vcpu.getRegs()).rax, ok(lab.vcpu.getRegs()).rbx]).toEqual([0x80n, 0xffff_ffff_ffff_ff80n]);
  });
  test('a read-modify-write reads once, writes once, and sets flags', async () => {
    const { seen, lab } = await run('81 27 0f 00 00 00', { answers: ['f0000000'] });
    expect(seen).toEqual(['read 20000000/4', 'write 20000000/4 00000000']);
    expect(ok(lab.vcpu.getRegs()).rflags & 0x40n).toBe(0x40n);
  });
  test('a comparison only reads; the branch after it sees the flags', async () => {
    const { seen, lab } = await run('83 3f 07 75 05 b8 01 00 00 00', { answers: ['07000000'] });
    expect(seen).toEqual(['read 20000000/4']);
    expect(ok(lab.vcpu.getRegs()).rax).toBe(1n);
  });
  test('XCHG swaps register and device', async () => {
    const { seen, lab } = await run('87 07', { regs: { rax: 5n }, answers: ['09000000'] });
    expect(seen).toEqual(['read 20000000/4', 'write 20000000/4 05000000']);
    expect(ok(lab.vcpu.getRegs()).rax).toBe(9n);
  });
  test('a 64-bit store is one exit of 8 bytes', async () => {
    const { seen } = await run('48 c7 07 ff ff ff ff');
    expect(seen).toEqual(['write 20000000/8 ffffffffffffffff']);
  });
  test('16 bytes of an XMM register are two exits each way', async () => {
    const { seen } = await run('f3 0f 6f 07 f3 0f 7f 47 10', { answers: ['0102030405060708', '1112131415161718'] });
    expect(seen).toEqual([
      'read 20000000/8',
      'read 20000008/8',
      'write 20000010/8 0102030405060708',
      'write 20000018/8 1112131415161718',
    ]);
  });
  test('32 bytes of a YMM register are four', async () => {
    // CR4.OSXSAVE, XCR0 = 7, VMOVDQU ymm0, [rdi], VMOVDQU [rdi + 32], ymm0
    const enable = '0f 20 e0 48 0d 00 00 04 00 0f 22 e0 31 c9 31 d2 b8 07 00 00 00 0f 01 d1';
    const answers = ['0102030405060708', '1112131415161718', '2122232425262728', '3132333435363738'];
    const { seen } = await run(`${enable} c5 fe 6f 07 c5 fe 7f 47 20`, { answers });
    expect(seen).toEqual([
      'read 20000000/8',
      'read 20000008/8',
      'read 20000010/8',
      'read 20000018/8',
      ...answers.map((bytes, i) => `write ${(0x2000_0020 + i * 8).toString(16)}/8 ${bytes}`),
    ]);
  });
  test('a store across the end of RAM writes both', async () => {
    const { seen, lab } = await run('48 89 07', {
      regs: { rax: 0x8877_6655_4433_2211n, rdi: BigInt(RAM_SIZE - 4) },
    });
    expect(seen).toEqual(['write 100000/4 55667788']);
    expect(lab.read(RAM_SIZE - 4, 4)).toBe('11223344');
  });
  test('a load across the end of RAM joins both', async () => {
    const lab = new GuestLab(`48 8b 07 ${HLT}`);
    lab.write(RAM_SIZE - 4, bytesOf('11223344'));
    lab.setRegs({ rdi: BigInt(RAM_SIZE - 4) });
    lab.answers.push(bytesOf('55667788'));
    expect(await lab.run()).toEqual(['read 100000/4']);
    expect(ok(lab.vcpu.getRegs()).rax).toBe(0x8877_6655_4433_2211n);
  });
  test('PUSH from a device and POP to one', async () => {
    const { seen, lab } = await run('ff 37 8f 47 08', { answers: ['0102030405060708'] });
    expect(seen).toEqual(['read 20000000/8', 'write 20000008/8 0102030405060708']);
    expect(ok(lab.vcpu.getRegs()).rsp).toBe(0x8000n);
  });
  test('real mode: through a segment', async () => {
    const { seen } = await run('67 26 c6 07 5a', { mode: 16, regs: { rdi: 0xff00n } });
    expect(seen).toEqual([]);
    const far = await run('b8 00 a0 8e c0 26 c6 06 34 12 5a', { mode: 16 });
    // A000:1234 is RAM in this VM, so nothing exits; the next one is beyond it.
    expect(far.seen).toEqual([]);
    expect(far.lab.read(0xa1234, 1)).toBe('5a');
    const beyond = await run('b8 ff ff 8e c0 26 c6 06 34 12 5a', { mode: 16 });
    expect(beyond.seen).toEqual(['write 101224/1 5a']);
  });
});

describe('strings', () => {
  test('REP MOVS from a device to RAM', async () => {
    const { seen, lab } = await run('f3 a5', {
      regs: { rsi: BigInt(MMIO), rdi: 0x9000n, rcx: 3n },
      answers: ['01000000', '02000000', '03000000'],
    });
    expect(seen).toEqual(['read 20000000/4', 'read 20000004/4', 'read 20000008/4']);
    expect(lab.read(0x9000, 12)).toBe('010000000200000003000000');
    const { rcx, rsi, rdi } = ok(lab.vcpu.getRegs());
    expect([rcx, rsi, rdi]).toEqual([0n, BigInt(MMIO + 12), 0x900cn]);
  });
  test('REP STOS to a device, downwards', async () => {
    const { seen, lab } = await run('fd f3 aa', { regs: { rax: 0x77n, rcx: 2n } });
    expect(seen).toEqual(['write 20000000/1 77', 'write 1fffffff/1 77']);
    expect(ok(lab.vcpu.getRegs()).rdi).toBe(BigInt(MMIO - 2));
  });
  test('REPNE SCAS ends at the match', async () => {
    const { seen, lab } = await run('f2 ae', { regs: { rax: 2n, rcx: 5n }, answers: ['01', '02', '03'] });
    expect(seen).toEqual(['read 20000000/1', 'read 20000001/1']);
    expect(ok(lab.vcpu.getRegs()).rcx).toBe(3n);
  });
  test('REP with rCX = 0 does nothing', async () => {
    const { seen } = await run('f3 aa', { regs: { rcx: 0n } });
    expect(seen).toEqual([]);
  });
  test('REP OUTSB gives the port every byte', async () => {
    const lab = new GuestLab(`f3 6e ${HLT}`);
    lab.write(0x9000, bytesOf('68 69'));
    lab.setRegs({ rsi: 0x9000n, rcx: 2n, rdx: 0x3f8n });
    expect(await lab.run()).toEqual(['out 3f8/1 68', 'out 3f8/1 69']);
    expect(ok(lab.vcpu.getRegs()).rsi).toBe(0x9002n);
  });
  test('REP INSW takes words', async () => {
    const { seen, lab } = await run('66 f3 6d', {
      regs: { rdi: 0x9000n, rcx: 2n, rdx: 0x1f0n },
      answers: ['1122', '3344'],
    });
    expect(seen).toEqual(['in 1f0/2', 'in 1f0/2']);
    expect(lab.read(0x9000, 4)).toBe('11223344');
    expect(ok(lab.vcpu.getRegs()).rdi).toBe(0x9004n);
  });
});

describe('around the instruction', () => {
  test('a pending read is completed even if KVM_RUN shall not run', async () => {
    const lab = new GuestLab(`8b 07 ${HLT}`);
    lab.setRegs(RDI);
    const exit = await lab.vcpu.run();
    expect(typeof exit !== 'number' && exit.kind).toBe('mmio');
    lab.vcpu.kvmRun.mmio.data.set(bytesOf('2a000000'));
    lab.vcpu.kvmRun.immediateExit = true;
    expect(await lab.vcpu.run()).toBe(-EINTR);
    expect(ok(lab.vcpu.getRegs()).rax).toBe(42n);
    expect(ok(lab.vcpu.getRegs()).rip).toBe(BigInt(CODE + 2));
  });
  test('an instruction that lies across two pages is fetched whole', async () => {
    const lab = new GuestLab('f4');
    lab.write(0x1_0ffd, bytesOf(`c7 07 44 33 22 11 ${HLT}`));
    lab.setRegs({ ...RDI, rip: 0x1_0ffdn });
    expect(await lab.run()).toEqual(['write 20000000/4 44332211']);
  });
  test('a page fault of the other operand is the guest’s', async () => {
    // The handler of #PF shows CR2 and the error code.
    const lab = new GuestLab('48 a5');
    lab.write(0x1_1000, bytesOf(`0f 20 d0 48 c1 e8 20 e7 80 58 e7 81 ${HLT}`));
    lab.write(0x3008, bytesOf('ff ff 00 00 00 9b af 00'));
    lab.write(0x4000 + 14 * 16, bytesOf('00 10 08 00 00 8e 01 00 00 00 00 00 00 00 00 00'));
    const sregs = ok(lab.vcpu.getSregs());
    lab.vcpu.setSregs({ ...sregs, gdt: { base: 0x3000n, limit: 0x17 }, idt: { base: 0x4000n, limit: 0xfff } });
    lab.setRegs({ rsi: BigInt(MMIO), rdi: 5n << 32n });
    expect(await lab.run()).toEqual(['read 20000000/8', 'out 80/4 05000000', 'out 81/4 02000000']);
    expect(ok(lab.vcpu.getRegs()).rsi).toBe(BigInt(MMIO));
  });
  test('what cannot be emulated is an internal error with the bytes', async () => {
    const { seen, lab } = await run('0f ae 07');
    expect(seen).toEqual(['internal-error']);
    const { internal } = lab.vcpu.kvmRun;
    expect([internal.suberror, internal.data[1]! & 0xff_ffffn]).toEqual([1, 0x07_ae0fn]);
  });
});

describe('MMIO in the kernel', () => {
  test('the local APIC’s page and the IOAPIC need no exit', async () => {
    // The version of the APIC, then that of the IOAPIC, to a port.
    const code = `
      bf 30 00 e0 fe 8b 07 e7 80
      bf 00 00 c0 fe c7 07 01 00 00 00 8b 47 10 e7 80`;
    const lab = new GuestLab(code, { irqchip: true });
    expect(await lab.run(2)).toEqual(['out 80/4 14000500', 'out 80/4 11001700']);
    expect(lab.vcpu.vcpu.stat.mmio_exits).toBe(0);
  });
});
