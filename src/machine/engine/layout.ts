/**
 * Where the engine keeps things in the machine's one WebAssembly.Memory.
 *
 *   0x0000_1000  the state block of the processor that is running (4 KiB, swapped when another one runs)
 *   0x0000_2000  scratch records for single steps, scratch bytes for slow accesses
 *   0x0001_0000  saved state blocks of the other processors
 *   0x0010_0000  TLB banks
 *   0x0200_0000  code pages and decoded records
 *   RAM_BASE     physical memory: host-physical address p lies at RAM_BASE + p
 *
 * The engine's area is low because WebAssembly offsets below 2 GiB fold into the machine instruction.
 */

/** Entries of regions, and instructions executed in them, where the translator counts. i64 each */
export const REGION_ENTRIES = 0x20;
export const REGION_INSNS = 0x28;

export const STATE = 0x1000;
export const STATE_SIZE = 0x1000;

// ---- the state block (absolute offsets, valid for the running processor)

/** Sixteen GPRs of 8 bytes. */
export const GPR: number = STATE + 0;
/** Byte offsets from GPR that record slots can name beside registers. */
export const ZERO_SLOT = 128;
export const PAGE_RIP_SLOT = 136;
/** RIP of byte 0 of the page that is executing: linear page address minus CS base. i64 */
export const PAGE_RIP: number = STATE + 0x88;
/** RIP of the instruction to execute next; valid whenever TypeScript runs. i64 */
export const RIP: number = STATE + 0x90;
/** Lazy status flags: kind i32 and two i64 values (flags.ts). */
export const CC_KIND: number = STATE + 0x98;
export const CC_A: number = STATE + 0xa0;
export const CC_B: number = STATE + 0xa8;
/** RFLAGS without the six status flags; bit 1 is set. i32 */
export const FLAGS_REST: number = STATE + 0xb0;
/** 1 or -1 by RFLAGS.DF. i64 */
export const DIRECTION: number = STATE + 0xb8;
/** Instructions left before the run loop wants control back. i32, may go below 0 by straight-line code. */
export const BUDGET: number = STATE + 0xc0;
/** Record the engine stopped at. i32 */
export const STOPPED_AT: number = STATE + 0xc4;
/** Linear address of the access that missed (i64), and what it was: width in bytes | ACCESS << 8. */
export const FAULT_VA: number = STATE + 0xc8;
export const FAULT_INFO: number = STATE + 0xd0;
/** TLB bank in force. i32 */
export const TLB_BASE: number = STATE + 0xd4;
/** TSC as the guest reads it = TSC_ORIGIN - BUDGET. i64 */
export const TSC_ORIGIN: number = STATE + 0xd8;
/** SLOW bits: instructions that must go to TypeScript. i32 */
export const SLOW_FLAGS: number = STATE + 0xe0;
/** Stack pointer mask: 0xffff, 0xffffffff or -1 by SS.B and mode. i64 */
export const STACK_MASK: number = STATE + 0xe8;
/** Why a cold handler left. i32 */
export const REASON: number = STATE + 0xf0;
/** IA32_TSC_AUX. i32 */
export const TSC_AUX: number = STATE + 0xf4;
/** -1 in 64-bit mode, else 0xffffffff: mask of RIP and linear addresses. i64 */
export const CODE_MASK: number = STATE + 0x218;
/** Low half of the time-stamp counter at the last STI that cast a shadow, or another time. i32 */
export const STI_TIME: number = STATE + 0x220;
/** IA32_KERNEL_GS_BASE. i64 */
export const KERNEL_GS: number = STATE + 0x228;
/** TLB banks for supervisor accesses with RFLAGS.AC clear and set, 0 where they are not known for this code mode. i32 each */
export const BANK_AC_CLEAR: number = STATE + 0x230;
export const BANK_AC_SET: number = STATE + 0x234;
/** Bits of a 64-bit register above a linear address: 16, with 5-level paging 7. i64 */
export const LINEAR_SHIFT: number = STATE + 0x238;
/** x87: control, status (without TOP), TOP, abridged tag word (1 = in use), opcode, and pointers. */
export const FCW: number = STATE + 0xf8;
export const FSW: number = STATE + 0xfa;
export const FTOP: number = STATE + 0xfc;
export const FTAG: number = STATE + 0xfd;
export const FOP: number = STATE + 0xfe;
/** Eight segments of 32 bytes in encoding order ES CS SS DS FS GS (6, 7 unused). */
export const SEGMENTS: number = STATE + 0x100;
export const SEGMENT_SIZE = 32;
/** Within a segment: base i64; lowest legal offset u32; selector u16; span of legal offsets for reads and for writes, i64, -1 for none. */
export const SEG_BASE = 0;
export const SEG_LOW = 8;
export const SEG_SELECTOR = 12;
export const SEG_READ_SPAN = 16;
export const SEG_WRITE_SPAN = 24;
export const FIP: number = STATE + 0x200;
export const FDP: number = STATE + 0x208;
export const FCS: number = STATE + 0x210;
export const FDS: number = STATE + 0x212;
export const MXCSR: number = STATE + 0x214;
/** Physical x87 registers R0 to R7, 16 bytes each (10 used); MMn is the low 8 bytes of Rn. */
export const FPR: number = STATE + 0x240;
/** XMM0 to XMM15, 16 bytes each. */
export const XMM: number = STATE + 0x300;
/** Upper halves of YMM0 to YMM15. */
export const YMM_HIGH: number = STATE + 0x400;

