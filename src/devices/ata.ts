/**
 * An ATA channel with up to two hard disks, programmed input and output only.
 *
 * ```
 * base+0 data (16 bits)   +1 error/features   +2 sector count   +3..+5 LBA low, mid, high
 * base+6 device: 6 LBA, 4 second disk, 3:0 LBA or head   +7 status/command
 * control  alternate status/device control: 2 SRST, 1 nIEN
 * ```
 * Commands take no time: the disk is ready again, or has its data, when the command has been written. For the 48-bit
 * commands each register holds the value before the last one too.
 *
 * Reference: ANSI ATA/ATAPI-6, "Register descriptions", "Command descriptions" and "PIO data-in command protocol".
 */
import type { IrqLine, PortBus, PortDevice } from './bus.ts';

export const SECTOR_SIZE = 512;

/** What an ATA channel is connected to. */
export interface AtaOptions {
  /** Interrupt 14 or 15. */
  readonly irq: IrqLine;
  /** Contents of the disks, multiples of 512 bytes; changed by writes. */
  readonly disks: readonly Uint8Array[];
}

const STATUS = { error: 0x01, request: 0x08, seekDone: 0x10, ready: 0x40 } as const;
const ERROR_ABORT = 0x04;
const ERROR_NOT_FOUND = 0x10;
/** After reset or EXECUTE DEVICE DIAGNOSTIC: no error. */
const DIAGNOSTIC_PASSED = 0x01;
const NO_INTERRUPTS = 0x02;
const SOFT_RESET = 0x04;
const LBA = 0x40;
const SECOND = 0x10;

const COMMAND = {
  readSectors: 0x20,
  readSectorsExt: 0x24,
  readMultipleExt: 0x29,
  writeSectors: 0x30,
  writeSectorsExt: 0x34,
  writeMultipleExt: 0x39,
  verify: 0x40,
  diagnose: 0x90,
  parameters: 0x91,
  readMultiple: 0xc4,
  writeMultiple: 0xc5,
  setMultiple: 0xc6,
  flush: 0xe7,
  flushExt: 0xea,
  identify: 0xec,
  setFeatures: 0xef,
} as const;

/** Sectors that READ MULTIPLE hands over at a time, at most. */
const MOST_MULTIPLE = 16;
const HEADS = 16;
const SECTORS = 63;

/** The channel: registers that both disks share, and the data on its way. */
export class AtaChannel implements PortDevice {
  readonly portWidth = 4;
  readonly #options: AtaOptions;
  /** Count, LBA low, mid and high, each with its value before. */
  readonly #registers: Uint8Array = new Uint8Array(6);
  readonly #before: Uint8Array = new Uint8Array(6);
  #device = 0;
  #features = 0;
  #control = 0;
  #status: number = STATUS.ready | STATUS.seekDone;
  #error = DIAGNOSTIC_PASSED;
  #multiple = 0;
  /** Bytes on their way and how far they have got; `writeAt` is where they go on the disk, -1 for data to the host. */
  #data: Uint8Array = new Uint8Array(0);
  #done = 0;
  /** Bytes to the next interrupt. */
  #block = SECTOR_SIZE;
  #writeAt = -1;

  constructor(options: AtaOptions) {
    this.#options = options;
  }

  /** Claims the eight command ports and the control port. */
  attach(bus: PortBus, base: number, control: number): void {
    bus.register(base, 8, this);
    bus.register(control, 1, {
      portWidth: 1,
      portRead: () => this.#readStatus(),
      portWrite: (_, __, value) => this.#writeControl(value),
    });
  }

  portRead(port: number, size: number): number {
    const register = port & 7;
    if (register === 0) return this.#readData(size);
    if (this.#disk() === undefined) return 0;
    if (register === 1) return this.#error;
    if (register === 6) return this.#device | 0xa0;
    if (register === 7) {
      this.#options.irq(false);
      return this.#readStatus();
    }
    return this.#registers[register]!;
  }

  portWrite(port: number, size: number, value: number): void {
    const register = port & 7;
    if (register === 0) return this.#writeData(size, value);
    if (register === 7) return this.#command(value & 0xff);
    if (register === 1) this.#features = value & 0xff;
    else if (register === 6) this.#device = value & 0x5f;
    else {
      this.#before[register] = this.#registers[register]!;
      this.#registers[register] = value;
    }
  }

  #disk(): Uint8Array | undefined {
    return this.#options.disks[this.#device & SECOND ? 1 : 0];
  }

