/** Running a TD until an exit that is the host's: VM exits that the module handles lead back into the TD. */
import type { Processor } from '../../machine/processor.ts';
import { TdRun } from '../../machine/seam/td-run.ts';
import { F } from '../../machine/vtx/field-slots.ts';
import { VM_SUCCEED } from '../../machine/vtx/operation.ts';
import { ENTRY_FAILURE, REASON } from '../../machine/vtx/reasons.ts';
import type { TdxModule } from '../module.ts';
import type { Tdvps } from '../objects/tdvps.ts';
import { STATUS } from '../status.ts';
import { notAccessibleExit } from './ept-exit.ts';
import { openNmiWindow, redeliver } from './events.ts';
import { Guest } from './guest.ts';
import { injectVe } from './inject-ve.ts';
import { routeExit } from './route.ts';
import { asyncExit, type TdExit } from './td-exit.ts';

/** The controls of the TD's VMCS are not valid any more, which only a host that wrote to them can have caused. */
const controlsExit = (error: number): TdExit =>
  asyncExit((REASON.INVALID_GUEST_STATE | ENTRY_FAILURE) >>> 0, {
    code: STATUS.NON_RECOVERABLE_TD,
    qualification: BigInt(error),
  });

function untilExit(module: TdxModule, td: TdRun, guest: Guest): TdExit {
  const { keyed } = module.platform;
  const { vmcs } = guest;
  for (;;) {
    // A line of the TD's own structures that somebody overwrote.
    if (keyed.machineCheck !== -1) {
      keyed.machineCheck = -1;
      return notAccessibleExit(REASON.MACHINE_CHECK);
    }
    if (td.enter() !== VM_SUCCEED) return controlsExit(vmcs.low(F.INSTRUCTION_ERROR));
    guest.zeroStep.exited();
    const exit = routeExit(guest);
    redeliver(vmcs);
    if (exit !== null) return exit;
  }
}

/**
 * Enters the TD again and again until an exit goes to the host. The TD's registers are in the processor.
 * @param notify the TD gets a #VE for the EPT violation that was its last exit
 */
export function runUntilExit(module: TdxModule, p: Processor, tdvps: Tdvps, notify: boolean): TdExit {
  openNmiWindow(tdvps);
  const guest = new Guest(module, p, tdvps);
  if (notify) injectVe(guest, { gpa: tdvps.vmcs.get64(F.GUEST_PHYSICAL_ADDRESS) });
  const td = new TdRun(p, guest.vmcs);
  const exit = untilExit(module, td, guest);
  td.end();
  return exit;
}
