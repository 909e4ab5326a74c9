/** Model-specific registers: the table's index, reading, writing, and what they are after power-up. */
import { hasFeature } from '../cpuid/cpuid.ts';
import type { Processor } from '../processor.ts';
import { readVmxMsr } from '../vtx/capabilities.ts';
import { MACHINE_CHECK_MSRS } from './machine-check.ts';
import { MEMORY_TYPE_MSRS } from './memory-types.ts';
import { PLATFORM_MSRS } from './platform.ts';
import type { MsrRow } from './row.ts';
import { SEAM_MSRS } from './seam.ts';
import { SYSTEM_CALL_MSRS } from './system-calls.ts';
import { TIME_MSRS } from './time.ts';

/** All MSRs that have a row; VMX capabilities (480 to 493) and x2APIC registers (800 to 8FF) come from their parts. */
export const MSRS: readonly MsrRow[] = [
  ...TIME_MSRS,
  ...SYSTEM_CALL_MSRS,
  ...MEMORY_TYPE_MSRS,
  ...MACHINE_CHECK_MSRS,
  ...PLATFORM_MSRS,
  ...SEAM_MSRS,
];

const byIndex: Map<number, MsrRow> = new Map(MSRS.map((row) => [row.index, row]));
if (byIndex.size !== MSRS.length) throw new Error('two MSRs with one index');

const VMX_FIRST = 0x480;
const VMX_LAST = 0x49f;
const X2APIC_FIRST = 0x800;
const X2APIC_LAST = 0x8ff;

function rowOf(p: Processor, index: number): MsrRow | undefined {
  const row = byIndex.get(index);
  return row && (row.feature === '' || hasFeature(p, row.feature)) ? row : undefined;
}

/** What RDMSR gives for an index (unsigned 32 bits), zero-extended; undefined for #GP(0). */
export function readMsr(p: Processor, index: number): bigint | undefined {
  const row = rowOf(p, index);
  if (row) return row.read(p);
  if (index >= X2APIC_FIRST && index <= X2APIC_LAST) return p.apic.readMsr(index);
  if (index >= VMX_FIRST && index <= VMX_LAST && hasFeature(p, 'vmx'))
    return readVmxMsr(p.machine.options.profile, index);
  return undefined;
}

/** WRMSR; false for #GP(0), and then nothing has changed. @param value unsigned 64 bits */
export function writeMsr(p: Processor, index: number, value: bigint): boolean {
  const row = rowOf(p, index);
  if (row) return row.write(p, value);
  return index >= X2APIC_FIRST && index <= X2APIC_LAST && p.apic.writeMsr(index, value);
}

/** Power-up values of all MSRs that Processor.msrs keeps, as firmware hands them over. INIT leaves MSRs alone. */
export function resetMsrs(p: Processor): void {
  p.msrs.clear();
  for (const { index, initial } of MSRS) if (initial !== undefined) p.msrs.set(index, initial);
}
