/** Random histories of trust domains: commands in any order with any arguments. A value or an errno comes back, nothing stays. */
import { expect, test } from 'vitest';
import type { Vcpu, Vm } from '../../src/kvm/index.ts';
import type { GuestMemfd } from '../../src/kvm/virt/guest_memfd.ts';
import type { KvmCpuidEntry2 } from '../../src/kvm/x86/cpuid.ts';
import type { KvmTdxCapabilities, KvmTdxInitVm } from '../../src/kvm/x86/uapi_tdx.ts';
import { Random } from '../../src/util/random.ts';
import { ok } from '../kvm/lab.ts';
import { KVM_CAP_SPLIT_IRQCHIP, KVM_X86_TDX_VM, TdLab, type TdxHostLab, tdxHost } from '../kvm/td-lab.ts';
import { anyBigint, anyNumber } from './lab.ts';

const ROUNDS = 60;
const STEPS = 80;
const SLOT = 0x10_0000;

/** One of two: mostly what makes sense, now and then anything. */
const mostly = <T>(r: Random, sensible: T, anything: () => T): T => (r.below(6) === 0 ? anything() : sensible);

interface History {
  readonly lab: TdxHostLab;
  readonly vm: Vm;
  readonly vcpus: Vcpu[];
  readonly files: GuestMemfd[];
  readonly source: number;
}

const someVcpu = ({ vcpus }: History, r: Random): Vcpu | undefined => vcpus[r.below(vcpus.length + 1)];

function anyEntry(r: Random): KvmCpuidEntry2 {
  const leaf = [0, 1, 4, 7, 0xd, 0x1f, 0x8000_0008][r.below(7)]!;
  const word = (): number => (r.below(3) === 0 ? r.u32() : 0);
  return {
    function: mostly(r, leaf, () => r.u32()),
    index: r.below(3),
    flags: r.below(2),
    eax: word(),
    ebx: word(),
    ecx: word(),
    edx: word(),
  };
}

const width: KvmCpuidEntry2 = { function: 0x8000_0008, index: 0, flags: 0, eax: 0x30_0000, ebx: 0, ecx: 0, edx: 0 };

