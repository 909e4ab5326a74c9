/**
 * What a TD is built from: the pages that the VMM adds before the TD first runs, in the order in which it adds them.
 *
 * The order and the contents define MRTD, so they depend on nothing but the input.
 */

import { type Gpa, PAGE_SIZE } from '../../util/address.ts';
import type { GuestMemory } from '../guest-memory.ts';
import { HIGH_RAM } from '../layout.ts';
import { badKernel, tooLittleMemory } from '../loaders/boot-input.ts';
import { isBzImage, placeBzImage } from '../loaders/bzimage.ts';
import { tdAcpiTables } from './acpi.ts';
import { type HobMemory, tdHob } from './hob.ts';
import {
  LEAST_TD_MEMORY,
  MAILBOX_ADDRESS,
  OFFLINE_VECTOR,
  SHIM_ADDRESS,
  TD_ACPI_ADDRESS,
  TD_ACPI_END,
  TD_BOOT_PARAMS_ADDRESS,
  TD_COMMAND_LINE_ADDRESS,
  TD_HOB_ADDRESS,
  TD_HOB_SIZE,
  tdMemoryMap,
} from './layout.ts';
import { buildShim } from './shim/shim.ts';

/** A piece of initial memory: whole pages from a page boundary on. */
export interface TdRegion {
  /** What it is, for people. */
  readonly name: string;
  readonly gpa: Gpa;
  readonly data: Uint8Array;
  /** Whether TDH.MR.EXTEND takes it into MRTD; TDH.MEM.PAGE.ADD always does with the address. */
  readonly measured: boolean;
}

/** A TD before it is built. */
export interface TdImage {
  /** In ascending order of addresses, which is the order of building. */
  readonly regions: readonly TdRegion[];
  /** What the vCPUs get in RCX and R8. */
  readonly hob: Gpa;
  /** RAM that is not added but accepted by the td-shim when the TD runs. */
  readonly unaccepted: readonly { readonly gpa: Gpa; readonly size: number }[];
}

/** What is wanted in the TD. */
export interface TdInput {
  readonly kernel: Uint8Array;
  /** Name of the kernel in messages. */
  readonly kernelName: string;
  readonly initrd?: Uint8Array;
  readonly initrdName?: string;
  readonly commandLine: string;
  /** Bytes of RAM. */
  readonly memorySize: number;
  readonly cpus: number;
}

const pageUp = (address: number): number => Math.ceil(address / PAGE_SIZE) * PAGE_SIZE;

/** Records what loaders write, as whole pages. */
class RecordingMemory implements GuestMemory {
  readonly size: number;
  readonly #pieces: { readonly gpa: number; readonly data: Uint8Array }[] = [];

  constructor(size: number) {
    this.size = size;
  }

  write(gpa: Gpa, bytes: Uint8Array): void {
    if (gpa % PAGE_SIZE !== 0 || gpa < 0 || gpa + bytes.length > this.size) {
      throw new RangeError(`not pages of RAM: 0x${gpa.toString(16)} + ${bytes.length}`);
    }
    const data = new Uint8Array(pageUp(bytes.length));
    data.set(bytes);
    this.#pieces.push({ gpa, data });
  }

  read(): Uint8Array {
    throw new RangeError('nothing is read while a TD is put together');
  }

  /** The pieces, with names by address. */
  regions(nameOf: (gpa: number) => string): TdRegion[] {
    return this.#pieces.map(({ gpa, data }) => ({ name: nameOf(gpa), gpa, data, measured: true }));
  }
}

const ascending = (a: { gpa: number }, b: { gpa: number }): number => a.gpa - b.gpa;

