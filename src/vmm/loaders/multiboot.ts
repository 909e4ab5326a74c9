/**
 * Loads a Multiboot 1 image: ELF, or "a.out kludge" with addresses in the header.
 *
 * @see Multiboot Specification 0.6.96 "The layout of Multiboot header", "Machine state", "Boot information format"
 */

import { ByteWriter, cString } from '../byte-writer.ts';
import type { GuestMemory } from '../guest-memory.ts';
import {
  BOOT_INFO_ADDRESS,
  BOOT_LISTS_ADDRESS,
  COMMAND_LINE_ADDRESS,
  COMMAND_LINE_SIZE,
  HIGH_RAM,
  LOW_RAM_END,
  RAM_LIMIT,
} from '../layout.ts';
import {
  type BootInput,
  type BootModule,
  badKernel,
  type LoadedKernel,
  placeInitrd,
  tooLittleMemory,
} from './boot-input.ts';
import { isElf, loadSegments, readElf } from './elf.ts';
import { flatEntryState } from './entry-state.ts';

const HEADER_MAGIC = 0x1badb002;
const BOOTLOADER_MAGIC = 0x2badb002;
const SEARCH_LIMIT = 8192;
/** Header flags: bits 15:0 are demands, of which 0 (align modules), 1 (memory) and 2 (video) are defined. */
const HAS_ADDRESSES = 0x10000;
const UNKNOWN_DEMANDS = 0xfff8;

const INFO_MEMORY = 1;
const INFO_COMMAND_LINE = 4;
const INFO_MODULES = 8;
const INFO_MEMORY_MAP = 0x40;
const INFO_LOADER_NAME = 0x200;
const MODULE_ENTRY_SIZE = 16;
/** Modules are aligned, whether or not the image demands it. */
const PAGE = 0x1000;

/** Offset of the Multiboot header in the file, or -1. */
export function findMultibootHeader(file: Uint8Array): number {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const end = Math.min(SEARCH_LIMIT, file.length) - 12;
  for (let at = 0; at <= end; at += 4) {
    if (view.getUint32(at, true) !== HEADER_MAGIC) continue;
    const sum = HEADER_MAGIC + view.getUint32(at + 4, true) + view.getUint32(at + 8, true);
    if (sum % 2 ** 32 === 0) return at;
  }
  return -1;
}

/** Puts the image where its header says; gives entry and end. */
function loadByHeader(
  memory: GuestMemory,
  file: Uint8Array,
  header: number,
  name: string,
): { entry: number; end: number } {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (header + 32 > file.length) throw badKernel(name, 'the Multiboot header is cut off');
  const field = (n: number): number => view.getUint32(header + 12 + n * 4, true);
  const headerAddress = field(0);
  const loadAddress = field(1);
  const loadEnd = field(2);
  const bssEnd = field(3);
  const entry = field(4);
  const offset = header - (headerAddress - loadAddress);
  const size = loadEnd === 0 ? file.length - offset : loadEnd - loadAddress;
  if (offset < 0 || size <= 0 || headerAddress < loadAddress) {
    throw badKernel(name, 'the Multiboot header is corrupt: its addresses contradict each other');
  }
  if (offset + size > file.length) {
    throw badKernel(name, 'the Multiboot image is truncated: it ends before its load address does');
  }
  if (loadAddress < HIGH_RAM) {
    throw badKernel(name, `the Multiboot image wants to lie below 1 MiB`);
  }
  const end = Math.max(loadAddress + size, bssEnd);
  if (end > memory.size) throw tooLittleMemory(memory, 'this kernel', end);
  memory.write(loadAddress, file.subarray(offset, offset + size));
  return { entry, end };
}

