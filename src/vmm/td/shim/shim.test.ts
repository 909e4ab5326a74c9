import { describe, expect, test } from 'vitest';
import { PortBus } from '../../../devices/bus.ts';
import { Machine } from '../../../machine/machine.ts';
import { tlbContextChanged } from '../../../machine/mmu/select.ts';
import { reset } from '../../../machine/processor/reset.ts';
import type { Processor } from '../../../machine/processor.ts';
import { runProcessor, STOP } from '../../../machine/run.ts';
import { type HobMemory, tdHob } from '../hob.ts';
import { SHIM_SIZE } from '../layout.ts';
import { buildShim } from './shim.ts';

const SHIM = 0x400000;
const HOB = 0x10000;
const PAYLOAD = 0x20000;
const BOOT_PARAMS = 0x7000;
const RESET_VECTOR = SHIM + SHIM_SIZE - 16;
const BACK_OFFLINE = SHIM + SHIM_SIZE - 32;
/** Another operating system's tables, which map the code's page and the own ones. */
const FOREIGN_TABLES = 0x100000;
const FOREIGN_GDT = 0x110000;
const MIB = 2 ** 20;
/** `out TRAP, al; nop; nop` has the length of TDCALL. */
const TRAP = 0xe0;
const RAX = 0;
const RCX = 1;
const CS = 1;
const RSI = 6;
const PAGE_SIZE_MISMATCH = 0xc0000b0b_00000000n;
const ALREADY_ACCEPTED = 0x00000b0a_00000000n;
const OPERAND_BUSY = 0x80000200_00000000n;

/** The page that is accepted: its address, and the level. */
type Accept = (gpa: number, level: number) => bigint;

/** A bare processor in the initial state of a TD's vCPU, with a TDCALL that a test answers. */
class ShimLab {
  readonly machine: Machine = new Machine({ processors: 1, ramSize: 8 * MIB, profile: 'pc' });
  readonly p: Processor = this.machine.processors[0]!;
  /** Leaf 0: the fatal error's text. */
  fatal = '';
  readonly calls: string[] = [];
  readonly #index: number;

  constructor(index: number, memory: readonly HobMemory[], accept: Accept, entry: number = PAYLOAD) {
    const { p, machine } = this;
    this.#index = index;
    machine.activate(p);
    machine.ports = new PortBus();
    machine.ports.register(TRAP, 1, {
      portRead: () => 0,
      portWrite: () => this.#tdcall(accept),
    });
    const shim = buildShim(SHIM);
    for (let at = 0; at < shim.length; at++) {
      const here = shim.subarray(at, at + 4);
      if (here[0] === 0x66 && here[1] === 0x0f && here[2] === 0x01 && here[3] === 0xcc)
        here.set([0xe6, TRAP, 0x90, 0x90]);
    }
    machine.memory.writeBytes(SHIM, shim);
    machine.memory.writeBytes(HOB, tdHob(HOB, memory, { entry, bootParams: BOOT_PARAMS }));
    // The payload only halts.
    machine.memory.writeBytes(PAYLOAD, Uint8Array.of(0xf4));
    reset(p);
    const flat = (attributes: number) => ({ selector: 0, base: 0n, limit: 0xffff_ffff, attributes });
    for (const segment of p.segments) Object.assign(segment, flat(0xc093));
    Object.assign(p.segments[CS]!, flat(0xc09b));
    p.syncSegments();
    p.cr0 = 0x21;
    p.cr4 = 0x40;
    p.efer = 0x901;
    p.setGpr(RCX, BigInt(HOB));
    p.setGpr(8, BigInt(HOB));
    p.setGpr(3, 48n);
    p.setGpr(RSI, BigInt(index));
    p.rip = BigInt(RESET_VECTOR);
  }

