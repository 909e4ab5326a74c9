/**
 * Loads a Linux bzImage by the 64-bit boot protocol, or by the 32-bit one if it has no 64-bit entry.
 *
 * @see Linux Documentation/arch/x86/boot.rst "The Real-Mode Kernel Header", "32-bit Boot Protocol", "64-bit Boot Protocol"
 */

import { ByteWriter, cString } from '../byte-writer.ts';
import type { GuestMemory } from '../guest-memory.ts';
import { BOOT_INFO_ADDRESS, COMMAND_LINE_ADDRESS, COMMAND_LINE_SIZE, HIGH_RAM } from '../layout.ts';
import type { MemoryRange } from '../memory-map.ts';
import { type BootInput, badKernel, type LoadedKernel, placeInitrd, tooLittleMemory } from './boot-input.ts';
import { flatEntryState } from './entry-state.ts';

/** Offsets in the kernel file, equal to those in boot_params. */
const SETUP_SECTS = 0x1f1;
const SYSSIZE = 0x1f4;
const BOOT_FLAG = 0x1fe;
const HEADER_JUMP = 0x201;
const MAGIC = 0x202;
const HEADER_START = 0x1f1;
const VERSION = 0x206;
const TYPE_OF_LOADER = 0x210;
const LOADFLAGS = 0x211;
const CODE32_START = 0x214;
const RAMDISK_IMAGE = 0x218;
const RAMDISK_SIZE = 0x21c;
const HEAP_END_PTR = 0x224;
const CMD_LINE_PTR = 0x228;
const INITRD_ADDR_MAX = 0x22c;
const RELOCATABLE = 0x234;
const XLOADFLAGS = 0x236;
const CMDLINE_SIZE = 0x238;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const PREF_ADDRESS = 0x258;
const INIT_SIZE = 0x260;

/** Offsets in boot_params only. */
const ACPI_RSDP_ADDR = 0x70;
const EXT_RAMDISK_IMAGE = 0xc0;
const EXT_RAMDISK_SIZE = 0xc4;
const ALT_MEM_K = 0x1e0;
const E820_ENTRIES = 0x1e8;
const E820_TABLE = 0x2d0;
const E820_MAX = 128;
const BOOT_PARAMS_SIZE = 0x1000;

const LOADED_HIGH = 0x01;
const CAN_USE_HEAP = 0x80;
const XLF_KERNEL_64 = 0x0001;
const ENTRY_64 = 0x200;
const UNDEFINED_LOADER = 0xff;
/** The oldest protocol that tells how much memory a kernel needs, and the oldest with a 64-bit entry. */
const OLDEST = 0x20a;
const OLDEST_64 = 0x20c;
const SECTOR = 512;
const DEFAULT_INITRD_MAX = 0x37ffffff;
const HEADER_MAGIC = 0x53726448; // "HdrS"

/** First bytes of the payload formats that kernels are compressed with. */
const PAYLOAD_MAGIC: readonly (readonly number[])[] = [
  [0x1f, 0x8b], // gzip
  [0x1f, 0x9e], // gzip, old
  [0x42, 0x5a], // bzip2
  [0x5d, 0x00], // lzma
  [0xfd, 0x37], // xz
  [0x89, 0x4c], // lzo
  [0x02, 0x21], // lz4
  [0x28, 0xb5], // zstd
  [0x7f, 0x45], // uncompressed ELF
];

/** The fields of the setup header that loading depends on. */
interface SetupHeader {
  readonly setupSize: number;
  /** It has a 64-bit entry. */
  readonly has64: boolean;
  readonly headerEnd: number;
  readonly initrdMax: number;
  readonly commandLineMax: number;
  readonly relocatable: boolean;
  readonly prefAddress: number;
  readonly initSize: number;
}

