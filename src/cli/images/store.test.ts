import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { SoftvtError } from '../../util/errors.ts';
import type { ImageProgress } from './progress.ts';
import { type ImageStore, type ImageStoreOptions, openImageStore } from './store.ts';
import { writeAr, writeDataTar, writeDeb } from './testing/deb-writer.ts';
import { type OfferedPackage, type Repository, startRepository } from './testing/repository.ts';
import { writeXz } from './testing/xz-writer.ts';

const KERNEL = Buffer.alloc(150_000, 'kernel one ');
const META: OfferedPackage = {
  name: 'linux-image-cloud-amd64',
  version: '6.1.9-1',
  depends: 'linux-image-6.1.0-9-cloud-amd64 (= 6.1.9-1)',
  deb: Buffer.from('never fetched'),
};
const IMAGE_DEB = 'pool/main/linux-image-6.1.0-9-cloud-amd64_6.1.9-1_amd64.deb';

let repository: Repository;
let cacheDirectory: string;
let steps: ImageProgress[];

beforeEach(async () => {
  repository = await startRepository();
  cacheDirectory = mkdtempSync(join(tmpdir(), 'softvt-images-'));
  steps = [];
});

afterEach(async () => {
  await repository.close();
  rmSync(cacheDirectory, { recursive: true, force: true });
});

async function imagePackage(files: Record<string, Uint8Array | string> = {}): Promise<OfferedPackage> {
  const deb = await writeDeb({
    'boot/config-6.1.0-9-cloud-amd64': 'CONFIG_KVM_GUEST=y\n',
    'boot/vmlinuz-6.1.0-9-cloud-amd64': KERNEL,
    'lib/modules/6.1.0-9-cloud-amd64/kernel/drivers/virt/tsm.ko': 'module',
    ...files,
  });
  return { name: 'linux-image-6.1.0-9-cloud-amd64', version: '6.1.9-1', depends: 'kmod, linux-base (>= 4.3~)', deb };
}

async function publishKernel(): Promise<void> {
  await repository.publish('bookworm', [META, await imagePackage()]);
}

function open(options: ImageStoreOptions & { mirrors?: readonly string[] } = {}): ImageStore {
  const { mirrors = [repository.base], ...rest } = options;
  return openImageStore({
    progress: (step) => steps.push(step),
    environment: {
      cacheDirectory,
      mirrors: mirrors.map((base) => ({ base, keyring: undefined })),
      patience: { attempts: 2, idleMs: 5000, pauseMs: 1 },
    },
    ...rest,
  });
}

function warnings(): string[] {
  return steps.flatMap((step) => (step.kind === 'warning' ? [step.message] : []));
}

/** The failure of `work`, which must be a SoftvtError told in one line. */
async function failure(work: Promise<unknown>): Promise<SoftvtError> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof SoftvtError)) throw new Error(`expected a SoftvtError, got ${String(error)}`);
  expect(error.line).not.toContain('\n');
  return error;
}

/** Every file in the cache, the suite's index apart. */
function cachedFiles(): string[] {
  return readdirSync(cacheDirectory, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(cacheDirectory.length + 1))
    .filter((path) => !path.startsWith('index/'))
    .sort();
}

test('a meta package resolves to the current image, which is checked and unpacked', async () => {
  await publishKernel();
  const image = await open().ensureImage('6.1-cloud');
  expect(image.version).toBe('6.1.0-9-cloud-amd64');
  expect(readFileSync(image.vmlinuz).equals(KERNEL)).toBe(true);
  expect(image.modules).toBeUndefined();
  expect(steps.map((step) => step.kind)).toEqual(expect.arrayContaining(['download', 'verify', 'unpack']));
});

