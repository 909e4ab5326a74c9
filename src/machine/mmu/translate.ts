/** Single translations for TypeScript: a linear address for one access, a guest-physical address, PDPTE loads. */
import type { Gpa, Gva, Hpa } from '../../util/address.ts';
import { ACCESS } from '../engine/layout.ts';
import { DONE, GP, type Outcome } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import { inApicAccessPage, virtualizeAccess } from '../vtx/apic-access.ts';
import { EPT_EXECUTE, EPT_READ, EPT_WRITE, eptTranslate, NO_LINEAR_ACCESS } from './ept.ts';
import { halves, splitLinear } from './halves.ts';
import { machineChecks, readValue } from './keyed-access.ts';
import { needOf } from './select.ts';
import { type Mmu, NEED_FETCH, NEED_WRITE } from './state.ts';
import { walk } from './walk.ts';

/** A value of ACCESS. */
export type Access = (typeof ACCESS)[keyof typeof ACCESS];

/** What an access of a privilege class needs of a walk. */
export function needFor(m: Mmu, access: Access, implicitSupervisor: boolean): number {
  const need = needOf(implicitSupervisor ? m.implicitClass : m.class);
  return access === ACCESS.read ? need : access === ACCESS.fetch ? need | NEED_FETCH : need | NEED_WRITE;
}

/** Whether a linear address is canonical, or needs not be. */
export function canonical(p: Processor, m: Mmu, high: number): boolean {
  if (!p.longMode) return true;
  const sign = (high | 0) >> m.canonicalShift;
  return sign === 0 || sign === -1;
}

/**
 * Host-physical address of a linear one for an access, after which accessed and dirty flags are set.
 * @param implicitSupervisor the processor accesses a system structure: supervisor whatever the CPL
 * @returns undefined where it faults or exits; p.outcome tells which
 */
export function translate(p: Processor, linear: Gva, access: Access, implicitSupervisor = false): Hpa | undefined {
  const m = p.mmu;
  splitLinear(linear);
  const low = halves[0]!;
  const high = halves[1]!;
  if (!canonical(p, m, high)) {
    p.raise(GP, 0);
    return undefined;
  }
  if (!walk(p, m, low, high, needFor(m, access, implicitSupervisor))) return undefined;
  if (!inApicAccessPage(p.vtx, m.hpa)) return m.hpa;
  const hpa = virtualizeAccess(p.vtx, m.hpa, 1, access);
  return hpa < 0 ? undefined : hpa;
}

/**
 * Host-physical address behind a physical address of the software that runs: through EPT in VMX non-root operation.
 * There is no linear address behind the access.
 * @returns undefined where it exits; p.outcome is VMEXIT
 */
export function guestPhysicalToHost(p: Processor, gpa: Gpa, access: Access): Hpa | undefined {
  const m = p.mmu;
  if (!m.ept) return gpa as number;
  const need = access === ACCESS.read ? EPT_READ : access === ACCESS.fetch ? EPT_EXECUTE : EPT_WRITE;
  const hpa = eptTranslate(p, m, gpa, need, NO_LINEAR_ACCESS);
  return hpa < 0 ? undefined : hpa;
}

/** Reserved bits of a PAE page-directory-pointer-table entry below bit 52. */
const PDPTE_RESERVED = 0x1e6n;

/** Whether a PDPTE may be loaded. @sdm "PDPTE Registers" */
export function pdpteValid(p: Processor, pdpte: bigint): boolean {
  const { physicalBits, ept, privateKeys } = p.mmu;
  const reserved = PDPTE_RESERVED | (ept ? 0n : BigInt(privateKeys) << 32n);
  return (pdpte & 1n) === 0n || ((pdpte & reserved) === 0n && pdpte >> BigInt(physicalBits) === 0n);
}

/**
 * Loads the PDPTE registers from memory, as MOV to CR0, CR3 and CR4 do under PAE paging: all four or, with #GP(0), none.
 * @returns DONE, FAULT, or VMEXIT where EPT does not let the table be read
 */
export function loadPdptes(p: Processor, cr3: bigint): Outcome {
  const table = guestPhysicalToHost(p, Number(cr3 & 0xffff_ffe0n), ACCESS.read);
  const { keyId } = p.mmu;
  if (table === undefined || machineChecks(p, table, 32, keyId)) return p.outcome;
  const loaded: bigint[] = [];
  for (let n = 0; n < 4; n++) {
    const pdpte = readValue(p, table + n * 8, keyId, 8);
    if (!pdpteValid(p, pdpte)) return p.raise(GP, 0);
    loaded.push(pdpte);
  }
  // all checks passed
  for (let n = 0; n < 4; n++) p.pdpte[n] = loaded[n]!;
  return DONE;
}
