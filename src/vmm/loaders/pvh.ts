/**
 * Loads an ELF kernel through its PVH entry.
 *
 * @see Xen docs/misc/pvh.pandoc and public header arch-x86/hvm/start_info.h
 */

import { ByteWriter, cString } from '../byte-writer.ts';
import type { GuestMemory } from '../guest-memory.ts';
import {
  BOOT_INFO_ADDRESS,
  BOOT_LISTS_ADDRESS,
  COMMAND_LINE_ADDRESS,
  COMMAND_LINE_SIZE,
  RAM_LIMIT,
} from '../layout.ts';
import { type BootInput, badKernel, type LoadedKernel, placeInitrd } from './boot-input.ts';
import { type ElfFile, loadSegments, readElf, readNotes } from './elf.ts';
import { flatEntryState } from './entry-state.ts';

const XEN_ELFNOTE_PHYS32_ENTRY = 18;
const HVM_START_MAGIC = 0x336ec578;
const MODULE_ENTRY_SIZE = 32;

/** The 32-bit physical entry that the kernel's PVH note names, or undefined if it has none. */
function pvhEntry(file: Uint8Array, elf: ElfFile): number | undefined {
  const note = readNotes(file, elf).find(
    ({ name, type, descriptor }) => name === 'Xen' && type === XEN_ELFNOTE_PHYS32_ENTRY && descriptor.length >= 4,
  );
  if (note === undefined) return undefined;
  const { buffer, byteOffset } = note.descriptor;
  return new DataView(buffer, byteOffset).getUint32(0, true);
}

/** Puts an ELF kernel with a PVH note, its modules and hvm_start_info into memory. */
export function loadPvh(memory: GuestMemory, input: BootInput): LoadedKernel {
  const { kernel, kernelName, initrd } = input;
  const elf = readElf(kernel, kernelName);
  const entry = pvhEntry(kernel, elf);
  if (entry === undefined) {
    throw badKernel(kernelName, 'the ELF file has no PVH note, so it cannot be started directly');
  }
  const commandLine = cString(input.commandLine);
  if (commandLine.length > COMMAND_LINE_SIZE) throw badKernel(kernelName, 'the command line is too long');
  const kernelEnd = loadSegments(memory, kernel, elf, kernelName);

  const lists = new ByteWriter();
  let modules = 0;
  if (initrd !== undefined && initrd.length > 0) {
    const address = placeInitrd(memory, initrd.length, kernelEnd, RAM_LIMIT);
    memory.write(address, initrd);
    lists.u64(address, initrd.length, 0, 0);
    modules = 1;
  }
  for (const { address, size, type } of input.memoryMap) lists.u64(address, size).u32(type, 0);
  memory.write(BOOT_LISTS_ADDRESS, lists.finish());
  memory.write(COMMAND_LINE_ADDRESS, commandLine);

  const startInfo = new ByteWriter()
    .u32(HVM_START_MAGIC, 1, 0, modules)
    .u64(modules > 0 ? BOOT_LISTS_ADDRESS : 0)
    .u64(COMMAND_LINE_ADDRESS)
    .u64(input.rsdp)
    .u64(BOOT_LISTS_ADDRESS + modules * MODULE_ENTRY_SIZE)
    .u32(input.memoryMap.length, 0);
  memory.write(BOOT_INFO_ADDRESS, startInfo.finish());
  return {
    format: 'ELF/PVH',
    entry: flatEntryState(memory, 'protected', entry, { rbx: BOOT_INFO_ADDRESS }),
  };
}