test('a kernel split over packages takes vmlinuz from the binary and modules from theirs', async () => {
  const version = '7.2.1-1';
  const release = '7.2.1+deb14-cloud-amd64';
  const exact = (name: string): string => `${name} (= ${version})`;
  const offer = (name: string, depends: string, deb: Uint8Array): OfferedPackage => ({ name, version, depends, deb });
  const empty = await writeDeb({ 'usr/share/doc/copyright': 'text' });
  const binary = await writeDeb({ [`usr/lib/modules/${release}/vmlinuz`]: KERNEL });
  const modules = await writeDeb({ [`usr/lib/modules/${release}/kernel/fs/configfs.ko.xz`]: 'xz module' });
  await repository.publish('sid', [
    offer('linux-image-cloud-amd64', `${exact('linux-base-cloud-amd64')}, ${exact(`linux-image-${release}`)}`, empty),
    offer('linux-base-cloud-amd64', exact(`linux-base-${release}`), empty),
    offer(`linux-base-${release}`, '', empty),
    offer(
      `linux-image-${release}`,
      `dracut | initramfs-tools (>= 0.120), ${exact(`linux-base-${release}`)}, ${exact(`linux-binary-${release}`)}, ${exact(`linux-modules-${release}`)}`,
      empty,
    ),
    offer(`linux-binary-${release}`, exact(`linux-base-${release}`), binary),
    offer(`linux-modules-${release}`, `kmod, ${exact(`linux-base-${release}`)}`, modules),
  ]);
  const image = await open().ensureImage('7.2-cloud', { modules: true });
  expect(image.version).toBe(release);
  expect(readFileSync(image.vmlinuz).equals(KERNEL)).toBe(true);
  expect(readFileSync(join(image.modules ?? '', 'kernel/fs/configfs.ko.xz'), 'utf8')).toBe('xz module');
  expect(repository.requests.filter((path) => path.startsWith('pool/'))).toHaveLength(2);
});

test('busybox is found in both layouts of the root directory', async () => {
  for (const path of ['bin/busybox', 'usr/bin/busybox']) {
    const deb = await writeDeb({ [path]: `busybox in ${path}` });
    await repository.publish('bookworm', [{ name: 'busybox-static', version: `1:1.35-${path.length}`, deb }]);
    const busybox = await open({ refresh: true }).ensureBusybox();
    expect(readFileSync(busybox, 'utf8')).toBe(`busybox in ${path}`);
  }
});

test('a cached image needs no request, no mirror and no network', async () => {
  await publishKernel();
  await open().ensureImage('6.1-cloud');
  repository.requests.length = 0;
  const image = await open({ offline: true, mirrors: [] }).ensureImage('6.1-cloud');
  expect(image.version).toBe('6.1.0-9-cloud-amd64');
  expect(repository.requests).toEqual([]);
});

test('modules asked for later come out of the cached package', async () => {
  await publishKernel();
  await open().ensureImage('6.1-cloud');
  const image = await open({ offline: true }).ensureImage('6.1-cloud', { modules: true });
  expect(readFileSync(join(image.modules ?? '', 'kernel/drivers/virt/tsm.ko'), 'utf8')).toBe('module');
});

test('refresh without a reachable mirror uses the cached image, with a warning', async () => {
  await publishKernel();
  await open().ensureImage('6.1-cloud');
  await repository.close();
  steps = [];
  const image = await open({ refresh: true }).ensureImage('6.1-cloud');
  expect(image.version).toBe('6.1.0-9-cloud-amd64');
  expect(warnings()).toEqual([
    expect.stringMatching(/cannot fetch .*InRelease: ECONNREFUSED; using the cached 6\.1-cloud/),
  ]);
  repository = await startRepository();
});

test('refresh replaces the image by a newer one and removes the old files', async () => {
  await publishKernel();
  const old = await open().ensureImage('6.1-cloud');
  const deb = await writeDeb({ 'boot/vmlinuz-6.1.0-10-cloud-amd64': 'kernel two' });
  await repository.publish('bookworm', [
    { ...META, version: '6.1.10-1', depends: 'linux-image-6.1.0-10-cloud-amd64 (= 6.1.10-1)' },
    { name: 'linux-image-6.1.0-10-cloud-amd64', version: '6.1.10-1', deb },
  ]);
  const image = await open({ refresh: true }).ensureImage('6.1-cloud');
  expect(image.version).toBe('6.1.0-10-cloud-amd64');
  expect(existsSync(old.vmlinuz)).toBe(false);
  expect(cachedFiles()).toEqual([
    'images/6.1-cloud.json',
    'images/6.1-cloud/6.1.10-1/vmlinuz',
    'pool/linux-image-6.1.0-10-cloud-amd64_6.1.10-1_amd64.deb',
  ]);
});

