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

export const KVM_X86_TDX_VM = 5;
export const KVM_CAP_SPLIT_IRQCHIP = 121;
export const KVM_CAP_EXIT_HYPERCALL = 201;
const KVM_MEM_GUEST_MEMFD = 4;
const EBUSY = 16;
export const KVM_MEMORY_ATTRIBUTE_PRIVATE = 8n;
const MIB = 1 << 20;

export const PRIVATE_SIZE = MIB;
/** Where the mailbox of vCPU 0 is; each has a page. */
export const SHARED = 2 * MIB;
const SHARED_SIZE = MIB;
export const SHARED_BIT: bigint = 1n << 47n;
const RESET_PAGE = 0xffff_f000;
const PML4 = 0x1000;
const CODE = 0x1_0000;
const SHARED_ALIAS = 0x80_0000_0000n;
/** Port that the guest writes to when a command is done. */
export const DONE_PORT = 0x80;
const RESULT = 128;

/** What a guest does from the reset vector on: to 64-bit mode on tables that map everything twice, then to CODE. */
const RESET = `
  bits 32
  org ${RESET_PAGE}
start:
  mov eax, cr4
  or eax, 0x20
  mov cr4, eax
  mov eax, ${PML4}
  mov cr3, eax
  lgdt [gdtr]
  mov eax, cr0
  or eax, 0x80000000
  mov cr0, eax
  jmp dword 8:${CODE}
gdt:
  dq 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr:
  dw 23
  dd gdt
  times 0xff0-($-start) db 0
  jmp near start
  times 0x1000-($-start) db 0
`;

/** TDG.VP.VMCALL<Instruction.IO> of one byte to DONE_PORT. */
const REPORT = `
  xor eax, eax
  mov ecx, 0xfc00
  xor r10d, r10d
  mov r11d, 30
  mov r12d, 1
  mov r13d, 1
  mov r14d, ${DONE_PORT}
  xor r15d, r15d
  tdcall
`;

/** The command loop; RSI is the vCPU's index at reset. */
export const SERVER = `
  bits 64
  org ${CODE}
  mov ax, 0x10
  mov ss, ax
  mov esi, esi
  mov rsp, rsi
  shl rsp, 12
  add rsp, 0x9000
  mov rbp, rsi
  shl rbp, 12
  mov rax, ${SHARED_ALIAS + BigInt(SHARED)}
  add rbp, rax
again:
  ${REPORT}
  mov rax, [rbp]
  mov rcx, [rbp+8]
  mov rdx, [rbp+16]
  mov rbx, [rbp+24]
  mov rsi, [rbp+48]
  mov rdi, [rbp+56]
  mov r8, [rbp+64]
  mov r9, [rbp+72]
  mov r10, [rbp+80]
  mov r11, [rbp+88]
  mov r12, [rbp+96]
  mov r13, [rbp+104]
  mov r14, [rbp+112]
  mov r15, [rbp+120]
  tdcall
  mov [rbp+${RESULT}], rax
  mov [rbp+${RESULT}+8], rcx
  mov [rbp+${RESULT}+16], rdx
  mov [rbp+${RESULT}+24], rbx
  mov [rbp+${RESULT}+48], rsi
  mov [rbp+${RESULT}+56], rdi
  mov [rbp+${RESULT}+64], r8
  mov [rbp+${RESULT}+72], r9
  mov [rbp+${RESULT}+80], r10
  mov [rbp+${RESULT}+88], r11
  mov [rbp+${RESULT}+96], r12
  mov [rbp+${RESULT}+104], r13
  mov [rbp+${RESULT}+112], r14
  mov [rbp+${RESULT}+120], r15
  jmp again
`;

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

/** Four GiB twice, by 1 GiB pages: private at 0, shared at 512 GiB. */
function tables(): Uint8Array {
  const view = new DataView(new ArrayBuffer(3 * 4096));
  const entry = (table: number, index: number, value: bigint): void =>
    view.setBigUint64(table * 4096 + index * 8, value, true);
  entry(0, 0, BigInt(PML4 + 0x1000) | 3n);
  entry(0, 1, BigInt(PML4 + 0x2000) | 3n);
  for (let i = 0; i < 4; i++) {
    entry(1, i, (BigInt(i) << 30n) | 0x83n);
    entry(2, i, (BigInt(i) << 30n) | SHARED_BIT | 0x83n);
  }
  return new Uint8Array(view.buffer);
}
