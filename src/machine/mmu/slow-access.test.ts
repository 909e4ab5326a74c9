import { describe, expect, test } from 'vitest';
import { ACCESS, EXIT, type Exit, SCRATCH_BYTES } from '../engine/layout.ts';
import type { Insn } from '../isa/insn.ts';
import { DE, DONE, FAULT, GP, JUMPED, PF, SS_FAULT, VMEXIT } from '../outcome.ts';
import { handleMiss } from './miss.ts';
import { tlbContextChanged } from './select.ts';
import { TestMachine } from './test-machine.ts';

const P = 1n,
  W = 2n,
  U = 4n,
  A = 0x20n,
  D = 0x40n;
const ALL = P | W | U | A | D;
const { read, write, readWrite } = ACCESS;

/** What an instruction does with the place an access was led to. */
interface Step {
  readonly linear: bigint;
  readonly access: (typeof ACCESS)[keyof typeof ACCESS];
  readonly size: number;
  readonly act: (view: DataView, host: number) => void;
}

/** Two neighbouring pages, 0x5000 at 0x1000 and 0x9000 at 0x2000. */
function machineWithPages(): TestMachine {
  const machine = new TestMachine();
  machine.longMode();
  machine.map(0x1000n, 0x5000n | ALL);
  machine.map(0x2000n, 0x9000n | ALL);
  return machine;
}

/** Runs an instruction made of accesses: all are looked up first, as generated code does, then they act. */
function execute(machine: TestMachine, ...steps: Step[]): number {
  const attempt = (): Exit => {
    const hosts: number[] = [];
    for (const s of steps) {
      const host = machine.lookUp(s.linear, s.access, s.size);
      if (host < 0) return EXIT.miss;
      hosts.push(host);
    }
    steps.forEach((s, i) => {
      s.act(machine.memory.view, hosts[i]!);
    });
    return EXIT.stop;
  };
  machine.engine.script = attempt;
  for (let n = 0; n < 8; n++) {
    if (attempt() === EXIT.stop) return DONE;
    const outcome = handleMiss(machine.p);
    if (outcome !== DONE) return outcome;
  }
  throw new Error('no progress');
}

const store = (linear: bigint, value: bigint): Step => ({
  linear,
  access: write,
  size: 8,
  act: (view, host) => view.setBigUint64(host, value, true),
});

describe('page-crossing accesses', () => {
  test('a read sees both pages', () => {
    const machine = machineWithPages();
    machine.memory.write32(0x5ffc, 0x1122_3344);
    machine.memory.write32(0x9000, 0x5566_7788);
    let value = 0n;
    const step: Step = {
      linear: 0x1ffcn,
      access: read,
      size: 8,
      act: (view, host) => (value = view.getBigUint64(host, true)),
    };
    expect(execute(machine, step)).toBe(JUMPED);
    expect(value).toBe(0x5566_7788_1122_3344n);
    expect(machine.lookUp(0x1ffcn, read, 8)).toBe(-1);
  });

  test('a write reaches both pages, of 16 bytes and at each offset', () => {
    for (let offset = 1; offset < 16; offset++) {
      const machine = machineWithPages();
      const bytes = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
      const linear = 0x2000n - BigInt(offset);
      const step: Step = {
        linear,
        access: write,
        size: 16,
        act: (view, host) => new Uint8Array(view.buffer).set(bytes, host),
      };
      expect(execute(machine, step)).toBe(JUMPED);
      expect([
        ...machine.memory.readBytes(0x6000 - offset, offset),
        ...machine.memory.readBytes(0x9000, 16 - offset),
      ]).toEqual([...bytes]);
    }
  });

  test('read-modify-write: read first, written afterwards', () => {
    const machine = machineWithPages();
    machine.memory.write16(0x5ffe, 0xffff);
    const step: Step = {
      linear: 0x1ffen,
      access: readWrite,
      size: 4,
      act: (view, host) => view.setUint32(host, view.getUint32(host, true) + 1, true),
    };
    expect(execute(machine, step)).toBe(JUMPED);
    expect([machine.memory.read16(0x5ffe), machine.memory.read16(0x9000)]).toEqual([0, 1]);
  });

  test("both pages are checked before anything happens; the fault names the second page's first byte", () => {
    const machine = machineWithPages();
    machine.map(0x2000n, 0x9000n | P | A);
    expect(execute(machine, store(0x1ffcn, ~0n))).toBe(FAULT);
    expect([machine.p.fault.vector, machine.p.fault.errorCode, machine.p.fault.address]).toEqual([PF, 3, 0x2000n]);
    expect(machine.memory.read32(0x5ffc)).toBe(0);
  });

  test('two crossing operands of one instruction', () => {
    const machine = machineWithPages();
    machine.map(0x3000n, 0xa000n | ALL);
    machine.memory.write32(0x5ffc, 0x0102_0304);
    let value = 0n;
    const from: Step = {
      linear: 0x1ffcn,
      access: read,
      size: 8,
      act: (view, host) => (value = view.getBigUint64(host, true)),
    };
    const to: Step = {
      linear: 0x2ffcn,
      access: write,
      size: 8,
      act: (view, host) => view.setBigUint64(host, value, true),
    };
    expect(execute(machine, from, to)).toBe(JUMPED);
    expect(machine.memory.read32(0x9ffc)).toBe(0x0102_0304);
  });

  test('an access that ends at the top of the lower half is not canonical beyond it', () => {
    const machine = machineWithPages();
    machine.map(0x7fff_ffff_f000n, 0x5000n | ALL);
    machine.p.segments[1]!.attributes = 0xa09b;
    tlbContextChanged(machine.p);
    expect(execute(machine, store(0x7fff_ffff_fffcn, 1n))).toBe(FAULT);
    expect([machine.p.fault.vector, machine.p.fault.errorCode]).toEqual([GP, 0]);
  });

  test('outside 64-bit mode the address after 0xffffffff is 0', () => {
    const machine = new TestMachine(0x100_0000);
    machine.longMode();
    machine.map(0xffff_f000n, 0x5000n | ALL);
    machine.map(0n, 0x6000n | ALL);
    expect(execute(machine, store(0xffff_fffcn, 0x1111_1111_2222_2222n))).toBe(JUMPED);
    expect([machine.memory.read32(0x5ffc), machine.memory.read32(0x6000)]).toEqual([0x2222_2222, 0x1111_1111]);
  });
});

