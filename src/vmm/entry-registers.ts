/** Puts a loader's entry state into a vCPU's registers. */

import { CLEAR_REGS } from '../kvm/x86/sregs.ts';
import type { VcpuRegs, VcpuSegment, VcpuSregs } from './kvm-api.ts';
import { ENTRY_TSS_SELECTOR, type EntryState, type FlatSegment } from './loaders/entry-state.ts';

const CR0_PE = 1n;
const CR0_ET = 0x10n;
const CR0_NE = 0x20n;
const CR0_PG = 0x8000_0000n;
const CR4_PAE = 0x20n;
const EFER_LME = 0x100n;
const EFER_LMA = 0x400n;
const RFLAGS_FIXED = 2n;

function flat({ selector, type, long, big }: FlatSegment): VcpuSegment {
  return {
    base: 0n,
    limit: 0xffff_ffff,
    selector,
    type,
    present: 1,
    dpl: 0,
    db: big ? 1 : 0,
    s: 1,
    l: long ? 1 : 0,
    g: 1,
    avl: 0,
    unusable: 0,
  };
}

const BUSY_TSS: VcpuSegment = {
  base: 0n,
  limit: 0x67,
  selector: ENTRY_TSS_SELECTOR,
  type: 0xb,
  present: 1,
  dpl: 0,
  db: 0,
  s: 0,
  l: 0,
  g: 0,
  avl: 0,
  unusable: 0,
};

/** The special registers for `entry`, starting from those of a vCPU after reset. */
export function entrySregs(reset: VcpuSregs, entry: EntryState): VcpuSregs {
  const { mode, code, data, gdt, cr3 } = entry;
  const long = mode === 'long';
  const flatData = flat(data);
  return {
    ...reset,
    cs: flat(code),
    ds: flatData,
    es: flatData,
    fs: flatData,
    gs: flatData,
    ss: flatData,
    tr: BUSY_TSS,
    gdt: { base: BigInt(gdt.base), limit: gdt.limit },
    idt: { base: 0n, limit: 0 },
    cr0: CR0_PE | CR0_ET | CR0_NE | (long ? CR0_PG : 0n),
    cr3: BigInt(cr3),
    cr4: long ? CR4_PAE : 0n,
    efer: long ? EFER_LME | EFER_LMA : 0n,
  };
}

/** The general registers for `entry`. */
export function entryRegs({ rip, rax = 0, rbx = 0, rsi = 0, rsp = 0 }: EntryState): VcpuRegs {
  return {
    ...CLEAR_REGS,
    rax: BigInt(rax),
    rbx: BigInt(rbx),
    rsi: BigInt(rsi),
    rsp: BigInt(rsp),
    rip: BigInt(rip),
    rflags: RFLAGS_FIXED,
  };
}
