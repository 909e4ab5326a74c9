/** A VM from its parts to its end: memory, interrupt controllers, vCPUs, devices, kernel, and the loops that run it. */

import { writeAcpiTables } from './acpi/tables.ts';
import { entryRegs, entrySregs } from './entry-registers.ts';
import { guestCpuid } from './guest-cpuid.ts';
import type { GuestEnd } from './guest-end.ts';
import type { GuestConfig } from './guest-run.ts';
import { expectOk, type VmmHost, type VmmKvm, type VmmVm } from './kvm-api.ts';
import { KVM_IDENTITY_MAP_ADDRESS, KVM_TSS_ADDRESS } from './layout.ts';
import { loadKernel } from './loaders/kernel.ts';
import { memoryMap } from './memory-map.ts';
import { writeMpTable } from './mp-table.ts';
import { Board } from './pc/board.ts';
import { gsiRouting } from './pc/gsi-routing.ts';
import type { SerialConsole } from './serial-console.ts';
import type { StateHash } from './state-hash.ts';
import { VcpuGroup } from './vcpu-group.ts';
import { vcpuState } from './vcpu-state.ts';
import { VmMemory } from './vm-memory.ts';

/** A TD as its owner sees it. */
export interface OwnersView {
  /** A page of its memory. */
  readonly page: (page: number) => Uint8Array;
  /** The state of its vCPUs: plain values. */
  readonly vcpus: (vm: VmmVm) => readonly unknown[];
}

/** What a VM is built on. */
export interface VmSurroundings {
  readonly host: VmmHost;
  readonly kvm: VmmKvm;
  /** Where KVM cannot create TDs: why not. */
  readonly noTdx?: string;
  /** What of a TD the host itself cannot see, for state hashes. */
  readonly ownersView?: OwnersView;
  readonly console: SerialConsole;
}

/** A guest of either kind, built and ready. It runs once. */
export interface RunnableGuest {
  /** Runs all vCPUs until the guest ends. */
  run(): Promise<GuestEnd>;
  /** Ends the guest; only the first end counts. */
  stop(end: GuestEnd): void;
  /** Exits so far by basic exit reason, over all vCPUs. */
  exitCounts(): number[];
  /** The host's page behind a guest-physical address, if there is one. */
  hostPage(gpa: number): number | undefined;
  /** Feeds what the host can see of the guest's state to a hash. */
  hash(hash: StateHash): void;
  /** Gives everything back. */
  close(): void;
}

const KVM_CAP_TSC_DEADLINE_TIMER = 72;
const KVM_CAP_X86_APIC_BUS_CYCLES_NS = 237;
/** CPUID leaf: TSC and core crystal clock. */
const CPUID_CRYSTAL = 0x15;
/** The PIT brings port 0x61 with it. */
const KVM_PIT_SPEAKER_DUMMY = 1;
/** PIC master, PIC slave, IOAPIC. */
const IRQCHIPS = [0, 1, 2] as const;

/** One VM. It runs once; after a reset a new one is built. */
export class VirtualMachine implements RunnableGuest {
  readonly #surroundings: VmSurroundings;
  readonly #vm: VmmVm;
  readonly #memory: VmMemory;
  readonly #board: Board;
  readonly #group: VcpuGroup = new VcpuGroup();
  /** Timers of the devices may outlive the VM by a moment. */
  #closed = false;

