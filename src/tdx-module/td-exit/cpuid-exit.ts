/**
 * CPUID in a TD: the computed table, with the bits that follow the virtual processor's state.
 *
 * @tdx "CPU Virtualization (Non-Root Mode Operation)", CPUID Virtualization
 */
import { cpuid } from '../../machine/cpuid/cpuid.ts';
import { RAX, RBX, RCX, RDX } from '../../machine/engine/layout.ts';
import { CR4_OSXSAVE, CR4_PKE } from '../../machine/processor.ts';
import { F } from '../../machine/vtx/field-slots.ts';
import { TD_CTLS } from '../objects/tdcs.ts';
import { type CpuidRow, cpuidRow } from '../virtualization/cpuid-rows.ts';
import type { Words } from '../virtualization/cpuid-rules.ts';
import { x2apicIdOf } from '../virtualization/td-view.ts';
import type { Guest } from './guest.ts';
import { injectVe } from './inject-ve.ts';

const HYPERVISOR_FIRST = 0x4000_0000;
const HYPERVISOR_LAST = 0x4fff_ffff;
const EXTENDED_FIRST = 0x8000_0000;
/** Bits of CPUID_CONTROL. */
const SUPERVISOR_VE = 1;
const USER_VE = 2;

/** A leaf above the largest of its range stands for the largest basic one. */
function clamp({ view }: Guest, leaf: number): number {
  const largest = view.cpuidValues(cpuidRow(0, 0)!)[0];
  const largestExtended = view.cpuidValues(cpuidRow(EXTENDED_FIRST, 0)!)[0];
  const inRange = leaf <= largest || (leaf >= EXTENDED_FIRST && leaf <= largestExtended);
  return inRange ? leaf : largest;
}

/** Whether the TD wants a #VE for every CPUID, or for one of this leaf, at its privilege level. */
function wantsVe({ tdvps, cpl }: Guest, row: CpuidRow | null): boolean {
  if (row === null) return tdvps.num(cpl === 0 ? 'CPUID_SUPERVISOR_VE' : 'CPUID_USER_VE') !== 0;
  return (tdvps.num('CPUID_CONTROL', row.index) & (cpl === 0 ? SUPERVISOR_VE : USER_VE)) !== 0;
}

const OSXSAVE = 1 << 27;
const OSPKE = 1 << 4;
const SYSCALL = 1 << 11;
const toggle = (word: number, bit: number, on: boolean): number => (on ? word | bit : word & ~bit) >>> 0;

/** Bits that follow the state of the virtual processor. */
function applyState(guest: Guest, words: Words, leaf: number, subleaf: number): void {
  const { p, vmcs, tdvps } = guest;
  const cr4 = vmcs.low(F.GUEST_CR4);
  const topology = (guest.view.tdCtls & TD_CTLS.ENUM_TOPOLOGY) !== 0n;
  switch (leaf) {
    case 1: {
      const id = topology ? x2apicIdOf(tdvps) : tdvps.index;
      words[1] = ((words[1] & 0xff_ffff) | ((id & 0xff) << 24)) >>> 0;
      words[2] = toggle(words[2], OSXSAVE, (cr4 & CR4_OSXSAVE) !== 0);
      break;
    }
    case 7:
      if (subleaf === 0) words[2] = toggle(words[2], OSPKE, (cr4 & CR4_PKE) !== 0);
      break;
    case 0xb:
    case 0x1f:
      words[3] = x2apicIdOf(tdvps) >>> 0;
      break;
    case 0xd:
      // The TD's XCR0 and IA32_XSS are still in the processor.
      if (subleaf <= 1) words[1] = cpuid(p, leaf, subleaf).ebx;
      break;
    case 0x8000_0001:
      words[3] = toggle(words[3], SYSCALL, guest.mode64);
      break;
    default:
  }
}

/** The row that answers, or null. */
function answeringRow({ view, tdcs }: Guest, leaf: number, subleaf: number): CpuidRow | null {
  const row = cpuidRow(leaf, subleaf);
  if (row === undefined || tdcs.num('CPUID_VALID', row.index) === 0) return null;
  if (row.kind === 'topology' && (view.tdCtls & TD_CTLS.ENUM_TOPOLOGY) === 0n) return null;
  return row;
}

const TOPOLOGY: ReadonlySet<number> = new Set([0xb, 0x1f]);

/** What CPUID gives; null for #VE. */
function answer(guest: Guest, leaf: number, subleaf: number): Words | null {
  const row = answeringRow(guest, leaf, subleaf);
  if (row !== null) {
    if (wantsVe(guest, row)) return null;
    const words: Words = [...guest.view.cpuidValues(row)];
    applyState(guest, words, leaf, subleaf);
    return words;
  }
  if (cpuidRow(leaf, subleaf) !== undefined) return null;
  // Topology levels above the table's are invalid ones.
  const topology = TOPOLOGY.has(leaf) && (guest.view.tdCtls & TD_CTLS.ENUM_TOPOLOGY) !== 0n;
  return topology ? [0, 0, subleaf & 0xff, x2apicIdOf(guest.tdvps) >>> 0] : null;
}

/** Handles the exit of CPUID. */
export function cpuidExit(guest: Guest): void {
  const { p } = guest;
  const asked = p.gpr32(RAX);
  const subleaf = p.gpr32(RCX);
  const hypervisor = asked >= HYPERVISOR_FIRST && asked <= HYPERVISOR_LAST;
  const words = hypervisor || wantsVe(guest, null) ? null : answer(guest, clamp(guest, asked), subleaf);
  if (words === null) return injectVe(guest);
  p.setGpr32(RAX, words[0]);
  p.setGpr32(RBX, words[1]);
  p.setGpr32(RCX, words[2]);
  p.setGpr32(RDX, words[3]);
  guest.advance();
}
