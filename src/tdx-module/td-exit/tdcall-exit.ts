/**
 * TDCALL: finds the leaf, runs it, and completes the instruction.
 *
 * @tdx "ABI Reference: Interface Functions", TDCALL Instruction Common Operands
 */
import { RAX } from '../../machine/engine/layout.ts';
import { trace } from '../../util/trace.ts';

import type { GuestLeaf } from '../objects/call.ts';
import { operandInvalid } from '../objects/checks.ts';
import { writeOutputs } from '../objects/outputs.ts';
import { OPERAND, STATUS, status } from '../status.ts';
import { GUEST_LEAF_LIST } from '../tdg/index.ts';
import { TdCall } from '../tdg/td-call.ts';
import type { Guest } from './guest.ts';
import { asyncExit, type Routed } from './td-exit.ts';

/** RAX bits 63:24 are reserved: leaf in 15:0, version in 23:16. */
const RAX_RESERVED = ~0xff_ffffn;

const leaves: ReadonlyMap<number, GuestLeaf> = new Map(GUEST_LEAF_LIST.map((leaf) => [leaf.number, leaf]));

function run(call: TdCall, leaf: GuestLeaf | undefined): bigint | null {
  if (call.p.gpr(RAX) & RAX_RESERVED || !leaf?.versions.includes(call.version)) return operandInvalid(OPERAND.RAX);
  return leaf.run(call);
}

const isHostPriority = (rax: bigint): boolean => rax >> 32n === BigInt(STATUS.OPERAND_BUSY_HOST_PRIORITY);

/** TDs know of no host priority: the operand is busy. */
const asSeenByGuest = (rax: bigint): bigint =>
  isHostPriority(rax) ? status(STATUS.OPERAND_BUSY, Number(rax & 0xffff_ffffn)) : rax;

/** Whether the host has kept the TD from something for longer than it may. @tdx "Concurrency Restrictions", Host Priority */
function hostHoldsLock({ module, p, tdcs, tdvps }: Guest, rax: bigint): boolean {
  const waiting = tdvps.num('HP_LOCK_BUSY') !== 0;
  if (!isHostPriority(rax)) {
    if (waiting) tdvps.set('HP_LOCK_BUSY', 0);
    return false;
  }
  const now = module.platform.tsc(p);
  if (waiting && now - tdvps.get('HP_LOCK_BUSY_START') >= tdcs.get('HP_LOCK_TIMEOUT')) {
    tdvps.set('HP_LOCK_BUSY', 0);
    return true;
  }
  if (!waiting) {
    tdvps.set('HP_LOCK_BUSY', 1);
    tdvps.set('HP_LOCK_BUSY_START', now);
  }
  return false;
}

/** Handles the exit of TDCALL. A TD that exits meanwhile executes the instruction again, except TDG.VP.VMCALL. */
export function tdcallExit(guest: Guest): Routed {
  const { module, p, tdvps } = guest;
  if (!guest.mode64) {
    guest.injectGp();
    return null;
  }
  const call = new TdCall(module, p, tdvps, guest);
  const leaf = leaves.get(call.leaf);
  const rax = run(call, leaf);
  module.locks.releaseAll();
  const name = leaf?.name ?? 'unknown';
  tdvps.tdr.tdcalls.add(name);
  trace.tdx_tdcall?.(name, call.leaf, call.rcx, call.rdx, call.r8, rax ?? 0n);
  if (rax === null) {
    if (call.exit?.kind === 'tdvmcall') guest.advance();
    return call.exit;
  }
  p.setGpr(RAX, asSeenByGuest(rax));
  writeOutputs(p, call.out);
  guest.advance();
  return hostHoldsLock(guest, rax) ? asyncExit(0, { code: STATUS.HOST_PRIORITY_BUSY_TIMEOUT }) : null;
}
