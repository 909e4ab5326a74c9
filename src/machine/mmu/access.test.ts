import { describe, expect, test } from 'vitest';
import { ACCESS } from '../engine/layout.ts';
import { DONE, FAULT, PF } from '../outcome.ts';
import { CR4_SMAP } from '../processor.ts';
import { checkWritable, loadLinear, loadLinearBytes, storeLinear, storeLinearBytes } from './access.ts';
import { tlbContextChanged } from './select.ts';
import { TestMachine } from './test-machine.ts';

const P = 1n,
  W = 2n,
  U = 4n;

function machineWithPages(second = P | W): TestMachine {
  const machine = new TestMachine();
  machine.longMode();
  machine.map(0x1000n, 0x5000n | P | W);
  machine.map(0x2000n, 0x9000n | second);
  return machine;
}

describe('loads and stores', () => {
  test.each([1, 2, 4, 8])('%i bytes, twice (walk, then TLB), zero-extended', (size) => {
    const machine = machineWithPages();
    const value = BigInt.asUintN(size * 8, 0xf1e2_d3c4_b5a6_9788n);
    for (let n = 0; n < 2; n++) {
      expect(storeLinear(machine.p, 0x1010n, size, 0xf1e2_d3c4_b5a6_9788n)).toBe(DONE);
      expect(loadLinear(machine.p, 0x1010n, size)).toBe(value);
    }
    expect(machine.memory.read64(0x5010)).toBe(value);
  });

  test('stores set the dirty flag', () => {
    const machine = machineWithPages();
    const leaf = machine.map(0x1000n, 0x5000n | P | W);
    loadLinear(machine.p, 0x1000n, 8);
    expect(machine.memory.read64(leaf) & 0x40n).toBe(0n);
    storeLinear(machine.p, 0x1000n, 8, 1n);
    expect(machine.memory.read64(leaf) & 0x40n).toBe(0x40n);
  });

  test('across pages, and all or nothing', () => {
    const machine = machineWithPages();
    expect(storeLinear(machine.p, 0x1ffdn, 8, 0x8877_6655_4433_2211n)).toBe(DONE);
    expect(loadLinear(machine.p, 0x1ffdn, 8)).toBe(0x8877_6655_4433_2211n);
    expect(machine.memory.read32(0x9000)).toBe(0x7766_5544);
    const broken = machineWithPages(P);
    expect(storeLinear(broken.p, 0x1ffdn, 8, ~0n)).toBe(FAULT);
    expect([broken.p.fault.vector, broken.p.fault.errorCode, broken.p.fault.address]).toEqual([PF, 3, 0x2000n]);
    expect(broken.memory.read32(0x5ffc)).toBe(0);
  });

  test('byte ranges over three pages', () => {
    const machine = machineWithPages();
    machine.map(0x3000n, 0xb000n | P | W);
    const bytes = Uint8Array.from({ length: 5000 }, (_, i) => i * 7);
    expect(storeLinearBytes(machine.p, 0x1f00n, bytes)).toBe(DONE);
    expect(loadLinearBytes(machine.p, 0x1f00n, 5000)).toEqual(bytes);
  });

  test('a store tells the engine about a page with code', () => {
    const machine = machineWithPages();
    machine.engine.code.add(0x5000);
    storeLinear(machine.p, 0x1000n, 4, 1n);
    expect(machine.engine.written).toEqual([0x5000]);
  });

  test("device memory is accessed with the access's size", () => {
    const machine = machineWithPages();
    machine.map(0x8000n, 0xfee0_0000n | P | W);
    const log: string[] = [];
    machine.memory.bus = {
      read: (hpa, size) => {
        log.push(`${size} ${hpa.toString(16)}`);
        return 5n;
      },
      write: () => {},
    };
    expect(loadLinear(machine.p, 0x8030n, 4)).toBe(5n);
    expect(log).toEqual(['4 fee00030']);
  });

  test('a data breakpoint triggers', () => {
    const machine = machineWithPages();
    machine.p.dr[1] = 0x1010n;
    machine.p.dr7 = 0x404 | (1 << 20);
    tlbContextChanged(machine.p);
    loadLinear(machine.p, 0x1010n, 1);
    expect(machine.p.pendingDebug).toBe(0);
    storeLinear(machine.p, 0x1010n, 1, 1n);
    expect(machine.p.pendingDebug).toBe(2);
  });
});

describe('privilege', () => {
  test('implicit supervisor accesses at CPL 3 reach supervisor pages, others do not', () => {
    const machine = machineWithPages();
    machine.p.cpl = 3;
    tlbContextChanged(machine.p);
    expect(loadLinear(machine.p, 0x1000n, 8)).toBe(undefined);
    expect(machine.p.fault.errorCode).toBe(5);
    expect(loadLinear(machine.p, 0x1000n, 8, true)).toBe(0n);
    expect(loadLinear(machine.p, 0x1000n, 8)).toBe(undefined);
  });

  test('under SMAP implicit accesses do not reach user pages', () => {
    const machine = machineWithPages(P | W | U);
    machine.map(0x4000n, 0xc000n | P | W | U, undefined, 7n);
    machine.p.cr4 |= CR4_SMAP;
    machine.p.cpl = 3;
    tlbContextChanged(machine.p);
    expect(loadLinear(machine.p, 0x4000n, 8)).toBe(0n);
    expect(loadLinear(machine.p, 0x4000n, 8, true)).toBe(undefined);
    expect(machine.p.fault.errorCode).toBe(1);
  });

  test('code is fetched by execute rights', () => {
    const machine = machineWithPages(P | (1n << 63n));
    expect(loadLinearBytes(machine.p, 0x1ff0n, 15, false, true)).toHaveLength(15);
    expect(loadLinearBytes(machine.p, 0x1ff8n, 15, false, true)).toBe(undefined);
    expect([machine.p.fault.errorCode, machine.p.fault.address]).toEqual([17, 0x2000n]);
  });

  test('checkWritable faults as the store would and stores nothing', () => {
    const machine = machineWithPages(P);
    expect(checkWritable(machine.p, 0x1ff8n, 8)).toBe(DONE);
    expect(checkWritable(machine.p, 0x1ff9n, 8)).toBe(FAULT);
    expect(machine.p.fault.errorCode).toBe(3);
    expect(machine.lookUp(0x1ff8n, ACCESS.write, 8)).toBeGreaterThan(0);
  });
});
