/** Recognises a kernel file and loads it as its format asks. */

import type { GuestMemory } from '../guest-memory.ts';
import { HIGH_RAM } from '../layout.ts';
import { type BootInput, badKernel, type LoadedKernel, tooLittleMemory } from './boot-input.ts';
import { isBzImage, loadBzImage } from './bzimage.ts';
import { isElf } from './elf.ts';
import { findMultibootHeader, loadMultiboot } from './multiboot.ts';
import { loadPvh } from './pvh.ts';

/** No guest is started with less: kernel, tables and page tables need room above 1 MiB. */
const LEAST_MEMORY = 2 * HIGH_RAM;

/**
 * Loads a bzImage, a Multiboot image or an ELF file with a PVH note, tried in QEMU's order.
 *
 * Throws ERR_SOFTVT_BAD_KERNEL, ERR_SOFTVT_TOO_LITTLE_MEMORY or ERR_SOFTVT_INITRD_TOO_LARGE.
 */
export function loadKernel(memory: GuestMemory, input: BootInput): LoadedKernel {
  const { kernel, kernelName } = input;
  if (kernel.length === 0) throw badKernel(kernelName, 'the kernel file is empty');
  if (memory.size < LEAST_MEMORY) throw tooLittleMemory(memory, 'any kernel', LEAST_MEMORY);
  const bzImage = isBzImage(kernel);
  if (!bzImage && findMultibootHeader(kernel) >= 0) return loadMultiboot(memory, input);
  if (input.modules !== undefined) throw badKernel(kernelName, 'modules are for Multiboot images, and this is none');
  if (bzImage) return loadBzImage(memory, input);
  if (isElf(kernel)) return loadPvh(memory, input);
  throw badKernel(kernelName, 'not a kernel: neither a bzImage nor a Multiboot image nor an ELF file with a PVH note');
}
