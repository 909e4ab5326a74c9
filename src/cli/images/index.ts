/** Guest images for the rest of the command line: the functions others call. */

import { type GuestImage, type ImageStoreOptions, openImageStore } from './store.ts';

export { buildInitramfs, type InitMode, USERSPACE_MARKER } from './initramfs.ts';
export { collectModules } from './modules.ts';
export { progressWriter } from './progress.ts';
export type { GuestImage, ImageStoreOptions };

/**
 * A kernel by its short name (`6.1-cloud`, `6.12-cloud`, `7.2-cloud` …), fetched if the cache does not have it.
 *
 * Throws a SoftvtError that says in one line why it cannot be had.
 */
export async function ensureImage(
  name: string,
  options: ImageStoreOptions & { readonly modules?: boolean } = {},
): Promise<GuestImage> {
  return await openImageStore(options).ensureImage(name, { modules: options.modules ?? false });
}

/** Path of a static busybox, fetched if the cache does not have it. */
export async function ensureBusybox(options: ImageStoreOptions = {}): Promise<string> {
  return await openImageStore(options).ensureBusybox();
}

/** Path of an image that is no kernel (`seabios`, `grub` …), fetched if the cache does not have it. */
export async function ensureFile(name: string, options: ImageStoreOptions = {}): Promise<string> {
  return await openImageStore(options).ensureFile(name);
}
