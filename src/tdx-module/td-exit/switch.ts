/**
 * What TDH.VP.ENTER and a TD exit switch beside VM entry and exit: registers, MSRs, extended state, which while the TD
 * runs and while the module handles its exits are in the processor, else in the TDVPS.
 *
 * @tdx "TD VCPU", Saving and Restoring VCPU State
 */
import { GPR, MXCSR, RBP, RSP, STATE, XMM } from '../../machine/engine/layout.ts';
import type { Processor } from '../../machine/processor.ts';
import { MXCSR_AT, MXCSR_INIT, MXCSR_MASK } from '../../machine/system/sse-state.ts';
import { initX87, loadX87, saveX87 } from '../../machine/system/x87-state.ts';
import { LEGACY_SIZE, SUPPORTED_XCR0, SUPPORTED_XSS } from '../../machine/system/xstate-layout.ts';
import { msrOf, setMsr } from '../../machine/vtx/msr-values.ts';
import { TDVPS_FIELDS, type TdvpsFieldName } from '../metadata/tdvps-fields.ts';
import type { Tdvps } from '../objects/tdvps.ts';
import { INITIAL_DR6, INITIAL_FMASK, XBUFF_OFFSET } from '../virtualization/vcpu-state.ts';

/** An MSR that the TD has for itself. */
interface SwitchedMsr {
  readonly index: number;
  readonly field: TdvpsFieldName;
  /** What the host finds after a TD exit; undefined where the module restores the host's own value. */
  readonly after: bigint | undefined;
}

const SWITCHED_MSRS: readonly SwitchedMsr[] = [
  { index: 0x48, field: 'IA32_SPEC_CTRL', after: undefined },
  { index: 0xc000_0081, field: 'IA32_STAR', after: 0n },
  { index: 0xc000_0082, field: 'IA32_LSTAR', after: 0n },
  { index: 0xc000_0084, field: 'IA32_FMASK', after: BigInt(INITIAL_FMASK) },
  { index: 0xc000_0102, field: 'IA32_KERNEL_GS_BASE', after: 0n },
];

const GPR_BYTES = 128;
const XMM_BYTES = 256;
/** Place of XMM registers in the legacy region of an XSAVE image. */
const XMM_AT = 160;

/** Part of the TDVPS that every entry reads and every exit writes as one piece: GPRs to CR2. */
const BLOCK_START: number = TDVPS_FIELDS.RAX.offset;
const BLOCK_BYTES: number = TDVPS_FIELDS.CR2.offset + 8 - BLOCK_START;
const DR_AT: number = TDVPS_FIELDS.DR0.offset - BLOCK_START;
const DR6_AT: number = TDVPS_FIELDS.DR6.offset - BLOCK_START;
const XCR0_AT: number = TDVPS_FIELDS.XCR0.offset - BLOCK_START;
const CR2_AT: number = TDVPS_FIELDS.CR2.offset - BLOCK_START;

/** The host's values that come back after the TD. */
export interface HostState {
  readonly rbp: bigint;
  readonly msrs: readonly bigint[];
}

/** All XMM registers, a live view: in TypeScript the host is in 64-bit mode whatever the TD's mode is. */
const xmmBytes = (p: Processor): Uint8Array => p.stateBlock().subarray(XMM - STATE, XMM - STATE + XMM_BYTES);
/** All general registers, a live view. The TDVPS has them in the same order. */
export const gprBytes = (p: Processor): Uint8Array => p.stateBlock().subarray(GPR - STATE, GPR - STATE + GPR_BYTES);

/** Copies general registers; RSP is the VMCS's. */
function copyGprs(from: Uint8Array, to: Uint8Array): void {
  to.set(from.subarray(0, RSP * 8), 0);
  to.set(from.subarray(RSP * 8 + 8, GPR_BYTES), RSP * 8 + 8);
}

// perf: buffers that are written anew at each exit.
const savedBlock = new Uint8Array(BLOCK_BYTES);
const savedView = new DataView(savedBlock.buffer);
const legacyRegion = new Uint8Array(LEGACY_SIZE);
const legacyView = new DataView(legacyRegion.buffer);

