/**
 * One function per SEAMCALL leaf that the host uses, under upstream's names. Each runs on the current CPU.
 *
 * Addresses are physical and without KeyID; `level` is the secure EPT's (0 is a 4 KiB page). Upstream flushes a page from
 * the caches before it gives it away; here memory is coherent at any time and there is nothing to flush.
 *
 * @upstream arch/x86/virt/vmx/tdx/tdx.c tdh_*()
 */
import { withKeyId } from '../machine/seam/key-id.ts';
import type { Gpa, Hpa } from '../util/address.ts';
import type { Cpus } from './cpus.ts';
import { type SeamcallResult, seamcall, seamcallOnce, type VpEnterArgs } from './tdx-seamcall.ts';

/** Leaf numbers. @upstream arch/x86/virt/vmx/tdx/tdx.h */
export const TDH = {
  VP_ENTER: 0,
  MNG_ADDCX: 1,
  MEM_PAGE_ADD: 2,
  MEM_SEPT_ADD: 3,
  VP_ADDCX: 4,
  MEM_PAGE_AUG: 6,
  MEM_RANGE_BLOCK: 7,
  MNG_KEY_CONFIG: 8,
  MNG_CREATE: 9,
  VP_CREATE: 10,
  MNG_RD: 11,
  MR_EXTEND: 16,
  MR_FINALIZE: 17,
  VP_FLUSH: 18,
  MNG_VPFLUSHDONE: 19,
  MNG_KEY_FREEID: 20,
  MNG_INIT: 21,
  VP_INIT: 22,
  VP_RD: 26,
  PHYMEM_PAGE_RECLAIM: 28,
  MEM_PAGE_REMOVE: 29,
  SYS_KEY_CONFIG: 31,
  SYS_INIT: 33,
  SYS_RD: 34,
  SYS_LP_INIT: 35,
  SYS_TDMR_INIT: 36,
  MEM_TRACK: 38,
  PHYMEM_CACHE_WB: 40,
  PHYMEM_PAGE_WBINVD: 41,
  VP_WR: 43,
  SYS_CONFIG: 45,
} as const;

/** A GPA with the level of the secure-EPT entry it is about. */
const at = (gpa: Gpa, level: number): number => gpa + level;

// ---- the module

/** @tdx "TDH.SYS.INIT" */
export const tdhSysInit = (cpus: Cpus): bigint => seamcall(cpus.current, TDH.SYS_INIT).rax;
/** @tdx "TDH.SYS.LP.INIT" */
export const tdhSysLpInit = (cpus: Cpus): bigint => seamcall(cpus.current, TDH.SYS_LP_INIT).rax;
/** The value is in R8. @tdx "TDH.SYS.RD" */
export const tdhSysRd = (cpus: Cpus, field: bigint): SeamcallResult =>
  seamcall(cpus.current, TDH.SYS_RD, { rdx: field });
/** @param tdmrs array of the addresses of `count` TDMR_INFOs @tdx "TDH.SYS.CONFIG" */
export const tdhSysConfig = (cpus: Cpus, tdmrs: Hpa, count: number, globalKeyId: number): bigint =>
  seamcall(cpus.current, TDH.SYS_CONFIG, { rcx: tdmrs, rdx: count, r8: globalKeyId }).rax;
/** @tdx "TDH.SYS.KEY.CONFIG" */
export const tdhSysKeyConfig = (cpus: Cpus): bigint => seamcall(cpus.current, TDH.SYS_KEY_CONFIG).rax;
/** RDX is the next address to initialise. @tdx "TDH.SYS.TDMR.INIT" */
export const tdhSysTdmrInit = (cpus: Cpus, base: Hpa): SeamcallResult =>
  seamcall(cpus.current, TDH.SYS_TDMR_INIT, { rcx: base });

// ---- trust domains

