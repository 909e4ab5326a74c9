import { describe, expect, test } from 'vitest';
import { RAX, RBX, RCX, RDX } from '../engine/layout.ts';
import { plainSegment, plainTable } from '../processor.ts';
import { SECONDARY } from '../vtx/controls.ts';
import { encodingByName } from '../vtx/fields.ts';
import { VM_FAIL_VALID, VM_SUCCEED } from '../vtx/operation.ts';
import { REASON } from '../vtx/reasons.ts';
import { Vmcs } from '../vtx/vmcs.ts';
import { withKeyId } from './key-id.ts';
import { flushTd, runTd } from './td-run.ts';
import {
  BITMAP_PAGE,
  CODE,
  HKID,
  PRIVATE_BASE,
  SHARED_BASE,
  SHARED_BIT,
  SHARED_LINEAR,
  TABLES,
  TestTd,
  VE_PAGE,
  VMCS_PAGE,
} from './test-td.ts';

const MACHINE_CHECK = 0x8000_0312n;
const INVALID_GUEST = 0x8000_0021n;
const SUPPRESS_VE = 1n << 63n;

/** Runs to the next exit and gives its basic reason. */
function run(td: TestTd): number {
  expect(runTd(td.p, td.vmcs)).toBe(VM_SUCCEED);
  return Number(td.get('EXIT_REASON'));
}

