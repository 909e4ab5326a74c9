/**
 * A VM with in-kernel interrupt controllers and vCPUs that never run: what the tests of interrupts need, and no more.
 *
 * The backend is a recording one: interrupts that are delivered make the request that the VMX backend makes.
 */
import { Host } from '../../../host/host.ts';
import { Task } from '../../../host/sched.ts';
import { Machine } from '../../../machine/machine.ts';
import type { KvmArchHooks } from '../../virt/arch_hooks.ts';
import { KVM_PIO_BUS, type KvmModule, kvmCheckRequest, kvmMakeRequest, kvmVcpuKick } from '../../virt/kvm_host.ts';
import type { KvmCpuidEntry2 } from '../cpuid.ts';
import { kvmCpuHasInterrupt, kvmVmIoctlCreateIrqchip, kvmVmIoctlEnableSplitIrqchip } from '../irq.ts';
import { KVM_REQ_EVENT, X86Vcpu, X86Vm } from '../kvm_host.ts';
import type { KvmX86Ops } from '../kvm_x86_ops.ts';
import {
  kvmApicAfterSetCpuid,
  kvmCreateLapic,
  kvmLapicMmioRead,
  kvmLapicMmioWrite,
  kvmLapicReset,
  kvmX2apicMsrWrite,
} from '../lapic.ts';

const X2APIC = 1 << 21;
const TSC_DEADLINE = 1 << 24;
const APIC_PAGE = 0xfee0_0000;
const APIC_BASE_X2APIC = 1n << 10n;

/** Leaf 1 of the vCPUs: x2APIC and TSC deadline. */
const LEAF_1: KvmCpuidEntry2 = { function: 1, index: 0, flags: 0, eax: 0, ebx: 0, ecx: X2APIC | TSC_DEADLINE, edx: 0 };

/** Which interrupt controllers the VM has in the kernel. */
export type LabMode = 'kernel' | 'split' | 'none';

/** A VM under test. */
export class IrqLab {
  readonly host: Host;
  readonly vm: X86Vm;
  readonly vcpus: X86Vcpu[] = [];
  /** Calls of the backend, in order. */
  readonly calls: string[] = [];
  #initBlocked = false;

  constructor(count = 1, mode: LabMode = 'kernel') {
    const machine = new Machine({ processors: 1, ramSize: 16 << 20, profile: 'pc' });
    this.host = new Host(machine);
    const module = { host: this.host, arch: {} as KvmArchHooks, runningVcpu: [null] } as unknown as KvmModule;
    const ops = {
      deliverInterrupt: (vcpu: X86Vcpu): void => {
        kvmMakeRequest(KVM_REQ_EVENT, vcpu);
        kvmVcpuKick(vcpu);
      },
      apicInitSignalBlocked: (): boolean => this.#initBlocked,
      vcpuDeliverSipiVector: (vcpu: X86Vcpu, vector: number): void => {
        this.calls.push(`sipi ${vcpu.vcpuId} ${vector.toString(16)}`);
      },
      vcpuReset: (vcpu: X86Vcpu, initEvent: boolean): void => {
        this.calls.push(`${initEvent ? 'init' : 'reset'} ${vcpu.vcpuId}`);
      },
      requiredApicvInhibits: 0,
      setVirtualApicMode: (): void => {},
      setRflags: (): void => {},
      setCr0: (): void => {},
      setCr4: (): void => {},
      setEfer: (): void => {},
      setDr7: (): void => {},
      updateExceptionBitmap: (): void => {},
      protectedApicHasInterrupt: null,
    } as unknown as KvmX86Ops;
    this.vm = new X86Vm(module, ops);
    if (mode === 'kernel') kvmVmIoctlCreateIrqchip(this.vm);
    if (mode === 'split') kvmVmIoctlEnableSplitIrqchip(this.vm, 24);
    for (let id = 0; id < count; id++) this.addVcpu();
  }

