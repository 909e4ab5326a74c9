/**
 * Which VM exits of a TD the module handles, which go to the host, and which end the TD.
 *
 * @tdx "ABI Reference: VCPU State", TD VM Exit Handling
 */
import { UD } from '../../machine/outcome.ts';
import { F } from '../../machine/vtx/field-slots.ts';
import { ENTRY_FAILURE, EVENT, INFO_VALID, REASON } from '../../machine/vtx/reasons.ts';
import { VCPU_STATE } from '../objects/tdvps.ts';
import { STATUS } from '../status.ts';
import { cpuidExit } from './cpuid-exit.ts';
import { eptMisconfiguration, eptViolation, notAccessibleExit } from './ept-exit.ts';
import { nmiWindowExit } from './events.ts';
import type { Guest } from './guest.ts';
import { injectVe } from './inject-ve.ts';
import { msrExit } from './msr-exit.ts';
import { crExit, xsetbvExit } from './register-exits.ts';
import { type AsyncExit, asyncExit, type Routed } from './td-exit.ts';
import { tdcallExit } from './tdcall-exit.ts';

const MACHINE_CHECK = 18;
/** Exit reasons that only newer processors have. */
const LOADIWK = 69;
const ENCLV = 70;
const PCONFIG = 65;
const ENQCMD = 72;
const ENQCMDS = 73;
const BUS_LOCK = 74;
const NOTIFICATION = 75;

/** Instructions that a TD asks the host for: #VE. */
const VE_REASONS: ReadonlySet<number> = new Set([
  REASON.HLT,
  REASON.IO,
  REASON.INVD,
  REASON.WBINVD,
  REASON.VMCALL,
  REASON.MWAIT,
  REASON.MONITOR,
  REASON.APIC_WRITE,
  PCONFIG,
]);

/** Instructions that a TD does not have: #UD. */
const UD_REASONS: ReadonlySet<number> = new Set([
  REASON.GETSEC,
  REASON.VMCLEAR,
  REASON.VMLAUNCH,
  REASON.VMPTRLD,
  REASON.VMPTRST,
  REASON.VMREAD,
  REASON.VMRESUME,
  REASON.VMWRITE,
  REASON.VMXOFF,
  REASON.VMXON,
  REASON.INVEPT,
  REASON.INVVPID,
  REASON.RSM,
  REASON.ENCLS,
  REASON.VMFUNC,
  REASON.SEAMCALL,
  ENCLV,
  ENQCMDS,
  LOADIWK,
]);

/** Exits that are the host's as they are. */
const HOST_REASONS: ReadonlySet<number> = new Set([
  REASON.EXTERNAL_INTERRUPT,
  REASON.INIT,
  REASON.SIPI,
  REASON.TASK_SWITCH,
  BUS_LOCK,
  NOTIFICATION,
]);

/** An exit that the host sees with its qualification and interruption information. */
const plainExit = ({ vmcs, reason, qualification }: Guest, code: number = STATUS.SUCCESS): AsyncExit =>
  asyncExit(reason, { code, qualification, interruption: vmcs.low(F.EXIT_INTERRUPTION_INFO) });

/** A VM exit that the TD's controls never cause: only the controls of a TD under debug can have been changed. */
const unexpected = (guest: Guest): AsyncExit =>
  plainExit(guest, guest.isDebug ? STATUS.SUCCESS : STATUS.NON_RECOVERABLE_TD);

function exceptionExit(guest: Guest): Routed {
  const info = guest.vmcs.low(F.EXIT_INTERRUPTION_INFO);
  if (info & INFO_VALID && ((info >>> 8) & 7) === EVENT.NMI) return plainExit(guest);
  return (info & 0xff) === MACHINE_CHECK ? notAccessibleExit(guest.reason, info) : unexpected(guest);
}

function tripleFault(guest: Guest): Routed {
  guest.tdvps.set('VCPU_STATE', VCPU_STATE.DISABLED);
  return plainExit(guest, STATUS.NON_RECOVERABLE_VCPU);
}

function done(handle: (guest: Guest) => void): (guest: Guest) => Routed {
  return (guest) => {
    handle(guest);
    return null;
  };
}

const HANDLERS: ReadonlyMap<number, (guest: Guest) => Routed> = new Map([
  [REASON.EXCEPTION_OR_NMI, exceptionExit],
  [REASON.TRIPLE_FAULT, tripleFault],
  [REASON.NMI_WINDOW, done(nmiWindowExit)],
  [REASON.CPUID, done(cpuidExit)],
  [REASON.RDMSR, done(msrExit)],
  [REASON.WRMSR, done(msrExit)],
  [REASON.XSETBV, done(xsetbvExit)],
  [REASON.RDPMC, done((guest) => guest.injectGp())],
  [REASON.CR_ACCESS, (guest) => (crExit(guest) ? null : unexpected(guest))],
  [REASON.EPT_VIOLATION, eptViolation],
  [REASON.EPT_MISCONFIGURATION, eptMisconfiguration],
  [REASON.MACHINE_CHECK, (guest) => notAccessibleExit(guest.reason)],
  [REASON.TDCALL, tdcallExit],
  [ENQCMD, done((guest) => guest.injectGp())],
]);

/** Decides what becomes of the VM exit that the VMCS records. */
export function routeExit(guest: Guest): Routed {
  const { reason } = guest;
  if (reason & ENTRY_FAILURE) {
    const machineCheck = (reason & 0xffff) === REASON.MACHINE_CHECK;
    return machineCheck ? notAccessibleExit(reason) : unexpected(guest);
  }
  const handler = HANDLERS.get(reason);
  if (handler !== undefined) return handler(guest);
  if (VE_REASONS.has(reason)) {
    injectVe(guest);
    return null;
  }
  if (UD_REASONS.has(reason)) {
    guest.injectFault(UD);
    return null;
  }
  return HOST_REASONS.has(reason) ? plainExit(guest) : unexpected(guest);
}
