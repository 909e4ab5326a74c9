/** Synthetic kernels for tests: the smallest files that each loader takes. */

import { ByteWriter } from '../byte-writer.ts';
import { ArrayGuestMemory } from '../guest-memory.ts';
import { memoryMap } from '../memory-map.ts';
import type { BootInput } from './boot-input.ts';

export const MIB = 0x100000;

/** Loader input for `kernel` in `memorySize` bytes of RAM. */
export function bootInput(
  kernel: Uint8Array,
  extra: Partial<BootInput> = {},
  memorySize: number = 64 * MIB,
): { memory: ArrayGuestMemory; input: BootInput } {
  const input: BootInput = {
    kernel,
    kernelName: 'vmlinuz',
    commandLine: 'console=ttyS0',
    memoryMap: memoryMap(memorySize),
    rsdp: 0xe0000,
    ...extra,
  };
  return { memory: new ArrayGuestMemory(memorySize), input };
}

/** A bzImage of one setup sector and `systemSize` bytes of 0x90 with an lz4 payload mark; `patch` changes its header. */
export function makeBzImage(
  patch: (header: DataView, file: Uint8Array) => void = () => {},
  systemSize = 0x400,
): Uint8Array {
  const setup = 0x400;
  const file = new Uint8Array(setup + systemSize).fill(0x90, setup);
  const view = new DataView(file.buffer);
  file[0x1f1] = 1;
  view.setUint32(0x1f4, systemSize / 16, true);
  view.setUint16(0x1fe, 0xaa55, true);
  file[0x201] = 0x6a;
  view.setUint32(0x202, 0x53726448, true);
  view.setUint16(0x206, 0x20f, true);
  file[0x211] = 1;
  view.setUint32(0x22c, 0x7fffffff, true);
  file[0x234] = 1;
  view.setUint16(0x236, 0x7f, true);
  view.setUint32(0x238, 2047, true);
  view.setUint32(0x248, 0x100, true);
  view.setUint32(0x24c, 0x200, true);
  view.setBigUint64(0x258, BigInt(16 * MIB), true);
  view.setUint32(0x260, 8 * MIB, true);
  file.set([0x02, 0x21], setup + 0x100);
  patch(view, file);
  return file;
}

/** What {@link makeElf} puts into the file. */
export interface ElfShape {
  readonly bits?: 32 | 64;
  readonly machine?: number;
  readonly type?: number;
  readonly address?: number;
  readonly content?: Uint8Array;
  readonly memorySize?: number;
  /** Value of the PVH note; none if left out. */
  readonly pvhEntry?: number;
}

/** An ELF executable with one loadable segment and, on demand, a PVH note. */
export function makeElf(shape: ElfShape = {}): Uint8Array {
  const { bits = 64, machine = 62, type = 2, address = MIB } = shape;
  const { content = Uint8Array.of(0xf4, 0xeb, 0xfd), pvhEntry } = shape;
  const wide = bits === 64;
  const note = new ByteWriter();
  if (pvhEntry !== undefined) note.u32(4, 4, 18).text('Xen', 4).u32(pvhEntry);
  const headerSize = wide ? 64 : 52;
  const entrySize = wide ? 56 : 32;
  const noteAt = headerSize + 2 * entrySize;
  const contentAt = noteAt + note.length;
  const out = new ByteWriter();
  const word = (...values: number[]): ByteWriter => (wide ? out.u64(...values) : out.u32(...values));
  out
    .u8(0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1)
    .zeros(9)
    .u16(type, machine)
    .u32(1);
  word(address, headerSize, 0);
  out.u32(0).u16(headerSize, entrySize, 2, 0, 0, 0);
  const segment = (kind: number, at: number, physical: number, size: number, inMemory: number) => {
    if (wide) out.u32(kind, 7).u64(at, physical, physical, size, inMemory, 4);
    else out.u32(kind, at, physical, physical, size, inMemory, 7, 4);
  };
  segment(1, contentAt, address, content.length, shape.memorySize ?? content.length);
  segment(4, noteAt, 0, note.length, note.length);
  return out.bytes(note.finish()).bytes(content).finish();
}

/** A Multiboot image that names its addresses, with `code` at its entry. */
export function makeMultiboot(
  code: Uint8Array,
  { flags = 0x10003, loadAddress = MIB, padding = 64 }: { flags?: number; loadAddress?: number; padding?: number } = {},
): Uint8Array {
  const headerAddress = loadAddress + padding;
  const entry = headerAddress + 48;
  return new ByteWriter()
    .zeros(padding)
    .u32(0x1badb002, flags, -(0x1badb002 + flags) >>> 0)
    .u32(headerAddress, loadAddress, 0, entry + 0x1000, entry)
    .zeros(16)
    .bytes(code)
    .finish();
}
