/** A TD from its parts to its end: KVM's TDX commands in their order, initial memory, vCPUs, devices, and the loops. */

import type { VcpuExit } from '../../kvm/virt/kvm_run.ts';
import { KVM_MEMORY_EXIT_FLAG_PRIVATE, KVM_SYSTEM_EVENT_TDX_FATAL } from '../../kvm/virt/kvm_run.ts';
import {
  KVM_TDX_CAPABILITIES,
  KVM_TDX_FINALIZE_VM,
  KVM_TDX_INIT_MEM_REGION,
  KVM_TDX_INIT_VCPU,
  KVM_TDX_INIT_VM,
  KVM_TDX_MEASURE_MEMORY_REGION,
  type KvmTdxCapabilities,
  TDX_TD_ATTR_SEPT_VE_DISABLE,
} from '../../kvm/x86/uapi_tdx.ts';
import { PAGE_SIZE } from '../../util/address.ts';
import { SoftvtError } from '../../util/errors.ts';
import { guestCpuid } from '../guest-cpuid.ts';
import type { GuestEnd } from '../guest-end.ts';
import type { GuestConfig } from '../guest-run.ts';
import { expectOk, type VmmVm } from '../kvm-api.ts';
import { doMmio } from '../pc/io.ts';
import type { StateHash } from '../state-hash.ts';
import { VcpuGroup } from '../vcpu-group.ts';
import type { RunnableGuest, VmSurroundings } from '../vm.ts';
import { TdBoard } from './board.ts';
import { answerHypercall, answerTdx, fatalError, NO_QUOTE_SERVICE } from './calls.ts';
import { tdConfigCpuid, tdVcpuCpuid } from './cpuid.ts';
import { buildTdImage, type TdImage, type TdRegion } from './image.ts';
import { IOAPIC_PINS } from './ioapic.ts';
import { SHIM_ADDRESS, SHIM_SIZE } from './layout.ts';
import { TdMemory } from './memory.ts';

const KVM_X86_TDX_VM = 5;
const KVM_CAP_SPLIT_IRQCHIP = 121;
const KVM_CAP_EXIT_HYPERCALL = 201;
const KVM_CAP_X86_APIC_BUS_CYCLES_NS = 237;
const KVM_CAP_VM_TYPES = 235;
const KVM_HC_MAP_GPA_RANGE = 12n;
/** A TD's crystal clock has 25 MHz, which CPUID says, and its APIC timer counts it. */
const APIC_BUS_CYCLE_NS = 40n;
/** CPUID entries that there is room for. */
const CPUID_ROOM = 256;
/** Initial memory goes in by pieces, so that the host holds no second copy of all of it. */
const PIECE = 512 * PAGE_SIZE;

/** One TD. It runs once; after a reset a new one is built. */
export class TrustDomain implements RunnableGuest {
  readonly #surroundings: VmSurroundings;
  readonly #vm: VmmVm;
  readonly #memory: TdMemory;
  readonly #board: TdBoard;
  readonly #group: VcpuGroup = new VcpuGroup();
  /** Timers of the devices may outlive the TD by a moment. */
  #closed = false;