  /** Builds the VM and loads the kernel. Throws a SoftvtError if the input cannot be a guest. */
  constructor(surroundings: VmSurroundings, config: GuestConfig) {
    const { host, kvm, console } = surroundings;
    this.#surroundings = surroundings;
    this.#vm = expectOk('KVM_CREATE_VM', kvm.createVm());
    const vm = this.#vm;
    this.#memory = new VmMemory(vm.mm, host.machine.memory, config.memorySize);
    expectOk('KVM_SET_TSS_ADDR', vm.setTssAddr(KVM_TSS_ADDRESS));
    expectOk('KVM_SET_IDENTITY_MAP_ADDR', vm.setIdentityMapAddr(KVM_IDENTITY_MAP_ADDRESS));
    expectOk('KVM_CREATE_IRQCHIP', vm.createIrqchip());
    this.#matchApicTimer();
    expectOk('KVM_SET_GSI_ROUTING', vm.setGsiRouting(gsiRouting()));
    expectOk('KVM_CREATE_PIT2', vm.createPit2({ flags: KVM_PIT_SPEAKER_DUMMY }));
    for (const slot of this.#memory.slots) {
      expectOk('KVM_SET_USER_MEMORY_REGION', vm.setUserMemoryRegion(slot));
    }
    this.#createVcpus(config.cpus);
    this.#board = new Board({
      clock: host.timers,
      setIrq: (irq, level) => {
        if (!this.#closed) vm.irqLine({ irq, level: level ? 1 : 0 });
      },
      end: (end) => this.stop(end),
      console,
      epochSeconds: config.epochSeconds,
      memorySize: config.memorySize,
    });
    this.#load(config);
  }

  /** Runs all vCPUs until the guest ends. */
  run(): Promise<GuestEnd> {
    const { host, console } = this.#surroundings;
    return this.#group.run({ host, ports: this.#board.ports, console });
  }

  /** Ends the guest; only the first end counts. */
  stop(end: GuestEnd): void {
    this.#group.stop(end);
  }

  /** Exits so far by basic exit reason, over all vCPUs. */
  exitCounts(): number[] {
    return this.#group.exitCounts();
  }

  hostPage(gpa: number): number | undefined {
    return this.#memory.residentPage(gpa);
  }

  /** Feeds RAM and vCPU state to a hash. */
  hash(hash: StateHash): void {
    this.#memory.hash(hash);
    const { kvm } = this.#surroundings;
    for (const vcpu of this.#group.vcpus) hash.value(vcpuState(kvm, vcpu));
    for (const chip of IRQCHIPS) hash.value(this.#vm.getIrqchip(chip));
    hash.value(this.#vm.getPit2());
  }

  /** Gives everything back. */
  close(): void {
    this.#closed = true;
    this.#surroundings.console.disconnect();
    this.#vm.close();
    this.#memory.release();
  }

  /** Where CPUID names the crystal clock, guests take the APIC timer to count it: so it shall. */
  #matchApicTimer(): void {
    const clock = this.#surroundings.kvm.getSupportedCpuid().find((entry) => entry.function === CPUID_CRYSTAL);
    if (clock === undefined || clock.ecx === 0) return;
    const ns = BigInt(Math.round(1e9 / clock.ecx));
    expectOk('KVM_CAP_X86_APIC_BUS_CYCLES_NS', this.#vm.enableCap(KVM_CAP_X86_APIC_BUS_CYCLES_NS, [ns]));
  }

  #createVcpus(cpus: number): void {
    const { kvm } = this.#surroundings;
    const supported = kvm.getSupportedCpuid();
    const tscDeadline = kvm.checkExtension(KVM_CAP_TSC_DEADLINE_TIMER) > 0;
    for (let id = 0; id < cpus; id++) {
      const vcpu = expectOk('KVM_CREATE_VCPU', this.#vm.createVcpu(id));
      const entries = guestCpuid(supported, { apicId: id, cpus, tscDeadline });
      expectOk('KVM_SET_CPUID2', vcpu.setCpuid2(entries));
      this.#group.vcpus.push(vcpu);
    }
  }

  #load(config: GuestConfig): void {
    const rsdp = writeAcpiTables(this.#memory, config.cpus);
    writeMpTable(this.#memory, config.cpus);
    const { entry } = loadKernel(this.#memory, {
      kernel: config.kernel,
      kernelName: config.kernelName,
      ...(config.initrd === undefined ? {} : { initrd: config.initrd }),
      ...(config.initrdName === undefined ? {} : { initrdName: config.initrdName }),
      ...(config.modules === undefined ? {} : { modules: config.modules }),
      commandLine: config.commandLine,
      memoryMap: memoryMap(config.memorySize),
      rsdp,
    });
    const [boot] = this.#group.vcpus;
    if (boot === undefined) return;
    const sregs = expectOk('KVM_GET_SREGS', boot.getSregs());
    expectOk('KVM_SET_SREGS', boot.setSregs(entrySregs(sregs, entry)));
    expectOk('KVM_SET_REGS', boot.setRegs(entryRegs(entry)));
  }
}
