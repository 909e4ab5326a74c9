/** A VM with one vCPU in flat 32-bit protected mode, for tests that run a few instructions. */
import type { Host } from '../../src/host/index.ts';
import { Kvm, type Vcpu, type VcpuExit, type Vm, vtInit } from '../../src/kvm/index.ts';
import type { KvmRegs } from '../../src/kvm/x86/sregs.ts';
import { newHost, ok } from './lab.ts';

/** Where code is loaded and starts. */
export const CODE = 0x1000;
/** Top of the stack. */
export const STACK = 0x8000;
const GDT = 0x5000;
const KVM_CAP_SPLIT_IRQCHIP = 121;
const IDT = 0x6000;

const FLAT = {
  base: 0n,
  limit: 0xffff_ffff,
  selector: 8,
  type: 11,
  present: 1,
  dpl: 0,
  db: 1,
  s: 1,
  l: 0,
  g: 1,
  avl: 0,
  unusable: 0,
};

/** Options of {@link GuestLab}. */
export interface GuestLabOptions {
  /** Bytes of RAM from guest-physical 0. */
  readonly ram?: number;
  readonly flags?: number;
  readonly irqchip?: boolean;
  /** Only local APICs are in the kernel. */
  readonly split?: boolean;
  readonly host?: Host;
  /** VM type; an ordinary one if not given. */
  readonly type?: number;
}

/** One VM, one vCPU. */
export class GuestLab {
  readonly host: Host;
  readonly kvm: Kvm;
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  /** Address of guest-physical 0 in the process. */
  readonly memory: number;
  readonly ram: number;

  constructor(options: GuestLabOptions = {}) {
    this.host = options.host ?? newHost(1);
    if (options.host === undefined) ok(vtInit(this.host));
    this.kvm = ok(Kvm.open(this.host));
    this.vm = ok(this.kvm.createVm(options.type ?? 0));
    if (options.irqchip) ok([this.vm.createIrqchip()]);
    if (options.split) this.vm.enableCap(KVM_CAP_SPLIT_IRQCHIP, [24n]);
    this.ram = options.ram ?? 0x10000;
    this.memory = this.vm.mm.mmap(this.ram);
    this.vm.setUserMemoryRegion(this.slot(options.flags ?? 0));
    this.vcpu = ok(this.vm.createVcpu(0));
    this.vcpu.setCpuid2(this.kvm.getSupportedCpuid());
    this.reset();
  }

  /** The RAM slot with other flags. */
  slot(flags: number) {
    return {
      slot: 0,
      flags,
      guestPhysAddr: 0,
      memorySize: this.ram,
      userspaceAddr: this.memory,
    };
  }

  /** Flat protected mode at {@link CODE}. */
  reset(): void {
    const sregs = ok(this.vcpu.getSregs());
    const data = { ...FLAT, type: 3, selector: 16 };
    const failed = this.vcpu.setSregs({
      ...sregs,
      cr0: sregs.cr0 | 1n,
      cs: FLAT,
      ds: data,
      es: data,
      fs: data,
      gs: data,
      ss: data,
    });
    if (failed !== 0) throw new Error(`KVM_SET_SREGS: ${failed}`);
    this.start();
  }

  /** RIP at {@link CODE}, with registers as given. */
  start(regs: Partial<KvmRegs> = {}): void {
    const zero = Object.fromEntries(Object.keys(ok(this.vcpu.getRegs())).map((name) => [name, 0n]));
    this.vcpu.setRegs({
      ...(zero as unknown as KvmRegs),
      rip: BigInt(CODE),
      rsp: BigInt(STACK),
      rflags: 2n,
      ...regs,
    });
  }

  /** A GDT with flat segments, and an IDT with interrupt gates to the given handlers. */
  tables(handlers: Readonly<Record<number, number>>): this {
    const { mm } = this.vm;
    const flat = [255, 255, 0, 0, 0, 0x9b, 0xcf, 0, 255, 255, 0, 0, 0, 0x93, 0xcf, 0];
    mm.write(this.memory + GDT, Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, ...flat]));
    for (const [vector, address] of Object.entries(handlers)) {
      const gate = [address & 255, address >> 8, 8, 0, 0, 0x8e, 0, 0];
      mm.write(this.memory + IDT + Number(vector) * 8, Uint8Array.from(gate));
    }
    const sregs = ok(this.vcpu.getSregs());
    this.vcpu.setSregs({
      ...sregs,
      gdt: { base: BigInt(GDT), limit: 0x17 },
      idt: { base: BigInt(IDT), limit: 0x7ff },
    });
    return this;
  }

  /** Puts code at an address. */
  put(address: number, ...code: number[]): this {
    this.vm.mm.write(this.memory + address, Uint8Array.from(code));
    return this;
  }

  load(...code: number[]): this {
    this.vm.mm.write(this.memory + CODE, Uint8Array.from(code));
    return this;
  }

  /** Runs until HLT; what `onExit` gets beside it. */
  async run(onExit: (exit: VcpuExit) => void = () => {}): Promise<VcpuExit> {
    for (let i = 0; i < 1000; i++) {
      const exit = ok(await this.vcpu.run());
      if (exit.kind !== 'io' && exit.kind !== 'mmio') return exit;
      onExit(exit);
    }
    throw new Error('the guest does not end');
  }

  read32(gpa: number): number {
    const bytes = this.vm.mm.read(this.memory + gpa, 4)!;
    return new DataView(bytes.buffer).getUint32(0, true);
  }
}

/** A little-endian 32-bit immediate. */
export const imm32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 255);
