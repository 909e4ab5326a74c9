/**
 * The scene of attacks through KVM: user space and a host kernel that mean ill, a TD that KVM runs, and another one beside it.
 */
import { isDeepStrictEqual } from 'node:util';
import { PAGE_OWNER } from '../../src/host/pages.ts';
import type { Vm } from '../../src/kvm/index.ts';
import type { VcpuExit } from '../../src/kvm/virt/kvm_run.ts';
import type { KvmTdxInitVm } from '../../src/kvm/x86/uapi_tdx.ts';
import { toKvmTdx } from '../../src/kvm/x86/vmx/tdx_types.ts';
import type { Processor } from '../../src/machine/processor.ts';
import { PT } from '../../src/tdx-module/objects/pamt.ts';
import type { Hpa } from '../../src/util/address.ts';
import { ok } from '../kvm/lab.ts';
import { resourcesOf } from '../kvm/resources.ts';
import {
  INIT_CPUID,
  KVM_CAP_SPLIT_IRQCHIP,
  KVM_X86_TDX_VM,
  must,
  SHARED,
  TdLab,
  type TdxHostLab,
  tdxHost,
} from '../kvm/td-lab.ts';
import type { Fate, Scene } from './lab.ts';

/** A page of the guest's stack, and what the guest keeps there. */
export const SECRET_PAGE = 0x8000;
export const SECRET = 0x5ec2_e7a7_1e57_0002n;
/** Private memory that nothing is at yet. */
export const NOWHERE = 0x8_0000;
/** Shared memory beside the mailbox, and where the guest sees it. */
export const SHARED_PAGE: number = SHARED + 0x1000;
const SHARED_ALIAS = 0x80_0000_0000n;
export const sharedAlias = (gpa: number): bigint => SHARED_ALIAS + BigInt(gpa);
const RESULT = 128;
const DONE_PORT = 0x80;
const MIB = 1 << 20;

/** What the guest does for the host: first word of the mailbox; the next two are operands. */
export const ASK = { NOTHING: 0n, READ: 1n, WRITE: 2n, ACCEPT: 3n, CPUID: 4n } as const;

const GUEST = `
  bits 64
  org 0x10000
  mov ax, 0x10
  mov ss, ax
  mov esp, 0x9000
  mov rbp, ${SHARED_ALIAS + BigInt(SHARED)}
again:
  inc qword [${SECRET_PAGE + 8}]
  mov rax, [${SECRET_PAGE + 8}]
  mov [rbp+${RESULT}], rax
  mov rax, [${SECRET_PAGE}]
  mov [rbp+${RESULT + 8}], rax
  xor eax, eax
  mov ecx, 0xfc00
  xor r10d, r10d
  mov r11d, 30
  mov r12d, 1
  mov r13d, 1
  mov r14d, ${DONE_PORT}
  xor r15d, r15d
  tdcall
  mov rax, [rbp]
  mov rsi, [rbp+8]
  mov rdi, [rbp+16]
  cmp al, 1
  je read
  cmp al, 2
  je write
  cmp al, 3
  je accept
  cmp al, 4
  je identify
  jmp again
read:
  mov rax, [rsi]
  mov [rbp+${RESULT + 16}], rax
  jmp again
write:
  mov [rsi], rdi
  jmp again
accept:
  mov eax, 6
  mov rcx, rsi
  tdcall
  mov [rbp+${RESULT + 16}], rax
  jmp again
identify:
  mov eax, esi
  xor ecx, ecx
  cpuid
  shl rbx, 32
  or rax, rbx
  mov [rbp+${RESULT + 16}], rax
  jmp again
`;

/** What came of asking the guest. */
export interface Answer {
  readonly done: boolean;
  readonly count: bigint;
  readonly secret: bigint;
  readonly result: bigint;
  readonly exit: VcpuExit | number;
}

/** A TD under KVM with the guest in it. */
export class KvmServer {
  readonly td: TdLab;
  #count = 0n;

  constructor(lab: TdxHostLab, unfinished = false) {
    this.td = new TdLab({ code: GUEST, unfinished }, lab);
  }

