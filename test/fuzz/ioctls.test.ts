/** Random arguments to every call of KVM's API: a value or an errno comes back, and the guest beside it is well. */

import { expect, test } from 'vitest';
import { EventFd } from '../../src/kvm/virt/eventfd.ts';
import type { GuestMemfd } from '../../src/kvm/virt/guest_memfd.ts';
import type { KvmModule } from '../../src/kvm/virt/kvm_host.ts';
import { Random } from '../../src/util/random.ts';
import { GuestLab } from '../kvm/guest-lab.ts';
import { ok } from '../kvm/lab.ts';
import { anyBigint, anyNumber, Canary, mutate, runBounded } from './lab.ts';

const ROUNDS = 25;
const CALLS = 40;
const STEPS = 2000;
const MINUTES = 60_000;

type Call = (lab: GuestLab, random: Random) => unknown;

/** Gives state back with something changed, if there is any. */
const changed = <T>(random: Random, state: T | number, set: (state: T) => unknown): unknown =>
  typeof state === 'number' ? state : set(mutate(random, state));

/** A word that is mostly 0. */
const few = (random: Random): bigint => (random.below(8) === 0 ? anyBigint(random) : 0n);
/** Of guest memory; each keeps its VM until it is closed. */
const openFiles: GuestMemfd[] = [];

