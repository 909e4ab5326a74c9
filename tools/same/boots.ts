/** Boots whose state is hashed as they go, so that two of them can be compared and the first difference narrowed. */

import { Timer } from '../../src/devices/clock.ts';
import { defaultPlatform, type Platform } from '../../src/host/platform.ts';
import { Host, Kvm, Machine } from '../../src/index.ts';
import { vtInit } from '../../src/kvm/index.ts';
import { XMM } from '../../src/machine/engine/layout.ts';
import { translatorDefaults } from '../../src/machine/engine/translator/defaults.ts';
import { GuestRunner } from '../../src/vmm/guest-runner.ts';
import { StateHash } from '../../src/vmm/state-hash.ts';

const HOST_MEMORY = 32 * 2 ** 20;

/** What is booted. */
export interface Boot {
  readonly name: string;
  readonly kernel: Uint8Array;
  readonly initrd?: Uint8Array;
  readonly commandLine: string;
  readonly memorySize: number;
  readonly cpus: number;
}

/** How: what must not matter. */
export interface Variant {
  readonly name: string;
  /** Entries until code is translated; 0 for never. */
  readonly threshold: number;
  /** How often the event loop gets its turn: when it is due, whenever it is asked for, or never. */
  readonly turns: 'due' | 'always' | 'never';
}

/** Machine time at which hashes are taken, in ns. */
export interface Samples {
  readonly from: number;
  readonly to: number;
  readonly step: number;
  /** RAM is hashed at every n-th sample and at the end. */
  readonly memoryEvery: number;
}

/** A hash, and where the running processor was. */
export interface Sample {
  readonly time: number;
  readonly hash: string;
  readonly rip: string;
}

function platformOf(turns: Variant['turns']): Platform {
  const wall = { ms: 0 };
  switch (turns) {
    case 'due':
      return defaultPlatform;
    case 'always':
      return { ...defaultPlatform, wallMs: () => (wall.ms += 1000) };
    case 'never':
      return { ...defaultPlatform, wallMs: () => 0 };
  }
}

/** Everything that software sees of the processors. */
function hashProcessors(hash: StateHash, { processors, clock }: Machine): void {
  hash.value([clock.now(), clock.instructions]);
  for (const p of processors) {
    hash.value(Array.from({ length: 16 }, (_, r) => p.gpr(r)));
    hash.value([p.rip, p.rflags, p.cr0, p.cr2, p.cr3, p.cr4, p.efer, p.activity, p.cpl]);
    hash.value(p.segments.map(({ selector, base }) => [selector, base]));
    hash.value(Array.from({ length: 64 }, (_, n) => p.read64(XMM + n * 8)));
  }
}

function hashMemory(hash: StateHash, { memory }: Machine): void {
  for (let page = 0; page < memory.ramSize; page += 4096) {
    const bytes = memory.readBytes(page, 4096);
    hash.page(page / 4096, new Int32Array(bytes.buffer, bytes.byteOffset, 1024));
  }
}

/** Boots until `to` or the end, and gives the samples; the last one is the end's. */
export async function bootSamples(boot: Boot, variant: Variant, samples: Samples): Promise<Sample[]> {
  const before = { ...translatorDefaults };
  Object.assign(translatorDefaults, { mode: variant.threshold === 0 ? 'off' : 'on' });
  if (variant.threshold > 0) translatorDefaults.threshold = variant.threshold;
  const ramSize = boot.memorySize + HOST_MEMORY;
  const machine = new Machine({ processors: boot.cpus, ramSize, profile: 'tdx-host', seed: 0 });
  Object.assign(translatorDefaults, before);
  const host = new Host(machine, platformOf(variant.turns));
  const failed = vtInit(host);
  const kvm = Kvm.open(host);
  if (typeof failed === 'number' || typeof kvm === 'number') throw new Error('KVM does not load');
  const { cpus, commandLine, kernel, memorySize, initrd } = boot;
  const guest = new GuestRunner(
    { host, kvm },
    {
      kernel,
      kernelName: boot.name,
      ...(initrd === undefined ? {} : { initrd }),
      commandLine,
      memorySize,
      cpus,
      seed: 0,
      clock: 'virtual',
      epochSeconds: 0,
      reboot: false,
    },
    { write: () => {}, ready: undefined },
  );
  const taken: Sample[] = [];
  const take = (memory: boolean): void => {
    const hash = new StateHash();
    hashProcessors(hash, machine);
    if (memory) hashMemory(hash, machine);
    taken.push({ time: machine.clock.now(), hash: hash.finish(), rip: `0x${host.cpu.processor.rip.toString(16)}` });
  };
  const timer = new Timer(() => {
    take(taken.length % samples.memoryEvery === samples.memoryEvery - 1);
    const next = machine.clock.now() + samples.step;
    if (next <= samples.to) machine.clock.setTimer(timer, next);
    else guest.stop({ reason: 'halted' });
  });
  machine.clock.setTimer(timer, samples.from);
  await guest.done;
  machine.clock.cancel(timer);
  if (machine.clock.now() < samples.to) take(true);
  return taken;
}

/** Where two lists of samples first differ, or null. */
export function firstDifference(a: readonly Sample[], b: readonly Sample[]): number | null {
  for (let n = 0; n < Math.max(a.length, b.length); n++)
    if (a[n]?.hash !== b[n]?.hash || a[n]?.time !== b[n]?.time) return n;
  return null;
}
