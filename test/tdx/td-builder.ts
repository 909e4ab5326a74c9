/**
 * For tests: trust domains made by raw SEAMCALLs, and their virtual processors run register by register.
 *
 * Where a call must succeed and does not, it throws with the leaf and the status.
 */

import { TDH as HOST_LEAVES } from '../../src/host/tdx-leaves.ts';
import { type GeneralRegister, REG_NAMES } from '../../src/kvm/x86/sregs.ts';
import { seamcall } from '../../src/machine/seam/seamcall.ts';
import { statusName } from '../../src/tdx-module/status.ts';
import { type Operands, type Result, TestHost } from '../../src/tdx-module/testing/test-host.ts';
import {
  CPUID_CONFIG_LEAVES,
  cpuidConfigMetadata,
  nativeCpuid,
} from '../../src/tdx-module/virtualization/cpuid-table.ts';
import type { Gpa, Hpa } from '../../src/util/address.ts';

/** Leaf numbers of the host interface: what the host calls, and what only tests do. */
export const TDH = { ...HOST_LEAVES, MNG_WR: 13, MEM_SEPT_RD: 25, MEM_RANGE_UNBLOCK: 39 } as const;

/** Leaf numbers of the guest interface. */
export const TDG = {
  VP_VMCALL: 0,
  VP_INFO: 1,
  MR_RTMR_EXTEND: 2,
  VP_VEINFO_GET: 3,
  MR_REPORT: 4,
  VP_CPUIDVE_SET: 5,
  MEM_PAGE_ACCEPT: 6,
  VM_RD: 7,
  VM_WR: 8,
  VP_RD: 9,
  VP_WR: 10,
  SYS_RD: 11,
  SYS_RDALL: 12,
  MR_VERIFYREPORT: 22,
} as const;

export const ATTRIBUTES_DEBUG = 1n;
export const ATTRIBUTES_SEPT_VE_DISABLE = 1n << 28n;
export const CONFIG_FLEXIBLE_PENDING_VE = 2n;
export const CONFIG_NO_RBP_MOD = 4n;

/** What a TD is made with. */
export interface TdOptions {
  readonly attributes?: bigint;
  readonly xfam?: bigint;
  readonly maxVcpus?: number;
  readonly configFlags?: bigint;
  /** Units of 25 MHz. */
  readonly tscFrequency?: number;
  /** Bits of CPUID that the host leaves out: a mask for one register (0 EAX to 3 EDX) of a leaf. */
  readonly leaveOut?: { readonly leaf: number; readonly register: number; readonly bits: number };
}

const PAGE = 4096;
const CHUNK = 256;
const TDCX_PAGES = 6;
const TDVPS_CHILD_PAGES = 5;
const PARAMS = 0x10_4000;
/** Four levels, write-back. */
const EPTP_CONTROLS = 0x1en;

/** Lays out TD_PARAMS, with everything in CPUID that the host may offer. */
export function writeTdParams(host: TestHost, at: Hpa, options: TdOptions = {}): void {
  const { memory, machine } = host;
  const p = machine.processors[0]!;
  memory.fill(at, 1024);
  memory.write64(at, options.attributes ?? ATTRIBUTES_SEPT_VE_DISABLE);
  memory.write64(at + 8, options.xfam ?? 3n);
  memory.write16(at + 16, options.maxVcpus ?? 4);
  memory.write64(at + 24, EPTP_CONTROLS);
  memory.write64(at + 32, options.configFlags ?? CONFIG_NO_RBP_MOD);
  memory.write16(at + 40, options.tscFrequency ?? 40);
  for (const [i, { values }] of cpuidConfigMetadata(p).entries()) {
    const row = CPUID_CONFIG_LEAVES[i]!;
    const native = nativeCpuid(p, row.leaf, row.subleaf ?? 0);
    const masks = [values[0] & 0xffff_ffffn, values[0] >> 32n, values[1] & 0xffff_ffffn, values[1] >> 32n];
    for (let r = 0; r < 4; r++) {
      const { leaf, register, bits } = options.leaveOut ?? { leaf: -1, register: 0, bits: 0 };
      const kept = leaf === row.leaf && register === r ? ~bits : -1;
      memory.write32(at + 256 + i * 16 + r * 4, Number(BigInt(native[r]!) & masks[r]!) & kept);
    }
  }
}

export type Registers = Readonly<Record<GeneralRegister, bigint>>;

/** What TDH.VP.ENTER gave. */
export interface Exit extends Registers {
  /** Status class by name, without the exit reason. */
  readonly status: string;
  /** VMX exit reason. */
  readonly reason: number;
}

/** Private HKIDs after the module's own. */
const FIRST_HKID = 33;
const LAST_HKID = 63;

/** A machine with a ready module, and TDs on it. */
export class TdHost extends TestHost {
  #nextHkid = FIRST_HKID;

  constructor(processors = 1) {
    super(processors);
    this.ready();
  }

  /** HKIDs are left for more TDs. */
  get hasRoom(): boolean {
    return this.#nextHkid < LAST_HKID - 4;
  }

