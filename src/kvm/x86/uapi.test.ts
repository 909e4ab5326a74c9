/** Offsets as the compiler gives them for x86-64, and round trips through bytes. */
import { describe, expect, test } from 'vitest';
import type { UapiStruct } from '../virt/uapi_struct.ts';
import * as uapi from './uapi.ts';

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
