/** All models on one pair of buses under random accesses: nothing throws, values fit, and a restored board is the same board. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AcpiPm } from './acpi-pm.ts';
import { ApicBus } from './apic-bus.ts';
import { MmioBus, PortBus } from './bus.ts';
import { I8042 } from './i8042.ts';
import { I8254 } from './i8254.ts';
import { I8259Pair } from './i8259.ts';
import { IoApic } from './ioapic.ts';
import { LocalApic } from './lapic.ts';
import { ManualClock } from './manual-clock.ts';
import { SystemControlPortB } from './port61.ts';
import { ResetControl, SystemControlPortA } from './reset.ts';
import { Mc146818 } from './rtc.ts';
import { Uart16550 } from './uart.ts';

/** Everything a PC has, each device logging its outputs under its own name. */
function makeBoard() {
  const clock = new ManualClock();
  const ports = new PortBus();
  const mmio = new MmioBus();
  const log: Record<string, unknown[]> = {};
  const note = (device: string, ...what: unknown[]) => {
    log[device] ??= [];
    log[device].push(clock.now(), ...what);
  };
  const bus = new ApicBus();
  const lapic: LocalApic = new LocalApic({
    id: 1,
    clock,
    bootstrap: true,
    minPeriodNs: 1000,
    owner: {
      pendingChanged: (vector) => note('lapic', vector),
      sendIpi: (message, shorthand) => note('lapic', message, bus.sendIpi(lapic, message, shorthand)),
      endOfInterrupt: (vector, broadcast) => ioapic.eoi(vector, broadcast),
      nmi: () => note('lapic', 'nmi'),
      smi: () => note('lapic', 'smi'),
      init: () => lapic.initReset(),
      startup: (vector) => note('lapic', 'startup', vector),
      extInt: (level) => note('lapic', 'extint', level),
      timeOfTsc: (tsc) => Number(tsc),
    },
  });
  bus.add(lapic);
  const ioapic = new IoApic({ deliver: (message) => bus.deliver(message) });
  const pic = new I8259Pair({ output: (level) => lapic.setLint(0, level) });
  const wire = (irq: number) => (level: boolean) => {
    pic.setIrq(irq, level);
    ioapic.setIrq(irq, level);
  };
  const pit = new I8254({ clock, output: wire(0) });
  const uart = new Uart16550({ irq: wire(4), transmit: (byte) => note('uart', byte) });
  const rtc = new Mc146818({ clock, irq: wire(8), epochSeconds: 1_700_000_000 });
  const keyboard = new I8042({ reset: () => note('keyboard'), irq: wire(1) });
  const portA = new SystemControlPortA({ reset: () => note('port92') });
  const portB = new SystemControlPortB({ pit, clock });
  const control = new ResetControl({ reset: (hard) => note('cf9', hard) });
  const pm = new AcpiPm({
    clock,
    sci: wire(9),
    sleep: (type) => note('pm', type),
    eventBase: 0x600,
    controlBase: 0x604,
    timerBase: 0x608,
  });
  for (const device of [pic, pit, uart, rtc, keyboard, portA, portB, control, pm]) {
    device.attach(ports);
  }
  mmio.register(0xfee0_0000, 0x1000, lapic);
  mmio.register(0xfec0_0000, 0x1000, ioapic);
  // Restored in this order, sources before what they drive, so that re-driven wires change nothing in the end.
  const devices = { pit, portB, uart, rtc, keyboard, portA, control, pm, pic, ioapic, lapic };
  return { clock, ports, mmio, log, lapic, pic, uart, pm, devices };
}

const PORTS = [0x20, 0x40, 0x60, 0x70, 0x92, 0xa0, 0x3f8, 0x4d0, 0x600, 0x608, 0xcf9];
const REGISTERS = [0xfee0_0000, 0xfec0_0000];

