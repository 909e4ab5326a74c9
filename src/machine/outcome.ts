/**
 * What became of an instruction, a memory access or an event delivery done in TypeScript.
 *
 * Faults and VM exits are values: the details are on the Processor (fault*, exit*), these codes travel as results.
 */

/** Complete; RIP advances by the instruction's length. */
export const DONE = 0;
/** An exception is pending in processor.fault. RIP is still at the instruction. */
export const FAULT = 1;
/** A VM exit is recorded in processor.vtx.exit and will be taken. */
export const VMEXIT = 2;
/** Complete, and RIP has been set. */
export const JUMPED = 3;
export type Outcome = 0 | 1 | 2 | 3;

/** Exception vectors. @sdm "Exception and Interrupt Reference" */
export const DE = 0;
export const DB = 1;
export const NMI = 2;
export const BP = 3;
export const OF = 4;
export const BR = 5;
export const UD = 6;
export const NM = 7;
export const DF = 8;
export const TS = 10;
export const NP = 11;
export const SS_FAULT = 12;
export const GP = 13;
export const PF = 14;
export const MF = 16;
export const AC = 17;
export const XM = 19;
export const VE = 20;

/** No error code. */
export const NO_ERROR = -1;
