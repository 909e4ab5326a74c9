/**
 * How a TD exits to the host: what TDH.VP.ENTER will report.
 *
 * @tdx "TDH.VP.ENTER", Output Operands
 */
import { STATUS } from '../status.ts';

/** An exit that the TD did not ask for. */
export interface AsyncExit {
  readonly kind: 'async';
  /** Bits 63:32 of RAX: SUCCESS, or why the virtual processor or the TD cannot go on. */
  readonly code: number;
  /** Exit reason, as VMX has it; bits 31:0 of RAX. */
  readonly reason: number;
  readonly qualification: bigint;
  readonly extended: bigint;
  /** Guest-physical address; 0 where the exit has none. */
  readonly gpa: bigint;
  /** VM-exit interruption information. */
  readonly interruption: number;
}

/** TDG.VP.VMCALL: registers that the mask in the TD's RCX selects go to the host. */
export interface TdvmcallExit {
  readonly kind: 'tdvmcall';
}

export type TdExit = AsyncExit | TdvmcallExit;

/** What became of a VM exit of a TD: the way it exits to the host, or null if the TD goes on. */
export type Routed = TdExit | null;

export const TDVMCALL_EXIT: TdvmcallExit = { kind: 'tdvmcall' };

/** An asynchronous exit, successful unless the details say otherwise. */
export function asyncExit(reason: number, details: Partial<Omit<AsyncExit, 'kind' | 'reason'>> = {}): AsyncExit {
  return {
    kind: 'async',
    reason,
    code: STATUS.SUCCESS,
    qualification: 0n,
    extended: 0n,
    gpa: 0n,
    interruption: 0,
    ...details,
  };
}
