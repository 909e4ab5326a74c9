/** Commands of KVM_MEMORY_ENCRYPT_OP: what is refused when, with upstream's errno. */
import { afterEach, describe, expect, test } from 'vitest';
import type { Vm } from '../../src/kvm/index.ts';
import type { KvmCpuidEntry2 } from '../../src/kvm/x86/cpuid.ts';
import {
  type KvmTdxCapabilities,
  type KvmTdxCmd,
  type KvmTdxCpuid,
  type KvmTdxInitVm,
  TDX_TD_ATTR_DEBUG,
  TDX_TD_ATTR_SEPT_VE_DISABLE,
} from '../../src/kvm/x86/uapi_tdx.ts';
import { ok } from './lab.ts';
import { INIT_CPUID, KVM_CAP_SPLIT_IRQCHIP, KVM_X86_TDX_VM, TdLab, tdxHost } from './td-lab.ts';

const E2BIG = 7;
const EINVAL = 22;
const EIO = 5;
const ENOTTY = 25;

const lab = tdxHost();
const open: Vm[] = [];
afterEach(() => {
  for (const vm of open.splice(0)) vm.close();
});

/** A TD before KVM_TDX_INIT_VM. */
function fresh(): Vm {
  const vm = ok(lab.kvm.createVm(KVM_X86_TDX_VM));
  open.push(vm);
  return vm;
}
const initVm = (data: Partial<KvmTdxInitVm> = {}): KvmTdxCmd & { hwError?: bigint } => ({
  id: 1,
  data: { attributes: TDX_TD_ATTR_SEPT_VE_DISABLE, xfam: 3n, cpuid: INIT_CPUID, ...data },
});
const capabilities = (nent: number): KvmTdxCapabilities => ({
  supportedAttrs: 0n,
  supportedXfam: 0n,
  kernelTdvmcallinfo1R11: 0n,
  userTdvmcallinfo1R11: 0n,
  kernelTdvmcallinfo1R12: 0n,
  userTdvmcallinfo1R12: 0n,
  cpuid: { nent, entries: [] },
});
const sizes = (bits: number): KvmCpuidEntry2 => ({ ...INIT_CPUID[0]!, eax: bits << 16 });

describe('KVM_TDX_CAPABILITIES', () => {
  test('what KVM and the module both know', () => {
    const data = capabilities(256);
    expect(fresh().memoryEncryptOp({ id: 0, data })).toBe(0);
    expect(data.supportedAttrs).toBe(TDX_TD_ATTR_SEPT_VE_DISABLE);
    // x87, SSE, AVX and PKRU.
    expect(data.supportedXfam).toBe(0x207n);
    expect(data.userTdvmcallinfo1R11).toBe(2n);
    expect(data.cpuid.nent).toBe(data.cpuid.entries.length);
    const width = data.cpuid.entries.find((entry) => entry.function === 0x8000_0008)!;
    expect((width.eax >>> 16) & 0xff).toBe(0xff);
    const features = data.cpuid.entries.find((entry) => entry.function === 7 && entry.index === 0)!;
    expect([features.ebx & 0x810, features.ecx & 0x20]).toEqual([0, 0]);
    for (const entry of data.cpuid.entries) if (!(entry.flags & 1)) expect(entry.index).toBe(0);
  });
  test('flags −EINVAL, too little room −E2BIG', () => {
    expect(fresh().memoryEncryptOp({ id: 0, flags: 1, data: capabilities(256) })).toBe(-EINVAL);
    expect(fresh().memoryEncryptOp({ id: 0, data: capabilities(1) })).toBe(-E2BIG);
  });
});

