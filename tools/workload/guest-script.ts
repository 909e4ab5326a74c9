/** What a guest does with the workload: it runs the cases, compares their output with the expected one, and says so. */
import type { Case, Workload } from './workload.ts';

/** In front of the lines of the report that a guest writes to its console. */
export const REPORT = 'softvt: ';
/** Where the programs' root directory is in the guest. */
export const ROOT = 'debian';

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

const run = (name: string, command: string): string =>
  `busybox chroot /${ROOT} /bin/sh -c ${quoted(`cd /work/${name} && { ${command}\n}`)} >/out/${name} 2>&1; status=$?`;

/** Compares by busybox, and prints the hash too, in case a comparison is what goes wrong. */
const compare = ({ name, command }: Case): string => `${run(name, command)}
  if [ $status = 0 ] && busybox cmp -s /out/${name} /${ROOT}/expected/${name}
  then echo "${REPORT}same ${name} $(busybox sha256sum /out/${name} | busybox cut -c 1-64)"
  else
    echo "${REPORT}differs ${name}, status $status"
    busybox diff /${ROOT}/expected/${name} /out/${name} | busybox head -n 100 | busybox cut -c 1-300
  fi`;

/** Text of /init. With several processors the cases run at the same time. */
export function guestScript({ cases, env, guestOnly }: Workload): string {
  const jobs = cases.map(compare);
  if (guestOnly !== undefined) {
    jobs.push(`${run(cases.at(-1)!.name, guestOnly)}\n  echo "${REPORT}alone ended with $status"`);
  }
  const loader = `/lib64/ld-linux-x86-64.so.2 --help | busybox grep x86-64-v3`;
  return [
    '#!/bin/busybox sh',
    'busybox mount -t proc proc /proc',
    'busybox mount -t devtmpfs dev /dev',
    `busybox mount -t devtmpfs dev /${ROOT}/dev`,
    `busybox mount -t proc proc /${ROOT}/proc`,
    'busybox mkdir /out',
    ...Object.entries(env).map(([name, value]) => `export ${name}=${quoted(value)}`),
    `echo "${REPORT}$(busybox grep -m 1 ^flags /proc/cpuinfo)"`,
    `echo "${REPORT}libraries $(busybox chroot /${ROOT} ${loader})"`,
    ...jobs.map((job) => `{ ${job}\n} &\nif [ $(busybox nproc) = 1 ]; then wait; fi`),
    'wait',
    `echo "${REPORT}done"`,
    'busybox poweroff -f',
    '',
  ].join('\n');
}
