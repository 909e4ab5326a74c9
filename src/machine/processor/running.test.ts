/** Events met by running code: the run loop, the engine and event delivery together. */
import { describe, expect, it } from 'vitest';
import { LSTAR, RAX, RBX, RCX, RSP, STAR } from '../engine/layout.ts';
import { DB, PF, UD } from '../outcome.ts';
import { FLAG_IF, FLAG_RF, FLAG_TF, HLT } from '../processor.ts';
import { runProcessor, STOP } from '../run.ts';
import { privilegeChanged } from './rip.ts';
import { CODE, DATA, Lab, type LabMode, SEL } from './testing/lab.ts';

const HANDLER = 0xa000;
const IRETQ = '48 cf';
const HALT = 'f4';

function bytes(lab: Lab, at: number, hex: string): void {
  lab.machine.memory.writeBytes(
    at,
    Uint8Array.from(hex.split(' '), (byte) => Number.parseInt(byte, 16)),
  );
}

/** Runs `code` at CODE until the processor halts; `handlers` are code at HANDLER + vector * 0x20. */
function run(lab: Lab, code: string, handlers: Record<number, string> = {}): void {
  bytes(lab, CODE, code);
  for (const [vector, text] of Object.entries(handlers)) {
    const offset = HANDLER + Number(vector) * 0x20;
    const selector = lab.p.longMode ? SEL.code64 : SEL.code32;
    lab.idt(Number(vector), { selector, offset: BigInt(offset), type: 14, dpl: 3 });
    bytes(lab, offset, text);
  }
  expect(runProcessor(lab.p, lab.machine.clock.now() + 10_000)).toBe(STOP.idle);
  expect(lab.p.activity).toBe(HLT);
}

describe.each(['long', 'protected'] as LabMode[])('in %s mode', (mode) => {
  const iret = mode === 'long' ? IRETQ : 'cf';

  it('INT n reaches its handler and IRET comes back', () => {
    const lab = new Lab(mode);
    // int 0x20; inc eax; hlt
    run(lab, `cd 20 ff c0 ${HALT}`, { 32: `ff c3 ${iret}` });
    expect([lab.p.gpr(RAX), lab.p.gpr(RBX)]).toEqual([1n, 1n]);
  });

  it('single-stepping traps behind every instruction', () => {
    const lab = new Lab(mode);
    lab.p.rflags |= FLAG_TF;
    // inc eax; inc eax; inc eax; hlt  — the handler counts in ebx and clears TF in its frame after the third
    const flags = mode === 'long' ? '80 64 24 11 fe' : '80 64 24 09 fe';
    run(lab, `ff c0 ff c0 ff c0 ${HALT}`, { [DB]: `ff c3 83 fb 03 75 05 ${flags} ${iret}` });
    expect([lab.p.gpr(RAX), lab.p.gpr(RBX)]).toEqual([3n, 3n]);
    expect(lab.p.dr6).toBe(0xffff4ff0);
  });

  it('an instruction breakpoint stops once per execution, thanks to RF', () => {
    const lab = new Lab(mode);
    lab.p.dr[0] = BigInt(CODE + 2);
    lab.p.dr7 = 0x402;
    // inc eax; inc eax; inc eax; hlt — the handler counts and sets RF in its frame
    const flags = mode === 'long' ? '80 4c 24 12 01' : '80 4c 24 0a 01';
    run(lab, `ff c0 ff c0 ff c0 ${HALT}`, { [DB]: `ff c3 ${flags} ${iret}` });
    expect([lab.p.gpr(RAX), lab.p.gpr(RBX)]).toEqual([3n, 1n]);
    expect(lab.p.dr6 & 15).toBe(1);
    expect(lab.p.rflags & FLAG_RF).toBe(0);
  });

  it('a data breakpoint traps behind the store', () => {
    const lab = new Lab(mode);
    lab.p.dr[1] = BigInt(DATA + 4);
    lab.p.dr7 = 0x400 | 8 | (1 << 20) | (3 << 22);
    lab.p.setGpr(RBX, BigInt(DATA));
    privilegeChanged(lab.p);
    // mov [rbx], eax; mov eax, [rbx+4]; mov [rbx+4], eax; inc ecx; hlt — the handler copies ecx
    run(lab, `89 03 8b 43 04 89 43 04 ff c1 ${HALT}`, { [DB]: `89 ca ff c6 ${iret}` });
    expect([lab.p.gpr(RCX), lab.p.gpr(2), lab.p.gpr(6)]).toEqual([1n, 0n, 1n]);
    expect(lab.p.dr6 & 15).toBe(2);
  });

  it('undefined opcodes raise #UD with the address of the instruction', () => {
    const lab = new Lab(mode);
    const skip = mode === 'long' ? '48 83 04 24 02' : '83 04 24 02';
    run(lab, `0f 0b ff c0 ${HALT}`, { [UD]: `ff c3 ${skip} ${iret}` });
    expect([lab.p.gpr(RAX), lab.p.gpr(RBX)]).toEqual([1n, 1n]);
  });
});