const CALLS_BY_NAME: Readonly<Record<string, Call>> = {
  KVM_CHECK_EXTENSION: ({ kvm, vm }, r) => kvm.checkExtension(anyNumber(r)) + vm.checkExtension(r.below(256)),
  KVM_CREATE_VM: ({ kvm }, r) => {
    const vm = kvm.createVm(r.below(3) === 0 ? 0 : anyNumber(r));
    if (typeof vm !== 'number') vm.close();
    return 0;
  },
  KVM_ENABLE_CAP: ({ vm }, r) => vm.enableCap(r.below(256), [anyBigint(r), anyBigint(r)], r.below(8) === 0 ? 1 : 0),
  KVM_SET_TSS_ADDR: ({ vm }, r) => vm.setTssAddr(anyNumber(r)),
  KVM_SET_IDENTITY_MAP_ADDR: ({ vm }, r) => vm.setIdentityMapAddr(anyNumber(r)),
  KVM_SET_USER_MEMORY_REGION: (lab, r) =>
    lab.vm.setUserMemoryRegion({
      slot: r.below(2) === 0 ? r.below(4) : anyNumber(r),
      flags: r.below(5),
      guestPhysAddr: r.below(2) === 0 ? r.below(64) * 0x1000 : Number(anyBigint(r) & 0xf_ffff_ffff_f000n),
      memorySize: r.below(2) === 0 ? r.below(16) * 0x1000 : anyNumber(r),
      userspaceAddr: r.below(4) === 0 ? anyNumber(r) : lab.memory + r.below(16) * 0x1000,
    }),
  KVM_CREATE_GUEST_MEMFD: ({ vm }, r) => {
    const file = vm.createGuestMemfd({ size: r.below(2) === 0 ? r.below(9) * 0x1000 : anyNumber(r), flags: few(r) });
    if (typeof file === 'number') return file;
    const slot = {
      slot: r.below(4),
      flags: r.below(4) === 0 ? r.below(9) : 4,
      guestPhysAddr: r.below(64) * 0x1000,
      memorySize: r.below(9) * 0x1000,
      userspaceAddr: r.below(4) === 0 ? anyNumber(r) : 0x7f00_0000_0000,
      guestMemfd: r.below(8) === 0 ? null : file,
      guestMemfdOffset: r.below(4) === 0 ? anyNumber(r) : r.below(4) * 0x1000,
    };
    const bound = vm.setUserMemoryRegion2(slot);
    const filled = file.fallocate(r.below(5), r.below(9) * 0x1000, r.below(9) * 0x1000);
    // Half of the files stay open for a while, with what they hold.
    if (r.below(2) === 0) file.close();
    else openFiles.push(file);
    return bound || filled;
  },
  KVM_SET_MEMORY_ATTRIBUTES: ({ vm }, r) =>
    vm.setMemoryAttributes({
      address: r.below(2) === 0 ? r.below(64) * 0x1000 : Number(anyBigint(r) & 0xf_ffff_ffff_f000n),
      size: r.below(2) === 0 ? r.below(64) * 0x1000 : Number(anyBigint(r) & 0xf_ffff_ffff_f000n),
      attributes: r.below(8) === 0 ? anyBigint(r) : BigInt(r.below(2)) * 8n,
      flags: few(r),
    }),
  KVM_PRE_FAULT_MEMORY: ({ vcpu }, r) =>
    vcpu.preFaultMemory({
      gpa: r.below(4) === 0 ? anyNumber(r) : r.below(64) * 0x1000,
      size: r.below(4) === 0 ? anyNumber(r) : r.below(64) * 0x1000,
      flags: few(r),
    }),
  KVM_MEMORY_ENCRYPT_OP: ({ vm, vcpu }, r) =>
    r.below(2) === 0
      ? vm.memoryEncryptOp({ id: 4, flags: anyNumber(r), data: 0n })
      : vcpu.memoryEncryptOp({ id: 2, flags: anyNumber(r), data: anyBigint(r) }),
  KVM_GET_DIRTY_LOG: ({ vm }, r) => vm.getDirtyLog(r.below(4) === 0 ? anyNumber(r) : r.below(4)),
  KVM_CLEAR_DIRTY_LOG: ({ vm }, r) =>
    vm.clearDirtyLog(r.below(4), anyNumber(r), anyNumber(r), Uint32Array.of(anyNumber(r))),
  KVM_SET_BOOT_CPU_ID: ({ vm }, r) => vm.setBootCpuId(anyNumber(r)),
  KVM_CREATE_IRQCHIP: ({ vm }) => vm.createIrqchip(),
  KVM_CREATE_PIT2: ({ vm }, r) => vm.createPit2({ flags: r.below(4) }),
  KVM_IRQ_LINE: ({ vm }, r) => vm.irqLine({ irq: r.below(3) === 0 ? anyNumber(r) : r.below(32), level: r.below(3) }),
  KVM_SET_IRQCHIP: ({ vm }, r) => {
    const chip = r.below(5);
    return changed(r, vm.getIrqchip(chip), (state) => vm.setIrqchip(r.below(8) === 0 ? r.below(5) : chip, state));
  },
  KVM_SET_PIT2: ({ vm }, r) => changed(r, vm.getPit2(), (state) => vm.setPit2(state)),
  KVM_REINJECT_CONTROL: ({ vm }, r) => vm.reinjectControl(r.below(2) === 0),
  KVM_SIGNAL_MSI: ({ vm }, r) =>
    vm.signalMsi({
      addressLo: r.below(2) === 0 ? 0xfee00000 + r.below(0x100000) : anyNumber(r),
      addressHi: r.below(4) === 0 ? anyNumber(r) : 0,
      data: anyNumber(r),
      flags: r.below(8) === 0 ? anyNumber(r) : 0,
    }),
  KVM_IRQFD: ({ vm }, r) => {
    const fd = new EventFd();
    const result = vm.irqfd({
      fd,
      gsi: r.below(4) === 0 ? anyNumber(r) : r.below(32),
      flags: r.below(4) === 0 ? anyNumber(r) : r.below(4),
      ...(r.below(2) === 0 ? { resamplefd: new EventFd() } : {}),
    });
    fd.signal();
    return result;
  },
  KVM_IOEVENTFD: ({ vm }, r) =>
    vm.ioeventfd({
      fd: new EventFd(),
      addr: anyNumber(r),
      len: r.below(10),
      flags: r.below(4) === 0 ? anyNumber(r) : r.below(8),
      datamatch: anyBigint(r),
    }),
  KVM_SET_CLOCK: ({ vm }, r) => vm.setClock(anyBigint(r)),
  KVM_CREATE_VCPU: ({ vm }, r) =>
    typeof vm.createVcpu(r.below(2) === 0 ? anyNumber(r) : r.below(4)) === 'number' ? 1 : 0,
  KVM_SET_REGS: ({ vcpu }, r) => vcpu.setRegs(mutate(r, ok(vcpu.getRegs()))),
  KVM_SET_SREGS: ({ vcpu }, r) => vcpu.setSregs(mutate(r, ok(vcpu.getSregs()), 24)),
  KVM_SET_CPUID2: ({ vcpu }, r) => vcpu.setCpuid2(mutate(r, vcpu.getCpuid2(), 64)),
  KVM_SET_MSRS: ({ vcpu, kvm }, r) => {
    const known = kvm.getMsrIndexList();
    const index = r.below(4) === 0 ? anyNumber(r) : known[r.below(known.length)]!;
    return vcpu.setMsrs([{ index, data: anyBigint(r, vcpu.getMsrs([index])[0]?.data) }]);
  },
  KVM_SET_FPU: ({ vcpu }, r) => vcpu.setFpu(mutate(r, ok(vcpu.getFpu()))),
  KVM_SET_XSAVE: ({ vcpu }, r) => vcpu.setXsave(mutate(r, ok(vcpu.getXsave()))),
  KVM_SET_XCRS: ({ vcpu }, r) => vcpu.setXcrs(mutate(r, ok(vcpu.getXcrs()), 2)),
  KVM_SET_DEBUGREGS: ({ vcpu }, r) => vcpu.setDebugregs(mutate(r, ok(vcpu.getDebugregs()), 4)),
  KVM_SET_VCPU_EVENTS: ({ vcpu }, r) => vcpu.setVcpuEvents(mutate(r, vcpu.getVcpuEvents(), 6)),
  KVM_SET_MP_STATE: ({ vcpu }, r) => vcpu.setMpState(r.below(8) === 0 ? anyNumber(r) : r.below(6)),
  KVM_SET_LAPIC: ({ vcpu }, r) => changed(r, vcpu.getLapic(), (state) => vcpu.setLapic(state)),
  KVM_TRANSLATE: ({ vcpu }, r) => vcpu.translate(anyBigint(r)).valid,
  KVM_INTERRUPT: ({ vcpu }, r) => vcpu.interrupt(r.below(4) === 0 ? anyNumber(r) : r.below(256)),
  KVM_NMI: ({ vcpu }) => vcpu.nmi(),
  KVM_SET_GUEST_DEBUG: ({ vcpu }, r) =>
    vcpu.setGuestDebug({
      control: r.below(4) === 0 ? anyNumber(r) : 1 | (r.below(4) << 16),
      debugreg: Array.from({ length: 8 }, () => anyBigint(r)),
    }),
  KVM_SET_TSC_KHZ: ({ vcpu }, r) => vcpu.setTscKhz(anyNumber(r)),
};

