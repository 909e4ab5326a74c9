/** The state in which a boot protocol wants the first processor at the kernel's entry. */

import { ByteWriter } from '../byte-writer.ts';
import type { GuestMemory } from '../guest-memory.ts';
import { GDT_ADDRESS, PAGE_TABLES_ADDRESS } from '../layout.ts';

/** A flat segment as a descriptor and as the hidden part of a segment register. */
export interface FlatSegment {
  readonly selector: number;
  /** Segment type field, bits 3:0. */
  readonly type: number;
  /** Code segment for 64-bit mode (L). */
  readonly long: boolean;
  /** 32-bit segment (D/B). */
  readonly big: boolean;
}

/** Registers of the first processor; what is not named is 0, and interrupts are off. */
export interface EntryState {
  /** `protected`: 32-bit, paging off. `long`: 64-bit with an identity map of the low 4 GiB. */
  readonly mode: 'protected' | 'long';
  readonly rip: number;
  readonly rax?: number;
  readonly rbx?: number;
  readonly rsi?: number;
  readonly rsp?: number;
  readonly code: FlatSegment;
  /** DS, ES, SS, FS and GS. */
  readonly data: FlatSegment;
  readonly gdt: { readonly base: number; readonly limit: number };
  /** Physical address of the PML4, in long mode. */
  readonly cr3: number;
}

/** __BOOT_CS and __BOOT_DS, which the Linux boot protocol asks for; the others only want flat segments. */
const BOOT_CS = 0x10;
const BOOT_DS = 0x18;
const BOOT_TSS = 0x20;

const ACCESSED_EXECUTE_READ = 0xb;
const ACCESSED_READ_WRITE = 0x3;

/** A flat 4 GiB descriptor. @sdm "Segment Descriptors" */
function descriptor({ type, long, big }: FlatSegment): bigint {
  const access = 0x90 | type;
  const flags = 0x8 | (long ? 0x2 : 0) | (big ? 0x4 : 0);
  return 0xffffn | (BigInt(access) << 40n) | (0xfn << 48n) | (BigInt(flags) << 52n);
}

/** Writes a GDT with flat code and data and an empty TSS, and gives the state of `mode` at `rip`. */
export function flatEntryState(
  memory: GuestMemory,
  mode: 'protected' | 'long',
  rip: number,
  registers: { rax?: number; rbx?: number; rsi?: number; rsp?: number } = {},
): EntryState {
  const long = mode === 'long';
  const code: FlatSegment = { selector: BOOT_CS, type: ACCESSED_EXECUTE_READ, long, big: !long };
  const data: FlatSegment = {
    selector: BOOT_DS,
    type: ACCESSED_READ_WRITE,
    long: false,
    big: true,
  };
  // A busy 32-bit TSS at address 0: VM entry wants a task register, nobody uses it.
  const tss = (0x8bn << 40n) | 0x67n;
  const gdt = new ByteWriter().u64(0, 0, descriptor(code), descriptor(data), tss).finish();
  memory.write(GDT_ADDRESS, gdt);
  if (long) memory.write(PAGE_TABLES_ADDRESS, identityMap(PAGE_TABLES_ADDRESS));
  return {
    mode,
    rip,
    ...registers,
    code,
    data,
    gdt: { base: GDT_ADDRESS, limit: gdt.length - 1 },
    cr3: long ? PAGE_TABLES_ADDRESS : 0,
  };
}

/** Selector of the task register in the states of {@link flatEntryState}. */
export const ENTRY_TSS_SELECTOR: number = BOOT_TSS;

/** Rights of an entry of paging structures. */
export const PRESENT_WRITABLE = 3;
const LARGE_PAGE = 0x80;
const TABLE_ENTRIES = 512;

/** Identity tables for the low 4 GiB in 2 MiB pages, to lie at `address`: PML4, PDPT, four page directories. @sdm "4-Level Paging" */
export function identityMap(address: number): Uint8Array {
  const directories = 4;
  const tables = new BigUint64Array(TABLE_ENTRIES * (2 + directories));
  const pdpt = address + 0x1000;
  tables[0] = BigInt(pdpt + PRESENT_WRITABLE);
  for (let n = 0; n < directories; n++) {
    tables[TABLE_ENTRIES + n] = BigInt(pdpt + 0x1000 * (n + 1) + PRESENT_WRITABLE);
  }
  for (let n = 0; n < directories * TABLE_ENTRIES; n++) {
    tables[2 * TABLE_ENTRIES + n] = BigInt(n * 0x200000 + (PRESENT_WRITABLE | LARGE_PAGE));
  }
  return new Uint8Array(tables.buffer);
}