describe('memory that is no RAM', () => {
  function withBus(): { machine: TestMachine; log: string[] } {
    const machine = machineWithPages();
    machine.map(0x8000n, 0xfee0_0000n | ALL);
    const log: string[] = [];
    machine.memory.bus = {
      read: (hpa, size) => {
        log.push(`r${size} ${hpa.toString(16)}`);
        return 0x55n;
      },
      write: (hpa, size, value) => void log.push(`w${size} ${hpa.toString(16)}=${value.toString(16)}`),
    };
    return { machine, log };
  }

  test('reads and writes reach the bus once, with their size', () => {
    const { machine, log } = withBus();
    let value = 0;
    expect(
      execute(machine, {
        linear: 0x8020n,
        access: read,
        size: 4,
        act: (view, host) => (value = view.getUint32(host, true)),
      }),
    ).toBe(JUMPED);
    expect(
      execute(machine, { linear: 0x80b0n, access: write, size: 4, act: (view, host) => view.setUint32(host, 7, true) }),
    ).toBe(JUMPED);
    expect([value, ...log]).toEqual([0x55, 'r4 fee00020', 'w4 fee000b0=7']);
  });

  test('read-modify-write reads, then writes', () => {
    const { machine, log } = withBus();
    expect(
      execute(machine, {
        linear: 0x8000n,
        access: readWrite,
        size: 1,
        act: (view, host) => view.setUint8(host, view.getUint8(host) | 2),
      }),
    ).toBe(JUMPED);
    expect(log).toEqual(['r1 fee00000', 'w1 fee00000=57']);
  });

  test('an instruction that fails after its read writes nothing', () => {
    const { machine, log } = withBus();
    machine.lookUp(0x8000n, readWrite, 4);
    machine.engine.script = () => EXIT.divide;
    expect(handleMiss(machine.p)).toBe(FAULT);
    expect(machine.p.fault.vector).toBe(DE);
    expect(log).toEqual(['r4 fee00000']);
    expect(machine.lookUp(0x8000n, readWrite, 4)).toBe(-1);
  });

  test('a bus and RAM on both sides of a page boundary', () => {
    const { machine, log } = withBus();
    machine.map(0x7000n, 0x5000n | ALL);
    expect(execute(machine, store(0x7ffan, 0x8877_6655_4433_2211n))).toBe(JUMPED);
    expect(machine.memory.read32(0x5ffa)).toBe(0x4433_2211);
    expect(machine.memory.read16(0x5ffe)).toBe(0x6655);
    expect(log.at(-1)).toBe('w2 fee00000=8877');
  });
});