  /** A TD that is initialised, without memory. */
  createTd(options: TdOptions = {}): Td {
    const tdr = this.page();
    const hkid = this.#nextHkid++;
    this.expect(TDH.MNG_CREATE, { rcx: tdr, rdx: hkid });
    this.expect(TDH.MNG_KEY_CONFIG, { rcx: tdr });
    for (let i = 0; i < TDCX_PAGES; i++) this.expect(TDH.MNG_ADDCX, { rcx: this.page(), rdx: tdr });
    writeTdParams(this, PARAMS, options);
    this.expect(TDH.MNG_INIT, { rcx: tdr, rdx: PARAMS });
    return new Td(this, tdr, hkid);
  }
}

/** A TD by its TDR. */
export class Td {
  readonly host: TdHost;
  readonly tdr: Hpa;
  readonly hkid: number;
  readonly vcpus: Vcpu[] = [];
  readonly #tables: Set<string> = new Set();

  constructor(host: TdHost, tdr: Hpa, hkid: number) {
    this.host = host;
    this.tdr = tdr;
    this.hkid = hkid;
  }

  /** A leaf with the TDR in RDX that must succeed. */
  expect(leaf: number, operands: Operands = {}): Result {
    return this.host.expect(leaf, { rdx: this.tdr, ...operands });
  }

  /** Adds the S-EPT pages above a GPA that are still missing. */
  tables(gpa: Gpa, level = 0): void {
    for (let above = 3; above > level; above--) {
      const size = 2 ** (12 + 9 * above);
      const base = gpa - (gpa % size);
      const key = `${base} ${above}`;
      if (this.#tables.has(key)) continue;
      this.#tables.add(key);
      this.expect(TDH.MEM_SEPT_ADD, { rcx: base + above, r8: this.host.page() });
    }
  }

  /** Adds a page with content while the TD is built, and measures it. @returns its HPA */
  addPage(gpa: Gpa, content: Uint8Array = new Uint8Array(), measure = true): Hpa {
    this.tables(gpa);
    const source = this.host.page();
    const target = this.host.page();
    this.host.memory.writeBytes(source, content);
    this.expect(TDH.MEM_PAGE_ADD, { rcx: gpa, r8: target, r9: source });
    for (let at = 0; measure && at < PAGE; at += CHUNK) this.expect(TDH.MR_EXTEND, { rcx: gpa + at });
    return target;
  }

  /** Adds a pending page of 4 KiB. @returns its HPA */
  augPage(gpa: Gpa): Hpa {
    this.tables(gpa);
    const target = this.host.page();
    this.expect(TDH.MEM_PAGE_AUG, { rcx: gpa, r8: target });
    return target;
  }

  /** A virtual processor. @param initial what it starts with in RCX and R8 */
  createVcpu(initial: bigint | number = 0, x2apicId: number = this.vcpus.length): Vcpu {
    const tdvpr = this.host.page();
    this.expect(TDH.VP_CREATE, { rcx: tdvpr });
    for (let i = 0; i < TDVPS_CHILD_PAGES; i++) this.host.expect(TDH.VP_ADDCX, { rcx: this.host.page(), rdx: tdvpr });
    this.host.expect(TDH.VP_INIT, { rcx: tdvpr, rdx: initial, r8: x2apicId, version: 1 });
    const vcpu = new Vcpu(this, tdvpr);
    this.vcpus.push(vcpu);
    return vcpu;
  }

  finalize(): this {
    this.host.expect(TDH.MR_FINALIZE, { rcx: this.tdr });
    return this;
  }
}

/** A virtual processor by its TDVPR. */
export class Vcpu {
  readonly td: Td;
  readonly tdvpr: Hpa;

  constructor(td: Td, tdvpr: Hpa) {
    this.td = td;
    this.tdvpr = tdvpr;
  }

  /** TDH.VP.ENTER with other registers as given, zero otherwise. */
  enter(registers: Partial<Registers> = {}, cpu = 0): Exit {
    const p = this.td.host.machine.processors[cpu]!;
    for (const [n, name] of REG_NAMES.entries()) if (name !== 'rsp') p.setGpr(n, registers[name] ?? 0n);
    p.setGpr(0, BigInt(TDH.VP_ENTER));
    p.setGpr(1, BigInt(this.tdvpr));
    const outcome = seamcall(p);
    if (outcome !== 0) throw new Error(`SEAMCALL: outcome ${outcome.toString(16)}`);
    const values = Object.fromEntries(REG_NAMES.map((name, n) => [name, p.gpr(n)])) as Record<GeneralRegister, bigint>;
    return {
      ...values,
      status: statusName(values.rax & ~0xffff_ffffn),
      reason: Number(values.rax & 0xffff_ffffn),
    };
  }
}

let shared: TdHost | undefined;

/** A host that tests use one after the other, as long as it has room for TDs. */
export function sharedHost(): TdHost {
  if (shared?.hasRoom !== true) shared = new TdHost(2);
  return shared;
}
