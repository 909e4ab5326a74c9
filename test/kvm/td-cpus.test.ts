/** Trust domains on CPUs that change: migration, hotplug, suspend, reboot. */
import { beforeEach, describe, expect, test } from 'vitest';
import { Host } from '../../src/host/index.ts';
import { Kvm, vtInit } from '../../src/kvm/index.ts';
import { tdxAssociatedCount } from '../../src/kvm/x86/vmx/tdx_vcpu.ts';
import { assemble } from '../../src/machine/isa/assembler/assemble.ts';
import { Machine } from '../../src/machine/machine.ts';
import { installTdxModule } from '../../src/tdx-module/module.ts';
import { ok } from './lab.ts';
import { SeamRecorder } from './seam-recorder.ts';
import { TdLab, type TdxHostLab, tdxHost } from './td-lab.ts';

const VP_INFO = 1n;
let lab: TdxHostLab;
let td: TdLab;
beforeEach(async () => {
  lab = tdxHost({ processors: 3 });
  td = new TdLab({ vcpus: 1 }, lab);
  await td.ready();
  lab.seam.clear();
});

const cpu = (id: number) => lab.host.cpus.possible[id]!;
/** `LEAF@CPU` of the calls that move virtual processors. */
const moves = (): string[] =>
  lab.seam.calls
    .filter(({ name }) => ['VP_ENTER', 'VP_FLUSH', 'SYS_LP_INIT'].includes(name))
    .map(({ name, cpu: id }) => `${name}@${id}`)
    .filter((entry, i, all) => entry !== all[i - 1]);

test('a vCPU that goes to another CPU is flushed from the old one first', async () => {
  expect(tdxAssociatedCount(cpu(0))).toBe(1);
  td.vcpu.vcpu.task.cpu = cpu(2);
  await td.call({ 0: VP_INFO });
  expect(moves()).toEqual(['VP_FLUSH@0', 'VP_ENTER@2']);
  expect([0, 1, 2].map((id) => tdxAssociatedCount(cpu(id)))).toEqual([0, 0, 1]);
  td.close();
  expect(tdxAssociatedCount(cpu(2))).toBe(0);
});

test('one that was loaded elsewhere but never entered there is no error', () => {
  td.vcpu.vcpu.task.cpu = cpu(1);
  td.vcpu.getMsrs([0x1b]);
  td.vcpu.vcpu.task.cpu = cpu(2);
  td.vcpu.getMsrs([0x1b]);
  expect(moves()).toEqual(['VP_FLUSH@0', 'VP_FLUSH@1']);
  expect(td.vm.kvm.vmBugged).toBe(false);
  td.close();
});

test('a CPU that goes offline: its TD vCPUs are flushed before VMXOFF, and go on elsewhere', async () => {
  let vmxAtFlush: boolean | undefined;
  lab.seam.intercept = ({ name }, _index, p) => {
    if (name === 'VP_FLUSH') vmxAtFlush = p.vtx.inVmx;
    return undefined;
  };
  expect(lab.host.cpus.down(cpu(0))).toBe(0);
  expect(vmxAtFlush).toBe(true);
  expect(cpu(0).processor.vtx.inVmx).toBe(false);
  expect((await td.call({ 0: VP_INFO }))[0]).toBe(0n);
  expect(moves()).toEqual(['VP_FLUSH@0', 'VP_ENTER@1']);
  expect(lab.host.cpus.up(cpu(0))).toBe(0);
  // LP.INIT is for ever.
  expect(lab.seam.calls.some(({ name }) => name === 'SYS_LP_INIT')).toBe(false);
  td.close();
});

