#!/usr/bin/env node
/** The `softvt` command. */

import module from 'node:module';
import { stripVTControlCharacters } from 'node:util';
import type { StartGuest, StartGuests } from '../vmm/guest-run.ts';
import { runCli } from './cli.ts';
import { setV8Flags } from './v8-flags.ts';

setV8Flags();

// Where Node can keep compiled code between runs (22.8), starting takes half the time.
module.enableCompileCache?.();

/** The machine is loaded when a guest starts: help and lists need none of it. */
async function load(): Promise<typeof import('../index.ts')> {
  const translator = process.env['SOFTVT_TRANSLATOR'];
  if (translator !== undefined && translator !== '') {
    const { setTranslatorDefaults } = await import('../machine/engine/translator/defaults.ts');
    if (!setTranslatorDefaults(translator)) throw new Error('SOFTVT_TRANSLATOR is on, off or a number from 1 to 65535');
  }
  return await import('../index.ts');
}
const startGuest: StartGuest = async (config, console) => (await load()).startGuest(config, console);
const startGuests: StartGuests = async (guests) => (await load()).startGuests(guests);

const debug = process.env['SOFTVT_DEBUG'] !== undefined && process.env['SOFTVT_DEBUG'] !== '';

function internalError(error: unknown): never {
  const message = error instanceof Error ? error.message : String(error);
  console.error(`softvt: internal error: ${message.split('\n')[0]} (SOFTVT_DEBUG=1 shows where)`);
  if (debug && error instanceof Error) console.error(error.stack);
  process.exit(3);
}
process.on('uncaughtException', internalError);
process.on('unhandledRejection', internalError);

const code = await runCli(process.argv.slice(2), {
  process,
  startGuest,
  startGuests,
  now: () => performance.now(),
  print: (text) => console.log(process.stdout.isTTY ? text : stripVTControlCharacters(text)),
  complain: (line) => console.error(line),
  debug,
});
// A guest that was stopped may leave timers behind; what was printed goes out first, unless nobody takes it.
process.exitCode = code;
process.stdout.write('', () => process.exit(code));
setTimeout(() => process.exit(code), 1000);