/** RAM in ascending order: what the regions cover has been added, the rest is to be accepted. */
function hobMemory(regions: readonly TdRegion[], ramSize: number): HobMemory[] {
  const memory: HobMemory[] = [];
  const piece = (start: number, end: number, added: boolean): void => {
    const last = memory.at(-1);
    if (end <= start) return;
    if (last !== undefined && last.added === added && last.start + last.length === start) {
      memory[memory.length - 1] = { ...last, length: end - last.start };
    } else memory.push({ start, length: end - start, added });
  };
  let next = 0;
  for (const { gpa, data } of regions) {
    piece(next, gpa, false);
    piece(gpa, gpa + data.length, true);
    next = gpa + data.length;
  }
  piece(next, ramSize, false);
  return memory;
}

/** The least memory, and only a bzImage: the td-shim enters Linux by its 64-bit boot protocol. */
function check({ kernel, kernelName, memorySize }: TdInput): void {
  if (kernel.length === 0) throw badKernel(kernelName, 'the kernel file is empty');
  if (!isBzImage(kernel)) throw badKernel(kernelName, 'not a bzImage, which is what a TD boots');
  if (memorySize < LEAST_TD_MEMORY) throw tooLittleMemory({ size: memorySize } as GuestMemory, 'a TD', LEAST_TD_MEMORY);
}

/**
 * Puts a TD together.
 *
 * Throws ERR_SOFTVT_BAD_KERNEL, ERR_SOFTVT_TOO_LITTLE_MEMORY or ERR_SOFTVT_INITRD_TOO_LARGE.
 */
export function buildTdImage(input: TdInput): TdImage {
  check(input);
  const { memorySize, cpus } = input;
  const memory = new RecordingMemory(memorySize);
  const { mode, entry, bootParams } = placeBzImage(memory, {
    kernel: input.kernel,
    kernelName: input.kernelName,
    ...(input.initrd === undefined ? {} : { initrd: input.initrd }),
    ...(input.initrdName === undefined ? {} : { initrdName: input.initrdName }),
    commandLine: input.commandLine,
    memoryMap: tdMemoryMap(memorySize),
    rsdp: TD_ACPI_ADDRESS,
  });
  if (mode !== 'long') {
    throw badKernel(input.kernelName, 'the kernel is 32-bit only (it has no 64-bit entry); a TD needs a 64-bit kernel');
  }
  const acpi = tdAcpiTables(TD_ACPI_ADDRESS, cpus, MAILBOX_ADDRESS, OFFLINE_VECTOR);
  if (TD_ACPI_ADDRESS + acpi.length > TD_ACPI_END) throw new RangeError('the ACPI tables do not fit');
  memory.write(TD_ACPI_ADDRESS, acpi);
  const names = new Map([
    [TD_BOOT_PARAMS_ADDRESS, 'boot_params'],
    [TD_COMMAND_LINE_ADDRESS, 'command line'],
    [TD_ACPI_ADDRESS, 'ACPI tables'],
    [HIGH_RAM, 'kernel'],
  ]);
  const loaded = memory.regions((gpa) => names.get(gpa) ?? 'initrd');
  const hobRegion = (data: Uint8Array): TdRegion => ({ name: 'TD HOB', gpa: TD_HOB_ADDRESS, data, measured: true });
  // The HOB list describes its own pages too.
  const inRam = [...loaded, hobRegion(new Uint8Array(TD_HOB_SIZE))].sort(ascending);
  const ram = hobMemory(inRam, memorySize);
  const list = tdHob(TD_HOB_ADDRESS, ram, { entry, bootParams });
  if (list.length > TD_HOB_SIZE) throw new RangeError('the HOB list does not fit');
  const hob = new Uint8Array(TD_HOB_SIZE);
  hob.set(list);
  const shim: TdRegion = { name: 'td-shim', gpa: SHIM_ADDRESS, data: buildShim(), measured: true };
  return {
    regions: [...loaded, hobRegion(hob), shim].sort(ascending),
    hob: TD_HOB_ADDRESS,
    unaccepted: ram.flatMap(({ start, length, added }) => (added ? [] : [{ gpa: start, size: length }])),
  };
}