describe('a CPU that the module has not seen', () => {
  function late(): { host: Host; seam: SeamRecorder; kvm: Kvm } {
    const machine = new Machine({ processors: 2, ramSize: 32 << 20, profile: 'tdx-host' });
    const seam = new SeamRecorder(installTdxModule(machine));
    machine.seam.install(seam);
    const host = new Host(machine);
    host.cpus.down(host.cpus.possible[1]!);
    ok(vtInit(host));
    seam.clear();
    return { host, seam, kvm: ok(Kvm.open(host)) };
  }
  test('is made known when it comes online, with VMX on for that alone where no VM exists', () => {
    const { host, seam } = late();
    expect(host.cpus.up(host.cpus.possible[1]!)).toBe(0);
    expect(seam.calls.map(({ name, cpu: id }) => `${name}@${id}`)).toEqual(['SYS_LP_INIT@1']);
    expect(host.cpus.possible[1]!.processor.vtx.inVmx).toBe(false);
  });
  test('with a VM it keeps VMX', () => {
    const { host, kvm } = late();
    const vm = ok(kvm.createVm(0));
    expect(host.cpus.up(host.cpus.possible[1]!)).toBe(0);
    expect(host.cpus.possible[1]!.processor.vtx.inVmx).toBe(true);
    vm.close();
    expect(host.cpus.possible[1]!.processor.vtx.inVmx).toBe(false);
  });
  test('stays offline if the module refuses it, with the reason', () => {
    const { host, seam } = late();
    const log: string[] = [];
    host.log = (message) => void log.push(message);
    seam.fail.set('SYS_LP_INIT', [0xc000_0900_0000_0000n]);
    expect(host.cpus.up(host.cpus.possible[1]!)).toBe(-5);
    expect(host.cpus.possible[1]!.online).toBe(false);
    expect(log.join()).toContain('TDH.SYS.LP.INIT on CPU 1');
    expect(host.cpus.possible[1]!.processor.vtx.inVmx).toBe(false);
    expect(host.cpus.up(host.cpus.possible[1]!)).toBe(0);
  });
});

describe('two packages', () => {
  /** CPUs 0 and 1 are in one, 2 and 3 in the other, which the module does not know of. */
  function twoPackages(): TdxHostLab {
    const machine = new Machine({ processors: 4, ramSize: 48 << 20, profile: 'tdx-host' });
    const tdxModule = installTdxModule(machine);
    const seam = new SeamRecorder(tdxModule);
    const perPackage = ['SYS_KEY_CONFIG', 'MNG_KEY_CONFIG', 'PHYMEM_CACHE_WB'];
    seam.intercept = ({ name, cpu: id }) => (id >= 2 && perPackage.includes(name) ? 0n : undefined);
    machine.seam.install(seam);
    const host = new Host(machine);
    host.tdx.packageOf = ({ id }) => id >> 1;
    const log: string[] = [];
    host.log = (message) => void log.push(message);
    const module = ok(vtInit(host));
    return { host, tdxModule, seam, module, kvm: ok(Kvm.open(host)), log };
  }
  const cpusOf = ({ seam }: TdxHostLab, name: string): number[] =>
    seam.calls.filter((call) => call.name === name).map((call) => call.cpu);

  test('keys are configured, and caches written back, by one CPU of each', () => {
    const two = twoPackages();
    new TdLab({}, two).close();
    for (const name of ['SYS_KEY_CONFIG', 'MNG_KEY_CONFIG', 'PHYMEM_CACHE_WB'])
      expect(cpusOf(two, name)).toEqual([0, 2]);
  });
  test('the last CPU of a package stays online as long as a TD has a KeyID: −EBUSY', () => {
    const two = twoPackages();
    const other = new TdLab({}, two);
    const { cpus } = two.host;
    expect(cpus.down(cpus.possible[3]!)).toBe(0);
    expect(cpus.down(cpus.possible[2]!)).toBe(-16);
    expect(cpus.possible[2]!.processor.vtx.inVmx).toBe(true);
    other.close();
    expect(cpus.down(cpus.possible[2]!)).toBe(0);
  });
  test('without an online CPU in each package no TD is made: −EIO', () => {
    const two = twoPackages();
    const { cpus } = two.host;
    for (const id of [2, 3]) cpus.down(cpus.possible[id]!);
    expect(() => new TdLab({}, two)).toThrow('errno 5');
    expect(two.host.tdx.keyIds.inUse).toBe(0);
    cpus.up(cpus.possible[2]!);
    new TdLab({}, two).close();
  });
});

test('suspend and resume: the TD is flushed everywhere and goes on', async () => {
  expect(lab.host.power.suspend()).toBe(0);
  expect([0, 1, 2].map((id) => tdxAssociatedCount(cpu(id)))).toEqual([0, 0, 0]);
  expect(lab.host.power.resume()).toBe(0);
  expect((await td.call({ 0: VP_INFO }))[0]).toBe(0n);
  td.close();
});

