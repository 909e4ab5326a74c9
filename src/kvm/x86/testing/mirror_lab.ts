/**
 * A VM whose private memory is in tables that somebody else keeps: the backend is a fake that models those tables, strictly.
 *
 * The fake notes every call, and throws where a real keeper would have nothing to say to it: a table without its parent, a
 * second leaf at a place, a removal of what is not there, a call without the lock that it needs.
 */
import type { Errno } from '../../../host/errno.ts';
import { Host } from '../../../host/host.ts';
import { Machine } from '../../../machine/machine.ts';
import { type Gfn, type Gpa, type Hpa, PAGE_SIZE } from '../../../util/address.ts';
import { type GuestMemfd, kvmGmemCreate } from '../../virt/guest_memfd.ts';
import { KVM_MEM_GUEST_MEMFD, type KvmModule } from '../../virt/kvm_host.ts';
import { kvmInit } from '../../virt/kvm_main.ts';
import { kvmVmIoctlSetMemAttributes } from '../../virt/mem_attributes.ts';
import { type KvmUserspaceMemoryRegion2, kvmSetMemoryRegion2 } from '../../virt/memslots.ts';
import { kvmVmIoctlCreateVcpu } from '../../virt/vcpu.ts';
import { kvmCreateVm, kvmPutKvm } from '../../virt/vm.ts';
import { kvmCaps } from '../kvm_caps.ts';
import { KVM_X86_TDX_VM, type X86Vcpu, type X86Vm } from '../kvm_host.ts';
import { type KvmX86Ops, X86EMUL_RETRY_INSTR } from '../kvm_x86_ops.ts';
import { kvmMmuPageFault } from '../mmu/mmu.ts';
import { PFERR_PRIVATE_ACCESS, PFERR_WRITE_MASK } from '../mmu/pferr.ts';
import { FROZEN_SPTE, SHADOW_MMIO_VALUE_TD, spteAddress } from '../mmu/spte.ts';
import { gfnRoundForLevel } from '../mmu/tdp_mmu.ts';
import { X86ArchHooks } from '../x86.ts';

/** Frames of the slot with private memory, from {@link BASE_GFN} on: more than one table of small pages. */
export const SLOT_PAGES = 1024;
export const BASE_GFN: Gfn = 0x10_0000;
const PRIVATE = 8n;

const must = (condition: boolean, what: string): void => {
  if (!condition) throw new Error(`fake S-EPT: ${what}`);
};

/** The tables that the fake keeps. */
export class FakeSept {
  readonly calls: string[] = [];
  /** Pages of tables, by the level of the entry that leads to each and the frame that it is for. */
  readonly tables: Map<string, Hpa> = new Map();
  readonly leaves: Map<Gfn, Hpa> = new Map();
  /** Says what a call results in before it does anything; 0 to let it be done. */
  answer: (name: string) => Errno = () => 0;
  freeAnswer: Errno = 0;
  readonly #rootLevel = 4;

