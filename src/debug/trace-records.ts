/** Turns trace events into records that writers can print, with the fields KVM's tracepoints print. */

import { KVM_EXIT } from '../kvm/virt/kvm_run.ts';
import { FIELDS } from '../machine/vtx/fields.ts';
import { statusName } from '../tdx-module/status.ts';
import { hexOf } from '../util/bytes.ts';
import { type TraceEventName, type TraceEvents, trace, traceContext } from '../util/trace.ts';
import { exitReasonName } from '../vmm/exit-reasons.ts';

/** One event. */
export interface TraceRecord {
  /** Machine time in ns. */
  readonly time: number;
  /** Host processor. */
  readonly cpu: number;
  readonly name: TraceEventName;
  /** The event's fields in order; an empty key for a value that stands alone. */
  readonly fields: readonly TraceField[];
}

/** A field's key and its value as printed. */
export type TraceField = readonly [key: string, value: string];

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;
const decimal = (value: number): string => String(value);

const PAGE_FAULT_BITS = 0xffff_ffff_ffff_ffffn;
const fieldNames: ReadonlyMap<number, string> = new Map(FIELDS.map(({ encoding, name }) => [encoding, name]));
const userExits: ReadonlyMap<number, string> = new Map(Object.entries(KVM_EXIT).map(([name, value]) => [value, name]));
const fieldName = (encoding: number): string => fieldNames.get(encoding) ?? hex(encoding);

/** A leaf of the TDX module: its name, operands and completion status. */
const tdxLeaf = (name: string, leaf: number, rcx: bigint, rdx: bigint, r8: bigint, rax: bigint): TraceField[] => [
  ['', `${name} (${leaf})`],
  ['rcx', hex(rcx)],
  ['rdx', hex(rdx)],
  ['r8', hex(r8)],
  ['status', statusName(rax)],
];

