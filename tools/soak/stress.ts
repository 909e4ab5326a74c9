/** A guest that runs stress-ng's stressors, each of which checks its own work. */
import { kernelComplaints } from '../workload/verdict.ts';

/** CPU, memory, timer and interrupt stressors, and context switches between processes and processors. */
export const STRESSORS = '--cpu 2 --vm 2 --vm-bytes 24M --timer 1 --timer-freq 1000 --switch 2 --futex 2 --fork 1';

/** The same kinds with pauses in between: idle time is skipped, and a minute of the guest's costs less than one here. */
export const CALM_STRESSORS =
  '--cpu 4 --cpu-load 1 --cpu-method bitops --vm 1 --vm-bytes 256K --vm-hang 2 --timer 1 --timer-freq 100 --clock 1 --clock-ops 50';

const ENDED = 'softvt: stress-ng ended with ';

/** Text of /init: the stressors for `seconds` of the guest's time, and how they ended. */
export const stressScript = (stressors: string, seconds: number): string => `#!/bin/busybox sh
export PATH=/bin HOME=/
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
busybox mount -t tmpfs tmp /tmp
cd /tmp
stress-ng ${stressors} --timeout ${seconds} --verify --metrics-brief
echo "${ENDED}$?"
busybox poweroff -f
`;

/** What is wrong with what such a guest wrote to its console. */
export function stressTroubles(console: string): string[] {
  const lines = console.split(/\r?\n/);
  const failures = lines.filter((line) => /stress-ng: (fail|error)|unexpected signal/.test(line));
  const troubles = [...kernelComplaints(console), ...failures];
  const ended = lines.find((line) => line.startsWith(ENDED))?.slice(ENDED.length);
  if (ended !== '0') troubles.push(ended === undefined ? 'stress-ng did not end' : `stress-ng ended with ${ended}`);
  return troubles;
}
