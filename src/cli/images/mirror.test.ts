import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'vitest';
import { SoftvtError } from '../../util/errors.ts';
import { readEnvironment } from './environment.ts';
import { resolveKernel } from './packages.ts';
import { openImageStore } from './store.ts';
import { fetchSuiteIndex } from './suite-index.ts';

/** True for what a machine without a network, or without a mirror, says. */
function isUnreachable(error: unknown): boolean {
  return error instanceof SoftvtError && /_(NETWORK|NO_MIRROR)$/.test(error.code);
}

test('the machine’s mirror has bookworm’s cloud kernel and a busybox', async ({ skip, expect }) => {
  const directory = mkdtempSync(join(tmpdir(), 'softvt-mirror-'));
  const environment = { ...readEnvironment(), cacheDirectory: directory };
  try {
    const index = await fetchSuiteIndex(environment, 'bookworm', () => {});
    const kernel = resolveKernel(index.packages, 'linux-image-cloud-amd64', 'bookworm');
    expect(kernel[0]?.name).toMatch(/^linux-image-6\.1\.\d+-\d+-cloud-amd64$/);
    const busybox = readFileSync(await openImageStore({ environment }).ensureBusybox());
    expect(busybox.subarray(0, 4).toString('latin1')).toBe('\x7fELF');
  } catch (error) {
    // In CI a mirror that cannot be reached is a failure.
    if (process.env['CI'] !== 'true' && isUnreachable(error)) skip(`no mirror: ${(error as Error).message}`);
    throw error;
  } finally {
    rmSync(directory, { recursive: true });
  }
});
