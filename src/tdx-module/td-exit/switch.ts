/**
 * What TDH.VP.ENTER and a TD exit switch beside VM entry and exit: registers, MSRs, extended state, which while the TD
 * runs and while the module handles its exits are in the processor, else in the TDVPS.
 *
 * @tdx "TD VCPU", Saving and Restoring VCPU State
 */
import {
  FMASK,
  GPR,
  KERNEL_GS,
  LSTAR,
  MXCSR,
  RBP,
  RSP,
  STAR,
  STATE,
  XMM,
  YMM_HIGH,
} from '../../machine/engine/layout.ts';
import { writePkru } from '../../machine/mmu/invalidate.ts';
import type { Processor } from '../../machine/processor.ts';
import { MXCSR_AT, MXCSR_INIT, MXCSR_MASK } from '../../machine/system/sse-state.ts';
import { initX87, loadX87, saveX87 } from '../../machine/system/x87-state.ts';
import {
  AVX,
  compactOffset,
  LEGACY_SIZE,
  PKRU,
  SUPPORTED_XCR0,
  SUPPORTED_XSS,
  YMM_AT,
} from '../../machine/system/xstate-layout.ts';
import { msrOf, setMsr } from '../../machine/vtx/msr-values.ts';
import { TDVPS_FIELDS, type TdvpsFieldName } from '../metadata/tdvps-fields.ts';
import type { Tdvps } from '../objects/tdvps.ts';
import { INITIAL_DR6, INITIAL_FMASK, XBUFF_OFFSET } from '../virtualization/vcpu-state.ts';

/** An MSR that the TD has for itself, and that is a word of the processor's state block. */
interface SwitchedMsr {
  readonly at: number;
  /** Its place in the TDVPS. */
  readonly offset: number;
  /** What the host finds after a TD exit. */
  readonly after: bigint;
}

const switched = (at: number, field: TdvpsFieldName, after = 0n): SwitchedMsr => ({
  at,
  offset: TDVPS_FIELDS[field].offset,
  after,
});

const IA32_SPEC_CTRL = 0x48;
const SPEC_CTRL_AT: number = TDVPS_FIELDS.IA32_SPEC_CTRL.offset;
/** Beside IA32_SPEC_CTRL, where the host's own value comes back, and those that are fields of the processor. */
const SWITCHED_MSRS: readonly SwitchedMsr[] = [
  switched(STAR, 'IA32_STAR'),
  switched(LSTAR, 'IA32_LSTAR'),
  switched(FMASK, 'IA32_FMASK', BigInt(INITIAL_FMASK)),
  switched(KERNEL_GS, 'IA32_KERNEL_GS_BASE'),
];

/** Place of XMM registers in the legacy region of an XSAVE image. */
const XMM_AT = 160;
const GPRS = 16;
const XMMS = 16;
const YMM_BYTES = 256;

const GPR_AT: number = TDVPS_FIELDS.RAX.offset;
const DR_AT: number = TDVPS_FIELDS.DR0.offset;
const DR6_AT: number = TDVPS_FIELDS.DR6.offset;
const XCR0_AT: number = TDVPS_FIELDS.XCR0.offset;
const CR2_AT: number = TDVPS_FIELDS.CR2.offset;
const XSS_AT: number = TDVPS_FIELDS.IA32_XSS.offset;
const TSC_AUX_AT: number = TDVPS_FIELDS.IA32_TSC_AUX.offset;

/** The host's values that come back after the TD. */
export interface HostState {
  readonly rbp: bigint;
  readonly specCtrl: bigint;
}

/** Where a register of the processor's state block lies. */
const placeOf = (p: Processor, register: number): number => p.block + register - STATE;

/**
 * The legacy region of the TD's extended state, to be read or written as memory, or a copy of it where somebody else has
 * written to it: then the copy is zeros, and the machine check is recorded.
 */
function legacyRegion(tdvps: Tdvps): DataView {
  return (
    tdvps.legacyRegion ??
    new DataView(
      tdvps.tdr.module.platform.keyed.readBytes(tdvps.address(XBUFF_OFFSET), tdvps.keyId, LEGACY_SIZE).buffer,
    )
  );
}

/** Offset of PKRU in the TDVPS. */
const pkruAt = (xfam: bigint): number => XBUFF_OFFSET + compactOffset(xfam, PKRU);

/** @param kept XMM registers that stay what they are */
function loadExtendedState(p: Processor, tdvps: Tdvps, kept: number): void {
  const { keyed } = tdvps.tdr.module.platform;
  const image = legacyRegion(tdvps);
  loadX87(p, image, true);
  p.write32(MXCSR, image.getUint32(MXCSR_AT, true));
  const xfam = tdvps.tdcs.get('XFAM');
  if (xfam & AVX) keyed.copyOut(tdvps.address(XBUFF_OFFSET + YMM_AT), tdvps.keyId, YMM_BYTES, placeOf(p, YMM_HIGH));
  if (xfam & PKRU) writePkru(p, keyed.read32(tdvps.address(pkruAt(xfam)), tdvps.keyId));
  const from = tdvps.address(XBUFF_OFFSET + XMM_AT);
  const to = placeOf(p, XMM);
  if (kept === 0) keyed.copyOut(from, tdvps.keyId, XMMS * 16, to);
  else {
    for (let n = 0; n < XMMS; n++) {
      if (!((kept >>> n) & 1)) keyed.copyOut(from + n * 16, tdvps.keyId, 16, to + n * 16);
    }
  }
}

