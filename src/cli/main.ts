#!/usr/bin/env node
/** The `softvt` command. */

import { defineCommand, renderUsage, runCommand } from 'citty';
import { SoftvtError } from '../util/errors.ts';
import { imagesCommand } from './images/command.ts';
import { VERSION } from './version.ts';

const command = defineCommand({
  meta: { name: 'softvt', version: VERSION, description: 'KVM in TypeScript on an emulated machine with VT-x' },
  subCommands: { images: imagesCommand },
});

const rawArgs = process.argv.slice(2);
try {
  if (rawArgs[0] === '--version') console.log(VERSION);
  else if (rawArgs.length === 0 || rawArgs[0] === '--help') console.log(await renderUsage(command));
  else await runCommand(command, { rawArgs });
} catch (error) {
  if (!(error instanceof Error)) throw error;
  console.error(`softvt: ${error instanceof SoftvtError ? error.line : error.message}`);
  process.exitCode = 2;
}
