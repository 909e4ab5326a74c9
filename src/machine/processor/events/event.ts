/** Events: what is delivered through the IDT, in the terms of the VMCS's interruption information. */
import { AC, DE, DF, GP, NO_ERROR, NP, PF, SS_FAULT, TS, VE } from '../../outcome.ts';

/** Interruption types. @sdm "VM-Entry Controls for Event Injection" */
export const EVENT = {
  external: 0,
  nmi: 2,
  exception: 3,
  /** INT n. */
  software: 4,
  /** INT1. */
  privilegedSoftwareException: 5,
  /** INT3 and INTO. */
  softwareException: 6,
} as const;

export interface Event {
  readonly vector: number;
  /** One of EVENT. */
  readonly type: number;
  /** NO_ERROR if none is pushed. */
  readonly errorCode: number;
  /** Of the instruction that caused it, for types 4 to 6: the return address is behind it. Else 0. */
  readonly instructionLength: number;
}

export const externalInterrupt = (vector: number): Event => ({
  vector,
  type: EVENT.external,
  errorCode: NO_ERROR,
  instructionLength: 0,
});
export const exception = (vector: number, errorCode: number = NO_ERROR): Event => ({
  vector,
  type: EVENT.exception,
  errorCode,
  instructionLength: 0,
});

/** Whether the return address is the instruction after the causing one. */
export const isSoftware = (event: Event): boolean => event.type >= EVENT.software;

/**
 * The EXT bit of error codes that arise while the event is delivered: set unless the program itself asked for it.
 *
 * @sdm "Error Code"; INT1 counts as external
 */
export const extOf = (event: Event): 0 | 1 =>
  event.type === EVENT.software || event.type === EVENT.softwareException ? 0 : 1;

/** Whether the gate's DPL has to allow the event at this CPL. */
export const isGateChecked = (event: Event): boolean =>
  event.type === EVENT.software || event.type === EVENT.softwareException;

/** Control protection, which processors with CET have. */
const CP = 21;

const CONTRIBUTORY: ReadonlySet<number> = new Set([DE, TS, NP, SS_FAULT, GP, CP]);
const PAGE_FAULTS: ReadonlySet<number> = new Set([PF, VE]);

/**
 * What a fault during the delivery of `first` leads to.
 *
 * @sdm "Interrupt 8—Double Fault Exception (#DF)", tables of classes and of conditions
 * @returns the event to deliver instead: the fault itself, #DF, or 'shutdown' for a triple fault
 */
export function combine(first: Event, vector: number, errorCode: number): Event | 'shutdown' {
  const second = exception(vector, errorCode);
  if (first.type !== EVENT.exception) return second;
  const contributory = CONTRIBUTORY.has(vector);
  const pageFault = PAGE_FAULTS.has(vector);
  if (first.vector === DF) return contributory || pageFault ? 'shutdown' : second;
  const double =
    (CONTRIBUTORY.has(first.vector) && contributory) || (PAGE_FAULTS.has(first.vector) && (contributory || pageFault));
  return double ? exception(DF, 0) : second;
}

const WITH_ERROR_CODE: ReadonlySet<number> = new Set([DF, TS, NP, SS_FAULT, GP, PF, AC, CP]);
/** Whether the exception pushes an error code in protected mode. */
export const pushesErrorCode = (vector: number): boolean => WITH_ERROR_CODE.has(vector);
