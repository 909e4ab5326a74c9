/**
 * SEAMCALL as the host kernel makes it: operands in registers, one status out of what the instruction did, and patience
 * with a module that has run out of entropy.
 *
 * @upstream arch/x86/virt/vmx/tdx/seamcall.S, tdxcall.S, arch/x86/include/asm/tdx.h sc_retry()
 */
import { GPR } from '../machine/engine/layout.ts';
import { seamcall as seamcallInstruction } from '../machine/seam/seamcall.ts';
import type { Cpu } from './cpus.ts';
import {
  TDX_RND_NO_ENTROPY,
  TDX_SEAMCALL_GP,
  TDX_SEAMCALL_UD,
  TDX_SEAMCALL_VMFAILINVALID,
  TDX_SW_ERROR,
  tdxStatus,
} from './tdx-errno.ts';

/** Operands; what is left out is 0. */
export interface SeamcallArgs {
  readonly rcx?: bigint | number;
  readonly rdx?: bigint | number;
  readonly r8?: bigint | number;
  readonly r9?: bigint | number;
  readonly r10?: bigint | number;
  readonly r11?: bigint | number;
}

/** What came back. */
export interface SeamcallResult {
  /** RAX, or one of the kernel's own codes. */
  readonly rax: bigint;
  readonly rcx: bigint;
  readonly rdx: bigint;
  readonly r8: bigint;
  readonly r9: bigint;
  readonly r10: bigint;
  readonly r11: bigint;
}

/** Register numbers. */
const RAX = 0;
const RCX = 1;
const RDX = 2;
const UD_VECTOR = 6;
const GP_VECTOR = 13;
/** Bits of what the instruction gives back. */
const FAULTED = 0x100;

/** @upstream RDRAND_RETRY_LOOPS */
const RETRY_LOOPS = 10;
const VERSION_SHIFT = 16;

/** RAX of a leaf and its version. */
const leafOf = (leaf: number, version: number): bigint => BigInt(leaf | (version << VERSION_SHIFT));

/** The kernel's status for what the instruction came to, or RAX where it completed. */
function statusOf(outcome: number, rax: bigint): bigint {
  if (outcome === 0) return rax;
  if (outcome === 1) return TDX_SEAMCALL_VMFAILINVALID;
  if (outcome === (FAULTED | UD_VECTOR)) return TDX_SEAMCALL_UD;
  if (outcome === (FAULTED | GP_VECTOR)) return TDX_SEAMCALL_GP;
  return TDX_SW_ERROR | BigInt(outcome & 0xff);
}

/** One SEAMCALL on `cpu`, which is the current one. @upstream __seamcall_ret() */
export function seamcallOnce(cpu: Cpu, leaf: number, args: SeamcallArgs = {}, version = 0): SeamcallResult {
  const p = cpu.processor;
  p.setGpr(RAX, leafOf(leaf, version));
  p.setGpr(RCX, BigInt(args.rcx ?? 0));
  p.setGpr(RDX, BigInt(args.rdx ?? 0));
  p.setGpr(8, BigInt(args.r8 ?? 0));
  p.setGpr(9, BigInt(args.r9 ?? 0));
  p.setGpr(10, BigInt(args.r10 ?? 0));
  p.setGpr(11, BigInt(args.r11 ?? 0));
  const outcome = seamcallInstruction(p);
  return {
    rax: statusOf(outcome, p.gpr(RAX)),
    rcx: p.gpr(RCX),
    rdx: p.gpr(RDX),
    r8: p.gpr(8),
    r9: p.gpr(9),
    r10: p.gpr(10),
    r11: p.gpr(11),
  };
}

/** The same, again while the module has no entropy, up to ten times. @upstream seamcall_ret() */
export function seamcall(cpu: Cpu, leaf: number, args: SeamcallArgs = {}, version = 0): SeamcallResult {
  for (let retry = RETRY_LOOPS; ; ) {
    const result = seamcallOnce(cpu, leaf, args, version);
    if (tdxStatus(result.rax) !== TDX_RND_NO_ENTROPY || --retry <= 0) return result;
  }
}

/** The sixteen general registers of an entry, which the exit changes: what one leaves is what the next begins with. */
export class VpEnterArgs {
  readonly regs: BigUint64Array = new BigUint64Array(16);
  readonly #words: Uint32Array = new Uint32Array(this.regs.buffer);

  /** Makes the call on `cpu` and gives its status. No retries: an entry is not repeated behind the caller's back. */
  seamcall(cpu: Cpu, leaf: number): bigint {
    const p = cpu.processor;
    const { machine } = p;
    machine.activate(p);
    this.regs[RAX] = BigInt(leaf);
    const { view } = machine.memory;
    for (let i = 0; i < 32; i++) view.setUint32(GPR + i * 4, this.#words[i]!, true);
    const outcome = seamcallInstruction(p);
    // The registers of the running processor are at GPR, also after it ran a guest.
    machine.activate(p);
    for (let i = 0; i < 32; i++) this.#words[i] = view.getUint32(GPR + i * 4, true);
    return statusOf(outcome, this.regs[RAX]!);
  }
}
