/** The options of commands that run a guest. */

import { LEAST_TD_MEMORY } from '../vmm/td/layout.ts';
import { parseInteger, parseSize, usageError } from './usage.ts';

/** Options that `run` shares with `profile`. */
export const RUN_ARGS = {
  type: { type: 'string', valueHint: 'vm|td|bare', default: 'vm', description: 'kind of guest' },
  kernel: { type: 'string', valueHint: 'FILE', description: 'bzImage, ELF with PVH note, or Multiboot image' },
  initrd: { type: 'string', valueHint: 'FILE', description: 'initial RAM disk' },
  module: { type: 'string', valueHint: 'FILE [ARGS]', description: 'module of a Multiboot image; may be given again' },
  append: { type: 'string', valueHint: 'STRING', default: '', description: 'kernel command line' },
  memory: { type: 'string', valueHint: 'SIZE', default: '256M', description: 'guest RAM' },
  cpus: { type: 'string', valueHint: 'N', default: '1', description: 'virtual CPUs' },
  firmware: {
    type: 'string',
    valueHint: 'FILE',
    description: 'bare: firmware image that runs from reset on, instead of a kernel',
  },
  disk: { type: 'string', valueHint: 'FILE', description: 'bare: hard disk image, up to four; changes are not kept' },
  clock: { type: 'string', valueHint: 'virtual|real', description: 'idle time: skipped, or as on the wall' },
  seed: { type: 'string', valueHint: 'N', default: '0', description: 'seed of all chance in the run' },
  reboot: { type: 'boolean', description: 'start again after a reset' },
  timeout: { type: 'string', valueHint: 'SECONDS', description: 'end the run after so much wall time' },
  trace: { type: 'string', valueHint: 'FILE', description: 'trace events: text, or Chrome JSON in a .json file' },
  json: { type: 'boolean', description: 'one JSON object as the last line of stderr' },
} as const;

/** What citty makes of {@link RUN_ARGS}. */
export type RawRunOptions = { readonly [Name in keyof typeof RUN_ARGS]?: string | boolean | undefined };

/** The checked options of a run. */
export interface RunOptions {
  readonly type: 'vm' | 'td' | 'bare';
  /** Empty only where there is firmware. */
  readonly kernel: string;
  readonly firmware: string | undefined;
  readonly initrd: string | undefined;
  readonly append: string;
  readonly memorySize: number;
  readonly cpus: number;
  /** Undefined: real if somebody types, virtual otherwise. */
  readonly clock: 'virtual' | 'real' | undefined;
  readonly seed: number;
  readonly reboot: boolean;
  readonly timeout: number | undefined;
  readonly trace: string | undefined;
  readonly json: boolean;
}

const MIB = 2 ** 20;
/** The most that all guests together may have: RAM lies below the MMIO hole, beside the host. */
const MOST_MEMORY = 2560 * MIB;
const LEAST_MEMORY = 2 * MIB;
const MEMORY_GRANULE = 64 * 1024;
const MOST_CPUS = 64;

function text(options: RawRunOptions, name: keyof typeof RUN_ARGS): string | undefined {
  const value = options[name];
  return typeof value === 'string' ? value : undefined;
}

/** Checks the options' values. Throws ERR_SOFTVT_USAGE. */
export function checkRunOptions(options: RawRunOptions): RunOptions {
  const type = text(options, 'type') ?? 'vm';
  if (type !== 'vm' && type !== 'td' && type !== 'bare') throw usageError(`--type is vm, td or bare, not '${type}'`);
  if (options.disk !== undefined && type !== 'bare')
    throw usageError(`--disk needs --type bare; a ${type} has none yet`);
  if (options.module !== undefined && type === 'td')
    throw usageError('--module needs a Multiboot image, which no td is');
  const { kernel, firmware } = checkStart(type, text(options, 'kernel') ?? '', text(options, 'firmware'));
  const clock = text(options, 'clock');
  if (clock !== undefined && clock !== 'virtual' && clock !== 'real') {
    throw usageError(`--clock is virtual or real, not '${clock}'`);
  }
  const timeout = text(options, 'timeout');
  return {
    type,
    kernel,
    firmware,
    initrd: text(options, 'initrd'),
    append: text(options, 'append') ?? '',
    memorySize: checkMemory(text(options, 'memory') ?? '256M', type === 'td' ? LEAST_TD_MEMORY : LEAST_MEMORY),
    cpus: parseInteger('--cpus', text(options, 'cpus') ?? '1', 1, MOST_CPUS),
    clock,
    seed: parseInteger('--seed', text(options, 'seed') ?? '0', 0, Number.MAX_SAFE_INTEGER),
    reboot: options.reboot === true,
    timeout: timeout === undefined ? undefined : checkTimeout(timeout),
    trace: text(options, 'trace'),
    json: options.json === true,
  };
}

/** What the guest begins with: a kernel, or firmware on a bare machine. */
function checkStart(
  type: string,
  kernel: string,
  firmware: string | undefined,
): Pick<RunOptions, 'kernel' | 'firmware'> {
  if (firmware !== undefined && type !== 'bare')
    throw usageError(`--firmware needs --type bare; a ${type} has none yet`);
  if (firmware !== undefined && kernel !== '') throw usageError('--firmware takes the place of --kernel');
  if (firmware === undefined && kernel === '') {
    throw usageError('--kernel FILE is missing', 'softvt demo needs none');
  }
  return { kernel, firmware };
}

function checkMemory(given: string, least: number): number {
  const size = parseSize('--memory', given);
  if (size > MOST_MEMORY) throw usageError(`--memory ${given} is more than the 2560M a guest can have`);
  if (size < least) throw usageError(`--memory ${given} is less than the ${least / MIB}M such a guest needs`);
  if (size % MEMORY_GRANULE !== 0) throw usageError(`--memory ${given} is not a multiple of 64K`);
  return size;
}

/** Longest timer of the platform, in seconds. */
const MOST_TIMEOUT = 2_147_483;

function checkTimeout(given: string): number {
  const seconds = /^\d{1,7}(\.\d+)?$/.test(given) ? Number(given) : Number.NaN;
  if (!(seconds > 0 && seconds <= MOST_TIMEOUT)) {
    throw usageError(`--timeout wants seconds, not '${given}'`);
  }
  return seconds;
}
