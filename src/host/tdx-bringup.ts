/**
 * Bringing up the TDX module: the sequence of SEAMCALLs after every CPU is in VMX operation.
 *
 *   SYS.INIT once, LP.INIT on each CPU │ SYS.RD of all metadata │ memory list, TDMRs, PAMTs, reserved areas │ SYS.CONFIG
 *   │ KEY.CONFIG on one CPU of each package │ TDMR.INIT of each region, piece by piece
 *
 * @upstream arch/x86/virt/vmx/tdx/tdx.c tdx_enable(), init_tdx_module()
 */
import type { PhysicalMemory } from '../machine/memory.ts';
import { type Hpa, PAGE_SIZE } from '../util/address.ts';
import type { Cpu, Cpus } from './cpus.ts';
import { EINVAL, EIO, ENOMEM, type Errno } from './errno.ts';
import { PAGE_OWNER, type PageAllocator } from './pages.ts';
import {
  TDX_SEAMCALL_GP,
  TDX_SEAMCALL_UD,
  TDX_SEAMCALL_VMFAILINVALID,
  TDX_SUCCESS,
  TDX_SYS_BUSY,
  tdxHex,
  tdxInitErrno,
  tdxOperandBusy,
  tdxStatus,
} from './tdx-errno.ts';
import { tdhSysConfig, tdhSysInit, tdhSysKeyConfig, tdhSysLpInit, tdhSysRd, tdhSysTdmrInit } from './tdx-leaves.ts';
import {
  fillOutTdmrs,
  type MemoryRange,
  pamtOf,
  populateReservedAreas,
  setUpPamts,
  TDMR_INFO_SIZE,
  type Tdmr,
  tdmrInfoWords,
} from './tdx-memory.ts';
import { MetadataError, readTdxSysInfo, TDX_FEATURES0_NO_RBP_MOD, type TdxSysInfo } from './tdx-metadata.ts';

/** How a step ended. */
export interface TdxStatus {
  /** 0, or the negative errno of the bring-up. */
  readonly result: Errno;
  /** Why, in words. */
  readonly reason: string;
}

const OK: TdxStatus = { result: 0, reason: '' };
/** TDs get no memory of the first megabyte: firmware and trampolines use it. */
const FIRST_BYTE: Hpa = 0x10_0000;
/** Other CPUs hold the module's locks for a short time only. */
const BUSY_RETRIES = 10;

const NAMES: readonly [status: bigint, reason: string][] = [
  [TDX_SEAMCALL_VMFAILINVALID, 'no TDX module'],
  [TDX_SEAMCALL_GP, 'SEAMCALL raised #GP: the processor does not support it'],
  [TDX_SEAMCALL_UD, 'SEAMCALL raised #UD: VMX is off'],
];

/** The status of a SEAMCALL as the outcome of a step. */
function outcomeOf(leaf: string, rax: bigint): TdxStatus {
  const known = NAMES.find(([status]) => status === rax);
  return { result: tdxInitErrno(rax), reason: known?.[1] ?? `${leaf} failed: ${tdxHex(rax)}` };
}

/** Repeats a call while the module is busy. */
function patiently(call: () => bigint): bigint {
  for (let retry = BUSY_RETRIES; ; retry--) {
    const rax = call();
    if (retry === 0 || !(tdxOperandBusy(rax) || tdxStatus(rax) === TDX_SYS_BUSY)) return rax;
  }
}

/** What the bring-up works on, and what it leaves behind. */
export class TdxBringUp {
  readonly cpus: Cpus;
  readonly #pages: PageAllocator;
  readonly #memory: PhysicalMemory;
  readonly #globalKeyId: number;
  #sysInitDone = false;
  /** CPUs that have executed LP.INIT. */
  readonly lpInitialized: Set<Cpu> = new Set();
  /** SYS.CONFIG succeeded: from here on the module cannot be configured again, whatever happens. */
  configured = false;
  sysInfo: TdxSysInfo | null = null;
  tdmrs: readonly Tdmr[] = [];

  constructor(cpus: Cpus, pages: PageAllocator, memory: PhysicalMemory, globalKeyId: number) {
    this.cpus = cpus;
    this.#pages = pages;
    this.#memory = memory;
    this.#globalKeyId = globalKeyId;
  }

  /** SYS.INIT if nobody did it, then LP.INIT, on the current CPU, once. @upstream tdx_cpu_enable() */
  cpuEnable(): TdxStatus {
    const cpu = this.cpus.current;
    if (this.lpInitialized.has(cpu)) return OK;
    if (!this.#sysInitDone) {
      const rax = patiently(() => tdhSysInit(this.cpus));
      if (rax !== TDX_SUCCESS) return outcomeOf('TDH.SYS.INIT', rax);
      this.#sysInitDone = true;
    }
    const rax = patiently(() => tdhSysLpInit(this.cpus));
    if (rax !== TDX_SUCCESS) return outcomeOf(`TDH.SYS.LP.INIT on CPU ${cpu.id}`, rax);
    this.lpInitialized.add(cpu);
    return OK;
  }