describe('a TD', () => {
  test('runs in its private memory, and TDCALL comes back with its registers', () => {
    const td = new TestTd().load(`
      mov rbx, 0x1122334455667788
      mov [0x5000], rbx
      mov rax, 7
      tdcall
      add rax, [0x5000]
      tdcall`);
    expect(run(td)).toBe(REASON.TDCALL);
    expect([td.p.gpr(RAX), td.p.gpr(RBX)]).toEqual([7n, 0x1122_3344_5566_7788n]);
    expect([td.get('EXIT_INSTRUCTION_LENGTH'), td.get('GUEST_RSP')]).toEqual([4n, 0x8000n]);
    expect(td.peek64(0x5000)).toBe(0x1122_3344_5566_7788n);
    expect(td.machine.memory.read64(PRIVATE_BASE + 0x5000)).toBe(0n);
    td.p.setGpr(RAX, 1n);
    td.advance();
    expect(run(td)).toBe(REASON.TDCALL);
    expect(td.p.gpr(RAX)).toBe(0x1122_3344_5566_7789n);
  });

  test('reaches shared memory, which is the host’s', () => {
    const td = new TestTd().load(`
      mov rbx, ${SHARED_LINEAR}
      mov rax, [rbx + 0x1000]
      mov dword [rbx + 0x2000], 0x4321
      tdcall`);
    td.machine.memory.write64(SHARED_BASE + 0x1000, 99n);
    expect(run(td)).toBe(REASON.TDCALL);
    expect(td.p.gpr(RAX)).toBe(99n);
    expect(td.machine.memory.read32(SHARED_BASE + 0x2000)).toBe(0x4321);
  });

  test('computes the same with hot code', () => {
    const td = new TestTd().load(`
      mov ecx, 100000
      xor eax, eax
    again:
      add eax, ecx
      mov [0x5000], eax
      dec ecx
      jnz again
      tdcall`);
    expect(run(td)).toBe(REASON.TDCALL);
    expect(td.p.gpr(RAX)).toBe(BigInt((100000 * 100001) / 2) & 0xffff_ffffn);
    expect(td.peek64(0x5000)).toBe(td.p.gpr(RAX));
  });

  test('exits for HLT, SEAMCALL and what else its controls and the architecture say', () => {
    const td = new TestTd().load('hlt');
    expect(run(td)).toBe(REASON.HLT);
    td.load('seamcall');
    expect(run(td)).toBe(REASON.SEAMCALL);
    td.load('cpuid');
    expect(run(td)).toBe(REASON.CPUID);
    td.load('vmcall');
    expect(run(td)).toBe(REASON.VMCALL);
  });

  test('exits for a private address without a translation, and goes on when it has one', () => {
    const td = new TestTd().load(`
      mov rax, [0x5123]
      tdcall`);
    td.unmap(0x5000, SUPPRESS_VE);
    expect(run(td)).toBe(REASON.EPT_VIOLATION);
    expect([td.get('GUEST_PHYSICAL_ADDRESS'), td.get('EXIT_QUALIFICATION') & 7n]).toEqual([0x5123n, 1n]);
    td.unmap(0x5000, BigInt(withKeyId(PRIVATE_BASE + 0x5000, HKID)) | 0xb7n);
    flushTd(td.p, td.vmcs);
    td.poke64(0x5120, 0x7700_0000n);
    expect(run(td)).toBe(REASON.TDCALL);
    expect(td.p.gpr(RAX)).toBe(0x77n);
  });

  test('exits for a shared address without a translation, with the shared bit in its address', () => {
    const td = new TestTd().load(`
      mov rbx, ${SHARED_LINEAR}
      mov [rbx + 8], rax`);
    td.unmapShared(SUPPRESS_VE);
    expect(run(td)).toBe(REASON.EPT_VIOLATION);
    expect([td.get('GUEST_PHYSICAL_ADDRESS'), td.get('EXIT_QUALIFICATION') & 7n]).toEqual([
      SHARED_BIT + BigInt(SHARED_LINEAR) + 8n,
      2n,
    ]);
  });

  test('has structures in its private memory: MSR bitmaps', () => {
    const td = new TestTd().load(`
      mov ecx, 0x174
      rdmsr
      mov ecx, 0x175
      rdmsr`);
    td.change('PRIMARY_CONTROLS', 0x1000_0000);
    td.set('MSR_BITMAP', BITMAP_PAGE);
    td.machine.memory.keyed.write8(BITMAP_PAGE + 0x175 / 8, HKID, 1 << (0x175 % 8));
    expect(run(td)).toBe(REASON.RDMSR);
    expect(td.p.gpr(RCX)).toBe(0x175n);
  });

  test('gets #VE for a shared violation that may be one, described in its private memory', () => {
    const td = new TestTd().load(`
      mov rbx, ${SHARED_LINEAR}
      mov rax, [rbx + 8]
      times 16 nop
    handler:
      mov eax, 0x76
      tdcall`);
    const handler = CODE + 0x30;
    td.machine.memory.keyed.fill(PRIVATE_BASE + handler - 32, HKID, 32, 0x90);
    td.machine.memory.keyed.writeBytes(
      PRIVATE_BASE + handler,
      HKID,
      Uint8Array.of(0xb8, 0x76, 0, 0, 0, 0x66, 0x0f, 0x01, 0xcc),
    );
    td.poke64(0x3010, 0x00af_9b00_0000_ffffn);
    td.poke64(0x4000 + 20 * 16, BigInt(handler) | (0x10n << 16n) | (0x8e00n << 32n));
    td.set('GUEST_GDTR_BASE', 0x3000);
    td.set('GUEST_GDTR_LIMIT', 0x1f);
    td.set('GUEST_IDTR_BASE', 0x4000);
    td.set('GUEST_IDTR_LIMIT', 0xfff);
    td.change('SECONDARY_CONTROLS', SECONDARY.EPT_VIOLATION_VE);
    td.unmapShared(0n);
    expect(run(td)).toBe(REASON.TDCALL);
    expect(td.p.gpr(RAX)).toBe(0x76n);
    const { keyed } = td.machine.memory;
    expect(keyed.read32(VE_PAGE, HKID)).toBe(REASON.EPT_VIOLATION);
    expect(keyed.read64(VE_PAGE + 24, HKID)).toBe(SHARED_BIT + BigInt(SHARED_LINEAR) + 8n);
    expect(keyed.ownerOf(VE_PAGE)).toBe(HKID);
  });

  test('exits for the host’s interrupts, acknowledged or not, and goes on afterwards', () => {
    const td = new TestTd().load(`
    again:
      inc rbx
      jmp again`);
    td.p.setGpr(RBX, 0n);
    td.p.apic.writeMsr(0x80f, 0x1ffn);
    td.p.apic.writeMsr(0x832, 0x40000n | 0x50n);
    td.p.apic.writeTscDeadline(1000n);
    expect(run(td)).toBe(REASON.EXTERNAL_INTERRUPT);
    expect(td.p.gpr(RBX)).toBeGreaterThan(100n);
    expect(td.p.apic.takeInterrupt()).toBe(0x50);
  });
});