test('a short name that the suite has outgrown is said, not refused', async () => {
  const deb = await writeDeb({ 'boot/vmlinuz-7.3.0-cloud-amd64': 'newer' });
  await repository.publish('sid', [
    { ...META, depends: 'linux-image-7.3.0-cloud-amd64 (= 1)' },
    { name: 'linux-image-7.3.0-cloud-amd64', version: '1', deb },
  ]);
  expect((await open().ensureImage('7.2-cloud')).version).toBe('7.3.0-cloud-amd64');
  expect(warnings()).toContain('sid has moved on: 7.2-cloud is now 7.3.0-cloud-amd64');
});

test('the index is fetched by its hash where the suite offers that', async () => {
  await repository.publish('bookworm', [META, await imagePackage()], { byHash: true });
  await open().ensureImage('6.1-cloud');
  expect(repository.requests[1]).toMatch(/by-hash\/SHA256\/[0-9a-f]{64}$/);
});

test('the list of packages is fetched again only when the suite has changed', async () => {
  await publishKernel();
  await open({ refresh: true }).ensureImage('6.1-cloud');
  await open({ refresh: true }).ensureImage('6.1-cloud');
  const lists = (): number => repository.requests.filter((path) => path.endsWith('Packages.xz')).length;
  expect(lists()).toBe(1);
  await repository.publish('bookworm', [META, { ...(await imagePackage()), version: '6.1.9-2' }]);
  await open({ refresh: true }).ensureImage('6.1-cloud');
  expect(lists()).toBe(2);
});

test('one store asks for a suite once', async () => {
  const busybox = { name: 'busybox-static', version: '1', deb: await writeDeb({ 'bin/busybox': 'busybox' }) };
  await repository.publish('bookworm', [META, await imagePackage(), busybox]);
  const store = open();
  await store.ensureImage('6.1-cloud');
  await store.ensureBusybox();
  expect(repository.requests.filter((path) => path.endsWith('InRelease'))).toHaveLength(1);
});

test('a package that does not match the index is refused and not kept', async () => {
  await publishKernel();
  const tampered = Buffer.from((await imagePackage()).deb);
  tampered.writeUInt8(tampered.readUInt8(500) ^ 1, 500);
  repository.faults.set(IMAGE_DEB, { replace: tampered });
  const error = await failure(open().ensureImage('6.1-cloud'));
  expect(error.code).toBe('ERR_SOFTVT_HASH');
  expect(error.message).toMatch(/6\.1\.9-1_amd64\.deb is not what the index promises: SHA-256/);
  expect(cachedFiles()).toEqual([]);
});

test.each([
  ['shorter', -1000, /bytes long where the index says/],
  ['longer', 1000, /longer than the \d+ bytes in the index/],
])('a package %s than the index says is refused', async (_, by, message) => {
  await publishKernel();
  const { deb } = await imagePackage();
  const replace = by < 0 ? deb.subarray(0, deb.length + by) : Buffer.concat([deb, Buffer.alloc(by)]);
  repository.faults.set(IMAGE_DEB, { replace });
  const error = await failure(open().ensureImage('6.1-cloud'));
  expect(error.code).toBe('ERR_SOFTVT_HASH');
  expect(error.message).toMatch(message);
  expect(cachedFiles()).toEqual([]);
});

test('a list of packages that does not match the suite’s index is refused', async () => {
  await publishKernel();
  repository.faults.set('dists/bookworm/main/binary-amd64/Packages.xz', {
    replace: writeXz(Buffer.from('Package: x\n')),
  });
  const error = await failure(open().ensureImage('6.1-cloud'));
  expect(error.code).toBe('ERR_SOFTVT_HASH');
  expect(error.message).toContain('bookworm-Packages.xz is not what the index promises');
});

test('a truncated package that the index vouches for is one clear line', async () => {
  const whole = await imagePackage();
  await repository.publish('bookworm', [META, { ...whole, deb: whole.deb.subarray(0, 90_000) }]);
  const error = await failure(open().ensureImage('6.1-cloud'));
  expect(error.code).toBe('ERR_SOFTVT_PACKAGE');
  expect(error.message).toMatch(/_amd64\.deb is damaged: it ends inside data\.tar\.xz$/);
});

