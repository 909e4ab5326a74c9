/** The guest images on this machine: fetched when first asked for, afterwards read from the cache. */

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { SoftvtError } from '../../util/errors.ts';
import { makeAtomically, writeAtomically } from './cache-files.ts';
import { CATALOG, type CatalogEntry, catalogEntry } from './catalog.ts';
import { type PackageFile, unpackDeb } from './deb.ts';
import { type ImageEnvironment, readEnvironment } from './environment.ts';
import { type Manifest, readManifest, sha256Of, writeManifest } from './manifest.ts';
import { notCached, obtainPackage, poolPath } from './package-pool.ts';
import { missingPackage, type PackageEntry, resolveKernel } from './packages.ts';
import type { ProgressListener } from './progress.ts';
import { fetchSuiteIndex, type SuiteIndex } from './suite-index.ts';

/** How an {@link ImageStore} works. */
export interface ImageStoreOptions {
  readonly progress?: ProgressListener;
  /** Never use the network. */
  readonly offline?: boolean;
  /** Look for a newer version even if one is cached; without a network the cached one is used, with a warning. */
  readonly refresh?: boolean;
  /** Instead of this machine's mirrors and cache. */
  readonly environment?: ImageEnvironment;
}

/** An image that is ready for use. */
export interface GuestImage {
  readonly name: string;
  /** The kernel's release, such as `6.1.0-50-cloud-amd64`. */
  readonly version: string;
  /** Path of the bzImage. */
  readonly vmlinuz: string;
  /** Directory of the kernel modules, if they were asked for. */
  readonly modules?: string;
}

/** The state of one catalog entry in the cache. */
export interface ImageStatus {
  readonly entry: CatalogEntry;
  readonly manifest: Manifest | undefined;
}

/** The images of one cache directory. */
export interface ImageStore {
  /** A kernel by its short name; with `modules` also its loadable modules. */
  ensureImage(name: string, parts?: { readonly modules?: boolean }): Promise<GuestImage>;
  /** Path of a static busybox. */
  ensureBusybox(): Promise<string>;
  /** Path of an image that is no kernel, by its short name. */
  ensureFile(name: string): Promise<string>;
  /** Every catalog entry with what the cache holds of it. */
  list(): ImageStatus[];
  /** Hashes everything cached again. Returns one line per damaged file, empty if all is well. */
  verify(): string[];
}

/** The packages an image is made of, by role. */
interface Resolution {
  readonly main: PackageEntry;
  readonly modules?: PackageEntry;
}

function resolve(entry: CatalogEntry, index: SuiteIndex): Resolution {
  if (entry.kind === 'file') {
    const main = index.packages.get(entry.package);
    if (main === undefined) throw missingPackage(entry.package, entry.suite);
    return { main };
  }
  const parts = resolveKernel(index.packages, entry.package, entry.suite);
  const named = (prefix: string): PackageEntry | undefined => parts.find((part) => part.name.startsWith(prefix));
  const main = named('linux-binary-') ?? named('linux-image-');
  if (main === undefined) throw missingPackage('linux-image-*', entry.suite, entry.package);
  return { main, modules: named('linux-modules-') ?? main };
}

/** The main file is `boot/vmlinuz-RELEASE` or `lib/modules/RELEASE/vmlinuz`, below `usr` in merged layouts. */
function kernelRelease(path: string): string | undefined {
  return /^(?:usr\/)?(?:boot\/vmlinuz-|lib\/modules\/)([^/]+)(?:\/vmlinuz)?$/.exec(path)?.[1];
}

function isMainFile(entry: CatalogEntry, path: string): boolean {
  return entry.kind === 'file' ? entry.path.test(path) : kernelRelease(path) !== undefined;
}

function isModule(path: string): boolean {
  return /^(usr\/)?lib\/modules\/[^/]+\/(kernel\/.*\.ko(\.xz|\.zst|\.gz)?|modules\.builtin)$/.test(path);
}

