/**
 * What else is collected: the functions through which every exit, failure and entry goes report themselves.
 */

/** What the cases made happen; lists hold the files of the cases, by key. */
export interface Collected {
  /** By number of the check. */
  readonly checks: Record<string, string[]>;
  /** By exit reason and qualification in hexadecimal digits: `28 300`. */
  readonly exits: Record<string, string[]>;
  /** By reason and qualification of failed entries. */
  readonly failedEntries: Record<string, string[]>;
  /** By number. */
  readonly vmFails: Record<string, string[]>;
  /** By indicator. */
  readonly aborts: Record<string, string[]>;
  /** By control word and bit, of entries that succeeded: `pin 80`. */
  readonly controls: Record<string, string[]>;
}

/** File, function, and the statement that it starts with. */
export const REPORTS: readonly (readonly [file: string, func: string, statement: string])[] = [
  [
    'src/machine/vtx/exit.ts',
    'recordInformation',
    `globalThis.vtxEvent('exits', v.exit.reason + ' ' + v.exit.qualification.toString(16));`,
  ],
  [
    'src/machine/vtx/exit.ts',
    'failEntry',
    `globalThis.vtxEvent('failedEntries', reason + ' ' + qualification.toString(16));`,
  ],
  ['src/machine/vtx/exit.ts', 'abort', `globalThis.vtxEvent('aborts', String(indicator));`],
  ['src/machine/vtx/operations.ts', 'vmFail', `if (v.current !== null) globalThis.vtxEvent('vmFails', String(error));`],
  [
    'src/machine/vtx/load-guest.ts',
    'loadNonRegisterState',
    `for (const [word, value] of Object.entries({ pin: v.pin, primary: v.primary, secondary: v.secondary, tertiary: v.tertiary, exit: v.exitControls, entry: v.entryControls }))
      for (let bit = 0; bit < 32; bit++) if ((value >>> bit) & 1) globalThis.vtxEvent('controls', word + ' ' + ((1 << bit) >>> 0).toString(16));`,
  ],
];

/** The text with a statement at the start of a function; throws where the function is not there. */
export function reporting(text: string, func: string, statement: string): string {
  const at = new RegExp(`^(?:export )?function ${func}\\(.*\\): \\w+ \\{$`, 'm').exec(text);
  if (at === null) throw new Error(`there is no function ${func} any more`);
  const start = at.index + at[0].length;
  return `${text.slice(0, start)} ${statement.replaceAll('\n', ' ')}${text.slice(start)}`;
}