describe('in 64-bit mode', () => {
  it('a page fault can be repaired and the instruction restarted', () => {
    const lab = new Lab('long');
    const entry = 0x22000 + 7 * 8;
    const { memory } = lab.machine;
    memory.write64(entry, 0n);
    // mov rax, [0xe00000 + rbx]; hlt — the handler maps the page and notes CR2 in rcx
    const map = '48 c7 04 25 38 20 02 00 e7 00 e0 00';
    memory.write64(0xe0_0000, 0x1122_3344_5566_7788n);
    run(lab, `48 8b 83 00 00 e0 00 ${HALT}`, { [PF]: `58 0f 20 d1 ${map} ${IRETQ}` });
    expect(lab.p.gpr(RAX)).toBe(0x1122_3344_5566_7788n);
    expect(lab.p.gpr(RCX)).toBe(0xe0_0000n);
  });

  it.each([
    ['CLFLUSH', '0f ae bb'],
    ['CLFLUSHOPT', '66 0f ae bb'],
    ['CLWB', '66 0f ae b3'],
  ])('%s faults as a read of the byte does, and else does nothing', (_name, code) => {
    const lab = new Lab('long');
    lab.machine.memory.write64(0x22000 + 7 * 8, 0n);
    const map = '48 c7 04 25 38 20 02 00 e7 00 e0 00';
    // The handler pops the error code into rax.
    run(lab, `${code} 00 00 e0 00 ${HALT}`, { [PF]: `58 0f 20 d1 ${map} ${IRETQ}` });
    expect([lab.p.gpr(RAX), lab.p.gpr(RCX)]).toEqual([0n, 0xe0_0000n]);
  });

  it('SYSCALL and SYSRET go to level 0 and back', () => {
    const lab = new Lab('long', 3);
    lab.p.write64(STAR, (0x18n << 48n) | (0x28n << 32n));
    lab.p.write64(LSTAR, 0xb000n);
    // The table of STAR wants stack segments behind the code segments.
    lab.gdt(0x30, { type: 0x13 });
    bytes(lab, 0xb000, 'ff c3 48 0f 07');
    // syscall; inc eax; int 0x20, whose handler halts
    run(lab, '0f 05 ff c0 cd 20', { 32: HALT });
    expect([lab.p.gpr(RAX), lab.p.gpr(RBX)]).toEqual([1n, 1n]);
  });

  it('STI; HLT sleeps before the interrupt is taken, and the handler returns behind HLT', () => {
    const lab = new Lab('long');
    lab.p.apic.mmioWrite(0xf0, 4, 0x1ff);
    lab.p.apic.accept(0, 0x51, false);
    // sti; hlt; inc eax; cli; hlt
    run(lab, `fb ${HALT} ff c0 fa ${HALT}`, { 81: `48 8b 0c 24 ${IRETQ}` });
    expect(lab.p.gpr(RAX)).toBe(1n);
    expect(lab.p.gpr(RCX)).toBe(BigInt(CODE + 2));
  });

  it('an interrupt that arrives while IF is clear is taken after the STI shadow', () => {
    const lab = new Lab('long');
    lab.p.apic.mmioWrite(0xf0, 4, 0x1ff);
    lab.p.apic.accept(0, 0x51, false);
    // inc eax; sti; inc eax; inc eax; cli; hlt
    run(lab, `ff c0 fb ff c0 ff c0 fa ${HALT}`, { 81: `89 c3 ${IRETQ}` });
    expect(lab.p.gpr(RBX)).toBe(2n);
    expect(lab.p.rflags & FLAG_IF).toBe(0);
  });

  it('POPF that sets IF has no shadow', () => {
    const lab = new Lab('long');
    lab.p.apic.mmioWrite(0xf0, 4, 0x1ff);
    lab.p.apic.accept(0, 0x51, false);
    // push 0x202; popf; inc eax; cli; hlt
    run(lab, `68 02 02 00 00 9d ff c0 fa ${HALT}`, { 81: `8d 58 01 ${IRETQ}` });
    expect(lab.p.gpr(RBX)).toBe(1n);
    expect(lab.p.gpr(RSP)).toBe(0x10000n);
  });
});
