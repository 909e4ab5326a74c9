/** Checks a command's arguments strictly, which citty does not: every mistake is one line. */

import type { ArgsDef } from 'citty';
import { SoftvtError } from '../util/errors.ts';

/** A mistake in how softvt was called. */
export function usageError(message: string, hint?: string): SoftvtError {
  return new SoftvtError('ERR_SOFTVT_USAGE', message, hint === undefined ? {} : { hint });
}

/** Commands that take any number of words. */
const VARIADIC: readonly string[] = ['images fetch'];

/** Throws ERR_SOFTVT_USAGE on an option the command does not have, a missing or superfluous value, or a stray word. */
export function checkArguments(command: string, rawArgs: readonly string[], args: ArgsDef): void {
  const hint = `softvt ${command} --help`;
  let positionals = VARIADIC.includes(command)
    ? Number.POSITIVE_INFINITY
    : Object.values(args).filter(({ type }) => type === 'positional').length;
  for (let n = 0; n < rawArgs.length; n++) {
    const word = rawArgs[n]!;
    if (!word.startsWith('-') || word === '-') {
      if (positionals === 0) throw usageError(`'${word}' is one argument too many`, hint);
      positionals--;
      continue;
    }
    const [name = '', value] = splitOption(word);
    const plain = args[name];
    const negated = name.startsWith('no-') ? args[name.slice(3)] : undefined;
    if (plain === undefined && negated?.type !== 'boolean') {
      throw usageError(`there is no option ${word.split('=')[0]}`, hint);
    }
    if (plain === undefined || plain.type === 'boolean') {
      if (value !== undefined) throw usageError(`--${name} takes no value`, hint);
    } else if (value === undefined) {
      n++;
      if (n >= rawArgs.length) throw usageError(`--${name} needs a value`, hint);
    }
  }
}

/** All values of an option that may be given several times, in order; the rest of the arguments has been checked. */
export function optionValues(rawArgs: readonly string[], option: string): string[] {
  return rawArgs.flatMap((word, n) => {
    const [name, value] = splitOption(word);
    return name === option ? [value ?? rawArgs[n + 1] ?? ''] : [];
  });
}

function splitOption(word: string): [string, string | undefined] {
  const name = word.startsWith('--') ? word.slice(2) : '';
  const equals = name.indexOf('=');
  return equals < 0 ? [name, undefined] : [name.slice(0, equals), name.slice(equals + 1)];
}

const UNITS: Readonly<Record<string, number>> = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** `256M`, `1G`, `262144K`; a bare number is MiB. Bytes. */
export function parseSize(option: string, text: string): number {
  const match = /^(\d{1,9})([KMG]?)B?$/i.exec(text);
  if (match === null) throw usageError(`${option} wants a size like 256M, not '${text}'`);
  return Number(match[1]) * UNITS[match[2]?.toUpperCase() || 'M']!;
}

/** A whole number in a range. */
export function parseInteger(option: string, text: string, least: number, most: number): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most)) {
    throw usageError(`${option} wants a number from ${least} to ${most}, not '${text}'`);
  }
  return value;
}
