/**
 * The TDX backend. So far: bringing up the TDX module at load, and refusing trust domains with the reason.
 *
 * @upstream arch/x86/kvm/vmx/tdx.c
 */
import type { Cpus } from '../../../host/cpus.ts';
import { ENODEV, type Errno } from '../../../host/errno.ts';
import type { Host } from '../../../host/host.ts';

/** Whether trust domains can be created, and why not. @upstream enable_tdx */
export interface TdxState {
  readonly enabled: boolean;
  readonly reason: string;
}

const NOT_INITIALISED: TdxState = { enabled: false, reason: 'TDX is not initialised' };
const states: WeakMap<Cpus, TdxState> = new WeakMap();

/**
 * Initialises the TDX module; VMX is on on every CPU. A missing module disables TDX and the load goes on; any other
 * failure fails the load.
 *
 * @upstream tdx_bringup()
 */
export function tdxBringup(host: Host): Errno {
  const { result, reason } = host.tdx.enable();
  states.set(host.cpus, { enabled: result === 0, reason });
  if (result === 0) return 0;
  host.log(`kvm: TDX is disabled: ${reason}`);
  return result === -ENODEV ? 0 : result;
}

/** @upstream tdx_cleanup(): the module itself stays as it is. */
export function tdxCleanup(host: Host): void {
  states.delete(host.cpus);
}

/** Whether TDs can be created. */
export const tdxState = (host: Host): TdxState => states.get(host.cpus) ?? NOT_INITIALISED;
