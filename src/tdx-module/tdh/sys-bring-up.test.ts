import { describe, expect, test } from 'vitest';
import { BUFFER, GLOBAL_HKID, MIB, PAMT, PAMT_BYTES, RAM, TestHost } from '../testing/test-host.ts';

const GIB = 2 ** 30;
const INIT = 33;
const LP_INIT = 35;
const CONFIG = 45;
const KEY_CONFIG = 31;
const TDMR_INIT = 36;
const LP_SHUTDOWN = 44;
const SHUTDOWN = 52;
const UPDATE = 53;
const MNG_CREATE = 9;

describe('dispatcher', () => {
  test('reserved bits of RAX, unknown leaves and versions are an invalid RAX', () => {
    const host = new TestHost().ready();
    const p = host.machine.processors[0]!;
    for (const rax of [0x100_0000n | 33n, 47n, 99n, 64n, (1n << 16n) | 33n]) {
      p.setGpr(0, rax);
      host.module.seamcall(p);
      expect(p.gpr(0)).toBe(0xc000_0100_0000_0000n);
    }
  });

  test('before the module is ready only bring-up leaves run', () => {
    const host = new TestHost();
    expect(host.status(MNG_CREATE)).toBe('TDX_SYS_NOT_READY');
    host.initialize();
    expect(host.status(MNG_CREATE)).toBe('TDX_SYS_NOT_READY');
  });

  test('a processor without LP.INIT is refused everything that needs it, also when the module is ready', () => {
    const host = new TestHost(2);
    host.expect(INIT);
    host.expect(LP_INIT);
    expect(host.status(CONFIG, { cpu: 1 })).toBe('TDX_SYS_LP_INIT_NOT_DONE');
    host.tdmrInfo(BUFFER + 512);
    host.memory.write64(BUFFER, BigInt(BUFFER + 512));
    host.expect(CONFIG, { rcx: BUFFER, rdx: 1, r8: GLOBAL_HKID });
    host.expect(KEY_CONFIG);
    expect(host.status(MNG_CREATE, { cpu: 1 })).toBe('TDX_SYS_LP_INIT_NOT_DONE');
    expect(host.status(LP_INIT, { cpu: 1 })).toBe('TDX_SUCCESS');
    expect(host.status(MNG_CREATE, { cpu: 1 })).not.toBe('TDX_SYS_LP_INIT_NOT_DONE');
  });

  test('calls are counted by name', () => {
    const host = new TestHost().initialize();
    expect(host.module.seamcalls.get('TDH.SYS.INIT')).toBe(1);
    expect(host.module.seamcalls.get('TDH.SYS.LP.INIT')).toBe(1);
  });
});