describe('machine checks of a TD', () => {
  const isMachineCheck = (td: TestTd): boolean =>
    run(td) === REASON.EXCEPTION_OR_NMI && td.get('EXIT_INTERRUPTION_INFO') === MACHINE_CHECK;

  test('reading a line that the host wrote', () => {
    const td = new TestTd().load('mov rax, [0x5000]');
    td.machine.memory.write8(PRIVATE_BASE + 0x5000, 1);
    expect(isMachineCheck(td)).toBe(true);
    expect(td.get('GUEST_RIP')).toBe(BigInt(CODE));
  });

  test('writing it, running in it, and walking through it', () => {
    const written = new TestTd().load('mov [0x5000], rax');
    written.machine.memory.write8(PRIVATE_BASE + 0x5000, 1);
    expect(isMachineCheck(written)).toBe(true);
    const code = new TestTd().load('nop');
    code.machine.memory.write8(PRIVATE_BASE + CODE + 64, 1);
    expect(isMachineCheck(code)).toBe(true);
    const tables = new TestTd().load('nop');
    tables.machine.memory.write8(PRIVATE_BASE + TABLES + 8, 1);
    expect(isMachineCheck(tables)).toBe(true);
  });

  test('using a structure of its VMCS that the host wrote: at the next boundary', () => {
    const td = new TestTd().load(`
      mov ecx, 0x174
      rdmsr
      tdcall`);
    td.change('PRIMARY_CONTROLS', 0x1000_0000);
    td.set('MSR_BITMAP', BITMAP_PAGE);
    td.machine.memory.write8(BITMAP_PAGE + 0x174 / 8, 0);
    expect(isMachineCheck(td)).toBe(true);
  });

  test('an access that crosses into such a page', () => {
    const td = new TestTd().load('mov rax, [0x4ffc]');
    td.machine.memory.write8(PRIVATE_BASE + 0x5000, 1);
    expect(isMachineCheck(td)).toBe(true);
  });

  test('code that has run, in a page that the host writes meanwhile', () => {
    const td = new TestTd().load(`
    again:
      mov rax, [0x5000]
      tdcall
      jmp again`);
    for (let i = 0; i < 5; i++) {
      expect(run(td)).toBe(REASON.TDCALL);
      td.advance();
    }
    td.machine.memory.write64(PRIVATE_BASE + 0x5000, 0n);
    expect(isMachineCheck(td)).toBe(true);
  });

  test('MOVDIR64B of the TD repairs a line', () => {
    const td = new TestTd().load(`
      mov rbx, 0x5040
      movdir64b rbx, [0x6000]
      mov rax, [0x5048]
      tdcall`);
    td.poke64(0x6008, 0x99n);
    td.machine.memory.write8(PRIVATE_BASE + 0x5040, 1);
    expect(run(td)).toBe(REASON.TDCALL);
    expect(td.p.gpr(RAX)).toBe(0x99n);
  });

  test('shared memory that is not the host’s is zeros, and no machine check', () => {
    const td = new TestTd().load(`
      mov rax, [${SHARED_LINEAR} + 0x1000]
      tdcall`);
    td.machine.memory.keyed.take(SHARED_BASE + 0x1000, HKID);
    td.machine.memory.keyed.write64(SHARED_BASE + 0x1000, HKID, 5n);
    expect(run(td)).toBe(REASON.TDCALL);
    expect(td.p.gpr(RAX)).toBe(0n);
  });
});