test('reboot: entering fails without being a bug, and the TD can be closed', async () => {
  lab.host.power.reboot();
  const exit = await td.vcpu.run();
  expect(exit).toMatchObject({ kind: 'internal-error', suberror: 4 });
  expect(td.vm.kvm.vmBugged).toBe(false);
  expect(() => td.close()).not.toThrow();
});

test('KVM unloaded and loaded again finds the module as it is', async () => {
  td.close();
  const { vtExit } = await import('../../src/kvm/index.ts');
  vtExit(lab.module);
  lab.seam.clear();
  ok(vtInit(lab.host));
  expect(lab.seam.calls).toEqual([]);
  const again = new TdLab({}, { ...lab, kvm: ok(Kvm.open(lab.host)) });
  await again.ready();
  again.close();
});

test('several vCPUs, each on a CPU of its own, make progress side by side', async () => {
  td.close();
  const many = new TdLab({ vcpus: 3, processors: 3 }, lab);
  await Promise.all([0, 1, 2].map((id) => many.ready(id)));
  const results = await Promise.all([0, 1, 2].map((id) => many.call({ 0: VP_INFO }, undefined, id)));
  expect(results.map((regs) => regs[9]! & 0xffff_ffffn)).toEqual([0n, 1n, 2n]);
  expect([0, 1, 2].map((id) => tdxAssociatedCount(cpu(id)))).toEqual([1, 1, 1]);
  many.close();
});

test('an NMI is left with the module, once, however many come', async () => {
  const writes: bigint[] = [];
  lab.seam.intercept = ({ name, rdx, r8 }) => {
    if (name !== 'VP_WR') return undefined;
    writes.push(rdx, r8);
    return 0n;
  };
  td.vcpu.nmi();
  td.vcpu.nmi();
  td.vcpu.nmi();
  await td.call({ 0: VP_INFO });
  expect(writes).toEqual([(32n << 56n) | 11n, 1n]);
  const { arch } = td.vcpu.vcpu;
  expect([arch.nmiPending, arch.nmiQueued, arch.nmiInjected]).toEqual([0, 0, false]);
  td.close();
});

test('a VM and a TD take turns on one CPU, and neither sees the other’s registers', async () => {
  // x87 and SYSENTER MSRs live on the processor while the VM is loaded.
  const code = `
    bits 16
    org 0xf000
  start:
    fninit
    fldpi
    mov ecx, 0x175
    mov eax, 0x12345678
    xor edx, edx
    wrmsr
    mov ecx, 0xc0000082
    mov eax, 0x55aa55aa
    wrmsr
    out 0x80, al
    fstp tword [0x500]
    mov eax, [0x504]
    out 0x80, eax
    mov ecx, 0x175
    rdmsr
    out 0x80, eax
    mov ecx, 0xc0000082
    rdmsr
    out 0x80, eax
    times 0xff0-($-start) db 0
    jmp start
    times 0x1000-($-start) db 0`;
  const vm = ok(lab.kvm.createVm(0));
  const memory = vm.mm.mmap(0x2000);
  vm.setUserMemoryRegion({ slot: 0, flags: 0, guestPhysAddr: 0, memorySize: 4096, userspaceAddr: memory });
  vm.setUserMemoryRegion({
    slot: 1,
    flags: 0,
    guestPhysAddr: 0xffff_f000,
    memorySize: 4096,
    userspaceAddr: memory + 4096,
  });
  vm.mm.write(memory + 4096, assemble(code, 16).bytes);
  const vcpu = ok(vm.createVcpu(0));
  vcpu.setCpuid2(lab.kvm.getSupportedCpuid());
  const out: number[] = [];
  for (let i = 0; i < 4; i++) {
    const exit = ok(await vcpu.run());
    if (exit.kind !== 'io') throw new Error(exit.kind);
    if (exit.size === 4) out.push(new DataView(exit.data.buffer, exit.data.byteOffset).getUint32(0, true));
    expect((await td.call({ 0: VP_INFO }))[1]).toBe(48n);
  }
  expect(out).toEqual([0xc90f_daa2, 0x1234_5678, 0x55aa_55aa]);
  vm.close();
  vm.mm.exit();
  td.close();
});