function writeModules(directory: string, files: readonly PackageFile[]): void {
  rmSync(directory, { recursive: true, force: true });
  makeAtomically(directory, (temporary) => {
    for (const { path, data } of files) {
      const target = join(temporary, path.replace(/^(usr\/)?lib\/modules\/[^/]+\//, ''));
      mkdirSync(dirname(target), { recursive: true });
      writeFileSync(target, data);
    }
  });
}

/** Removes what a newer version of the image has replaced. */
function removeSuperseded(cacheDirectory: string, manifest: Manifest): void {
  const directory = join(cacheDirectory, 'images', manifest.name);
  const current = basename(dirname(manifest.file));
  for (const version of readdirSync(directory)) {
    if (version !== current) rmSync(join(directory, version), { recursive: true, force: true });
  }
}

/** Opens the image cache. Nothing is read or fetched before it is asked for. */
export function openImageStore(options: ImageStoreOptions = {}): ImageStore {
  const { progress = () => {}, offline = false, refresh = false } = options;
  const environment = options.environment ?? readEnvironment();
  const cache = environment.cacheDirectory;
  const indices = new Map<string, Promise<SuiteIndex>>();

  const suiteIndex = ({ suite, architecture }: CatalogEntry): Promise<SuiteIndex> => {
    const key = `${suite} ${architecture}`;
    const known = indices.get(key) ?? fetchSuiteIndex(environment, suite, progress, architecture);
    indices.set(key, known);
    return known;
  };

  /** What the suite has now, or where that cannot be known, what the cache has. */
  const resolveNow = async (entry: CatalogEntry, cached: Manifest | undefined): Promise<Resolution | undefined> => {
    if (cached !== undefined && (offline || !refresh)) return undefined;
    if (offline) throw notCached(entry.name);
    try {
      return resolve(entry, await suiteIndex(entry));
    } catch (error) {
      const unreachable = error instanceof SoftvtError && /_(NETWORK|NO_MIRROR)$/.test(error.code);
      if (cached === undefined || !unreachable) throw error;
      progress({
        kind: 'warning',
        message: `${error.message}; using the cached ${entry.name} ${cached.version}`,
      });
      return undefined;
    }
  };

  const unpackMain = async (entry: CatalogEntry, resolution: Resolution): Promise<Manifest> => {
    const { main, modules } = resolution;
    const bytes = await obtainPackage(environment, main, offline, progress);
    const deb = basename(main.filename);
    progress({ kind: 'unpack', file: deb });
    const [found] = await unpackDeb(bytes, deb, (path) => isMainFile(entry, path));
    if (found === undefined)
      throw new SoftvtError('ERR_SOFTVT_PACKAGE', `${deb} holds no ${entry.kind === 'file' ? entry.name : entry.kind}`);
    const version = (entry.kind === 'kernel' ? kernelRelease(found.path) : undefined) ?? main.version;
    // The package's version tells two builds of the same kernel release apart; ":" does not go everywhere in a path.
    const directory = join('images', entry.name, main.version.replaceAll(':', '_'));
    const file = join(directory, entry.kind === 'kernel' ? 'vmlinuz' : entry.file);
    writeAtomically(join(cache, file), found.data);
    return {
      name: entry.name,
      suite: entry.suite,
      version,
      package: main,
      ...(modules === undefined ? {} : { modulesPackage: modules }),
      file,
      fileSha256: sha256Of(found.data),
    };
  };

  const unpackModules = async (manifest: Manifest): Promise<Manifest> => {
    const source = manifest.modulesPackage;
    if (source === undefined) return manifest;
    const bytes = await obtainPackage(environment, source, offline, progress);
    const deb = basename(source.filename);
    progress({ kind: 'unpack', file: `modules of ${deb}` });
    const files = await unpackDeb(bytes, deb, isModule);
    if (files.length === 0) throw new SoftvtError('ERR_SOFTVT_PACKAGE', `${deb} holds no kernel modules`);
    const modules = join(dirname(manifest.file), 'modules');
    writeModules(join(cache, modules), files);
    return { ...manifest, modules };
  };

  /** The cached manifest; when bringing up to date only if its file is still whole, so that fetching mends it. */
  const readCached = (name: string): Manifest | undefined => {
    const manifest = readManifest(cache, name);
    if (manifest === undefined || !refresh) return manifest;
    return sha256Of(readFileSync(join(cache, manifest.file))) === manifest.fileSha256 ? manifest : undefined;
  };

  const ensure = async (entry: CatalogEntry, modules: boolean): Promise<Manifest> => {
    const cached = readCached(entry.name);
    const resolution = await resolveNow(entry, cached);
    const current = resolution === undefined || resolution.main.sha256 === cached?.package.sha256;
    let manifest = current && cached !== undefined ? cached : undefined;
    if (manifest === undefined) {
      if (resolution === undefined) throw notCached(entry.name);
      manifest = await unpackMain(entry, resolution);
      if (!manifest.version.startsWith(entry.name.replace(/-.*/, '.')) && entry.kind === 'kernel') {
        const message = `${entry.suite} has moved on: ${entry.name} is now ${manifest.version}`;
        progress({ kind: 'warning', message });
      }
    }
    if (modules && manifest.modules === undefined) manifest = await unpackModules(manifest);
    if (manifest !== cached) {
      writeManifest(cache, manifest);
      removeSuperseded(cache, manifest);
      if (cached !== undefined && cached.package.sha256 !== manifest.package.sha256) {
        rmSync(poolPath(cache, cached.package), { force: true });
        if (cached.modulesPackage !== undefined) rmSync(poolPath(cache, cached.modulesPackage), { force: true });
      }
    }
    return manifest;
  };

  const ensureFile = async (name: string): Promise<string> =>
    join(cache, (await ensure(catalogEntry(name), false)).file);

  return {
    async ensureImage(name, parts = {}) {
      const entry = catalogEntry(name);
      if (entry.kind !== 'kernel') throw new SoftvtError('ERR_SOFTVT_UNKNOWN_IMAGE', `${name} is not a kernel`);
      const manifest = await ensure(entry, parts.modules ?? false);
      return {
        name,
        version: manifest.version,
        vmlinuz: join(cache, manifest.file),
        ...(manifest.modules === undefined ? {} : { modules: join(cache, manifest.modules) }),
      };
    },
    async ensureBusybox() {
      return await ensureFile('busybox');
    },
    ensureFile,
    list() {
      return CATALOG.map((entry) => ({ entry, manifest: readManifest(cache, entry.name) }));
    },
    verify() {
      const damaged: string[] = [];
      const check = (name: string, path: string, sha256: string, required: boolean): void => {
        let found: string;
        try {
          found = sha256Of(readFileSync(path));
        } catch {
          if (required) damaged.push(`${name}: ${path} cannot be read`);
          return;
        }
        if (found !== sha256) damaged.push(`${name}: ${path} is damaged`);
      };
      for (const { entry, manifest } of this.list()) {
        if (manifest === undefined) continue;
        check(entry.name, join(cache, manifest.file), manifest.fileSha256, true);
        check(entry.name, poolPath(cache, manifest.package), manifest.package.sha256, false);
        const modules = manifest.modulesPackage;
        if (modules !== undefined && modules.sha256 !== manifest.package.sha256) {
          check(entry.name, poolPath(cache, modules), modules.sha256, false);
        }
      }
      return damaged;
    },
  };
}