  #tdcall(accept: Accept): void {
    const { p } = this;
    if (p.gpr(RAX) === 6n) {
      const operand = Number(p.gpr(RCX));
      const level = operand % 4096;
      const gpa = operand - level;
      this.calls.push(`${gpa.toString(16)}/${level}`);
      p.setGpr(RAX, accept(gpa, level));
      return;
    }
    if (p.gpr(RAX) === 1n) {
      this.calls.push('VP.INFO');
      p.setGpr(RAX, 0n);
      p.setGpr(9, BigInt(this.#index));
      return;
    }
    expect([p.gpr(RAX), p.gpr(10), p.gpr(11)]).toEqual([0n, 0n, 0x10003n]);
    expect(p.gpr(RCX)).toBe(0xffccn);
    const words = [14, 15, 3, 7, 6, 8, 9, 2].map((n) => p.gpr(n));
    this.fatal = Buffer.from(BigUint64Array.from(words).buffer).toString('latin1').replaceAll('\0', '');
    this.machine.clock.skipTo(1e9);
  }

  /** Until the payload halts, or the deadline. */
  run(): number {
    return runProcessor(this.p, 1e9);
  }
}

const accepted: Accept = () => 0n;
const unaccepted = (start: number, length: number): HobMemory => ({ start, length, added: false });

describe('the first vCPU', () => {
  test('accepts what the HOBs call unaccepted, by 2 MiB where they fit, and nothing that was added', () => {
    const memory = [
      unaccepted(0x1fe000, 0x402000),
      { start: 0x600000, length: 0x3000, added: true },
      unaccepted(0x603000, 0x2000),
    ];
    const lab = new ShimLab(0, memory, accepted);
    expect(lab.run()).toBe(STOP.idle);
    expect(lab.calls).toEqual(['1fe000/0', '1ff000/0', '200000/1', '400000/1', '603000/0', '604000/0']);
  });

  test('enters the payload in 64-bit mode with interrupts off and RSI = boot_params, MCE and NE still set', () => {
    const lab = new ShimLab(0, [], accepted);
    expect(lab.run()).toBe(STOP.idle);
    const { p } = lab;
    expect(p.rip).toBe(BigInt(PAYLOAD + 1));
    expect(p.mode64).toBe(true);
    expect(p.gpr(RSI)).toBe(BigInt(BOOT_PARAMS));
    expect([p.cr4 & 0x60, p.cr0 & 0x21, p.rflags & 0x200]).toEqual([0x60, 0x21, 0]);
    expect([p.segments[CS]!.selector, p.segments[3]!.selector]).toEqual([0x10, 0x18]);
  });

  test('a 2 MiB page that is mapped in pieces is accepted in pieces', () => {
    const lab = new ShimLab(0, [unaccepted(0x200000, 0x200000)], (_, level) => (level === 1 ? PAGE_SIZE_MISMATCH : 0n));
    expect(lab.run()).toBe(STOP.idle);
    expect(lab.calls).toHaveLength(513);
    expect(lab.calls.slice(0, 3)).toEqual(['200000/1', '200000/0', '201000/0']);
    expect(lab.calls.at(-1)).toBe('3ff000/0');
  });

  test('a busy page is asked for again, an accepted one is passed over', () => {
    let busy = 2;
    const lab = new ShimLab(0, [unaccepted(0x1000, 0x2000)], (gpa) => {
      if (gpa === 0x2000) return ALREADY_ACCEPTED;
      return busy-- > 0 ? OPERAND_BUSY : 0n;
    });
    expect(lab.run()).toBe(STOP.idle);
    expect(lab.calls).toEqual(['1000/0', '1000/0', '1000/0', '2000/0']);
  });

  test('what cannot be accepted ends the TD with a message', () => {
    const lab = new ShimLab(0, [unaccepted(0x1000, 0x1000)], () => 0xc0000100_00000001n);
    lab.run();
    expect(lab.fatal).toBe('td-shim: memory could not be accepted');
  });

  test('so does a list without a payload', () => {
    const lab = new ShimLab(0, [], accepted, 0);
    lab.run();
    expect(lab.fatal).toBe('td-shim: the HOB list names no payload');
  });
});

describe('another vCPU', () => {
  const wake = (lab: ShimLab, apicId: number): void => {
    const { memory } = lab.machine;
    memory.write32(SHIM + 4, apicId);
    memory.write64(SHIM + 8, BigInt(PAYLOAD));
    memory.write16(SHIM, 1);
  };

  test('waits at the mailbox without a TDCALL, and goes where it is told when its APIC id is called', () => {
    const lab = new ShimLab(3, [unaccepted(0x1000, 0x1000)], accepted);
    expect(runProcessor(lab.p, 1e5)).toBe(STOP.deadline);
    wake(lab, 2);
    expect(runProcessor(lab.p, 2e5)).toBe(STOP.deadline);
    expect(lab.machine.memory.read16(SHIM)).toBe(1);
    wake(lab, 3);
    expect(runProcessor(lab.p, 3e5)).toBe(STOP.idle);
    expect(lab.machine.memory.read16(SHIM)).toBe(0);
    expect(lab.p.rip).toBe(BigInt(PAYLOAD + 1));
    expect([lab.p.mode64, lab.p.rflags & 0x200, lab.calls]).toEqual([true, 0, []]);
  });

  describe.each([
    ['4-level', false],
    ['5-level', true],
  ])('that is given back with %s paging', (_, la57) => {
    const answered = (lab: ShimLab, apicId: number): number => {
      const { memory } = lab.machine;
      memory.write32(SHIM + 4, apicId);
      memory.write16(SHIM, 2);
      expect(runProcessor(lab.p, lab.machine.clock.now() + 1e5)).toBe(STOP.deadline);
      return memory.read16(SHIM);
    };

    test('answers the test command when it is meant, on tables and segments of the shim, and wakes up again', () => {
      const lab = new ShimLab(3, [], accepted);
      runProcessor(lab.p, 1e5);
      const { p, machine } = lab;
      const entry = (at: number, to: number, bits: number): void => machine.memory.write64(at, BigInt(to | bits));
      for (const [level, index] of [0, 0, 0, (BACK_OFFLINE >> 21) & 511].entries()) {
        const table = FOREIGN_TABLES + level * 0x1000;
        entry(table + index * 8, level === 3 ? BACK_OFFLINE & ~0x1fffff : table + 0x1000, level === 3 ? 0x83 : 3);
      }
      if (la57) p.cr4 |= 0x1000;
      p.cr3 = BigInt(FOREIGN_TABLES + (la57 ? 0 : 0x1000));
      tlbContextChanged(p);
      machine.memory.write64(FOREIGN_GDT + 0x30, 0x00af9b000000ffffn);
      Object.assign(p.segments[CS]!, { selector: 0x30 });
      p.syncSegments();
      for (let register = 0; register < 16; register++) p.setGpr(register, 0xdead_beef_0000n + BigInt(register));
      p.rip = BigInt(BACK_OFFLINE);
      expect(runProcessor(p, machine.clock.now() + 1e5)).toBe(STOP.deadline);
      expect([p.segments[CS]!.selector, p.segments[2]!.selector]).toEqual([0x10, 0x18]);
      expect([answered(lab, 2), answered(lab, 3)]).toEqual([2, 0]);
      wake(lab, 3);
      expect(runProcessor(p, machine.clock.now() + 1e5)).toBe(STOP.idle);
      expect(p.rip).toBe(BigInt(PAYLOAD + 1));
      expect(lab.calls).toEqual(['VP.INFO']);
    });
  });
});