// ---- what events, returns from them and system calls look at (isa/events.ts)

/** IA32_STAR, IA32_LSTAR and IA32_FMASK. i64 each */
export const STAR: number = STATE + 0x500;
export const LSTAR: number = STATE + 0x508;
export const FMASK: number = STATE + 0x510;
/** GDTR, IDTR and the hidden part of TR: base i64 each, limit i32 each. */
export const GDT_BASE: number = STATE + 0x518;
export const IDT_BASE: number = STATE + 0x520;
export const TSS_BASE: number = STATE + 0x528;
export const GDT_LIMIT: number = STATE + 0x530;
export const IDT_LIMIT: number = STATE + 0x534;
export const TSS_LIMIT: number = STATE + 0x538;
/** Current privilege level. i32 */
export const CPL: number = STATE + 0x53c;
/** TLB bank of level 3, 0 where it is not known for this code mode. i32 */
export const BANK_USER: number = STATE + 0x540;
/** SLOW_FLAGS at level 0 and at the others, without SLOW.interruptWindow. i32 each */
export const SLOW_SUPERVISOR: number = STATE + 0x544;
export const SLOW_USER: number = STATE + 0x548;
/** Bits of LOADED: generated code has loaded the register, and TypeScript does not know yet. i32 */
export const LOADED: number = STATE + 0x54c;
/** The descriptors that generated code loaded CS and SS from, 0 for a null one or where TypeScript loaded it. i64 each */
export const CS_DESCRIPTOR: number = STATE + 0x550;
export const SS_DESCRIPTOR: number = STATE + 0x558;
/** Blocking by NMI: of NMIs, of virtual NMIs. A byte each, together i16 */
export const NMI_BLOCKED: number = STATE + 0x560;
export const VIRTUAL_NMI_BLOCKED: number = STATE + 0x561;
/** 1 while ES, DS, FS and GS hold nothing that a return to level 3 takes away. i32 */
export const KEEPS_SEGMENTS: number = STATE + 0x564;
/** Low half of the time-stamp counter at the last IRET that set RFLAGS.RF, or another time. i32 */
export const RF_TIME: number = STATE + 0x568;

/** Bits of LOADED. */
export const LOADED_CS = 1;
export const LOADED_SS = 2;

/** Bits of SLOW_FLAGS. */
export const SLOW = {
  /** RDTSC and RDTSCP: CR4.TSD at CPL 3, TSC scaling, or RDTSC exiting. */
  rdtsc: 1,
  /** PAUSE: exiting or pause-loop exiting, or several processors want to run. */
  pause: 2,
  /** x87 and MMX: CR0.EM, CR0.TS. */
  x87: 4,
  /** SSE: CR0.EM, CR0.TS, CR4.OSFXSR clear. */
  sse: 8,
  /** INT3: the exception bitmap wants it. */
  breakpoint: 16,
  /** FS/GS base instructions need CR4.FSGSBASE. */
  fsgsbase: 32,
  /** CLI, STI, PUSHF, POPF, SWAPGS, STAC, CLAC, SYSRET, IRET: not at CPL 0, or virtual-8086 mode. */
  interruptFlag: 64,
  /** STI, POPF, SYSRET, IRET: something waits for RFLAGS.IF to become 1. */
  interruptWindow: 128,
  /** AVX: CR0.TS, CR4.OSXSAVE or XCR0, or not protected mode. */
  avx: 256,
  /** SYSCALL and SYSRET: EFER.SCE is clear. */
  systemCall: 512,
} as const;

