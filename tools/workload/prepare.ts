/** Gets the programs, runs the workload on this host, and packs an initramfs for a guest that runs and compares it. */
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { writeCpio } from '../../src/cli/images/cpio.ts';
import { buildInitramfs } from '../../src/cli/images/index.ts';
import { SoftvtError } from '../../src/util/errors.ts';
import { runNatively, treeEntries, unpackRoot } from '../debian/root.ts';
import { guestScript, ROOT } from './guest-script.ts';
import type { Workload } from './workload.ts';

/** What {@link prepareWorkload} makes. */
export interface PreparedWorkload {
  readonly initramfs: Uint8Array;
  /** SHA-256 of what each case printed on this host, by its name. */
  readonly expected: ReadonlyMap<string, string>;
}

/**
 * Throws a SoftvtError where there is no apt, or a program fails on this host.
 *
 * @param root an empty directory, for the programs and what they work on
 */
export async function prepareWorkload(
  root: string,
  busybox: Uint8Array,
  workload: Workload,
): Promise<PreparedWorkload> {
  unpackRoot(root, workload.packages);
  const native = async (name: string, command: string): Promise<string> => {
    const shell = ['/bin/sh', '-c', `cd /work/${name} && { ${command}\n} 2>&1`];
    const { code, output } = await runNatively(root, shell, workload.env);
    if (code === 0) return output;
    throw new SoftvtError('ERR_SOFTVT_PACKAGE', `${command} ends with ${code} on this host: ${output.slice(-200)}`);
  };
  for (const { name, fill, once } of workload.cases) {
    const directory = join(root, 'work', name);
    mkdirSync(directory, { recursive: true });
    await fill(directory);
    if (once !== undefined) await native(name, once);
  }
  // As it is before the cases change it.
  const entries = treeEntries(root, ROOT);
  entries.push({ kind: 'directory', path: `${ROOT}/expected` });
  const expected = new Map<string, string>();
  for (const { name, command } of workload.cases) {
    const data = Buffer.from(await native(name, command), 'latin1');
    entries.push({ kind: 'file', path: `${ROOT}/expected/${name}`, data });
    expected.set(name, createHash('sha256').update(data).digest('hex'));
  }
  // A kernel unpacks one archive after another.
  const base = buildInitramfs({ busybox, init: { script: guestScript(workload) } });
  return { initramfs: Buffer.concat([base, writeCpio(entries)]), expected };
}
