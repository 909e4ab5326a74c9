/** The guest images softvt knows by a short name, and where the distribution keeps them. */

import { SoftvtError } from '../../util/errors.ts';

/** The distribution's architectures that images are of. */
export type Architecture = 'amd64' | 'i386';

interface ImageSource {
  /** What the user types. */
  readonly name: string;
  /** The suite's name below `dists/` on the mirror. */
  readonly suite: string;
  readonly architecture: Architecture;
  /** The package to start from; for a kernel the meta package that depends on the current image. */
  readonly package: string;
}

/** A kernel: a meta package of a suite, resolved to the current package when it is fetched. */
interface KernelEntry extends ImageSource {
  readonly kind: 'kernel';
}

/** One file of a package. */
interface FileEntry extends ImageSource {
  readonly kind: 'file';
  /** Its path in the package; merged layouts have `usr` in front. */
  readonly path: RegExp;
  /** What it is called in the cache. */
  readonly file: string;
}

/** One image. */
export type CatalogEntry = KernelEntry | FileEntry;

/** Every image, in the order `softvt images list` shows. */
export const CATALOG: readonly CatalogEntry[] = [
  kernelOf('6.1-cloud', 'bookworm', 'linux-image-cloud-amd64'),
  kernelOf('6.12-cloud', 'trixie', 'linux-image-cloud-amd64'),
  kernelOf('7.2-cloud', 'sid', 'linux-image-cloud-amd64'),
  kernelOf('6.1', 'bookworm', 'linux-image-amd64'),
  kernelOf('6.12', 'trixie', 'linux-image-amd64'),
  kernelOf('7.2', 'sid', 'linux-image-amd64'),
  kernelOf('6.1-i386', 'bookworm', 'linux-image-686-pae', 'i386'),
  fileOf('busybox', 'busybox-static', /^(usr\/)?bin\/busybox$/, 'busybox'),
  fileOf('busybox-i386', 'busybox-static', /^(usr\/)?bin\/busybox$/, 'busybox', 'i386'),
  fileOf('seabios', 'seabios', /^usr\/share\/seabios\/bios\.bin$/, 'bios.bin'),
  fileOf('grub', 'grub-rescue-pc', /^usr\/lib\/grub-rescue\/grub-rescue-floppy\.img$/, 'grub.img'),
  fileOf('ipxe', 'ipxe', /^usr\/lib\/ipxe\/ipxe\.iso$/, 'ipxe.iso'),
  fileOf('memtest86+', 'memtest86+', /^boot\/memtest86\+x64\.bin$/, 'memtest.bin'),
  fileOf('xen', 'xen-hypervisor-4.17-amd64', /^boot\/xen-4\.17-amd64\.gz$/, 'xen.gz'),
];

function kernelOf(name: string, suite: string, from: string, architecture: Architecture = 'amd64'): KernelEntry {
  return { name, suite, architecture, package: from, kind: 'kernel' };
}

function fileOf(
  name: string,
  from: string,
  path: RegExp,
  file: string,
  architecture: Architecture = 'amd64',
): FileEntry {
  return { name, suite: 'bookworm', architecture, package: from, kind: 'file', path, file };
}

/** The packages of images that are one file. */
export const FILE_PACKAGES: readonly string[] = CATALOG.filter(({ kind }) => kind === 'file').map((e) => e.package);

/** The images that `softvt images fetch` without names brings: what the demo and the guest tests use. */
export const DEFAULT_IMAGES: readonly string[] = ['6.1-cloud', '6.12-cloud', '7.2-cloud', 'busybox'];

/** The catalog's entry of a short name. Throws ERR_SOFTVT_UNKNOWN_IMAGE. */
export function catalogEntry(name: string): CatalogEntry {
  const entry = CATALOG.find((candidate) => candidate.name === name);
  if (entry === undefined) {
    throw new SoftvtError('ERR_SOFTVT_UNKNOWN_IMAGE', `there is no image named '${name}'`, {
      hint: `known images: ${CATALOG.map((known) => known.name).join(', ')}`,
    });
  }
  return entry;
}