function loadByElf(memory: GuestMemory, file: Uint8Array, name: string): { entry: number; end: number } {
  if (!isElf(file)) throw badKernel(name, 'the Multiboot image is neither ELF nor has addresses');
  const elf = readElf(file, name);
  if (elf.bits === 64) {
    throw badKernel(name, 'the Multiboot image is a 64-bit ELF; Multiboot starts 32-bit ones');
  }
  return { entry: elf.entry, end: loadSegments(memory, file, elf, name) };
}

/** Puts a Multiboot image, its modules, of which the initrd is the first, and the boot information into memory. */
export function loadMultiboot(memory: GuestMemory, input: BootInput): LoadedKernel {
  const { kernel, kernelName, initrd } = input;
  const header = findMultibootHeader(kernel);
  const view = new DataView(kernel.buffer, kernel.byteOffset, kernel.byteLength);
  const flags = view.getUint32(header + 4, true);
  if ((flags & UNKNOWN_DEMANDS) !== 0) {
    throw badKernel(kernelName, 'the Multiboot image demands features that do not exist');
  }
  const image =
    (flags & HAS_ADDRESSES) !== 0
      ? loadByHeader(memory, kernel, header, kernelName)
      : loadByElf(memory, kernel, kernelName);

  // As QEMU does, the command line starts with the kernel's name.
  const commandLine = cString(`${kernelName} ${input.commandLine}`);
  const modules: BootModule[] = [...(input.modules ?? [])];
  if (initrd !== undefined && initrd.length > 0) modules.unshift({ data: initrd, text: input.initrdName ?? 'initrd' });
  const texts = [commandLine, ...modules.map(({ text }) => cString(text))];
  if (texts.reduce((sum, { length }) => sum + length, 0) > COMMAND_LINE_SIZE) {
    throw badKernel(kernelName, 'the command line is too long');
  }
  const loaderName = cString('softvt');

  const lists = new ByteWriter();
  let textAt = COMMAND_LINE_ADDRESS;
  const sizes = modules.map(({ data }) => Math.ceil(data.length / PAGE) * PAGE);
  const size = sizes.reduce((sum, length) => sum + length, 0);
  let address = size === 0 ? image.end : placeInitrd(memory, size, image.end, RAM_LIMIT);
  for (const [n, { data }] of modules.entries()) {
    textAt += texts[n]!.length;
    memory.write(address, data);
    lists.u32(address, address + data.length, textAt, 0);
    address += sizes[n]!;
  }
  const mapAt = BOOT_LISTS_ADDRESS + modules.length * MODULE_ENTRY_SIZE;
  // Each entry is preceded by its size, which does not count itself.
  for (const range of input.memoryMap) lists.u32(20).u64(range.address, range.size).u32(range.type);
  const mapLength = input.memoryMap.length * 24;
  const loaderNameAt = BOOT_LISTS_ADDRESS + lists.length;
  lists.bytes(loaderName);
  memory.write(BOOT_LISTS_ADDRESS, lists.finish());
  memory.write(COMMAND_LINE_ADDRESS, texts.reduce((out, text) => out.bytes(text), new ByteWriter()).finish());

  const present = INFO_MEMORY | INFO_COMMAND_LINE | INFO_MODULES | INFO_MEMORY_MAP | INFO_LOADER_NAME;
  const info = new ByteWriter()
    .u32(present)
    .u32(LOW_RAM_END >> 10, (memory.size - HIGH_RAM) >>> 10)
    .u32(0) // boot device
    .u32(COMMAND_LINE_ADDRESS)
    .u32(modules.length, modules.length > 0 ? BOOT_LISTS_ADDRESS : 0)
    .u32(0, 0, 0, 0) // symbols
    .u32(mapLength, mapAt)
    .u32(0, 0, 0) // drives, configuration table
    .u32(loaderNameAt)
    .zeros(56);
  memory.write(BOOT_INFO_ADDRESS, info.finish());
  return {
    format: 'Multiboot',
    entry: flatEntryState(memory, 'protected', image.entry, {
      rax: BOOTLOADER_MAGIC,
      rbx: BOOT_INFO_ADDRESS,
    }),
  };
}
