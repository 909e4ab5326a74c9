/**
 * Reads ELF files as far as a loader needs: segments, notes, entry.
 *
 * @see ELF "Object Files", "Program Loading"
 */

import type { GuestMemory } from '../guest-memory.ts';
import { HIGH_RAM } from '../layout.ts';
import { badKernel, tooLittleMemory } from './boot-input.ts';

/** A part of the file that is loaded or that holds notes. */
export interface ElfSegment {
  readonly type: number;
  readonly offset: number;
  readonly physicalAddress: number;
  readonly fileSize: number;
  readonly memorySize: number;
  readonly alignment: number;
}

export interface ElfNote {
  readonly name: string;
  readonly type: number;
  readonly descriptor: Uint8Array;
}

export interface ElfFile {
  readonly bits: 32 | 64;
  readonly entry: number;
  readonly segments: readonly ElfSegment[];
}

export const PT_LOAD = 1;
const PT_NOTE = 4;
const ET_EXEC = 2;
const ET_DYN = 3;
const EM_386 = 3;
const EM_X86_64 = 62;

/** Whether the file starts as an ELF file does. */
export function isElf(file: Uint8Array): boolean {
  return file[0] === 0x7f && file[1] === 0x45 && file[2] === 0x4c && file[3] === 0x46;
}

/** Parses header and program headers. Throws ERR_SOFTVT_BAD_KERNEL if the file cannot be an x86 kernel or is cut off. */
export function readElf(file: Uint8Array, name: string): ElfFile {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < 52) throw badKernel(name, 'the ELF file is truncated');
  const bits = file[4] === 2 ? 64 : 32;
  if (file[5] !== 1) throw badKernel(name, 'the ELF file is not little-endian');
  const machine = view.getUint16(18, true);
  if (machine !== EM_386 && machine !== EM_X86_64) {
    throw badKernel(name, `the ELF file is for another processor (machine ${machine}), not x86`);
  }
  const type = view.getUint16(16, true);
  if (type !== ET_EXEC && type !== ET_DYN) {
    throw badKernel(name, 'the ELF file is an object file, not an executable');
  }
  const wide = bits === 64;
  if (wide && file.length < 64) throw badKernel(name, 'the ELF file is truncated');
  const word = (at: number): number => (wide ? Number(view.getBigUint64(at, true)) : view.getUint32(at, true));
  const table = word(wide ? 32 : 28);
  const entrySize = view.getUint16(wide ? 54 : 42, true);
  const count = view.getUint16(wide ? 56 : 44, true);
  if (entrySize < (wide ? 56 : 32) || table + entrySize * count > file.length) {
    throw badKernel(name, 'the ELF file is truncated in its program headers');
  }
  const segments: ElfSegment[] = [];
  for (let n = 0; n < count; n++) {
    const at = table + n * entrySize;
    const segment: ElfSegment = {
      type: view.getUint32(at, true),
      offset: word(at + (wide ? 8 : 4)),
      physicalAddress: word(at + (wide ? 24 : 12)),
      fileSize: word(at + (wide ? 32 : 16)),
      memorySize: word(at + (wide ? 40 : 20)),
      alignment: word(at + (wide ? 48 : 28)),
    };
    if (segment.offset + segment.fileSize > file.length) {
      throw badKernel(name, 'the ELF file is truncated: a segment reaches beyond its end');
    }
    segments.push(segment);
  }
  return { bits, entry: word(24), segments };
}

/** All notes of the file's note segments. */
export function readNotes(file: Uint8Array, elf: ElfFile): ElfNote[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const notes: ElfNote[] = [];
  for (const segment of elf.segments) {
    if (segment.type !== PT_NOTE) continue;
    const align = segment.alignment === 8 ? 8 : 4;
    const up = (n: number): number => Math.ceil(n / align) * align;
    const end = segment.offset + segment.fileSize;
    let at = segment.offset;
    while (at + 12 <= end) {
      const nameSize = view.getUint32(at, true);
      const size = view.getUint32(at + 4, true);
      const type = view.getUint32(at + 8, true);
      const nameAt = at + 12;
      const descriptorAt = segment.offset + up(nameAt - segment.offset + nameSize);
      if (descriptorAt + size > end) break;
      const name = String.fromCharCode(...file.subarray(nameAt, nameAt + Math.max(nameSize - 1, 0)));
      notes.push({ name, type, descriptor: file.subarray(descriptorAt, descriptorAt + size) });
      at = segment.offset + up(descriptorAt - segment.offset + size);
    }
  }
  return notes;
}

/** Copies the loadable segments to their physical addresses; gives the end of the highest. */
export function loadSegments(memory: GuestMemory, file: Uint8Array, elf: ElfFile, name: string): number {
  const loadable = elf.segments.filter((segment) => segment.type === PT_LOAD && segment.memorySize > 0);
  if (loadable.length === 0) throw badKernel(name, 'the ELF file has nothing to load');
  let end = 0;
  for (const segment of loadable) {
    if (segment.fileSize > segment.memorySize) {
      throw badKernel(name, 'the ELF file is corrupt: a segment is larger in the file than in memory');
    }
    if (segment.physicalAddress < HIGH_RAM) {
      throw badKernel(name, `the ELF file wants to lie at 0x${segment.physicalAddress.toString(16)}, below 1 MiB`);
    }
    end = Math.max(end, segment.physicalAddress + segment.memorySize);
  }
  if (end > memory.size) throw tooLittleMemory(memory, 'this kernel', end);
  for (const { offset, fileSize, physicalAddress } of loadable) {
    memory.write(physicalAddress, file.subarray(offset, offset + fileSize));
  }
  return end;
}