const STEP_BY_NAME: Readonly<Record<string, (h: History, r: Random) => unknown>> = {
  split: ({ vm }, r) => vm.enableCap(KVM_CAP_SPLIT_IRQCHIP, [mostly(r, 24n, () => anyBigint(r))]),
  capabilities: ({ vm }, r) => {
    const data = { cpuid: { nent: mostly(r, 256, () => anyNumber(r)), entries: [] } } as unknown as KvmTdxCapabilities;
    return vm.memoryEncryptOp({ id: 0, flags: mostly(r, 0, () => anyNumber(r)), data });
  },
  tsc: ({ vm }, r) => vm.setTscKhz(mostly(r, 1_000_000, () => anyNumber(r))),
  initVm: ({ vm }, r) => {
    const data: KvmTdxInitVm = {
      attributes: mostly(r, 1n << 28n, () => anyBigint(r)),
      xfam: mostly(r, 3n, () => anyBigint(r)),
      mrowner: mostly(r, [], () => [anyBigint(r), anyBigint(r)]),
      cpuid: mostly(r, [width], () => [width, ...Array.from({ length: r.below(4) }, () => anyEntry(r))]),
    };
    return vm.memoryEncryptOp({ id: 1, flags: mostly(r, 0, () => anyNumber(r)), data });
  },
  createVcpu: (h, r) => {
    const vcpu = h.vm.createVcpu(mostly(r, h.vcpus.length, () => anyNumber(r)));
    if (typeof vcpu === 'number') return vcpu;
    if (r.below(5) !== 0) vcpu.setCpuid2(h.lab.kvm.getSupportedCpuid());
    h.vcpus.push(vcpu);
    return 0;
  },
  initVcpu: (h, r) => someVcpu(h, r)?.memoryEncryptOp({ id: 2, data: anyBigint(r) }) ?? 0,
  slot: (h, r) => {
    const file = h.vm.createGuestMemfd({ size: mostly(r, SLOT, () => anyNumber(r)), flags: 0n });
    if (typeof file === 'number') return file;
    h.files.push(file);
    return h.vm.setUserMemoryRegion2({
      slot: r.below(3),
      flags: 4,
      guestPhysAddr: r.below(4) * SLOT,
      memorySize: SLOT,
      userspaceAddr: h.source,
      guestMemfd: file,
      guestMemfdOffset: 0,
    });
  },
  attributes: ({ vm }, r) =>
    vm.setMemoryAttributes({
      address: mostly(r, r.below(4) * SLOT, () => anyNumber(r)),
      size: mostly(r, SLOT, () => r.below(64) * 4096),
      attributes: r.below(4) === 0 ? 0n : 8n,
      flags: 0n,
    }),
  memory: (h, r) =>
    someVcpu(h, r)?.memoryEncryptOp({
      id: 3,
      flags: mostly(r, r.below(2), () => anyNumber(r)),
      data: {
        sourceAddr: mostly(r, h.source + r.below(4) * 4096, () => anyNumber(r)),
        gpa: mostly(r, r.below(1024) * 4096, () => anyNumber(r)),
        nrPages: mostly(r, 1 + r.below(3), () => r.below(2) * -1),
      },
    }) ?? 0,
  cpuid: (h, r) =>
    someVcpu(h, r)?.memoryEncryptOp({ id: 5, data: { nent: mostly(r, 256, () => anyNumber(r)), entries: [] } }) ?? 0,
  finalize: ({ vm }, r) => (r.below(4) === 0 ? vm.memoryEncryptOp({ id: 4, data: 0n }) : 0),
  run: async (h, r) => {
    const vcpu = someVcpu(h, r);
    if (vcpu === undefined) return 0;
    const { host } = h.lab;
    vcpu.vcpu.task.cpu = host.cpus.possible[r.below(2)]!;
    // Without firmware a TD faults for ever at the reset vector, or user space hears of it.
    vcpu.kick();
    const exit = await vcpu.run();
    return typeof exit === 'number' ? exit : 0;
  },
  hole: (h, r) =>
    h.files[r.below(h.files.length + 1)]?.fallocate(3, r.below(128) * 4096, (1 + r.below(64)) * 4096) ?? 0,
  prefault: (h, r) => {
    const vcpu = someVcpu(h, r);
    // The address space of a vCPU whose TD has none yet is user space's mistake.
    return vcpu?.preFaultMemory({ gpa: r.below(1024) * 4096, size: 4096, flags: 0n }) ?? 0;
  },
  msr: (h, r) => someVcpu(h, r)?.setMsrs([{ index: mostly(r, 0x1a0, () => r.u32()), data: anyBigint(r) }]) ?? 0,
  nmi: (h, r) => someVcpu(h, r)?.nmi() ?? 0,
  msi: ({ vm }, r) =>
    vm.signalMsi({ addressLo: 0xfee0_0000 | (r.below(2) << 12), addressHi: 0, data: 0x30 + r.below(64) }),
  offline: ({ lab }, r) => lab.host.cpus.down(lab.host.cpus.possible[r.below(2)]!),
  online: ({ lab }) => Math.min(...lab.host.cpus.possible.map((cpu) => lab.host.cpus.up(cpu))),
  close: (h, r) => {
    if (r.below(3) === 0) h.files[r.below(h.files.length + 1)]?.close();
    return 0;
  },
};

test('random histories: every call gives a value or an errno, other TDs go on, and nothing stays', async () => {
  const lab = tdxHost({ ramSize: 64 << 20 });
  const other = new TdLab({}, lab);
  await other.ready();
  // From here on it needs no more memory.
  await other.call({ 0: 1n });
  const names = Object.keys(STEP_BY_NAME);
  const { host } = lab;
  const inventory = (): object => ({
    free: host.pages.freePages,
    keyIds: host.tdx.keyIds.inUse,
    foreign: host.machine.memory.keyed.foreignPages,
  });
  const before = inventory();
  const reached = new Set<string>();
  for (let round = 0; round < ROUNDS; round++) {
    const r = new Random(round + 1);
    const vm = ok(lab.kvm.createVm(KVM_X86_TDX_VM));
    const source = vm.mm.mmap(SLOT);
    vm.mm.write(source, Uint8Array.of(0xeb, 0xfe));
    const history: History = { lab, vm, vcpus: [], files: [], source };
    const prologue =
      r.below(4) === 0 ? [] : ['split', 'initVm', 'createVcpu', 'initVcpu', 'slot', 'attributes', 'memory', 'memory'];
    for (let step = 0; step < STEPS; step++) {
      const name = prologue[step] ?? names[r.below(names.length)]!;
      const result = await STEP_BY_NAME[name]!(history, r);
      expect(typeof result, `round ${round}: ${name}`).toBe('number');
      if (result === 0) reached.add(name);
    }
    for (const cpu of host.cpus.possible) host.cpus.up(cpu);
    vm.close();
    for (const file of history.files) file.close();
    vm.mm.exit();
    expect((await other.call({ 0: 1n }))[0]).toBe(0n);
    expect(inventory(), `round ${round}`).toEqual(before);
  }
  // The histories got far enough to mean something.
  for (const name of ['initVm', 'initVcpu', 'memory', 'finalize', 'cpuid', 'hole']) expect(reached).toContain(name);
  other.close();
}, 120_000);
