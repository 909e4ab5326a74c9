/**
 * A VM that runs a few bytes of code, and what it exits to user space with.
 *
 * 1 MiB of RAM from 0 on; in 64-bit mode linear addresses below 4 GiB are guest-physical ones, everything beyond the RAM
 * is MMIO. Code lies at {@link CODE}.
 */
import { Host } from '../../../host/host.ts';
import { Machine } from '../../../machine/machine.ts';
import { hexOf } from '../../../util/bytes.ts';
import { Kvm, type Vcpu, type Vm } from '../../api.ts';
import type { VcpuExit } from '../../virt/kvm_run.ts';
import type { KvmRegs, KvmSregs } from '../sregs.ts';
import { vtInit } from '../vmx/main.ts';

export const CODE = 0x1_0000;
export const RAM_SIZE = 0x10_0000;
/** An address where no RAM is. */
export const MMIO = 0x2000_0000;
const PML4 = 0x1000;
const PDPT = 0x2000;
const GIB = 0x4000_0000;
/** Present, writable, large page. */
const LARGE = 0x83;
const PRESENT = 3;
/** CPUID 1 ECX. */
const TSC_DEADLINE = 1 << 24;

/** An exit to user space, written down: `data` is what the guest wrote. */
export type Seen = string;

/** Bytes of code written as hex, with spaces as one likes. */
export const bytesOf = (code: string): Uint8Array =>
  Uint8Array.from(code.replace(/\s+/g, '').match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));

/** The value, or a failure of the test. */
export const ok = <T>(result: T | number): T => {
  if (typeof result === 'number') throw new Error(`errno ${-result}`);
  return result;
};

/** How the guest begins. */
export interface GuestOptions {
  /** 64 with paging (default), or 16: real mode. */
  readonly mode?: 64 | 16;
  /** In-kernel interrupt controllers (all, or only local APICs); HLT then does not exit. */
  readonly irqchip?: boolean | 'split';
  /** Number of vCPUs, 1 if not given. Without in-kernel interrupt controllers all would run at once. */
  readonly vcpus?: number;
  /** Module parameter: APIC virtualization, on if not given. */
  readonly enableApicv?: boolean;
  /** Module parameter: interrupts between vCPUs are sent by the hardware, on if not given. */
  readonly enableIpiv?: boolean;
  /** Processors of the machine, 1 if not given. */
  readonly processors?: number;
}

const KVM_CAP_SPLIT_IRQCHIP = 121;
/** Where {@link GuestLab.interrupts} puts its tables and handlers. */
const GDT = 0x3000;
const IDT = 0x4000;
const HANDLERS = 0x1_2000;
const HANDLER_SIZE = 64;
/** 64-bit code and flat data. */
const GDT_ENTRIES = 'ffff0000009baf00 ffff00000093cf00';

/** A guest, of one vCPU if nothing else is said. */
export class GuestLab {
  readonly host: Host;
  readonly vm: Vm;
  /** The boot vCPU. */
  readonly vcpu: Vcpu;
  readonly vcpus: Vcpu[] = [];
  /** What MMIO and port reads are answered with, in order; zeros beyond. */
  readonly answers: Uint8Array[] = [];
  readonly #ram: number;

  constructor(code: string, options: GuestOptions = {}) {
    this.host = new Host(new Machine({ processors: options.processors ?? 1, ramSize: 32 << 20, profile: 'pc' }));
    const { enableApicv = true, enableIpiv = true } = options;
    ok(vtInit(this.host, { enableApicv, enableIpiv }));
    const kvm = ok(Kvm.open(this.host));
    this.vm = ok(kvm.createVm());
    if (options.irqchip === 'split') this.vm.enableCap(KVM_CAP_SPLIT_IRQCHIP, [24n]);
    else if (options.irqchip) this.vm.createIrqchip();
    this.#ram = this.vm.mm.mmap(RAM_SIZE);
    this.vm.setUserMemoryRegion({
      slot: 0,
      flags: 0,
      guestPhysAddr: 0,
      memorySize: RAM_SIZE,
      userspaceAddr: this.#ram,
    });
    const entries = kvm.getSupportedCpuid().map((entry) => {
      // User space offers what KVM emulates without listing it.
      return entry.function === 1 ? { ...entry, ecx: (entry.ecx | TSC_DEADLINE) >>> 0 } : entry;
    });
    for (let id = 0; id < (options.vcpus ?? 1); id++) {
      const vcpu = ok(this.vm.createVcpu(id));
      vcpu.setCpuid2(entries);
      this.vcpus.push(vcpu);
    }
    this.vcpu = this.vcpus[0]!;
    this.write(CODE, bytesOf(code));
    if (options.mode === 16) this.#enterRealMode();
    else this.enterLongMode(this.vcpu);
    this.setRegs({ rip: options.mode === 16 ? 0n : BigInt(CODE), rsp: 0x8000n, rflags: 2n });
  }

