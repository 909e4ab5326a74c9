/** Protection keys for user pages: the instructions, and what PKRU denies. */
import { describe, expect, it, test } from 'vitest';
import { cpuid } from '../cpuid/cpuid.ts';
import { RAX, RBX, RCX, RDX, RSI } from '../engine/layout.ts';
import { loadLinear, storeLinear } from '../mmu/access.ts';
import { writePkru } from '../mmu/invalidate.ts';
import { flushTlb, tlbContextChanged } from '../mmu/tlb.ts';
import { DONE, FAULT, GP, PF, UD } from '../outcome.ts';
import { setCpl } from '../processor/rip.ts';
import { CODE, Lab, type LabMode, SEL } from '../processor/testing/lab.ts';
import { CR0_WP, CR4_OSXSAVE, CR4_PAE, CR4_PKE, CR4_SMAP, EFER_LMA, EFER_LME } from '../processor.ts';
import { runProcessor, STOP } from '../run.ts';

const RDPKRU = '0f 01 ee';
const WRPKRU = '0f 01 ef';
/** The lab's page directory; its entry for the page of 2 MiB at PAGE. */
const DIRECTORY = 0x22000;
const PAGE = 0x60_0000n;
const KEY = 5;
const PRESENT = 0x81n;
const WRITABLE = 2n;
const USER = 4n;
const ACCESS_DISABLE = 1 << (2 * KEY);
const WRITE_DISABLE = 2 << (2 * KEY);

/** A lab whose page at PAGE has the key. */
function lab(mode: LabMode, cpl: 0 | 3, rights = WRITABLE | USER): Lab {
  const l = new Lab(mode, cpl);
  const entry = PAGE | PRESENT | rights | (BigInt(KEY) << 59n);
  l.machine.memory.write64(DIRECTORY + Number(PAGE >> 21n) * 8, entry);
  l.p.cr0 |= CR0_WP;
  l.p.cr4 |= CR4_PKE;
  flushTlb(l.p, { global: true });
  tlbContextChanged(l.p);
  return l;
}

describe('RDPKRU and WRPKRU', () => {
  it.each(['long', 'compat', 'protected'] as LabMode[])('move PKRU at any level in %s mode', (mode) => {
    for (const cpl of [0, 3] as const) {
      const l = lab(mode, cpl);
      const { p } = l;
      p.setGpr(RAX, 0xffff_ffff_1234_5678n);
      p.setGpr(RCX, 0xffff_ffff_0000_0000n);
      p.setGpr(RDX, 0xffff_ffff_0000_0000n);
      expect(l.run(WRPKRU).outcome).toBe(DONE);
      expect(p.pkru).toBe(0x1234_5678);
      p.setGpr(RAX, ~0n & 0xffff_ffff_ffff_ffffn);
      expect(l.run(RDPKRU).outcome).toBe(DONE);
      expect([p.gpr(RAX), p.gpr(RDX)]).toEqual([0x1234_5678n, 0n]);
    }
  });

  it('are #UD without CR4.PKE, before ECX is looked at', () => {
    for (const code of [RDPKRU, WRPKRU]) {
      const l = new Lab('long', 3);
      l.p.setGpr(RCX, 1n);
      expect(l.run(code)).toEqual({ outcome: FAULT, vector: UD, errorCode: -1 });
    }
  });

  test.each([
    [RDPKRU, 1n, 0n, GP],
    [RDPKRU, 0n, 1n, -1],
    [WRPKRU, 1n, 0n, GP],
    [WRPKRU, 0n, 1n, GP],
  ])('%s with ECX %i and EDX %i', (code, ecx, edx, vector) => {
    const l = lab('long', 3);
    l.p.setGpr(RCX, ecx);
    l.p.setGpr(RDX, edx);
    expect(l.run(code).vector).toBe(vector);
    expect(l.p.pkru).toBe(0);
  });

  it('CPUID says OSPKE as CR4.PKE is', () => {
    const { p } = lab('long', 0);
    expect(cpuid(p, 7, 0).ecx & 0x18).toBe(0x18);
    p.cr4 &= ~CR4_PKE;
    expect(cpuid(p, 7, 0).ecx & 0x18).toBe(0x8);
  });
});

