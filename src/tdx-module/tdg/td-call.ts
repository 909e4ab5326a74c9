/** A TDCALL with the virtual processor that executed it: what the guest-side leaves work on. */
import type { Processor } from '../../machine/processor.ts';
import type { TdxModule } from '../module.ts';
import { GuestCall } from '../objects/call.ts';
import type { Tdvps } from '../objects/tdvps.ts';
import type { Guest } from '../td-exit/guest.ts';
import type { TdExit } from '../td-exit/td-exit.ts';

export class TdCall extends GuestCall {
  readonly guest: Guest;
  /** How the TD exits where a leaf gives null for its status. */
  exit: TdExit | null = null;

  constructor(module: TdxModule, p: Processor, tdvps: Tdvps, guest: Guest) {
    super(module, p, tdvps);
    this.guest = guest;
  }

  /** The leaf ends with this exit of the TD. */
  exitTd(exit: TdExit): null {
    this.exit = exit;
    return null;
  }
}