/** How memory is accessed, as in FAULT_INFO. */
export const ACCESS = { read: 0, write: 1, readWrite: 2, fetch: 3 } as const;

// ---- scratch

/** Records for single steps: one instruction and a stop. */
export const SCRATCH_RECORDS = 0x2000;
/** Bytes of a slow access (page-crossing, MMIO); one-shot TLB entries point here. */
export const SCRATCH_BYTES = 0x3000;

// ---- other processors' state blocks

export const SAVED_STATES = 0x10000;
export const MAX_PROCESSORS = 64;

// ---- TLBs

/** One bank: read, write and execute arrays of 4096 entries {i64 tag, i32 host, i32 frame}. */
export const TLB_READ = 0;
export const TLB_WRITE = 0x10000;
export const TLB_EXECUTE = 0x20000;
export const TLB_BANK_SIZE = 0x30000;
export const TLB_INDEX_MASK = 0xfff0;
/**
 * Byte offset of an execute entry: bits 21:12 of the address, and bits 31:22 over them, as code that calls each other often lies
 * megabytes apart.
 */
export const executeOffset = (linearLow: number): number => ((linearLow >>> 8) ^ (linearLow >>> 18)) & TLB_INDEX_MASK;
export const TLB_ENTRIES = 4096;
export const TLB_BANKS = 0x100000;
export const TLB_BANK_COUNT = 160;
/** Tag of an entry that matches no address: no page-aligned linear address is this. */
export const TLB_INVALID_TAG: bigint = (-1n << 63n) | 0x7ffn;

// ---- decode cache

export const CODE_AREA = 0x2000000;
export const RAM_BASE = 0x10000000;
/** Where records begin; tables lie before them. */
export const RECORDS: number = CODE_AREA + 6144 * 4096 * 4;
export const RECORDS_END = 0xe000000;
/** Entry counters, u16: the counter of a record is at (record >>> 3) + ENTRY_COUNTERS. Wrapping to 0 means hot. */
export const ENTRY_COUNTERS: number = RECORDS_END - (RECORDS >>> 3);
/** Which indirect jump came to a record last, as a tag, u16: at (record >>> 3) + JUMP_SOURCES. */
export const JUMP_SOURCES: number = ENTRY_COUNTERS + ((RECORDS_END - RECORDS) >>> 3);
/** Tag of the record of a jump; 0 says nothing. */
export const jumpTag = (record: number): number => (record >>> 4) & 0xffff;
/** Most physical memory there can be. */
export const MAX_RAM: number = 0x1_0000_0000 - RAM_BASE;

/**
 * Why the engine returned. Up to `ahead` the last instruction is complete; from `miss` on the instruction at RIP has
 * not happened (and is not counted).
 */
export const EXIT = {
  none: 0,
  /** The budget is used up. */
  budget: 1,
  /** RIP has no decoded record, or its page is not in the execute TLB. */
  lookup: 2,
  /** The single step is done. */
  stop: 3,
  /** An instruction that crosses a page boundary is next. */
  straddle: 4,
  /** The instruction at RIP is where control has come often. */
  hot: 5,
  /** The run of records ends before its code does; for the engine itself. */
  ahead: 6,
  /** A memory access found no TLB entry. */
  miss: 7,
  /** #DE */
  divide: 8,
  /** The instruction is TypeScript's. */
  assist: 9,
  /** The bytes are no valid instruction: #UD. */
  undefined: 10,
  /** A segment limit or type forbids the access: #GP or #SS. */
  segment: 11,
  /** An SSE operand is not aligned: #GP. */
  alignment: 12,
} as const;
export type Exit = (typeof EXIT)[keyof typeof EXIT];

export const RAX = 0;
export const RCX = 1;
export const RDX = 2;
export const RBX = 3;
export const RSP = 4;
export const RBP = 5;
export const RSI = 6;
export const RDI = 7;
export const R8 = 8;
export const R9 = 9;
export const R10 = 10;
export const R11 = 11;

export const ES = 0;
export const CS = 1;
export const SS = 2;
export const DS = 3;
export const FS = 4;
export const GS = 5;