  #tableAt(level: number, gfn: Gfn): Hpa | undefined {
    return this.tables.get(`${level} ${gfnRoundForLevel(gfn, level)}`);
  }
  #hasParent(level: number, gfn: Gfn): boolean {
    return level === this.#rootLevel || this.#tableAt(level + 1, gfn) !== undefined;
  }
  #note(kvm: X86Vm, name: string, gfn: Gfn, level: number): void {
    this.calls.push(`${name} ${level} ${(gfn - BASE_GFN).toString(16)}`);
    must(gfnRoundForLevel(gfn, level) === gfn, `${name} at a frame that is none of level ${level}`);
    must(kvm.arch.mirrorMmu !== null, `${name} without a mirror`);
  }

  link(kvm: X86Vm, gfn: Gfn, level: number, table: Hpa): Errno {
    this.#note(kvm, 'link', gfn, level);
    this.#mustBeFrozen(kvm, gfn, level);
    must(level > 1 && this.#hasParent(level, gfn), 'a table without its parent');
    must(this.#tableAt(level, gfn) === undefined, 'a table is there already');
    must(![...this.tables.values()].includes(table), 'a table twice');
    const error = this.answer('link');
    if (error === 0) this.tables.set(`${level} ${gfn}`, table);
    return error;
  }

  set(kvm: X86Vm, gfn: Gfn, level: number, spte: bigint): Errno {
    this.#note(kvm, 'set', gfn, level);
    this.#mustBeFrozen(kvm, gfn, level);
    must(level === 1 && this.#hasParent(1, gfn), 'a page without its table');
    must(!this.leaves.has(gfn), 'a page is there already');
    must(![...this.leaves.values()].includes(spteAddress(spte)), 'a page twice');
    const error = this.answer('set');
    if (error === 0) this.leaves.set(gfn, spteAddress(spte));
    return error;
  }

  remove(kvm: X86Vm, gfn: Gfn, level: number, spte: bigint): void {
    this.#note(kvm, 'remove', gfn, level);
    must(kvm.arch.mmuLock.heldForWrite, 'a page is removed by somebody who is not alone');
    must(level === 1 && this.leaves.get(gfn) === spteAddress(spte), 'another page is there');
    this.leaves.delete(gfn);
  }

  free(kvm: X86Vm, gfn: Gfn, level: number, table: Hpa): Errno {
    this.#note(kvm, 'free', gfn, level);
    must(this.#tableAt(level + 1, gfn) === table, 'another table is there');
    const below =
      level === 1 ? [...this.leaves.keys()] : [...this.tables.keys()].filter((key) => key[0] === `${level}`);
    const inside = below
      .map((key) => (typeof key === 'number' ? key : Number(key.slice(2))))
      .some((child) => gfnRoundForLevel(child, level + 1) === gfnRoundForLevel(gfn, level + 1));
    must(!inside, 'a table goes before what is in it');
    this.tables.delete(`${level + 1} ${gfnRoundForLevel(gfn, level + 1)}`);
    return this.freeAnswer;
  }

  #mustBeFrozen(kvm: X86Vm, gfn: Gfn, level: number): void {
    const walk = kvm.arch.mirrorMmu!.lookup(gfn);
    must(walk?.level === level && walk.spte === FROZEN_SPTE, 'the entry is not frozen while the call is under way');
    must(kvm.arch.mmuLock.heldForRead, 'an entry is set without the lock');
  }
}

/** A VM with a mirror, one vCPU, and a slot of {@link SLOT_PAGES} frames. */
export class MirrorLab {
  readonly host: Host;
  readonly module: KvmModule;
  readonly vm: X86Vm;
  readonly vcpu: X86Vcpu;
  readonly sept: FakeSept = new FakeSept();
  readonly file: GuestMemfd;
  /** The process's mapping. */
  readonly mapping: number;
  /** Shared memory of the slot in it: a page further on, so that it is mapped in small pages. */
  readonly shared: number;

  /** @param sharedBit the address bit that says "shared": 47, or 51 with tables of five levels */
  constructor(sharedBit: 47 | 51 = 47) {
    this.host = new Host(new Machine({ processors: 1, ramSize: 32 << 20, profile: 'pc' }));
    const { sept } = this;
    const own: Partial<KvmX86Ops> = {
      name: 'fake',
      vmInit: (kvm) => {
        kvm.arch.hasPrivateMem = true;
        kvm.arch.hasProtectedState = true;
        kvm.arch.hasProtectedEoi = true;
        kvm.arch.shadowMmioValue = SHADOW_MMIO_VALUE_TD;
        return 0;
      },
      vmPreDestroy: () => void sept.calls.push('vmPreDestroy'),
      vmDestroy: () => void sept.calls.push('vmDestroy'),
      getMtMask: () => 6 << 3,
      checkEmulateInstruction: () => X86EMUL_RETRY_INSTR,
      linkExternalSpt: (kvm, gfn, level, table) => sept.link(kvm, gfn, level, table),
      setExternalSpte: (kvm, gfn, level, spte) => sept.set(kvm, gfn, level, spte),
      removeExternalSpte: (kvm, gfn, level, spte) => sept.remove(kvm, gfn, level, spte),
      freeExternalSpt: (kvm, gfn, level, table) => sept.free(kvm, gfn, level, table),
    };
    const ops = new Proxy(own, {
      get: (target, name) => Reflect.get(target, name) ?? (() => 0),
    }) as KvmX86Ops;
    const hooks = new X86ArchHooks(this.host, { hardwareSetup: () => 0, runtimeOps: ops });
    this.module = kvmInit(this.host, hooks) as KvmModule;
    kvmCaps(this.host).supportedVmTypes |= 1 << KVM_X86_TDX_VM;
    this.vm = kvmCreateVm(this.module, KVM_X86_TDX_VM) as X86Vm;
    this.vm.arch.gfnDirectBits = 2 ** (sharedBit - 12);
    if (sharedBit === 51) this.vm.arch.tdpMmu.rootLevel = 5;
    this.vcpu = kvmVmIoctlCreateVcpu(this.vm, 0) as X86Vcpu;
    this.mapping = this.vm.mm.mmap((SLOT_PAGES + 1) * PAGE_SIZE);
    this.shared = this.mapping + PAGE_SIZE;
    this.file = kvmGmemCreate(this.vm, { size: SLOT_PAGES * PAGE_SIZE, flags: 0n }) as GuestMemfd;
    kvmSetMemoryRegion2(this.vm, this.slot());
  }

  /** The slot's region. */
  slot(): KvmUserspaceMemoryRegion2 {
    return {
      slot: 0,
      flags: KVM_MEM_GUEST_MEMFD,
      guestPhysAddr: BASE_GFN * PAGE_SIZE,
      memorySize: SLOT_PAGES * PAGE_SIZE,
      userspaceAddr: this.shared,
      guestMemfd: this.file,
      guestMemfdOffset: 0,
    };
  }

  /** Frames [first, first + count) of the slot become private or shared. */
  convert(first: number, count: number, toPrivate: boolean): Errno {
    return kvmVmIoctlSetMemAttributes(this.vm, {
      address: (BASE_GFN + first) * PAGE_SIZE,
      size: count * PAGE_SIZE,
      attributes: toPrivate ? PRIVATE : 0n,
      flags: 0n,
    });
  }

  /** Address of a frame as the guest uses it for shared memory. */
  sharedGpa(gfn: Gfn): Gpa {
    return (gfn + this.vm.arch.gfnDirectBits) * PAGE_SIZE;
  }

  /** The guest writes private memory; as {@link kvmMmuPageFault}. */
  faultPrivate(frame: number): number {
    return kvmMmuPageFault(this.vcpu, (BASE_GFN + frame) * PAGE_SIZE, PFERR_PRIVATE_ACCESS | PFERR_WRITE_MASK);
  }
  /** The guest writes shared memory. */
  faultShared(frame: number): number {
    return kvmMmuPageFault(this.vcpu, this.sharedGpa(BASE_GFN + frame), PFERR_WRITE_MASK);
  }

  /** Calls of the backend since the last time. */
  calls(): string[] {
    return this.sept.calls.splice(0);
  }

  /** User space closes everything. */
  close(): void {
    this.file.close();
    kvmPutKvm(this.vm);
    this.vm.mm.exit();
  }
}