  async ask(what: bigint, a: bigint | number = 0n, b = 0n): Promise<Answer> {
    const { td } = this;
    const words = new BigUint64Array([what, BigInt(a), b]);
    td.vm.mm.write(td.shared, new Uint8Array(words.buffer));
    const exit = await td.vcpu.run();
    const done = typeof exit !== 'number' && exit.kind === 'io' && exit.port === DONE_PORT;
    const view = new DataView(td.vm.mm.read(td.shared + RESULT, 24)!.slice().buffer);
    const [count, secret, result] = [0, 8, 16].map((at) => view.getBigUint64(at, true)) as [bigint, bigint, bigint];
    return { done, count, secret, result, exit };
  }

  async start(): Promise<this> {
    await this.ask(ASK.NOTHING);
    await this.ask(ASK.WRITE, SECRET_PAGE, SECRET);
    if ((await this.condition()) !== 'goes on') throw new Error('the guest does not serve');
    return this;
  }

  async condition(): Promise<Fate> {
    const { done, count, secret, exit } = await this.ask(ASK.NOTHING);
    if (!done) return this.#isLost(exit) ? 'dies' : 'waits';
    const fine = secret === SECRET && count > this.#count;
    this.#count = count;
    return fine ? 'goes on' : 'fooled';
  }

  #isLost(exit: VcpuExit | number): boolean {
    const { vmDead, vmBugged } = this.td.vm.kvm;
    return vmDead || vmBugged || (typeof exit !== 'number' && exit.kind === 'internal-error');
  }

  /** Frame of the guest's memory. */
  frame(gpa: number): number {
    return this.td.files[0]!.page(gpa / 4096)!;
  }
  /** Where user space has its own memory behind the guest's. */
  hva(gpa: number): number {
    const { memslots } = this.td.vm.kvm;
    return memslots.find((slot) => slot.baseGfn === 0)!.userspaceAddr + gpa;
  }
  get keyId(): number {
    return toKvmTdx(this.td.vm.kvm).hkid;
  }
  close(): void {
    this.td.close();
  }
}

/** TDs that a scene has had before there is a new one. */
const ATTACKS = 12;

export class KvmScene implements Scene {
  readonly lab: TdxHostLab = tdxHost({ ramSize: 64 * MIB });
  #bystander: KvmServer | null = null;
  #victim: KvmServer | null = null;
  #attacks = 0;

  get hasRoom(): boolean {
    return this.#attacks < ATTACKS;
  }

