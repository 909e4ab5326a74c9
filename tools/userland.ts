/**
 * The distribution's programs in a guest against this host: coreutils, OpenSSL, compressors, perl and python compute the
 * same on both, byte for byte, from the same files. Exit code 1 where something differs, 2 where the programs cannot be had.
 *
 *   npm run userland [-- --type vm|td|both] [--size short|long] [--case openssl]… [--cpus 1] [--kernel 6.12-cloud] [--speed]
 *
 * Needs Linux on x86-64 and apt. SOFTVT_TRANSLATOR=off turns the translator off.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureBusybox, ensureImage } from '../src/cli/images/index.ts';
import { SoftvtError } from '../src/util/errors.ts';
import { runCommand } from './run-command.ts';
import { CASES, userland } from './userland/cases.ts';
import { SIZES } from './userland/inputs.ts';
import { prepareWorkload } from './workload/prepare.ts';
import { workloadTroubles } from './workload/verdict.ts';

/** Wall seconds that a guest may take. */
const PATIENCE = 7200;

const { values: options } = parseArgs({
  options: {
    type: { type: 'string', default: 'both' },
    size: { type: 'string', default: 'long' },
    case: { type: 'string', multiple: true, default: [...CASES] },
    cpus: { type: 'string', default: '1' },
    kernel: { type: 'string', default: '6.12-cloud' },
    speed: { type: 'boolean', default: false },
  },
});

function fail(message: string): never {
  console.error(`userland: ${message}`);
  process.exit(2);
}
const types = { vm: ['vm'], td: ['td'], both: ['vm', 'td'] }[options.type] ?? fail('--type is vm, td or both');
const size = SIZES[options.size as keyof typeof SIZES] ?? fail(`--size is ${Object.keys(SIZES).join(' or ')}`);
const cases = CASES.filter((name) => options.case.includes(name));
if (options.case.some((name) => !CASES.includes(name))) fail(`--case is one of ${CASES.join(', ')}`);

async function main(): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), 'softvt-userland-'));
  try {
    const { vmlinuz } = await ensureImage(options.kernel);
    const busybox = readFileSync(await ensureBusybox());
    const { speed } = options;
    const workload = userland(cases, size, speed);
    const { initramfs, expected } = await prepareWorkload(join(directory, 'root'), busybox, workload);
    const initrd = join(directory, 'initrd');
    writeFileSync(initrd, initramfs);
    let unequal = 0;
    for (const type of types) {
      const guest = ['--type', type, '--memory', '1G', '--cpus', options.cpus, '--timeout', String(PATIENCE)];
      const files = ['--kernel', vmlinuz, '--initrd', initrd, '--append', 'console=ttyS0 cryptomgr.notests'];
      const { code, stdout, report } = await runCommand([...guest, ...files]);
      const troubles = workloadTroubles(stdout, expected, speed);
      if (code !== 0) troubles.push(`softvt ended with ${code}`);
      if (troubles.length > 0) unequal++;
      console.log(
        `${troubles.length === 0 ? 'ok  ' : 'FAIL'} ${type}: ${cases.join(', ')}; ${((report.instructions ?? 0) / 1e9).toFixed(2)}e9 instructions, ${report.wallSeconds?.toFixed(0)} s`,
      );
      for (const line of troubles) console.log(`     ${line}`);
    }
    return unequal === 0 ? 0 : 1;
  } catch (error) {
    if (error instanceof SoftvtError) fail(error.line);
    throw error;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

process.exitCode = await main();
