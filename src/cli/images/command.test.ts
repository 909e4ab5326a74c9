import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from 'citty';
import { createCleartextMessage, generateKey, sign } from 'openpgp';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { imagesCommand } from './command.ts';
import { writeDeb } from './testing/deb-writer.ts';
import { type Repository, startRepository } from './testing/repository.ts';

let repository: Repository;
let directory: string;

beforeAll(async () => {
  repository = await startRepository();
  directory = mkdtempSync(join(tmpdir(), 'softvt-command-'));
  vi.stubEnv('SOFTVT_MIRROR', repository.base);
  vi.stubEnv('SOFTVT_CACHE', join(directory, 'cache'));
  const { privateKey } = await generateKey({ type: 'curve25519', userIDs: [{ name: 'Archive' }], format: 'object' });
  vi.stubEnv('SOFTVT_KEYRING', join(directory, 'keyring.gpg'));
  writeFileSync(join(directory, 'keyring.gpg'), privateKey.toPublic().write());
  vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  const image = 'linux-image-6.1.0-9-cloud-amd64';
  const files = { 'boot/vmlinuz-6.1.0-9-cloud-amd64': 'kernel', 'lib/modules/6.1.0-9-cloud-amd64/kernel/x.ko': 'x' };
  await repository.publish(
    'bookworm',
    [
      { name: 'linux-image-cloud-amd64', version: '1', depends: `${image} (= 1)`, deb: Buffer.alloc(1) },
      { name: image, version: '1', deb: await writeDeb(files) },
      { name: 'busybox-static', version: '1:1.35', deb: await writeDeb({ 'bin/busybox': 'BUSYBOX' }) },
    ],
    {
      sign: async (text) => await sign({ message: await createCleartextMessage({ text }), signingKeys: privateKey }),
    },
  );
});

afterAll(async () => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
  await repository.close();
  rmSync(directory, { recursive: true });
});

/** Runs `softvt images …`; returns what it prints on stdout. */
async function images(...rawArgs: string[]): Promise<string> {
  const lines: string[] = [];
  const print = vi.spyOn(console, 'log').mockImplementation((line: unknown) => lines.push(String(line)));
  try {
    await runCommand(imagesCommand, { rawArgs });
  } finally {
    print.mockRestore();
  }
  return lines.join('\n');
}

test('list shows every image, fetch brings it with its modules, path says where it lies', async () => {
  expect(await images()).toMatch(/^6\.1-cloud +bookworm +-$/m);
  expect(await images('fetch', '6.1-cloud', 'busybox')).toMatch(/^6\.1-cloud +bookworm +6\.1\.0-9-cloud-amd64 +yes$/m);
  const kernel = await images('path', '6.1-cloud', '--offline');
  expect(readFileSync(kernel, 'utf8')).toBe('kernel');
  expect(await images('verify')).toBe('2 cached images, all as they were fetched');
});

test('initrd writes an initramfs with the cached busybox', async () => {
  const out = join(directory, 'initrd');
  await images('initrd', '--shell', '--out', out);
  const text = readFileSync(out, 'latin1');
  expect(text).toContain('BUSYBOX');
  expect(text).toContain('cttyhack');
});

test('initrd into a directory that is not there is one line and makes no directory', async () => {
  const out = join(directory, 'nosuch', 'initrd');
  await expect(images('initrd', '--out', out)).rejects.toThrow(`cannot write ${out}: ENOENT`);
  expect(existsSync(join(directory, 'nosuch'))).toBe(false);
});

test('--load without --kernel is a usage error', async () => {
  await expect(images('initrd', '--out', '/dev/null', '--load', 'tsm')).rejects.toMatchObject({
    code: 'ERR_SOFTVT_USAGE',
  });
});