/** @tdx "TDH.MNG.CREATE" */
export const tdhMngCreate = (cpus: Cpus, tdr: Hpa, hkid: number): bigint =>
  seamcall(cpus.current, TDH.MNG_CREATE, { rcx: tdr, rdx: hkid }).rax;
/** @tdx "TDH.MNG.KEY.CONFIG" */
export const tdhMngKeyConfig = (cpus: Cpus, tdr: Hpa): bigint =>
  seamcall(cpus.current, TDH.MNG_KEY_CONFIG, { rcx: tdr }).rax;
/** @tdx "TDH.MNG.ADDCX" */
export const tdhMngAddcx = (cpus: Cpus, tdr: Hpa, tdcs: Hpa): bigint =>
  seamcall(cpus.current, TDH.MNG_ADDCX, { rcx: tdcs, rdx: tdr }).rax;
/** RCX says more about a refused operand. @tdx "TDH.MNG.INIT" */
export const tdhMngInit = (cpus: Cpus, tdr: Hpa, params: Hpa): SeamcallResult =>
  seamcall(cpus.current, TDH.MNG_INIT, { rcx: tdr, rdx: params });
/** The value is in R8. @tdx "TDH.MNG.RD" */
export const tdhMngRd = (cpus: Cpus, tdr: Hpa, field: bigint): SeamcallResult =>
  seamcall(cpus.current, TDH.MNG_RD, { rcx: tdr, rdx: field });
/** @tdx "TDH.MNG.VPFLUSHDONE" */
export const tdhMngVpflushdone = (cpus: Cpus, tdr: Hpa): bigint =>
  seamcall(cpus.current, TDH.MNG_VPFLUSHDONE, { rcx: tdr }).rax;
/** @tdx "TDH.MNG.KEY.FREEID" */
export const tdhMngKeyFreeid = (cpus: Cpus, tdr: Hpa): bigint =>
  seamcall(cpus.current, TDH.MNG_KEY_FREEID, { rcx: tdr }).rax;
/** Measures the 256 bytes at `gpa`. @tdx "TDH.MR.EXTEND" */
export const tdhMrExtend = (cpus: Cpus, tdr: Hpa, gpa: Gpa): SeamcallResult =>
  seamcall(cpus.current, TDH.MR_EXTEND, { rcx: gpa, rdx: tdr });
/** @tdx "TDH.MR.FINALIZE" */
export const tdhMrFinalize = (cpus: Cpus, tdr: Hpa): bigint =>
  seamcall(cpus.current, TDH.MR_FINALIZE, { rcx: tdr }).rax;

// ---- virtual processors

/** @tdx "TDH.VP.CREATE" */
export const tdhVpCreate = (cpus: Cpus, tdr: Hpa, tdvpr: Hpa): bigint =>
  seamcall(cpus.current, TDH.VP_CREATE, { rcx: tdvpr, rdx: tdr }).rax;
/** @tdx "TDH.VP.ADDCX" */
export const tdhVpAddcx = (cpus: Cpus, tdvpr: Hpa, tdcx: Hpa): bigint =>
  seamcall(cpus.current, TDH.VP_ADDCX, { rcx: tdcx, rdx: tdvpr }).rax;
/** Version 1, which takes the x2APIC identifier. @tdx "TDH.VP.INIT" */
export const tdhVpInit = (cpus: Cpus, tdvpr: Hpa, rcx: bigint, x2apicId: number): bigint =>
  seamcall(cpus.current, TDH.VP_INIT, { rcx: tdvpr, rdx: rcx, r8: x2apicId }, 1).rax;
/** @tdx "TDH.VP.FLUSH" */
export const tdhVpFlush = (cpus: Cpus, tdvpr: Hpa): bigint =>
  seamcallOnce(cpus.current, TDH.VP_FLUSH, { rcx: tdvpr }).rax;
/** The value is in R8. @tdx "TDH.VP.RD" */
export const tdhVpRd = (cpus: Cpus, tdvpr: Hpa, field: bigint): SeamcallResult =>
  seamcall(cpus.current, TDH.VP_RD, { rcx: tdvpr, rdx: field });