describe('TDH.SYS.INIT', () => {
  test('succeeds once', () => {
    const host = new TestHost();
    expect(host.status(INIT)).toBe('TDX_SUCCESS');
    expect(host.status(INIT)).toBe('TDX_SYS_INIT_NOT_PENDING');
  });

  test('checks in order: lock, RCX, state, platform', () => {
    const host = new TestHost();
    const p = host.machine.processors[0]!;
    p.msrs.set(0x1a0, 1n << 22n);
    host.module.hooks.lockHeld = (kind) => kind === 'sys';
    expect(host.status(INIT, { rcx: 1 })).toBe('TDX_SYS_BUSY');
    host.module.hooks.lockHeld = () => false;
    expect(host.status(INIT, { rcx: 1 })).toBe('TDX_OPERAND_INVALID 0x1');
    host.module.hooks.lockHeld = (kind) => kind === 'entropy';
    expect(host.status(INIT)).toBe('TDX_LIMIT_CPUID_MAXVAL_SET');
    p.msrs.delete(0x1a0);
    expect(host.status(INIT)).toBe('TDX_RND_NO_ENTROPY');
    host.module.hooks.lockHeld = () => false;
    expect(host.status(INIT)).toBe('TDX_SUCCESS');
  });

  test('an unsuitable platform is refused with what is wrong', () => {
    const wrong = (change: (host: TestHost) => void): string => {
      const host = new TestHost();
      change(host);
      return host.status(INIT);
    };
    const msr = (index: number, value: bigint) => (host: TestHost) => {
      const { platform } = host.module;
      const real = platform.msr.bind(platform);
      platform.msr = (p, i) => (i === index ? value : real(p, i));
    };
    const word = (leaf: number, register: 'eax' | 'ebx' | 'ecx', value: number) => (host: TestHost) => {
      const { platform } = host.module;
      const real = platform.cpuid.bind(platform);
      platform.cpuid = (p, l, s) => (l === leaf ? { ...real(p, l, s), [register]: value } : real(p, l, s));
    };
    const cmrs = (list: { base: number; size: number }[]) => (host: TestHost) => {
      (host.module.platform as { cmrs: unknown }).cmrs = list;
    };
    for (const value of [0n, 3n]) expect(wrong(msr(0xbd, value))).toBe('TDX_INCORRECT_MSR_VALUE 0xbd');
    expect(wrong(word(0, 'eax', 0x1e))).toBe('TDX_CPUID_LEAF_NOT_SUPPORTED 0x1f');
    expect(wrong(word(0x80000000, 'eax', 0x80000007))).toBe('TDX_CPUID_LEAF_NOT_SUPPORTED 0x80000008');
    expect(wrong(word(0, 'ebx', 0))).toBe('TDX_INCORRECT_CPUID_VALUE');
    expect(wrong(word(0x80000008, 'eax', 0x3934))).toBe('TDX_SUCCESS');
    expect(wrong(word(0x80000008, 'eax', 0x3034))).toBe('TDX_INCORRECT_CPUID_VALUE');
    expect(wrong(word(7, 'ecx', 1 << 28))).toBe('TDX_INCORRECT_CPUID_VALUE');
    expect(wrong(word(0x80000008, 'eax', 0x392e))).toBe('TDX_INCORRECT_CPUID_VALUE');
    expect(wrong(word(0x15, 'ebx', 0))).toBe('TDX_CPUID_LEAF_NOT_SUPPORTED 0x15');
    expect(wrong(word(0x1f, 'ecx', 0))).toBe('TDX_CPUID_LEAF_NOT_SUPPORTED');
    expect(wrong(word(0x1f, 'ecx', 0x600))).toBe('TDX_CPUID_LEAF_1F_FORMAT_UNRECOGNIZED');
    expect(wrong(word(0x1f, 'ecx', 0x100))).toBe('TDX_CPUID_LEAF_1F_FORMAT_UNRECOGNIZED');
    expect(wrong(msr(0x48b, 0n))).toBe('TDX_INCORRECT_MSR_VALUE 0x48b');
    expect(wrong(msr(0x982, 1n))).toBe('TDX_INCORRECT_MSR_VALUE 0x982');
    expect(wrong(cmrs([{ base: 100, size: 4096 }]))).toBe('TDX_CMR_LIST_INVALID');
    expect(wrong(msr(0xfe, 0n))).toBe('TDX_SMRR_NOT_SUPPORTED');
    expect(wrong(msr(0xfe, 1n << 11n))).toBe('TDX_SMRR_LOCK_NOT_SUPPORTED');
    expect(wrong(msr(0x1f3, 0xfff0_0800n))).toBe('TDX_SMRR_NOT_LOCKED');
    expect(wrong(msr(0x1f3, 0xfff0_1c00n))).toBe('TDX_INVALID_SMRR_CONFIGURATION');
    expect(wrong(msr(0x1f2, 0x10_0006n))).toBe('TDX_SMRR_OVERLAPS_CMR');
  });

  test('says which CPUID bits are wrong', () => {
    const host = new TestHost();
    const { platform } = host.module;
    const real = platform.cpuid.bind(platform);
    platform.cpuid = (p, l, s) => (l === 7 ? { ...real(p, l, s), ecx: 0 } : real(p, l, s));
    const { name, rcx, r8, r10 } = host.call(INIT);
    expect(name).toBe('TDX_INCORRECT_CPUID_VALUE');
    expect(rcx).toBe(7n);
    expect(r8 & 0xffff_ffffn).toBe(1n << 28n);
    expect(r10 & 0xffff_ffffn).toBe(1n << 28n);
  });

  test('a leaf without subleaves is named with all ones, and comes before the topology where it has a lower number', () => {
    const host = new TestHost();
    const { platform } = host.module;
    const real = platform.cpuid.bind(platform);
    const broken = new Set([1, 0x1f, 0x8000_0007]);
    platform.cpuid = (p, l, s) => (broken.has(l) ? { ...real(p, l, s), ecx: 0, edx: 0 } : real(p, l, s));
    expect(host.call(INIT)).toMatchObject({ name: 'TDX_INCORRECT_CPUID_VALUE', rcx: 0xffff_ffff_0000_0001n });
    broken.delete(1);
    expect(host.status(INIT)).toBe('TDX_CPUID_LEAF_NOT_SUPPORTED');
    broken.delete(0x1f);
    expect(host.call(INIT)).toMatchObject({ name: 'TDX_INCORRECT_CPUID_VALUE', rcx: 0xffff_ffff_8000_0007n });
  });
});

