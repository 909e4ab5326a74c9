/** A KVM for tests that runs scripts instead of guests. */

import { ManualClock } from '../devices/manual-clock.ts';
import type { UserMemory } from '../host/index.ts';
import type { GuestMemfd } from '../kvm/virt/guest_memfd.ts';
import { EXIT_SHUTDOWN, KvmRun, type VcpuExit } from '../kvm/virt/kvm_run.ts';
import type { KvmTdxCmd } from '../kvm/x86/uapi_tdx.ts';
import { PhysicalMemory } from '../machine/memory.ts';
import type { CpuidEntry, Errno, VcpuRegs, VcpuSregs, VmmHost, VmmKvm, VmmVcpu, VmmVm } from './kvm-api.ts';
import type { RamSlot } from './vm-memory.ts';

const EINTR = 4;
const KVM_CAP_VM_TYPES = 235;

/** What a scripted vCPU may do next. */
export interface ScriptedCpu {
  /** Exits with OUT; what user space has done with it shows on the VM's devices. */
  out(port: number, value: number, size?: 1 | 2 | 4): VcpuExit;
  /** Exits with IN; the value read is in {@link lastInput} afterwards. */
  in(port: number, size?: 1 | 2 | 4): VcpuExit;
  readonly lastInput: number;
  readonly run: KvmRun;
  readonly index: number;
}

/** A guest: what each vCPU does, exit by exit. Waits for ever at the end. */
export type Script = (cpu: ScriptedCpu) => Generator<VcpuExit | Errno | Promise<void>, void, void>;

class FakeVcpu implements VmmVcpu {
  cpuid: readonly CpuidEntry[] = [];
  /** Memory that was mapped before the guest touched it: address and size. */
  readonly mapped: [number, number][] = [];
  regs: VcpuRegs | undefined;
  sregs: VcpuSregs | undefined;
  readonly exitCounts: Float64Array = new Float64Array(4);
  readonly kvmRun: KvmRun = new KvmRun();
  readonly #tdx: (command: KvmTdxCmd) => Errno;
  readonly #steps: ReturnType<Script>;
  #stop: () => void = () => {};
  readonly #stopped: Promise<void> = new Promise((resolve) => {
    this.#stop = resolve;
  });
  #isStopped = false;

  constructor(index: number, script: Script, tdx: (command: KvmTdxCmd) => Errno = () => 0) {
    this.#tdx = tdx;
    const { io } = this.kvmRun;
    const access = (direction: 'in' | 'out', port: number, size: 1 | 2 | 4): VcpuExit => {
      Object.assign(io, { direction, port, size, count: 1 });
      return io;
    };
    const view = new DataView(io.data.buffer);
    this.#steps = script({
      index,
      run: this.kvmRun,
      out: (port, value, size = 1) => {
        view.setUint32(0, value, true);
        return access('out', port, size);
      },
      in: (port, size = 1) => access('in', port, size),
      get lastInput() {
        return view.getUint32(0, true);
      },
    });
  }
  memoryEncryptOp(command: KvmTdxCmd): Errno {
    return this.#tdx(command);
  }
  preFaultMemory(range: { gpa: number; size: number }): Errno {
    this.mapped.push([range.gpa, range.size]);
    range.size = 0;
    return 0;
  }
  setCpuid2(entries: readonly CpuidEntry[]): Errno {
    this.cpuid = entries;
    return 0;
  }
  getRegs(): VcpuRegs {
    return this.regs ?? ({ rip: 0xfff0n } as VcpuRegs);
  }
  setRegs(regs: VcpuRegs): Errno {
    this.regs = regs;
    return 0;
  }
  getSregs(): VcpuSregs {
    return this.sregs ?? ({ apicBase: 0xfee00900n } as VcpuSregs);
  }
  setSregs(sregs: VcpuSregs): Errno {
    this.sregs = sregs;
    return 0;
  }
  async run(): Promise<VcpuExit | Errno> {
    for (;;) {
      if (this.#isStopped) return -EINTR;
      const step = this.#steps.next();
      if (step.done === true) await this.#stopped;
      else if (step.value instanceof Promise) await step.value;
      else {
        this.exitCounts[1]! += 1;
        return step.value;
      }
    }
  }
  stop(): void {
    this.#isStopped = true;
    this.#stop();
  }
  getXsave(): Uint8Array {
    return new Uint8Array(4096);
  }
  getXcrs(): { xcr: number; value: bigint }[] {
    return [{ xcr: 0, value: 3n }];
  }
  getDebugregs(): ReturnType<VmmVcpu['getDebugregs']> {
    return { db: [0n, 0n, 0n, 0n], dr6: 0n, dr7: 0x400n };
  }
  getVcpuEvents(): ReturnType<VmmVcpu['getVcpuEvents']> {
    return {} as ReturnType<VmmVcpu['getVcpuEvents']>;
  }
  getMpState(): number {
    return 0;
  }
  getLapic(): Uint8Array {
    return new Uint8Array(1024);
  }
  getMsrs(indices: readonly number[]): { index: number; data: bigint }[] {
    return indices.map((index) => ({ index, data: 0n }));
  }
}

/** Guest RAM in one array, as the process's memory. */
class FakeMm {
  readonly #memory: PhysicalMemory;
  #next = 0;