/** @tdx "TDH.VP.WR" */
export const tdhVpWr = (cpus: Cpus, tdvpr: Hpa, field: bigint, value: bigint, mask: bigint): SeamcallResult =>
  seamcall(cpus.current, TDH.VP_WR, { rcx: tdvpr, rdx: field, r8: value, r9: mask });
/** Runs the TD until it exits. @tdx "TDH.VP.ENTER" */
export function tdhVpEnter(cpus: Cpus, tdvpr: Hpa, args: VpEnterArgs): bigint {
  args.regs[1] = BigInt(tdvpr);
  return args.seamcall(cpus.current, TDH.VP_ENTER);
}

// ---- private memory: RCX and RDX say what the secure-EPT entry is

/** @tdx "TDH.MEM.SEPT.ADD" */
export const tdhMemSeptAdd = (cpus: Cpus, tdr: Hpa, gpa: Gpa, level: number, page: Hpa): SeamcallResult =>
  seamcall(cpus.current, TDH.MEM_SEPT_ADD, { rcx: at(gpa, level), rdx: tdr, r8: page });
/** @tdx "TDH.MEM.PAGE.ADD" */
export const tdhMemPageAdd = (cpus: Cpus, tdr: Hpa, gpa: Gpa, page: Hpa, source: Hpa): SeamcallResult =>
  seamcall(cpus.current, TDH.MEM_PAGE_ADD, { rcx: gpa, rdx: tdr, r8: page, r9: source });
/** @tdx "TDH.MEM.PAGE.AUG" */
export const tdhMemPageAug = (cpus: Cpus, tdr: Hpa, gpa: Gpa, level: number, page: Hpa): SeamcallResult =>
  seamcall(cpus.current, TDH.MEM_PAGE_AUG, { rcx: at(gpa, level), rdx: tdr, r8: page });
/** @tdx "TDH.MEM.RANGE.BLOCK" */
export const tdhMemRangeBlock = (cpus: Cpus, tdr: Hpa, gpa: Gpa, level: number): SeamcallResult =>
  seamcall(cpus.current, TDH.MEM_RANGE_BLOCK, { rcx: at(gpa, level), rdx: tdr });
/** @tdx "TDH.MEM.TRACK" */
export const tdhMemTrack = (cpus: Cpus, tdr: Hpa): bigint => seamcall(cpus.current, TDH.MEM_TRACK, { rcx: tdr }).rax;
/** @tdx "TDH.MEM.PAGE.REMOVE" */
export const tdhMemPageRemove = (cpus: Cpus, tdr: Hpa, gpa: Gpa, level: number): SeamcallResult =>
  seamcall(cpus.current, TDH.MEM_PAGE_REMOVE, { rcx: at(gpa, level), rdx: tdr });

// ---- physical memory

/** RCX: page type, RDX: owner, R8: size. @tdx "TDH.PHYMEM.PAGE.RECLAIM" */
export const tdhPhymemPageReclaim = (cpus: Cpus, page: Hpa): SeamcallResult =>
  seamcall(cpus.current, TDH.PHYMEM_PAGE_RECLAIM, { rcx: page });
/** @tdx "TDH.PHYMEM.CACHE.WB" */
export const tdhPhymemCacheWb = (cpus: Cpus, resume: boolean): bigint =>
  seamcall(cpus.current, TDH.PHYMEM_CACHE_WB, { rcx: resume ? 1 : 0 }).rax;
/** @tdx "TDH.PHYMEM.PAGE.WBINVD" @upstream tdh_phymem_page_wbinvd_hkid(), tdh_phymem_page_wbinvd_tdr() with the global KeyID */
export const tdhPhymemPageWbinvdHkid = (cpus: Cpus, page: Hpa, hkid: number): bigint =>
  seamcall(cpus.current, TDH.PHYMEM_PAGE_WBINVD, { rcx: withKeyId(page, hkid) }).rax;