describe('pages with decoded code', () => {
  test('the write is real, the engine is told after it, and no entry stays', () => {
    const machine = machineWithPages();
    machine.engine.code.add(0x5000);
    const seen: number[] = [];
    const step: Step = {
      linear: 0x1008n,
      access: write,
      size: 8,
      act: (view, host) => {
        seen.push(machine.engine.written.length);
        expect(host).not.toBe(SCRATCH_BYTES);
        view.setBigUint64(host, 9n, true);
      },
    };
    expect(execute(machine, step)).toBe(JUMPED);
    expect(machine.memory.read64(0x5008)).toBe(9n);
    expect([seen, machine.engine.written]).toEqual([[0], [0x5000]]);
    expect(machine.lookUp(0x1008n, write, 8)).toBe(-1);
  });

  test('a crossing write tells the engine about the page with code', () => {
    const machine = machineWithPages();
    machine.engine.code.add(0x9000);
    expect(execute(machine, store(0x1ffcn, 1n))).toBe(JUMPED);
    expect(machine.engine.written).toEqual([0x9000]);
  });
});

describe('data breakpoints', () => {
  /** DR0 at an address. @param kind 1 writes, 3 reads and writes @param length LEN field */
  function watch(machine: TestMachine, address: bigint, kind: number, length: number): void {
    machine.p.dr[0] = address;
    machine.p.dr7 = 0x401 | (kind << 16) | (length << 18);
    tlbContextChanged(machine.p);
  }

  test('a write in the watched bytes makes B0 pending after the instruction; others in the page do not', () => {
    const machine = machineWithPages();
    watch(machine, 0x1010n, 1, 3);
    expect(execute(machine, store(0x1000n, 1n))).toBe(JUMPED);
    expect(machine.p.pendingDebug).toBe(0);
    expect(execute(machine, store(0x100cn, 2n))).toBe(JUMPED);
    expect([machine.p.pendingDebug, machine.p.eventsPending, machine.memory.read64(0x500c)]).toEqual([1, true, 2n]);
  });

  test('a write breakpoint lets reads run at full speed, a read-write one does not', () => {
    const machine = machineWithPages();
    const load: Step = { linear: 0x1010n, access: read, size: 4, act: () => {} };
    watch(machine, 0x1010n, 1, 3);
    expect(execute(machine, load)).toBe(DONE);
    expect(machine.p.pendingDebug).toBe(0);
    watch(machine, 0x1010n, 3, 3);
    expect(execute(machine, load)).toBe(JUMPED);
    expect(machine.p.pendingDebug).toBe(1);
  });

  test('entries made before the breakpoint are gone, those of other pages come back', () => {
    const machine = machineWithPages();
    execute(machine, store(0x1000n, 1n));
    expect(machine.lookUp(0x1000n, write, 8)).toBeGreaterThan(0);
    watch(machine, 0x1010n, 1, 0);
    expect(machine.lookUp(0x1000n, write, 8)).toBe(-1);
    expect(execute(machine, store(0x2000n, 1n))).toBe(DONE);
    machine.p.dr7 = 0x400;
    tlbContextChanged(machine.p);
    expect(execute(machine, store(0x1010n, 1n))).toBe(DONE);
    expect(machine.p.pendingDebug).toBe(0);
  });
});

describe('faults of misses', () => {
  const insn = (mnemonic: string, memory: { segment: number } | null, access = 'r'): Insn =>
    ({
      row: { operation: { mnemonic, string: false } },
      memory,
      segment: 3,
      operands: memory === null ? [] : [{ place: 'memory', access }],
    }) as unknown as Insn;

  test.each([
    ['MOV through DS', insn('MOV', { segment: 3 }), read, GP],
    ['MOV through SS', insn('MOV', { segment: 2 }), write, SS_FAULT],
    ['PUSH register', insn('PUSH', null), write, SS_FAULT],
    ['PUSH memory, its operand', insn('PUSH', { segment: 3 }), read, GP],
    ['PUSH memory, the stack', insn('PUSH', { segment: 3 }), write, SS_FAULT],
    ['POP memory, its operand', insn('POP', { segment: 3 }, 'w'), write, GP],
    ['POP memory, the stack', insn('POP', { segment: 3 }, 'w'), read, SS_FAULT],
    ['STOS', insn('STOS', null), write, GP],
  ] as const)('non-canonical address: %s', (_name, current, access, vector) => {
    const machine = machineWithPages();
    machine.engine.insn = current;
    machine.lookUp(0x8000_0000_0000n, access, 8);
    expect(handleMiss(machine.p)).toBe(FAULT);
    expect([machine.p.fault.vector, machine.p.fault.errorCode]).toEqual([vector, 0]);
  });

  test('an EPT violation is a VM exit', () => {
    const machine = new TestMachine();
    machine.vtx.enable(machine.page());
    tlbContextChanged(machine.p);
    machine.lookUp(0x1234n, readWrite, 4);
    expect(handleMiss(machine.p)).toBe(VMEXIT);
    expect(machine.vtx.violation).toEqual({ gpa: 0x1234, linear: 0x1234n, qualification: 0x702 });
  });
});
