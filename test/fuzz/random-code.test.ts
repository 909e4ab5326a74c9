/** Random code in every mode: the process goes on, the guest ends in one of the known ways, the guest beside it is well. */

import { expect, test } from 'vitest';
import type { KvmSregs } from '../../src/kvm/x86/sregs.ts';
import { Random } from '../../src/util/random.ts';
import { CODE, GuestLab } from '../kvm/guest-lab.ts';
import { ok } from '../kvm/lab.ts';
import { Canary, runBounded } from './lab.ts';

const ROUNDS = 80;
const STEPS = 20_000;
const MINUTES = 60_000;
const TABLES = 0x4000;
const GDT = 0x800;
const IDT = 0x900;

/** Puts tables into memory and says which registers select the mode. */
type Mode = (lab: GuestLab, sregs: KvmSregs, random: Random) => KvmSregs;

const write64 = (lab: GuestLab, address: number, ...values: bigint[]): void => {
  const bytes = new Uint8Array(values.length * 8);
  values.forEach((value, n) => {
    new DataView(bytes.buffer).setBigUint64(n * 8, BigInt.asUintN(64, value), true);
  });
  lab.vm.mm.write(lab.memory + address, bytes);
};

/** Gates that lead back into the random code; one in four leads nowhere. */
function writeIdt(lab: GuestLab, random: Random, long: boolean): void {
  for (let vector = 0; vector < 32; vector++) {
    const offset = BigInt(CODE + random.below(0x2000));
    const gate = random.below(4) === 0 ? random.u64() : offset | (8n << 16n) | (0x8en << 40n);
    if (long) write64(lab, IDT + vector * 16, gate, 0n);
    else write64(lab, IDT + vector * 8, gate);
  }
}

const tables = (sregs: KvmSregs, long: boolean): KvmSregs => ({
  ...sregs,
  gdt: { base: BigInt(GDT), limit: 0x27 },
  idt: { base: BigInt(IDT), limit: long ? 511 : 255 },
});

function flat(lab: GuestLab, sregs: KvmSregs, random: Random, cs: Partial<KvmSregs['cs']> = {}): KvmSregs {
  write64(lab, GDT, 0n, 0x00cf9b000000ffffn, 0x00cf93000000ffffn, 0x00af9b000000ffffn, 0x00cffb000000ffffn);
  const long = cs.l === 1;
  writeIdt(lab, random, long);
  return tables({ ...sregs, cs: { ...sregs.cs, ...cs } }, long);
}

const MODES: Readonly<Record<string, Mode>> = {
  real: (_, sregs) => {
    const segment = { ...sregs.ds, base: 0n, selector: 0, limit: 0xffff, type: 3, g: 0, db: 0 };
    const data = { ds: segment, es: segment, fs: segment, gs: segment, ss: segment };
    return { ...sregs, ...data, cs: segment, cr0: 0x10n, idt: { base: 0n, limit: 0x3ff } };
  },
  'protected, 32-bit': (lab, sregs, random) => flat(lab, sregs, random),
  'protected, 16-bit code': (lab, sregs, random) => flat(lab, sregs, random, { db: 0 }),
  'paged, 4 MiB': (lab, sregs, random) => {
    write64(lab, TABLES, 0x0040_00e7_0000_00e7n, random.u64());
    return { ...flat(lab, sregs, random), cr3: BigInt(TABLES), cr4: 0x10n, cr0: 0x8000_0011n };
  },
  PAE: (lab, sregs, random) => {
    write64(lab, TABLES, BigInt(TABLES + 0x1000) | 1n, 0n, 0n, 0n);
    write64(lab, TABLES + 0x1000, 0xe7n, 0x20_00e7n, random.u64());
    return { ...flat(lab, sregs, random), cr3: BigInt(TABLES), cr4: 0x20n, cr0: 0x8000_0011n };
  },
  long: (lab, sregs, random) => {
    write64(lab, TABLES, BigInt(TABLES + 0x1000) | 7n, random.u64());
    write64(lab, TABLES + 0x1000, BigInt(TABLES + 0x2000) | 7n, random.u64());
    write64(lab, TABLES + 0x2000, 0xe7n, 0x20_00e7n, random.u64());
    const long = flat(lab, sregs, random, { l: 1, db: 0 });
    return { ...long, cr3: BigInt(TABLES), cr4: 0x620n, cr0: 0x8000_0011n, efer: 0x500n };
  },
};

/** Bytes that are mostly instructions which random bytes seldom hit: system ones, string ones, far ones. */
const OPCODES: readonly (readonly number[])[] = [
  ...[
    [0x0f, 0x01],
    [0x0f, 0x00],
    [0x0f, 0x20],
    [0x0f, 0x22],
    [0x0f, 0x30],
    [0x0f, 0x32],
    [0x0f, 0xa2],
  ],
  ...[[0xf3, 0xa4], [0xf3, 0xab], [0xf2, 0xae], [0xf3, 0x6e], [0xf3, 0x6c], [0xcd], [0xcf], [0x9c, 0x9d]],
  ...[[0x0f, 0xae], [0x0f, 0xc7], [0x8e], [0xff], [0xea], [0x9a], [0xca], [0x0f, 0xb4], [0xc8], [0xf0, 0x0f, 0xb1]],
  ...[[0xd9], [0xdb], [0xdd], [0x66, 0x0f, 0x38], [0x66, 0x0f, 0x3a], [0xf2, 0x0f], [0xf4], [0xfb], [0xe4], [0xee]],
];

function randomMemory(random: Random, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let n = 0; n < size; n++) bytes[n] = random.below(256);
  for (let n = 0; n < size / 12; n++) {
    const at = random.below(size - 4);
    bytes.set(OPCODES[random.below(OPCODES.length)]!, at);
  }
  return bytes;
}

test.each(Object.entries(MODES))(
  '%s',
  async (_, mode) => {
    const canary = new Canary();
    const { host } = canary;
    const outcomes = new Map<string, number>();
    for (let seed = 1; seed <= ROUNDS; seed++) {
      const random = new Random(seed);
      const lab = new GuestLab({ host, irqchip: random.below(2) === 0 });
      lab.vm.mm.write(lab.memory, randomMemory(random, lab.ram));
      const failed = lab.vcpu.setSregs(mode(lab, ok(lab.vcpu.getSregs()), random));
      expect(failed).toBe(0);
      lab.start({
        rax: random.u64(),
        rcx: BigInt(random.below(64)),
        rsi: BigInt(random.below(0xffff)),
        rdx: random.u64(),
      });
      const outcome = await runBounded(host, lab.vcpu, STEPS);
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      lab.vm.close();
      lab.vm.mm.munmap(lab.memory);
      if (seed % 20 === 0) await canary.sing();
    }
    const known = ['shutdown', 'hlt', 'bound', 'errno 4', 'internal-error', 'fail-entry', 'exception', 'unknown'];
    expect([...outcomes.keys()].filter((outcome) => !known.includes(outcome))).toEqual([]);
    // Entry failures are KVM's mistakes: it must not enter what its own checks should have caught.
    expect(outcomes.get('fail-entry')).toBeUndefined();
    expect(outcomes.get('unknown')).toBeUndefined();
  },
  5 * MINUTES,
);