  /** The whole sequence; on failure what it allocated is free again. */
  run(onePerPackage: readonly Cpu[]): TdxStatus {
    for (const cpu of this.cpus.online) {
      const status = this.#on(cpu, () => this.cpuEnable());
      if (status.result !== 0) return status;
    }
    const info = readTdxSysInfo((field) => tdhSysRd(this.cpus, field));
    if (info instanceof MetadataError) {
      const { field, status } = info;
      return { result: -EIO, reason: `TDX module metadata field ${tdxHex(field)} cannot be used: ${tdxHex(status)}` };
    }
    const { majorVersion, minorVersion, updateVersion } = info;
    if ((info.features0 & TDX_FEATURES0_NO_RBP_MOD) === 0n) {
      const version = `${majorVersion}.${minorVersion}.${String(updateVersion).padStart(2, '0')}`;
      return { result: -EINVAL, reason: `TDX module ${version} is too old: it clobbers RBP (NO_RBP_MOD is missing)` };
    }
    const built = this.#constructTdmrs(info);
    const status = built.result !== 0 ? built : this.#configure(onePerPackage);
    if (status.result !== 0) {
      this.#freePamts();
      return status;
    }
    this.sysInfo = info;
    return OK;
  }

  #on<T>(cpu: Cpu, fn: () => T): T {
    const answer: { result?: T } = {};
    this.cpus.smpCallFunctionSingle(cpu, () => {
      answer.result = fn();
    });
    return answer.result as T;
  }

  /** @upstream construct_tdmrs() */
  #constructTdmrs(info: TdxSysInfo): TdxStatus {
    const memory: MemoryRange[] = [{ start: FIRST_BYTE, end: this.#memory.ramSize }];
    const tdmrs = fillOutTdmrs(memory, info.maxTdmrs);
    if (typeof tdmrs === 'number') return { result: tdmrs, reason: `memory needs more than ${info.maxTdmrs} TDMRs` };
    this.tdmrs = tdmrs;
    const alloc = (bytes: number): Hpa | undefined => this.#pages.allocContig(PAGE_OWNER.tdx, bytes / PAGE_SIZE);
    if (setUpPamts(tdmrs, info, alloc) !== 0) return { result: -ENOMEM, reason: 'no memory for the PAMT' };
    const result = populateReservedAreas(tdmrs, memory, info.maxReservedPerTdmr);
    return result === 0 ? OK : { result, reason: 'a TDMR has too many reserved areas' };
  }

  /** @upstream free_pamt_all() */
  #freePamts(): void {
    for (const tdmr of this.tdmrs) {
      const { base, size } = pamtOf(tdmr);
      if (size > 0) this.#pages.freeContig(base, size / PAGE_SIZE);
    }
    this.tdmrs = [];
  }

  #configure(onePerPackage: readonly Cpu[]): TdxStatus {
    const rax = this.#sysConfig();
    if (rax === undefined) return { result: -ENOMEM, reason: 'no memory for the list of TDMRs' };
    if (rax !== TDX_SUCCESS) return outcomeOf('TDH.SYS.CONFIG', rax);
    this.configured = true;
    // Upstream executes WBINVD on every CPU here, before the PAMTs are written with another key; the machine's memory is
    // coherent whoever writes it.
    for (const cpu of onePerPackage) {
      const key = this.#on(cpu, () => patiently(() => tdhSysKeyConfig(this.cpus)));
      if (key !== TDX_SUCCESS) return outcomeOf(`TDH.SYS.KEY.CONFIG on CPU ${cpu.id}`, key);
    }
    for (const tdmr of this.tdmrs) {
      const status = this.#initTdmr(tdmr);
      if (status.result !== 0) return status;
    }
    return OK;
  }

  /** @upstream config_tdx_module() */
  #sysConfig(): bigint | undefined {
    const { tdmrs } = this;
    const bytes = PAGE_SIZE + tdmrs.length * TDMR_INFO_SIZE;
    const pages = Math.ceil(bytes / PAGE_SIZE);
    // The array of addresses comes first, the structures that it points to after it.
    const list = this.#pages.allocContig(PAGE_OWNER.kernel, pages);
    if (list === undefined) return undefined;
    tdmrs.forEach((tdmr, i) => {
      const info = list + PAGE_SIZE + i * TDMR_INFO_SIZE;
      this.#memory.write64(list + 8 * i, BigInt(info));
      tdmrInfoWords(tdmr).forEach((word, at) => {
        this.#memory.write64(info + 8 * at, BigInt(word));
      });
    });
    const rax = patiently(() => tdhSysConfig(this.cpus, list, tdmrs.length, this.#globalKeyId));
    this.#pages.freeContig(list, pages);
    return rax;
  }

  /**
   * One call initialises a part of the PAMT, a page at least, and says below which address memory can be used: whole GiB.
   * @upstream init_tdmr()
   */
  #initTdmr(tdmr: Tdmr): TdxStatus {
    const end = BigInt(tdmr.base + tdmr.size);
    let calls = 0;
    for (let next = 0n; next < end; calls++) {
      const answer = { rdx: next };
      const rax = patiently(() => {
        const result = tdhSysTdmrInit(this.cpus, tdmr.base);
        answer.rdx = result.rdx;
        return result.rax;
      });
      if (rax !== TDX_SUCCESS) return outcomeOf('TDH.SYS.TDMR.INIT', rax);
      next = answer.rdx;
      if (calls > tdmr.size / PAGE_SIZE) return { result: -EIO, reason: 'TDH.SYS.TDMR.INIT makes no progress' };
    }
    return OK;
  }
}
