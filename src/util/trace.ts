/**
 * Trace points: a slot per event of KVM (under its tracepoint's name) and of the machine, empty while nobody listens.
 *
 * A layer fires one by `trace.kvm_entry?.(vcpu.vcpu_id, rip)`: a property load and a test when tracing is off, and the
 * arguments are not computed then. Listeners (src/debug) fill the slots; nothing here knows who listens.
 *
 * @upstream arch/x86/kvm/trace.h, include/trace/events/kvm.h
 */

/** Time and place of an event, set by whoever runs processors; listeners read it, firing costs nothing. */
export interface TraceContext {
  /** Machine time in ns (instructions retired). */
  now: () => number;
  /** Index of the host processor that is running. */
  cpu: number;
}

/** The events and their arguments, in the order of the tracepoint's fields. */
export interface TraceEvents {
  // ---- entering and leaving the guest
  kvm_entry(vcpuId: number, rip: bigint): void;
  /** `reason`, `info1`, `info2`, `intrInfo`, `errorCode` as the VMCS has them (exit qualification, IDT-vectoring). */
  kvm_exit(
    vcpuId: number,
    reason: number,
    rip: bigint,
    info1: bigint,
    info2: number,
    intrInfo: number,
    errorCode: number,
  ): void;
  /** `reason` is kvm_run.exit_reason; `errno` is 0 or a positive errno. */
  kvm_userspace_exit(vcpuId: number, reason: number, errno: number): void;
  kvm_vcpu_wakeup(vcpuId: number, ns: number, waited: boolean): void;

  // ---- what exits are about
  /** `write`: OUT. */
  kvm_pio(write: boolean, port: number, size: number, count: number, value: number): void;
  /** `type`: 0 unsatisfied read, 1 read, 2 write. */
  kvm_mmio(type: 0 | 1 | 2, length: number, gpa: number, value: bigint): void;
  kvm_cpuid(leaf: number, subleaf: number, eax: number, ebx: number, ecx: number, edx: number, found: boolean): void;
  /** `exception`: the access ends in #GP. */
  kvm_msr(write: boolean, index: number, value: bigint, exception: boolean): void;
  kvm_cr(write: boolean, cr: number, value: bigint): void;
  kvm_page_fault(vcpuId: number, rip: bigint, gpa: number, errorCode: bigint): void;
  kvm_emulate_insn(rip: bigint, bytes: Uint8Array, failed: boolean): void;
  kvm_hypercall(nr: bigint, a0: bigint, a1: bigint, a2: bigint, a3: bigint): void;

  // ---- interrupts
  kvm_inj_virq(vector: number, soft: boolean, reinjected: boolean): void;
  /** `errorCode` is -1 if the exception pushes none. */
  kvm_inj_exception(vector: number, errorCode: number, reinjected: boolean): void;
  kvm_set_irq(gsi: number, level: number, source: number): void;
  kvm_pic_set_irq(chip: number, pin: number, elcr: number, imr: number, coalesced: boolean): void;
  kvm_ioapic_set_irq(entry: bigint, pin: number, coalesced: boolean): void;
  kvm_msi_set_irq(address: bigint, data: number): void;
  kvm_ack_irq(irqchip: number, pin: number): void;
  kvm_apic(write: boolean, register: number, value: bigint): void;
  kvm_apic_ipi(icrLow: number, destination: number): void;
  kvm_apic_accept_irq(apicId: number, deliveryMode: number, levelTriggered: boolean, vector: number): void;
  /** Posted: the processor delivers it. */
  kvm_apicv_accept_irq(apicId: number, deliveryMode: number, levelTriggered: boolean, vector: number): void;
  kvm_eoi(apicId: number, vector: number): void;
  kvm_apic_timer_expired(vcpuId: number): void;

  // ---- memory
  kvm_tdp_mmu_spte_changed(gfn: number, level: number, oldSpte: bigint, newSpte: bigint): void;

  // ---- load and unload
  kvm_enable_virtualization_cpu(cpu: number, result: number): void;
  kvm_disable_virtualization_cpu(cpu: number): void;

  // ---- instructions of the host's software (machine)
  vmread(field: number, value: bigint): void;
  vmwrite(field: number, value: bigint): void;
  /** VMXON, VMXOFF, VMCLEAR, VMPTRLD, INVEPT, INVVPID … as methods; `result` is the outcome number of the method. */
  vmx_instruction(name: string, operand: bigint, result: number): void;

  // ---- trust domains (TDX module)
  /** A leaf of the host's interface, its operands and its completion status. */
  tdx_seamcall(name: string, leaf: number, rcx: bigint, rdx: bigint, r8: bigint, status: bigint): void;
  /** A leaf of the guest's interface. */
  tdx_tdcall(name: string, leaf: number, rcx: bigint, rdx: bigint, r8: bigint, status: bigint): void;
  /** A virtualisation exception for the guest; `reason` is a VMX exit reason. */
  tdx_ve(reason: number, gpa: bigint, qualification: bigint): void;
  /** A Secure EPT entry changed its state; level 0 is 4 KiB. */
  tdx_sept(gpa: number, level: number, oldState: string, newState: string): void;
}

/** Name of a trace event. */
export type TraceEventName = keyof TraceEvents;

/** Every slot, so that the object's shape never changes. */
export type TraceSlots = { [Name in TraceEventName]: TraceEvents[Name] | undefined };

/** The slots. Fire with `trace.name?.(...)`. */
export const trace: TraceSlots = {
  kvm_entry: undefined,
  kvm_exit: undefined,
  kvm_userspace_exit: undefined,
  kvm_vcpu_wakeup: undefined,
  kvm_pio: undefined,
  kvm_mmio: undefined,
  kvm_cpuid: undefined,
  kvm_msr: undefined,
  kvm_cr: undefined,
  kvm_page_fault: undefined,
  kvm_emulate_insn: undefined,
  kvm_hypercall: undefined,
  kvm_inj_virq: undefined,
  kvm_inj_exception: undefined,
  kvm_set_irq: undefined,
  kvm_pic_set_irq: undefined,
  kvm_ioapic_set_irq: undefined,
  kvm_msi_set_irq: undefined,
  kvm_ack_irq: undefined,
  kvm_apic: undefined,
  kvm_apic_ipi: undefined,
  kvm_apic_accept_irq: undefined,
  kvm_apicv_accept_irq: undefined,
  kvm_eoi: undefined,
  kvm_apic_timer_expired: undefined,
  kvm_tdp_mmu_spte_changed: undefined,
  kvm_enable_virtualization_cpu: undefined,
  kvm_disable_virtualization_cpu: undefined,
  vmread: undefined,
  vmwrite: undefined,
  vmx_instruction: undefined,
  tdx_seamcall: undefined,
  tdx_tdcall: undefined,
  tdx_ve: undefined,
  tdx_sept: undefined,
};

/** Where and when events happen. */
export const traceContext: TraceContext = { now: () => 0, cpu: 0 };
