/** A host with a guest that behaves, beside which others are allowed to do anything for a bounded number of steps. */

import { expect } from 'vitest';
import { Timer } from '../../src/devices/clock.ts';
import type { Host } from '../../src/host/index.ts';
import type { Vcpu } from '../../src/kvm/index.ts';
import type { Random } from '../../src/util/random.ts';
import { GuestLab } from '../kvm/guest-lab.ts';
import { ok } from '../kvm/lab.ts';

const MOST_EXITS = 64;

/** mov ecx, 1000; next: add eax, ecx; loop next; hlt */
const SUM = [0xb9, 0xe8, 3, 0, 0, 0x01, 0xc8, 0xe2, 0xfc, 0xf4];

/** The guest that behaves. It must not notice anything of the others. */
export class Canary {
  readonly lab: GuestLab = new GuestLab();

  get host(): Host {
    return this.lab.host;
  }
  async sing(): Promise<void> {
    this.lab.reset();
    this.lab.load(...SUM);
    const exit = await this.lab.run();
    expect(exit.kind).toBe('hlt');
    expect(ok(this.lab.vcpu.getRegs()).rax).toBe(500500n);
  }
}

/** Runs a vCPU for at most `steps` instructions and some exits; gives the last exit's kind or errno. */
export async function runBounded(host: Host, vcpu: Vcpu, steps: number): Promise<string> {
  const { clock } = host.machine;
  const timer = new Timer(() => vcpu.kick());
  clock.setTimer(timer, clock.now() + steps);
  try {
    for (let exits = 0; exits < MOST_EXITS && timer.armed; exits++) {
      const exit = await vcpu.run();
      if (typeof exit === 'number') return `errno ${-exit}`;
      if (!['io', 'mmio', 'irq-window-open', 'rdmsr', 'wrmsr'].includes(exit.kind)) return exit.kind;
    }
    return 'bound';
  } finally {
    clock.cancel(timer);
  }
}

const EDGES = [0n, 1n, 0x7fn, 0x80n, 0xffn, 0xfffn, 0x1000n, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 1n << 47n];

/** A 64-bit value: near the given one, an edge, or anything. */
export function anyBigint(random: Random, value = 0n): bigint {
  const choice = random.below(4);
  if (choice === 0) return random.u64();
  if (choice === 1) return EDGES[random.below(EDGES.length)]!;
  return BigInt.asUintN(64, value ^ (1n << BigInt(random.below(64))));
}

/** An unsigned 32-bit value. */
export function anyNumber(random: Random, value = 0): number {
  return Number(BigInt.asUintN(32, anyBigint(random, BigInt(Math.trunc(value)))));
}

/** A copy of a state structure with each leaf changed with a chance of one in `rarity`; types stay as they are. */
export function mutate<T>(random: Random, value: T, rarity = 8): T {
  const change = (): boolean => random.below(rarity) === 0;
  const visit = (node: unknown): unknown => {
    if (typeof node === 'bigint') return change() ? anyBigint(random, node) : node;
    if (typeof node === 'number') return change() ? anyNumber(random, node) : node;
    if (typeof node === 'boolean') return change() ? !node : node;
    if (node instanceof Uint8Array) {
      const copy = node.slice();
      for (let n = random.below(16); n > 0 && copy.length > 0; n--) copy[random.below(copy.length)] = random.below(256);
      return copy;
    }
    if (Array.isArray(node)) return node.map(visit);
    if (typeof node === 'object' && node !== null) {
      return Object.fromEntries(Object.entries(node).map(([key, item]) => [key, visit(item)]));
    }
    return node;
  };
  return visit(value) as T;
}
