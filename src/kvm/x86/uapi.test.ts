/** Offsets as the compiler gives them for x86-64, and round trips through bytes. */
import { describe, expect, test } from 'vitest';
import { UapiStruct } from '../virt/uapi_struct.ts';
import * as uapi from './uapi.ts';
import * as irq from './uapi_irq.ts';
import * as memory from './uapi_memory.ts';
import * as tdx from './uapi_tdx.ts';

const OFFSETS: readonly [struct: UapiStruct<never>, offsets: Readonly<Record<string, number>>][] = [
  [uapi.kvm_regs as never, { rax: 0, rbx: 8, rsp: 48, r8: 64, r15: 120, rip: 128, rflags: 136 }],
  [
    uapi.kvm_segment as never,
    { base: 0, limit: 8, selector: 12, type: 14, present: 15, dpl: 16, db: 17, unusable: 22 },
  ],
  [uapi.kvm_dtable as never, { base: 0, limit: 8 }],
  [
    uapi.kvm_sregs as never,
    {
      cs: 0,
      es: 48,
      ss: 120,
      tr: 144,
      ldt: 168,
      gdt: 192,
      idt: 208,
      cr0: 224,
      cr8: 256,
      efer: 264,
      apicBase: 272,
      interruptBitmap: 280,
    },
  ],
  [
    uapi.kvm_fpu as never,
    { fpr: 0, fcw: 128, ftwx: 132, lastOpcode: 134, lastIp: 136, lastDp: 144, xmm: 152, mxcsr: 408 },
  ],
  [uapi.kvm_debugregs as never, { db: 0, dr6: 32, dr7: 40 }],
  [uapi.kvm_guest_debug as never, { control: 0, debugreg: 8 }],
  [uapi.kvm_cpuid_entry2 as never, { function: 0, flags: 8, eax: 12, edx: 24 }],
  [uapi.kvm_msr_entry as never, { index: 0, data: 8 }],
  [
    uapi.kvm_userspace_memory_region as never,
    { slot: 0, flags: 4, guestPhysAddr: 8, memorySize: 16, userspaceAddr: 24 },
  ],
  [
    uapi.kvm_vcpu_events as never,
    {
      exceptionErrorCode: 4,
      interruptInjected: 8,
      nmiInjected: 12,
      sipiVector: 16,
      flags: 20,
      smiSmm: 24,
      tripleFaultPending: 28,
      exceptionHasPayload: 55,
      exceptionPayload: 56,
    },
  ],
  [uapi.kvm_xcrs as never, { nrXcrs: 0, flags: 4, xcrs: 8 }],
  [uapi.kvm_translation as never, { linearAddress: 0, physicalAddress: 8, valid: 16, usermode: 18 }],
  [uapi.kvm_msi as never, { addressLo: 0, data: 8, flags: 12, devid: 16 }],
  [uapi.kvm_clock_data as never, { clock: 0, flags: 8, realtime: 16, hostTsc: 24 }],
  [uapi.kvm_enable_cap as never, { cap: 0, flags: 4, args: 8 }],
  [uapi.kvm_clear_dirty_log as never, { slot: 0, numPages: 4, firstPage: 8, dirtyBitmap: 16 }],
  [uapi.kvm_irq_level as never, { irq: 0, level: 4 }],
  [uapi.kvm_mp_state as never, { mpState: 0 }],
  [uapi.kvm_cpuid2 as never, { nent: 0, entries: 8 }],
  [uapi.kvm_msrs as never, { nmsrs: 0, entries: 8 }],
  [
    memory.kvm_userspace_memory_region2 as never,
    { slot: 0, flags: 4, guestPhysAddr: 8, memorySize: 16, userspaceAddr: 24, guestMemfdOffset: 32, guestMemfd: 40 },
  ],
  [memory.kvm_create_guest_memfd as never, { size: 0, flags: 8 }],
  [memory.kvm_memory_attributes as never, { address: 0, size: 8, attributes: 16, flags: 24 }],
  [memory.kvm_pre_fault_memory as never, { gpa: 0, size: 8, flags: 16 }],
  [irq.kvm_irq_routing as never, { nr: 0, flags: 4, entries: 8 }],
  [irq.kvm_irq_routing_entry as never, { gsi: 0, type: 4, flags: 8, u: 16 }],
  [irq.kvm_irqfd as never, { fd: 0, gsi: 4, flags: 8, resamplefd: 12 }],
  [irq.kvm_ioeventfd as never, { datamatch: 0, addr: 8, len: 16, fd: 20, flags: 24 }],
  [tdx.kvm_tdx_cmd as never, { id: 0, flags: 4, data: 8, hwError: 16 }],
  [
    tdx.kvm_tdx_capabilities as never,
    {
      supportedAttrs: 0,
      supportedXfam: 8,
      kernelTdvmcallinfo1R11: 16,
      userTdvmcallinfo1R11: 24,
      kernelTdvmcallinfo1R12: 32,
      userTdvmcallinfo1R12: 40,
    },
  ],
  [
    tdx.kvm_tdx_init_vm as never,
    { attributes: 0, xfam: 8, mrconfigid: 16, mrowner: 64, mrownerconfig: 112, reserved: 160 },
  ],
  [tdx.kvm_tdx_init_mem_region as never, { sourceAddr: 0, gpa: 8, nrPages: 16 }],
];

