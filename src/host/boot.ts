/**
 * What the host kernel's start leaves behind on a processor: 64-bit mode with flat segments, paging on, and the local
 * APIC in x2APIC mode. Firmware has set up the MSRs (IA32_FEATURE_CONTROL among them) before.
 */
import { hasFeature } from '../machine/cpuid/cpuid.ts';
import { writeMsr } from '../machine/msr/msr.ts';
import { reset } from '../machine/processor/reset.ts';
import { privilegeChanged } from '../machine/processor/rip.ts';
import {
  ACTIVE,
  AR_DB,
  AR_G,
  AR_L,
  AR_P,
  AR_S,
  CR0_AM,
  CR0_ET,
  CR0_MP,
  CR0_NE,
  CR0_PE,
  CR0_PG,
  CR0_WP,
  CR4_FSGSBASE,
  CR4_MCE,
  CR4_OSFXSR,
  CR4_OSXMMEXCPT,
  CR4_OSXSAVE,
  CR4_PAE,
  CR4_PCIDE,
  CR4_PGE,
  CR4_PKE,
  CR4_PSE,
  EFER_LMA,
  EFER_LME,
  EFER_NXE,
  EFER_SCE,
  type Processor,
  type Segment,
} from '../machine/processor.ts';
import type { Hpa } from '../util/address.ts';
import { SPURIOUS_APIC_VECTOR } from './vectors.ts';

/** Selectors of the host's GDT. */
export const HOST_CS = 0x10;
export const HOST_DS = 0x18;
export const HOST_TR = 0x40;

const CODE_64: number = AR_P | AR_S | AR_L | AR_G | 0xb;
const DATA: number = AR_P | AR_S | AR_DB | AR_G | 0x3;
const BUSY_TSS: number = AR_P | 0xb;

const MSR_APIC_BASE = 0x1b;
const MSR_X2APIC_SPURIOUS = 0x80f;
const APIC_BASE_BOOTSTRAP = 0x100n;
const APIC_BASE_X2APIC = 0x400n;
const APIC_BASE_ENABLE = 0x800n;
const SPURIOUS_ENABLE = 0x100n;

function setSegment(segment: Segment, selector: number, limit: number, attributes: number): void {
  segment.selector = selector;
  segment.base = 0n;
  segment.limit = limit;
  segment.attributes = attributes;
}

/** @param descriptors physical page with the CPU's descriptor tables and TSS, identity-mapped for the host */
export function bootProcessor(p: Processor, pageTable: Hpa, descriptors: Hpa): void {
  reset(p);
  p.cr0 = (CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG) >>> 0;
  p.cr3 = BigInt(pageTable);
  p.cr4 = CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE;
  if (hasFeature(p, 'pku')) p.cr4 |= CR4_PKE;
  p.efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
  const [es, cs, ss, ds, fs, gs] = p.segments as [Segment, Segment, Segment, Segment, Segment, Segment];
  setSegment(cs, HOST_CS, 0xffff_ffff, CODE_64);
  for (const data of [es, ss, ds, fs, gs]) setSegment(data, HOST_DS, 0xffff_ffff, DATA);
  setSegment(p.tr, HOST_TR, 0x67, BUSY_TSS);
  p.tr.base = BigInt(descriptors + 0x800);
  p.gdtr.base = BigInt(descriptors);
  p.gdtr.limit = 0x7f;
  p.idtr.base = BigInt(descriptors);
  p.idtr.limit = 0xfff;
  p.cpl = 0;
  p.activity = ACTIVE;
  p.syncSegments();
  privilegeChanged(p);
  const bootstrap = p.index === 0 ? APIC_BASE_BOOTSTRAP : 0n;
  writeMsr(p, MSR_APIC_BASE, 0xfee0_0000n | APIC_BASE_ENABLE | bootstrap);
  writeMsr(p, MSR_APIC_BASE, 0xfee0_0000n | APIC_BASE_ENABLE | APIC_BASE_X2APIC | bootstrap);
  writeMsr(p, MSR_X2APIC_SPURIOUS, SPURIOUS_ENABLE | BigInt(SPURIOUS_APIC_VECTOR));
}