  constructor(memory: PhysicalMemory) {
    this.#memory = memory;
  }
  mmap(length: number): number {
    // The memory of a TD is never touched from outside; it may be larger than what is here.
    if (length > this.#memory.ramSize) return 2 ** 40;
    const at = this.#next;
    this.#next += length;
    return at;
  }
  munmap(): number {
    return 0;
  }
  read(address: number, length: number): Uint8Array {
    return this.#memory.readBytes(address, length);
  }
  write(address: number, data: Uint8Array): boolean {
    this.#memory.writeBytes(address, data);
    return true;
  }
  discard(): number {
    return 0;
  }
  residentPage(address: number): number | undefined {
    return address < this.#memory.ramSize ? address : undefined;
  }
}

const TDX_COMMANDS = ['capabilities', 'init vm', 'init vcpu', 'init mem region', 'finalize', 'get cpuid'] as const;
/** A leaf with bits that a VMM may choose, and the one with the address width. */
const TD_CPUID: readonly CpuidEntry[] = [
  { function: 1, index: 0, flags: 0, eax: 0, ebx: 0, ecx: 0x80000000, edx: 0 },
  { function: 0x80000008, index: 0, flags: 0, eax: 0xff0000, ebx: 0, ecx: 0, edx: 0 },
];

/** What a VM was told. */
export class FakeVm implements VmmVm {
  readonly mm: UserMemory;
  readonly calls: string[] = [];
  readonly slots: RamSlot[] = [];
  readonly vcpus: FakeVcpu[] = [];
  readonly lines: Map<number, boolean> = new Map();
  /** Commands of KVM_MEMORY_ENCRYPT_OP, of the VM and its vCPUs. */
  readonly tdx: KvmTdxCmd[] = [];
  closed = false;
  readonly #script: Script;

  constructor(memory: PhysicalMemory, script: Script) {
    this.mm = new FakeMm(memory) as unknown as UserMemory;
    this.#script = script;
  }
  setTssAddr(address: number): Errno {
    this.calls.push(`tss ${address.toString(16)}`);
    return 0;
  }
  setIdentityMapAddr(address: number): Errno {
    this.calls.push(`identity ${address.toString(16)}`);
    return 0;
  }
  setUserMemoryRegion(slot: RamSlot): Errno {
    this.slots.push(slot);
    return 0;
  }
  createIrqchip(): Errno {
    this.calls.push(`irqchip before ${this.vcpus.length} vcpus`);
    return 0;
  }
  enableCap(cap: number, args: readonly bigint[]): Errno {
    this.calls.push(`cap ${cap} ${args}`);
    return 0;
  }
  createGuestMemfd({ size }: { size: number }): GuestMemfd {
    this.calls.push(`memfd ${size.toString(16)}`);
    const file = {
      fallocate: (mode: number, offset: number, length: number) => {
        this.calls.push(`fallocate ${mode} ${offset.toString(16)} ${length.toString(16)}`);
        return 0;
      },
      residentPage: () => undefined,
      close: () => this.calls.push('close memfd'),
    };
    return file as unknown as GuestMemfd;
  }
  setUserMemoryRegion2(slot: RamSlot): Errno {
    this.slots.push(slot);
    return 0;
  }
  setMemoryAttributes({ address, size, attributes }: { address: number; size: number; attributes: bigint }): Errno {
    this.calls.push(`attributes ${address.toString(16)} ${size.toString(16)} ${attributes}`);
    return 0;
  }
  memoryEncryptOp(command: KvmTdxCmd): Errno {
    const { id, data } = command;
    this.tdx.push(command);
    this.calls.push(TDX_COMMANDS[id]);
    if (id === 0) Object.assign(data, { supportedAttrs: 1n << 28n, supportedXfam: 3n, cpuid: { entries: TD_CPUID } });
    return 0;
  }
  setGsiRouting(): Errno {
    return 0;
  }
  createPit2(): Errno {
    this.calls.push('pit');
    return 0;
  }
  irqLine({ irq, level }: { irq: number; level: number }): number {
    this.lines.set(irq, level !== 0);
    return 0;
  }
  getIrqchip(): Uint8Array {
    return new Uint8Array(512);
  }
  getPit2(): Uint8Array {
    return new Uint8Array(112);
  }
  createVcpu(id: number): VmmVcpu {
    const vcpu = new FakeVcpu(id, this.#script, (command) => this.memoryEncryptOp(command));
    this.vcpus.push(vcpu);
    return vcpu;
  }
  close(): void {
    this.closed = true;
  }
}

/** Host and KVM whose guests follow a script. */
export class FakeHost {
  readonly clock: ManualClock = new ManualClock();
  readonly vms: FakeVm[] = [];
  holds = 0;
  readonly host: VmmHost;
  readonly kvm: VmmKvm;

  constructor(script: Script, ramSize = 0x400000) {
    const memory = new PhysicalMemory(ramSize);
    this.host = {
      machine: { memory, clock: { instructions: 42, now: () => this.clock.now() } },
      timers: this.clock,
      sched: {
        mode: 'virtual',
        onStuck: () => {},
        hold: () => {
          this.holds++;
          return () => {
            this.holds--;
          };
        },
        startTogether: (begin) => begin(),
      },
      platform: { turn: (done) => setTimeout(done, 0) },
    };
    this.kvm = {
      checkExtension: (extension) => (extension === KVM_CAP_VM_TYPES ? 0x21 : 1),
      getMsrIndexList: () => [0x10],
      getSupportedCpuid: () => [{ function: 1, index: 0, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 0 }],
      createVm: () => {
        const vm = new FakeVm(memory, script);
        this.vms.push(vm);
        return vm;
      },
    };
  }
}

/** The exit of a triple fault. */
export const TRIPLE_FAULT: VcpuExit = EXIT_SHUTDOWN;