describe('the host', () => {
  test('has everything back that VM entries and exits switch', () => {
    const td = new TestTd().load(`
      mov rax, 0x80000011
      mov rdx, 5
      tdcall`);
    const { p } = td;
    p.segments[0] = { selector: 0x2b, base: 0n, limit: 0xfffff, attributes: 0xc0f3 };
    Object.assign(p.segments[4]!, { selector: 0, base: 0x1234_5678n });
    Object.assign(p.ldtr, { selector: 0x58, base: 0x9000n, limit: 0x1f, attributes: 0x82 });
    Object.assign(p.gdtr, { base: 0xffff_8000_0000_0000n, limit: 0x7f });
    Object.assign(p.idtr, { base: 0xffff_8000_0000_1000n, limit: 0x3ff });
    p.cr3 = 0x7000n;
    p.dr7 = 0x401;
    p.rip = 0xffff_8000_1234_0000n;
    p.rflags = 0x246;
    p.setGpr(4, 0xffff_8000_5678_0000n);
    p.msrs.set(0x176, 0xffff_8000_0000_4444n);
    p.msrs.set(0x277, 0x0606_0606_0606_0606n);
    const state = (): unknown =>
      structuredClone({
        cr: [p.cr0, p.cr3, p.cr4, p.efer, p.dr7, p.cpl],
        segments: [...p.segments, p.ldtr, p.tr].map(plainSegment),
        tables: [p.gdtr, p.idtr].map(plainTable),
        flow: [p.rip, p.rflags, p.gpr(4), p.interruptShadow, p.nmiBlocked],
        msrs: [...p.msrs].sort(([a], [b]) => a - b),
        vmx: [p.vtx.operation, p.vtx.vmxonPointer, p.vtx.current === null, p.vtx.tdGuest, p.vtx.seamHkid],
        controls: [p.vtx.pin, p.vtx.primary, p.vtx.secondary, p.vtx.ept, p.vtx.vpid],
      });
    const before = state();
    expect(run(td)).toBe(REASON.TDCALL);
    expect(state()).toEqual(before);
    expect(p.gpr(RDX)).toBe(5n);
  });

  test('keeps its current VMCS, and its VM and the TD take turns', () => {
    const td = new TestTd().load(`
    again:
      inc qword [0x5000]
      tdcall
      jmp again`);
    const { p, machine } = td;
    const { memory } = machine;
    const region = 0x2000;
    memory.write32(region, memory.read32(0x1000));
    p.vtx.vmclear(region);
    p.vtx.vmptrld(region);
    const eptRoot = 0x8000;
    memory.write64(eptRoot, 0x9007n);
    memory.write64(0x9000, 0xa007n);
    memory.write64(0xa000, BigInt(0xc0_0000) | 0xb7n);
    // The VM runs the same program without secure memory: at the guest-physical addresses of the TD.
    const image = memory.keyed.readBytes(PRIVATE_BASE, HKID, 0x20000);
    memory.writeBytes(0xc0_0000, image);
    memory.writeBytes(0xc0_0000 + CODE, Uint8Array.of(0x48, 0xff, 0x04, 0x25, 0, 0x50, 0, 0, 0xf4, 0xeb, 0xf5));
    for (const name of Object.keys(GUEST_FIELDS)) {
      const field = name as keyof typeof GUEST_FIELDS;
      expect(p.vtx.vmwrite(encodingByName(field), td.get(field))).toBe(VM_SUCCEED);
    }
    const host = { HOST_CR0: p.cr0, HOST_CR3: p.cr3, HOST_CR4: p.cr4, HOST_EFER: p.efer, HOST_RIP: 0n, HOST_RSP: 0n };
    for (const [name, value] of Object.entries(host))
      expect(p.vtx.vmwrite(encodingByName(name as 'HOST_CR0'), value)).toBe(VM_SUCCEED);
    p.vtx.vmwrite(encodingByName('HOST_CS_SELECTOR'), 8);
    p.vtx.vmwrite(encodingByName('HOST_TR_SELECTOR'), 24);
    p.vtx.vmwrite(encodingByName('EPT_POINTER'), BigInt(eptRoot) | 0x1en);
    p.vtx.vmwrite(encodingByName('VPID'), 1);
    const current = p.vtx.current;
    for (let round = 0; round < 3; round++) {
      expect(run(td)).toBe(REASON.TDCALL);
      td.advance();
      expect(p.vtx.current).toBe(current);
      expect(round === 0 ? p.vtx.vmlaunch() : p.vtx.vmresume()).toBe(VM_SUCCEED);
      expect(p.vtx.vmread(encodingByName('EXIT_REASON'))).toBe(BigInt(REASON.HLT));
      p.vtx.vmwrite(encodingByName('GUEST_RIP'), BigInt(CODE) + 9n);
    }
    expect([td.peek64(0x5000), memory.read64(0xc0_5000)]).toEqual([3n, 3n]);
    // The VM's VMCS may name private KeyIDs nowhere.
    const refused = (name: 'EPT_POINTER' | 'HOST_CR3' | 'IO_BITMAP_A', value: bigint): bigint | undefined => {
      const before = p.vtx.vmread(encodingByName(name))!;
      p.vtx.vmwrite(encodingByName(name), value);
      expect(p.vtx.vmresume()).toBe(VM_FAIL_VALID);
      p.vtx.vmwrite(encodingByName(name), before);
      return p.vtx.vmread(encodingByName('INSTRUCTION_ERROR'));
    };
    expect(refused('EPT_POINTER', BigInt(withKeyId(eptRoot, HKID)) | 0x1en)).toBe(7n);
    expect(refused('HOST_CR3', BigInt(withKeyId(0, HKID)))).toBe(8n);
    p.vtx.vmwrite(encodingByName('PRIMARY_CONTROLS'), td.get('PRIMARY_CONTROLS') | 0x200_0000n);
    expect(refused('IO_BITMAP_A', BigInt(withKeyId(0xd000, HKID)))).toBe(7n);
    expect(p.vtx.vmresume()).toBe(VM_SUCCEED);
  });

  test('cannot name the fields of a TD’s VMCS, nor private KeyIDs in its own', () => {
    const { p } = new TestTd();
    const region = 0x2000;
    p.machine.memory.write32(region, p.machine.memory.read32(0x1000));
    expect(p.vtx.vmptrld(withKeyId(region, HKID))).not.toBe(VM_SUCCEED);
    p.vtx.vmptrld(region);
    for (const field of [0x203c, 0x4026]) {
      expect(p.vtx.vmread(field)).toBeUndefined();
      expect(p.vtx.vmwrite(field, 1)).toBe(VM_FAIL_VALID);
    }
    expect(p.vtx.invept(1, BigInt(withKeyId(0x8000, HKID)) | 0x1en)).not.toBe(VM_SUCCEED);
    expect(p.vtx.invept(1, 0x801en)).toBe(VM_SUCCEED);
  });
});