function loadExtendedState(p: Processor, tdvps: Tdvps): void {
  const { keyed } = tdvps.tdr.module.platform;
  const bytes = keyed.readBytes(tdvps.address(XBUFF_OFFSET), tdvps.keyId, LEGACY_SIZE);
  const image = new DataView(bytes.buffer);
  loadX87(p, image, true);
  xmmBytes(p).set(bytes.subarray(XMM_AT, XMM_AT + XMM_BYTES));
  p.write32(MXCSR, image.getUint32(MXCSR_AT, true));
}

function saveExtendedState(p: Processor, tdvps: Tdvps): void {
  saveX87(p, legacyView, true);
  legacyRegion.set(xmmBytes(p), XMM_AT);
  legacyView.setUint32(MXCSR_AT, p.read32(MXCSR), true);
  legacyView.setUint32(MXCSR_AT + 4, MXCSR_MASK, true);
  tdvps.tdr.module.platform.keyed.writeBytes(tdvps.address(XBUFF_OFFSET), tdvps.keyId, legacyRegion);
}

/** Puts the TD's state into the processor. */
export function loadGuestState(p: Processor, tdvps: Tdvps): HostState {
  const host: HostState = { rbp: p.gpr(RBP), msrs: SWITCHED_MSRS.map(({ index }) => msrOf(p, index)) };
  const block = tdvps.tdr.module.platform.keyed.readBytes(tdvps.address(BLOCK_START), tdvps.keyId, BLOCK_BYTES);
  const view = new DataView(block.buffer);
  copyGprs(block, gprBytes(p));
  for (let n = 0; n < 4; n++) p.dr[n] = view.getBigUint64(DR_AT + n * 8, true);
  p.dr6 = view.getUint32(DR6_AT, true);
  p.xcr0 = view.getBigUint64(XCR0_AT, true);
  p.cr2 = view.getBigUint64(CR2_AT, true);
  p.xss = tdvps.get('IA32_XSS');
  for (const { index, field } of SWITCHED_MSRS) setMsr(p, index, tdvps.get(field));
  p.tscAux = tdvps.num('IA32_TSC_AUX');
  loadExtendedState(p, tdvps);
  return host;
}

/** Keeps the TD's state in its TDVPS. */
export function saveGuestState(p: Processor, tdvps: Tdvps): void {
  copyGprs(gprBytes(p), savedBlock);
  for (let n = 0; n < 4; n++) savedView.setBigUint64(DR_AT + n * 8, p.dr[n]!, true);
  savedView.setUint32(DR6_AT, p.dr6 >>> 0, true);
  savedView.setBigUint64(XCR0_AT, p.xcr0, true);
  savedView.setBigUint64(CR2_AT, p.cr2, true);
  tdvps.tdr.module.platform.keyed.writeBytes(tdvps.address(BLOCK_START), tdvps.keyId, savedBlock);
  tdvps.set('IA32_XSS', p.xss);
  for (const { index, field } of SWITCHED_MSRS) tdvps.set(field, msrOf(p, index));
  tdvps.set('IA32_TSC_AUX', p.tscAux);
  saveExtendedState(p, tdvps);
}

/**
 * Leaves nothing of the TD in the processor: extended state in its initial configuration, MSRs and debug registers at
 * fixed values, the host's own where the module restores them.
 * @param xmmMask XMM registers that the TD passes on
 */
export function scrub(p: Processor, xfam: bigint, host: HostState, xmmMask = 0): void {
  const xmm = xmmBytes(p);
  if (xmmMask === 0) xmm.fill(0);
  else for (let n = 0; n < 16; n++) if (!((xmmMask >> n) & 1)) xmm.fill(0, n * 16, n * 16 + 16);
  p.write32(MXCSR, MXCSR_INIT);
  initX87(p);
  p.xcr0 = xfam & SUPPORTED_XCR0;
  p.xss = xfam & SUPPORTED_XSS;
  p.cr2 = 0n;
  p.dr.fill(0n);
  p.dr6 = INITIAL_DR6;
  p.tscAux = 0;
  for (const [i, { index, after }] of SWITCHED_MSRS.entries()) setMsr(p, index, after ?? host.msrs[i]!);
}
