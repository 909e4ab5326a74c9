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

export class RootState {
  readonly #cr0: number;
  readonly #cr3: bigint;
  readonly #cr4: number;
  readonly #efer: number;
  readonly #dr7: number;
  readonly #cpl: number;
  readonly #rip: bigint;
  readonly #rsp: bigint;
  readonly #flags: number;
  readonly #segments: readonly Segment[];
  readonly #tables: readonly DescriptorTable[];
  readonly #pdptes: readonly bigint[];
  readonly #msrs: readonly bigint[];
  readonly #nmiBlocked: boolean;
  readonly #interruptShadow: number;

  constructor(p: Processor) {
    this.#cr0 = p.cr0;
    this.#cr3 = p.cr3;
    this.#cr4 = p.cr4;
    this.#efer = p.efer;
    this.#dr7 = p.dr7;
    this.#cpl = p.cpl;
    this.#rip = p.rip;
    this.#rsp = p.gpr(RSP);
    this.#flags = p.rflags;
    this.#segments = [...p.segments, p.ldtr, p.tr].map((segment) => ({ ...segment }));
    this.#tables = [{ ...p.gdtr }, { ...p.idtr }];
    this.#pdptes = [...p.pdpte];
    this.#msrs = KEPT_MSRS.map((index) => msrOf(p, index));
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
    const [cs, esp, eip, pat] = this.#msrs;
    vmcs.setLow(F.HOST_SYSENTER_CS, Number(cs));
    vmcs.set64(F.HOST_SYSENTER_ESP, esp!);
    vmcs.set64(F.HOST_SYSENTER_EIP, eip!);
    vmcs.set64(F.HOST_PAT, pat!);
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
    for (const [n, segment] of [...p.segments, p.ldtr, p.tr].entries()) Object.assign(segment, this.#segments[n]);
    Object.assign(p.gdtr, this.#tables[0]);
    Object.assign(p.idtr, this.#tables[1]);
    for (let i = 0; i < 4; i++) p.pdpte[i] = this.#pdptes[i]!;
    for (const [i, index] of KEPT_MSRS.entries()) setMsr(p, index, this.#msrs[i]!);
    // An NMI that ended the TD blocks further ones, as every exit by NMI does.
    p.nmiBlocked = this.#nmiBlocked || p.nmiBlocked;
    p.interruptShadow = this.#interruptShadow;
  }
}

const MODULE_CODE = 8;
const MODULE_DATA = 16;
const MODULE_TASK = 24;
