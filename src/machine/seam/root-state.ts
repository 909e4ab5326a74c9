/**
 * The state of root software that a TD's entry and exit replace, kept while the TD runs: what the transfer VMCS of
 * SEAMCALL and SEAMRET holds.
 * @tdx "SEAM Transfer VMCS"
 */
import type { DescriptorTable, Processor, Segment } from '../processor.ts';
import { EXIT_CONTROL } from '../vtx/controls.ts';
import { F } from '../vtx/field-slots.ts';
import { DEBUGCTL, msrOf, PAT, SYSENTER_CS, SYSENTER_EIP, SYSENTER_ESP, setMsr } from '../vtx/msr-values.ts';
import type { Vmcs } from '../vtx/vmcs.ts';

const KEPT_MSRS: readonly number[] = [SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP, PAT, DEBUGCTL];
const RSP = 4;

/** perf: the round trip of TDCALL; objects of Object.assign and spreads cost more than the entry itself. */
function copySegment(to: Segment, from: Segment): void {
  to.selector = from.selector;
  to.base = from.base;
  to.limit = from.limit;
  to.attributes = from.attributes;
}

function copyTable(to: DescriptorTable, from: DescriptorTable): void {
  to.base = from.base;
  to.limit = from.limit;
}

const noSegment = (): Segment => ({ selector: 0, base: 0n, limit: 0, attributes: 0 });
const noTable = (): DescriptorTable => ({ base: 0n, limit: 0 });

/** One per processor, used for one TD after the other. */
export class RootState {
  #cr0 = 0;
  #cr3 = 0n;
  #cr4 = 0;
  #efer = 0;
  #dr7 = 0;
  #cpl = 0;
  #rip = 0n;
  #rsp = 0n;
  #flags = 0;
  readonly #segments: readonly Segment[] = Array.from({ length: 6 }, noSegment);
  readonly #ldtr: Segment = noSegment();
  readonly #tr: Segment = noSegment();
  readonly #gdtr: DescriptorTable = noTable();
  readonly #idtr: DescriptorTable = noTable();
  readonly #pdptes: bigint[] = [0n, 0n, 0n, 0n];
  readonly #msrs: bigint[] = KEPT_MSRS.map(() => 0n);
  #nmiBlocked = false;
  #interruptShadow = 0;

  save(p: Processor): void {
    this.#cr0 = p.cr0;
    this.#cr3 = p.cr3;
    this.#cr4 = p.cr4;
    this.#efer = p.efer;
    this.#dr7 = p.dr7;
    this.#cpl = p.cpl;
    this.#rip = p.rip;
    this.#rsp = p.gpr(RSP);
    this.#flags = p.rflags;
    for (let n = 0; n < 6; n++) copySegment(this.#segments[n]!, p.segments[n]!);
    copySegment(this.#ldtr, p.ldtr);
    copySegment(this.#tr, p.tr);
    copyTable(this.#gdtr, p.gdtr);
    copyTable(this.#idtr, p.idtr);
    for (let i = 0; i < 4; i++) this.#pdptes[i] = p.pdpte[i]!;
    for (let i = 0; i < KEPT_MSRS.length; i++) this.#msrs[i] = msrOf(p, KEPT_MSRS[i]!);
    this.#nmiBlocked = p.nmiBlocked;
    this.#interruptShadow = p.interruptShadow;
  }

  /**
   * Makes a TD's exit come back to this software. Segments are the module's own, as every host's they are flat: the real
   * ones come back with restore().
   */
  fillHostArea(vmcs: Vmcs): void {
    vmcs.setNumber(F.HOST_CR0, this.#cr0);
    vmcs.set64(F.HOST_CR3, this.#cr3);
    vmcs.setNumber(F.HOST_CR4, this.#cr4);
    vmcs.setNumber(F.HOST_EFER, this.#efer);
    vmcs.set64(F.HOST_RIP, this.#rip);
    vmcs.set64(F.HOST_RSP, this.#rsp);
    for (let slot: number = F.HOST_ES_SELECTOR; slot <= F.HOST_GS_SELECTOR; slot++) vmcs.setLow(slot, MODULE_DATA);
    vmcs.setLow(F.HOST_CS_SELECTOR, MODULE_CODE);
    vmcs.setLow(F.HOST_TR_SELECTOR, MODULE_TASK);
    vmcs.setNumber(F.HOST_FS_BASE, 0);
    vmcs.setNumber(F.HOST_GS_BASE, 0);
    vmcs.setNumber(F.HOST_TR_BASE, 0);
    vmcs.setNumber(F.HOST_GDTR_BASE, 0);
    vmcs.setNumber(F.HOST_IDTR_BASE, 0);
    vmcs.setLow(F.HOST_SYSENTER_CS, Number(this.#msrs[0]));
    vmcs.set64(F.HOST_SYSENTER_ESP, this.#msrs[1]!);
    vmcs.set64(F.HOST_SYSENTER_EIP, this.#msrs[2]!);
    vmcs.set64(F.HOST_PAT, this.#msrs[3]!);
    const exit = vmcs.low(F.EXIT_CONTROLS);
    if (exit & EXIT_CONTROL.HOST_64) return;
    vmcs.setLow(F.EXIT_CONTROLS, (exit | EXIT_CONTROL.HOST_64) >>> 0);
    vmcs.touch(F.EXIT_CONTROLS);
  }

  /** Gives the software its state back; GPRs beside RSP are the TD's. Nothing is published to generated code. */
  restore(p: Processor): void {
    p.cr0 = this.#cr0;
    p.cr3 = this.#cr3;
    p.cr4 = this.#cr4;
    p.efer = this.#efer;
    p.dr7 = this.#dr7;
    p.cpl = this.#cpl;
    p.rip = this.#rip;
    p.setGpr(RSP, this.#rsp);
    p.rflags = this.#flags;
    for (let n = 0; n < 6; n++) copySegment(p.segments[n]!, this.#segments[n]!);
    copySegment(p.ldtr, this.#ldtr);
    copySegment(p.tr, this.#tr);
    copyTable(p.gdtr, this.#gdtr);
    copyTable(p.idtr, this.#idtr);
    for (let i = 0; i < 4; i++) p.pdpte[i] = this.#pdptes[i]!;
    for (let i = 0; i < KEPT_MSRS.length; i++) setMsr(p, KEPT_MSRS[i]!, this.#msrs[i]!);
    // An NMI that ended the TD blocks further ones, as every exit by NMI does.
    p.nmiBlocked = this.#nmiBlocked || p.nmiBlocked;
    p.interruptShadow = this.#interruptShadow;
  }
}

const MODULE_CODE = 8;
const MODULE_DATA = 16;
const MODULE_TASK = 24;

const states: WeakMap<Processor, RootState> = new WeakMap();

/** The processor's root state, as it is now. */
export function saveRootState(p: Processor): RootState {
  let state = states.get(p);
  if (state === undefined) {
    state = new RootState();
    states.set(p, state);
  }
  state.save(p);
  return state;
}
