/**
 * Writes docs/vtx-coverage.md: each check on VM entry, VMfail number, exit reason and qualification and control bit of the
 * tables, with the files whose cases make it happen, and what none does.
 *
 * The cases are run, watched: what is listed as covered did happen in a case that says what must come of it.
 *
 * `node tools/vtx-coverage.ts`
 */
import { writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { vmxCapabilities } from '../src/machine/vtx/capabilities.ts';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN, PRIMARY, SECONDARY, TERTIARY } from '../src/machine/vtx/controls.ts';
import { REASON, VM_ERROR, VMX_ABORT } from '../src/machine/vtx/reasons.ts';
import { CHECK_FILES, entryChecks, ROOT } from './vtx-coverage/checks.ts';
import { collect } from './vtx-coverage/collect.ts';
import { FAILED_ENTRIES, MEANINGS, NOT_MODELLED } from './vtx-coverage/qualifications.ts';

export const DOCUMENT: string = join(ROOT, 'docs/vtx-coverage.md');

/** A line of the list: what it is, and the files of its cases. */
export interface Item {
  readonly section: string;
  readonly name: string;
  readonly cases: readonly string[];
  /** Why there can be no case. */
  readonly absent?: string;
}

const cell = (text: string): string => text.replaceAll('|', '\\|');
const code = (text: string): string => `\`${cell(text)}\``;

/** What the machine does not offer cannot happen on it. */
const ABSENT_REASONS: Partial<Record<keyof typeof REASON, string>> = {
  MACHINE_CHECK: 'entries during which a machine check comes do not occur',
  INVALID_GUEST_STATE: 'a failed entry: see there',
  MSR_LOADING: 'a failed entry: see there',
  GETSEC: 'not an instruction of this processor: #UD',
  RSM: 'outside SMM #UD, and there is no SMM',
  ENCLS: 'not an instruction of this processor: #UD',
  XSAVES: 'no state component that XSS selects is there',
  XRSTORS: 'no state component that XSS selects is there',
  UMWAIT: 'not an instruction of this processor: #UD',
  TPAUSE: 'not an instruction of this processor: #UD',
};
const ABSENT_ERRORS: Partial<Record<keyof typeof VM_ERROR, string>> = {
  READ_ONLY_FIELD: 'VMWRITE may write every field (bit 29 of IA32_VMX_MISC)',
};

/** The list, from the tables and from a watched run. */
export function items(): Item[] {
  const entry = entryChecks();
  const seen = collect(entry);
  const list: Item[] = [];
  for (const [file, section] of CHECK_FILES) {
    entry.checks.forEach(({ file: of, rule, condition, failsWhen }, id) => {
      if (of !== file) return;
      const name = `${rule}: fails ${failsWhen ? 'if' : 'unless'} ${code(condition)}`;
      list.push({ section: `Check: ${section}`, name, cases: seen.checks[id] ?? [] });
    });
  }
  for (const [key, text] of FAILED_ENTRIES)
    list.push({ section: 'Failed entries: qualification', name: text, cases: seen.failedEntries[key] ?? [] });
  for (const [name, number] of Object.entries(VM_ERROR) as [keyof typeof VM_ERROR, number][]) {
    const absent = ABSENT_ERRORS[name];
    const item: Item = { section: 'VMfail numbers', name: `${number} ${name}`, cases: seen.vmFails[number] ?? [] };
    list.push(absent === undefined ? item : { ...item, absent });
  }
  for (const [name, number] of Object.entries(VMX_ABORT))
    list.push({ section: 'VMX aborts', name: `${number} ${name}`, cases: seen.aborts[number] ?? [] });
  const exits = Object.entries(seen.exits).map(([key, cases]) => {
    const [reason, qualification] = key.split(' ');
    return { reason: Number(reason), qualification: BigInt(`0x${qualification}`), cases };
  });
  const merged = (groups: readonly { readonly cases: readonly string[] }[]): string[] =>
    [...new Set(groups.flatMap(({ cases }) => cases))].sort();
  for (const [name, number] of Object.entries(REASON) as [keyof typeof REASON, number][]) {
    const ofReason = exits.filter(({ reason }) => reason === number);
    const absent = ABSENT_REASONS[name];
    const item: Item = { section: 'Exit reasons', name: `${number} ${name}`, cases: merged(ofReason) };
    list.push(absent === undefined ? item : { ...item, absent });
    for (const { text, holds } of MEANINGS.filter(({ reason }) => reason === name)) {
      const cases = merged(ofReason.filter(({ qualification }) => holds(qualification)));
      list.push({ section: 'Exit reasons', name: `${number} ${name}: ${text}`, cases });
    }
  }
  const c = vmxCapabilities('tdx-host');
  const words: [string, string, Readonly<Record<string, number>>, number][] = [
    ['pin', 'Pin-based controls', PIN, c.pin.mayBeOne],
    ['primary', 'Primary controls', PRIMARY, c.primary.mayBeOne],
    ['secondary', 'Secondary controls', SECONDARY, c.secondary.mayBeOne],
    ['tertiary', 'Tertiary controls', TERTIARY, c.tertiary],
    ['exit', 'Exit controls', EXIT_CONTROL, c.exit.mayBeOne],
    ['entry', 'Entry controls', ENTRY_CONTROL, c.entry.mayBeOne],
  ];
  for (const [word, section, bits, offered] of words) {
    for (const [name, bit] of Object.entries(bits)) {
      const item: Item = { section, name, cases: seen.controls[`${word} ${bit.toString(16)}`] ?? [] };
      list.push(
        (offered & bit) !== 0 ? item : { ...item, absent: 'not offered: the check of the control word refuses it' },
      );
    }
  }
  return list;
}

const line = ({ name, cases, absent }: Item): string =>
  `| ${name} | ${cases.length > 0 ? cases.map((file) => basename(file, '.test.ts')).join(', ') : (absent ?? '**none**')} |`;

/** The document. */
export function render(list: readonly Item[]): string {
  const missing = list.filter(({ cases, absent }) => cases.length === 0 && absent === undefined);
  const sections = new Set(list.map(({ section }) => section));
  return [
    '# VT-x conformance',
    '',
    'Generated by `node tools/vtx-coverage.ts`: the list from the tables of `src/machine/vtx` and from the conditions of its',
    'checks, the cases by watching them run. A check counts as covered when a case was stopped by it; a VMfail number, an',
    'exit, or a qualification when a case got it; a control bit when a case ran a guest with it. Random cases do not count.',
    'Names are those of the test files. A check that the code does not make cannot be in the list.',
    '',
    '## Not covered',
    '',
    `${list.length - missing.length} of ${list.length} items have a case, or cannot have one. None have:`,
    '',
    ...(missing.length === 0 ? ['* nothing in the list'] : missing.map(({ section, name }) => `* ${section}: ${name}`)),
    '',
    'Outside the list:',
    '',
    ...NOT_MODELLED.map((text) => `* ${text}`),
    '',
    ...[...sections].flatMap((title) => [
      `## ${title}`,
      '',
      '| what | cases |',
      '|---|---|',
      ...list.filter(({ section }) => section === title).map(line),
      '',
    ]),
  ].join('\n');
}

if (import.meta.main) writeFileSync(DOCUMENT, render(items()));