describe('TDH.SYS.LP.INIT', () => {
  test('needs SYS.INIT, and succeeds once per processor', () => {
    const host = new TestHost(2);
    expect(host.status(LP_INIT)).toBe('TDX_SYS_LP_INIT_NOT_PENDING');
    host.expect(INIT);
    expect(host.status(LP_INIT)).toBe('TDX_SUCCESS');
    expect(host.status(LP_INIT)).toBe('TDX_SYS_LP_INIT_DONE');
    expect(host.status(LP_INIT, { cpu: 1 })).toBe('TDX_SUCCESS');
  });

  test('a busy module, an MSR or CPUID that differs from the first processor', () => {
    const host = new TestHost(2);
    host.expect(INIT);
    host.module.hooks.lockHeld = (kind) => kind === 'sys';
    expect(host.status(LP_INIT)).toBe('TDX_SYS_BUSY');
    host.module.hooks.lockHeld = () => false;
    const p = host.machine.processors[1]!;
    p.msrs.set(0x3b, 5n);
    expect(host.status(LP_INIT, { cpu: 1 })).toBe('TDX_INCONSISTENT_MSR 0x3b');
    p.msrs.delete(0x3b);
    const { platform } = host.module;
    const real = platform.cpuid.bind(platform);
    platform.cpuid = (q, l, s) => (l === 7 && q === p ? { ...real(q, l, s), ebx: 0 } : real(q, l, s));
    const { name, rcx, rdx, r8 } = host.call(LP_INIT, { cpu: 1 });
    const everything = 0xffff_ffff_ffff_ffffn;
    expect([name, rcx, rdx, r8]).toEqual(['TDX_INCONSISTENT_CPUID_FIELD', 7n, everything, everything]);
    platform.cpuid = real;
    const realMsr = platform.msr.bind(platform);
    for (const index of [0xcf, 0xbc, 0x492, 0x345]) {
      platform.msr = (q, i) => (i === index && q === p ? 77n : realMsr(q, i));
      expect(host.status(LP_INIT, { cpu: 1 })).toBe(`TDX_INCONSISTENT_MSR 0x${index.toString(16)}`);
    }
    platform.msr = realMsr;
    expect(host.status(LP_INIT, { cpu: 1 })).toBe('TDX_SUCCESS');
  });
});