  async victim(): Promise<KvmServer> {
    this.#bystander ??= await new KvmServer(this.lab).start();
    this.#attacks++;
    return (this.#victim ??= await new KvmServer(this.lab).start());
  }
  get bystander(): KvmServer {
    return this.#bystander!;
  }
  /** One more TD, the attacker's own. */
  beside(unfinished = false): KvmServer {
    this.#attacks++;
    return new KvmServer(this.lab, unfinished);
  }

  async release(): Promise<Fate | null> {
    this.lab.seam.intercept = () => undefined;
    this.lab.seam.fail.clear();
    const victim = this.#victim;
    this.#victim = null;
    if (victim === null) return null;
    const fate = await victim.condition();
    victim.close();
    // KVM, as upstream, frees pages that the module would not give back: they are of no use for other TDs.
    if (fate !== 'goes on') this.#attacks = ATTACKS;
    return fate;
  }

  async othersGoOn(): Promise<boolean> {
    return this.#bystander === null || (await this.#bystander.condition()) === 'goes on';
  }

  /** Whether the module holds a frame for a TD's. */
  isOwned(frame: Hpa): boolean {
    return this.lab.tdxModule.pamt.entry(frame, 0)?.pageType === PT.REG;
  }
  /** A page of the kernel's own. */
  page(): Hpa {
    return this.lab.host.pages.alloc(PAGE_OWNER.kernel)!;
  }
  giveBack(page: Hpa): void {
    this.lab.host.pages.free(page);
  }

  /** Writes to all memory that is free, and reads it back. */
  allMemoryWorks(): boolean {
    this.#attacks = ATTACKS;
    const { memory } = this.lab.host.machine;
    const all: Hpa[] = [];
    while (this.lab.host.pages.freePages > 0) all.push(this.page());
    for (const page of all) for (let at = 0; at < 4096; at += 512) memory.write64(page + at, BigInt(page + at));
    const good = all.every(
      (page) => memory.read64(page) === BigInt(page) && memory.read64(page + 512) === BigInt(page + 512),
    );
    for (const page of all) this.giveBack(page);
    return good;
  }

  /** Changes the operands of a leaf's calls, and sees what came of them; calls of `forgotten` are not made. */
  observe(
    leaf: string,
    change: (p: Processor) => void,
    see: (p: Processor) => void,
    forgotten: readonly string[] = [],
  ): void {
    const { seam } = this.lab;
    seam.intercept = (call, _index, p) => {
      if (forgotten.includes(call.name)) return 0n;
      if (call.name !== leaf) return undefined;
      change(p);
      seam.inner.seamcall(p);
      see(p);
      return p.gpr(0);
    };
  }

  /** A vCPU goes to run on another CPU. */
  move({ td }: KvmServer): void {
    const { task } = td.vcpu.vcpu;
    task.cpu = this.lab.host.cpus.online.find((cpu) => cpu !== task.cpu)!;
  }

  /** KVM_TDX_INIT_VM of a new VM. */
  initialize(data: KvmTdxInitVm): number {
    this.#attacks++;
    const vm = ok(this.lab.kvm.createVm(KVM_X86_TDX_VM));
    must(vm.enableCap(KVM_CAP_SPLIT_IRQCHIP, [24n]));
    const result = vm.memoryEncryptOp({ id: 1, data });
    vm.close();
    vm.mm.exit();
    return result;
  }

  /** TDs until there can be no more. @returns what the last one gave */
  allKeyIds(): number {
    this.#attacks = ATTACKS;
    const vms: Vm[] = [];
    let result = 0;
    while (result === 0) {
      const vm = ok(this.lab.kvm.createVm(KVM_X86_TDX_VM));
      vms.push(vm);
      must(vm.enableCap(KVM_CAP_SPLIT_IRQCHIP, [24n]));
      result = vm.memoryEncryptOp({ id: 1, data: { attributes: 0n, xfam: 3n, cpuid: INIT_CPUID } });
    }
    for (const vm of vms) {
      vm.close();
      vm.mm.exit();
    }
    return result;
  }

  /** What is in use, but for the vCPUs that processors last ran. */
  #resources(): unknown {
    return { ...resourcesOf(this.lab.host, this.lab.tdxModule), loadedVcpus: 0 };
  }

  /** A TD that ran is closed with the VM first, and its memory last. */
  async closeBackwards(): Promise<string> {
    await this.victim();
    const before = this.#resources();
    const { td } = await this.beside().start();
    td.vm.close();
    for (const file of [...td.files].reverse()) file.close();
    td.vm.mm.exit();
    return isDeepStrictEqual(this.#resources(), before) ? 'as before' : 'something stays';
  }

  /**
   * The kernel rewrites the entry of a TD's shared EPT that leads to a page of the VMM's memory.
   *
   * @returns whether there was one
   */
  forgeShared({ td }: KvmServer, gpa: number, entryOf: (entry: bigint) => bigint): boolean {
    const { pages, machine } = this.lab.host;
    const { memory } = machine;
    const frame = td.vm.mm.faultIn(td.shared + gpa - SHARED)!;
    for (let table = 0; table < memory.ramSize; table += 4096) {
      if (pages.ownerOf(table) !== PAGE_OWNER.ept) continue;
      for (let at = table; at < table + 4096; at += 8) {
        const entry = memory.read64(at);
        if ((entry & 7n) === 0n || Number(entry & 0xf_ffff_ffff_f000n) !== frame) continue;
        memory.write64(at, entryOf(entry));
        return true;
      }
    }
    return false;
  }
}
