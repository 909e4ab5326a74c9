/** A SEAMCALL or TDCALL while it is carried out: its operands as the caller's registers gave them, and its outputs. */
import { R8, R9, R10, R11, RAX, RCX, RDX } from '../../machine/engine/layout.ts';
import type { Processor } from '../../machine/processor.ts';
import type { LockKind, LockMode } from '../locks.ts';
import type { TdxModule } from '../module.ts';
import type { Tdcs } from './tdcs.ts';
import type { Tdr } from './tdr.ts';
import type { Tdvps } from './tdvps.ts';

/** Registers to write at the end; those left undefined keep their value. */
export interface Outputs {
  rcx?: bigint | undefined;
  rdx?: bigint | undefined;
  r8?: bigint | undefined;
  r9?: bigint | undefined;
  r10?: bigint | undefined;
  r11?: bigint | undefined;
  r12?: bigint | undefined;
  r13?: bigint | undefined;
}

export class Call {
  readonly module: TdxModule;
  /** The logical processor that called. */
  readonly p: Processor;
  readonly leaf: number;
  readonly version: number;
  readonly rcx: bigint;
  readonly rdx: bigint;
  readonly r8: bigint;
  readonly r9: bigint;
  readonly r10: bigint;
  readonly r11: bigint;
  readonly out: Outputs = {};
  /** The TD that it is about, once that is found. */
  td: Tdr | null = null;

  /** Takes leaf, version and operands from the processor's registers. */
  constructor(module: TdxModule, p: Processor) {
    this.module = module;
    this.p = p;
    const rax = p.gpr(RAX);
    this.leaf = Number(rax & 0xffffn);
    this.version = Number((rax >> 16n) & 0xffn);
    this.rcx = p.gpr(RCX);
    this.rdx = p.gpr(RDX);
    this.r8 = p.gpr(R8);
    this.r9 = p.gpr(R9);
    this.r10 = p.gpr(R10);
    this.r11 = p.gpr(R11);
  }

  /** Whether an interrupt waits for the processor: leaves that take long make way for it. */
  get interruptPending(): boolean {
    return this.module.hooks.interruptPending?.(this.p) ?? this.p.apic.interruptPending;
  }

  /** Takes a lock until the end of the call; false if it is busy. */
  lock(kind: LockKind, id: number, mode: LockMode): boolean {
    return this.module.locks.acquire(kind, id, mode, this.module.hooks.lockHeld);
  }
  /** Releases it before. */
  unlock(kind: LockKind, id: number): void {
    this.module.locks.release(kind, id);
  }
}

/** A TDCALL: who called. */
export class GuestCall extends Call {
  readonly tdcs: Tdcs;
  readonly tdvps: Tdvps;

  constructor(module: TdxModule, p: Processor, tdvps: Tdvps) {
    super(module, p);
    this.tdvps = tdvps;
    this.tdcs = tdvps.tdcs;
  }
}

interface Leaf {
  readonly number: number;
  /** As the specification spells it: `TDH.MEM.PAGE.ADD`. */
  readonly name: string;
  /** Versions that RAX[23:16] may name. */
  readonly versions: readonly number[];
}

/** A host-side interface function. `run` does all checks, then the change, and gives RAX. */
export interface HostLeaf extends Leaf {
  /** The leaf itself refuses versions above those it has, when its first outputs are set. */
  readonly refusesVersions?: true;
  run(call: Call): bigint;
}

/**
 * A guest-side interface function. `run` gives RAX, or `null` if the TD exits or is interrupted instead; the instruction is
 * then repeated or completed as the exit says.
 */
export interface GuestLeaf extends Leaf {
  run(call: GuestCall): bigint | null;
}