/** The error code of the page fault of an access, or -1. */
function access(l: Lab, write: boolean, implicit = false): number {
  const { p } = l;
  const done = write ? storeLinear(p, PAGE, 4, 1n, implicit) === DONE : loadLinear(p, PAGE, 4, implicit) !== undefined;
  if (done) return -1;
  expect([p.fault.vector, p.fault.address]).toEqual([PF, PAGE]);
  return p.fault.errorCode;
}

// The error codes of user accesses are those that a processor with protection keys gave (mprotect, pkey_mprotect).
describe('PKRU denies', () => {
  test.each<[string, number, bigint, number, number]>([
    ['nothing', 0, WRITABLE | USER, -1, -1],
    ['nothing of a read-only page but what the page does', 0, USER, -1, 0x7],
    ['access', ACCESS_DISABLE, WRITABLE | USER, 0x25, 0x27],
    ['access to a read-only page', ACCESS_DISABLE, USER, 0x25, 0x27],
    ['writes', WRITE_DISABLE, WRITABLE | USER, -1, 0x27],
    ['writes to a read-only page', WRITE_DISABLE, USER, -1, 0x27],
    ['both', ACCESS_DISABLE | WRITE_DISABLE, WRITABLE | USER, 0x25, 0x27],
    ['other keys', ~(ACCESS_DISABLE | WRITE_DISABLE), WRITABLE | USER, -1, -1],
    ['nothing of a supervisor page', -1 & ~3, WRITABLE, 0x5, 0x7],
  ])('a user: %s', (_name, pkru, rights, read, write) => {
    const l = lab('long', 3, rights);
    writePkru(l.p, pkru);
    expect([access(l, false), access(l, true)]).toEqual([read, write]);
    expect([access(l, true), access(l, false)]).toEqual([write, read]);
  });

  test.each<[string, number, (l: Lab) => void, number, number]>([
    ['access', ACCESS_DISABLE, () => {}, 0x21, 0x23],
    ['writes with CR0.WP', WRITE_DISABLE, () => {}, -1, 0x23],
    ['no writes without CR0.WP', WRITE_DISABLE, (l) => (l.p.cr0 &= ~CR0_WP), -1, -1],
    ['access without CR0.WP too', ACCESS_DISABLE, (l) => (l.p.cr0 &= ~CR0_WP), 0x21, 0x23],
    ['what SMAP does, and says so', WRITE_DISABLE, (l) => (l.p.cr4 |= CR4_SMAP), 0x1, 0x23],
    ['nothing without CR4.PKE', ACCESS_DISABLE, (l) => (l.p.cr4 &= ~CR4_PKE), -1, -1],
  ])('a supervisor: %s', (_name, pkru, change, read, write) => {
    const l = lab('long', 0);
    change(l);
    tlbContextChanged(l.p);
    writePkru(l.p, pkru);
    expect([access(l, false), access(l, true)]).toEqual([read, write]);
  });

  it('an implicit supervisor access of a user, and compatibility mode', () => {
    const l = lab('long', 3);
    writePkru(l.p, ACCESS_DISABLE);
    expect([access(l, false, true), access(l, true, true)]).toEqual([0x21, 0x23]);
    const compat = lab('compat', 3);
    writePkru(compat.p, WRITE_DISABLE);
    expect([access(compat, false), access(compat, true)]).toEqual([-1, 0x27]);
  });

  it('no fetches', () => {
    const l = lab('long', 0);
    l.machine.memory.write8(Number(PAGE), 0xf4);
    writePkru(l.p, ACCESS_DISABLE);
    l.p.rip = PAGE;
    expect(runProcessor(l.p, l.machine.clock.now() + 100)).toBe(STOP.idle);
  });

  it('nothing under PAE paging', () => {
    const l = lab('protected', 3);
    const { p, machine } = l;
    p.pdpte[0] = BigInt(DIRECTORY) | 1n;
    machine.memory.write64(DIRECTORY + Number(PAGE >> 21n) * 8, PAGE | PRESENT | WRITABLE | USER);
    p.cr0 = (p.cr0 | 0x8000_0000) >>> 0;
    p.cr4 |= CR4_PAE;
    p.efer &= ~(EFER_LME | EFER_LMA);
    tlbContextChanged(p);
    writePkru(p, -1);
    expect([access(l, false), access(l, true)]).toEqual([-1, -1]);
  });
});