/** Whether the file carries the Linux setup header. */
export function isBzImage(kernel: Uint8Array): boolean {
  if (kernel.length < MAGIC + 4) return false;
  const view = viewOf(kernel);
  return view.getUint16(BOOT_FLAG, true) === 0xaa55 && view.getUint32(MAGIC, true) === HEADER_MAGIC;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Reads and checks the setup header. Throws ERR_SOFTVT_BAD_KERNEL. */
function readHeader(kernel: Uint8Array, name: string): SetupHeader {
  if (kernel.length < 0x268) throw badKernel(name, 'the kernel is cut off inside its setup header');
  const view = viewOf(kernel);
  const protocol = view.getUint16(VERSION, true);
  if ((view.getUint8(LOADFLAGS) & LOADED_HIGH) === 0) {
    throw badKernel(name, 'the kernel is a zImage, which loads low; a bzImage is needed');
  }
  // 0 means 4, for the sake of very old kernels.
  const setupSize = ((view.getUint8(SETUP_SECTS) || 4) + 1) * SECTOR;
  const systemSize = view.getUint32(SYSSIZE, true) * 16;
  // syssize is rounded up to paragraphs.
  if (kernel.length + 15 < setupSize + systemSize) {
    throw badKernel(
      name,
      `the kernel is truncated: its header promises ${setupSize + systemSize} bytes, the file has ${kernel.length}`,
    );
  }
  if (kernel.length <= setupSize) throw badKernel(name, 'the kernel is truncated after its setup');
  if (protocol < OLDEST) throw badKernel(name, 'the kernel is too old: its boot protocol is not 2.10 or later');
  checkPayload(kernel, setupSize, name);
  return {
    setupSize,
    has64: protocol >= OLDEST_64 && (view.getUint16(XLOADFLAGS, true) & XLF_KERNEL_64) !== 0,
    headerEnd: MAGIC + view.getUint8(HEADER_JUMP),
    initrdMax: view.getUint32(INITRD_ADDR_MAX, true) || DEFAULT_INITRD_MAX,
    commandLineMax: view.getUint32(CMDLINE_SIZE, true),
    relocatable: view.getUint8(RELOCATABLE) !== 0,
    prefAddress: Number(view.getBigUint64(PREF_ADDRESS, true)),
    initSize: view.getUint32(INIT_SIZE, true),
  };
}

/** The compressed kernel must lie in the file and start as one of the known formats does. */
function checkPayload(kernel: Uint8Array, setupSize: number, name: string): void {
  const view = viewOf(kernel);
  const length = view.getUint32(PAYLOAD_LENGTH, true);
  if (length === 0) return;
  const offset = setupSize + view.getUint32(PAYLOAD_OFFSET, true);
  if (offset + length > kernel.length) {
    throw badKernel(name, 'the kernel is truncated: its payload reaches beyond the end of the file');
  }
  if (!PAYLOAD_MAGIC.some(([a, b]) => kernel[offset] === a && kernel[offset + 1] === b)) {
    throw badKernel(name, 'the kernel is corrupt: its payload is in no known compression format');
  }
}

/** Puts a bzImage, its initrd, its command line and boot_params into memory, ready to be entered. */
export function loadBzImage(memory: GuestMemory, input: BootInput): LoadedKernel {
  const { mode, entry, bootParams } = placeBzImage(memory, input);
  return { format: 'bzImage', entry: flatEntryState(memory, mode, entry, { rsi: bootParams }) };
}

/** Puts the same into memory; gives the entry point and its mode, and the address of boot_params, which RSI is to hold there. */
export function placeBzImage(
  memory: GuestMemory,
  input: BootInput,
): { mode: 'protected' | 'long'; entry: number; bootParams: number } {
  const { kernel, kernelName } = input;
  const header = readHeader(kernel, kernelName);
  const commandLine = cString(input.commandLine);
  const longest = Math.min(header.commandLineMax + 1, COMMAND_LINE_SIZE);
  if (commandLine.length > longest) {
    throw badKernel(
      kernelName,
      `the command line has ${commandLine.length - 1} bytes, this kernel takes ${longest - 1}`,
    );
  }
  const image = kernel.subarray(header.setupSize);
  // A relocatable kernel is moved to its preferred address and decompressed there; what it needs is told by init_size.
  const start = header.relocatable ? Math.max(header.prefAddress, HIGH_RAM) : HIGH_RAM;
  const kernelEnd = Math.max(start + header.initSize, HIGH_RAM + image.length);
  if (kernelEnd > memory.size) throw tooLittleMemory(memory, 'this kernel', kernelEnd);

  const bootParams = new Uint8Array(BOOT_PARAMS_SIZE);
  const view = viewOf(bootParams);
  bootParams.set(kernel.subarray(HEADER_START, header.headerEnd), HEADER_START);
  bootParams[TYPE_OF_LOADER] = UNDEFINED_LOADER;
  bootParams[LOADFLAGS] = bootParams[LOADFLAGS]! | CAN_USE_HEAP;
  view.setUint16(HEAP_END_PTR, 0xfe00, true);
  view.setUint32(CODE32_START, HIGH_RAM, true);
  view.setUint32(CMD_LINE_PTR, COMMAND_LINE_ADDRESS, true);
  view.setBigUint64(ACPI_RSDP_ADDR, BigInt(input.rsdp), true);
  view.setUint32(ALT_MEM_K, (memory.size - HIGH_RAM) >>> 10, true);
  writeE820(bootParams, input.memoryMap);

  const { initrd } = input;
  if (initrd !== undefined && initrd.length > 0) {
    const address = placeInitrd(memory, initrd.length, kernelEnd, header.initrdMax + 1);
    memory.write(address, initrd);
    view.setUint32(RAMDISK_IMAGE, address >>> 0, true);
    view.setUint32(RAMDISK_SIZE, initrd.length >>> 0, true);
    view.setUint32(EXT_RAMDISK_IMAGE, Math.floor(address / 2 ** 32), true);
    view.setUint32(EXT_RAMDISK_SIZE, Math.floor(initrd.length / 2 ** 32), true);
  }
  memory.write(HIGH_RAM, image);
  memory.write(COMMAND_LINE_ADDRESS, commandLine);
  memory.write(BOOT_INFO_ADDRESS, bootParams);
  const { has64 } = header;
  return {
    mode: has64 ? 'long' : 'protected',
    entry: has64 ? HIGH_RAM + ENTRY_64 : HIGH_RAM,
    bootParams: BOOT_INFO_ADDRESS,
  };
}

function writeE820(bootParams: Uint8Array, ranges: readonly MemoryRange[]): void {
  const table = new ByteWriter();
  for (const { address, size, type } of ranges.slice(0, E820_MAX)) {
    table.u64(address, size).u32(type);
  }
  bootParams.set(table.finish(), E820_TABLE);
  bootParams[E820_ENTRIES] = Math.min(ranges.length, E820_MAX);
}