const GUEST_FIELDS = {
  PIN_CONTROLS: 0,
  PRIMARY_CONTROLS: 0,
  SECONDARY_CONTROLS: 0,
  EXIT_CONTROLS: 0,
  ENTRY_CONTROLS: 0,
  VMCS_LINK_POINTER: 0,
  GUEST_CR0: 0,
  GUEST_CR3: 0,
  GUEST_CR4: 0,
  GUEST_EFER: 0,
  GUEST_DR7: 0,
  GUEST_RFLAGS: 0,
  GUEST_RIP: 0,
  GUEST_RSP: 0,
  GUEST_CS_SELECTOR: 0,
  GUEST_TR_SELECTOR: 0,
  GUEST_TR_LIMIT: 0,
  GUEST_TR_ACCESS_RIGHTS: 0,
  GUEST_LDTR_ACCESS_RIGHTS: 0,
  GUEST_ES_LIMIT: 0,
  GUEST_CS_LIMIT: 0,
  GUEST_SS_LIMIT: 0,
  GUEST_DS_LIMIT: 0,
  GUEST_FS_LIMIT: 0,
  GUEST_GS_LIMIT: 0,
  GUEST_ES_ACCESS_RIGHTS: 0,
  GUEST_CS_ACCESS_RIGHTS: 0,
  GUEST_SS_ACCESS_RIGHTS: 0,
  GUEST_DS_ACCESS_RIGHTS: 0,
  GUEST_FS_ACCESS_RIGHTS: 0,
  GUEST_GS_ACCESS_RIGHTS: 0,
} as const;

