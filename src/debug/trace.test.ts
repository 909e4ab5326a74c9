import { afterEach, describe, expect, test } from 'vitest';
import { trace, traceContext } from '../util/trace.ts';
import { ChromeTrace } from './chrome-trace.ts';
import { TextTrace } from './text-trace.ts';
import { subscribe, type TraceRecord } from './trace-records.ts';

let unsubscribe = (): void => {};
afterEach(() => {
  unsubscribe();
  traceContext.now = () => 0;
  traceContext.cpu = 0;
});

/** Fires one event of every kind. */
function fireAll(): void {
  trace.kvm_entry?.(1, 0xfff0n);
  trace.kvm_exit?.(1, 30, 0x1000n, 0x3f80008n, 0, 0, 0);
  trace.kvm_userspace_exit?.(1, 2, 0);
  trace.kvm_vcpu_wakeup?.(1, 500, true);
  trace.kvm_pio?.(true, 0x3f8, 1, 1, 0x41);
  trace.kvm_mmio?.(2, 4, 0xd0000000, 7n);
  trace.kvm_cpuid?.(1, 0, 1, 2, 3, 4, true);
  trace.kvm_msr?.(false, 0x10, 5n, true);
  trace.kvm_cr?.(true, 3, 0x1000n);
  trace.kvm_page_fault?.(1, 0x1000n, 0x2000, 0x181n);
  trace.kvm_emulate_insn?.(0x1000n, Uint8Array.of(0x8b, 0x07), false);
  trace.kvm_hypercall?.(5n, 0n, 1n, 2n, 3n);
  trace.kvm_inj_virq?.(0xec, false, false);
  trace.kvm_inj_exception?.(14, 2, true);
  trace.kvm_set_irq?.(4, 1, 0);
  trace.kvm_pic_set_irq?.(0, 4, 0, 0x10, false);
  trace.kvm_ioapic_set_irq?.(0x10000n, 4, true);
  trace.kvm_msi_set_irq?.(0xfee00000n, 0x41);
  trace.kvm_ack_irq?.(2, 4);
  trace.kvm_apic?.(true, 0x320, 0xecn);
  trace.kvm_apic_ipi?.(0x4500, 3);
  trace.kvm_apic_accept_irq?.(0, 0, false, 0xec);
  trace.kvm_apicv_accept_irq?.(0, 0, false, 0xec);
  trace.kvm_eoi?.(0, 0xec);
  trace.kvm_apic_timer_expired?.(1);
  trace.kvm_tdp_mmu_spte_changed?.(0x100, 1, 0n, 0x100007n);
  trace.kvm_enable_virtualization_cpu?.(0, 0);
  trace.kvm_disable_virtualization_cpu?.(0);
  trace.vmread?.(0x681e, 0x1000n);
  trace.vmwrite?.(0x681e, 0x1002n);
  trace.vmx_instruction?.('VMXON', 0x1000n, 0);
  trace.tdx_seamcall?.('TDH.MNG.CREATE', 9, 0x1000n, 33n, 0n, 0n);
  trace.tdx_tdcall?.('TDG.VP.INFO', 1, 0n, 0n, 0n, 0n);
  trace.tdx_ve?.(48, 0x1000n, 0x181n);
  trace.tdx_sept?.(0x1000, 0, 'FREE', 'MAPPED');
}

function recordAll(): TraceRecord[] {
  const records: TraceRecord[] = [];
  unsubscribe = subscribe((record) => records.push(record));
  fireAll();
  return records;
}

describe('trace', () => {
  test('nobody listens, nothing happens; a listener hears every kind of event', () => {
    fireAll();
    const records = recordAll();
    expect(records.map(({ name }) => name).sort()).toEqual(Object.keys(trace).sort());
    unsubscribe();
    fireAll();
    expect(records).toHaveLength(Object.keys(trace).length);
  });

  test('events carry machine time and processor', () => {
    traceContext.now = () => 1_234_567_890;
    traceContext.cpu = 3;
    expect(recordAll()[0]).toMatchObject({ time: 1_234_567_890, cpu: 3 });
  });

  test('text looks like ftrace, with the names of exit reasons and VMCS fields', () => {
    traceContext.now = () => 1_234_567_890;
    let text = '';
    const writer = new TextTrace((piece) => {
      text += piece;
    });
    for (const record of recordAll()) writer.record(record);
    writer.end();
    expect(text).toContain('[000]     1.234567890: kvm_exit: vcpu 1 reason IO_INSTRUCTION rip 0x1000 info1 0x3f80008');
    expect(text).toContain('kvm_userspace_exit: vcpu 1 reason KVM_EXIT_IO (2)');
    expect(text).toContain('vmwrite: GUEST_RIP value 0x1002');
    expect(text).toContain('kvm_pio: pio_write at 0x3f8 size 1 count 1 val 0x41');
    expect(text).toContain('kvm_msr: msr_read 10 = 0x5 (#GP)');
  });

  test('Chrome JSON has the guest’s time as slices named after the exit, the rest as instants', () => {
    let time = 1000;
    traceContext.now = () => (time += 1000);
    let text = '';
    const writer = new ChromeTrace((piece) => {
      text += piece;
    });
    for (const record of recordAll()) writer.record(record);
    writer.end();
    const events = JSON.parse(text) as { name: string; ph: string; ts: number; dur?: number; tid: number }[];
    expect(events[0]).toMatchObject({ name: 'IO_INSTRUCTION', ph: 'X', ts: 2, dur: 1, tid: 1 });
    expect(events.filter(({ ph }) => ph === 'i')).toHaveLength(Object.keys(trace).length - 2);
  });

  test('an empty Chrome trace is JSON as well', () => {
    let text = '';
    new ChromeTrace((piece) => {
      text += piece;
    }).end();
    expect(JSON.parse(text)).toEqual([]);
  });
});
