import { describe, expect, test } from 'vitest';
import { Machine } from '../machine/machine.ts';
import { readMsr } from '../machine/msr/msr.ts';
import { CR4_VMXE } from '../machine/processor.ts';
import { Host } from './host.ts';
import { PAGE_OWNER } from './pages.ts';
import { TDX_OPERAND_BUSY, TDX_RND_NO_ENTROPY, TDX_SYS_BUSY } from './tdx-errno.ts';
import { FakeTdxModule } from './testing/fake-tdx-module.ts';

const MSR_IA32_VMX_BASIC = 0x480;
const MIB = 1 << 20;
const ENODEV = 19;
const EINVAL = 22;
const EIO = 5;
const ENOMEM = 12;
const EACCES = 13;

interface Options {
  readonly processors?: number;
  readonly ramSize?: number;
  readonly privateKeyIds?: number;
  readonly module?: boolean;
  readonly vmx?: boolean;
}

/** A host of which every CPU is in VMX operation. */
function lab(options: Options = {}): { host: Host; module: FakeTdxModule } {
  const { processors = 2, ramSize = 64 * MIB, privateKeyIds, module: loaded = true, vmx = true } = options;
  const tdx = privateKeyIds === undefined ? {} : { tdx: { privateKeyIds } };
  const machine = new Machine({ processors, ramSize, profile: 'tdx-host', ...tdx });
  const host = new Host(machine);
  if (vmx) for (const cpu of host.cpus.possible) vmxOn(host, cpu.id);
  const module = new FakeTdxModule();
  if (loaded) machine.seam.install(module);
  return { host, module };
}

function vmxOn(host: Host, id: number): void {
  const region = host.pages.alloc(PAGE_OWNER.vmcs)!;
  const { processor } = host.cpus.possible[id]!;
  processor.cr4 |= CR4_VMXE;
  host.machine.memory.write32(region, Number(readMsr(processor, MSR_IA32_VMX_BASIC)! & 0x7fff_ffffn));
  if (processor.vtx.vmxon(region) !== 0) throw new Error('VMXON');
}

describe('bring-up', () => {
  test('the calls come in upstream’s order, with the operands of the specification', () => {
    const { host, module } = lab();
    expect(host.tdx.enable().result).toBe(0);
    const { calls } = module;
    expect(module.names()).toEqual([
      'SYS_INIT',
      'SYS_LP_INIT',
      'SYS_LP_INIT',
      'SYS_CONFIG',
      'SYS_KEY_CONFIG',
      'SYS_TDMR_INIT',
      'SYS_TDMR_INIT',
    ]);
    expect(calls[0]!.rcx).toBe(0n);
    expect(calls.filter(({ name }) => name === 'SYS_LP_INIT').map(({ cpu }) => cpu)).toEqual([0, 1]);
    // The metadata sweep lies between LP.INIT and CONFIG, version first.
    const sweep = calls.findIndex(({ name }) => name === 'SYS_RD');
    expect(sweep).toBe(3);
    expect(calls[sweep]!.rdx).toBe(0x0800_0001_0000_0003n);
    const config = calls.find(({ name }) => name === 'SYS_CONFIG')!;
    expect(config.rcx % 512n).toBe(0n);
    expect([config.rdx, config.r8]).toEqual([1n, 32n]);
    expect(calls.at(-1)!.rcx).toBe(0n);
  });

  test('TDMR_INFO: 1 GiB-aligned cover, PAMT in one piece, holes and PAMT reserved in order', () => {
    const { host, module } = lab();
    let words: number[] = [];
    module.handlers.set('SYS_CONFIG', ({ rcx }) => {
      const { memory } = host.machine;
      const info = Number(memory.read64(Number(rcx)));
      words = Array.from({ length: 14 }, (_, i) => Number(memory.read64(info + 8 * i)));
      return {};
    });
    host.tdx.enable();
    const [base, size, g1, g1Size, m2, m2Size, k4, k4Size, ...reserved] = words;
    expect([base, size]).toEqual([0, 1024 * MIB]);
    expect([g1Size, m2Size, k4Size]).toEqual([4096, 8192, 4 * MIB]);
    expect([m2! - k4!, g1! - m2!]).toEqual([4 * MIB, 8192]);
    expect(host.pages.ownerOf(k4!)).toBe(PAGE_OWNER.tdx);
    expect(reserved).toEqual([0, MIB, k4, 4 * MIB + 8192 + 4096, 64 * MIB, 960 * MIB]);
  });

  test('it happens once: a second call finds the module as it is', () => {
    const { host, module } = lab();
    host.tdx.enable();
    const count = module.calls.length;
    expect(host.tdx.enable()).toEqual({ result: 0, reason: 'the TDX module is initialised' });
    expect(module.calls.length).toBe(count);
    expect(host.tdx.sysInfo).toMatchObject({ majorVersion: 1, minorVersion: 5, updateVersion: 6, maxVcpusPerTd: 64 });
    expect(host.tdx.sysInfo?.cpuidConfig.map(({ leaf }) => leaf)).toEqual([1, 0x8000_0008]);
  });

  test('a CPU that was offline is initialised by the next call', () => {
    const { host, module } = lab({ processors: 3 });
    host.cpus.down(host.cpus.possible[2]!);
    host.tdx.enable();
    host.cpus.up(host.cpus.possible[2]!);
    expect(host.tdx.enable().result).toBe(0);
    expect(module.calls.at(-1)).toMatchObject({ name: 'SYS_LP_INIT', cpu: 2 });
  });
});

