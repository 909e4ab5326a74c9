/**
 * A trust domain under the real TDX module, driven through KVM's API: its guest waits for commands in shared memory, makes
 * the TDCALL that it is told to make, and reports the registers.
 *
 *   private 0 to 1 MiB: tables, code, stack    shared from {@link SHARED} on: the mailbox    private at 4 GiB − 4 KiB: reset
 *
 * Linear addresses are guest-physical ones; 512 GiB above them is the same memory with the shared bit.
 */
import { Host } from '../../src/host/index.ts';
import { Kvm, type Vcpu, type Vm, vtInit } from '../../src/kvm/index.ts';
import type { GuestMemfd } from '../../src/kvm/virt/guest_memfd.ts';
import type { KvmModule } from '../../src/kvm/virt/kvm_host.ts';
import type { VcpuExit } from '../../src/kvm/virt/kvm_run.ts';
import type { KvmCpuidEntry2 } from '../../src/kvm/x86/cpuid.ts';
import { KVM_TDX_MEASURE_MEMORY_REGION, TDX_TD_ATTR_SEPT_VE_DISABLE } from '../../src/kvm/x86/uapi_tdx.ts';
import { assemble } from '../../src/machine/isa/assembler/assemble.ts';
import { Machine } from '../../src/machine/machine.ts';
import { installTdxModule, type TdxModule } from '../../src/tdx-module/module.ts';
import { ok } from './lab.ts';
import { SeamRecorder } from './seam-recorder.ts';
import {
  CODE,
  DONE_PORT,
  PML4,
  PRIVATE_SIZE,
  RESET,
  RESET_PAGE,
  RESULT,
  SERVER,
  SHARED,
  SHARED_SIZE,
  tables,
} from './td-guest.ts';

export { PRIVATE_SIZE, SHARED, SHARED_BIT } from './td-guest.ts';

export const KVM_X86_TDX_VM = 5;
export const KVM_CAP_SPLIT_IRQCHIP = 121;
export const KVM_CAP_EXIT_HYPERCALL = 201;
const KVM_MEM_GUEST_MEMFD = 4;
const EBUSY = 16;
export const KVM_MEMORY_ATTRIBUTE_PRIVATE = 8n;
const MIB = 1 << 20;

/** Registers of a command by number. */
export type Regs = Partial<Record<number, bigint>>;
const RAX = 0;
const RCX = 1;
/** Registers that TDG.VP.VMCALL passes unless a command says otherwise: R10 to R15, RBX, RDI, RSI, RDX, R8, R9. */
const PASSED = 0xffccn;

export interface TdLabOptions {
  readonly processors?: number;
  readonly vcpus?: number;
  readonly ramSize?: number;
  readonly privateKeyIds?: number;
  readonly code?: string;
  /** Stops before KVM_TDX_FINALIZE_VM. */
  readonly unfinished?: boolean;
}

/** The least CPUID that KVM_TDX_INIT_VM takes: 48-bit guest-physical addresses. */
export const INIT_CPUID: readonly KvmCpuidEntry2[] = [
  { function: 0x8000_0008, index: 0, flags: 0, eax: 0x30_0000, ebx: 0, ecx: 0, edx: 0 },
];

/** A host with the TDX module and KVM. */
export interface TdxHostLab {
  readonly host: Host;
  readonly tdxModule: TdxModule;
  readonly seam: SeamRecorder;
  readonly module: KvmModule;
  readonly kvm: Kvm;
  readonly log: string[];
}

export function tdxHost(options: TdLabOptions = {}): TdxHostLab {
  const { processors = 2, ramSize = 48 * MIB, privateKeyIds } = options;
  const tdx = privateKeyIds === undefined ? {} : { tdx: { privateKeyIds } };
  const machine = new Machine({ processors, ramSize, profile: 'tdx-host', ...tdx });
  const tdxModule = installTdxModule(machine);
  const seam = new SeamRecorder(tdxModule);
  machine.seam.install(seam);
  const host = new Host(machine);
  const log: string[] = [];
  host.log = (message) => void log.push(message);
  const module = ok(vtInit(host));
  return { host, tdxModule, seam, module, kvm: ok(Kvm.open(host)), log };
}

/** A TD that has got as far as the options say. */
export class TdLab {
  readonly lab: TdxHostLab;
  readonly vm: Vm;
  readonly vcpus: Vcpu[] = [];
  /** Address of the shared memory in the process. */
  shared = 0;
  readonly files: GuestMemfd[] = [];

