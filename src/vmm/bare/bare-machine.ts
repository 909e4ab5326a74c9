/** A machine without a host: guest code runs on its processors directly, among a PC's devices. */

import { DebugConsole } from '../../devices/debug-console.ts';
import { Machine } from '../../machine/machine.ts';
import { reset } from '../../machine/processor/reset.ts';
import { HLT, type Processor, SHUTDOWN, WAIT_SIPI } from '../../machine/processor.ts';
import { runProcessor } from '../../machine/run.ts';
import { PAGE_SIZE } from '../../util/address.ts';
import { writeAcpiTables } from '../acpi/tables.ts';
import { sumExitCounts } from '../exit-reasons.ts';
import type { GuestEnd } from '../guest-end.ts';
import type { GuestMemory } from '../guest-memory.ts';
import type { GuestConfig } from '../guest-run.ts';
import { loadKernel } from '../loaders/kernel.ts';
import { memoryMap } from '../memory-map.ts';
import { writeMpTable } from '../mp-table.ts';
import { Board } from '../pc/board.ts';
import type { SerialConsole } from '../serial-console.ts';
import type { StateHash } from '../state-hash.ts';
import { writeBiosDataArea } from './bios-data-area.ts';
import { attachDisks } from './disks.ts';
import { attachFirmwareDevices, checkFirmware, shadow } from './firmware.ts';
import { InterruptControllers, virtualWire } from './interrupt-controllers.ts';
import { IsaPorts } from './isa-ports.ts';
import { enterAt } from './processor-entry.ts';
import { processorState } from './processor-state.ts';

/** Nanoseconds a processor runs while others could. */
const SHARED_SLICE = 100_000;
/** Nanoseconds of a processor that is alone. */
const LONE_SLICE = 1_000_000;
/** What a PAUSE takes where nobody else wants to run: the cycles that it takes on present-day processors. */
const PAUSE_NS = 140;

/** One bare machine. It runs once; after a reset a new one is built. */
export class BareMachine {
  readonly machine: Machine;
  end: GuestEnd | undefined;
  readonly #console: SerialConsole;
  readonly #board: Board;
  readonly #controllers: InterruptControllers;
  /** Whose turn it is. */
  #turn = 0;

  /** Builds the machine and loads what it is to run. Throws a SoftvtError if the input cannot be a guest. */
  constructor(console: SerialConsole, config: GuestConfig) {
    const { cpus, memorySize, seed, epochSeconds } = config;
    this.#console = console;
    const { firmware, firmwareName = 'firmware' } = config;
    if (firmware !== undefined) checkFirmware(firmware, firmwareName);
    const rom = firmware === undefined ? {} : { rom: firmware };
    this.machine = new Machine({ processors: cpus, ramSize: memorySize, profile: 'pc', seed, ...rom });
    const { machine } = this;
    this.#board = new Board({
      clock: machine.clock,
      setIrq: (irq, level) => this.#controllers.setIrq(irq, level),
      end: (end) => this.stop(end),
      console,
      epochSeconds,
      memorySize,
      ports: new IsaPorts(machine.clock),
    });
    machine.ports = this.#board.ports;
    this.#controllers = new InterruptControllers(machine);
    new DebugConsole({ transmit: (byte) => console.debug(byte) }).attach(machine.ports);
    const pci = attachFirmwareDevices(machine.ports, cpus, memorySize);
    attachDisks(pci, machine.ports, (irq, level) => this.#controllers.setIrq(irq, level), config.disks ?? []);
    // Whom a processor waits for gets the rest of its turn.
    machine.onSpin = () => {
      if (machine.processors.some((p) => p !== machine.current && mayRun(p))) machine.turnOver = true;
      else machine.clock.skipTo(machine.clock.now() + PAUSE_NS);
    };
    for (const p of machine.processors) {
      machine.activate(p);
      reset(p);
    }
    if (firmware === undefined) this.#load(config);
    else {
      // The bootstrap processor starts in it, at the reset vector.
      const { address, bytes } = shadow(firmware);
      machine.memory.writeBytes(address, bytes);
    }
  }

  /** Ends the guest; only the first end counts. */
  stop(end: GuestEnd): void {
    this.end ??= end;
    this.machine.turnOver = true;
  }

  /** Gives every processor that can run one turn. False: none could, all wait. */
  round(): boolean {
    const { processors, clock } = this.machine;
    const count = processors.length;
    const slice = count === 1 ? LONE_SLICE : SHARED_SLICE;
    let any = false;
    for (let n = 0; n < count && this.end === undefined; n++) {
      const p = processors[this.#turn]!;
      this.#turn = (this.#turn + 1) % count;
      if (!mayRun(p)) continue;
      const before = clock.instructions;
      runProcessor(p, clock.now() + slice);
      if (clock.instructions !== before) any = true;
      if (p.activity === SHUTDOWN) this.stop({ reason: 'triple-fault', vcpu: p.index, rip: p.rip });
    }
    return any;
  }

  /** Exits so far by basic exit reason, if the guest is a hypervisor. */
  exitCounts(): number[] {
    return sumExitCounts(this.machine.processors.map(({ vtx }) => vtx));
  }

  /** The bytes of a page of RAM. */
  page(address: number): Uint8Array | undefined {
    const { memory } = this.machine;
    const page = address - (address % PAGE_SIZE);
    return memory.isRam(page, PAGE_SIZE) ? memory.readBytes(page, PAGE_SIZE) : undefined;
  }

  /** Feeds RAM, processors and interrupt controllers to a hash. */
  hash(hash: StateHash): void {
    const { memory, processors } = this.machine;
    for (let at = 0; at < memory.ramSize; at += PAGE_SIZE) {
      hash.page(at / PAGE_SIZE, new Int32Array(memory.readBytes(at, PAGE_SIZE).buffer));
    }
    for (const p of processors) hash.value(processorState(p));
    hash.value(this.#controllers.state);
  }

  /** Lets the console go. */
  close(): void {
    this.#console.disconnect();
  }

  #load(config: GuestConfig): void {
    const { machine } = this;
    const [boot] = machine.processors as [Processor];
    const memory: GuestMemory = {
      size: config.memorySize,
      write: (gpa, bytes) => machine.memory.writeBytes(Number(gpa), bytes),
      read: (gpa, length) => machine.memory.readBytes(Number(gpa), length),
    };
    writeBiosDataArea(memory);
    const rsdp = writeAcpiTables(memory, config.cpus);
    writeMpTable(memory, config.cpus);
    const { entry } = loadKernel(memory, {
      kernel: config.kernel,
      kernelName: config.kernelName,
      ...(config.initrd === undefined ? {} : { initrd: config.initrd }),
      ...(config.initrdName === undefined ? {} : { initrdName: config.initrdName }),
      ...(config.modules === undefined ? {} : { modules: config.modules }),
      commandLine: config.commandLine,
      memoryMap: memoryMap(config.memorySize),
      rsdp,
    });
    machine.activate(boot);
    virtualWire(boot);
    enterAt(boot, entry);
  }
}

/** Whether the processor may find something to do: what waits for an event is asked only when one may have come. */
const mayRun = ({ activity, eventsPending }: Processor): boolean =>
  eventsPending || (activity !== HLT && activity !== WAIT_SIPI);
