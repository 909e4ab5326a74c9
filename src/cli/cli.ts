/** The command line: finds the command, checks its arguments, runs it, and turns what happens into an exit code. */

import { type ArgsDef, type CommandDef, defineCommand, renderUsage, runCommand } from 'citty';
import { SoftvtError } from '../util/errors.ts';
import { type DemoImages, demoCommandWith, fetchDemoImages } from './commands/demo.ts';
import { doctorCommandWith } from './commands/doctor.ts';
import { runCommandWith } from './commands/run.ts';
import type { SessionEnvironment } from './guest-session.ts';
import { checkArguments, usageError } from './usage.ts';
import { VERSION } from './version.ts';

/** Exit codes that are not the guest's. */
const EXIT_USAGE = 2;
const EXIT_INTERNAL = 3;

/** What the command line needs from its surroundings. */
export interface CliEnvironment extends SessionEnvironment {
  /** Prints what was asked for: help, lists. */
  readonly print: (text: string) => void;
  /** Prints a line on stderr. */
  readonly complain: (line: string) => void;
  /** Show stacks of internal errors. */
  readonly debug: boolean;
  readonly demoImages?: DemoImages;
}

type AnyCommand = CommandDef<ArgsDef>;
type Commands = Readonly<Record<string, () => Promise<AnyCommand>>>;

/** Every command, loaded when it is wanted. */
function commandsOf(environment: CliEnvironment, exit: (code: number) => void): Commands {
  const any = (command: unknown): AnyCommand => command as AnyCommand;
  return {
    run: async () => any(runCommandWith(environment, exit)),
    demo: async () => any(demoCommandWith(environment, environment.demoImages ?? fetchDemoImages, exit)),
    images: async () => any((await import('./images/command.ts')).imagesCommand),
    measure: async () => any((await import('./commands/measure.ts')).measureCommandWith(environment.print)),
    profile: async () => any((await import('./commands/profile.ts')).profileCommandWith(environment, exit)),
    doctor: async () => any(doctorCommandWith(exit)),
  };
}

/** Runs one command line. Never throws; gives the exit code. */
export async function runCli(rawArgs: readonly string[], environment: CliEnvironment): Promise<number> {
  let code = 0;
  const commands = commandsOf(environment, (value) => {
    code = value;
  });
  try {
    await dispatch(rawArgs, commands, environment);
    return code;
  } catch (error) {
    return complain(error, environment);
  }
}

async function dispatch(rawArgs: readonly string[], commands: Commands, { print }: CliEnvironment): Promise<void> {
  const root = defineCommand({
    meta: { name: 'softvt', version: VERSION, description: 'Linux’s KVM on an emulated machine with VT-x and TDX' },
    subCommands: commands as never,
  });
  const [name] = rawArgs;
  if (name === undefined || name === '--help' || name === '-h') return print(await renderUsage(root));
  if (name === '--version' || name === '-v') return print(VERSION);
  if (name.startsWith('-')) throw usageError(`there is no option ${name.split('=')[0]}`, 'softvt --help');
  if (!Object.hasOwn(commands, name)) throw usageError(`there is no command '${name}'`, 'softvt --help');
  let parent: CommandDef = root;
  let command = await commands[name]!();
  let rest = rawArgs.slice(1);
  let path = name;
  for (;;) {
    const subCommands = (await resolve(command.subCommands)) as Record<string, unknown> | undefined;
    const word = rest[0];
    if (subCommands === undefined || word === undefined || !Object.hasOwn(subCommands, word)) break;
    parent = command as unknown as CommandDef;
    command = (await resolve(subCommands[word])) as AnyCommand;
    rest = rest.slice(1);
    path = `${path} ${word}`;
  }
  if (rest.some((word) => word === '--help' || word === '-h')) {
    return print(await renderUsage(command as unknown as CommandDef, parent));
  }
  const args = ((await resolve(command.args)) ?? {}) as ArgsDef;
  if (command.subCommands !== undefined && rest[0] !== undefined && !rest[0].startsWith('-')) {
    throw usageError(`there is no command '${path} ${rest[0]}'`, `softvt ${path} --help`);
  }
  checkArguments(path, rest, args);
  await runCommand(command as unknown as CommandDef, { rawArgs: rest });
}

async function resolve(value: unknown): Promise<unknown> {
  return typeof value === 'function' ? await (value as () => unknown)() : await value;
}

/** One line, whatever it was. */
function complain(error: unknown, { complain: line, debug }: CliEnvironment): number {
  if (error instanceof SoftvtError) {
    line(`softvt: ${error.line}`);
    if (debug && error.stack !== undefined) line(error.stack);
    return EXIT_USAGE;
  }
  // citty's own complaints about arguments.
  if (error instanceof Error && error.name === 'CLIError') {
    line(`softvt: ${error.message}`);
    return EXIT_USAGE;
  }
  const message = error instanceof Error ? error.message : String(error);
  line(`softvt: internal error: ${message.split('\n')[0]} (SOFTVT_DEBUG=1 shows where)`);
  if (debug && error instanceof Error && error.stack !== undefined) line(error.stack);
  return EXIT_INTERNAL;
}