  constructor(options: TdLabOptions = {}, lab: TdxHostLab = tdxHost(options)) {
    this.lab = lab;
    this.vm = ok(lab.kvm.createVm(KVM_X86_TDX_VM));
    try {
      this.#build(options);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #build(options: TdLabOptions): void {
    const { lab } = this;
    must(this.vm.enableCap(KVM_CAP_SPLIT_IRQCHIP, [24n]));
    must(this.vm.enableCap(KVM_CAP_EXIT_HYPERCALL, [1n << 12n]));
    must(
      this.vm.memoryEncryptOp({
        id: 1,
        data: { attributes: TDX_TD_ATTR_SEPT_VE_DISABLE, xfam: 3n, cpuid: INIT_CPUID },
      }),
    );
    for (let id = 0; id < (options.vcpus ?? 1); id++) {
      const vcpu = ok(this.vm.createVcpu(id));
      must(vcpu.setCpuid2(lab.kvm.getSupportedCpuid()));
      must(vcpu.memoryEncryptOp({ id: 2, data: 0n }));
      this.vcpus.push(vcpu);
    }
    this.#privateSlot(0, 0, PRIVATE_SIZE);
    this.#privateSlot(1, RESET_PAGE, 4096);
    this.shared = this.vm.mm.mmap(SHARED_SIZE);
    this.#slot(2, SHARED, SHARED_SIZE, this.shared);
    this.add(RESET_PAGE, assemble(RESET, 32).bytes);
    this.add(PML4, tables());
    this.add(CODE, assemble(options.code ?? SERVER).bytes);
    // The stacks.
    for (let id = 0; id < this.vcpus.length; id++) this.add(0x8000 + id * 0x1000, new Uint8Array(4096));
    if (options.unfinished) return;
    let result: number;
    // A busy module is user space's to ask again.
    do result = this.vm.memoryEncryptOp({ id: 4, data: 0n });
    while (result === -EBUSY);
    must(result);
  }

  get vcpu(): Vcpu {
    return this.vcpus[0]!;
  }

  #privateSlot(slot: number, gpa: number, size: number): void {
    const file = ok(this.vm.createGuestMemfd({ size, flags: 0n }));
    this.files.push(file);
    this.#slot(slot, gpa, size, this.vm.mm.mmap(size), file);
    must(this.vm.setMemoryAttributes({ address: gpa, size, attributes: KVM_MEMORY_ATTRIBUTE_PRIVATE, flags: 0n }));
  }

  #slot(slot: number, gpa: number, size: number, userspaceAddr: number, file?: GuestMemfd): void {
    const region = { slot, guestPhysAddr: gpa, memorySize: size, userspaceAddr };
    must(
      file === undefined
        ? this.vm.setUserMemoryRegion2({ ...region, flags: 0 })
        : this.vm.setUserMemoryRegion2({
            ...region,
            flags: KVM_MEM_GUEST_MEMFD,
            guestMemfd: file,
            guestMemfdOffset: 0,
          }),
    );
  }

  /** KVM_TDX_INIT_MEM_REGION of some bytes, in whole pages. */
  add(gpa: number, bytes: Uint8Array, flags: number = KVM_TDX_MEASURE_MEMORY_REGION): void {
    const nrPages = Math.ceil(bytes.length / 4096);
    const source = this.vm.mm.mmap(nrPages * 4096);
    this.vm.mm.write(source, bytes);
    must(this.vcpu.memoryEncryptOp({ id: 3, flags, data: { sourceAddr: source, gpa, nrPages } }));
    this.vm.mm.munmap(source);
  }

  /** Puts the next command into a vCPU's mailbox; RAX 0 and what TDG.VP.VMCALL passes unless said. */
  command(regs: Regs, vcpu = 0): void {
    const view = new DataView(new ArrayBuffer(128));
    view.setBigUint64(8 * RCX, regs[RCX] ?? ((regs[RAX] ?? 0n) === 0n ? PASSED : 0n), true);
    for (const [n, value] of Object.entries(regs)) view.setBigUint64(8 * Number(n), value!, true);
    this.vm.mm.write(this.shared + vcpu * 4096, new Uint8Array(view.buffer));
  }

  /** Registers after the last command. */
  result(vcpu = 0): bigint[] {
    const bytes = this.vm.mm.read(this.shared + vcpu * 4096 + RESULT, 128)!;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    return Array.from({ length: 16 }, (_, n) => view.getBigUint64(8 * n, true));
  }

  /** Runs until the guest is ready for a command. */
  async ready(vcpu = 0): Promise<void> {
    const exit = await this.vcpus[vcpu]!.run();
    if (!isDone(exit)) throw new Error(`not ready: ${JSON.stringify(exit, printable)} ${this.lab.log.join('; ')}`);
  }

  /**
   * Makes a TDCALL and gives the registers after it. Exits on the way go to `serve`; without one they are failures.
   */
  async call(regs: Regs, serve?: (exit: VcpuExit | number) => void, vcpu = 0): Promise<bigint[]> {
    this.command(regs, vcpu);
    for (let i = 0; i < 2000; i++) {
      const exit = await this.vcpus[vcpu]!.run();
      if (isDone(exit)) return this.result(vcpu);
      if (serve === undefined) throw new Error(`exit ${JSON.stringify(exit, printable)} ${this.lab.log.join('; ')}`);
      serve(exit);
    }
    throw new Error('the guest never gets done');
  }

  /** TDG.VP.VMCALL with its leaf in R11 and arguments from R12 on. */
  vmcall(leaf: bigint, args: readonly bigint[], serve?: (exit: VcpuExit | number) => void): Promise<bigint[]> {
    const regs: Regs = { 10: 0n, 11: leaf };
    args.forEach((value, i) => {
      regs[12 + i] = value;
    });
    return this.call(regs, serve);
  }

  /** The process with the TD is gone. */
  close(): void {
    for (const file of this.files) file.close();
    this.vm.close();
    this.vm.mm.exit();
  }
}

const printable = (_key: string, value: unknown): unknown =>
  typeof value === 'bigint' ? `0x${value.toString(16)}` : value;

/** The guest has finished a command. */
export const isDone = (exit: VcpuExit | number): boolean =>
  typeof exit !== 'number' && exit.kind === 'io' && exit.direction === 'out' && exit.port === DONE_PORT;

/** 0, or a failure of the test. */
export function must(result: number): void {
  if (result !== 0) throw new Error(`errno ${-result}`);
}