describe('TDH.SYS.CONFIG', () => {
  const configure = (host: TestHost, words: Record<number, number | bigint> = {}): string => {
    host.tdmrInfo(BUFFER + 512, words);
    host.memory.write64(BUFFER, BigInt(BUFFER + 512));
    return host.status(CONFIG, { rcx: BUFFER, rdx: 1, r8: GLOBAL_HKID });
  };

  test('needs SYS.INIT, and succeeds once', () => {
    const host = new TestHost().initialize();
    expect(configure(host)).toBe('TDX_SUCCESS');
    expect(configure(host)).toBe('TDX_SYS_CONFIG_NOT_PENDING');
  });

  test('operands are checked in order', () => {
    const host = new TestHost().initialize();
    host.module.hooks.lockHeld = (kind) => kind === 'sys';
    expect(host.status(CONFIG)).toBe('TDX_SYS_BUSY');
    host.module.hooks.lockHeld = () => false;
    expect(host.status(CONFIG, { rcx: 1 })).toBe('TDX_OPERAND_INVALID 0x1');
    expect(host.status(CONFIG, { rcx: 40n << 46n })).toBe('TDX_OPERAND_INVALID 0x1');
    expect(host.status(CONFIG, { rcx: 1n << 52n })).toBe('TDX_OPERAND_INVALID 0x1');
    expect(host.status(CONFIG, { rcx: BUFFER, rdx: 0 })).toBe('TDX_OPERAND_INVALID 0x2');
    expect(host.status(CONFIG, { rcx: BUFFER, rdx: 65 })).toBe('TDX_OPERAND_INVALID 0x2');
    for (const r8 of [0, 31, 64, 0x1_0020])
      expect(host.status(CONFIG, { rcx: BUFFER, rdx: 1, r8 })).toBe('TDX_OPERAND_INVALID 0x8');
    host.memory.write64(BUFFER, BigInt(BUFFER + 8));
    expect(host.status(CONFIG, { rcx: BUFFER, rdx: 1, r8: GLOBAL_HKID })).toBe('TDX_OPERAND_INVALID 0x1');
    // The KeyID stays reserved.
    expect(host.module.kot.entries[GLOBAL_HKID]!.state).toBe(3);
  });

  test('a TDMR is 1 GiB aligned and below the KeyID bits', () => {
    const host = new TestHost().initialize();
    expect(configure(host, { 0: MIB })).toBe('TDX_INVALID_TDMR');
    expect(configure(host, { 8: 0 })).toBe('TDX_INVALID_TDMR');
    expect(configure(host, { 8: 1n << 47n })).toBe('TDX_INVALID_TDMR');
    expect(configure(host, { 0: (1n << 64n) - 1n - BigInt(GIB) })).toBe('TDX_INVALID_TDMR');
  });

  test('reserved areas are ordered, aligned and inside', () => {
    const host = new TestHost().initialize();
    expect(configure(host, { 72: 0 })).toBe('TDX_NON_ORDERED_RESERVED_IN_TDMR');
    expect(configure(host, { 80: MIB / 2 })).toBe('TDX_NON_ORDERED_RESERVED_IN_TDMR 0x100');
    expect(configure(host, { 88: RAM })).toBe('TDX_NON_ORDERED_RESERVED_IN_TDMR 0x200');
    expect(configure(host, { 72: MIB + 1 })).toBe('TDX_INVALID_RESERVED_IN_TDMR');
    expect(configure(host, { 104: GIB })).toBe('TDX_INVALID_RESERVED_IN_TDMR 0x200');
  });

  test('PAMTs are large enough, apart, in reserved parts and in memory', () => {
    const host = new TestHost().initialize();
    expect(configure(host, { 24: 0 })).toBe('TDX_INVALID_PAMT 0x200');
    expect(configure(host, { 32: PAMT + 4 * MIB + 8 })).toBe('TDX_INVALID_PAMT 0x100');
    expect(configure(host, { 56: 2 * MIB })).toBe('TDX_INVALID_PAMT');
    expect(configure(host, { 48: 40n << 46n })).toBe('TDX_INVALID_PAMT');
    expect(configure(host, { 32: PAMT })).toBe('TDX_PAMT_OVERLAP');
    expect(configure(host, { 16: PAMT + 4 * MIB })).toBe('TDX_PAMT_OVERLAP 0x100');
    expect(configure(host, { 88: PAMT_BYTES - 4096 })).toBe('TDX_PAMT_OVERLAP 0x200');
    expect(configure(host, { 48: RAM })).toBe('TDX_PAMT_OUTSIDE_CMRS');
  });

  test('what is not reserved is convertible memory', () => {
    const host = new TestHost().initialize();
    expect(configure(host, { 96: RAM + 4096, 104: GIB - RAM - 4096 })).toBe('TDX_TDMR_OUTSIDE_CMRS');
    expect(configure(host, { 104: GIB - RAM - 4096 })).toBe('TDX_TDMR_OUTSIDE_CMRS');
  });

  test('TDMRs ascend and do not overlap; the second is named', () => {
    const host = new TestHost().initialize();
    host.tdmrInfo(BUFFER + 512);
    host.tdmrInfo(BUFFER + 1024);
    host.memory.write64(BUFFER, BigInt(BUFFER + 512));
    host.memory.write64(BUFFER + 8, BigInt(BUFFER + 1024));
    expect(host.status(CONFIG, { rcx: BUFFER, rdx: 2, r8: GLOBAL_HKID })).toBe('TDX_NON_ORDERED_TDMR 0x1');
    host.tdmrInfo(BUFFER + 1024, { 0: GIB, 64: 0, 72: GIB, 80: 0, 88: 0, 96: 0, 104: 0 });
    expect(host.status(CONFIG, { rcx: BUFFER, rdx: 2, r8: GLOBAL_HKID })).toBe('TDX_PAMT_OVERLAP 0x1');
  });
});

