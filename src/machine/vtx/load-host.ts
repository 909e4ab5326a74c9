/** Loading host state at VM exit and after a failed VM entry. @sdm "Loading Host State" */
import { CS, ES, FS, GS, SS } from '../engine/layout.ts';
import {
  ACTIVE,
  AR_DB,
  AR_UNUSABLE,
  CR4_PAE,
  CR4_PCIDE,
  EFER_LMA,
  EFER_LME,
  type Processor,
  type Segment,
} from '../processor.ts';
import { EXIT_CONTROL } from './controls.ts';
import { memoryPdptesValid, pdpteTable } from './entry-guest.ts';
import { F } from './field-slots.ts';
import { CR0_KEPT } from './load-guest.ts';
import { DEBUGCTL, PAT, SYSENTER_CS, SYSENTER_EIP, SYSENTER_ESP, setMsr } from './msr-values.ts';
import type { Vmcs } from './vmcs.ts';
import type { Vtx } from './vtx.ts';

const CODE_64 = 0xa09b;
const CODE_32 = 0xc09b;
const DATA = 0xc093;
const TSS_BUSY = 0x8b;
const LIMIT = 0xffff_ffff;
const TSS_LIMIT = 0x67;
const TABLE_LIMIT = 0xffff;

function setSegment(segment: Segment, selector: number, base: bigint, limit: number, attributes: number): void {
  segment.selector = selector;
  segment.base = base;
  segment.limit = limit;
  segment.attributes = attributes;
}

function loadSegments(p: Processor, vmcs: Vmcs, host64: boolean): void {
  const { segments } = p;
  setSegment(segments[CS]!, vmcs.low(F.HOST_CS_SELECTOR), 0n, LIMIT, host64 ? CODE_64 : CODE_32);
  for (let n = ES; n <= GS; n++) {
    if (n === CS) continue;
    const selector = vmcs.low(F.HOST_ES_SELECTOR + n);
    const base = n === FS ? vmcs.get64(F.HOST_FS_BASE) : n === GS ? vmcs.get64(F.HOST_GS_BASE) : 0n;
    setSegment(segments[n]!, selector, base, LIMIT, selector === 0 ? AR_UNUSABLE | (n === SS ? AR_DB : 0) : DATA);
  }
  setSegment(p.tr, vmcs.low(F.HOST_TR_SELECTOR), vmcs.get64(F.HOST_TR_BASE), TSS_LIMIT, TSS_BUSY);
  setSegment(p.ldtr, 0, 0n, 0, AR_UNUSABLE);
  p.gdtr.base = vmcs.get64(F.HOST_GDTR_BASE);
  p.idtr.base = vmcs.get64(F.HOST_IDTR_BASE);
  p.gdtr.limit = TABLE_LIMIT;
  p.idtr.limit = TABLE_LIMIT;
  p.cpl = 0;
}

function loadMsrs(v: Vtx, vmcs: Vmcs, exit: number, host64: boolean): void {
  const { p } = v;
  setMsr(p, DEBUGCTL, 0n);
  setMsr(p, SYSENTER_CS, BigInt(vmcs.low(F.HOST_SYSENTER_CS)));
  setMsr(p, SYSENTER_ESP, vmcs.get64(F.HOST_SYSENTER_ESP));
  setMsr(p, SYSENTER_EIP, vmcs.get64(F.HOST_SYSENTER_EIP));
  if (exit & EXIT_CONTROL.LOAD_PAT) setMsr(p, PAT, vmcs.get64(F.HOST_PAT));
  if (exit & EXIT_CONTROL.LOAD_EFER) p.efer = vmcs.low(F.HOST_EFER);
  else p.efer = host64 ? p.efer | EFER_LMA | EFER_LME : p.efer & ~(EFER_LMA | EFER_LME);
}

const ADDRESS_BITS = 0xf_ffff_ffff_ffffn;
const DR7_RESET = 0x400;
const FLAGS_RESET = 2;

/** @sdm "Loading Host Non-Register State" */
export function loadHostActivity(p: Processor): void {
  p.activity = ACTIVE;
  p.interruptShadow = 0;
  p.pendingDebug = 0;
  p.monitor = null;
}

/** Registers, MSRs and non-register state; false where the PDPTEs of a PAE host are invalid (VMX abort). */
export function loadHost(v: Vtx, vmcs: Vmcs): boolean {
  const { p } = v;
  const exit = vmcs.low(F.EXIT_CONTROLS);
  const host64 = (exit & EXIT_CONTROL.HOST_64) !== 0;
  p.cr0 = ((vmcs.low(F.HOST_CR0) & ~CR0_KEPT) | (p.cr0 & CR0_KEPT)) >>> 0;
  p.cr3 = vmcs.get64(F.HOST_CR3) & ADDRESS_BITS;
  p.cr4 = (host64 ? vmcs.low(F.HOST_CR4) | CR4_PAE : vmcs.low(F.HOST_CR4) & ~CR4_PCIDE) >>> 0;
  p.dr7 = DR7_RESET;
  loadMsrs(v, vmcs, exit, host64);
  loadSegments(p, vmcs, host64);
  p.setGpr(4, vmcs.get64(F.HOST_RSP));
  p.rip = vmcs.get64(F.HOST_RIP);
  p.rflags = FLAGS_RESET;
  loadHostActivity(p);
  if (host64 || !(p.cr4 & CR4_PAE)) return true;
  const table = pdpteTable(vmcs.low(F.HOST_CR3));
  if (!memoryPdptesValid(v, table)) return false;
  for (let i = 0; i < 4; i++) p.pdpte[i] = p.machine.memory.read64(table + i * 8);
  return true;
}