describe('KVM_TDX_INIT_VM', () => {
  const zeros = new Array<bigint>(12).fill(0n);
  const refused: readonly [string, Partial<KvmTdxInitVm>, number][] = [
    ['a debug TD', { attributes: TDX_TD_ATTR_DEBUG }, -EINVAL],
    ['an unknown attribute', { attributes: 1n << 40n }, -EINVAL],
    ['XFAM beyond what is supported', { xfam: 0xe7n }, -EINVAL],
    ['no leaf 80000008', { cpuid: [] }, -EINVAL],
    ['a width of 47 bits', { cpuid: [sizes(47)] }, -EINVAL],
    ['52 bits without 5-level EPT', { cpuid: [sizes(52)] }, -EINVAL],
    ['a leaf that cannot be configured', { cpuid: [sizes(48), { ...sizes(0), function: 0x16 }] }, -EINVAL],
    ['WAITPKG', { cpuid: [sizes(48), { ...sizes(0), function: 7, flags: 1, ecx: 1 << 5 }] }, -EINVAL],
    ['HLE', { cpuid: [sizes(48), { ...sizes(0), function: 7, flags: 1, ebx: 1 << 4 }] }, -EINVAL],
    ['257 entries', { cpuid: new Array(257).fill(sizes(48)) }, -E2BIG],
    ['a reserved word', { reserved: [...zeros.slice(1), 1n] }, -EINVAL],
  ];
  test.each(refused)('%s is refused, and the TD can still be initialised', (_name, data, errno) => {
    const vm = fresh();
    expect(vm.memoryEncryptOp(initVm(data))).toBe(errno);
    expect(lab.host.tdx.keyIds.inUse).toBe(0);
    expect(vm.memoryEncryptOp(initVm())).toBe(0);
  });
  test('flags −EINVAL, twice −EINVAL', () => {
    const vm = fresh();
    expect(vm.memoryEncryptOp({ ...initVm(), flags: 1 } as KvmTdxCmd)).toBe(-EINVAL);
    expect(vm.memoryEncryptOp(initVm())).toBe(0);
    expect(vm.memoryEncryptOp(initVm())).toBe(-EINVAL);
  });
  test('what the module refuses: −EINVAL, with its word in hw_error', () => {
    const vm = fresh();
    // A CPUID bit that the host may not choose.
    const command = initVm({ cpuid: [sizes(48), { ...sizes(0), function: 1, flags: 0, ecx: 1 }] });
    expect(vm.memoryEncryptOp(command)).toBe(-EINVAL);
    expect(command.hwError! >> 32n).toBe(0xc000_0100n);
    expect(lab.host.tdx.keyIds.inUse).toBe(0);
  });
  test('hw_error that is not 0 on entry: −EINVAL', () => {
    expect(fresh().memoryEncryptOp({ ...initVm(), hwError: 1n } as KvmTdxCmd)).toBe(-EINVAL);
  });
  test('identifiers go into the report as they are', () => {
    const words = [1n, 2n, 3n, 4n, 5n, 6n];
    lab.seam.clear();
    let seen: bigint[] = [];
    lab.seam.intercept = ({ name, rdx }) => {
      if (name !== 'MNG_INIT') return undefined;
      const { memory } = lab.host.machine;
      seen = [80, 128, 176].flatMap((at) => words.map((_, i) => memory.read64(Number(rdx) + at + 8 * i)));
      return undefined;
    };
    const other = words.map((word) => word + 10n);
    expect(fresh().memoryEncryptOp(initVm({ mrconfigid: words, mrowner: other, mrownerconfig: words }))).toBe(0);
    lab.seam.intercept = () => undefined;
    expect(seen).toEqual([...words, ...other, ...words]);
  });
  test('TD_PARAMS: EPTP controls, NO_RBP_MOD, TSC frequency of the VM, vCPUs as many as CPUs', () => {
    const vm = fresh();
    let seen: bigint[] = [];
    lab.seam.intercept = ({ name, rdx }) => {
      if (name === 'MNG_INIT') seen = [16, 24, 32, 40].map((at) => lab.host.machine.memory.read64(Number(rdx) + at));
      return undefined;
    };
    vm.setTscKhz(1_500_000);
    expect(vm.memoryEncryptOp(initVm())).toBe(0);
    lab.seam.intercept = () => undefined;
    expect(seen).toEqual([2n, 0x1en, 4n, 60n]);
  });
});