describe('a busy module, or one without entropy, is asked again', () => {
  for (const [name, status] of [
    ['SYS_INIT', TDX_SYS_BUSY],
    ['SYS_LP_INIT', TDX_SYS_BUSY],
    ['SYS_CONFIG', TDX_OPERAND_BUSY],
    ['SYS_KEY_CONFIG', TDX_RND_NO_ENTROPY],
    ['SYS_TDMR_INIT', TDX_OPERAND_BUSY],
  ] as const) {
    test(name, () => {
      const { host, module } = lab({ processors: 1 });
      module.fail.set(name, [status, status]);
      expect(host.tdx.enable().result).toBe(0);
      expect(module.fail.get(name)).toEqual([]);
    });
  }
  test('but not for ever', () => {
    const { host, module } = lab({ processors: 1 });
    module.fail.set('SYS_KEY_CONFIG', new Array(100).fill(TDX_RND_NO_ENTROPY));
    expect(host.tdx.enable().result).toBe(-EIO);
  });
});

describe('refusals', () => {
  test('no TDX module', () => {
    const { host } = lab({ module: false });
    expect(host.tdx.enable()).toEqual({ result: -ENODEV, reason: 'no TDX module' });
  });
  test('a module that is loaded later works', () => {
    const { host, module } = lab({ module: false });
    host.tdx.enable();
    host.machine.seam.install(module);
    expect(host.tdx.enable().result).toBe(0);
  });
  test('no private KeyIDs, and too few', () => {
    expect(lab({ privateKeyIds: 0 }).host.tdx.enable()).toEqual({
      result: -ENODEV,
      reason: 'the machine has no TDX KeyIDs',
    });
    expect(lab({ privateKeyIds: 1 }).host.tdx.enable()).toEqual({
      result: -ENODEV,
      reason: 'too few TDX KeyIDs: 1, and the module itself needs one',
    });
  });
  test('a machine without SEAM', () => {
    const host = new Host(new Machine({ processors: 1, ramSize: 32 * MIB, profile: 'pc' }));
    expect(host.tdx.enable().reason).toBe('the machine has no TDX KeyIDs');
  });
  test('VMX that is off', () => {
    const { host } = lab({ vmx: false });
    expect(host.tdx.enable()).toEqual({ result: -EACCES, reason: 'SEAMCALL raised #UD: VMX is off' });
  });
  test('an old module, by name and version', () => {
    const { host, module } = lab();
    module.metadata.set(0x0a00_0003_0000_0008n, 1n << 20n);
    module.metadata.set(0x0800_0001_0000_0005n, 1n);
    const status = host.tdx.enable();
    expect(status.result).toBe(-EINVAL);
    expect(status.reason).toBe('TDX module 1.5.01 is too old: it clobbers RBP (NO_RBP_MOD is missing)');
    expect(module.names()).not.toContain('SYS_CONFIG');
  });
  test('metadata that cannot be read', () => {
    const { host, module } = lab();
    module.metadata.delete(0x9800_0001_0000_0100n);
    expect(host.tdx.enable()).toEqual({
      result: -EIO,
      reason: 'TDX module metadata field 0x9800000100000100 cannot be used: 0xc0000c0000000000',
    });
  });
  test('too little memory for the PAMT', () => {
    const { host } = lab({ ramSize: 4 * MIB });
    expect(host.tdx.enable()).toEqual({ result: -ENOMEM, reason: 'no memory for the PAMT' });
  });
});

describe('a module that fails in a step', () => {
  const FAILED = 0xc000_0900_0000_0000n;
  for (const name of ['SYS_INIT', 'SYS_LP_INIT', 'SYS_CONFIG', 'SYS_KEY_CONFIG', 'SYS_TDMR_INIT']) {
    test(`${name}: the reason names it, and nothing stays allocated`, () => {
      const { host, module } = lab();
      const free = host.pages.freePages;
      module.fail.set(name, [FAILED]);
      const status = host.tdx.enable();
      expect(status.result).toBe(-EIO);
      expect(status.reason).toContain(`TDH.${name.replaceAll('_', '.')}`);
      expect(status.reason).toContain('0xc000090000000000');
      expect(host.pages.freePages).toBe(free);
      expect(host.tdx.sysInfo).toBeNull();
    });
  }
  test('before SYS.CONFIG it may be tried again, and SYS.INIT is not repeated', () => {
    const { host, module } = lab();
    module.fail.set('SYS_LP_INIT', [FAILED]);
    host.tdx.enable();
    expect(host.tdx.enable().result).toBe(0);
    expect(module.names().filter((name) => name === 'SYS_INIT')).toHaveLength(1);
  });
  test('after SYS.CONFIG it is permanent', () => {
    const { host, module } = lab();
    module.fail.set('SYS_TDMR_INIT', [FAILED]);
    const first = host.tdx.enable();
    const count = module.calls.length;
    expect(first.reason).toContain('permanent');
    expect(host.tdx.enable()).toEqual(first);
    expect(module.calls.length).toBe(count);
  });
});