function saveExtendedState(p: Processor, tdvps: Tdvps): void {
  const { keyed } = tdvps.tdr.module.platform;
  const at = tdvps.address(XBUFF_OFFSET);
  keyed.copyIn(at + XMM_AT, tdvps.keyId, XMMS * 16, placeOf(p, XMM));
  const xfam = tdvps.tdcs.get('XFAM');
  if (xfam & AVX) keyed.copyIn(at + YMM_AT, tdvps.keyId, YMM_BYTES, placeOf(p, YMM_HIGH));
  if (xfam & PKRU) keyed.write32(tdvps.address(pkruAt(xfam)), tdvps.keyId, p.pkru);
  const image = legacyRegion(tdvps);
  saveX87(p, image, true);
  image.setUint32(MXCSR_AT, p.read32(MXCSR), true);
  image.setUint32(MXCSR_AT + 4, MXCSR_MASK, true);
}

/**
 * Puts the TD's state into the processor.
 * @param kept what the host gives the TD in answer to a TDVMCALL: bits 15:0 general registers, bits 31:16 XMM registers
 */
export function loadGuestState(p: Processor, tdvps: Tdvps, kept: number): HostState {
  const { keyed } = tdvps.tdr.module.platform;
  const { keyId } = tdvps;
  const page = tdvps.address(0);
  const host: HostState = { rbp: p.gpr(RBP), specCtrl: msrOf(p, IA32_SPEC_CTRL) };
  // The TDVPS has the registers in the processor's order; RSP is the VMCS's.
  const gprs = placeOf(p, GPR);
  for (let n = 0; n < GPRS; n++) {
    if (n !== RSP && !((kept >>> n) & 1)) keyed.copyOut(page + GPR_AT + n * 8, keyId, 8, gprs + n * 8);
  }
  for (let n = 0; n < 4; n++) p.dr[n] = keyed.read64(page + DR_AT + n * 8, keyId);
  p.dr6 = keyed.read32(page + DR6_AT, keyId);
  p.xcr0 = keyed.read64(page + XCR0_AT, keyId);
  p.cr2 = keyed.read64(page + CR2_AT, keyId);
  p.xss = keyed.read64(page + XSS_AT, keyId);
  setMsr(p, IA32_SPEC_CTRL, keyed.read64(page + SPEC_CTRL_AT, keyId));
  for (let i = 0; i < SWITCHED_MSRS.length; i++) {
    const { at, offset } = SWITCHED_MSRS[i]!;
    keyed.copyOut(page + offset, keyId, 8, placeOf(p, at));
  }
  p.tscAux = keyed.read32(page + TSC_AUX_AT, keyId);
  loadExtendedState(p, tdvps, kept >>> 16);
  return host;
}

/** Keeps the TD's state in its TDVPS. */
export function saveGuestState(p: Processor, tdvps: Tdvps): void {
  const { keyed } = tdvps.tdr.module.platform;
  const { keyId } = tdvps;
  const page = tdvps.address(0);
  const gprs = placeOf(p, GPR);
  keyed.copyIn(page + GPR_AT, keyId, RSP * 8, gprs);
  keyed.copyIn(page + GPR_AT + RSP * 8 + 8, keyId, (GPRS - RSP - 1) * 8, gprs + RSP * 8 + 8);
  for (let n = 0; n < 4; n++) keyed.write64(page + DR_AT + n * 8, keyId, p.dr[n]!);
  keyed.write64(page + DR6_AT, keyId, BigInt(p.dr6 >>> 0));
  keyed.write64(page + XCR0_AT, keyId, p.xcr0);
  keyed.write64(page + CR2_AT, keyId, p.cr2);
  keyed.write64(page + XSS_AT, keyId, p.xss);
  keyed.write64(page + SPEC_CTRL_AT, keyId, msrOf(p, IA32_SPEC_CTRL));
  for (let i = 0; i < SWITCHED_MSRS.length; i++) {
    const { at, offset } = SWITCHED_MSRS[i]!;
    keyed.copyIn(page + offset, keyId, 8, placeOf(p, at));
  }
  keyed.write64(page + TSC_AUX_AT, keyId, BigInt(p.tscAux));
  saveExtendedState(p, tdvps);
}

/**
 * Leaves nothing of the TD in the processor: extended state in its initial configuration, MSRs and debug registers at
 * fixed values, the host's own where the module restores them.
 * @param xmmMask XMM registers that the TD passes on
 */
export function scrub(p: Processor, xfam: bigint, host: HostState, xmmMask = 0): void {
  for (let n = 0; n < XMMS; n++) {
    if ((xmmMask >> n) & 1) continue;
    for (let at = XMM + n * 16; at < XMM + n * 16 + 16; at += 4) p.write32(at, 0);
  }
  for (let at = YMM_HIGH; at < YMM_HIGH + YMM_BYTES; at += 4) p.write32(at, 0);
  p.write32(MXCSR, MXCSR_INIT);
  initX87(p);
  if (xfam & PKRU) writePkru(p, 0);
  p.xcr0 = xfam & SUPPORTED_XCR0;
  p.xss = xfam & SUPPORTED_XSS;
  p.cr2 = 0n;
  p.dr.fill(0n);
  p.dr6 = INITIAL_DR6;
  p.tscAux = 0;
  setMsr(p, IA32_SPEC_CTRL, host.specCtrl);
  for (let i = 0; i < SWITCHED_MSRS.length; i++) {
    const { at, after } = SWITCHED_MSRS[i]!;
    p.write64(at, after);
  }
}
