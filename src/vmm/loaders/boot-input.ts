/** What a loader is given and what it gives back. */

import { SoftvtError } from '../../util/errors.ts';
import type { GuestMemory } from '../guest-memory.ts';
import type { MemoryRange } from '../memory-map.ts';
import type { EntryState } from './entry-state.ts';

/** A file that is loaded beside a kernel. */
export interface BootModule {
  readonly data: Uint8Array;
  /** What the kernel is told of it: by custom a name, and arguments behind a space. */
  readonly text: string;
}

/** The kernel and everything that goes into memory with it. */
export interface BootInput {
  /** The kernel file and the name to use for it in messages. */
  readonly kernel: Uint8Array;
  readonly kernelName: string;
  readonly initrd?: Uint8Array;
  readonly initrdName?: string;
  /** Multiboot images only: modules behind the initrd. */
  readonly modules?: readonly BootModule[];
  readonly commandLine: string;
  readonly memoryMap: readonly MemoryRange[];
  /** Physical address of the ACPI root pointer. */
  readonly rsdp: number;
}

/** A kernel in memory, ready to run. */
export interface LoadedKernel {
  readonly format: 'bzImage' | 'ELF/PVH' | 'Multiboot';
  readonly entry: EntryState;
}

/** A file that cannot be a guest. */
export function badKernel(name: string, why: string): SoftvtError {
  return new SoftvtError('ERR_SOFTVT_BAD_KERNEL', `${name}: ${why}`);
}

/** `bytes` in MiB, rounded up, as text. */
export function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / 0x100000)}M`;
}

/** RAM is too small for what has to lie in it; `needed` is the size that would do. */
export function tooLittleMemory(memory: GuestMemory, what: string, needed: number): SoftvtError {
  return new SoftvtError(
    'ERR_SOFTVT_TOO_LITTLE_MEMORY',
    `${mebibytes(memory.size)} of memory is too little for ${what}`,
    { hint: `--memory ${mebibytes(needed)} or more` },
  );
}

/**
 * Where an initrd of `size` bytes goes: page-aligned, as high as `limit` (exclusive) and RAM allow, not below `floor`.
 *
 * Throws ERR_SOFTVT_TOO_LITTLE_MEMORY if there is no room.
 */
export function placeInitrd(memory: GuestMemory, size: number, floor: number, limit: number): number {
  const top = Math.min(memory.size, limit);
  const address = Math.floor((top - size) / 0x1000) * 0x1000;
  if (address < floor) {
    if (limit < floor + size) {
      throw new SoftvtError(
        'ERR_SOFTVT_INITRD_TOO_LARGE',
        `an initrd of ${mebibytes(size)} is larger than this kernel can take`,
      );
    }
    throw tooLittleMemory(memory, `an initrd of ${mebibytes(size)}`, floor + size + 0x1000);
  }
  return address;
}
