/** What an MSR is: a row of the table, and the few kinds of rows. */

import { isCanonicalBase } from '../processor/canonical.ts';
import type { Processor } from '../processor.ts';

export interface MsrRow {
  readonly index: number;
  /** As in the SDM's table of MSRs. */
  readonly name: string;
  /** CPUID feature without which the MSR does not exist, '' if it always does. */
  readonly feature: string;
  /** Value that firmware leaves; kept in Processor.msrs. Undefined for an MSR that lives elsewhere. */
  readonly initial: bigint | undefined;
  /** Undefined for #GP. */
  read(p: Processor): bigint | undefined;
  /** False for #GP; then nothing has changed. */
  write(p: Processor, value: bigint): boolean;
}

/** Says which values may be written. */
export type Check = (value: bigint, p: Processor) => boolean;

export const anyValue: Check = () => true;
export const canonical: Check = (value, p) => isCanonicalBase(p, value);
/** Only these bits may be set. */
export const onlyBits =
  (bits: bigint): Check =>
  (value) =>
    (value & ~bits) === 0n;
export const upTo32Bits: Check = onlyBits(0xffff_ffffn);

const readOnly = (): boolean => false;
const noRead = (): undefined => undefined;

/** An MSR that keeps what is written. */
export function stored(index: number, name: string, check: Check, initial = 0n, feature = ''): MsrRow {
  return {
    index,
    name,
    feature,
    initial,
    read: (p) => p.msrs.get(index) ?? initial,
    write: (p, value) => {
      if (!check(value, p)) return false;
      p.msrs.set(index, value);
      return true;
    },
  };
}

/** A read-only MSR. */
export function constant(
  index: number,
  name: string,
  value: bigint | ((p: Processor) => bigint),
  feature = '',
): MsrRow {
  const read = typeof value === 'bigint' ? () => value : value;
  return { index, name, feature, initial: undefined, read, write: readOnly };
}

/** An MSR whose value lives in the processor. */
export function live(
  index: number,
  name: string,
  read: (p: Processor) => bigint,
  write: (p: Processor, value: bigint) => boolean,
  feature = '',
): MsrRow {
  return { index, name, feature, initial: undefined, read, write };
}

/** A command: reads fault, writes that pass the check have no effect that a program could see. */
export function command(index: number, name: string, check: Check, feature = ''): MsrRow {
  return { index, name, feature, initial: undefined, read: noRead, write: (p, value) => check(value, p) };
}