  /** One more vCPU. */
  addVcpu(): void {
    const vcpu = new X86Vcpu(this.vm, this.vcpus.length, new Task('vcpu', this.host.cpu));
    vcpu.arch.cpuidEntries = [LEAF_1];
    vcpu.arch.maxphyaddr = 52;
    this.vm.vcpus.push(vcpu);
    this.vcpus.push(vcpu);
    if (this.vm.arch.irqchipMode === 'none') return;
    kvmCreateLapic(vcpu);
    kvmLapicReset(vcpu, false);
    kvmApicAfterSetCpuid(vcpu);
  }

  /** INIT and SIPI are blocked, as in VMX operation of a nested guest. */
  blockInit(blocked: boolean): void {
    this.#initBlocked = blocked;
  }

  /** Lets machine time pass and runs the host's timers as they come due. */
  advance(ns: number): void {
    const { clock } = this.host.machine;
    const end = clock.now() + ns;
    while (clock.queue.nextDeadline <= end) {
      clock.skipTo(clock.queue.nextDeadline);
      clock.runTimers();
      this.host.timers.run();
    }
    clock.skipTo(end);
  }

  /** A write of the guest to a register of its local APIC, in whichever mode that is. */
  apicWrite(id: number, register: number, value: number): void {
    const vcpu = this.vcpus[id]!;
    if (vcpu.arch.apic!.mode === 'x2apic') {
      kvmX2apicMsrWrite(vcpu, 0x800 + (register >> 4), BigInt(value >>> 0));
      return;
    }
    const data = new Uint8Array(4);
    new DataView(data.buffer).setUint32(0, value, true);
    kvmLapicMmioWrite(vcpu, APIC_PAGE + register, 4, data);
  }

  /** A read of the guest from its local APIC's page. */
  apicRead(id: number, register: number): number {
    const data = new Uint8Array(4);
    kvmLapicMmioRead(this.vcpus[id]!, APIC_PAGE + register, 4, data);
    return new DataView(data.buffer).getUint32(0, true);
  }

  /** Enables the local APIC by its spurious-interrupt register. */
  enableApic(id = 0): void {
    this.apicWrite(id, 0xf0, 0x1ff);
  }

  /** Goes to x2APIC mode. */
  enterX2apic(id: number): void {
    const { apic } = this.vcpus[id]!.arch;
    apic?.writeApicBase(apic.readApicBase() | APIC_BASE_X2APIC);
    apic?.baseChanged();
  }

  /** A port write of the guest. */
  out(port: number, value: number): void {
    this.vm.buses[KVM_PIO_BUS]!.write(port, 1, Uint8Array.of(value), this.vcpus[0]);
  }

  /** A port read of the guest. */
  in(port: number): number {
    const data = new Uint8Array(1);
    this.vm.buses[KVM_PIO_BUS]!.read(port, 1, data, this.vcpus[0]);
    return data[0]!;
  }

  /** Sets up the 8259 pair with vectors 0x30 and 0x38, everything unmasked. */
  initPic(): void {
    for (const [base, vector] of [
      [0x20, 0x30],
      [0xa0, 0x38],
    ] as const) {
      this.out(base, 0x11);
      this.out(base + 1, vector);
      this.out(base + 1, base === 0x20 ? 4 : 2);
      this.out(base + 1, 1);
      this.out(base + 1, 0);
    }
  }

  /** Writes a redirection entry of the IOAPIC. */
  ioapicEntry(pin: number, low: number, destination = 0): void {
    const { vioapic } = this.vm.arch;
    const write = (register: number, value: number): void => {
      const data = new Uint8Array(4);
      new DataView(data.buffer).setUint32(0, register, true);
      vioapic?.write(0xfec0_0000, 4, data);
      new DataView(data.buffer).setUint32(0, value, true);
      vioapic?.write(0xfec0_0010, 4, data);
    };
    write(0x11 + 2 * pin, (destination << 24) >>> 0);
    write(0x10 + 2 * pin, low);
  }

  /** Whether the vCPU was asked to look at its events since the last call. */
  asked(id = 0): boolean {
    return kvmCheckRequest(KVM_REQ_EVENT, this.vcpus[id]!);
  }

  /** Whether an interrupt waits for the vCPU. */
  pending(id = 0): boolean {
    return kvmCpuHasInterrupt(this.vcpus[id]!);
  }
}
