/** A vCPU of either backend on one host, loaded on CPU 0, with everything it does to processor and module written down. */
import type { Vcpu, Vm } from '../../src/kvm/index.ts';
import type { X86Vcpu, X86Vm } from '../../src/kvm/x86/kvm_host.ts';
import { vtX86Ops } from '../../src/kvm/x86/vmx/main.ts';
import { ok } from './lab.ts';
import { KVM_CAP_SPLIT_IRQCHIP, TdLab, type TdxHostLab, tdxHost } from './td-lab.ts';

/** The table under test. */
export const ops: typeof vtX86Ops = vtX86Ops;

/** Names of the instructions that are watched. */
const WATCHED = [
  'vmread',
  'vmreadLow',
  'vmwrite',
  'invept',
  'invvpid',
  'vmptrld',
  'vmclear',
  'vmlaunch',
  'vmresume',
  'vmxoff',
] as const;

/** What one call did. */
export interface Deeds<T> {
  readonly result: T;
  /** VMX instructions: name, and the field of VMREAD and VMWRITE in hexadecimal. */
  readonly vmx: readonly string[];
  /** SEAMCALLs by name. */
  readonly seam: readonly string[];
}

/** A VM or a TD with one vCPU. */
export class Subject {
  readonly lab: TdxHostLab;
  readonly td: TdLab | null;
  readonly vm: Vm;
  readonly api: Vcpu;

  constructor(lab: TdxHostLab, kind: 'vm' | 'td') {
    this.lab = lab;
    this.td = kind === 'td' ? new TdLab({}, lab) : null;
    this.vm = this.td?.vm ?? ordinaryVm(lab);
    this.api = this.td?.vcpu ?? ok(this.vm.createVcpu(0));
    this.api.setCpuid2(lab.kvm.getSupportedCpuid());
    this.load();
  }

  get vcpu(): X86Vcpu {
    return this.api.vcpu;
  }
  get kvm(): X86Vm {
    return this.vm.kvm;
  }
  get isTd(): boolean {
    return this.td !== null;
  }

  /** Loads the vCPU, as every ioctl does, and maps what it needs. */
  load(): void {
    this.api.getMsrs([0x1b]);
  }

  /** Runs until the guest exits to user space once. */
  async run(): Promise<void> {
    if (this.td !== null) return this.td.ready();
    await this.api.run();
  }

  /** Makes a call and says what it did. */
  watch<T>(call: () => T): Deeds<T> {
    const { seam, host } = this.lab;
    const v = host.cpus.possible[0]!.processor.vtx as unknown as Record<string, (...args: unknown[]) => unknown>;
    const vmx: string[] = [];
    for (const name of WATCHED) {
      const original = v[name]!;
      v[name] = (...args: unknown[]) => {
        const field = /^vm(read|write)/.test(name) ? ` ${(args[0] as number).toString(16)}` : '';
        vmx.push(name.replace('Low', '') + field);
        return original.apply(v, args);
      };
    }
    seam.clear();
    try {
      const result = call();
      return { result, vmx, seam: seam.calls.map(({ name }) => name) };
    } finally {
      for (const name of WATCHED) delete v[name];
    }
  }

  close(): void {
    if (this.td !== null) this.td.close();
    else {
      this.vm.close();
      this.vm.mm.exit();
    }
  }
}

/** A VM whose first instruction is OUT. */
function ordinaryVm(lab: TdxHostLab): Vm {
  const vm = ok(lab.kvm.createVm(0));
  vm.enableCap(KVM_CAP_SPLIT_IRQCHIP, [24n]);
  const memory = vm.mm.mmap(0x1_0000);
  vm.setUserMemoryRegion({
    slot: 0,
    flags: 0,
    guestPhysAddr: 0xffff_0000,
    memorySize: 0x1_0000,
    userspaceAddr: memory,
  });
  // At the reset vector: out 0x80, al.
  vm.mm.write(memory + 0xfff0, Uint8Array.of(0xe6, 0x80));
  return vm;
}

/** A host for subjects. */
export const subjectHost = (): TdxHostLab => tdxHost({ ramSize: 64 << 20 });
