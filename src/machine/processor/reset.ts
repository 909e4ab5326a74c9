/**
 * RESET, INIT and SIPI.
 *
 * @sdm "Processor State After Reset", "Initialization Overview" (IA-32 processor states following power-up, reset or INIT)
 */
import { profileOf } from '../cpuid/cpuid.ts';
import {
  CS,
  FCS,
  FCW,
  FDP,
  FDS,
  FIP,
  FMASK,
  FOP,
  FSW,
  FTAG,
  FTOP,
  KERNEL_GS,
  LSTAR,
  MXCSR,
  RDX,
  STAR,
} from '../engine/layout.ts';
import { flushAll, writePkru } from '../mmu/invalidate.ts';
import { resetMsrs } from '../msr/msr.ts';
import {
  ACTIVE,
  AR_P,
  CR0_CD,
  CR0_ET,
  CR0_NW,
  type DescriptorTable,
  type Processor,
  type Segment,
  WAIT_SIPI,
} from '../processor.ts';
import { signatureOf } from '../profiles.ts';
import { privilegeChanged } from './rip.ts';
import { SYSTEM } from './segments/descriptor.ts';

const RESET_LIMIT = 0xffff;
const resetTable = (table: DescriptorTable): void => void Object.assign(table, { base: 0n, limit: RESET_LIMIT });
const resetSegment = (segment: Segment, attributes: number): void =>
  void Object.assign(segment, { selector: 0, base: 0n, limit: RESET_LIMIT, attributes });

/** What RESET and INIT have in common. */
function initialise(p: Processor): void {
  for (let n = 0; n < 16; n++) p.setGpr(n, 0n);
  p.setGpr(RDX, BigInt(signatureOf(profileOf(p))));
  p.rflags = 2;
  p.cr2 = 0n;
  p.cr3 = 0n;
  p.cr4 = 0;
  p.efer = 0;
  p.dr.fill(0n);
  p.dr6 = 0xffff0ff0;
  p.dr7 = 0x400;
  p.cpl = 0;
  for (const segment of p.segments) resetSegment(segment, 0x93);
  Object.assign(p.segments[CS]!, { selector: 0xf000, base: 0xffff_0000n, attributes: 0x9b });
  resetSegment(p.ldtr, AR_P | SYSTEM.ldt);
  resetSegment(p.tr, AR_P | SYSTEM.tss32Busy);
  resetTable(p.gdtr);
  resetTable(p.idtr);
  p.pdpte.fill(0n);
  p.rip = 0xfff0n;
  p.interruptShadow = 0;
  p.pendingDebug = 0;
  p.nmiBlocked = false;
  p.nmiPending = false;
}

/** Publishes what generated code and the TLBs look at. */
function publish(p: Processor): void {
  p.syncSegments();
  privilegeChanged(p);
  flushAll(p);
  p.eventsPending = true;
}

function resetVectorState(p: Processor): void {
  for (let n = 0; n < 16; n++) p.xmm(n).fill(0);
  for (let n = 0; n < 8; n++) p.fpr(n).fill(0);
  p.write32(MXCSR, 0x1f80);
  p.write16(FCW, 0x40);
  p.write16(FSW, 0);
  p.write8(FTOP, 0);
  // Tag word 5555H: every register holds zero.
  p.write8(FTAG, 0xff);
  p.write16(FOP, 0);
  p.write64(FIP, 0n);
  p.write64(FDP, 0n);
  p.write16(FCS, 0);
  p.write16(FDS, 0);
}

/**
 * Power-up or RESET. The bootstrap processor begins at the reset vector, the others wait for a SIPI, as they do once
 * firmware's initialisation protocol has chosen.
 */
export function reset(p: Processor): void {
  p.cr0 = (CR0_CD | CR0_NW | CR0_ET) >>> 0;
  p.xcr0 = 1n;
  p.xss = 0n;
  writePkru(p, 0);
  p.tscAux = 0;
  resetMsrs(p);
  for (const at of [KERNEL_GS, STAR, LSTAR, FMASK]) p.write64(at, 0n);
  initialise(p);
  resetVectorState(p);
  p.vtx.reset();
  p.apic.reset();
  p.initPending = false;
  p.sipiPending = -1;
  p.activity = isBootstrap(p) ? ACTIVE : WAIT_SIPI;
  publish(p);
}

const IA32_APIC_BASE_BSP = 0x100n;
const isBootstrap = (p: Processor): boolean => (p.apic.readApicBase() & IA32_APIC_BASE_BSP) !== 0n;

/**
 * INIT: like RESET, but caches, x87, SSE, most MSRs and the TSC keep their state.
 */
export function init(p: Processor): void {
  p.cr0 = ((p.cr0 & (CR0_CD | CR0_NW)) | CR0_ET) >>> 0;
  initialise(p);
  p.apic.initReset();
  p.activity = isBootstrap(p) ? ACTIVE : WAIT_SIPI;
  publish(p);
}

/** A SIPI wakes the processor in real mode at the page that its vector names. */
export function startup(p: Processor, sipiVector: number): void {
  const cs = p.segments[CS]!;
  cs.selector = sipiVector << 8;
  cs.base = BigInt(sipiVector) << 12n;
  p.rip = 0n;
  p.activity = ACTIVE;
  p.syncSegments();
  p.eventsPending = true;
}