describe('order', () => {
  test('a vCPU before KVM_TDX_INIT_VM: −EIO; without split irqchip: −EINVAL; the in-kernel irqchip: −ENOTTY', () => {
    const vm = fresh();
    expect(vm.createVcpu(0)).toBe(-EIO);
    expect(vm.createIrqchip()).toBe(-ENOTTY);
    vm.memoryEncryptOp(initVm());
    expect(vm.createVcpu(0)).toBe(-EINVAL);
    vm.enableCap(KVM_CAP_SPLIT_IRQCHIP, [24n]);
    expect(typeof vm.createVcpu(0)).toBe('object');
  });
  test('more vCPUs than the TD was made for: −EINVAL', () => {
    const vm = fresh();
    vm.memoryEncryptOp(initVm());
    vm.enableCap(KVM_CAP_SPLIT_IRQCHIP, [24n]);
    ok(vm.createVcpu(0));
    ok(vm.createVcpu(1));
    expect(vm.createVcpu(2)).toBe(-EINVAL);
    expect(vm.checkExtension(66)).toBe(2);
  });
  test('KVM_TDX_INIT_VCPU: x2APIC in the CPUID, once', () => {
    const vm = fresh();
    vm.memoryEncryptOp(initVm());
    vm.enableCap(KVM_CAP_SPLIT_IRQCHIP, [24n]);
    const vcpu = ok(vm.createVcpu(0));
    expect(vcpu.memoryEncryptOp({ id: 2, data: 0n })).toBe(-EINVAL);
    vcpu.setCpuid2(lab.kvm.getSupportedCpuid());
    expect(vcpu.memoryEncryptOp({ id: 2, flags: 1, data: 0n })).toBe(-EINVAL);
    expect(vcpu.memoryEncryptOp({ id: 2, data: 0n })).toBe(0);
    expect(vcpu.getMpState()).toBe(0);
    expect(vcpu.getMsrs([0x1b])[0]!.data).toBe(0xfee0_0d00n);
    expect(vcpu.memoryEncryptOp({ id: 2, data: 0n })).toBe(-EINVAL);
  });
  test('KVM_RUN before INIT_VCPU and before FINALIZE_VM: −EINVAL', async () => {
    const td = new TdLab({ unfinished: true }, lab);
    expect(await td.vcpu.run()).toBe(-EINVAL);
    td.close();
    const vm = fresh();
    vm.memoryEncryptOp(initVm());
    vm.enableCap(KVM_CAP_SPLIT_IRQCHIP, [24n]);
    const vcpu = ok(vm.createVcpu(0));
    const other = ok(vm.createVcpu(1));
    // The module finalizes no TD without a virtual processor.
    expect(vm.memoryEncryptOp({ id: 4, data: 0n })).toBe(-EIO);
    other.setCpuid2(lab.kvm.getSupportedCpuid());
    expect(other.memoryEncryptOp({ id: 2, data: 0n })).toBe(0);
    expect(vm.memoryEncryptOp({ id: 4, data: 0n })).toBe(0);
    expect(await vcpu.run()).toBe(-EINVAL);
  });
  test('FINALIZE_VM: not before INIT_VM, not twice, no flags', () => {
    expect(fresh().memoryEncryptOp({ id: 4, data: 0n })).toBe(-EINVAL);
    const td = new TdLab({ unfinished: true }, lab);
    expect(td.vm.memoryEncryptOp({ id: 4, flags: 1, data: 0n })).toBe(-EINVAL);
    expect(td.vm.memoryEncryptOp({ id: 4, data: 0n })).toBe(0);
    expect(td.vm.memoryEncryptOp({ id: 4, data: 0n })).toBe(-EINVAL);
    td.close();
  });
  test('after FINALIZE_VM no vCPU command is left', () => {
    const td = new TdLab({}, lab);
    const region = { sourceAddr: 0, gpa: 0, nrPages: 1 };
    expect(td.vcpu.memoryEncryptOp({ id: 3, data: region })).toBe(-EINVAL);
    expect(td.vcpu.memoryEncryptOp({ id: 2, data: 0n })).toBe(-EINVAL);
    expect(td.vcpu.memoryEncryptOp({ id: 5, data: { nent: 256, entries: [] } })).toBe(-EINVAL);
    td.close();
  });
  test('unknown commands: −EINVAL; commands on the other file: −EINVAL; VMs: −ENOTTY and −EINVAL', () => {
    const td = new TdLab({ unfinished: true }, lab);
    expect(td.vm.memoryEncryptOp({ id: 6, data: 0n } as unknown as KvmTdxCmd)).toBe(-EINVAL);
    expect(td.vm.memoryEncryptOp({ id: 2, data: 0n })).toBe(-EINVAL);
    expect(td.vcpu.memoryEncryptOp({ id: 4, data: 0n })).toBe(-EINVAL);
    td.close();
    const vm = ok(lab.kvm.createVm(0));
    open.push(vm);
    expect(vm.memoryEncryptOp({ id: 0, data: capabilities(256) })).toBe(-ENOTTY);
    expect(ok(vm.createVcpu(0)).memoryEncryptOp({ id: 2, data: 0n })).toBe(-EINVAL);
  });
});

describe('KVM_TDX_GET_CPUID', () => {
  test('the values of the module, with the width that follows from the shared bit', () => {
    const td = new TdLab({ unfinished: true }, lab);
    const data: KvmTdxCpuid = { nent: 256, entries: [] };
    expect(td.vcpu.memoryEncryptOp({ id: 5, data })).toBe(0);
    const of = (leaf: number) => data.entries.find((entry) => entry.function === leaf);
    expect(of(0x21)).toMatchObject({ eax: 0, ebx: 0x6574_6e49, ecx: 0x2020_2020, edx: 0x5844_546c });
    expect((of(0x8000_0008)!.eax >>> 16) & 0xff).toBe(48);
    const few: KvmTdxCpuid = { nent: 1, entries: [] };
    expect(td.vcpu.memoryEncryptOp({ id: 5, data: few })).toBe(-E2BIG);
    expect(few.nent).toBe(data.nent);
    expect(td.vcpu.memoryEncryptOp({ id: 5, flags: 1, data })).toBe(-EINVAL);
    td.close();
  });
});
