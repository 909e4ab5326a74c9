/** `softvt profile`: runs a guest and says where the time went. */

import { Session } from 'node:inspector/promises';
import { type CommandDef, defineCommand } from 'citty';
import { translatorDefaults } from '../../machine/engine/translator/defaults.ts';
import { exitCode } from '../../vmm/guest-end.ts';
import { runSession, type SessionEnvironment } from '../guest-session.ts';
import { selfTimes, type V8Profile } from '../profile-report.ts';
import { engineLines, summaryLines } from '../report.ts';
import { checkRunOptions, RUN_ARGS } from '../run-options.ts';
import { guestConfig } from './run.ts';

const SAMPLING_MICROSECONDS = 1000;
const LINES = 25;

/** The command; `exit` receives its exit code. */
export function profileCommandWith(
  environment: SessionEnvironment,
  exit: (code: number) => void,
): CommandDef<typeof RUN_ARGS> {
  return defineCommand({
    meta: { name: 'profile', description: 'run a guest and say where the time went' },
    args: RUN_ARGS,
    async run({ args }) {
      const options = checkRunOptions(args);
      const config = guestConfig(options, environment.process.stdin.isTTY === true);
      translatorDefaults.counting = true;
      const session = new Session();
      session.connect();
      await session.post('Profiler.enable');
      await session.post('Profiler.setSamplingInterval', { interval: SAMPLING_MICROSECONDS });
      await session.post('Profiler.start');
      const report = await runSession(environment, config, { timeout: options.timeout, quiet: true });
      const { profile } = await session.post('Profiler.stop');
      session.disconnect();
      const say = (line: string): void => {
        environment.process.stderr.write(`softvt: ${line}\n`);
      };
      for (const line of [...summaryLines(report), ...engineLines(report)]) say(line);
      for (const { share, name } of selfTimes(profile as V8Profile).slice(0, LINES)) {
        say(`${(share * 100).toFixed(1).padStart(5)} %  ${name}`);
      }
      exit(exitCode(report.end));
    },
  });
}