  #enterRealMode(): void {
    const sregs = ok(this.vcpu.getSregs());
    this.vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: BigInt(CODE), selector: CODE >> 4 } });
  }

  /** Begins anew in 64-bit mode, whatever the guest was doing. */
  restart(): void {
    const events = this.vcpu.getVcpuEvents();
    this.vcpu.setVcpuEvents({
      ...events,
      exception: { ...events.exception, injected: false, pending: false },
      interrupt: { ...events.interrupt, injected: false },
    });
    this.enterLongMode(this.vcpu);
  }

  /** Puts a vCPU into 64-bit mode, on the identity tables. */
  enterLongMode(vcpu: Vcpu): void {
    const table = new DataView(new ArrayBuffer(0x1000));
    table.setBigUint64(0, BigInt(PDPT | PRESENT), true);
    this.write(PML4, new Uint8Array(table.buffer));
    for (let i = 0; i < 4; i++) table.setBigUint64(8 * i, BigInt(i * GIB + LARGE), true);
    this.write(PDPT, new Uint8Array(table.buffer));
    const sregs = ok(vcpu.getSregs());
    const data = { ...sregs.ds, base: 0n, limit: 0xffff_ffff, type: 3, s: 1, present: 1, db: 1, g: 1, selector: 0x10 };
    const next: KvmSregs = {
      ...sregs,
      cs: { ...data, type: 11, db: 0, l: 1, selector: 8 },
      ds: data,
      es: data,
      ss: data,
      cr0: 0x8005_0033n,
      cr3: BigInt(PML4),
      cr4: 0x620n,
      efer: 0x500n,
      gdt: { base: BigInt(GDT), limit: 0x17 },
      idt: { base: BigInt(IDT), limit: 0xfff },
    };
    const failed = vcpu.setSregs(next);
    if (failed !== 0) throw new Error(`KVM_SET_SREGS: ${failed}`);
  }

  /** Handlers that write their vector to port 80h, end the interrupt with `end`, and return. */
  interrupts(vectors: readonly number[], end = ''): void {
    for (const vector of vectors) {
      const number = vector.toString(16).padStart(2, '0');
      // push rax, rcx, rdx, rdi; mov al, vector; out 80h, al; …; pop …; iretq
      this.handler(vector, `50 51 52 57 b0 ${number} e6 80 ${end} 5f 5a 59 58 48 cf`);
    }
  }

  /** A handler of up to 64 bytes, and its gate. */
  handler(vector: number, code: string): void {
    const handler = HANDLERS + vector * HANDLER_SIZE;
    this.write(GDT + 8, bytesOf(GDT_ENTRIES));
    this.write(handler, bytesOf(code));
    const gate = new DataView(new ArrayBuffer(16));
    gate.setUint16(0, handler & 0xffff, true);
    gate.setUint16(2, 8, true);
    gate.setUint16(4, 0x8e00, true);
    gate.setUint16(6, handler >>> 16, true);
    this.write(IDT + vector * 16, new Uint8Array(gate.buffer));
  }

  /** Changes some registers. */
  setRegs(regs: Partial<KvmRegs>): void {
    this.vcpu.setRegs({ ...ok(this.vcpu.getRegs()), ...regs });
  }

  /** Writes guest RAM. */
  write(gpa: number, bytes: Uint8Array): void {
    this.vm.mm.write(this.#ram + gpa, bytes);
  }

  /** Reads guest RAM. */
  read(gpa: number, length: number): string {
    return hexOf(ok(this.vm.mm.read(this.#ram + gpa, length) ?? -1));
  }

  /** Answers one exit, and says what it was. */
  serve(exit: VcpuExit): Seen {
    if (exit.kind === 'mmio') {
      const at = `${exit.physAddr.toString(16)}/${exit.len}`;
      if (exit.isWrite) return `write ${at} ${hexOf(exit.data.subarray(0, exit.len))}`;
      exit.data.set(this.answers.shift() ?? new Uint8Array(8));
      return `read ${at}`;
    }
    if (exit.kind === 'io') {
      const at = `${exit.port.toString(16)}/${exit.size}`;
      if (exit.direction === 'out') return `out ${at} ${hexOf(exit.data.subarray(0, exit.size * exit.count))}`;
      exit.data.set(this.answers.shift() ?? new Uint8Array(4));
      return `in ${at}`;
    }
    return exit.kind === 'ioapic-eoi' ? `eoi ${exit.vector.toString(16)}` : exit.kind;
  }

  /** Runs until HLT (or `limit` exits) and gives the exits before it; an errno ends the run, too. */
  async run(limit = 50): Promise<Seen[]> {
    const seen: Seen[] = [];
    while (seen.length < limit) {
      const exit = await this.vcpu.run();
      if (typeof exit === 'number') {
        seen.push(`errno ${exit}`);
        break;
      }
      if (exit.kind === 'hlt') break;
      seen.push(this.serve(exit));
      if (exit.kind !== 'mmio' && exit.kind !== 'io') break;
    }
    return seen;
  }
}
