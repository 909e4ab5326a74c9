import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createCleartextMessage, generateKey, type PrivateKey, readPrivateKey, sign } from 'openpgp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseRelease, stripSignature, verifyInRelease } from './release.ts';
import { fetchSuiteIndex } from './suite-index.ts';
import { startRepository } from './testing/repository.ts';

const HASH = 'ab'.repeat(32);
const RELEASE = `Origin: Test\nAcquire-By-Hash: yes\nValid-Until: Fri, 06 Nov 2026 08:08:01 UTC\nMD5Sum:\n ${'0'.repeat(32)} 9 x\nSHA256:\n ${HASH}  1234 main/binary-amd64/Packages.xz\n`;

let directory: string;
let keyring: string;
let archiveKey: PrivateKey;
let otherKey: PrivateKey;

async function newKey(): Promise<PrivateKey> {
  const { privateKey } = await generateKey({ type: 'curve25519', userIDs: [{ name: 'Archive' }], format: 'object' });
  return privateKey;
}

async function signWith(key: PrivateKey, text: string): Promise<string> {
  return await sign({ message: await createCleartextMessage({ text }), signingKeys: key });
}

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'softvt-release-'));
  archiveKey = await readPrivateKey({ armoredKey: (await newKey()).armor() });
  otherKey = await newKey();
  keyring = join(directory, 'keyring.gpg');
  writeFileSync(keyring, archiveKey.toPublic().write());
});

afterAll(() => rmSync(directory, { recursive: true }));

test('the index lists files by SHA-256 only, and says how long it holds', () => {
  const release = parseRelease(RELEASE, 'sid');
  expect([...release.files]).toEqual([['main/binary-amd64/Packages.xz', { sha256: HASH, size: 1234 }]]);
  expect(release.acquireByHash).toBe(true);
  expect(release.validUntil?.toISOString()).toBe('2026-11-06T08:08:01.000Z');
});

test('an index signed by a key of the keyring is accepted, binary or armoured', async () => {
  const signed = await signWith(archiveKey, RELEASE);
  expect(await verifyInRelease(signed, keyring, 'sid')).toContain(HASH);
  const armoured = join(directory, 'keyring.asc');
  writeFileSync(armoured, archiveKey.toPublic().armor());
  expect(parseRelease(await verifyInRelease(signed, armoured, 'sid'), 'sid').files.size).toBe(1);
});

test.each([
  ['signed by another key', async () => await signWith(otherKey, RELEASE)],
  ['changed after signing', async () => (await signWith(archiveKey, RELEASE)).replace(HASH, 'cd'.repeat(32))],
  ['not signed at all', async () => RELEASE],
  ['cut off', async () => (await signWith(archiveKey, RELEASE)).slice(0, -200)],
])('an index %s is refused in one line', async (_, make) => {
  const text = await make();
  await expect(verifyInRelease(text, keyring, 'sid')).rejects.toMatchObject({
    code: 'ERR_SOFTVT_SIGNATURE',
    message: expect.stringMatching(/^the index of sid is not signed by a key in \S+keyring\.gpg: [^\n]+$/),
  });
});

test('without checking, the signed text is what the armour holds', async () => {
  const text = `${RELEASE}- a line with a dash\n`;
  expect(parseRelease(stripSignature(await signWith(archiveKey, text)), 'sid')).toEqual(parseRelease(text, 'sid'));
  expect(stripSignature(await signWith(archiveKey, text))).toContain('\n- a line with a dash');
  expect(stripSignature(RELEASE)).toBe(RELEASE);
});

test('a suite is checked against its mirror’s keyring; without one there is one warning', async () => {
  const repository = await startRepository();
  try {
    const fetchIndex = async (keyringFile: string | undefined): Promise<string[]> => {
      const warnings: string[] = [];
      const mirrors = [{ base: repository.base, keyring: keyringFile }];
      await fetchSuiteIndex({ cacheDirectory: join(directory, 'cache'), mirrors }, 'sid', (step) => {
        if (step.kind === 'warning') warnings.push(step.message);
      });
      return warnings;
    };
    await repository.publish('sid', [], { sign: (text) => signWith(archiveKey, text) });
    expect(await fetchIndex(keyring)).toEqual([]);
    expect(await fetchIndex(undefined)).toEqual([
      'the index of sid is not checked: this machine has no Debian keyring',
    ]);
    await repository.publish('sid', [], { sign: (text) => signWith(otherKey, text) });
    await expect(fetchIndex(keyring)).rejects.toMatchObject({ code: 'ERR_SOFTVT_SIGNATURE' });
  } finally {
    await repository.close();
  }
});