describe('a change of PKRU', () => {
  it('counts for the next access, whatever was cached, in every privilege class', () => {
    const l = lab('long', 3);
    const { p } = l;
    for (const cpl of [3, 0]) {
      setCpl(p, cpl);
      const user = cpl === 3 ? 4 : 0;
      writePkru(p, 0);
      expect([access(l, false), access(l, true)]).toEqual([-1, -1]);
      writePkru(p, WRITE_DISABLE);
      expect([access(l, false), access(l, true)]).toEqual([-1, 0x23 | user]);
      writePkru(p, ACCESS_DISABLE);
      expect([access(l, false), access(l, true)]).toEqual([0x21 | user, 0x23 | user]);
      writePkru(p, 0);
    }
  });

  it('in running code: each WRPKRU opens and closes the page, also when the loop is translated', () => {
    const l = lab('long', 3);
    const { p } = l;
    l.idt(PF, { selector: SEL.code64, offset: 0xa000n, type: 14 });
    // inc esi; add qword [rsp+8], 2 (skips the access); add rsp, 8; iretq
    const handler = 'ff c6 48 83 44 24 08 02 48 83 c4 08 48 cf';
    // loop: xor eax, eax; wrpkru; mov [rdi], ebx; mov eax, KEY; wrpkru; mov [rdi], ebx; dec ebp; jnz loop; ud2
    const disable = ACCESS_DISABLE.toString(16).padStart(8, '0').match(/../g)!.reverse().join(' ');
    const code = `31 c0 0f 01 ef 89 1f b8 ${disable} 0f 01 ef 89 1f ff cd 75 e9 0f 0b`;
    const put = (at: number, hex: string): void =>
      l.machine.memory.writeBytes(
        at,
        Uint8Array.from(hex.split(' '), (byte) => Number.parseInt(byte, 16)),
      );
    put(0xa000, handler);
    put(CODE, code);
    l.idt(UD, { selector: SEL.code64, offset: 0xa100n, type: 14 });
    put(0xa100, 'f4');
    p.setGpr(7, PAGE);
    p.setGpr(RBX, 7n);
    p.setGpr(RCX, 0n);
    p.setGpr(RDX, 0n);
    p.setGpr(RSI, 0n);
    p.setGpr(5, 3000n);
    expect(runProcessor(p, l.machine.clock.now() + 1_000_000)).toBe(STOP.idle);
    expect(p.gpr(RSI)).toBe(3000n);
    expect(l.machine.memory.read32(Number(PAGE))).toBe(7);
  });

  it('by XRSTOR, which puts it into its initial state where the area has none', () => {
    const l = lab('long', 3);
    const { p } = l;
    p.cr4 |= CR4_OSXSAVE;
    p.xcr0 = 0x203n;
    l.machine.memory.write64(0x9000 + 512, 0x200n);
    l.machine.memory.write64(0x9000 + 2688, 0xffff_ffff_0000_0000n | BigInt(ACCESS_DISABLE));
    p.setGpr(RCX, 0x9000n);
    p.setGpr(RAX, 0x200n);
    p.setGpr(RDX, 0n);
    expect(access(l, false)).toBe(-1);
    expect(l.run('0f ae 29').outcome).toBe(DONE);
    expect([p.pkru, access(l, false)]).toEqual([ACCESS_DISABLE, 0x25]);
    l.machine.memory.write64(0x9000 + 512, 0n);
    expect(l.run('0f ae 29').outcome).toBe(DONE);
    expect([p.pkru, access(l, false)]).toEqual([0, -1]);
  });
});
