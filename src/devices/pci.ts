/**
 * PCI configuration space, reached by configuration mechanism 1: an address at CF8h, data at CFCh to CFFh.
 *
 * ```
 * CONFIG_ADDRESS   31 enable   23:16 bus   15:11 device   10:8 function   7:2 register
 * ```
 * Reference: PCI Local Bus Specification 3.0, "Configuration Space".
 */
import { allOnes, type PortBus, type PortDevice } from './bus.ts';

const ENABLE = 0x8000_0000;
const CONFIG_SIZE = 256;
const MULTI_FUNCTION = 0x80;
const HEADER_TYPE = 0x0e;

/** What a function of a device says of itself. */
export interface PciIdentity {
  readonly vendor: number;
  readonly device: number;
  /** Base class, sub-class and programming interface. */
  readonly classCode: number;
  readonly revision?: number;
  readonly subsystemVendor?: number;
  readonly subsystem?: number;
}

/** One function: 256 bytes, of which software can change those bits that are writable. */
export class PciFunction {
  readonly config: Uint8Array = new Uint8Array(CONFIG_SIZE);
  readonly #writable: Uint8Array = new Uint8Array(CONFIG_SIZE);

  constructor(identity: PciIdentity) {
    const view = new DataView(this.config.buffer);
    view.setUint16(0, identity.vendor, true);
    view.setUint16(2, identity.device, true);
    view.setUint32(8, (identity.classCode << 8) | (identity.revision ?? 0), true);
    view.setUint16(0x2c, identity.subsystemVendor ?? 0, true);
    view.setUint16(0x2e, identity.subsystem ?? 0, true);
  }

  /** Lets software write bits of `count` bytes from `register` on. */
  writable(register: number, count: number, mask = 0xff): this {
    this.#writable.fill(mask, register, register + count);
    return this;
  }

  read(register: number, size: number): number {
    let value = 0;
    for (let n = size - 1; n >= 0; n--) value = value * 256 + this.config[register + n]!;
    return value;
  }

  write(register: number, size: number, value: number): void {
    for (let n = 0; n < size; n++) {
      const mask = this.#writable[register + n]!;
      const byte = (value >>> (8 * n)) & 0xff;
      this.config[register + n] = (this.config[register + n]! & ~mask) | (byte & mask);
    }
  }
}

/** The host bridge's two registers, and the functions of bus 0 behind them. */
export class PciBus {
  #address = 0;
  readonly #functions: Map<number, PciFunction> = new Map();

  /** Puts a function at a place of bus 0. */
  add(device: number, fn: number, what: PciFunction): void {
    this.#functions.set(device * 8 + fn, what);
    const first = this.#functions.get(device * 8);
    if (fn > 0 && first !== undefined) first.config[HEADER_TYPE]! |= MULTI_FUNCTION;
  }

  /** Claims CF8h and CFCh to CFFh. The bytes between are other devices'. */
  attach(bus: PortBus): void {
    bus.register(0xcf8, 1, this.#addressPort);
    bus.register(0xcfc, 4, this.#dataPort);
  }

  /** Only accesses of four bytes reach the address register. */
  readonly #addressPort: PortDevice = {
    portRead: (_, size) => (size === 4 ? this.#address : allOnes(size)),
    portWrite: (_, size, value) => {
      if (size === 4) this.#address = (value & 0x80ff_fffc) >>> 0;
    },
  };

  readonly #dataPort: PortDevice = {
    portRead: (port, size) => this.#selected()?.read(this.#register(port), size) ?? allOnes(size),
    portWrite: (port, size, value) => this.#selected()?.write(this.#register(port), size, value),
  };

  #selected(): PciFunction | undefined {
    if ((this.#address & ENABLE) === 0 || (this.#address & 0xff_0000) !== 0) return undefined;
    return this.#functions.get((this.#address >>> 8) & 0xff);
  }

  #register(port: number): number {
    return (this.#address & 0xfc) + (port & 3);
  }
}

/** An IDE controller in compatibility mode, without bus mastering: its channels are at the ports of the PC/AT. */
export function ideController(): PciFunction {
  return new PciFunction({ vendor: 0x8086, device: 0x7010, classCode: 0x01_0100 })
    .writable(0x04, 1, 0x05)
    .writable(0x40, 8);
}

/**
 * The host bridge of a PC, an 82441FX as virtual machines have it (subsystem 1AF4h:1100h). Its PAM registers (59h to 5Fh),
 * by which firmware turns the area from C0000h to FFFFFh into RAM, can be written and read; there is always RAM.
 *
 * Reference: Intel 440FX data sheet, "PAM—Programmable Attribute Map Registers".
 */
export function hostBridge(): PciFunction {
  return new PciFunction({
    vendor: 0x8086,
    device: 0x1237,
    classCode: 0x06_0000,
    revision: 2,
    subsystemVendor: 0x1af4,
    subsystem: 0x1100,
  })
    .writable(0x04, 2)
    .writable(0x50, 0x30);
}
