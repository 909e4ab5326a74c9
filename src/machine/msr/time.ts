/** MSRs of the time-stamp counter and the local APIC's base and deadline timer. */
import type { Processor } from '../processor.ts';
import { readTsc, setTsc } from '../system/time.ts';
import { live, type MsrRow } from './row.ts';

export const IA32_TIME_STAMP_COUNTER = 0x10;
export const IA32_APIC_BASE = 0x1b;
export const IA32_TSC_ADJUST = 0x3b;
export const IA32_TSC_DEADLINE = 0x6e0;

const MASK64 = 0xffff_ffff_ffff_ffffn;
const adjustOf = (p: Processor): bigint => p.msrs.get(IA32_TSC_ADJUST) ?? 0n;

/** Moves the TSC by a difference and notes it in IA32_TSC_ADJUST. @sdm "IA32_TSC_ADJUST Register Support" */
function moveTsc(p: Processor, difference: bigint): boolean {
  p.msrs.set(IA32_TSC_ADJUST, (adjustOf(p) + difference) & MASK64);
  setTsc(p, (readTsc(p) + difference) & MASK64);
  return true;
}

function writeDeadline(p: Processor, value: bigint): boolean {
  p.apic.writeTscDeadline(value);
  return true;
}

export const TIME_MSRS: readonly MsrRow[] = [
  // In non-root operation RDMSR gives the guest's TSC, WRMSR writes the real one.
  live(
    IA32_TIME_STAMP_COUNTER,
    'IA32_TIME_STAMP_COUNTER',
    (p) => p.vtx.guestTsc(readTsc(p)),
    (p, value) => moveTsc(p, value - readTsc(p)),
  ),
  live(
    IA32_APIC_BASE,
    'IA32_APIC_BASE',
    (p) => p.apic.readApicBase(),
    (p, value) => p.apic.writeApicBase(value),
  ),
  live(IA32_TSC_ADJUST, 'IA32_TSC_ADJUST', adjustOf, (p, value) => moveTsc(p, value - adjustOf(p)), 'tsc_adjust'),
  live(IA32_TSC_DEADLINE, 'IA32_TSC_DEADLINE', (p) => p.apic.readTscDeadline(), writeDeadline, 'tsc_deadline_timer'),
];