describe('TDH.SYS.KEY.CONFIG', () => {
  test('needs SYS.CONFIG, makes the module ready', () => {
    const host = new TestHost().initialize();
    expect(host.status(KEY_CONFIG)).toBe('TDX_SYS_KEY_CONFIG_NOT_PENDING');
    const other = new TestHost().configure();
    other.module.hooks.lockHeld = (kind) => kind === 'sys';
    expect(other.status(KEY_CONFIG)).toBe('TDX_SYS_BUSY');
    other.module.hooks.lockHeld = (kind) => kind === 'ket';
    expect(other.status(KEY_CONFIG)).toBe('TDX_OPERAND_BUSY 0xbb');
    other.module.hooks.lockHeld = (kind) => kind === 'entropy';
    expect(other.status(KEY_CONFIG)).toBe('TDX_KEY_GENERATION_FAILED');
    other.module.hooks.lockHeld = () => false;
    expect(other.status(KEY_CONFIG)).toBe('TDX_SUCCESS');
    expect(other.status(KEY_CONFIG)).toBe('TDX_SYS_KEY_CONFIG_NOT_PENDING');
  });

  test('a package that has the key is told so while others are missing', () => {
    const host = new TestHost().configure();
    Object.defineProperty(host.module.platform, 'packages', { value: 2 });
    expect(host.status(KEY_CONFIG)).toBe('TDX_SUCCESS');
    expect(host.status(KEY_CONFIG)).toBe('TDX_KEY_CONFIGURED');
  });
});

