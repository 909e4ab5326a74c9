/** The guest images softvt knows by a short name, and where the distribution keeps them. */

import { SoftvtError } from '../../util/errors.ts';

/** One image: a meta package of a suite, resolved to the current package when it is fetched. */
export interface CatalogEntry {
  /** What the user types. */
  readonly name: string;
  /** The suite's name below `dists/` on the mirror. */
  readonly suite: string;
  /** The package to start from; for a kernel the meta package that depends on the current image. */
  readonly package: string;
  readonly kind: 'kernel' | 'busybox';
}

/** Every image, in the order `softvt images list` shows. */
export const CATALOG: readonly CatalogEntry[] = [
  { name: '6.1-cloud', suite: 'bookworm', package: 'linux-image-cloud-amd64', kind: 'kernel' },
  { name: '6.12-cloud', suite: 'trixie', package: 'linux-image-cloud-amd64', kind: 'kernel' },
  { name: '7.2-cloud', suite: 'sid', package: 'linux-image-cloud-amd64', kind: 'kernel' },
  { name: '6.1', suite: 'bookworm', package: 'linux-image-amd64', kind: 'kernel' },
  { name: '6.12', suite: 'trixie', package: 'linux-image-amd64', kind: 'kernel' },
  { name: '7.2', suite: 'sid', package: 'linux-image-amd64', kind: 'kernel' },
  { name: 'busybox', suite: 'bookworm', package: 'busybox-static', kind: 'busybox' },
];

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