describe('entry to a TD', () => {
  test.each<[string, (td: TestTd) => void]>([
    ['a KeyID that is not private', (td) => td.set('TD_HKID', 5)],
    ['no EPT', (td) => td.change('SECONDARY_CONTROLS', 0, SECONDARY.EPT | SECONDARY.UNRESTRICTED_GUEST)],
    ['another KeyID in the EPT pointer', (td) => td.set('EPT_POINTER', BigInt(withKeyId(0x10_3000, 40)) | 0x1en)],
    ['a KeyID in the shared EPT pointer', (td) => td.set('SHARED_EPT_POINTER', withKeyId(0x20_0000, HKID))],
    ['low bits in the shared EPT pointer', (td) => td.set('SHARED_EPT_POINTER', 0x20_0001)],
    [
      'an unknown tertiary control',
      (td) => {
        td.change('PRIMARY_CONTROLS', 0x2_0000);
        td.set('TERTIARY_CONTROLS', 1);
      },
    ],
    [
      'a tertiary control above bit 31',
      (td) => {
        td.change('PRIMARY_CONTROLS', 0x2_0000);
        td.set('TERTIARY_CONTROLS', 1n << 32n);
      },
    ],
    ['an EPT of three levels', (td) => td.set('EPT_POINTER', BigInt(withKeyId(0x10_3000, HKID)) | 0x16n)],
  ])('%s is VMfail 7', (_name, spoil) => {
    const td = new TestTd().load('tdcall');
    spoil(td);
    expect(runTd(td.p, td.vmcs)).toBe(VM_FAIL_VALID);
    expect(td.get('INSTRUCTION_ERROR')).toBe(7n);
    expect([td.p.vtx.operation, td.p.vtx.tdGuest]).toEqual([1, false]);
  });

  test('invalid guest state is an exit with bit 31 of the reason', () => {
    const td = new TestTd().load('tdcall');
    td.set('GUEST_RFLAGS', 0);
    expect(run(td)).toBe(Number(INVALID_GUEST));
    td.set('GUEST_RFLAGS', 2);
    expect(run(td)).toBe(REASON.TDCALL);
  });

  test('with a width of 52 bits the shared bit is bit 51', () => {
    const td = new TestTd().load(`
      mov rax, [${SHARED_LINEAR} + 8]
      tdcall`);
    const top = 0x10_7000;
    const { keyed } = td.machine.memory;
    keyed.take(top, HKID);
    keyed.write64(top, HKID, BigInt(withKeyId(0x10_3000, HKID)) | 7n);
    const sharedTop = 0x20_3000;
    // Bit 51 selects entry 8 of the fifth level.
    td.machine.memory.write64(sharedTop + 8 * 8, 0x20_4007n);
    td.machine.memory.write64(0x20_4000, 0x20_1007n);
    td.machine.memory.write64(SHARED_BASE + 8, 0x5252n);
    td.poke64(TABLES + 0x2008, BigInt(SHARED_LINEAR) | (1n << 51n) | 0xe7n);
    td.change('PRIMARY_CONTROLS', 0x2_0000);
    td.set('TERTIARY_CONTROLS', 0x20);
    td.set('EPT_POINTER', BigInt(withKeyId(top, HKID)) | 0x26n);
    td.set('SHARED_EPT_POINTER', sharedTop);
    expect(run(td)).toBe(REASON.TDCALL);
    expect(td.p.gpr(RAX)).toBe(0x5252n);
  });

  test('is only from root operation', () => {
    const td = new TestTd();
    td.p.vtx.vmxoff();
    expect(() => runTd(td.p, td.vmcs)).toThrow();
  });
});

test('a TD’s VMCS is kept in memory with its KeyID', () => {
  const td = new TestTd();
  td.vmcs.launched = true;
  td.vmcs.store(td.machine.memory, HKID);
  const again = new Vmcs(VMCS_PAGE);
  again.load(td.machine.memory, HKID);
  expect([...again.u64]).toEqual([...td.vmcs.u64]);
  expect(again.launched).toBe(true);
  const byHost = new Vmcs(VMCS_PAGE);
  byHost.load(td.machine.memory);
  expect(byHost.u64.every((value) => value === 0n)).toBe(true);
});