/** How each event's arguments print. */
const FORMATS: { readonly [Name in TraceEventName]: (...args: Parameters<TraceEvents[Name]>) => TraceField[] } = {
  kvm_entry: (vcpu, rip) => [
    ['vcpu', decimal(vcpu)],
    ['rip', hex(rip)],
  ],
  kvm_exit: (vcpu, reason, rip, info1, info2, intrInfo, errorCode) => [
    ['vcpu', decimal(vcpu)],
    ['reason', exitReasonName(reason)],
    ['rip', hex(rip)],
    ['info1', hex(info1)],
    ['info2', hex(info2)],
    ['intr_info', hex(intrInfo)],
    ['error_code', hex(errorCode)],
  ],
  kvm_userspace_exit: (vcpu, reason, errno) => [
    ['vcpu', decimal(vcpu)],
    errno === 0 ? ['reason', `KVM_EXIT_${userExits.get(reason) ?? 'UNKNOWN'} (${reason})`] : ['errno', decimal(errno)],
  ],
  kvm_vcpu_wakeup: (vcpu, ns, waited) => [
    ['vcpu', decimal(vcpu)],
    [waited ? 'wait' : 'poll', `time ${ns} ns`],
  ],
  kvm_pio: (write, port, size, count, value) => [
    [write ? 'pio_write' : 'pio_read', `at ${hex(port)} size ${size} count ${count} val ${hex(value)}`],
  ],
  kvm_mmio: (type, length, gpa, value) => [
    ['mmio', ['unsatisfied-read', 'read', 'write'][type]!],
    ['len', decimal(length)],
    ['gpa', hex(gpa)],
    ['val', hex(value)],
  ],
  kvm_cpuid: (leaf, subleaf, eax, ebx, ecx, edx, found) => [
    ['func', leaf.toString(16)],
    ['idx', subleaf.toString(16)],
    ['rax', eax.toString(16)],
    ['rbx', ebx.toString(16)],
    ['rcx', ecx.toString(16)],
    ['rdx', edx.toString(16)],
    ['cpuid', found ? 'entry found' : 'entry not found'],
  ],
  kvm_msr: (write, index, value, exception) => [
    [write ? 'msr_write' : 'msr_read', `${index.toString(16)} = ${hex(value)}${exception ? ' (#GP)' : ''}`],
  ],
  kvm_cr: (write, cr, value) => [[write ? 'cr_write' : 'cr_read', `${cr} = ${hex(value)}`]],
  kvm_page_fault: (vcpu, rip, gpa, errorCode) => [
    ['vcpu', decimal(vcpu)],
    ['rip', hex(rip)],
    ['address', hex(gpa)],
    ['error_code', hex(BigInt(errorCode) & PAGE_FAULT_BITS)],
  ],
  kvm_emulate_insn: (rip, bytes, failed) => [
    ['rip', hex(rip)],
    ['', hexOf(bytes, ' ') + (failed ? ' failed' : '')],
  ],
  kvm_hypercall: (nr, a0, a1, a2, a3) => [
    ['nr', hex(nr)],
    ['a0', hex(a0)],
    ['a1', hex(a1)],
    ['a2', hex(a2)],
    ['a3', hex(a3)],
  ],
  kvm_inj_virq: (vector, soft, reinjected) => [
    [soft ? 'Soft/INTn' : 'IRQ', `${hex(vector)}${reinjected ? ' [reinjected]' : ''}`],
  ],
  kvm_inj_exception: (vector, errorCode, reinjected) => [
    ['vector', decimal(vector)],
    ...(errorCode < 0 ? [] : [['error_code', hex(errorCode)] as const]),
    ...(reinjected ? [['', '[reinjected]'] as const] : []),
  ],
  kvm_set_irq: (gsi, level, source) => [
    ['gsi', decimal(gsi)],
    ['level', decimal(level)],
    ['source', decimal(source)],
  ],
  kvm_pic_set_irq: (chip, pin, elcr, imr, coalesced) => [
    ['chip', decimal(chip)],
    ['pin', decimal(pin)],
    [
      '',
      `(${(elcr >> pin) & 1 ? 'level' : 'edge'}${(imr >> pin) & 1 ? '|masked' : ''})${coalesced ? ' (coalesced)' : ''}`,
    ],
  ],
  kvm_ioapic_set_irq: (entry, pin, coalesced) => [
    ['pin', decimal(pin)],
    ['entry', hex(entry)],
    ...(coalesced ? [['', '(coalesced)'] as const] : []),
  ],
  kvm_msi_set_irq: (address, data) => [
    ['address', hex(address)],
    ['data', hex(data)],
  ],
  kvm_ack_irq: (irqchip, pin) => [
    ['irqchip', ['PIC master', 'PIC slave', 'IOAPIC'][irqchip] ?? decimal(irqchip)],
    ['pin', decimal(pin)],
  ],
  kvm_apic: (write, register, value) => [[write ? 'apic_write' : 'apic_read', `${hex(register)} = ${hex(value)}`]],
  kvm_apic_ipi: (icrLow, destination) => [
    ['dst', destination.toString(16)],
    ['vec', decimal(icrLow & 0xff)],
    ['icr', hex(icrLow)],
  ],
  kvm_apic_accept_irq: (apicId, deliveryMode, levelTriggered, vector) => [
    ['apicid', apicId.toString(16)],
    ['vec', decimal(vector)],
    ['mode', decimal(deliveryMode)],
    ['', levelTriggered ? 'level' : 'edge'],
  ],
  kvm_apicv_accept_irq: (apicId, deliveryMode, levelTriggered, vector) => [
    ['apicid', apicId.toString(16)],
    ['vec', decimal(vector)],
    ['mode', decimal(deliveryMode)],
    ['', levelTriggered ? 'level' : 'edge'],
  ],
  kvm_eoi: (apicId, vector) => [
    ['apicid', apicId.toString(16)],
    ['vector', decimal(vector)],
  ],
  kvm_apic_timer_expired: (vcpu) => [['vcpu', decimal(vcpu)]],
  kvm_tdp_mmu_spte_changed: (gfn, level, oldSpte, newSpte) => [
    ['gfn', gfn.toString(16)],
    ['level', decimal(level)],
    ['old_spte', oldSpte.toString(16)],
    ['new_spte', newSpte.toString(16)],
  ],
  kvm_enable_virtualization_cpu: (cpu, result) => [
    ['cpu', decimal(cpu)],
    ['result', decimal(result)],
  ],
  kvm_disable_virtualization_cpu: (cpu) => [['cpu', decimal(cpu)]],
  vmread: (field, value) => [
    ['', fieldName(field)],
    ['value', hex(value)],
  ],
  vmwrite: (field, value) => [
    ['', fieldName(field)],
    ['value', hex(value)],
  ],
  vmx_instruction: (name, operand, result) => [
    ['', name],
    ['operand', hex(operand)],
    ['result', decimal(result)],
  ],
  tdx_seamcall: (name, leaf, rcx, rdx, r8, rax) => tdxLeaf(name, leaf, rcx, rdx, r8, rax),
  tdx_tdcall: (name, leaf, rcx, rdx, r8, rax) => tdxLeaf(name, leaf, rcx, rdx, r8, rax),
  tdx_ve: (reason, gpa, qualification) => [
    ['reason', exitReasonName(reason)],
    ['gpa', hex(gpa)],
    ['qualification', hex(qualification)],
  ],
  tdx_sept: (gpa, level, oldState, newState) => [
    ['gpa', hex(gpa)],
    ['level', decimal(level)],
    ['', `${oldState} -> ${newState}`],
  ],
};

/** Gives every event to `listener` from now on; the result ends that. One subscriber at a time. */
export function subscribe(listener: (record: TraceRecord) => void): () => void {
  const slots = trace as Record<string, unknown>;
  const names = Object.keys(FORMATS) as TraceEventName[];
  for (const name of names) {
    const format = FORMATS[name] as (...args: unknown[]) => TraceField[];
    slots[name] = (...args: unknown[]): void =>
      listener({ time: traceContext.now(), cpu: traceContext.cpu, name, fields: format(...args) });
  }
  return () => {
    for (const name of names) slots[name] = undefined;
  };
}