/** Sets every device up as a driver would, so that random accesses meet a working board. */
function setUp(board: ReturnType<typeof makeBoard>): void {
  const out = (port: number, ...values: number[]) => {
    for (const value of values) board.ports.write(port, 1, value);
  };
  for (const [port, base] of [
    [0x20, 0x30],
    [0xa0, 0x38],
  ] as const) {
    out(port, 0x11);
    out(port + 1, base, port === 0x20 ? 4 : 2, 1, 0);
  }
  out(0x43, 0x34);
  out(0x40, 0x50, 0);
  out(0x43, 0xb6);
  out(0x42, 0x40, 1);
  out(0x61, 1);
  for (const [register, value] of [
    [2, 1],
    [4, 0x0b],
    [1, 0x0f],
  ] as const) {
    out(0x3f8 + register, value);
  }
  board.uart.receive(Uint8Array.of(1, 2, 3));
  for (const [register, value] of [
    [10, 0x23],
    [11, 0x72],
  ] as const) {
    out(0x70, register);
    out(0x71, value);
  }
  board.ports.write(0x602, 2, 0x0101);
  const apic: readonly (readonly [number, number])[] = [
    [0xf0, 0x1ff],
    [0x3e0, 0xb],
    [0x320, 0x2_0041],
    [0x380, 70_000],
    [0x350, 0x700],
  ];
  for (const [offset, value] of apic) board.mmio.write(0xfee0_0000 + offset, 4, value);
  for (const pin of [0, 4, 8, 9]) {
    board.mmio.write(0xfec0_0000, 4, 0x11 + 2 * pin);
    board.mmio.write(0xfec0_0010, 4, 0x0100_0000);
    board.mmio.write(0xfec0_0000, 4, 0x10 + 2 * pin);
    board.mmio.write(0xfec0_0010, 4, (pin === 9 ? 0x8000 : 0) | (0x50 + 8 * pin));
  }
}

const action = fc.record({
  kind: fc.constantFrom('in', 'out', 'out', 'read', 'write', 'write', 'run', 'x'),
  place: fc.nat(PORTS.length - 1),
  offset: fc.nat(0x3f),
  size: fc.constantFrom(1, 2, 4),
  value: fc.oneof(fc.nat(0xff), fc.nat(0xffff_ffff)),
});
type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

function perform(board: ReturnType<typeof makeBoard>, step: Action): unknown {
  const { place, offset, size } = step;
  const port = (PORTS[place] ?? 0) + (offset & 7);
  const address = (REGISTERS[place & 1] ?? 0) + 16 * offset;
  const value = size === 4 ? step.value : step.value & (2 ** (8 * size) - 1);
  switch (step.kind) {
    case 'in':
      return board.ports.read(port, size);
    case 'out':
      return board.ports.write(port, size, value);
    case 'read':
      return board.mmio.read(address, 4);
    case 'write':
      return board.mmio.write(address, 4, step.value);
    case 'run':
      return board.clock.advance(step.value % 200_000);
    default:
      return external(board, offset, value);
  }
}

/** What happens without software: the processor takes interrupts, characters arrive, a button is pressed. */
function external(board: ReturnType<typeof makeBoard>, choice: number, value: number): unknown {
  switch (choice & 7) {
    case 0:
      return board.lapic.acknowledge();
    case 1:
      return board.pic.interruptPending ? board.pic.acknowledge() : -1;
    case 2:
      return board.uart.receive(Uint8Array.of(value & 0xff, choice));
    case 3:
      return board.pm.pressPowerButton();
    case 4:
      return board.lapic.writeApicBase(BigInt(value & 0xc00) | 0xfee0_0100n);
    case 5:
      return board.lapic.writeMsr(0x800 + choice, BigInt(value));
    case 6:
      return board.lapic.writeTscDeadline(BigInt(board.clock.now() + (value & 0xfff)));
    default:
      return board.lapic.readMsr(0x800 + choice);
  }
}

test('random accesses never throw and always give values that fit', () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 150 }), (steps) => {
      const board = makeBoard();
      setUp(board);
      for (const step of steps) {
        const value = perform(board, step);
        if (step.kind !== 'in' && step.kind !== 'read') continue;
        expect(Number.isInteger(value)).toBe(true);
        expect(value).toBeGreaterThanOrEqual(0);
        expect(value).toBeLessThan(2 ** (step.kind === 'in' ? 8 * step.size : 32));
      }
    }),
    { numRuns: 150 },
  );
});

test('a board restored from another’s state behaves like it', () => {
  fc.assert(
    fc.property(
      fc.array(action, { maxLength: 40 }),
      fc.array(action, { minLength: 20, maxLength: 80 }),
      (before, after) => {
        const first = makeBoard();
        setUp(first);
        for (const step of before) perform(first, step);
        const second = makeBoard();
        second.clock.advanceTo(first.clock.now());
        for (const name of Object.keys(first.devices) as (keyof typeof first.devices)[]) {
          second.devices[name].restore(structuredClone(first.devices[name].state) as never);
        }
        for (const board of [first, second]) {
          for (const key of Object.keys(board.log)) board.log[key] = [];
        }
        for (const step of after) {
          expect(perform(second, step)).toEqual(perform(first, step));
        }
        for (const key of Object.keys(first.log)) {
          expect(second.log[key] ?? []).toEqual(first.log[key]);
        }
      },
    ),
    { numRuns: 150 },
  );
});
