/**
 * Dispatches SEAMCALLs: which leaf is called, and whether the module's state lets it run.
 *
 * @tdx "ABI Reference: Interface Functions", SEAMCALL Instruction Common Operands
 */
import { RAX } from '../machine/engine/layout.ts';
import type { Processor } from '../machine/processor.ts';
import type { Hpa } from '../util/address.ts';
import { trace } from '../util/trace.ts';
import type { TdxModule } from './module.ts';
import { Call, type GuestLeaf, type HostLeaf } from './objects/call.ts';
import { operandInvalid } from './objects/checks.ts';
import { writeOutputs } from './objects/outputs.ts';
import { PT } from './objects/pamt.ts';
import { SYS_STATE } from './objects/system-state.ts';
import type { Tdr } from './objects/tdr.ts';
import { OPERAND, STATUS, status } from './status.ts';
import { GUEST_LEAF_LIST } from './tdg/index.ts';
import { HOST_LEAF_LIST } from './tdh/index.ts';

const byNumber = <L extends { readonly number: number }>(leaves: readonly L[]): ReadonlyMap<number, L> => {
  const map = new Map(leaves.map((leaf) => [leaf.number, leaf]));
  if (map.size !== leaves.length) throw new Error('two leaves with one number');
  return map;
};

export const HOST_LEAVES: ReadonlyMap<number, HostLeaf> = byNumber(HOST_LEAF_LIST);
export const GUEST_LEAVES: ReadonlyMap<number, GuestLeaf> = byNumber(GUEST_LEAF_LIST);

/** RAX bits 63:24 are reserved: leaf in 15:0, version in 23:16. */
const RAX_RESERVED = ~0xff_ffffn;

/** Leaves that run before the module is ready. */
const BEFORE_READY: ReadonlySet<number> = new Set([31, 32, 33, 34, 35, 37, 44, 45, 53]);
const SYS_LP_SHUTDOWN = 44;
/**
 * Leaves that run on a logical processor that has not been initialised: SYS.INIT, SYS.LP.INIT, SYS.LP.SHUTDOWN; and
 * SYS.INFO, SYS.RD and SYS.RDALL, which refuse themselves after setting their outputs.
 */
const BEFORE_LP_INIT: ReadonlySet<number> = new Set([32, 33, 34, 35, 37, SYS_LP_SHUTDOWN]);

/** Whether the module's state allows a leaf; the status if not. */
function gate(module: TdxModule, p: Processor, leaf: number): bigint | undefined {
  const { state, lps } = module.system;
  if (state === SYS_STATE.SYS_SHUTDOWN && leaf !== SYS_LP_SHUTDOWN) return status(STATUS.SYS_SHUTDOWN);
  if (state !== SYS_STATE.SYS_READY && state !== SYS_STATE.SYS_SHUTDOWN && !BEFORE_READY.has(leaf)) {
    return status(STATUS.SYS_NOT_READY);
  }
  if (!lps.has(p.index) && !BEFORE_LP_INIT.has(leaf)) return status(STATUS.SYS_LP_INIT_NOT_DONE);
  return undefined;
}

function runHostLeaf(module: TdxModule, call: Call, leaf: HostLeaf | undefined): bigint {
  const failure = module.hooks.fail?.(call);
  if (failure !== undefined) return failure;
  if (call.p.gpr(RAX) & RAX_RESERVED) return operandInvalid(OPERAND.RAX);
  const known = leaf !== undefined && (leaf.refusesVersions === true || leaf.versions.includes(call.version));
  if (call.version > 0 && !known) return operandInvalid(OPERAND.RAX);
  const closed = gate(module, call.p, call.leaf);
  if (closed !== undefined) return closed;
  return known ? leaf.run(call) : operandInvalid(OPERAND.RAX);
}

/**
 * Looks whether the leaf used private memory that somebody had overwritten. On a processor that is a machine check, which
 * takes the platform down; here it is the end of the TD whose page it was, or, if it was an entry of the PAMT, of the TD
 * that the call is about.
 */
function machineCheck(module: TdxModule): boolean {
  const { keyed } = module.platform;
  const line = keyed.machineCheck;
  if (line < 0) return false;
  keyed.machineCheck = -1;
  const owner = ownerOf(module, line);
  for (const tdr of owner === undefined ? module.locks.pages.map((page) => ownerOf(module, page)) : [owner]) {
    tdr?.setFatal();
  }
  return true;
}

/** The TD that has a page. */
function ownerOf(module: TdxModule, pa: Hpa): Tdr | undefined {
  const entry = module.pamt.lookup(pa);
  if (entry === null || entry.pageType === PT.NDA || entry.pageType === PT.RSVD) return undefined;
  return module.tdrAt(entry.pageType === PT.TDR ? entry.page : entry.owner);
}

/** Runs one SEAMCALL to completion. */
export function dispatchHostCall(module: TdxModule, p: Processor): void {
  const call = new Call(module, p);
  const leaf = HOST_LEAVES.get(call.leaf);
  const result = runHostLeaf(module, call, leaf);
  const rax = machineCheck(module) ? status(STATUS.TD_FATAL) : result;
  p.setGpr(RAX, rax);
  writeOutputs(p, call.out);
  const name = leaf?.name ?? 'unknown';
  module.seamcalls.add(name);
  call.td?.seamcalls.add(name);
  trace.tdx_seamcall?.(name, call.leaf, call.rcx, call.rdx, call.r8, rax);
}
