import { describe, expect, test } from 'vitest';
import type { Processor } from '../machine/processor.ts';
import { CPUHP, Cpus } from './cpus.ts';
import { Power } from './power.ts';

const make = (count = 3): Cpus => new Cpus(Array.from({ length: count }, (_, index) => ({ index }) as Processor));

describe('Cpus', () => {
  test('onEachCpu runs on every online CPU, with that CPU current', () => {
    const cpus = make();
    cpus.down(cpus.possible[1]!);
    const seen: [number, number][] = [];
    cpus.onEachCpu((cpu) => void seen.push([cpu.id, cpus.current.id]));
    expect(seen.sort()).toEqual([
      [0, 0],
      [2, 2],
    ]);
    expect(cpus.current.id).toBe(0);
    expect(cpus.smpCallFunctionSingle(cpus.possible[1]!, () => {})).toBe(-22);
  });

  test('a state that fails on one CPU is undone on the others', () => {
    const cpus = make();
    const torn: number[] = [];
    const result = cpus.setupState(
      CPUHP.kvmOnline,
      'test',
      (cpu) => (cpu.id === 2 ? -5 : 0),
      (cpu) => {
        torn.push(cpu.id);
        return 0;
      },
    );
    expect(result).toBe(-5);
    expect(torn).toEqual([1, 0]);
    expect(cpus.states).toEqual([]);
  });

  test('a CPU that fails to come up goes back through the states it had reached', () => {
    const cpus = make();
    const log: string[] = [];
    const step = (name: string, fail = false) =>
      [
        () => {
          log.push(`+${name}`);
          return fail && log.length > 2 ? -5 : 0;
        },
        () => {
          log.push(`-${name}`);
          return 0;
        },
      ] as const;
    cpus.setupStateNocalls(CPUHP.kvmStarting, 'first', ...step('first'));
    cpus.setupStateNocalls(CPUHP.onlineDynamic, 'second', ...step('second', true));
    const cpu = cpus.possible[1]!;
    expect(cpus.down(cpu)).toBe(0);
    expect(cpus.up(cpu)).toBe(-5);
    expect(cpu.online).toBe(false);
    expect(log).toEqual(['-second', '-first', '+first', '+second', '-first']);
  });

  test('the last CPU stays, and so does one whose teardown refuses', () => {
    const cpus = make(2);
    cpus.setupStateNocalls(CPUHP.kvmOnline, 'pinned', null, (cpu) => (cpu.id === 1 ? -16 : 0));
    expect(cpus.down(cpus.possible[1]!)).toBe(-16);
    expect(cpus.down(cpus.possible[0]!)).toBe(0);
    expect(cpus.current.id).toBe(1);
    expect(cpus.down(cpus.possible[1]!)).toBe(-16);
  });
});

describe('Power', () => {
  test('suspend takes the other CPUs down first and undoes everything on failure', () => {
    const cpus = make();
    const power = new Power(cpus);
    const log: string[] = [];
    power.registerSyscoreOps({
      suspend: () => {
        log.push(`first with ${cpus.online.length}`);
        return -5;
      },
      resume: () => void log.push('first resumed'),
    });
    power.registerSyscoreOps({
      suspend: () => {
        log.push('second');
        return 0;
      },
      resume: () => void log.push('second resumed'),
    });
    expect(power.suspend()).toBe(-5);
    expect(log).toEqual(['second', 'first with 1', 'second resumed']);
    expect(cpus.online).toHaveLength(3);
    expect(power.state).toBe('running');
  });
});
