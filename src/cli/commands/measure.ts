/** `softvt measure`: the measurements of a TD, which this version cannot run yet. */

import { type CommandDef, defineCommand } from 'citty';
import { RUN_ARGS } from '../run-options.ts';
import { usageError } from '../usage.ts';

/** Says that it is not available; exit code 2. */
export const measureCommand: CommandDef<typeof RUN_ARGS> = defineCommand({
  meta: { name: 'measure', description: 'MRTD and RTMRs of what would be run (not available yet)' },
  args: RUN_ARGS,
  run() {
    throw usageError('measure is not available yet: it measures TDs, and this version runs VMs');
  },
});