test.each([
  ['flipped bit', (xz: Buffer) => xz.writeUInt8(xz.readUInt8(5000) ^ 1, 5000), (xz: Buffer) => xz],
  ['missing end', () => {}, (xz: Buffer) => xz.subarray(0, 100_000)],
  ['wrong start', (xz: Buffer) => xz.fill(0, 0, 6), (xz: Buffer) => xz],
])('corrupt xz data (%s) are one clear line', async (_, spoil, cut) => {
  const xz = Buffer.from(writeXz(await writeDataTar({ 'boot/vmlinuz-6.1.0-9-cloud-amd64': KERNEL })));
  spoil(xz);
  const deb = writeAr([['data.tar.xz', cut(xz)]]);
  await repository.publish('bookworm', [META, { ...(await imagePackage()), deb }]);
  const error = await failure(open().ensureImage('6.1-cloud'));
  expect(error.code).toBe('ERR_SOFTVT_PACKAGE');
  expect(error.message).toMatch(/_amd64\.deb is damaged: its data archive cannot be unpacked$/);
  // What was fetched is right by the index and stays; nothing was unpacked from it.
  expect(cachedFiles()).toEqual([IMAGE_DEB.replace('/main', '')]);
});

test('a package without a kernel in it is one clear line', async () => {
  const deb = await writeDeb({ 'usr/share/doc/readme': 'no kernel here' });
  await repository.publish('bookworm', [META, { ...(await imagePackage()), deb }]);
  const error = await failure(open().ensureImage('6.1-cloud'));
  expect(error.message).toBe('linux-image-6.1.0-9-cloud-amd64_6.1.9-1_amd64.deb holds no kernel');
});

test('a missing package names itself, the suite and who needs it', async () => {
  await repository.publish('bookworm', [META]);
  const store = open();
  const image = await failure(store.ensureImage('6.1-cloud'));
  expect(image.code).toBe('ERR_SOFTVT_NOT_FOUND');
  expect(image.message).toBe(
    "the mirror's bookworm has no package linux-image-6.1.0-9-cloud-amd64, which linux-image-cloud-amd64 needs",
  );
  expect((await failure(store.ensureBusybox())).message).toBe("the mirror's bookworm has no package busybox-static");
});

test('a mirror without the suite is one clear line, and the next mirror is asked', async () => {
  const error = await failure(open().ensureImage('6.1-cloud'));
  expect(error.code).toBe('ERR_SOFTVT_NOT_FOUND');
  expect(error.message).toMatch(/the mirror answers 404 for .*\/dists\/bookworm\/InRelease$/);
  await publishKernel();
  const image = await open({ mirrors: [`${repository.base}/elsewhere`, repository.base] }).ensureImage('6.1-cloud');
  expect(image.version).toBe('6.1.0-9-cloud-amd64');
});

test('without a mirror the line says how to name one', async () => {
  const error = await failure(open({ mirrors: [] }).ensureImage('6.1-cloud'));
  expect(error.code).toBe('ERR_SOFTVT_NO_MIRROR');
  expect(error.line).toContain('set SOFTVT_MIRROR');
});

test('offline, an image that is not cached is one clear line', async () => {
  const error = await failure(open({ offline: true }).ensureImage('6.1-cloud'));
  expect(error.code).toBe('ERR_SOFTVT_OFFLINE');
  expect(error.line).toContain('6.1-cloud is not in the cache');
  expect(repository.requests).toEqual([]);
});

test('an unknown image lists the known ones', async () => {
  const error = await failure(open().ensureImage('5.10-cloud'));
  expect(error.code).toBe('ERR_SOFTVT_UNKNOWN_IMAGE');
  expect(error.line).toContain('known images: 6.1-cloud, 6.12-cloud, 7.2-cloud');
});

test('a mirror that answers no index is refused', async () => {
  await publishKernel();
  repository.faults.set('dists/bookworm/InRelease', { replace: Buffer.from('<html>Please log in</html>') });
  const error = await failure(open().ensureImage('6.1-cloud'));
  expect(error.message).toBe('the index of bookworm lists no SHA-256: it is damaged or no InRelease file');
});

test('an index out of date is used with a warning', async () => {
  const validUntil = new Date(Date.now() - 3 * 24 * 3600 * 1000 + 1000).toUTCString();
  await repository.publish('bookworm', [META, await imagePackage()], { validUntil });
  await open().ensureImage('6.1-cloud');
  expect(warnings()).toContain("the mirror's index of bookworm is out of date by 3 days");
});

test('a connection that breaks is resumed where it broke', async () => {
  await publishKernel();
  repository.faults.set(IMAGE_DEB, { cutAfter: 65_536 });
  const image = await open().ensureImage('6.1-cloud');
  expect(readFileSync(image.vmlinuz).equals(KERNEL)).toBe(true);
  expect(repository.requests.slice(-2)).toEqual([IMAGE_DEB, `${IMAGE_DEB} from 65536`]);
});

