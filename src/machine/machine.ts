/** The emulated machine: physical memory, processors, one clock, one engine. */
import { ApicBus } from '../devices/apic-bus.ts';
import type { PortBus } from '../devices/bus.ts';
import { Random } from '../util/random.ts';
import { type InterruptPlatform, NO_PLATFORM, ProcessorApic } from './apic/processor-apic.ts';
import { MachineClock } from './clock.ts';
import { Engine } from './engine/engine.ts';
import { MAX_PROCESSORS, STATE, STATE_SIZE } from './engine/layout.ts';
import { translatorDefaults } from './engine/translator/defaults.ts';
import { PhysicalMemory } from './memory.ts';
import { Mmu } from './mmu/state.ts';
import { dropPage, engineDropWriteEntries, tlbContextChanged } from './mmu/tlb.ts';
import { Processor } from './processor.ts';
import { runProcessor, STOP } from './run.ts';
import { Seam, type TdxOptions } from './seam/seam.ts';
import { Vtx } from './vtx/vtx.ts';

export interface MachineOptions {
  /** Logical processors, 1 to 64. */
  readonly processors: number;
  /** Bytes of RAM, a multiple of 64 KiB. */
  readonly ramSize: number;
  /** Firmware's ROM, which ends at 4 GiB; a multiple of 4 KiB. */
  readonly rom?: Uint8Array;
  /** `pc`: xAPIC, no SEAM, for bare guests and firmware. `tdx-host`: what a TDX host has. */
  readonly profile: 'pc' | 'tdx-host';
  /** Seed of all chance. */
  readonly seed?: number;
  /** What firmware has set up for TDX; only with the profile `tdx-host`. */
  readonly tdx?: TdxOptions;
  /** Whether hot code is compiled to WebAssembly. What the guest sees is the same. */
  readonly translator?: 'on' | 'off';
  /** Entries after which code is hot, 1 to 65535. */
  readonly translatorThreshold?: number;
}

export class Machine {
  readonly options: MachineOptions;
  readonly memory: PhysicalMemory;
  /** SEAM and what runs there. */
  readonly seam: Seam;
  readonly clock: MachineClock = new MachineClock();
  readonly random: Random;
  readonly engine: Engine;
  readonly processors: Processor[] = [];
  /**
   * A processor waits: a TD's in a loop of PAUSE, one of a bare machine in any PAUSE. With all processors on one thread, whom it waits for cannot run meanwhile;
   * whoever shares the time among them ends its turn.
   */
  onSpin: () => void = () => {};
  /** Whoever runs the processors in turn ends the turn of the running one: `runProcessor` returns at the next boundary. */
  turnOver = false;
  /** The processor whose state block is at STATE. */
  current: Processor | null = null;
  /** I/O ports of a bare machine; null where every port access exits or reads all ones. */
  ports: PortBus | null = null;
  /** Carries interrupt messages between the processors' local APICs, and from devices to them. */
  readonly apicBus: ApicBus = new ApicBus();
  /** The 8259s and I/O APICs of a bare machine. */
  platform: InterruptPlatform = NO_PLATFORM;
  /** Told when an interrupt waits at a processor that runs no guest: root software in TypeScript has nobody else to tell it. */
  interruptArrived: (p: Processor) => void = () => {};

  constructor(options: MachineOptions) {
    if (!(options.processors >= 1 && options.processors <= MAX_PROCESSORS)) {
      throw new RangeError(`a machine has 1 to ${MAX_PROCESSORS} processors, not ${options.processors}`);
    }
    this.options = options;
    this.seam = new Seam(options.profile, options.tdx);
    this.memory = new PhysicalMemory(options.ramSize, this.seam.enabled, options.rom);
    this.random = new Random(options.seed ?? 0);
    const { translator = translatorDefaults.mode, translatorThreshold = translatorDefaults.threshold } = options;
    this.engine = new Engine(this, translator === 'on' ? translatorThreshold : 0);
    this.memory.pageWritten = (page, offset, length) => this.engine.pageWritten(page, offset, length);
    this.memory.keyed.ownerChanges = (page) => {
      dropPage(this, page);
      this.engine.pageWritten(page);
    };
    this.engine.pages.onNewCode = (page) => engineDropWriteEntries(this, page);
    for (let i = 0; i < options.processors; i++) {
      const p = new Processor(this, i);
      this.processors.push(p);
      p.vtx = new Vtx(p);
      p.mmu = new Mmu(this);
      tlbContextChanged(p);
      p.apic = new ProcessorApic(p, this.apicBus, this);
    }
  }

  /**
   * Runs the guest that `p` has entered until its VM exit. A guest that halts without exiting lets idle time pass.
   */
  runNonRoot(p: Processor): void {
    while (runProcessor(p, Number.POSITIVE_INFINITY) !== STOP.vmExit) {
      const next = this.clock.queue.nextDeadline;
      if (next === Number.POSITIVE_INFINITY) throw new Error('the guest waits for nothing, and no timer is armed');
      this.clock.skipTo(next);
    }
  }

  /** Makes `p` the processor that generated code runs on. */
  activate(p: Processor): void {
    const { current } = this;
    if (current === p) return;
    const { bytes } = this.memory;
    if (current !== null) {
      bytes.copyWithin(current.home, STATE, STATE + STATE_SIZE);
      current.block = current.home;
    }
    bytes.copyWithin(STATE, p.home, p.home + STATE_SIZE);
    p.block = STATE;
    this.current = p;
  }
}
