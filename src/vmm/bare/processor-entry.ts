/** Puts a loader's entry state into a processor of a bare machine. */

import { tlbContextChanged } from '../../machine/mmu/tlb.ts';
import { privilegeChanged } from '../../machine/processor/rip.ts';
import {
  AR_DB,
  AR_G,
  AR_L,
  AR_P,
  AR_S,
  CR0_ET,
  CR0_NE,
  CR0_PE,
  CR0_PG,
  CR4_PAE,
  EFER_LMA,
  EFER_LME,
  type Processor,
} from '../../machine/processor.ts';
import { ENTRY_TSS_SELECTOR, type EntryState, type FlatSegment } from '../loaders/entry-state.ts';

const [RAX, RBX, RSP, RSI] = [0, 3, 4, 6];
const CS = 1;
const SEGMENTS = 6;
const BUSY_TSS = AR_P | 0xb;
const TSS_LIMIT = 0x67;
const RFLAGS_FIXED = 2;

const attributes = ({ type, long, big }: FlatSegment): number =>
  AR_P | AR_S | AR_G | type | (long ? AR_L : 0) | (big ? AR_DB : 0);

/** Makes `p`, after reset, go on at `entry`. */
export function enterAt(p: Processor, entry: EntryState): void {
  const { mode, code, data, gdt, cr3, rip, rax = 0, rbx = 0, rsi = 0, rsp = 0 } = entry;
  const long = mode === 'long';
  p.cr0 = (CR0_PE | CR0_ET | CR0_NE | (long ? CR0_PG : 0)) >>> 0;
  p.cr3 = BigInt(cr3);
  p.cr4 = long ? CR4_PAE : 0;
  p.efer = long ? EFER_LME | EFER_LMA : 0;
  for (let n = 0; n < SEGMENTS; n++) {
    const flat = n === CS ? code : data;
    Object.assign(p.segments[n]!, {
      selector: flat.selector,
      base: 0n,
      limit: 0xffff_ffff,
      attributes: attributes(flat),
    });
  }
  Object.assign(p.tr, { selector: ENTRY_TSS_SELECTOR, base: 0n, limit: TSS_LIMIT, attributes: BUSY_TSS });
  Object.assign(p.gdtr, { base: BigInt(gdt.base), limit: gdt.limit });
  Object.assign(p.idtr, { base: 0n, limit: 0 });
  p.setGpr(RAX, BigInt(rax));
  p.setGpr(RBX, BigInt(rbx));
  p.setGpr(RSI, BigInt(rsi));
  p.setGpr(RSP, BigInt(rsp));
  p.rip = BigInt(rip);
  p.rflags = RFLAGS_FIXED;
  p.syncSegments();
  privilegeChanged(p);
  tlbContextChanged(p);
}