describe('TDH.SYS.TDMR.INIT', () => {
  test('makes the PAMT step by step; memory can be used when a GiB is done', () => {
    const host = new TestHost().configure();
    host.expect(KEY_CONFIG);
    let calls = 0;
    let next = 0n;
    while (next < BigInt(GIB)) {
      expect(host.module.pamt.lookup(2 * MIB)).toBeNull();
      next = host.expect(TDMR_INIT, { rcx: 0 }).rdx;
      calls++;
      expect(next === 0n || next === BigInt(GIB)).toBe(true);
    }
    expect(calls).toBe(256);
    const { name, rdx } = host.call(TDMR_INIT, { rcx: 0 });
    expect([name, rdx]).toEqual(['TDX_TDMR_ALREADY_INITIALIZED', 0n]);
    expect(host.module.pamt.lookup(2 * MIB)?.pageType).toBe(0);
    expect(host.module.pamt.lookup(PAMT)?.pageType).toBe(1);
    expect(host.module.pamt.lookup(0)?.pageType).toBe(1);
    expect(host.module.pamt.lookup(RAM)?.pageType).toBe(1);
    expect(host.module.pamt.lookup(GIB)).toBeNull();
  });

  test('the PAMT is the module own memory: the host reads zeros there', () => {
    const host = new TestHost();
    host.memory.fill(PAMT, PAMT_BYTES, 0x55);
    host.ready();
    for (let page = PAMT; page < PAMT + PAMT_BYTES; page += 4096) {
      expect(host.memory.keyed.ownerOf(page)).toBe(GLOBAL_HKID);
      expect(host.memory.keyed.poisoned(page)).toBe(false);
    }
    expect(host.memory.read64(PAMT)).toBe(0n);
    // Entry 0 of the 4 KiB PAMT is of a reserved page: type 1.
    expect(host.memory.keyed.read64(PAMT, GLOBAL_HKID)).toBe(0x1_0000n);
    expect(host.memory.keyed.read64(PAMT + 512 * 16, GLOBAL_HKID)).toBe(0n);
  });

  test('wrong addresses, and a TDMR that another processor works on', () => {
    const host = new TestHost().configure();
    expect(host.status(TDMR_INIT)).toBe('TDX_SYS_NOT_READY');
    host.expect(KEY_CONFIG);
    for (const rcx of [MIB, GIB, 32n << 46n, 1n << 52n])
      expect(host.status(TDMR_INIT, { rcx })).toBe('TDX_OPERAND_INVALID 0x1');
    host.module.hooks.lockHeld = (kind, id) => kind === 'tdmr' && id === 0;
    expect(host.status(TDMR_INIT)).toBe('TDX_OPERAND_BUSY 0x1');
  });
});

describe('shutting down', () => {
  test('TDH.SYS.SHUTDOWN leaves only LP.SHUTDOWN', () => {
    const host = new TestHost();
    expect(host.status(LP_SHUTDOWN)).toBe('TDX_SUCCESS');
    expect(host.status(SHUTDOWN)).toBe('TDX_SYS_NOT_READY');
    host.ready();
    expect(host.status(SHUTDOWN, { rcx: 1 })).toBe('TDX_OPERAND_INVALID 0x1');
    host.module.hooks.lockHeld = (kind) => kind === 'sys';
    expect(host.status(SHUTDOWN)).toBe('TDX_SYS_BUSY');
    host.module.hooks.lockHeld = () => false;
    expect(host.status(SHUTDOWN)).toBe('TDX_SUCCESS');
    expect(host.status(INIT)).toBe('TDX_SYS_SHUTDOWN');
    expect(host.status(99)).toBe('TDX_SYS_SHUTDOWN');
    expect(host.status(LP_SHUTDOWN)).toBe('TDX_SUCCESS');
  });

  test('TDH.SYS.UPDATE finds nothing to take over', () => {
    const host = new TestHost().initialize();
    host.module.hooks.lockHeld = (kind) => kind === 'sys';
    expect(host.status(UPDATE)).toBe('TDX_SYS_BUSY');
    host.module.hooks.lockHeld = () => false;
    expect(host.status(UPDATE)).toBe('TDX_SYS_INVALID_HANDOFF');
    expect(new TestHost().ready().status(UPDATE)).toBe('TDX_SYS_STATE_INCORRECT');
  });
});