  /**
   * Builds and measures the TD. Throws a SoftvtError if the input cannot be a guest, ERR_SOFTVT_NO_TDX where the host has
   * no TDX.
   */
  constructor(surroundings: VmSurroundings, config: GuestConfig) {
    const { host, kvm, console } = surroundings;
    this.#surroundings = surroundings;
    const image = buildTdImage(config);
    if ((kvm.checkExtension(KVM_CAP_VM_TYPES) & (1 << KVM_X86_TDX_VM)) === 0) {
      const { noTdx = 'its KVM has no TDX' } = surroundings;
      throw new SoftvtError('ERR_SOFTVT_NO_TDX', `this host cannot run TDs: ${noTdx}`);
    }
    const vm = expectOk('KVM_CREATE_VM', kvm.createVm(KVM_X86_TDX_VM));
    this.#vm = vm;
    this.#memory = new TdMemory(vm);
    try {
      this.#build(config, image);
    } catch (error) {
      // Other guests of the host may live on, and want the memory and the KeyID.
      this.#memory.closeFiles();
      vm.close();
      this.#memory.release();
      throw error;
    }
    this.#board = new TdBoard({
      clock: host.timers,
      wires: {
        setGsiRouting: (entries) => vm.setGsiRouting(entries),
        irqLine: (line) => (this.#closed ? 0 : vm.irqLine(line)),
      },
      end: (end) => this.stop(end),
      console,
      epochSeconds: config.epochSeconds,
      memorySize: config.memorySize,
    });
  }

  run(): Promise<GuestEnd> {
    const { host, console } = this.#surroundings;
    return this.#group.run({
      host,
      ports: this.#board.ports,
      console,
      special: (exit, errno, index) => this.#special(exit, errno, index),
    });
  }

  stop(end: GuestEnd): void {
    this.#group.stop(end);
  }

  exitCounts(): number[] {
    return this.#group.exitCounts();
  }

  /** KVM's side of it. */
  get vm(): VmmVm {
    return this.#vm;
  }

  /** Private pages have one too, which shows the host nothing. */
  hostPage(gpa: number): number | undefined {
    return this.#memory.hostPage(gpa);
  }

  /** Memory and vCPUs, of which what is private counts only where somebody can see it, and what is counted. */
  hash(hash: StateHash): void {
    const { host, ownersView } = this.#surroundings;
    const { memory, clock } = host.machine;
    this.#memory.hash(hash, ownersView?.page ?? ((page) => memory.readBytes(page, PAGE_SIZE)));
    for (const vcpu of ownersView?.vcpus(this.#vm) ?? []) hash.value(vcpu);
    hash.value([clock.instructions, this.exitCounts()]);
  }

  close(): void {
    this.#closed = true;
    this.#surroundings.console.disconnect();
    this.#memory.closeFiles();
    this.#vm.close();
    this.#memory.release();
  }

  /** Up to a TD that can run. */
  #build({ cpus, memorySize }: GuestConfig, image: TdImage): void {
    this.#initialize(cpus);
    this.#memory.add(0, memorySize);
    this.#memory.add(SHIM_ADDRESS, SHIM_SIZE);
    this.#createVcpus(cpus, image);
    for (const region of image.regions) this.#add(region);
    expectOk('KVM_TDX_FINALIZE_VM', this.#vm.memoryEncryptOp({ id: KVM_TDX_FINALIZE_VM, data: 0n }));
    for (const { gpa, size } of image.unaccepted) this.#map(gpa, size);
  }

  /** Everything up to the first vCPU. */
  #initialize(cpus: number): void {
    const vm = this.#vm;
    expectOk('KVM_CAP_SPLIT_IRQCHIP', vm.enableCap(KVM_CAP_SPLIT_IRQCHIP, [BigInt(IOAPIC_PINS)]));
    expectOk('KVM_CAP_EXIT_HYPERCALL', vm.enableCap(KVM_CAP_EXIT_HYPERCALL, [1n << KVM_HC_MAP_GPA_RANGE]));
    expectOk('KVM_CAP_X86_APIC_BUS_CYCLES_NS', vm.enableCap(KVM_CAP_X86_APIC_BUS_CYCLES_NS, [APIC_BUS_CYCLE_NS]));
    const capabilities: KvmTdxCapabilities = {
      supportedAttrs: 0n,
      supportedXfam: 0n,
      kernelTdvmcallinfo1R11: 0n,
      userTdvmcallinfo1R11: 0n,
      kernelTdvmcallinfo1R12: 0n,
      userTdvmcallinfo1R12: 0n,
      cpuid: { nent: CPUID_ROOM, entries: [] },
    };
    expectOk('KVM_TDX_CAPABILITIES', vm.memoryEncryptOp({ id: KVM_TDX_CAPABILITIES, data: capabilities }));
    const wanted = guestCpuid(this.#surroundings.kvm.getSupportedCpuid(), { apicId: 0, cpus, tscDeadline: true });
    expectOk(
      'KVM_TDX_INIT_VM',
      vm.memoryEncryptOp({
        id: KVM_TDX_INIT_VM,
        data: {
          // Linux wants faults on memory that it did not accept to go to the host, not to itself.
          attributes: TDX_TD_ATTR_SEPT_VE_DISABLE & capabilities.supportedAttrs,
          xfam: capabilities.supportedXfam,
          cpuid: tdConfigCpuid(wanted, capabilities),
        },
      }),
    );
  }

  #createVcpus(cpus: number, { hob }: TdImage): void {
    const supported = this.#surroundings.kvm.getSupportedCpuid();
    for (let id = 0; id < cpus; id++) {
      const vcpu = expectOk('KVM_CREATE_VCPU', this.#vm.createVcpu(id));
      const entries = tdVcpuCpuid(guestCpuid(supported, { apicId: id, cpus, tscDeadline: true }));
      expectOk('KVM_SET_CPUID2', vcpu.setCpuid2(entries));
      expectOk('KVM_TDX_INIT_VCPU', vcpu.memoryEncryptOp({ id: KVM_TDX_INIT_VCPU, data: BigInt(hob) }));
      this.#group.vcpus.push(vcpu);
    }
  }

  /** Adds a region's pages and, if it is to be, measures them. */
  #add({ gpa, data, measured }: TdRegion): void {
    const vcpu = this.#group.vcpus[0]!;
    for (let at = 0; at < data.length; at += PIECE) {
      const piece = data.subarray(at, at + PIECE);
      this.#memory.withSource(piece, (sourceAddr) =>
        expectOk(
          'KVM_TDX_INIT_MEM_REGION',
          vcpu.memoryEncryptOp({
            id: KVM_TDX_INIT_MEM_REGION,
            flags: measured ? KVM_TDX_MEASURE_MEMORY_REGION : 0,
            data: { sourceAddr, gpa: gpa + at, nrPages: piece.length / PAGE_SIZE },
          }),
        ),
      );
    }
  }

  /** Maps memory that the td-shim will accept page by page: an exit for each would take longer. */
  #map(gpa: number, size: number): void {
    const range = { gpa, size, flags: 0n };
    while (range.size > 0) expectOk('KVM_PRE_FAULT_MEMORY', this.#group.vcpus[0]!.preFaultMemory(range));
  }

  /** The exits that only TDs have, or that mean something else in one. */
  #special(exit: VcpuExit, errno: number, index: number): boolean {
    if (exit.kind === 'memory-fault') {
      // The guest has used a page the other way than KVM was told: as it uses it, so it shall be.
      const toPrivate = (exit.flags & KVM_MEMORY_EXIT_FLAG_PRIVATE) !== 0n;
      if (this.#memory.convert(exit.gpa, exit.size, toPrivate) === 0) return true;
      const kind = toPrivate ? 'private' : 'shared';
      this.stop({
        reason: 'kvm-error',
        message: `the TD used ${kind} memory at 0x${exit.gpa.toString(16)}, where there is none`,
      });
      return true;
    }
    if (errno !== 0) return false;
    switch (exit.kind) {
      case 'mmio':
        doMmio(exit, this.#board.mmio);
        return true;
      case 'hypercall':
        answerHypercall(exit, this.#memory);
        return true;
      case 'tdx':
        answerTdx(exit, this.#memory, NO_QUOTE_SERVICE);
        return true;
      case 'system-event':
        if (exit.type !== KVM_SYSTEM_EVENT_TDX_FATAL) return false;
        this.stop(fatalError(exit));
        return true;
      case 'shutdown':
        this.stop({ reason: 'triple-fault', vcpu: index, rip: undefined });
        return true;
      default:
        return false;
    }
  }
}
