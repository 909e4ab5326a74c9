import { describe, expect, test } from 'vitest';
import { MmioBus } from '../../devices/bus.ts';
import type { KvmIrqRoutingEntry } from '../../kvm/virt/irqchip.ts';
import { msiRoute, TdIoapic } from './ioapic.ts';

const BASE = 0xfec00000;

function lab() {
  const bus = new MmioBus();
  const routings: KvmIrqRoutingEntry[][] = [];
  const lines: [number, number][] = [];
  const ioapic = new TdIoapic({
    setGsiRouting: (entries) => routings.push([...entries]),
    irqLine: ({ irq, level }) => {
      lines.push([irq, level]);
      return 1;
    },
  });
  ioapic.attach(bus);
  /** Writes a redirection entry. */
  const redirect = (pin: number, low: number, high = 0): void => {
    bus.write(BASE, 4, 0x11 + 2 * pin);
    bus.write(BASE + 0x10, 4, high);
    bus.write(BASE, 4, 0x10 + 2 * pin);
    bus.write(BASE + 0x10, 4, low);
  };
  return { bus, ioapic, routings, lines, redirect };
}

describe('the I/O APIC of a TD', () => {
  test('has 24 pins', () => {
    const { bus } = lab();
    bus.write(BASE, 4, 1);
    expect(bus.read(BASE + 0x10, 4)).toBe(0x170011);
  });

  test('an edge goes to KVM as the message that the redirection entry says', () => {
    const { ioapic, routings, lines, redirect } = lab();
    redirect(4, 0x31, 2 << 24);
    ioapic.setIrq(4, true);
    expect(routings).toEqual([[{ gsi: 4, type: 2, addressLo: 0xfee02000, addressHi: 0, data: 0x31 }]]);
    expect(lines).toEqual([[4, 1]]);
    ioapic.setIrq(4, true);
    ioapic.setIrq(4, false);
    ioapic.setIrq(4, true);
    expect(lines).toHaveLength(2);
    expect(routings).toHaveLength(1);
  });

  test('a new redirection entry is a new route, beside those of other pins', () => {
    const { ioapic, routings, redirect } = lab();
    redirect(4, 0x31);
    redirect(8, 0x932);
    for (const pin of [4, 8]) ioapic.setIrq(pin, true);
    redirect(4, 0x41);
    for (const level of [false, true]) ioapic.setIrq(4, level);
    const routes = routings.at(-1)!.map((entry) => [entry.gsi, entry.type === 2 ? entry.data : -1]);
    expect(routes).toEqual([
      [4, 0x41],
      [8, 0x132],
    ]);
  });

  test('a masked pin is silent', () => {
    const { ioapic, lines, redirect } = lab();
    redirect(4, 0x1_0031);
    ioapic.setIrq(4, true);
    expect(lines).toEqual([]);
  });
});

test('a message in logical mode, by level, has both said in address and data', () => {
  const message = {
    destination: 0xff,
    logical: true,
    deliveryMode: 1,
    vector: 0x50,
    levelTriggered: true,
    asserted: true,
  };
  expect(msiRoute(3, message)).toEqual({ gsi: 3, type: 2, addressLo: 0xfeeff004, addressHi: 0, data: 0xc150 });
});
