/** Makes an IDE disk that boots a kernel on machines that have only a BIOS: Bochs, and QEMU under equal conditions. */

import { ByteWriter } from '../src/vmm/byte-writer.ts';
import { ArrayGuestMemory } from '../src/vmm/guest-memory.ts';
import { loadKernel } from '../src/vmm/loaders/kernel.ts';
import { memoryMap } from '../src/vmm/memory-map.ts';
import type { GuestImages } from './guest-image.ts';

const SECTOR = 512;
const PAGE = 4096;
/** Sectors of boot sector, loader and table. */
const TABLE_SECTOR = 16;
const FIRST_PIECE = 17;
const MOST_PIECES = 41;
const SECTORS_PER_TRACK = 63;
const HEADS = 16;
/** Pages above which a gap becomes two pieces. */
const GAP = 16;
/** The loader itself lies here, and nothing of ours does. */
const LOADER_AREA = { from: 0x60000, to: 0x100000 };
/** The 64-bit entry lies behind the 32-bit one, which the loader takes. */
const ENTRY_64 = 0x200;

/** What is booted. */
export interface DiskGuest {
  readonly kernel: Uint8Array;
  readonly initrd?: Uint8Array;
  readonly commandLine: string;
  readonly memorySize: number;
}

/** Runs of pages that are not empty, as first page and end. */
function usedRuns(bytes: Uint8Array): [number, number][] {
  const runs: [number, number][] = [];
  const words = new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8);
  for (let page = 0; page < bytes.length / PAGE; page++) {
    const used = words.subarray((page * PAGE) / 8, ((page + 1) * PAGE) / 8).some((word) => word !== 0n);
    if (!used) continue;
    const last = runs.at(-1);
    if (last !== undefined && page - last[1] < GAP) last[1] = page + 1;
    else runs.push([page, page + 1]);
  }
  return runs;
}

/** The disk, a whole number of cylinders; `cylinders` tells Bochs how many. */
export function bootDisk(images: GuestImages, guest: DiskGuest): { readonly bytes: Uint8Array; cylinders: number } {
  const { kernel, initrd, commandLine, memorySize } = guest;
  const memory = new ArrayGuestMemory(memorySize);
  const { entry } = loadKernel(memory, {
    kernel,
    kernelName: 'kernel',
    ...(initrd === undefined ? {} : { initrd }),
    commandLine,
    memoryMap: memoryMap(memorySize),
    rsdp: 0,
  });
  const table = new ByteWriter();
  const content = new ByteWriter();
  // The first page belongs to the BIOS.
  const runs = usedRuns(memory.bytes).map(([from, to]): [number, number] => [Math.max(from, 1), to]);
  if (runs.length > MOST_PIECES) throw new Error('the memory image has too many pieces for the disk loader');
  let sector = FIRST_PIECE;
  for (const [from, to] of runs) {
    const [start, end] = [from * PAGE, to * PAGE];
    if (start < LOADER_AREA.to && end > LOADER_AREA.from) throw new Error('the disk loader is in the way');
    const sectors = (end - start) / SECTOR;
    table.u32(start, sector, sectors);
    content.bytes(memory.bytes.subarray(start, end));
    sector += sectors;
  }
  const rip = entry.mode === 'long' ? entry.rip - ENTRY_64 : entry.rip;
  const header = new ByteWriter().u32(rip, entry.rax ?? 0, entry.rbx ?? 0, entry.rsi ?? 0, runs.length).finish();
  const cylinders = Math.ceil(sector / (SECTORS_PER_TRACK * HEADS)) + 1;
  const bytes = new Uint8Array(cylinders * HEADS * SECTORS_PER_TRACK * SECTOR);
  bytes.set(images.bootSector);
  bytes.set(images.diskLoader, SECTOR);
  bytes.set(header, TABLE_SECTOR * SECTOR);
  bytes.set(table.finish(), TABLE_SECTOR * SECTOR + header.length);
  bytes.set(content.finish(), FIRST_PIECE * SECTOR);
  return { bytes, cylinders };
}
