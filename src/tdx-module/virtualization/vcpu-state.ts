/**
 * What of a virtual processor's initial state is not in its VMCS: registers, MSRs, extended state, virtual APIC.
 *
 * @tdx "TD VCPU", Initial State
 */
import type { Processor } from '../../machine/processor.ts';
import { MXCSR_AT, MXCSR_INIT, MXCSR_MASK } from '../../machine/system/sse-state.ts';
import { FCW_INIT } from '../../machine/system/x87-state.ts';
import { COMPACTED, compactSize, XCOMP_BV } from '../../machine/system/xstate-layout.ts';
import type { Tdcs } from '../objects/tdcs.ts';
import { LAST_TD_EXIT, type Tdvps, XBUFF_PAGE } from '../objects/tdvps.ts';
import { cpuidRow } from './cpuid-rows.ts';
import { viewOf } from './td-view.ts';
import { initTdVmcs } from './td-vmcs.ts';

export const XBUFF_OFFSET: number = XBUFF_PAGE * 4096;
export const INITIAL_FMASK = 0x20200;
export const INITIAL_DR6 = 0xffff_0ff0;

/** An XSAVE image in which every component is in its initial configuration. */
export function initialXbuff(xfam: bigint): Uint8Array {
  const bytes = new Uint8Array(compactSize(xfam));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, FCW_INIT, true);
  view.setUint32(MXCSR_AT, MXCSR_INIT, true);
  view.setUint32(MXCSR_AT + 4, MXCSR_MASK, true);
  view.setBigUint64(XCOMP_BV, COMPACTED | xfam, true);
  return bytes;
}

/**
 * TDH.VP.INIT's part of the state: VMCS, registers, MSRs. The virtual processor has its index and its pages.
 * @param initial value that the virtual processor starts with in RCX and R8
 */
export function initVcpuState(tdcs: Tdcs, tdvps: Tdvps, p: Processor, initial: bigint): void {
  initTdVmcs(tdcs, tdvps, p);
  const signature = viewOf(tdcs).cpuidValues(cpuidRow(1, 0)!)[0];
  tdvps.set('RBX', tdcs.gpaw);
  tdvps.set('RCX', initial);
  tdvps.set('R8', initial);
  tdvps.set('RDX', signature);
  tdvps.set('RSI', tdvps.index);
  tdvps.set('DR6', INITIAL_DR6);
  tdvps.set('XCR0', 1n);
  tdvps.set('IA32_FMASK', INITIAL_FMASK);
  tdvps.set('LAST_TD_EXIT', LAST_TD_EXIT.ASYNC_FAULT);
  tdvps.tdr.module.platform.keyed.writeBytes(tdvps.address(XBUFF_OFFSET), tdvps.keyId, initialXbuff(tdcs.get('XFAM')));
}