test('a download given up is resumed by the next run, and then works offline', async () => {
  await publishKernel();
  repository.faults.set(IMAGE_DEB, { cutAfter: 40_000, times: 2 });
  const error = await failure(open().ensureImage('6.1-cloud'));
  expect(error.code).toBe('ERR_SOFTVT_NETWORK');
  expect(cachedFiles()).toEqual([expect.stringMatching(/_amd64\.deb\.[0-9a-f]{12}\.part$/)]);
  await open().ensureImage('6.1-cloud');
  expect(repository.requests.at(-1)).toBe(`${IMAGE_DEB} from 80000`);
  await open({ offline: true, mirrors: [] }).ensureImage('6.1-cloud');
});

test('a server that ignores Range is read from the start', async () => {
  await publishKernel();
  repository.faults.set(IMAGE_DEB, { cutAfter: 40_000, noRange: true });
  const image = await open().ensureImage('6.1-cloud');
  expect(readFileSync(image.vmlinuz).equals(KERNEL)).toBe(true);
});

/** The name of the partial file of the kernel's package. */
async function partName(): Promise<string> {
  repository.faults.set(IMAGE_DEB, { cutAfter: 1000, times: 2 });
  await failure(open().ensureImage('6.1-cloud'));
  repository.faults.delete(IMAGE_DEB);
  return join(cacheDirectory, cachedFiles()[0] ?? '');
}

test('a full disk is one clear line and leaves nothing half-written', async () => {
  await publishKernel();
  const part = await partName();
  rmSync(part);
  // Every write to this device fails with ENOSPC.
  symlinkSync('/dev/full', part);
  const error = await failure(open().ensureImage('6.1-cloud'));
  expect(error.code).toBe('ERR_SOFTVT_DISK_FULL');
  expect(error.message).toMatch(/^no space left to write .*_amd64\.deb$/);
  expect(cachedFiles()).toEqual([]);
});

test('a cache that cannot be written is one clear line', async () => {
  await publishKernel();
  writeFileSync(join(cacheDirectory, 'pool'), 'a file where the directory should be');
  const error = await failure(open().ensureImage('6.1-cloud'));
  expect(error.code).toBe('ERR_SOFTVT_CACHE');
  expect(error.line).toContain('set SOFTVT_CACHE');
});

test('a partial file that another process is writing is left to it', async () => {
  await publishKernel();
  const part = await partName();
  writeFileSync(`${part}.lock`, String(process.ppid));
  const before = readFileSync(part);
  await open().ensureImage('6.1-cloud');
  expect(readFileSync(part).equals(before)).toBe(true);
  expect(repository.requests.at(-1)).toBe(IMAGE_DEB);
});

test('the lock of a process that has died is taken over', async () => {
  await publishKernel();
  const part = await partName();
  writeFileSync(`${part}.lock`, '4194305');
  await open().ensureImage('6.1-cloud');
  expect(repository.requests.at(-1)).toBe(`${IMAGE_DEB} from 2000`);
  expect(cachedFiles().filter((path) => /part|lock/.test(path))).toEqual([]);
});

test('verify finds damaged files, and fetching mends them', async () => {
  await publishKernel();
  const image = await open().ensureImage('6.1-cloud');
  expect(open().verify()).toEqual([]);
  writeFileSync(image.vmlinuz, 'spoiled');
  writeFileSync(join(cacheDirectory, IMAGE_DEB.replace('/main', '')), 'spoiled');
  expect(open().verify()).toEqual([
    expect.stringMatching(/^6\.1-cloud: .*vmlinuz is damaged$/),
    expect.stringMatching(/^6\.1-cloud: .*\.deb is damaged$/),
  ]);
  await open({ refresh: true }).ensureImage('6.1-cloud');
  expect(open().verify()).toEqual([]);
});

test('a manifest that cannot be read counts as nothing cached', async () => {
  mkdirSync(join(cacheDirectory, 'images'));
  writeFileSync(join(cacheDirectory, 'images', '6.1-cloud.json'), '{"name": "6.1-cl');
  await publishKernel();
  expect((await open().ensureImage('6.1-cloud')).version).toBe('6.1.0-9-cloud-amd64');
});
