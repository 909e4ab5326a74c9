/** A processor's architectural state as plain values. */

import { FCW, FMASK, FPR, KERNEL_GS, LSTAR, STAR, STATE, YMM_HIGH } from '../../machine/engine/layout.ts';
import { type Processor, plainSegment, plainTable } from '../../machine/processor.ts';

const GPRS = 16;
const YMM_HIGH_SIZE = 0x100;
/** x87 control, status, TOP and tags. */
const X87_CONTROL_SIZE = 6;

/** Everything that decides how the processor goes on, in a fixed order. */
export function processorState(p: Processor): unknown {
  const { cr0, cr2, cr3, cr4, efer, xcr0, xss, pkru, dr, dr6, dr7, cpl, activity, rip, rflags, tscOffset, tscAux } = p;
  const { pdpte } = p;
  const segments = [...p.segments, p.ldtr, p.tr].map(plainSegment);
  const tables = [p.gdtr, p.idtr].map(plainTable);
  const systemCalls = [STAR, LSTAR, FMASK, KERNEL_GS].map((at) => p.read64(at));
  const registers = Array.from({ length: GPRS }, (_, n) => p.gpr(n));
  const stateBlock = (from: number, to: number): Uint8Array =>
    p.machine.memory.bytes.slice(p.block + from - STATE, p.block + to - STATE);
  const vectors = stateBlock(FPR, YMM_HIGH + YMM_HIGH_SIZE);
  const x87 = stateBlock(FCW, FCW + X87_CONTROL_SIZE);
  const control = { cr0, cr2, cr3, cr4, efer, xcr0, xss, pkru, dr, dr6, dr7, cpl, activity, rip, rflags };
  const msrs = [...p.msrs].sort(([a], [b]) => a - b);
  const waiting = [p.interruptShadow, p.nmiBlocked, p.nmiPending, p.initPending, p.sipiPending, p.pendingDebug];
  return [
    registers,
    control,
    { segments, tables, pdpte, tscOffset, tscAux, systemCalls },
    { vectors, x87, msrs, waiting, vmx: p.vtx.operation },
    p.apic.state,
  ];
}