const NAMES = Object.keys(CALLS_BY_NAME);

test(
  'calls in any order with any arguments, between runs',
  async () => {
    const canary = new Canary();
    const { host } = canary;
    const vms = (host.misc.open('kvm') as KvmModule).vmList;
    const refused = new Set<string>();
    const accepted = new Set<string>();
    for (let seed = 1; seed <= ROUNDS; seed++) {
      const random = new Random(seed);
      const lab = new GuestLab({ host, irqchip: random.below(2) === 0, type: random.below(2) });
      lab.load(...Array.from({ length: 256 }, () => random.below(256)));
      const done: string[] = [];
      for (let n = 0; n < CALLS; n++) {
        const name = NAMES[random.below(NAMES.length)]!;
        done.push(name);
        try {
          const result = CALLS_BY_NAME[name]!(lab, random);
          (typeof result === 'number' && result < 0 ? refused : accepted).add(name);
          if (random.below(4) === 0) {
            done.push('KVM_RUN');
            await runBounded(host, lab.vcpu, STEPS);
          }
        } catch (error) {
          throw new Error(`seed ${seed}: ${done.join(', ')}`, { cause: error });
        }
      }
      lab.vm.close();
      for (const file of openFiles.splice(0)) file.close();
      lab.vm.mm.munmap(lab.memory);
      if (seed % 10 === 0) await canary.sing();
    }
    // Only the guest that behaves is left.
    expect(vms).toHaveLength(1);
    expect([...new Set([...accepted, ...refused])].toSorted()).toEqual(NAMES.toSorted());
    // Both ways are taken by many.
    expect(accepted.size).toBeGreaterThan(25);
    expect(refused.size).toBeGreaterThan(15);
  },
  5 * MINUTES,
);