describe('layouts', () => {
  test.each(OFFSETS.map(([struct, offsets]) => [struct.name, struct, offsets] as const))(
    '%s',
    (_name, struct, offsets) => {
      for (const [member, offset] of Object.entries(offsets))
        expect([member, struct.offsetOf(member)]).toEqual([member, offset]);
    },
  );
  test('random bytes survive decoding and encoding, but for padding', () => {
    for (const [struct] of OFFSETS) {
      if (struct.members.some(({ count }) => typeof count === 'string')) continue;
      const bytes = Uint8Array.from({ length: struct.size }, (_, i) => (i * 37 + 11) & 1);
      const again = struct.encode(struct.decode(bytes));
      for (const member of struct.members) {
        if (member.name === '') continue;
        expect(again[member.offset]).toBe(bytes[member.offset]);
      }
      expect(struct.decode(again)).toEqual(struct.decode(bytes));
    }
  });
});

describe('tails', () => {
  const { kvm_cpuid2 } = uapi;
  const entry = { function: 0x8000_0008, index: 0, flags: 1, eax: 0x30_3434, ebx: 2, ecx: 3, edx: 4 };

  test('as many entries as the count says, each of its size', () => {
    const bytes = kvm_cpuid2.encode({ nent: 2, entries: [entry, { ...entry, edx: 9 }] });
    expect(bytes).toHaveLength(8 + 2 * 40);
    expect(new DataView(bytes.buffer).getUint32(8 + 40 + 24, true)).toBe(9);
    expect(kvm_cpuid2.decode(bytes)).toEqual({ nent: 2, entries: [entry, { ...entry, edx: 9 }] });
  });
  test('a count that says more than there is stops at the last whole entry', () => {
    const bytes = kvm_cpuid2.encode({ nent: 1, entries: [entry] });
    new DataView(bytes.buffer).setUint32(0, 1000, true);
    expect(kvm_cpuid2.decode(bytes)).toEqual({ nent: 1000, entries: [entry] });
    expect(kvm_cpuid2.decode(bytes.subarray(0, 47)).entries).toEqual([]);
  });
  test('a structure that ends with one that has a tail', () => {
    const outer = new UapiStruct<{ x: bigint; cpuid: { nent: number; entries: (typeof entry)[] } }>('outer', 16, [
      ['x', 'u64'],
      ['cpuid', kvm_cpuid2],
    ]);
    const value = { x: 5n, cpuid: { nent: 1, entries: [entry] } };
    expect(outer.encode(value)).toHaveLength(56);
    expect(outer.decode(outer.encode(value))).toEqual(value);
  });
});

describe('routes', () => {
  test.each([
    { gsi: 5, type: 1, irqchip: 2, pin: 5 },
    { gsi: 24, type: 2, addressLo: 0xfee0_1000, addressHi: 0x100, data: 0x4041 },
  ] as const)('type $type', (entry) => {
    const binary = irq.irqRoutingEntryToBinary(entry);
    const bytes = irq.kvm_irq_routing.encode({ nr: 1, flags: 0, entries: [binary] });
    expect(bytes).toHaveLength(56);
    const words = new Uint32Array(bytes.buffer, 8);
    expect([words[0], words[1]]).toEqual([entry.gsi, entry.type]);
    expect([...words.subarray(4, 7)]).toEqual(
      entry.type === 1 ? [2, 5, 0] : [entry.addressLo, entry.addressHi, entry.data],
    );
    expect(irq.irqRoutingEntryFromBinary(irq.kvm_irq_routing.decode(bytes).entries[0]!)).toEqual(entry);
  });
  test('other types and flags are not known', () => {
    const u = [0, 0, 0, 0, 0, 0, 0, 0];
    expect(irq.irqRoutingEntryFromBinary({ gsi: 0, type: 4, flags: 0, u })).toBeUndefined();
    expect(irq.irqRoutingEntryFromBinary({ gsi: 0, type: 2, flags: 1, u })).toBeUndefined();
  });
});