  /** Of a disk that is not there nobody drives the bus. */
  #readStatus(): number {
    return this.#disk() === undefined ? 0 : this.#status;
  }

  #writeControl(value: number): void {
    const released = this.#control & ~value & SOFT_RESET;
    this.#control = value;
    if (value & NO_INTERRUPTS) this.#options.irq(false);
    if (released) this.#signature();
  }

  /** What the registers hold after a reset. */
  #signature(): void {
    this.#device = 0;
    this.#registers.set([0, 0, 1, 1, 0, 0]);
    this.#error = DIAGNOSTIC_PASSED;
    this.#status = STATUS.ready | STATUS.seekDone;
    this.#data = new Uint8Array(0);
    this.#done = 0;
  }

  #interrupt(): void {
    if (!(this.#control & NO_INTERRUPTS)) this.#options.irq(true);
  }

  #command(command: number): void {
    const disk = this.#disk();
    this.#options.irq(false);
    if (disk === undefined) return;
    this.#error = 0;
    this.#status = STATUS.ready | STATUS.seekDone;
    switch (command) {
      case COMMAND.readSectors:
      case COMMAND.readSectors + 1:
        return this.#transfer(disk, false, false, 1);
      case COMMAND.readSectorsExt:
        return this.#transfer(disk, true, false, 1);
      case COMMAND.writeSectors:
      case COMMAND.writeSectors + 1:
        return this.#transfer(disk, false, true, 1);
      case COMMAND.writeSectorsExt:
        return this.#transfer(disk, true, true, 1);
      case COMMAND.readMultiple:
      case COMMAND.writeMultiple:
        return this.#transfer(disk, false, command === COMMAND.writeMultiple, this.#multiple);
      case COMMAND.readMultipleExt:
      case COMMAND.writeMultipleExt:
        return this.#transfer(disk, true, command === COMMAND.writeMultipleExt, this.#multiple);
      case COMMAND.verify:
        return this.#place(disk, false) < 0 ? this.#fail(ERROR_NOT_FOUND) : this.#interrupt();
      case COMMAND.diagnose:
        this.#signature();
        return this.#interrupt();
      case COMMAND.setMultiple:
        if (this.#registers[2]! > MOST_MULTIPLE) return this.#fail(ERROR_ABORT);
        this.#multiple = this.#registers[2]!;
        return this.#interrupt();
      case COMMAND.parameters:
      case COMMAND.flush:
      case COMMAND.flushExt:
        return this.#interrupt();
      case COMMAND.setFeatures:
        // 03h sets the transfer mode: any PIO mode is as fast as any other.
        return this.#features === 0x03 ? this.#interrupt() : this.#fail(ERROR_ABORT);
      case COMMAND.identify:
        this.#data = identity(disk.length / SECTOR_SIZE, this.#multiple);
        this.#block = SECTOR_SIZE;
        return this.#offer();
      default:
        return this.#fail(ERROR_ABORT);
    }
  }

  #fail(error: number): void {
    this.#error = error;
    this.#status = STATUS.ready | STATUS.seekDone | STATUS.error;
    this.#interrupt();
  }

  /** First sector that the registers name, or -1 where the range leaves the disk. */
  #place(disk: Uint8Array, wide: boolean): number {
    const [, , , low, mid, high] = this.#registers as unknown as [number, number, number, number, number, number];
    const total = disk.length / SECTOR_SIZE;
    let first: number;
    if (wide) {
      const [, , , low2, mid2, high2] = this.#before as unknown as [number, number, number, number, number, number];
      first = low + mid * 2 ** 8 + high * 2 ** 16 + low2 * 2 ** 24 + mid2 * 2 ** 32 + high2 * 2 ** 40;
    } else if (this.#device & LBA) first = low + mid * 2 ** 8 + high * 2 ** 16 + (this.#device & 15) * 2 ** 24;
    else first = ((mid + high * 256) * HEADS + (this.#device & 15)) * SECTORS + low - 1;
    return first >= 0 && first + this.#count(wide) <= total ? first : -1;
  }

  /** Sectors asked for; 0 means as many as fit no register. */
  #count(wide: boolean): number {
    const count = this.#registers[2]!;
    return wide ? count + this.#before[2]! * 256 || 65536 : count || 256;
  }

  #transfer(disk: Uint8Array, wide: boolean, write: boolean, perBlock: number): void {
    if (perBlock === 0) return this.#fail(ERROR_ABORT);
    const first = this.#place(disk, wide);
    if (first < 0) return this.#fail(ERROR_NOT_FOUND);
    const size = this.#count(wide) * SECTOR_SIZE;
    const at = first * SECTOR_SIZE;
    this.#block = perBlock * SECTOR_SIZE;
    if (!write) {
      this.#data = disk.slice(at, at + size);
      return this.#offer();
    }
    // The first block is asked for without an interrupt.
    this.#data = new Uint8Array(size);
    this.#done = 0;
    this.#writeAt = at;
    this.#status |= STATUS.request;
  }

  /** Has data for the host. */
  #offer(): void {
    this.#done = 0;
    this.#writeAt = -1;
    this.#status |= STATUS.request;
    this.#interrupt();
  }

  #readData(size: number): number {
    if (!(this.#status & STATUS.request) || this.#writeAt >= 0) return 0;
    let value = 0;
    for (let n = 0; n < size; n++) value += (this.#data[this.#done + n] ?? 0) * 2 ** (8 * n);
    this.#advance(size);
    return value;
  }

  #writeData(size: number, value: number): void {
    if (!(this.#status & STATUS.request) || this.#writeAt < 0) return;
    for (let n = 0; n < size; n++) this.#data[this.#done + n] = (value >>> (8 * n)) & 0xff;
    this.#advance(size);
  }

  #advance(size: number): void {
    this.#done += size;
    const finished = this.#done >= this.#data.length;
    if (finished) this.#status &= ~STATUS.request;
    if (finished && this.#writeAt >= 0) this.#disk()?.set(this.#data, this.#writeAt);
    // Data to the host: an interrupt before each block. Data to the disk: one after each.
    if (this.#done % this.#block === 0 ? !finished || this.#writeAt >= 0 : finished && this.#writeAt >= 0)
      this.#interrupt();
  }
}

/** The 256 words of IDENTIFY DEVICE. */
function identity(sectors: number, multiple: number): Uint8Array {
  const words = new DataView(new ArrayBuffer(SECTOR_SIZE));
  const word = (n: number, value: number): void => words.setUint16(2 * n, value, true);
  const long = (n: number, value: number): void => words.setUint32(2 * n, value, true);
  const text = (n: number, length: number, value: string): void => {
    // Two characters to a word, the first one in the upper byte.
    for (let i = 0; i < length; i++) words.setUint8(2 * n + (i ^ 1), value.charCodeAt(i) || 0x20);
  };
  const cylinders = Math.min(16383, Math.floor(sectors / (HEADS * SECTORS)));
  const reachable = Math.min(sectors, 0xfff_ffff);
  word(0, 0x40);
  word(1, cylinders);
  word(3, HEADS);
  word(6, SECTORS);
  text(10, 20, '1');
  text(23, 8, '1.0');
  text(27, 40, 'SOFTVT DISK');
  word(47, 0x8000 | MOST_MULTIPLE);
  word(49, 0x0200); // LBA
  word(53, 0x0003);
  word(54, cylinders);
  word(55, HEADS);
  word(56, SECTORS);
  long(57, Math.min(cylinders * HEADS * SECTORS, reachable));
  word(59, multiple === 0 ? 0 : 0x100 | multiple);
  long(60, reachable);
  word(64, 0x0003); // PIO modes 3 and 4
  word(80, 0x007e); // ATA-1 to ATA-6
  word(83, 0x7400); // FLUSH CACHE, FLUSH CACHE EXT, 48-bit addresses
  word(86, 0x3400);
  long(100, sectors % 2 ** 32);
  long(102, Math.floor(sectors / 2 ** 32));
  return new Uint8Array(words.buffer);
}
