/** `softvt measure`: MRTD of a TD as `run --type td` would build it, with the calls behind it; nothing is run. */

import { basename } from 'node:path';
import { type CommandDef, defineCommand } from 'citty';
import { buildCalls, mrtdOf } from '../../attest/td-build.ts';
import { PAGE_SIZE } from '../../util/address.ts';
import { hexOf } from '../../util/bytes.ts';
import { buildTdImage, type TdRegion } from '../../vmm/td/image.ts';
import { readInputFile } from '../input-file.ts';
import { checkRunOptions, RUN_ARGS, type RunOptions } from '../run-options.ts';

type Args = Pick<typeof RUN_ARGS, 'kernel' | 'initrd' | 'append' | 'memory' | 'cpus'> & {
  readonly calls: { readonly type: 'boolean'; readonly description: string };
  readonly json: { readonly type: 'boolean'; readonly description: string };
};
const MEASURE_ARGS: Args = {
  kernel: RUN_ARGS.kernel,
  initrd: RUN_ARGS.initrd,
  append: RUN_ARGS.append,
  memory: RUN_ARGS.memory,
  cpus: RUN_ARGS.cpus,
  calls: { type: 'boolean', description: 'every call on a line of its own, instead of pages in a row together' },
  json: { type: 'boolean', description: 'one JSON object' },
};

/** RTMRs are zero when the kernel is entered: the td-shim extends none. */
const RTMRS = ['RTMR0', 'RTMR1', 'RTMR2', 'RTMR3'] as const;
const ZERO: string = '0'.repeat(96);

const address = (gpa: number): string => `0x${gpa.toString(16)}`;

/** The regions that a run with these options builds its TD of. Throws a SoftvtError for what cannot be a TD. */
export function tdRegions(options: RunOptions): readonly TdRegion[] {
  const { regions } = buildTdImage({
    kernel: readInputFile('kernel', options.kernel),
    kernelName: basename(options.kernel),
    ...(options.initrd === undefined
      ? {}
      : { initrd: readInputFile('initrd', options.initrd), initrdName: basename(options.initrd) }),
    commandLine: options.append,
    memorySize: options.memorySize,
    cpus: options.cpus,
  });
  return regions;
}

/** A line for each region: the pages, and what is done with each of them before the next. */
function regionLines(regions: readonly TdRegion[]): string[] {
  return regions.map(({ name, gpa, data, measured }) => {
    const last = gpa + data.length - PAGE_SIZE;
    const pages = data.length / PAGE_SIZE;
    const where = pages === 1 ? `page ${address(gpa)}` : `pages ${address(gpa)} to ${address(last)} (${pages})`;
    const extend = measured ? ', then 16 × TDH.MR.EXTEND by 256 bytes' : '';
    return `${name}, ${where}: each TDH.MEM.PAGE.ADD${extend}`;
  });
}

/** Every call in order. */
function callLines(regions: readonly TdRegion[]): string[] {
  return Array.from(buildCalls(regions), ({ leaf, gpa }) => `${leaf} ${address(gpa)}`);
}

function json(mrtd: string, regions: readonly TdRegion[]): string {
  const calls = { 'TDH.MEM.PAGE.ADD': 0, 'TDH.MR.EXTEND': 0, 'TDH.MR.FINALIZE': 1 };
  for (const { leaf } of buildCalls(regions)) calls[leaf]++;
  return JSON.stringify({
    mrtd,
    rtmr: RTMRS.map(() => ZERO),
    regions: regions.map(({ name, gpa, data, measured }) => ({ name, gpa, size: data.length, measured })),
    calls,
  });
}

/** The command; `print` takes its output. */
export function measureCommandWith(print: (text: string) => void): CommandDef<Args> {
  return defineCommand({
    meta: { name: 'measure', description: 'MRTD and RTMRs of a TD as run --type td would start it' },
    args: MEASURE_ARGS,
    run({ args }) {
      const regions = tdRegions(checkRunOptions({ ...args, type: 'td' }));
      const mrtd = hexOf(mrtdOf(regions));
      if (args.json === true) return print(json(mrtd, regions));
      print(`MRTD  ${mrtd}`);
      for (const name of RTMRS) print(`${name} ${ZERO}`);
      print('');
      for (const line of args.calls === true ? callLines(regions) : regionLines(regions)) print(line);
      print('TDH.MR.FINALIZE');
    },
  });
}
